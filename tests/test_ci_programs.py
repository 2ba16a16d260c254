"""Missing programs: .ci/run installs them in CI, and changes no other machine."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import Run

SCRIPT = Path(__file__).parents[1] / ".ci" / "programs"
APT = """\
#!/bin/bash
echo "$*" >>"{log}"
case $* in
    *update*) exit {update} ;;
    *install*) for package in "${{@:8}}"; do ln -s /bin/true "{folder}/$package"; done ;;
esac
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A machine's only folder of programs: zsh, and an apt-get that makes a program for each package."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("bash", "sort", "true", "ln"):
        (folder / name).symlink_to(str(shutil.which(name)))
    (folder / "zsh").symlink_to("/bin/true")
    program(folder, "id", "#!/bin/bash\necho 0\n")
    program(folder, "apt-cache", '#!/bin/bash\n[ "$2" != chromium ]\n')
    program(folder, "apt-get", APT.format(log=tmp_path / "apt.log", folder=folder, update=0))
    return folder


def program(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text(text)
    (folder / name).chmod(0o755)


def sourced(path: Path, **env: str) -> Run:
    command = ["bash", "-c", f'set -euo pipefail; . {SCRIPT}; echo "must be there: ${{BMHCTL_TEST_PROGRAMS:-}}"']
    done = subprocess.run(command, env={"PATH": str(path), **env}, capture_output=True, text=True)
    return Run(done.returncode, done.stdout, done.stderr)


def asked(path: Path) -> list[str]:
    log = path.parent / "apt.log"
    return log.read_text().splitlines() if log.exists() else []


def test_programs_are_installed_only_in_ci_as_root(path: Path) -> None:
    for env, user in (({}, 0), ({"CI": "false"}, 0), ({"CI": "true"}, 1000)):
        program(path, "id", f"#!/bin/bash\necho {user}\n")
        done = sourced(path, **env)
        assert (done.status, done.stderr) == (0, "")
        assert "skipped: chromium fish groff man node ssh-keygen systemd-analyze\n" in done.stdout
        assert "(apt-get install chromium fish groff-base man-db nodejs openssh-client systemd)\n" in done.stdout
        assert done.stdout.endswith("must be there: \n")
    assert asked(path) == []


def test_ci_installs_missing_programs_and_fails_without_them(path: Path) -> None:
    done = sourced(path, CI="true")
    assert (done.status, done.stderr) == (0, "")
    [update, install] = asked(path)
    assert update.endswith("update")
    assert install.endswith("install fish groff-base man-db nodejs openssh-client systemd")
    assert done.stdout.endswith("must be there: fish groff man node ssh-keygen systemd-analyze\n")
    assert "skipped: chromium " in done.stdout  # this system has no such package


def test_ci_without_a_mirror_says_so_and_goes_on(path: Path) -> None:
    program(path, "apt-get", APT.format(log=path.parent / "apt.log", folder=path, update=100))
    done = sourced(path, CI="true")
    assert done.status == 0
    assert done.stdout.startswith("apt-get update failed: no program is installed\n")
    assert done.stdout.endswith("must be there: \n")


def test_nothing_is_installed_where_all_programs_exist(path: Path) -> None:
    for name in ("chromium", "fish", "groff", "man", "node", "ssh-keygen", "systemd-analyze"):
        (path / name).symlink_to("/bin/true")
    assert sourced(path, CI="true") == Run(0, "must be there: \n", "")
    assert asked(path) == []
