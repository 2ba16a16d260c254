"""Which inventory a command means, and who acts."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

import pytest

from tests.cli.conftest import Cli, error_of, json_of
from tests.conftest import Run

NONE = "bmhctl: no inventory is named, and there is no bmh.toml or bmh.db in this folder or above it\n"
HOW = "hint: create one: bmhctl -i bmh.toml init, or name one with -i or $BMHCTL_INVENTORY\n"
NAMES = Run(0, "node01\nnode02\nnode03\n", "")


@pytest.mark.parametrize("line", ["add node01 rack=r1", "maintain node01 'new disk'"])
def test_a_missing_inventory_is_reported_with_how_to_make_one_whatever_else_is_wrong(line: str, cli: Cli) -> None:
    assert cli(*shlex.split(line)) == Run(2, "", NONE + HOW)


def test_reservations_of_an_owner_who_has_none_are_reported_with_the_owners_of_the_others(cli: Cli, lab: Path) -> None:
    assert cli("ready", "node01").status == 0
    assert cli("reserve", "node01", "--as", "dave@lab").status == 0
    assert cli("reservations", "--owner", "dave").stderr == "no reservation of dave; owners are dave@lab\n"
    assert cli("reservations", "--owner", "dave*").stderr == ""
    assert cli("history", "--actor", "dave", "--verb", "reserve").stderr == "no event by dave; actors are dave@lab\n"
    assert cli("history", "--actor", "dave*").stderr == ""


@pytest.mark.parametrize("line", ["reservations --owner=", "bookings --owner=", "history --actor="])
def test_an_empty_owner_or_actor_is_refused(line: str, cli: Cli, lab: Path) -> None:
    command, option = line.rstrip("=").split()
    hint = f"such as {option} alice@lab, or {option} 'ci*'"
    assert cli(command, option, "") == Run(2, "", f"bmhctl: the {option[2:]} is empty\nhint: {hint}\n")


def test_bookings_are_listed_by_their_owners(cli: Cli, lab: Path) -> None:
    for owner in ("bob@lab", "carol@lab"):
        booked = cli("reserve", "-n", "1", "--from", "2h", "--ttl", "1h", "--as", owner)
        assert booked.status == 0, booked.stderr
    listed = json_of(cli("bookings", "--owner", "bob*", "-o", "json"))["bookings"]
    assert [each["owner"] for each in listed] == ["bob@lab"]
    assert cli("bookings", "--owner", "bob").stderr == "no booking of bob; owners are bob@lab, carol@lab\n"


@pytest.mark.parametrize("command", ["extend", "release"])
def test_a_command_without_its_reservation_is_answered_with_that_of_the_actor(
    command: str, cli: Cli, lab: Path
) -> None:
    done = cli(*command.split())
    assert (done.status, done.stderr.splitlines()[-1]) == (
        2,
        "hint: give -R ID, or set BMH_RESERVATION; bmhctl reservations lists them",
    )
    assert cli("ready", "node01", "node02").status == 0
    assert cli("reserve", "node02", "--as", "bob").status == 0
    key = json_of(cli("reserve", "node01", "-o", "json"))["reservation"]["id"]
    assert cli(*command.split()).stderr.splitlines()[-1] == f"hint: bmhctl {command} -R {key} (node01)"


@pytest.mark.parametrize("command", [["extend", "node01"], ["replace", "node01", "--reason", "dead fan"]])
def test_a_host_names_the_reservation_that_its_owner_extends_or_replaces_it_in(
    command: list[str], cli: Cli, lab: Path
) -> None:
    free = cli(*command)
    assert (free.status, free.stderr.splitlines()[0]) == (4, "bmhctl: node01: is initial: no reservation holds it")
    lab.write_text(f"{lab.read_text()}[hosts.new]\n")
    new = cli(*(word.replace("node01", "new") for word in command))
    assert new.stderr.splitlines()[0] == "bmhctl: new: is initial: no reservation holds it"
    assert cli("ready", "node01").status == 0
    key = json_of(cli("reserve", "-n", "1", "-o", "json", "--as", "bob"))["reservation"]["id"]
    assert cli("ready", "node02").status == 0
    refused = cli(*command)
    assert (refused.status, refused.stderr.splitlines()[-1]) == (8, f"hint: its holder acts with -R {key}")
    refused = cli(*command, "-R", "r-00000000", "--as", "bob")
    assert refused.stderr.splitlines()[0].endswith(", not by reservation r-00000000")
    assert refused.status == 8
    assert cli("share", key, "--with", "carol", "--as", "bob").status == 0
    assert json_of(cli(*command, "--as", "carol", "-o", "json"))["reservation"]["id"] == key


def test_reserving_a_host_that_the_actor_holds_is_answered_with_its_reservation(cli: Cli, lab: Path) -> None:
    assert cli("ready", "node01").status == 0
    key = json_of(cli("reserve", "node01", "-o", "json"))["reservation"]["id"]
    assert cli("reserve", "node01").stderr.splitlines()[-1] == f"hint: you hold it: bmhctl extend -R {key} keeps it"
    assert cli("reserve", "node01", "--as", "bob").stderr.splitlines()[-1] == (
        "hint: wait with --wait 30m; bmhctl why node01"
    )


def test_the_commands_for_a_retired_inventory_are_quoted_for_a_shell(cli: Cli, lab: Path) -> None:
    assert cli("copy", "bmh.toml", "our lab.db").status == 0
    again = f"to use it again: bmhctl -i '{lab.parent}/our lab.db' init --reactivate"
    assert again in cli("copy", "--retire-source", "our lab.db", "new lab.db").stderr
    remedy = json_of(cli("doctor", "-i", "our lab.db", "-o", "json"))["findings"][0]["remedy"]
    assert remedy == f"use -i '{lab.parent}/new lab.db'; {again.replace('it', 'this one', 1)}"


def test_a_missing_inventory_is_reported_with_the_command_that_makes_one(cli: Cli) -> None:
    assert cli("list") == Run(2, "", NONE + HOW)


def test_an_inventory_is_found_in_a_parent_folder(cli: Cli, lab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = lab.parent / "a" / "b"
    deep.mkdir(parents=True)
    monkeypatch.chdir(deep)
    assert cli("list", "-o", "name") == NAMES
    (deep.parent / "bmh.toml").write_text("[hosts.near]\n")
    made = "made bmh.state.db: all hosts are initial (if this file existed before, restore it)\n"
    assert cli("list", "-o", "name") == Run(0, "near\n", made)
    assert cli("list", "-o", "name") == Run(0, "near\n", "")


def test_two_inventories_in_one_folder_are_both_named(cli: Cli, lab: Path) -> None:
    assert cli("-i", "bmh.db", "init", "-q").status == 0
    here = lab.parent
    assert cli("list") == Run(
        2,
        "",
        f"bmhctl: there are two inventories here: {here}/bmh.toml and {here}/bmh.db\n"
        "hint: choose one with -i; or move the other one away\n",
    )
    assert cli("list", "-i", "bmh.toml", "-o", "name") == NAMES


def test_a_retired_inventory_beside_its_successor_is_named(cli: Cli, lab: Path) -> None:
    assert cli("copy", "--retire-source", "bmh.toml", "bmh.db").status == 0
    assert cli("list").stderr.splitlines()[-1] == (
        "hint: choose one: -i bmh.db, because bmh.toml is retired; or move the other one away"
    )


def test_no_inventory_is_searched_for_in_ci(cli: Cli, lab: Path) -> None:
    assert cli("list", CI="true") == Run(
        2,
        "",
        "bmhctl: no inventory is named, and none is searched for because $CI is set\n"
        "hint: name it: bmhctl -i lab.db …, or export BMHCTL_INVENTORY=…\n",
    )
    assert cli("list", "-i", "bmh.toml", "-o", "name", CI="true") == NAMES
    assert cli("list", "-o", "name", CI="true", BMHCTL_INVENTORY="bmh.toml") == NAMES


def test_a_file_that_every_user_may_write_is_ignored_with_a_note(cli: Cli, lab: Path) -> None:
    lab.chmod(0o666)
    ignored = f"ignored {lab}: every user may write {lab}; name it with -i to use it\n"
    assert cli("list") == Run(2, "", ignored + NONE + HOW)
    assert cli("list", "-i", str(lab), "-o", "name") == NAMES


def test_a_file_in_a_folder_that_every_user_may_write_is_ignored(cli: Cli, lab: Path) -> None:
    lab.parent.chmod(0o777)
    done = cli("list")
    assert (done.status, done.stdout) == (2, "")
    assert done.stderr.startswith(f"ignored {lab}: every user may write {lab.parent};")
    lab.parent.chmod(0o1777)
    assert cli("list", "-o", "name") == NAMES


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_file_of_another_user_is_ignored(cli: Cli, lab: Path) -> None:
    os.chown(lab, 65534, 65534)
    done = cli("list")
    assert (done.status, done.stdout) == (2, "")
    assert done.stderr.startswith(f"ignored {lab}: {lab} belongs to another user;")


def test_the_option_for_the_inventory_wins_over_the_environment_variable(cli: Cli, lab: Path) -> None:
    nowhere = lab.parent / "nowhere.db"
    missing = f"bmhctl: there is no inventory at {nowhere}\nhint: create one: bmhctl -i {nowhere} init\n"
    assert cli("list", BMHCTL_INVENTORY="nowhere.db") == Run(11, "", missing)
    assert cli("list", "-o", "name", "-i", "bmh.toml", BMHCTL_INVENTORY="nowhere.db") == NAMES
    assert cli("list", "-o", "name", BMHCTL_INVENTORY="") == NAMES


@pytest.mark.parametrize("name", ["hosts.txt", "hosts", "."])
def test_a_file_name_without_an_inventory_suffix_is_refused(name: str, cli: Cli) -> None:
    assert cli("-i", name, "list") == Run(
        2,
        "",
        f"bmhctl: {name!r} is not an inventory\nhint: its name must end in .toml, .db, .sqlite or .sqlite3, "
        "or be a URL: postgresql://host/database\n",
    )


def test_the_actor_is_the_option_else_the_variable_else_the_user(
    cli: Cli, lab: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cli("cordon", "node01", "--as", "carol", BMHCTL_ACTOR="dave")
    cli("--as", "carol", "uncordon", "node01", "--as", "erin")
    cli("cordon", "node01", BMHCTL_ACTOR="dave")
    monkeypatch.delenv("BMHCTL_ACTOR")
    cli("uncordon", "node01")
    events = json_of(cli("history", "node01", "-n", "4", "-o", "json"))["events"]
    actors = [event["actor"] for event in events]
    assert actors[:3] == ["carol", "erin", "dave"]
    user, _, host = actors[3].partition("@")
    assert user
    assert host


def test_errors_about_finding_an_inventory_are_json_with_json_output(cli: Cli) -> None:
    assert error_of(cli("list", "-o", "json"))["code"] == "usage"
    assert error_of(cli("-i", "nowhere.toml", "-o", "json", "list"))["code"] == "unreachable"
