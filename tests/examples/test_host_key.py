"""The setup step that records a host's key: ssh gets the recorded key."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.conftest import environment
from tests.programs import needs

STEP = Path(__file__).parents[2] / "examples" / "lab" / "setup" / "host-key.sh"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHQ0d3Zhc2hlcmVhbmRpdHdhc2ZpbmVhbmRpdHdh"
INVENTORY = """\
[setup.host-key]
command = ["lab/setup/host-key.sh", "{address}"]
properties = ["ssh_host_key"]

[hosts]
node01 = { address = "192.0.2.11" }
node02 = { address = "192.0.2.12" }
"""
SCAN = f"""\
#!/bin/sh
for address; do :; done
echo "# $address:22 SSH-2.0-OpenSSH_9.2" >&2
[ "$address" = 192.0.2.12 ] || echo "$address {KEY}"
"""


@needs("ssh-keygen")
def test_the_key_that_a_setup_step_saw_is_exported_for_ssh(tmp_path: Path) -> None:
    (tmp_path / "lab.toml").write_text(INVENTORY)
    (tmp_path / "lab" / "setup").mkdir(parents=True)
    shutil.copy(STEP, tmp_path / "lab" / "setup")
    scan = tmp_path / "bin" / "ssh-keyscan"
    scan.parent.mkdir()
    scan.write_text(SCAN)
    scan.chmod(0o755)
    env = environment() | {"PATH": f"{scan.parent}:{os.environ['PATH']}"}

    def bmhctl(*args: str) -> subprocess.CompletedProcess[str]:
        line = [sys.executable, "-m", "bmhctl", "-i", "lab.toml", *args]
        return subprocess.run(line, cwd=tmp_path, env=env, capture_output=True, text=True)

    assert bmhctl("ready", "node01").returncode == 0
    failed = bmhctl("ready", "node02")
    assert failed.returncode == 9
    assert "192.0.2.12 shows no ed25519 key" in failed.stderr + failed.stdout
    (tmp_path / "known_hosts").write_text(bmhctl("export", "-o", "known-hosts").stdout)
    for name in ("node01", "192.0.2.11"):
        line = ["ssh-keygen", "-F", name, "-f", "known_hosts"]
        found = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True)
        assert (found.returncode, found.stdout.splitlines()[-1:]) == (0, [f"node01,192.0.2.11 {KEY}"])
