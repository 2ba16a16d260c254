"""doctor on every backend: which contradictions it finds in the rows, which it fixes and which it leaves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from bmhctl.usecases import hosts
from bmhctl.usecases.shared.host_selection import Choice
from tests.broken_inventories import Found, a_host_in_each_state, everything, examined, found, unchecked
from tests.conftest import Lab, copied

LET_GO = (
    "restore a backup; or clean it by hand, then remove it and add it again: "
    "bmhctl remove {0} --force --reason 'broken history'; bmhctl add {0}"
)
MARKED_DIRTY = "bmhctl doctor --fix marks it dirty"
SET_ASIDE = (
    "bmhctl maintain {0} --reason 'not clean'; bmhctl doctor --fix (marks it dirty there); "
    "bmhctl resume {0} (cleans it)"
)


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the test in its own folder, in which the backup of a server's inventory is written."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
@copied
def fleet(lab: Lab) -> Lab:
    """A host in each state; its events have the same numbers on every backend, though a server skips some."""
    a_host_in_each_state(lab)
    unchecked(
        lab,
        "UPDATE hosts SET last_event = (SELECT COUNT(*) FROM events e WHERE e.id <= hosts.last_event)",
        "UPDATE events SET id = -(SELECT COUNT(*) FROM events e WHERE e.id <= events.id)",
        "UPDATE events SET id = -id",  # in two steps: a server checks at each row that its id is not taken
    )
    return lab


def event_of(lab: Lab, name: str, place: int) -> int:
    """The id of one of a host's events."""
    store = lab.context().store
    return [event.id for event in store.events.read(store.hosts.named(name) or name)][place]


# tests: faults that need a decision

Broken = Callable[[Lab], tuple[str, ...]]
"""A change of the rows."""


def told(lab: Lab, name: str, **attributes: str) -> str:
    """Changes the declaration of a host, as any user may."""
    assert hosts.set_attributes(lab.context(), Choice((name,)), hosts.AttributeChanges(**attributes)).error is None  # type: ignore[arg-type]  # texts
    return "SELECT 1"


GUESSES: dict[str, tuple[Broken, list[Found]]] = {
    "a gap in the history": (
        lambda lab: (f"DELETE FROM events WHERE id = {event_of(lab, 'node4', 1)}",),
        [
            (
                "history", "broken", "node4",
                "a gap in its history: event 15, reserve, begins at available, the event before it ended at initial",
                LET_GO.format("node4"),
            )
        ],
    ),
    "gaps in the history": (
        lambda lab: (f"UPDATE events SET dest = 'maintenance' WHERE id = {event_of(lab, 'node4', 1)}",),
        [
            (
                "history", "broken", "node4",
                "a gap in its history: event 15, reserve, begins at available, "
                "the event before it ended at maintenance",
                LET_GO.format("node4"),
            ),
            (
                "history", "broken", "node4",
                "event 10, ready, leads from initial to maintenance, which the lifecycle does not allow",
                LET_GO.format("node4"),
            ),
        ],
    ),
    "a history without its beginning": (
        lambda lab: (f"DELETE FROM events WHERE id = {event_of(lab, 'node2', 0)}",),
        [
            (
                "history", "broken", "node2",
                "a gap in its history: event 8, ready, begins at initial, the event before it ended at [*]",
                LET_GO.format("node2"),
            )
        ],
    ),
    "no history": (
        lambda lab: ("DELETE FROM events WHERE host = 'node1'",),
        [("history", "broken", "node1", "is initial, but has no history", LET_GO.format("node1"))],
    ),
    "another state than the history says": (
        lambda lab: ("UPDATE hosts SET state = 'initial' WHERE name = 'node2'",),
        [("history", "broken", "node2", "is initial, but its history ends at available", LET_GO.format("node2"))],
    ),
    "a laundered host": (
        lambda lab: ("UPDATE hosts SET state = 'available', dirty = 0 WHERE name = 'node4'",),
        [
            ("history", "broken", "node4", "is available, but its history ends at tainted", LET_GO.format("node4")),
            (
                "dirt", "broken", "node4",
                "is available and counts as clean, but was used (event 17) and not cleaned since",
                SET_ASIDE.format("node4"),
            ),
        ],
    ),
    "an unknown verb": (
        lambda lab: (f"UPDATE events SET verb = 'polish' WHERE id = {event_of(lab, 'node2', 1)}",),
        [
            (
                "history", "broken", "node2",
                "event 8, polish, leads from initial to available, which the lifecycle does not allow",
                LET_GO.format("node2"),
            )
        ],
    ),
    "a note event that changes the state": (
        lambda lab: (f"UPDATE events SET verb = 'cordon' WHERE id = {event_of(lab, 'node2', 1)}",),
        [
            (
                "history", "broken", "node2",
                "event 8, cordon, leads from initial to available, which the lifecycle does not allow",
                LET_GO.format("node2"),
            )
        ],
    ),
    "a second beginning": (
        lambda lab: (f"UPDATE events SET source = NULL, verb = 'enter' WHERE id = {event_of(lab, 'node4', 2)}",),
        [
            (
                "history", "broken", "node4",
                "a gap in its history: event 15, enter, begins at [*], the event before it ended at available",
                LET_GO.format("node4"),
            )
        ],
    ),
    "a broken history of a host that is gone": (
        lambda lab: (f"DELETE FROM events WHERE id = {event_of(lab, 'node7', 1)}",),
        [
            (
                "history", "warning", "node7",
                "a gap in its history: event 20, remove, begins at available, the event before it ended at initial",
                "the host was removed, so nothing depends on its history; a backup may have the right one",
            )
        ],
    ),
    "a reservation that does not exist": (
        lambda lab: (
            "UPDATE hosts SET reservation = 'r-none' WHERE name IN ('node3', 'node6')",
            "UPDATE reservations SET ended_at = created_at",
        ),
        [
            (
                "reservation", "broken", "node3",
                "is reserved under reservation r-none, which does not exist",
                "bmhctl maintain node3 --reason 'lost reservation'; bmhctl resume node3 (cleans it)",
            ),
            (
                "reservation", "broken", "node6",
                "is in maintenance under reservation r-none, which does not exist",
                "bmhctl resume node6 --all (cleans it)",
            ),
        ],
    ),
    "an ended reservation": (
        lambda lab: (
            "UPDATE reservations SET ended_at = created_at, ended_how = 'expired', end_reason = 'lease expired'"
            " WHERE id IN ('r-3', 'r-6')",
        ),
        [
            (
                "reservation", "broken", name,
                f"is {where} under reservation r-{name[-1]}, which has ended: lease expired",
                f"bmhctl taint {name} --force --reason 'its lease has ended'",
            )
            for name, where in (("node3", "reserved"), ("node6", "in maintenance"))
        ],
    ),
    "reserved under no reservation": (
        lambda lab: (
            "UPDATE hosts SET reservation = NULL WHERE name = 'node3'",
            "UPDATE reservations SET ended_at = created_at WHERE id = 'r-3'",
        ),
        [
            (
                "reservation", "broken", "node3", "is reserved, but under no reservation",
                "bmhctl maintain node3 --reason 'lost reservation'; bmhctl resume node3 (cleans it)",
            )
        ],
    ),
    "an unknown end": (
        lambda lab: ("UPDATE reservations SET ended_how = 'evaporated' WHERE id = 'r-4'",),
        [
            (
                "reservation", "broken", None,
                "reservation r-4 ended in a way that this version does not know: 'evaporated'",
                "update bmhctl, or restore a backup",
            )
        ],
    ),
    "a step result of an unknown kind": (
        lambda lab: (
            "INSERT INTO results (host_id, phase, step, verdict, detail, seconds, at)"
            " SELECT id, 'checks', 'knock', 'perhaps', '', 0, 1 FROM hosts WHERE name = 'node2'",
        ),
        [
            (
                "row", "broken", "node2",
                "the result of its step knock is of a kind that this version does not know: 'checks', 'perhaps'",
                "update bmhctl, or restore a backup",
            )
        ],
    ),
    "notes that contradict the state, and a broken history": (
        lambda lab: (
            f"DELETE FROM events WHERE id = {event_of(lab, 'node2', 0)}",
            "UPDATE hosts SET came_from = 'tainted', last_event = 1 WHERE name = 'node2'",
        ),
        [
            (
                "history", "broken", "node2",
                "a gap in its history: event 8, ready, begins at initial, the event before it ended at [*]",
                LET_GO.format("node2"),
            ),
            ("history", "broken", "node2", "its last event is 8, not 1 as recorded", LET_GO.format("node2")),
            (
                "mark", "broken", "node2", "is available, but is to return from maintenance to tainted",
                LET_GO.format("node2"),
            ),
        ],
    ),
    "maintenance without a reason": (
        lambda lab: ("UPDATE hosts SET maintenance = NULL WHERE name = 'node5'",),
        [
            (
                "mark", "warning", "node5", "is in maintenance for no recorded reason",
                "bmhctl resume node5; or give a reason: bmhctl maintain node5 --reason TEXT",
            )
        ],
    ),
    "dirty and available": (
        lambda lab: ("UPDATE hosts SET dirty = 1 WHERE name = 'node2'",),
        [
            (
                "dirt", "broken", "node2", "is available, but dirty",
                "bmhctl maintain node2 --reason 'not clean'; bmhctl resume node2 (cleans it)",
            )
        ],
    ),
    "a clean host that is a used machine": (
        lambda lab: (
            "INSERT INTO departed (key, mac, at, reason) VALUES ('52:54:00:00:00:02', NULL, 9000000000000000, 'sold')",
        ),
        [
            (
                "dirt", "broken", "node2",
                "is available and counts as clean, but the machine with its MAC was dirty when it left (sold)",
                SET_ASIDE.format("node2"),
            ),
            (
                "clock", "warning", None, "stored times that are in the future: 1, the latest 2255-03-14 16:00:00 UTC",
                "a clock is wrong now, or was: compare date -u on the machines, because leases end by the clock",
            ),
        ],
    ),
    "a clean host of a used machine's name": (
        lambda lab: (
            told(lab, "node2", mac=""),
            "INSERT INTO departed (key, mac, at, reason) VALUES ('node2', NULL, 1, 'sold')",
        ),
        [
            (
                "dirt", "warning", "node2",
                "counts as clean, but a machine with its name was dirty when it left (sold)",
                "if it is that machine: bmhctl remove node2; bmhctl add node2: it enters tainted",
            )
        ],
    ),
    "one MAC for three": (
        lambda lab: tuple(told(lab, name, mac="52:54:00:00:00:01") for name in ("node2", "node5")),
        [
            (
                "duplicate", "warning", "node1", "has the MAC 52:54:00:00:00:01 of node5 (and 1 more)",
                "one machine under two names can be reserved twice: correct one MAC, or bmhctl remove node5",
            )
        ],
    ),
    "one address for two": (
        lambda lab: tuple(told(lab, name, address="node.lab.example") for name in ("node2", "node5")),
        [
            (
                "duplicate", "warning", "node2", "has the address node.lab.example of node5",
                "one machine under two names can be reserved twice: correct one address, or bmhctl remove node5",
            )
        ],
    ),
    "one system of a BMC for three, each in another spelling": (
        lambda lab: (
            told(lab, "node2", bmc="redfish+https://BMC.lab.example./redfish/v1/Systems/A"),
            told(lab, "node3", bmc="https://bmc.lab.example:443", bmc_system_id="a", credentials="env:LAB"),
            told(lab, "node5", bmc="http://bmc.lab.example/redfish/v1/Systems/%41/"),
            # nothing shows that they are the same machine
            told(lab, "node1", bmc="https://bmc.lab.example:8443/redfish/v1/Systems/A"),
            told(lab, "node4", bmc="https://bmc.lab.example/redfish/v1/Systems/B"),
            told(lab, "node6", bmc="https://bmc.lab.example/blade6/redfish/v1/Systems/A"),
        ),
        [
            (
                "duplicate", "warning", "node2",
                "has the same system of a BMC, redfish+https://BMC.lab.example./redfish/v1/Systems/A,"
                " as node5 (and 1 more)",
                "one machine under two names can be reserved twice: correct one BMC, or bmhctl remove node5",
            )
        ],
    ),
    "one IPv6 address of a BMC for two": (
        lambda lab: (
            told(lab, "node2", bmc="https://[FD00:0::1]/redfish/v1/"),
            told(lab, "node3", bmc="idrac-redfish://[fd00::1]"),
            told(lab, "node4", bmc="https://[fd00::2]"),
        ),
        [
            (
                "duplicate", "warning", "node2",
                "has the same system of a BMC, https://[FD00:0::1]/redfish/v1/, as node3",
                "one machine under two names can be reserved twice: correct one BMC, or bmhctl remove node3",
            )
        ],
    ),
    "one address of IPMI, which may lead to several machines": (
        lambda lab: tuple(
            told(lab, name, bmc=bmc)
            for name, bmc in (
                ("node1", "ipmi://10.0.0.1:623"),
                ("node2", "ipmi://10.0.0.1:623"),
                ("node3", "ipmi://10.0.0.1"),
                ("node4", "ipmi://10.0.0.1"),
            )
        ),
        [],
    ),
    "times in the future": (
        lambda lab: ("UPDATE events SET at = 1800000000000000 WHERE id IN (1, 2)",),
        [
            (
                "clock", "warning", None, "stored times that are in the future: 2, the latest 2027-01-15 08:00:00 UTC",
                "a clock is wrong now, or was: compare date -u on the machines, because leases end by the clock",
            )
        ],
    ),
    "leases beyond what is allowed": (
        lambda lab: (
            "UPDATE reservations SET expires_at = NULL WHERE id = 'r-3'",
            "UPDATE reservations SET expires_at = expires_at + 900000000000 WHERE id = 'r-6'",
        ),
        [
            (
                "lease", "warning", None, f"reservation r-{number} of bob {words}, longer than this inventory allows",
                f"ask bob whether it is still used; bmhctl release -R r-{number} ends it",
            )
            for number, words in ((3, "has no end"), (6, "lasts until 2026-01-12 02:00 UTC"))
        ],
    ),
    "a row that can't be read": (
        lambda lab: ("UPDATE hosts SET maintenance = '[oops' WHERE name = 'node5'",),
        [
            (
                "row", "broken", "node5", "its maintenance can't be read: '[oops'",
                "restore a backup; or correct that value in the database while no command runs",
            )
        ],
    ),
    "a row of the wrong kind": (
        lambda lab: ("UPDATE hosts SET cordon = '[1, 2]' WHERE name = 'node5'",),
        [
            (
                "row", "broken", "node5",
                "its row can't be read (not enough values to unpack (expected at least 5, got 2))",
                "restore a backup; or correct that value in the database while no command runs",
            )
        ],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", GUESSES)
def test_a_fault_that_needs_a_decision_is_reported_and_not_fixed(case: str, fleet: Lab) -> None:
    breaks, expected = GUESSES[case]
    unchecked(fleet, *breaks(fleet))
    before = everything(fleet)

    diagnosis = examined(fleet, fix=True)

    assert found(diagnosis) == expected
    assert (diagnosis.backup, everything(fleet)) == (None, before)
    broken = [each for each in diagnosis.findings if each.severity == "broken"]
    assert not any(each.fixable or each.fixed for each in diagnosis.findings)
    assert (diagnosis.error.details if diagnosis.error else None) == (
        {"broken": len(broken), "fixable": 0} if broken else None
    )


# tests: what is fixed

FIXES: dict[str, tuple[Broken, list[Found]]] = {
    "another last event than recorded": (
        lambda lab: ("UPDATE hosts SET last_event = 1 WHERE name = 'node4'",),
        [
            (
                "history", "broken", "node4", "its last event is 17, not 1 as recorded",
                "bmhctl doctor --fix records the right one",
            )
        ],
    ),
    "a reservation of a tainted host": (
        lambda lab: ("UPDATE hosts SET reservation = 'r-4' WHERE name = 'node4'",),
        [
            (
                "reservation", "broken", "node4", "is tainted, but names reservation r-4",
                "bmhctl doctor --fix removes it: the history confirms the state",
            )
        ],
    ),
    "a reservation without hosts": (
        lambda lab: ("INSERT INTO reservations (id, owner, created_at, expires_at) VALUES ('r-0', 'eve', 1, 2)",),
        [
            (
                "reservation", "broken", None, "reservation r-0 of eve is open, but holds no host",
                "bmhctl doctor --fix ends it",
            )
        ],
    ),
    "reasons outside maintenance": (
        lambda lab: ("UPDATE hosts SET maintenance = '[[\"eve\",\"fan\",1,null,false]]' WHERE name = 'node2'",),
        [
            (
                "mark", "broken", "node2", "is available, but has reasons for maintenance",
                "bmhctl doctor --fix removes them: the history confirms the state",
            )
        ],
    ),
    "a return to a state that it never had": (
        lambda lab: ("UPDATE hosts SET came_from = 'initial' WHERE name = 'node4'",),
        [
            (
                "mark", "broken", "node4", "is tainted, but is to return from maintenance to initial",
                "bmhctl doctor --fix removes that note: the history confirms the state",
            )
        ],
    ),
    "clean without a cleanup": (
        lambda lab: ("UPDATE hosts SET dirty = 0 WHERE name IN ('node3', 'node4', 'node6')",),
        [
            ("dirt", "broken", "node3", "is reserved, but counts as clean", MARKED_DIRTY),
            ("dirt", "broken", "node4", "is tainted, but counts as clean", MARKED_DIRTY),
            (
                "dirt", "broken", "node6",
                "is in maintenance and counts as clean, but was used (event 16) and not cleaned since", MARKED_DIRTY,
            ),
        ],
    ),
    "a used machine in maintenance": (
        lambda lab: ("INSERT INTO departed (key, mac, at, reason) VALUES ('52:54:00:00:00:05', NULL, 1, 'sold')",),
        [
            (
                "dirt", "broken", "node5",
                "is in maintenance and counts as clean, but the machine with its MAC was dirty when it left (sold)",
                MARKED_DIRTY,
            )
        ],
    ),
    "attributes and results of removed hosts": (
        lambda lab: (
            "INSERT INTO facts (host_id, key, value) VALUES (77, 'arch', 'arm64')",
            "INSERT INTO results (host_id, step, verdict, detail, seconds, at) VALUES (77, 'ping', 'pass', '', 0, 1)",
        ),
        [
            ("orphan", "warning", None, "attributes of removed hosts are left: 1", "bmhctl doctor --fix deletes them"),
            (
                "orphan", "warning", None, "step results of removed hosts are left: 1",
                "bmhctl doctor --fix deletes them",
            ),
        ],
    ),
    "attributes that differ from the declaration": (
        lambda lab: (
            "DELETE FROM facts WHERE host_id = 1",
            "UPDATE facts SET number = 9 WHERE host_id = 2 AND key = 'cpus'",
            "INSERT INTO facts (host_id, key, value) VALUES (3, 'gpu', '')",
        ),
        [
            (
                "facts", "broken", name, f"selectors see other values than declared: {keys}",
                "bmhctl doctor --fix makes them see what is declared",
            )
            for name, keys in (("node1", "arch, cpus"), ("node2", "cpus"), ("node3", "gpu"))
        ],
    ),
    "another policy in force than the one shown": (
        lambda lab: ("UPDATE meta SET value = '{}' WHERE key = 'policy_parsed'",),
        [
            (
                "policy", "broken", None, "the policy in force differs from the policy that policy show prints",
                "bmhctl doctor --fix parses the stored policy again",
            )
        ],
    ),
    "a parsed policy that is not JSON": (
        lambda lab: ("UPDATE meta SET value = '{' WHERE key = 'policy_parsed'",),
        [
            (
                "policy", "broken", None, "the policy in force differs from the policy that policy show prints",
                "bmhctl doctor --fix parses the stored policy again",
            )
        ],
    ),
    "a ticket of a killed process": (
        lambda lab: (
            "INSERT INTO tickets (owner, wants, created_at, refreshed_at, endless) VALUES ('eve', '[]', 1, 1, 0)",
        ),
        [
            (
                "ticket", "note", None, "ticket 1 of eve: the process that waited with it was killed",
                "bmhctl doctor --fix removes it; it delays no other ticket",
            )
        ],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", FIXES)
def test_a_fault_that_needs_no_decision_is_fixed_after_a_backup(case: str, fleet: Lab) -> None:
    breaks, expected = FIXES[case]
    unchecked(fleet, *breaks(fleet))
    before = everything(fleet)

    looked = examined(fleet)
    assert (found(looked), everything(fleet)) == (expected, before)
    assert all(each.fixable for each in looked.findings)

    fixed = examined(fleet, fix=True)
    assert fixed.findings == tuple(replace(each, fixed=True) for each in looked.findings)
    assert fixed.error is None
    assert everything(Lab(Path(str(fixed.backup))))["hosts"] == before["hosts"]
    after = everything(fleet)
    assert (after["events"], [row[1:3] for row in after["hosts"]]) == (
        before["events"],
        [row[1:3] for row in before["hosts"]],
    ), "no event is made up, no host moves"

    again = examined(fleet, fix=True)
    assert (again.backup, [each for each in again.findings if each.fixable or each.fixed]) == (None, [])
    assert everything(fleet) == after
