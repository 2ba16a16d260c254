"""doctor on every backend: it changes nothing without --fix, fixes everything in one call, and its remedies work."""

from __future__ import annotations

import socket
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from bmhctl.domain.model import State
from bmhctl.errors import InvalidError
from bmhctl.results.diagnosis import Finding
from bmhctl.stores.host_query import HostQuery
from bmhctl.stores.postgres import claims as postgres_claims
from bmhctl.stores.rows import from_time
from bmhctl.usecases import hosts, lifecycle_verbs, queries
from bmhctl.usecases.doctor import examine
from bmhctl.usecases.doctor.doctor import doctor, doctor_at
from bmhctl.usecases.policy import apply_policy
from bmhctl.usecases.shared.context import Context
from bmhctl.usecases.shared.host_selection import Choice
from bmhctl.usecases.steps import resume, step_verbs
from tests.broken_inventories import a_host_in_each_state, everything, examined, found, unchecked
from tests.conftest import Lab, copied
from tests.processes import SHORT_CLAIMS, spawn, until

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the test in its own folder, in which the backup of a server's inventory is written."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
@copied
def fleet(lab: Lab) -> Lab:
    """A host in each state."""
    a_host_in_each_state(lab)
    return lab


# tests: nothing is wrong


def test_the_doctor_finds_and_changes_nothing_after_every_verb(fleet: Lab) -> None:
    before = everything(fleet)
    diagnosis = examined(fleet)

    assert diagnosis.findings == ()
    assert diagnosis.error is None
    assert diagnosis.inventory == fleet.location
    assert diagnosis.counts == {"hosts": 6, "events": 20, "reservations": 3}
    assert examined(fleet, fix=True).backup is None, "there is nothing to fix, so there is no backup"
    assert everything(fleet) == before


def test_an_expired_lease_that_is_not_yet_reaped_is_not_a_finding(fleet: Lab) -> None:
    fleet.clock.move(days=2)
    assert examined(fleet).findings == ()


def test_changes_made_during_the_examination_are_not_mixed_with_earlier_rows(fleet: Lab) -> None:
    happened: list[str] = []

    def meanwhile(text: str, _: str) -> None:
        if text == "looking at rows" and not happened:
            attributes = hosts.AttributeChanges(labels={"rack": "r1"})
            happened.extend(
                item.message for item in hosts.set_attributes(fleet.context(), Choice(("node1",)), attributes).items
            )

    assert doctor(replace(fleet.context(), progress=meanwhile)).findings == ()
    assert happened == ["changed: labels.rack (none) → r1"]
    assert examined(fleet).findings == ()


def test_a_ticket_that_is_granted_during_the_examination_is_not_reported_as_left(
    fleet: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    unchecked(
        fleet,
        "INSERT INTO tickets (owner, wants, created_at, refreshed_at, endless) VALUES ('eve', '[]', 1, 1, 0)",
    )

    def leaves(ctx: Context, ticket: int) -> bool:
        with fleet.context().store.transaction():
            fleet.opened[-1].tickets.remove(ticket)
        return True

    monkeypatch.setattr(examine, "is_gone", leaves)
    assert examined(fleet).findings == ()


# tests: fixing


def test_many_broken_things_are_fixed_in_one_call(fleet: Lab) -> None:
    unchecked(
        fleet,
        # A stray reservation is the only thing that keeps another one from being empty.
        "INSERT INTO reservations (id, owner, created_at, expires_at) VALUES ('r-0', 'eve', 1, 2)",
        "UPDATE hosts SET reservation = 'r-0', dirty = 0, came_from = 'initial', maintenance = '[]', last_event = 1"
        " WHERE name = 'node4'",
        "DELETE FROM facts",
        "UPDATE meta SET value = 'x' WHERE key = 'policy_parsed'",
    )
    fixed = examined(fleet, fix=True)

    assert {(each.kind, each.host) for each in fixed.findings if each.fixed} == {
        ("history", "node4"),
        ("reservation", "node4"),
        ("reservation", None),
        ("mark", "node4"),
        ("dirt", "node4"),
        ("policy", None),
        *(("facts", f"node{number}") for number in range(1, 7)),
    }
    assert [each for each in fixed.findings if not each.fixed] == []
    assert examined(fleet).findings == ()


def test_a_reservation_that_the_doctor_ended_names_it_and_counts_as_lost(fleet: Lab) -> None:
    unchecked(fleet, "INSERT INTO reservations (id, owner, created_at, expires_at) VALUES ('r-0', 'eve', 1, 2)")
    examined(fleet, fix=True)
    ended = fleet.context().store.reservations.get("r-0")
    assert ended is not None
    assert (ended.is_open(), ended.was_lost(), ended.end_reason) == (
        False,
        True,
        "ended by bmhctl doctor: it held no host",
    )


def test_a_host_that_vanished_while_used_comes_back_tainted(fleet: Lab) -> None:
    unchecked(
        fleet,
        *(f"DELETE FROM {what} = 4" for what in ("results WHERE host_id", "facts WHERE host_id", "hosts WHERE id")),
    )
    vanished = (
        "orphan", "broken", "node4", "vanished: its history ends at tainted, not with its removal",
        "bmhctl doctor --fix makes it tainted if it is added again",
    )  # fmt: skip
    unknown = (
        "declaration", "broken", "node4", "is declared, but unknown", "bmhctl doctor --fix reads lab.toml again",
    )  # fmt: skip
    assert found(examined(fleet)) == ([vanished, unknown] if fleet.is_toml else [vanished])

    assert examined(fleet, fix=True).error is None
    if not fleet.is_toml:  # in a TOML inventory, its declaration would add it again at once
        hosts.add(fleet.context(), ["node4"], hosts.AttributeChanges())
    host = fleet.context().store.hosts.named("node4")
    assert host is not None
    assert (host.state, host.dirty) == (State.TAINTED, True)
    assert found(examined(fleet, fix=True)) == [
        ("orphan", "warning", *vanished[2:4], "restore a backup, or add it again: bmhctl add node4")
    ]


def test_a_host_that_vanished_while_clean_is_a_warning(fleet: Lab) -> None:
    unchecked(
        fleet,
        *(f"DELETE FROM {what} = 2" for what in ("results WHERE host_id", "facts WHERE host_id", "hosts WHERE id")),
    )
    assert ("orphan", "warning", "node2") in [each[:3] for each in found(examined(fleet, fix=True))]
    assert fleet.context().store.departed.reason("node2", None) is None


def test_findings_beyond_the_first_hundred_of_a_kind_are_counted_and_fixed(lab: Lab) -> None:
    hosts.add(lab.context(), ["node[1-250]"], hosts.AttributeChanges(labels={"arch": "arm64"}))
    unchecked(
        lab,
        "DELETE FROM facts",
        "UPDATE hosts SET last_event = last_event - 1",
        "UPDATE events SET source = 'tainted' WHERE id <= 120",
    )
    diagnosis = examined(lab)
    by_sort: dict[tuple[str, bool], int] = {}
    for each in diagnosis.findings:
        by_sort[each.kind, each.fixable] = by_sort.get((each.kind, each.fixable), 0) + each.number
    # The first 120 have a broken history, so that their last event is in doubt; all those gaps are of one sort.
    assert by_sort == {("facts", True): 250, ("history", True): 130, ("history", False): 120 + 120 + 1}
    assert len(diagnosis.findings) < 400
    assert diagnosis.error is not None
    assert diagnosis.error.details == {"broken": 621, "fixable": 380}

    left = [each for each in examined(lab, fix=True).findings if not each.fixed]
    assert sum(each.number for each in left) == 241
    assert not any(each.fixable for each in left)


# tests: the remedies that are printed help


def cleaned(lab: Lab, *names: str) -> None:
    """Do the same as ``resume NAME --all``."""
    assert resume.resume(lab.context(), Choice(names), everyones=True).error is None


LAUNDERED = {
    "node6": (  # simulate a failed guard: the host went from maintenance to available although it was reserved
        "INSERT INTO events (host_id, host, at, actor, verb, source, dest)"
        " VALUES (6, 'node6', 1700000000000000, 'eve', 'resume', 'maintenance', 'available')",
        "UPDATE hosts SET state = 'available', dirty = 0, reservation = NULL, came_from = NULL, maintenance = NULL,"
        " last_event = (SELECT MAX(id) FROM events) WHERE name = 'node6'",
        "UPDATE reservations SET ended_at = created_at WHERE id = 'r-6'",
    ),
    "node2": ("INSERT INTO departed (key, mac, at, reason) VALUES ('52:54:00:00:00:02', NULL, 1, 'sold')",),
}


@pytest.mark.parametrize("name", LAUNDERED)
def test_a_used_host_recorded_as_clean_is_cleaned_by_way_of_maintenance(name: str, fleet: Lab) -> None:
    unchecked(fleet, *LAUNDERED[name])
    [told] = examined(fleet, fix=True).findings
    assert (told.kind, told.severity, told.host, told.fixable) == ("dirt", "broken", name, False)

    lifecycle_verbs.maintain(fleet.context(), Choice((name,)), reason="not clean")
    assert [each.fixed for each in examined(fleet, fix=True).findings] == [True]
    cleaned(fleet, name)

    assert examined(fleet).findings == ()
    assert fleet.context().store.hosts.named(name).state is State.INITIAL  # type: ignore[union-attr]  # it is there


@pytest.mark.parametrize("hours", [-1, 1])
def test_only_a_cleanup_after_the_removal_of_a_machine_makes_it_clean(hours: int, fleet: Lab) -> None:
    fleet.clock.move(hours=2)
    left = fleet.clock() + timedelta(hours=hours)
    step_verbs.reset(fleet.context(), Choice(("node4",)))
    fleet.clock.move(hours=2)
    departed = (
        f"INSERT INTO departed (key, mac, at, reason) VALUES ('52:54:00:00:00:04', NULL, {from_time(left)}, 'sold')"
    )
    unchecked(fleet, departed)
    assert [each.host for each in examined(fleet).findings] == ([] if hours < 0 else ["node4"])


def test_a_dirty_host_in_a_clean_state_is_cleaned_by_way_of_maintenance(fleet: Lab) -> None:
    unchecked(fleet, "UPDATE hosts SET dirty = 1 WHERE name = 'node2'")
    lifecycle_verbs.maintain(fleet.context(), Choice(("node2",)), reason="not clean")
    cleaned(fleet, "node2")
    assert examined(fleet).findings == ()


@pytest.mark.parametrize("reservation", ["'r-none'", "NULL"])
def test_hosts_under_a_lost_reservation_are_cleaned_by_way_of_maintenance(reservation: str, fleet: Lab) -> None:
    unchecked(
        fleet,
        f"UPDATE hosts SET reservation = {reservation} WHERE name IN ('node3', 'node6')",
        "UPDATE reservations SET ended_at = created_at",
    )
    lifecycle_verbs.maintain(fleet.context(), Choice(("node3",)), reason="lost reservation")
    cleaned(fleet, "node3", "node6")
    assert examined(fleet).findings == ()


def test_a_host_under_an_ended_reservation_is_tainted_by_force(fleet: Lab) -> None:
    unchecked(fleet, "UPDATE reservations SET ended_at = created_at, ended_how = 'expired'")
    assert {each.host for each in examined(fleet).broken} == {"node3", "node6"}
    done = lifecycle_verbs.taint(fleet.context(), Choice(("node3", "node6")), force=True, reason="lease expired")
    assert done.error is None
    assert examined(fleet).findings == ()
    cleaned(fleet, "node6")


def test_a_host_with_a_broken_history_is_removed_and_added_again(fleet: Lab) -> None:
    unchecked(
        fleet,
        "DELETE FROM events WHERE host = 'node1'",
        "UPDATE events SET verb = 'polish' WHERE host = 'node2' AND verb = 'ready'",
        "DELETE FROM events WHERE host = 'node4' AND verb = 'ready'",
    )
    names = ("node1", "node2", "node4")
    assert {each.host for each in examined(fleet).broken} == {*names}
    hosts.remove(fleet.context(), Choice(names), force=True, reason="broken history")
    hosts.add(fleet.context(), list(names), hosts.AttributeChanges())

    diagnosis = examined(fleet)
    assert (diagnosis.error, {each.severity.value for each in diagnosis.findings}) == (None, {"warning"})
    assert fleet.context().store.hosts.named("node4").dirty  # type: ignore[union-attr]  # it is there


def test_the_doctor_gives_a_maintenance_without_a_reason_one(fleet: Lab) -> None:
    unchecked(fleet, "UPDATE hosts SET maintenance = NULL WHERE name = 'node5'")
    lifecycle_verbs.maintain(fleet.context(), Choice(("node5",)), reason="fan")
    assert examined(fleet).findings == ()


# tests: the policy


def test_an_invalid_policy_is_reported(fleet: Lab) -> None:
    unchecked(fleet, "UPDATE meta SET value = '[checks.ping]' WHERE key = 'policy'")
    [policy] = [each for each in examined(fleet).findings if each.kind == "policy"]
    assert (policy.severity.value, policy.fixable, policy.message) == (
        "broken",
        False,
        "the policy is not valid: checks.ping has none of command, tcp, http, redfish",
    )
    assert policy.remedy.startswith("bmhctl policy apply FILE" if not fleet.is_toml else f"{fleet.path} contains")


def test_a_lease_without_end_is_not_a_finding_where_the_policy_allows_it(fleet: Lab) -> None:
    unchecked(fleet, "UPDATE reservations SET expires_at = NULL WHERE id = 'r-3'")
    assert [each.kind for each in examined(fleet).findings] == ["lease"]
    if fleet.is_toml:
        fleet.path.write_text(f'defaults.max_ttl = "none"\n{fleet.path.read_text()}')
    else:
        apply_policy(fleet.context(), '[defaults]\nmax_ttl = "none"', "policy.toml")
    queries.list_hosts(fleet.context(), Choice(everything=True))
    assert examined(fleet).findings == ()


# tests: at work


WORKER = """
import os, sys
from bmhctl import open_inventory
with open_inventory(sys.argv[1]) as lab:
    turn = 0
    while turn < 5 or not os.path.exists(sys.argv[2]):
        turn += 1
        held = lab.reserve(count=2)
        lab.extend(held.reservation.id, "5h")
        lab.release(held.reservation.id)
        names = [host.name for host in held.hosts]
        lab.reset(*names)
        lab.maintain(names[0], reason="look")
        lab.resume(names[0])
        lab.ready(*names)
        lab.add(f"extra{turn}", labels={"turn": str(turn)})
        lab.remove(f"extra{turn}")
"""
"""Uses an inventory until a file exists."""


def test_an_inventory_that_other_processes_use_is_not_reported_as_broken(lab: Lab, tmp_path: Path) -> None:
    hosts.add(lab.context(), ["node[1-4]"], hosts.AttributeChanges())
    step_verbs.ready(lab.context(), Choice(everything=True))
    enough = tmp_path / "enough"
    with spawn("-c", WORKER, lab.location, str(enough)) as worker:
        try:
            for _ in range(5):
                diagnosis = doctor_at(lab.location, lambda store: Context(store, "eve", store.now))
                assert [each for each in diagnosis.findings if each.severity != "note"] == []
                assert worker.poll() is None
        finally:
            enough.touch()
    assert worker.returncode == 0


def claims_found(lab: Lab) -> list[Finding]:
    return [each for each in examined(lab).findings if each.kind == "claim"]


KILLED_RUN = ("run", "--host", "node2", "--", "sh", "-c", "echo $BMH_RESERVATION; sleep 1000")


def test_the_finding_for_the_claim_of_a_killed_run_names_that_run(fleet: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres_claims, "_MICROSECONDS", 5_000_000)  # as in SHORT_CLAIMS
    with spawn("-c", SHORT_CLAIMS, *KILLED_RUN, BMHCTL_INVENTORY=fleet.location) as run:
        assert run.stdout is not None
        reservation = run.stdout.readline().strip()
        assert claims_found(fleet) == []
        run.kill()
    claim = f"the claim run-{reservation} of a run under reservation {reservation} is left over: "
    until(lambda: bool(fleet.context().store.claims.left_behind()))
    [left] = claims_found(fleet)
    holder = f"{socket.gethostname()} process {run.pid} was killed, or lost its connection to the server"
    assert left.message == claim + (
        "the process that held it was killed" if fleet.context().store.database.files else holder
    )
    assert left.remedy == f"bmhctl reap ends the lease when it has expired; or bmhctl release -R {reservation}"
    examined(fleet, fix=True)
    assert claims_found(fleet) == [left]
    lifecycle_verbs.release(fleet.context(), Choice(), reservation=reservation)
    [left] = claims_found(fleet)
    assert left.remedy == "bmhctl doctor --fix removes it; it no longer claims anything"
    examined(fleet, fix=True)
    assert fleet.context().store.claims.left_behind() == []


@pytest.mark.parametrize("lab", ["postgres"], indirect=True)
@pytest.mark.parametrize(
    ("seconds", "cause"),
    [
        (-1, "lab process 7 was killed, or lost its connection to the server"),
        (1, "the server was restarted while lab process 7 held it"),
        (29, "the server was restarted while lab process 7 held it"),
        (31, "lab process 7 was killed, or lost its connection to the server"),
    ],
)
def test_the_finding_for_a_claim_from_before_a_restart_of_the_server_says_so(
    seconds: int, cause: str, lab: Lab
) -> None:
    until_column = f"(EXTRACT(EPOCH FROM pg_postmaster_start_time()) * 1000000)::bigint + {seconds} * 1000000"
    unchecked(
        lab,
        "INSERT INTO claims (name, token, holder, backend, guarded, until)"
        f" SELECT 'run-r-1', 'x', 'lab process 7', 0, 0, {until_column}",
    )
    assert [each.message for each in examined(lab).findings] == [
        f"the claim run-r-1 of a run under reservation r-1 is left over: {cause}"
    ]


@pytest.mark.parametrize("column", ["labels", "bmc", "hardware", "cordon", "maintenance"])
def test_the_finding_for_an_unreadable_row_names_its_column(column: str, fleet: Lab) -> None:
    unchecked(fleet, f"UPDATE hosts SET {column} = '{{oops' WHERE name = 'node2'")
    store = fleet.context().store
    for query in (HostQuery(names=("node2",)), HostQuery()):
        with pytest.raises(InvalidError, match=r"^the row of host node2 can't be read$") as refused:
            list(store.hosts.find(query))
        assert refused.value.hint == "bmhctl doctor reports what is wrong with it"
    assert f"its {column} can't be read: '{{oops'" in [each.message for each in examined(fleet).findings]


@pytest.mark.parametrize("lab", ["sqlite", "toml"], indirect=True)
def test_an_invalid_time_is_reported_with_its_value(fleet: Lab) -> None:
    unchecked(fleet, "UPDATE events SET at = 'bad' WHERE host = 'node1'")
    assert ("stored times that are in the future: 1, the latest 'bad'") in [
        each.message for each in examined(fleet).findings
    ]
