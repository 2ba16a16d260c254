"""What a command loads, seen in a fresh interpreter: every command starts fast."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from bmhctl.cli.app import COMMANDS
from tests.cli.conftest import Cli
from tests.conftest import environment

SLOW = {"rich", "pydantic", "tomlkit", "tomllib", "yaml", "ClusterShell", "tomli_w", "psycopg", "importlib.metadata"}


def loaded_by(*args: str, cwd: Path) -> set[str]:
    """The modules that are there when a command has ended well."""
    code = (
        "import sys; from bmhctl.cli.app import run\n"
        "assert run(sys.argv[1:]) == 0; sys.stderr.write(repr({*sys.modules}))"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *args], cwd=cwd, env=environment(), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return set(eval(done.stderr))


def test_listing_names_loads_no_slow_module(lab: Path) -> None:
    assert loaded_by("list", "-o", "name", cwd=lab.parent) & {*SLOW, "transitions"} == set()


def test_reserving_loads_no_slow_module(lab: Path, cli: Cli) -> None:
    cli("ready", "node01", "node02")
    assert loaded_by("reserve", "node01", "--for", "a job", cwd=lab.parent) & SLOW == set()
    assert loaded_by("reserve", "-l", "arch=x86_64", "-n", "1", "-o", "json", cwd=lab.parent) & SLOW == set()


def test_a_toml_inventory_that_did_not_change_is_not_parsed(lab: Path) -> None:
    for args in (["list"], ["status", "-o", "plain"], ["ready", "node01"], ["cordon", "node01"]):
        assert loaded_by(*args, cwd=lab.parent) & {"tomllib", "tomlkit", "bmhctl.stores.edit"} == set()
    lab.touch()  # another time, the same bytes
    assert "tomllib" not in loaded_by("list", cwd=lab.parent)
    lab.write_text(lab.read_text() + "[hosts.node04]\n")
    assert "tomllib" in loaded_by("list", cwd=lab.parent)
    assert "tomllib" not in loaded_by("list", cwd=lab.parent)


def test_the_root_help_loads_no_command(tmp_path: Path) -> None:
    commands = {f"bmhctl.cli.{entry.module}" for group in COMMANDS.values() for entry in group.values()}
    assert loaded_by("--help", cwd=tmp_path) & {*commands, *SLOW} == set()


def test_a_command_loads_no_other_ones_module(lab: Path) -> None:
    commands = {f"bmhctl.cli.{entry.module}" for group in COMMANDS.values() for entry in group.values()}
    assert loaded_by("list", cwd=lab.parent) & commands == {"bmhctl.cli.understanding"}
