"""Why hosts are not free: shown wherever hosts are shown, and what to repair before trying again."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Cli, Terminal, json_of


@pytest.fixture
def troubled(tmp_path: Path, cli: Cli) -> Path:
    """Hosts with failed checks, a failed cleanup, a fault, a maintenance, a cordon, and one that is free."""
    (tmp_path / "bmh.toml").write_text(
        '[checks.ping]\ncommand = ["sh", "-c", "case $0 in down*) exit 7 ;; esac", "{name}"]\n'
        '[cleanup.wipe]\ncommand = ["sh", "-c", "case $0 in dirty*) exit 8 ;; esac", "{name}"]\n'
    )
    assert cli("add", "down[1-2]", "dirty1", "loud1", "fixed1", "spare[1-2]").status == 0
    assert cli("ready", "*").status == 9
    assert cli("reserve", "dirty1", "loud1").status == 0
    assert cli("release", "dirty1").status == 0
    assert cli("taint", "loud1", "--fault", "dead fan").status == 0
    assert cli("reset", "dirty1").status == 9
    assert cli("maintain", "fixed1", "--reason", "new disk").status == 0
    assert cli("cordon", "spare1", "--reason", "for the demo").status == 0
    return tmp_path


REASONS = {
    "dirty1": "wipe: exit 8",
    "down1": "ping: exit 7",
    "down2": "ping: exit 7",
    "fixed1": "new disk",
    "loud1": "dead fan",
    "spare1": "for the demo",
    "spare2": None,
}


def test_list_shows_why_each_host_is_not_free(cli: Cli, troubled: Path) -> None:
    listed = json_of(cli("list", "-o", "json"))["hosts"]
    assert {host["name"]: host["reason"] for host in listed} == REASONS
    assert {name: json_of(cli("show", name, "-o", "json"))["host"]["reason"] for name in REASONS} == REASONS
    plain = cli("list", "--fields", "name,reason").stdout.splitlines()
    assert [line.split(maxsplit=1) for line in plain[1:]] == [[name, why or "-"] for name, why in REASONS.items()]
    for name, why in REASONS.items():
        if why:
            assert why in next(line for line in cli("list").stdout.splitlines() if line.startswith(name))


def test_the_reason_of_a_failure_stays_until_the_failed_command_succeeds(
    cli: Cli, troubled: Path, tmp_path: Path
) -> None:
    assert cli("set", "down1", "--note", "looked at").status == 0
    assert cli("cordon", "down1").status == 0
    assert cli("uncordon", "down1").status == 0
    assert json_of(cli("show", "down1", "-o", "json"))["host"]["reason"] == "ping: exit 7"
    assert "first repair this: ping: exit 7\n" in cli("why", "down1").stdout
    (tmp_path / "bmh.toml").write_text((tmp_path / "bmh.toml").read_text().replace("exit 7", "exit 0"))
    assert cli("ready", "down1").status == 0
    assert json_of(cli("show", "down1", "-o", "json"))["host"]["reason"] is None


def test_status_groups_hosts_by_the_reason_they_share(cli: Cli, terminal: Terminal, troubled: Path) -> None:
    found = json_of(cli("status", "-o", "json"))["obstacles"]
    assert found == [
        {"kind": kind, "flag": flag, "reason": reason, "hosts": hosts}
        for kind, flag, reason, hosts in (
            ("fault", None, "dead fan", ["loud1"]),
            ("maintenance", None, "new disk", ["fixed1"]),
            ("cordoned", "cordoned", "for the demo", ["spare1"]),
            ("failed", None, "wipe: exit 8", ["dirty1"]),
            ("failed", None, "ping: exit 7", ["down1", "down2"]),
        )
    ]
    screen = terminal("status", NO_COLOR="1").text
    assert "  failed       down[1-2]  ping: exit 7\n" in screen
    assert "  cordoned     spare1  for the demo\n" in screen


@pytest.mark.parametrize(
    ("name", "first"),
    [
        ("down1", "repair this: ping: exit 7"),
        ("dirty1", "repair this: wipe: exit 8"),
        ("loud1", "repair this: dead fan"),
        ("spare2", None),
    ],
)
def test_why_names_the_repair_before_the_command_to_retry(
    name: str, first: str | None, cli: Cli, troubled: Path
) -> None:
    assert json_of(cli("why", name, "-o", "json"))["first"] == first


def test_free_means_the_same_in_status_and_in_list(cli: Cli, troubled: Path) -> None:
    assert json_of(cli("status", "-o", "json"))["free"] == 1
    assert "● 2 available (1 free)" in cli("status").stdout
    assert cli("list", "--state", "free", "-o", "name").stdout == "spare2\n"
    assert cli("list", "spare*", "--state", "free", "-o", "name").stdout == "spare2\n"
    assert cli("cordon", "--state", "free").stdout.startswith("spare2 ")
    assert cli("list", "--state", "free", "--state", "initial").status == 2


def test_column_headers_are_the_names_of_the_fields(cli: Cli, terminal: Terminal, troubled: Path) -> None:
    assert cli("reserve", "spare2", "--for", "demo").status == 0
    for command in ("list", "reservations"):
        known = [*json_of(cli(command, "-o", "json"))["hosts" if command == "list" else command][0]]
        shown = terminal(command, width=200, NO_COLOR="1").lines[0].split()
        piped = cli(command).stdout.splitlines()[0].split()
        assert {head.lower() for head in shown} <= {head.lower() for head in piped} <= set(known)


def test_a_note_names_the_columns_that_a_narrow_terminal_leaves_out(
    cli: Cli, terminal: Terminal, troubled: Path
) -> None:
    assert cli("set", "spare2", "--address", "10.0.0.1", "--label", "rack=r1", "--note", "left").status == 0
    narrow = terminal("list", width=60, NO_COLOR="1").text
    assert narrow.splitlines()[-1].startswith("left out: ")
    for head in ("ADDRESS", "LABELS"):
        assert head in narrow.splitlines()[-1]
    assert "left out" not in terminal("list", width=200, NO_COLOR="1").text
    assert "left out" not in cli("list").stdout


def test_an_ended_reservation_still_names_the_hosts_that_it_had(cli: Cli, terminal: Terminal, troubled: Path) -> None:
    token = json_of(cli("reserve", "spare2", "-o", "json"))["reservation"]["id"]
    assert cli("release", "-R", token).status == 0
    assert cli("rename", "spare2", "spare9").status == 0
    ended = {each["id"]: each for each in json_of(cli("reservations", "--ended", "-o", "json"))["reservations"]}
    assert ended[token]["hosts"] == ["spare9"]
    assert "dirty1,loud1" in cli("reservations", "--ended").stdout
    assert "dirty1 loud1" in terminal("reservations", "--ended", width=160, NO_COLOR="1").text


def test_the_holder_of_a_removed_host_learns_who_removed_it_and_why(cli: Cli, troubled: Path) -> None:
    token = json_of(cli("reserve", "spare2", "-o", "json"))["reservation"]["id"]
    assert cli("remove", "spare2", "--force", "--reason", "scrapped", "--as", "eve").status == 0
    told = cli("extend", "-R", token)
    assert told.status == 8
    assert "spare2 was removed by eve: scrapped" in told.stderr
