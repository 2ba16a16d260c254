"""A clock that is set by seconds, by an hour or by years: a lease never has more time left than it was granted."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from bmhctl.api import Inventory
from bmhctl.domain.model import Event, Reservation, State
from bmhctl.domain.requirements import dump_requirements, reservation_request
from bmhctl.domain.ticket import Ticket
from bmhctl.results import Held
from bmhctl.stores import migrations
from bmhctl.stores.claims import ticket_claim
from bmhctl.stores.host_query import HostQuery
from bmhctl.stores.migrations import MIGRATIONS
from bmhctl.stores.schema import CLOCK_SLACK
from bmhctl.stores.sqlite import database as sqlite_database
from bmhctl.usecases import hosts, inventories
from bmhctl.usecases.reservations import fairness, holder
from bmhctl.usecases.shared.host_selection import Choice
from bmhctl.usecases.shared.refresh import refresh_and_reap
from bmhctl.usecases.steps import step_verbs
from tests.conftest import BACKENDS, SUFFIX, Bmhctl, Lab, made_in
from tests.faults.figures import Figures

HOUR = timedelta(hours=1)
WRONG = {"an hour": HOUR, "a day": 24 * HOUR, "three years": timedelta(days=3 * 365)}


@pytest.fixture(params=BACKENDS)
def lab(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Lab]:
    """An empty inventory, once on each backend."""
    yield from made_in(request.param, tmp_path)


@pytest.fixture
def fleet(lab: Lab) -> Lab:
    """Four hosts that are available; leases of an hour, a day at most."""
    lab.policy('[defaults]\nttl = "1h"\nmax_ttl = "1d"\n')
    hosts.add(lab.context(), ["node[1-4]"], hosts.AttributeChanges())
    step_verbs.ready(lab.context(), Choice(everything=True))
    return lab


def backend(lab: Lab) -> str:
    return next(backend for backend, suffix in SUFFIX.items() if suffix == lab.path.name)


def as_(lab: Lab, actor: str) -> Inventory:
    return Inventory(lab.context(actor))


def lease(lab: Lab, reservation_id: str) -> Reservation:
    known = lab.context().store.reservations.get(reservation_id)
    assert known is not None
    return known


def left(lab: Lab, reservation_id: str) -> timedelta:
    """Return how long a lease still lasts, in whole seconds."""
    end = lease(lab, reservation_id).expires_at
    assert end is not None
    return timedelta(seconds=round((end - lab.clock.now).total_seconds()))


def events(lab: Lab) -> list[Event]:
    return list(lab.context().store.events.read())


def states(lab: Lab) -> list[State]:
    return [host.state for host in lab.context().store.hosts.find(HostQuery())]


def set_aside(lab: Inventory) -> Held:
    held = lab.reserve("node1")
    lab.maintain("node1", reason="disk")
    return held


GRANTS: dict[str, Callable[[Inventory], Held]] = {
    "reserved": lambda lab: lab.reserve("node1"),
    "extended": lambda lab: lab.extend(lab.reserve("node1", ttl="10m").reservation.id, "1h"),
    "handed over": lambda lab: lab.handover(lab.reserve("node1").reservation.id, "carol"),
    "in maintenance": set_aside,
}


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("how", GRANTS)
def test_a_lease_granted_while_the_clock_was_ahead_ends_after_its_length(
    fleet: Lab, how: str, wrong: str, figures: Figures
) -> None:
    right = fleet.clock.now
    fleet.clock.move(seconds=WRONG[wrong].total_seconds())
    held = GRANTS[how](as_(fleet, "alice")).reservation.id
    fleet.clock.now = right
    assert left(fleet, held) == HOUR + WRONG[wrong], "as it was granted"

    as_(fleet, "bob").cordon("node4")  # any command that writes
    lasts = left(fleet, held)
    fleet.clock.now = right + HOUR - timedelta(seconds=1)
    early = as_(fleet, "bob").reap()
    fleet.clock.move(seconds=2)
    ended = as_(fleet, "bob").reap()

    lives_on = int(lasts > HOUR or not ended)
    figures("clock set back", backend(fleet), tries=1, faults=1, losses=lives_on + len(early))
    assert (lasts, early, [one.reservation.id for one in ended]) == (HOUR, (), [held])


def test_setting_the_clock_back_during_a_lease_is_recorded_in_the_history(fleet: Lab) -> None:
    fleet.clock.move(hours=5)
    held = as_(fleet, "alice").reserve(count=2).reservation
    fleet.clock.move(hours=-5)

    as_(fleet, "bob").reap()

    for name in ("node1", "node2"):
        last = as_(fleet, "bob").history(name)[-1]
        assert (last.actor, last.verb, last.source, last.dest) == ("bmhctl", "extend", "reserved", "reserved")
        assert last.reason == "until 2026-01-01 13:00:00 UTC: the clock was set back by at least 4h59m"
        assert last.reservation == held.id
    before = events(fleet)
    as_(fleet, "bob").reap()
    assert events(fleet) == before, "once is enough"


@pytest.mark.parametrize("seconds", [0.001, 1, 5, CLOCK_SLACK.total_seconds() - 1])
def test_a_small_step_back_changes_nothing(fleet: Lab, seconds: float, figures: Figures) -> None:
    held = as_(fleet, "alice").reserve("node1").reservation
    before = events(fleet)
    fleet.clock.move(seconds=-seconds)

    as_(fleet, "bob").reap()
    as_(fleet, "bob").cordon("node4")

    is_changed = lease(fleet, held.id) != held
    figures("clock set back", backend(fleet), tries=1, faults=1, losses=int(is_changed))
    assert not is_changed
    assert [event for event in events(fleet) if event.verb != "cordon"] == before


@pytest.mark.parametrize("forward", [1, 24])
def test_a_clock_set_ahead_taints_exactly_the_hosts_of_expired_leases(
    fleet: Lab, forward: int, figures: Figures
) -> None:
    alice = as_(fleet, "alice")
    ttls = ["30m", "1h", "61m", "1d"]
    ids = [alice.reserve(f"node{number}", ttl=ttl).reservation.id for number, ttl in enumerate(ttls, 1)]
    ends = {one: lease(fleet, one).expires_at for one in ids}
    fleet.clock.move(hours=forward)

    ended = {one.reservation.id for one in as_(fleet, "bob").reap()}

    over = {one for one, end in ends.items() if end is not None and end <= fleet.clock.now}
    figures("clock set forward", backend(fleet), tries=len(ids), faults=1, losses=len(ended ^ over))
    assert ended == over == set(ids[: 2 if forward == 1 else 4])
    assert states(fleet) == ["tainted"] * len(over) + ["reserved"] * (4 - len(over))
    assert [lease(fleet, one).expires_at for one in ids] == list(ends.values())


def test_setting_the_clock_ahead_and_back_lengthens_no_lease(fleet: Lab) -> None:
    held = as_(fleet, "alice").reserve("node1", ttl="4h").reservation
    fleet.clock.move(hours=1)
    as_(fleet, "alice").extend(held.id, "4h")
    fleet.clock.move(hours=-1)
    as_(fleet, "bob").reap()
    assert left(fleet, held.id) == 4 * HOUR


def test_a_lease_without_end_survives_any_change_of_the_clock(lab: Lab) -> None:
    lab.policy('[defaults]\nttl = "none"\nmax_ttl = "none"\n')
    hosts.add(lab.context(), ["node1"], hosts.AttributeChanges())
    step_verbs.ready(lab.context(), Choice(everything=True))
    lab.clock.move(days=1000)
    held = as_(lab, "alice").reserve("node1").reservation
    before = events(lab)
    for days in (-1000, 2000):
        lab.clock.move(days=days)
        as_(lab, "bob").reap()
    assert (lease(lab, held.id), events(lab)) == (held, before)


def test_a_renewed_lease_keeps_its_length_when_the_clock_is_set_back(fleet: Lab) -> None:
    held = as_(fleet, "alice").reserve("node1").reservation
    fleet.clock.move(minutes=30)
    holder.extend(fleet.context("alice"), held.id, silent=True)  # `run` renews in this way
    fleet.clock.move(minutes=-20)
    as_(fleet, "bob").reap()
    assert left(fleet, held.id) == HOUR


def test_a_ticket_from_a_clock_that_was_ahead_does_not_block_the_queue(fleet: Lab) -> None:
    ctx = fleet.context("stopped")
    wants = dump_requirements(reservation_request(count=4).requirements)
    fleet.clock.move(days=365)
    with ctx.store.transaction():
        ticket = ctx.store.tickets.add(Ticket("stopped", wants, fleet.clock.now, fleet.clock.now))
    with ctx.store.claims.share(ticket_claim(ticket.id)):
        assert [one.id for one in fairness.live_tickets(ctx)] == [ticket.id]
        fleet.clock.move(days=-365)
        assert fairness.live_tickets(ctx) == []
        assert as_(fleet, "alice").reserve(count=4).hosts


def test_every_command_works_with_events_that_lie_in_the_future(fleet: Lab, bmhctl: Bmhctl, figures: Figures) -> None:
    fleet.clock.now = datetime.now(UTC) + timedelta(days=1000)
    alice = as_(fleet, "alice")
    alice.reserve("node1", ttl="1d", purpose="from the future")
    alice.reserve("node2")
    alice.maintain("node2", reason="disk")
    alice.cordon("node3", reason="power")
    fleet.close()

    lines = [
        *(["list"], ["status"], ["why", "node1"], ["show", "node2"], ["history", "node1"], ["reservations"]),
        *(["queue"], ["graph", "node1"], ["export"], ["list", "-o", "json"], ["reap", "--dry-run"], ["reap"]),
        *(["list", "--sort", "until"], ["reserve", "node4"], ["resume", "node2"], ["release", "node1"]),
    ]
    ends = {" ".join(line): bmhctl("-i", fleet.location, *line) for line in lines}

    failed = {line: end for line, end in ends.items() if end.status != 0}
    figures("clock set back", backend(fleet), tries=len(lines), faults=1, losses=len(failed))
    assert failed == {}
    assert not [end.stderr for end in ends.values() if "Traceback" in end.stderr]
    fleet.clock.now = datetime.now(UTC)
    over = [one for one in as_(fleet, "bob").reservations() if one.reservation.expires_at > fleet.clock.now + 24 * HOUR]  # type: ignore[operator]  # each lease here has an end
    assert over == []


def test_looking_for_expired_leases_costs_one_query_with_two_index_searches(tmp_path: Path) -> None:
    lab = Lab(tmp_path / "lab.db")
    inventories.init(lab.location)
    lab_context = lab.context()
    refresh_and_reap(lab_context)
    asked: list[str] = []
    execute = lab_context.store.database.execute

    def counted(sql: str, parameters: Sequence[str | int | float | None] = ()) -> object:
        asked.append(sql)
        return execute(sql, parameters)

    lab_context.store.database.execute = counted  # type: ignore[method-assign,assignment]  # a spy
    refresh_and_reap(lab_context)
    (sql,) = [sql for sql in asked if " reservations " in sql]
    plan = [str(row[-1]) for row in execute(f"EXPLAIN QUERY PLAN {sql}", [0, 0, 0])]
    assert not [line for line in plan if line.startswith("SCAN reservations")], plan
    assert len([line for line in plan if line.startswith("SEARCH reservations USING INDEX")]) == 2
    assert len([line for line in plan if line.startswith("SEARCH bookings USING")]) == 1, plan
    lab.close()


def test_an_older_inventory_without_renewal_times_counts_a_lease_from_its_grant(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = Lab(tmp_path / "old.db")
    with monkeypatch.context() as before:
        before.setattr(migrations, "MIGRATIONS", MIGRATIONS[:3])
        before.setattr(sqlite_database, "VERSION", 3)
        inventories.init(str(lab.path))
    made = lab.clock.now + timedelta(days=1000)
    at, end = (int(moment.timestamp() * 1_000_000) for moment in (made, made + HOUR))
    with sqlite3.connect(lab.path) as raw:
        raw.execute(
            "INSERT INTO reservations (id, owner, created_at, expires_at, ttl) VALUES ('r-old', 'alice', ?, ?, 3600)",
            [at, end],
        )
        raw.execute(
            "INSERT INTO hosts (name, state, since, dirty, undeclared, failed_cleanups, reservation, last_event, "
            "labels, hardware) VALUES ('node1', 'reserved', ?, 1, 0, 0, 'r-old', 0, '{}', '{}')",
            [at],
        )
    raw.close()

    as_(lab, "bob").reap()

    assert left(lab, "r-old") == HOUR
    lab.close()
