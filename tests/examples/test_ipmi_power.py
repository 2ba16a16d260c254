"""The check of the power through ipmitool, with what ipmitool prints and how it ends."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

CHECK = Path(__file__).parents[2] / "examples" / "lab" / "ipmi-power.sh"
IPMITOOL = """\
#!/bin/sh
echo "$@" >>"$TMPDIR/calls"
case $* in
    *"power on" | *"power reset") echo on >"$TMPDIR/power" ;;
    *) "$TMPDIR/status" "$(cat "$TMPDIR/power")" ;;
esac
"""
FLAGS = "-U admin -E -N 2 -R 2"


@pytest.mark.parametrize(
    ("status", "arguments", "code", "said"),
    [
        ('echo "Chassis Power is $1"', ["off"], 0, "Chassis Power is off"),
        ('echo "Chassis Power is $1"', ["on"], 1, "Chassis Power is off"),
        ('echo "Chassis Power is $1"', ["on", "reset"], 0, "Chassis Power is on"),
        ('echo "IANA PEN registry open failed"; echo "Chassis Power is $1"', ["off"], 0, "Chassis Power is off"),
        ('echo "Error: Unable to establish IPMI v2 / RMCP+ session"; exit 1', ["off"], 1, ""),
    ],
)
def test_the_power_is_read_from_the_output_of_ipmitool(
    status: str, arguments: list[str], code: int, said: str, tmp_path: Path
) -> None:
    found = check(tmp_path, status, *arguments)
    assert (found.returncode, found.stdout.rpartition("\n")[0].rpartition("\n")[2]) == (code, said)


@pytest.mark.parametrize(
    ("address", "env", "called"),
    [
        ("ipmi://10.0.1.11", {}, f"-I lanplus -H 10.0.1.11 -p 623 {FLAGS}"),
        ("ipmi://10.0.1.11:6230", {}, f"-I lanplus -H 10.0.1.11 -p 6230 {FLAGS}"),
        ("ipmi://[fd00::11]", {}, f"-I lanplus -H fd00::11 -p 623 {FLAGS}"),
        ("ipmi://[fd00::11]:6230/x", {"IPMI_CIPHER": "17"}, f"-I lanplus -C 17 -H fd00::11 -p 6230 {FLAGS}"),
    ],
)
def test_ipmitool_gets_the_address_the_port_and_the_cipher_suite(
    address: str, env: dict[str, str], called: str, tmp_path: Path
) -> None:
    check(tmp_path, 'echo "Chassis Power is $1"', "off", BMH_BMC_ADDRESS=address, **env)
    assert (tmp_path / "calls").read_text() == f"{called} chassis power status\n"


def check(folder: Path, status: str, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run the check on a host that is off, with an ``ipmitool`` whose status is that of a script."""
    for name, text in (("ipmitool", IPMITOOL), ("status", f"#!/bin/sh\n{status}\n")):
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    (folder / "power").write_text("off")
    known = {"PATH": f"{folder}:{os.environ['PATH']}", "TMPDIR": str(folder), "BMH_BMC_ADDRESS": "ipmi://10.0.1.11"}
    return subprocess.run(
        [CHECK, *arguments], env={**known, "IPMI_USER": "admin", **env}, capture_output=True, text=True
    )
