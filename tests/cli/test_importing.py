"""The command ``import``: exports are read back, and bad input is one error that changes nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bmhctl.formats.exporters.table import NEEDS, OF_OTHERS
from tests.cli.conftest import Cli, Prepared
from tests.conftest import Run


def hosts(cli: Cli, inventory: str) -> list[dict[str, object]]:
    found: list[dict[str, object]] = json.loads(cli("-i", inventory, "list", "-o", "json").stdout)["hosts"]
    return found


def bring(cli: Cli, inventory: str, text: str, *options: str) -> Run:
    Path("written").write_text(text)
    return cli("-i", inventory, "import", "written", *options)


@pytest.fixture
def fleet(prepared: Prepared) -> str:
    """A database with hosts in every state, names with dots, a BMC and a shared reservation."""
    prepared(every_state)
    return "lab.db"


def every_state(cli: Cli) -> None:
    cli("-i", "lab.db", "init")
    cli("-i", "lab.db", "add", "n[1-6].lab.example", "--label", "rack=r1", "--hardware", "cpus=64", "--note", "x, y")
    cli("-i", "lab.db", "set", "n1.lab.example", "--bmc", "https://10.0.1.1", "--credentials", "env:LAB_BMC")
    cli("-i", "lab.db", "ready", "n[1-5].lab.example")
    cli("-i", "lab.db", "reserve", "n[1-2].lab.example", "--ttl", "5h", "--purpose", "bisect")
    cli("-i", "lab.db", "reserve", "n3.lab.example")
    cli("-i", "lab.db", "taint", "n3.lab.example", "--fault", "no link")
    cli("-i", "lab.db", "maintain", "n4.lab.example", "--reason", "disk", "--until", "3d")
    cli("-i", "lab.db", "cordon", "n5.lab.example", "--reason", "fans")


@pytest.mark.parametrize("command", ["export", "list"])
@pytest.mark.parametrize("output", ["json", "jsonl"])
def test_a_json_export_is_imported_with_its_states(cli: Cli, fleet: str, command: str, output: str) -> None:
    written = cli("-i", fleet, command, "-o", output).stdout
    cli("-i", "other.db", "init")
    done = bring(cli, "other.db", written)
    assert (done.status, done.stderr) == (0, "")
    before, after = hosts(cli, fleet), hosts(cli, "other.db")
    assert [{**host, "since": None} for host in after] == [{**host, "since": None} for host in before]
    assert cli("-i", "other.db", "doctor").status == 0
    again = bring(cli, "other.db", written)
    assert (again.status, {line.split(None, 2)[2] for line in again.stdout.splitlines()}) == (0, {"nothing to change"})


def test_an_export_says_how_many_bookings_it_leaves_out_and_a_copy_keeps_them(cli: Cli, fleet: str) -> None:
    assert cli("-i", fleet, "export", "-o", "toml").stderr == ""
    cli("-i", fleet, "reserve", "n2.lab.example", "--from", "2d", "--ttl", "1h")
    cli("-i", fleet, "maintain", "n6.lab.example", "--from", "2d", "--until", "+3d", "--reason", "power work")
    written = cli("-i", fleet, "export", "-o", "toml")
    note = "left out: open bookings and planned maintenances, 2; bmhctl copy keeps them\n"
    assert (written.status, written.stderr) == (0, note)
    cli("-i", "other.db", "init")
    assert bring(cli, "other.db", written.stdout).status == 0
    assert [host["planned"] for host in hosts(cli, "other.db")] == [[]] * 6
    assert cli("copy", fleet, "copied.db").status == 0
    assert cli("-i", "copied.db", "bookings", "-o", "json").stdout.count('"id"') == 2


@pytest.mark.parametrize("output", ["json", "jsonl"])
def test_an_import_says_how_many_bookings_of_a_json_export_it_skips(cli: Cli, fleet: str, output: str) -> None:
    cli("-i", fleet, "reserve", "n[1-2].lab.example", "--from", "2d", "--ttl", "1h")
    cli("-i", fleet, "maintain", "n6.lab.example", "--from", "2d", "--until", "+3d", "--reason", "power work")
    written = cli("-i", fleet, "export", "-o", output).stdout
    cli("-i", "other.db", "init")
    done = bring(cli, "other.db", written)
    note = "bookings and planned maintenances in the files, not imported: 2; bmhctl copy keeps them\n"
    assert (done.status, done.stderr) == (0, note)
    assert [host["planned"] for host in hosts(cli, "other.db")] == [[]] * 6
    damaged = written.replace('"planned": [{', '"planned": ["x", {"id": 3}, {')
    assert bring(cli, "other.db", damaged).stderr == note


def test_the_json_of_show_can_be_imported(cli: Cli, fleet: str) -> None:
    written = cli("-i", fleet, "show", "n4.lab.example", "-o", "json").stdout
    cli("-i", "other.db", "init")
    assert bring(cli, "other.db", written).status == 0
    assert [host["state"] for host in hosts(cli, "other.db")] == ["maintenance"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"dirty": False}, "hosts.n3.lab.example.lifecycle.dirty: a host that is tainted is dirty"),
        ({"state": "free"}, "hosts.n3.lab.example.lifecycle.state must be one of"),
        ({"since": "yesterday"}, "hosts.n3.lab.example.lifecycle.since must be a date and time"),
        ({"name": "n_3"}, "'n_3' is not a host name"),
        ({"name": 3}, "3 is not a host name"),
        ({"labels": ["x"]}, "hosts.n3.lab.example.labels must be a table"),
        (
            {"bmc": {"address": "https://u:hunter2@h"}},
            "hosts.n3.lab.example.bmc.address holds a user name or a password",
        ),
        ({"reservation": "r-1"}, "hosts.n3.lab.example: its reservation is not complete"),
        ({"surprise": 1}, "hosts[2]: unknown key 'surprise'"),
        ({"dirty": ...}, "hosts[2]: dirty is missing"),
    ],
)
def test_an_export_with_an_invalid_field_is_refused_by_the_name_of_the_field(
    cli: Cli, fleet: str, change: dict[str, object], said: str
) -> None:
    written = json.loads(cli("-i", fleet, "export", "-o", "json").stdout)
    record = {**written["hosts"][2], **change}
    written["hosts"][2] = {key: value for key, value in record.items() if value is not ...}
    cli("-i", "other.db", "init")
    done = bring(cli, "other.db", json.dumps(written))
    assert (done.status, done.stdout) == (10, "")
    assert done.stderr.startswith(f"bmhctl: written: {said}")
    assert "hunter2" not in done.stderr
    assert hosts(cli, "other.db") == []


def test_a_list_with_chosen_fields_is_not_an_export(cli: Cli, fleet: str) -> None:
    written = cli("-i", fleet, "list", "-o", "json", "--fields", "name,state,flags").stdout
    done = bring(cli, fleet, written)
    assert (done.status, done.stdout) == (10, "")
    assert done.stderr == (
        "bmhctl: written: hosts[0]: owner, purpose, until are missing\n"
        "hint: write it again without --fields: a host's state needs all fields\n"
    )


def test_an_export_of_a_later_version_is_refused(cli: Cli, fleet: str) -> None:
    done = bring(cli, fleet, '{"version": 2, "kind": "hosts", "hosts": []}')
    assert (done.status, done.stderr) == (
        10,
        "bmhctl: written: it has version 2, and this bmhctl reads version 1\nhint: update bmhctl\n",
    )


def test_an_unknown_placeholder_in_the_name_option_is_a_usage_error(cli: Cli, fleet: str) -> None:
    done = bring(cli, fleet, "", "--name", "{nmae}")
    assert (done.status, done.stdout) == (2, "")
    assert done.stderr == (
        "bmhctl: --name: unknown placeholder {nmae}\nhint: known: {name}, {namespace}, {id}, {labels.KEY}\n"
    )


def test_a_file_with_only_a_policy_is_imported_only_with_the_policy_option(cli: Cli, fleet: str) -> None:
    policy = '[defaults]\nttl = "1h"\n'
    done = bring(cli, fleet, policy)
    assert (done.status, done.stdout) == (10, "")
    assert done.stderr == (
        "bmhctl: nothing to import: the files have a policy, but no hosts\nhint: --policy imports the policy\n"
    )
    assert bring(cli, fleet, policy, "--policy").status == 0
    assert "1h" in cli("-i", fleet, "policy", "show").stdout


@pytest.mark.parametrize(
    ("output", "need"), [("known-hosts", "a host key"), ("dnsmasq", "a MAC"), ("ssh", "an address")]
)
def test_an_export_says_which_hosts_it_leaves_out(output: str, need: str, cli: Cli, lab: Path) -> None:
    assert cli("add", "bare[1-30]").status == 0
    assert cli("add", "whole", "--address", "10.9.0.1", "--mac", "52:54:00:00:09:01").status == 0
    assert cli("set", "whole", "--hardware", "ssh_host_key=ssh-ed25519 AAAA").status == 0
    done = cli("export", "whole", "bare*", "-o", output)
    assert (done.status, done.stdout.count("whole") > 0, done.stdout.count("bare")) == (0, True, 0)
    assert done.stderr == f"left out: 30 hosts without {need}: bare[1-30]\n"
    assert cli("export", "bare1", "-o", output, "-q").stderr == ""


@pytest.mark.parametrize("output", OF_OTHERS)
def test_an_export_has_each_host_that_it_does_not_say_to_leave_out(output: str, cli: Cli, lab: Path) -> None:
    assert cli("add", "bare1").status == 0
    done = cli("export", "bare1", "-o", output)
    assert ("bare1" in done.stdout) is (output not in NEEDS)
    assert ("bare1" in done.stderr) is (output in NEEDS)


def test_export_as_a_calendar_is_answered_with_the_commands_that_write_one(cli: Cli, lab: Path) -> None:
    assert cli("export", "-o", "ics") == Run(
        2, "", "bmhctl: can't export as ics\nhint: leases: bmhctl timeline -o ics; bookings: bmhctl bookings -o ics\n"
    )


def test_a_warning_about_an_import_is_printed_once(cli: Cli, lab: Path) -> None:
    def two(bmc: str) -> str:
        spec = {"bootMACAddress": "52:54:00:00:00:99", "bmc": {"address": bmc, "credentialsName": "s"}}
        host = {"apiVersion": "metal3.io/v1alpha1", "kind": "BareMetalHost", "spec": spec}
        return "\n".join(json.dumps({**host, "metadata": {"name": name}}) for name in ("x1", "x2"))

    assert bring(cli, "bmh.toml", two("redfish://10.0.0.1")).stderr.count("have the same MAC") == 1
    assert bring(cli, "bmh.toml", two("redfish://10.0.0.2")).stderr.count("x1: the BMC address changed") == 1


def test_an_import_of_many_hosts_ends_with_their_number_and_the_way_back(cli: Cli, tmp_path: Path) -> None:
    assert cli("init").status == 0
    (tmp_path / "some.csv").write_text("name\n" + "".join(f"n{number:02}\n" for number in range(1, 11)))
    assert cli("import", "some.csv", "--dry-run").stderr == "dry run: 10 new; nothing was changed\n"
    assert cli("import", "some.csv").stderr == "import: 10 new\nbmhctl undo takes this back\n"
    assert cli("import", "some.csv").stderr == "import: 10 unchanged\n"
