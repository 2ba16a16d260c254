"""The status of the fleet on every backend: the first items of each list, and the total number."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from bmhctl.domain.model import State
from bmhctl.domain.requirements import Requirement, dump_requirements, reservation_request
from bmhctl.domain.ticket import Ticket
from bmhctl.errors import InvalidError
from bmhctl.stores.claims import ticket_claim
from bmhctl.stores.migrations import MIGRATIONS
from bmhctl.usecases import hosts, lifecycle_verbs, queries
from bmhctl.usecases.planned_maintenance import plan_maintenance
from bmhctl.usecases.reservations import bookings
from bmhctl.usecases.reservations.reserve import reserve_or_wait
from bmhctl.usecases.shared.host_selection import Choice
from bmhctl.usecases.status import status
from bmhctl.usecases.steps import resume, step_verbs
from tests.broken_inventories import examined, unchecked
from tests.conftest import Lab, copied


@pytest.fixture
@copied
def fleet(lab: Lab) -> Lab:
    """Nine hosts, all available."""
    hosts.add(
        lab.context(), [f"node{number}" for number in range(1, 10)], hosts.AttributeChanges(labels={"arch": "arm64"})
    )
    step_verbs.ready(lab.context(), Choice(everything=True), jobs=1)
    lab.close()
    return lab


def reserve(lab: Lab, name: str, hours: int) -> str:
    asked = reservation_request((name,), ttl=timedelta(hours=hours))
    return reserve_or_wait(lab.context(), asked).held.reservation.id


def test_held_hosts_are_listed_oldest_first_and_endings_soonest_first(fleet: Lab) -> None:
    late, last, soon = reserve(fleet, "node1", 9), reserve(fleet, "node2", 60), reserve(fleet, "node3", 1)
    lifecycle_verbs.maintain(
        fleet.context(), Choice(("node4",)), reason="fan", until=fleet.clock.now + timedelta(hours=2)
    )
    lifecycle_verbs.maintain(
        fleet.context(), Choice(("node4",)), reason="disk", until=fleet.clock.now + timedelta(hours=5)
    )
    lifecycle_verbs.maintain(fleet.context(), Choice(("node5",)), reason="no end in sight")
    seen = status(fleet.context())
    assert [(held.reservation.id, [host.name for host in held.hosts]) for held in seen.held] == [
        (late, ["node1"]),
        (last, ["node2"]),
        (soon, ["node3"]),
    ]
    assert [(ending.what, ending.hosts) for ending in seen.endings] == [
        (f"lease {soon} of alice", ("node3",)),
        ("maintenance: disk", ("node4",)),
        (f"lease {late} of alice", ("node1",)),
        (f"lease {last} of alice", ("node2",)),
    ]
    assert (seen.free, seen.counts[State.MAINTENANCE], seen.total("held"), seen.total("endings")) == (4, 2, 3, 4)
    resume.resume(fleet.context(), Choice(("node4",)), everyones=True)
    assert [ending.hosts for ending in status(fleet.context()).endings] == [("node3",), ("node1",), ("node2",)]


def test_an_expired_lease_is_reported_until_a_command_ends_it(fleet: Lab) -> None:
    token = reserve(fleet, "node1", 1)
    fleet.clock.move(hours=2)
    seen = status(fleet.context())
    assert (seen.expired, seen.endings, seen.total("expired")) == ((token,), (), 1)


def test_a_host_that_cannot_be_reserved_is_not_counted_as_free(fleet: Lab) -> None:
    lifecycle_verbs.cordon(fleet.context(), Choice(("node1", "node2", "node9")))
    reserve(fleet, "node8", 1)
    lifecycle_verbs.cordon(fleet.context(), Choice(("node8",)))
    if fleet.is_toml:
        fleet.path.write_text(fleet.path.read_text().replace("[hosts.node9]", "[hosts.other]"))
    seen = status(fleet.context())
    assert seen.cordoned == ("node1", "node2", "node8", "node9")
    assert seen.undeclared == (("node9",) if fleet.is_toml else ())
    assert seen.free == 5


def test_a_host_set_aside_for_a_ticket_is_not_counted_as_free(fleet: Lab) -> None:
    ctx = fleet.context("bob")
    now = ctx.clock()
    ticket = ctx.store.tickets.add(
        Ticket(owner="bob", requirements=dump_requirements((Requirement(count=12),)), created_at=now, refreshed_at=now)
    )
    with ctx.store.claims.share(ticket_claim(ticket.id)):
        seen = status(fleet.context())
        assert (seen.waiting, seen.free) == (1, 9)  # this request can never be met, so it gets no ticket
        ctx.store.tickets.remove(ticket.id)
    small = ctx.store.tickets.add(
        Ticket(owner="bob", requirements=dump_requirements((Requirement(count=4),)), created_at=now, refreshed_at=now)
    )
    with ctx.store.claims.share(ticket_claim(small.id)):
        seen = status(fleet.context())
        assert (seen.waiting, seen.free) == (1, 5)
    ctx.store.tickets.remove(small.id)


def test_plans_are_listed_in_the_order_of_their_start(fleet: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    assert status(fleet.context()).planned == ()
    monkeypatch.setattr("bmhctl.usecases.status.SHOWN", 3)
    now = fleet.clock.now

    def book(begin: int, *names: str) -> str:
        times = now + timedelta(hours=begin), now + timedelta(hours=begin + 1)
        return bookings.book(fleet.context(), reservation_request(names), *times).items[0].booking.id

    later, first = book(9, "node1", "node2"), book(1, "node2", "node3")
    power = now + timedelta(hours=4), now + timedelta(hours=6)
    plan_maintenance(fleet.context(), Choice(("node4", "node5")), *power, reason="power work")
    last = book(12, "node1")
    lifecycle_verbs.cordon(fleet.context(), Choice(("node2", "node4")))
    hosts.remove(fleet.context(), Choice(("node3",)), reason="sold", force=True)
    seen = status(fleet.context())
    assert [(item.booking.purpose or item.booking.id, item.hosts, item.trouble) for item in seen.planned] == [
        (first, ("node2",), ("node2",)),
        ("power work", ("node4", "node5"), ()),
        (later, ("node1", "node2"), ("node2",)),
    ]
    assert {name: seen.totals[name] for name in ("planned", "bookings", "maintenances")} == {
        "planned": 4,
        "bookings": 3,
        "maintenances": 1,
    }
    bookings.cancel(fleet.context(), last)
    assert status(fleet.context()).total("planned") == 3


def test_a_status_has_the_first_few_of_each_list_and_the_totals_of_all(
    fleet: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bmhctl.usecases.status.SHOWN", 2)
    for number in range(1, 5):
        reserve(fleet, f"node{number}", number)
    lifecycle_verbs.taint(fleet.context(), Choice(("node1", "node2", "node3")), fault="fan")
    for number in range(5, 8):
        reserve(fleet, f"node{number}", number)
    lifecycle_verbs.cordon(fleet.context(), Choice(("node1", "node4", "node8")))
    seen = status(fleet.context())
    lists = ("held", "endings", "cordoned", "faults")
    assert {name: (len(getattr(seen, name)), seen.total(name)) for name in lists} == {
        "held": (2, 4),
        "endings": (2, 4),
        "cordoned": (2, 3),
        "faults": (2, 3),
    }
    assert [held.hosts[0].name for held in seen.held] == ["node4", "node5"]


def test_the_expected_end_of_a_maintenance_survives_a_migration_and_a_repair(
    fleet: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # the folder for the backup of a server's inventory
    lifecycle_verbs.maintain(
        fleet.context(), Choice(("node4",)), reason="fan", until=fleet.clock.now + timedelta(hours=2)
    )
    lifecycle_verbs.maintain(fleet.context(), Choice(("node5",)), reason="no end in sight")
    kept = status(fleet.context()).endings
    assert [ending.hosts for ending in kept] == [("node4",)]
    unchecked(fleet, "UPDATE hosts SET back_at = NULL")
    assert status(fleet.context()).endings == ()
    assert [(each.kind, each.host, each.fixed) for each in examined(fleet, fix=True).findings if each.fixable] == [
        ("mark", "node4", True)
    ]
    assert status(fleet.context()).endings == kept
    unchecked(fleet, "UPDATE hosts SET back_at = NULL")
    database = fleet.context().store.database
    [counts] = [migration for migration in MIGRATIONS if migration.name == "glance"]
    for statement in counts.in_file if database.files else counts.on_server:  # like the migration of an older inventory
        list(database.execute(statement))
    assert status(fleet.context()).endings == kept


def test_a_step_result_that_cannot_be_read_is_an_error_with_a_hint(lab: Lab) -> None:
    hosts.add(lab.context(), ["node01"], hosts.AttributeChanges())
    unchecked(
        lab,
        "INSERT INTO results (host_id, phase, step, verdict, detail, seconds, at)"
        " SELECT id, 'checks', 'ping', 'perhaps', '', 0, 1 FROM hosts",
    )
    with pytest.raises(InvalidError, match="the row of step result ping can't be read") as refused:
        queries.show(lab.context(), "node01")
    assert refused.value.hint == "bmhctl doctor reports what is wrong with it"
