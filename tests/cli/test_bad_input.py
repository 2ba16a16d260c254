"""Input that is broken, foreign or unreachable: one clear error, and nothing is lost or changed."""

from __future__ import annotations

import ctypes
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import INVENTORY, Cli, error_of, files
from tests.conftest import Bmhctl, Run, environment
from tests.faults.snapshots import settle

BROKEN: dict[str, tuple[str, str, str | None]] = {
    "no TOML": (
        '[hosts.node01]\nnote = "a\n[hosts.node02]\n',
        "bmh.toml:2:10: Illegal character '\\n'",
        None,
    ),
    "declared twice": ("[hosts.node01]\n[hosts.node01]\n", "bmh.toml:2:14: hosts.node01 is declared twice", None),
    "an unknown table": ("[host.node01]\n", "bmh.toml: unknown key 'host'", "did you mean 'hosts'?"),
    "an unknown key of a host": (
        '[hosts.node01]\nadress = "10.0.0.1"\n',
        "bmh.toml:2: hosts.node01: unknown key 'adress'",
        "did you mean 'address'?",
    ),
    "an unknown key of a check": (
        '[checks.ssh]\ntcp = 22\ntimout = "5s"\n',
        "bmh.toml:3: checks.ssh: unknown key 'timout'",
        "did you mean 'timeout'?",
    ),
    "a number for an address": (
        "[hosts.node01]\naddress = 1\n",
        "bmh.toml:2: hosts.node01.address must be a text, not 1",
        None,
    ),
    "a text for a host": (
        "[hosts]\nnode01 = 'x'\n",
        "bmh.toml:2: hosts.node01 must be a table, not 'x'",
        "a host is a header such as [hosts.node01] with its keys below",
    ),
    "a text for a port": (
        '[checks.ssh]\ntcp = "22"\n',
        "bmh.toml:2: checks.ssh.tcp must be a whole number from 1 to 65535, not '22'",
        None,
    ),
    "a MAC that is not valid": (
        '[hosts.node01]\nmac = "zz"\n',
        "bmh.toml:2: hosts.node01.mac must be a MAC address such as bc:55:85:92:de:b7, not 'zz'",
        None,
    ),
    "a name that is not a DNS name": (
        "[hosts.Node_01]\n",
        "bmh.toml:1: hosts: 'Node_01' is not a host name",
        "a name is a DNS name: letters, digits and '-', dots between its parts, no '-' at their ends; "
        "at most 63 characters a part and 253 in all",
    ),
}


@pytest.mark.parametrize(("text", "message", "hint"), BROKEN.values(), ids=BROKEN)
@pytest.mark.parametrize("args", [["list"], ["reserve", "-n", "1"], ["add", "node09"]], ids=lambda args: args[0])
def test_a_broken_declaration_is_located_and_nothing_is_changed(
    args: list[str], text: str, message: str, hint: str | None, cli: Cli, lab: Path
) -> None:
    cli("ready", "node01")
    cli("reserve", "node01")
    lab.write_text(text)
    before = files(lab.parent)
    done = cli(*args)
    assert done == Run(10, "", f"bmhctl: {message}\n" + (f"hint: {hint}\n" if hint else ""))
    assert files(lab.parent) == before
    error = error_of(cli(*args, "-o", "json"))
    assert (error["code"], error["message"], error["hint"]) == ("invalid", message, hint)
    lab.write_text(INVENTORY)
    assert "reserved" in cli("list", "node01").stdout


def test_a_broken_declaration_leaves_no_state_file_behind(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "bmh.toml").write_text("[hosts")
    assert cli("status").status == 10
    assert list(files(tmp_path)) == ["bmh.toml"]


def test_two_hosts_with_the_same_mac_or_address_are_named_in_a_warning(cli: Cli, lab: Path) -> None:
    twin = '[hosts.twin]\nmac = "BC-55-85-92-DE-05"\naddress = "10.0.0.12"\n'
    lab.write_text(INVENTORY + twin + twin.replace("twin", "twin2"))
    done = cli("list", "-o", "name")
    assert (done.status, done.stdout) == (0, "node01\nnode02\nnode03\ntwin\ntwin2\n")
    warnings = done.stderr.splitlines()
    assert all(line.endswith(": one machine under two names can be reserved twice") for line in warnings)
    assert "twin and twin2 have the same MAC bc:55:85:92:de:05" in done.stderr
    named = [line.split(" have ")[0] for line in warnings if " the same address 10.0.0.12: " in line]
    assert set(" and ".join(named).replace(",", " and").split(" and ")) == {"node02", "twin", "twin2"}


@pytest.mark.parametrize(
    ("content", "message", "hint"),
    [
        (b"", "{} is empty: no inventory", "put a backup in its place, or remove it, then: bmhctl -i {} init"),
        (
            b"SQLite format 3\0 and no more",
            "{} is not a SQLite file",
            "an inventory ends in .toml, .db, .sqlite or .sqlite3",
        ),
        (b"just some text\n" * 20, "{} is not a SQLite file", "an inventory ends in .toml, .db, .sqlite or .sqlite3"),
    ],
    ids=["empty", "torn in its header", "no database"],
)
def test_a_file_that_is_not_an_inventory_is_refused_and_left_unchanged(
    content: bytes, message: str, hint: str, cli: Cli, tmp_path: Path
) -> None:
    path = tmp_path / "lab.db"
    path.write_bytes(content)
    for args in (["list"], ["add", "node01"], ["reserve", "-n", "1"]):
        done = cli("-i", "lab.db", *args)
        assert done == Run(10, "", f"bmhctl: {message.format(path)}\nhint: {hint.format(path)}\n")
    assert cli("-i", "lab.db", "init").status == 4
    assert files(tmp_path) == {"lab.db": content}


@pytest.fixture
def database(cli: Cli, tmp_path: Path) -> Path:
    """A SQLite inventory with some hosts."""
    assert cli("-i", "lab.db", "init").status == 0
    assert cli("-i", "lab.db", "add", "node[01-40]", "--note", "x" * 900).status == 0
    return tmp_path / "lab.db"


def test_another_programs_database_is_refused_and_left_unchanged(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "lab.db"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE hosts (name TEXT)")
    connection.commit()
    connection.close()
    before = files(tmp_path)
    assert cli("-i", "lab.db", "add", "node01") == Run(
        10,
        "",
        f"bmhctl: {path} is a SQLite file of another program\nhint: choose another file with -i;"
        " a dump of an inventory lacks PRAGMA application_id = 1112361027\n",
    )
    assert files(tmp_path) == before


@pytest.mark.parametrize("kept", [200, 4096, 9000, 50_000])
def test_a_half_written_database_is_refused_and_left_unchanged(kept: int, cli: Cli, database: Path) -> None:
    whole = database.read_bytes()
    assert len(whole) > kept
    database.write_bytes(whole[:kept])
    for args in (["list"], ["add", "node99"], ["reserve", "-n", "1"]):
        done = cli("-i", "lab.db", *args)
        assert (done.status, done.stdout) == (10, "")
        assert done.stderr.startswith(f"bmhctl: {database} is ")
        assert done.stderr.endswith("hint: restore it from a backup\n")
    assert database.read_bytes() == whole[:kept]


def test_a_newer_schema_is_refused_by_its_number_and_left_unchanged(cli: Cli, database: Path) -> None:
    connection = sqlite3.connect(database)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    before = files(database.parent)
    done = cli("-i", "lab.db", "add", "node99")
    assert (done.status, done.stdout) == (10, "")
    assert done.stderr.startswith(f"bmhctl: {database} was written by a newer bmhctl (schema 99; this one knows ")
    assert done.stderr.endswith("hint: update bmhctl on this machine\n")
    assert files(database.parent) == before


@pytest.mark.parametrize("name", ["nowhere.toml", "nowhere.db", "no-folder/lab.toml", "no-folder/lab.db"])
def test_a_missing_inventory_is_status_11_and_is_not_created(name: str, cli: Cli, tmp_path: Path) -> None:
    for args in (["list"], ["add", "node01"], ["init", "--adopt"]):
        done = cli("-i", name, *args)
        assert (done.status, done.stdout) == (11, "")
        assert name in done.stderr
        assert done.stderr.endswith("init\n")
    assert files(tmp_path) == {}


@pytest.mark.parametrize("name", ["loop.toml", "loop.db"])
def test_a_loop_of_links_is_not_an_inventory(name: str, cli: Cli, tmp_path: Path) -> None:
    (tmp_path / name).symlink_to(name)
    done = cli("list", "-i", name)
    assert (done.status, done.stdout) == (11, "")
    assert "Too many levels of symbolic links" in done.stderr


def test_a_folder_is_not_an_inventory(cli: Cli, tmp_path: Path) -> None:
    for name in ("a.toml", "a.db"):
        (tmp_path / name).mkdir()
        done = cli("-i", name, "list")
        assert (done.status, done.stdout) == (11, "")
        assert "directory" in done.stderr


def test_a_state_file_of_another_declaration_is_refused_until_it_is_adopted(cli: Cli, lab: Path) -> None:
    cli("ready", "node01")
    copy = lab.with_name("copy.toml")
    copy.write_bytes(lab.read_bytes())
    copy.with_name("copy.state.db").write_bytes(lab.with_name("bmh.state.db").read_bytes())
    before = files(lab.parent)
    assert cli("-i", "copy.toml", "reserve", "node01") == Run(
        10,
        "",
        f"bmhctl: {copy.with_name('copy.state.db')} belongs to {lab}, not to {copy}\n"
        f"hint: move it away to start with all hosts initial, or adopt it: bmhctl -i {copy} init --adopt\n",
    )
    assert files(lab.parent) == before
    assert cli("-i", "copy.toml", "init", "--adopt").status == 0
    assert cli("-i", "copy.toml", "reserve", "node01").status == 0
    assert cli("reserve", "node01").status == 0


def test_init_beside_an_old_state_file_changes_nothing(cli: Cli, lab: Path) -> None:
    lab.unlink()
    before = files(lab.parent)
    done = cli("init")
    assert (done.status, done.stdout) == (4, "")
    assert files(lab.parent) == before


@pytest.mark.parametrize("length", [235, 248])
def test_a_name_that_is_too_long_for_the_files_beside_it_is_refused(length: int, cli: Cli, lab: Path) -> None:
    before = files(lab.parent).keys()
    for name in ("x" * length + ".db", "x" * length + ".toml"):
        for words in (["-i", name, "init"], ["copy", lab.name, name], ["backup", name]):
            if words[0] != "backup" or name.endswith(".db"):
                done = cli(*words)
                assert (done.status, done.stdout) == (11, "")
                assert "File name too long\nhint: choose a shorter name" in done.stderr
    assert files(lab.parent).keys() == before


def test_init_never_overwrites_an_inventory(cli: Cli, lab: Path) -> None:
    before = files(lab.parent)
    assert cli("init") == Run(
        4,
        "",
        f"bmhctl: there is {lab} already: nothing was changed\nhint: look at it: bmhctl -i {lab} status\n",
    )
    assert files(lab.parent) == before


def test_an_invalid_host_is_refused_and_the_toml_file_is_left_unchanged(cli: Cli, lab: Path) -> None:
    settle(lab.parent)
    assert cli("list").status == 0
    before = files(lab.parent)
    for args in (
        ["add", "node09", "node_10"],
        ["add", "node[01-"],
        ["add", "node[1-999999]"],
        ["add", "node09", "--mac", "zz"],
        ["add", "node09", "--address", "10.0.0"],
        ["add", "node08", "node09", "--mac", "bc:55:85:92:de:09"],
        ["set", "node01", "--label", "x"],
        ["rename", "node01", "node02"],
        ["add", "node09", "--mac", "bc:55:85:92:de:01"],
    ):
        done = cli(*args)
        assert done.status in (2, 4, 10)
        assert done.stdout == ""
        assert done.stderr.startswith("bmhctl: ")
    assert files(lab.parent) == before


def without_privileges() -> None:
    """Run the command as a user other than root, so that file permissions count."""
    if os.geteuid() == 0:
        for capability in (1, 2):  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
            if ctypes.CDLL(None, use_errno=True).prctl(24, capability, 0, 0, 0):
                raise OSError(ctypes.get_errno(), "prctl(PR_CAPBSET_DROP)")


def run_unprivileged(*args: str, cwd: Path) -> Run:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "bmhctl", *args],
        cwd=cwd,
        env=environment(),
        preexec_fn=without_privileges,
        capture_output=True,
        text=True,
    )
    return Run(done.returncode, done.stdout, done.stderr)


@pytest.mark.parametrize("backend", ["bmh.toml", "bmh.db"])
def test_in_a_read_only_folder_every_error_says_what_to_do(backend: str, cli: Cli, tmp_path: Path) -> None:
    assert cli("-i", backend, "init").status == 0
    assert cli("-i", backend, "add", "node01").status == 0
    assert cli("-i", backend, "ready", "node01").status == 0
    before = files(tmp_path)
    for path in tmp_path.iterdir():
        path.chmod(0o444)
    tmp_path.chmod(0o555)
    try:
        for args in (["reserve", "node01"], ["add", "node02"], ["cordon", "node01"], ["rename", "node01", "node02"]):
            done = run_unprivileged(*args, cwd=tmp_path)
            assert (done.status, done.stdout) == (11, "")
            assert done.stderr.startswith("bmhctl: ")
            assert "writable" in done.stderr
            assert "Traceback" not in done.stderr
        for new in ("new.toml", "new.db"):
            done = run_unprivileged("-i", new, "init", cwd=tmp_path)
            assert (done.status, done.stdout) == (11, "")
            assert done.stderr.startswith(f"bmhctl: can't write in {tmp_path}: Permission denied\n")
        assert files(tmp_path) == before
    finally:
        tmp_path.chmod(0o755)


def test_a_declaration_without_read_permission_is_status_11(lab: Path) -> None:
    lab.chmod(0)
    try:
        done = run_unprivileged("list", cwd=lab.parent)
    finally:
        lab.chmod(0o644)
    assert (done.status, done.stdout) == (11, "")
    assert done.stderr.startswith("bmhctl: may not read bmh.toml: permission denied\n")


LIFE = [
    ["ready", "node01", "node02"],
    ["cordon", "node02", "--reason", "psu"],
    ["uncordon", "node02"],
    ["reserve", "node01"],
    ["maintain", "node01", "--reason", "disk"],
    ["resume", "node01"],
    ["taint", "node01"],
    ["reset", "node01"],
    ["maintain", "node02", "--reason", "disk"],
    ["resume", "node02", "--dry-run"],
    ["resume", "node02"],
    ["reserve", "-n", "1"],
    ["release", "node02"],
    ["reap"],
    ["list"],
    ["status"],
    ["history"],
    ["export"],
    ["taint", "node03"],
]


def test_no_lifecycle_command_changes_the_declaration(cli: Cli, lab: Path) -> None:
    before = (lab.read_bytes(), lab.stat().st_ino, lab.stat().st_mtime_ns)
    ends = [cli(*args).status for args in LIFE]
    assert ends == [0] * (len(LIFE) - 1) + [4]
    assert (lab.read_bytes(), lab.stat().st_ino, lab.stat().st_mtime_ns) == before


@pytest.mark.parametrize("zone", ["UTC+25", "AAA-23BBB-24,J1,J300", "UTC-999999999"])
def test_a_zone_without_local_times_is_refused_before_anything_is_done(
    zone: str, bmhctl: Bmhctl, tmp_path: Path
) -> None:
    for line in ("init", "status", "why node01", "run -n 1 -- true"):
        done = bmhctl(*line.split(), TZ=zone)
        assert (done.status, done.stdout) == (125 if line.startswith("run") else 2, "")
        assert done.stderr.startswith(f"bmhctl: TZ={zone} is a day or more from UTC\nhint: ")
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize(
    "zone", ["", "nonsense", ":bad", "AAA+23:59:59BBB-23:59:59,J1,J365", "<\x1b[31mX>3", "/etc/passwd"]
)
def test_any_other_zone_is_shown_as_the_c_library_understands_it(zone: str, bmhctl: Bmhctl) -> None:
    assert bmhctl("init", TZ=zone).status == 0
    assert bmhctl("add", "node01", TZ=zone).status == 0
    done = bmhctl("why", "node01", TZ=zone)
    assert (done.status, "\x1b" in done.stdout) == (0, False)
