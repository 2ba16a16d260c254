"""Tickets come before later bookings: no booking makes an older ticket wait longer."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from bmhctl.domain.model import State
from bmhctl.domain.requirements import ReservationRequest, dump_requirements, reservation_request
from bmhctl.domain.selector import parse_selector
from bmhctl.domain.ticket import Ticket
from bmhctl.errors import BusyError
from bmhctl.stores.claims import ticket_claim
from bmhctl.usecases import hosts
from bmhctl.usecases.reservations import bookings, queue, reserve
from bmhctl.usecases.shared.host_selection import Choice
from bmhctl.usecases.steps import step_verbs
from tests.conftest import Lab, copied

NOON = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)


def at(hours: float) -> datetime:
    return NOON + timedelta(hours=hours)


@pytest.fixture
@copied
def fleet(lab: Lab) -> Lab:
    """Two hosts that carol holds: node1 until about 14:00, node2 until about 14:30."""
    hosts.add(lab.context(), ["node[1-2]"], hosts.AttributeChanges())
    step_verbs.ready(lab.context(), Choice(everything=True))
    for name, hours in (("node1", 2.0), ("node2", 2.5)):
        reserve.reserve_or_wait(lab.context("carol"), reservation_request((name,), ttl=timedelta(hours=hours)))
    return lab


@contextmanager
def waiting(lab: Lab, wanted: ReservationRequest) -> Iterator[None]:
    """Add a ticket of bob, like that of a waiting process."""
    ctx = lab.context("bob")
    requirements = dump_requirements(wanted.requirements)
    with ctx.store.transaction():
        ticket = Ticket("bob", requirements, lab.clock.now, lab.clock.now, ttl=wanted.ttl)
        ticket = ctx.store.tickets.add(ticket)
    with ctx.store.claims.share(ticket_claim(ticket.id)):
        yield


def book(lab: Lab, begin: float, end: float, *names: str, count: int | None = None) -> tuple[str, ...]:
    wanted = reservation_request(names, None, count)
    return bookings.book(lab.context("alice"), wanted, at(begin), at(end)).items[0].hosts


def known(lab: Lab) -> tuple[object, object]:
    """Return the bookings, and the time by which bob's ticket fits."""
    etas = [item.eta for item in queue.queue(lab.context()).items]
    return bookings.bookings(lab.context()).items, etas


@pytest.mark.parametrize("looks", range(1, 7))
def test_a_host_whose_step_ends_during_the_choice_of_hosts_is_granted_or_busy(
    looks: int, lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    hosts.add(lab.context(), ["node[1-2]"], hosts.AttributeChanges())
    step_verbs.ready(lab.context(), Choice(everything=True))
    book(lab, 1, 2, "node1")
    ctx = lab.context("carol")
    claims, [node2] = type(ctx.store.claims), [ctx.host("node2").id]
    original, count = claims.claimed_hosts, itertools.count()

    def claimed_at_first(self: Any, known: Collection[int], *rest: Any) -> frozenset[int]:
        claimed = frozenset({node2}) & {*known} if next(count) < looks else frozenset()
        return claimed | original(self, known, *rest)

    monkeypatch.setattr(claims, "claimed_hosts", claimed_at_first)
    with suppress(BusyError):
        grant = reserve.reserve_or_wait(ctx, reservation_request((), None, 1, ttl=timedelta(hours=4)))
        assert [host.name for host in grant.held.hosts] == ["node2"]


def test_a_booking_that_would_make_an_older_ticket_wait_longer_is_refused_and_changes_nothing(fleet: Lab) -> None:
    with waiting(fleet, reservation_request(("node1",), ttl=timedelta(hours=4))):
        before = known(fleet)
        with pytest.raises(BusyError) as refused:
            book(fleet, 3, 5, "node1")
        assert refused.value.message == (
            "nothing was booked: the older ticket of bob would get its hosts by 2026-01-01 17:00 UTC, not by "
            "2026-01-01 14:00 UTC"
        )
        assert refused.value.details["owner"] == "bob"
        assert known(fleet) == before
        assert book(fleet, 6.5, 8, "node1") == ("node1",), "after the lease that bob asks for"


def test_a_booking_is_made_on_hosts_for_which_no_ticket_waits(fleet: Lab) -> None:
    with waiting(fleet, reservation_request((), None, 1, ttl=timedelta(hours=4))):
        before = [item.eta for item in queue.queue(fleet.context()).items]
        assert book(fleet, 3, 5, count=1) == ("node2",)
        assert [item.eta for item in queue.queue(fleet.context()).items] == before
        with pytest.raises(BusyError, match="the older ticket of bob"):
            book(fleet, 3, 5, count=1)


def test_a_booking_gets_the_only_host_that_no_ticket_requires(fleet: Lab) -> None:
    """All other choices would delay the ticket, and there are more of them than bmhctl tries."""
    hosts.add(fleet.context(), ["rack[01-30]"], hosts.AttributeChanges(labels={"gpu": ""}))
    hosts.add(fleet.context(), ["spare"], hosts.AttributeChanges())
    step_verbs.ready(fleet.context(), Choice(states=frozenset({State.INITIAL})))
    wanted = reservation_request((), parse_selector("gpu"), 30)
    reserve.reserve_or_wait(fleet.context("carol"), replace(wanted, ttl=timedelta(hours=2)))
    reserve.reserve_or_wait(fleet.context("carol"), reservation_request(("spare",), ttl=timedelta(hours=2)))
    node_hosts = reservation_request(("node1", "node2"), ttl=timedelta(hours=4))
    with waiting(fleet, replace(wanted, ttl=timedelta(hours=4))), waiting(fleet, node_hosts):
        assert book(fleet, 3, 5, count=1) == ("spare",)
        with pytest.raises(BusyError, match="the older ticket of bob"):
            book(fleet, 3, 5, count=1)


def test_a_booking_delays_no_ticket_far_behind_in_the_queue(fleet: Lab) -> None:
    hosts.add(fleet.context(), ["node3"], hosts.AttributeChanges())
    step_verbs.ready(fleet.context(), Choice(("node3",)))
    reserve.reserve_or_wait(fleet.context("carol"), reservation_request(("node3",), ttl=timedelta(hours=2)))
    with ExitStack() as stack:
        for _ in range(30):
            stack.enter_context(waiting(fleet, reservation_request(("node1",), ttl=timedelta(hours=1))))
        stack.enter_context(waiting(fleet, reservation_request(("node3",), ttl=timedelta(hours=4))))
        with pytest.raises(BusyError, match="the older ticket of bob"):
            book(fleet, 3, 5, "node3")


def test_a_booking_that_delays_no_ticket_is_made(fleet: Lab) -> None:
    with waiting(fleet, reservation_request(("node1",))):  # it names no length, so it may get a shorter lease
        assert book(fleet, 3, 5, "node1") == ("node1",)
    with waiting(fleet, reservation_request(("node2",), ttl=timedelta(hours=4))):
        assert book(fleet, 5, 6, "node1") == ("node1",)


def test_moving_a_booking_never_delays_an_older_ticket(fleet: Lab) -> None:
    book(fleet, 9, 11, "node1")
    [made] = bookings.bookings(fleet.context()).items
    with waiting(fleet, reservation_request(("node1",), ttl=timedelta(hours=4))):
        with pytest.raises(BusyError, match="the older ticket of bob"):
            bookings.reschedule(fleet.context("alice"), made.booking.id, at(3))
        assert bookings.bookings(fleet.context()).items == (made,)
        bookings.reschedule(fleet.context("alice"), made.booking.id, at(7))


def test_the_hint_of_a_refused_booking_can_be_followed(fleet: Lab) -> None:
    """Times are shown in whole minutes, but a booking may end within a minute."""
    first = bookings.book(
        fleet.context("carol"), reservation_request(("node1",)), at(5), at(6) + timedelta(seconds=20)
    ).items[0]
    with pytest.raises(BusyError) as refused:
        book(fleet, 5.5, 6.5, "node1")
    assert refused.value.hint == "free for that long: --from '2026-01-01T18:01Z'"
    assert book(fleet, 6 + 1 / 60, 7, "node1") == first.hosts


def test_no_booking_moves_to_a_host_set_aside_for_an_older_ticket(fleet: Lab) -> None:
    hosts.add(fleet.context(), ["node[3-4]"], hosts.AttributeChanges(labels={"rack": "r3"}))
    step_verbs.ready(fleet.context(), Choice(("node3", "node4")))
    wanted = reservation_request((), parse_selector("rack=r3"), 1)
    [made] = bookings.book(fleet.context("alice"), wanted, at(2), at(5)).items
    asked = reservation_request(made.hosts, ttl=timedelta(hours=4))
    other = "node4" if made.hosts == ("node3",) else "node3"
    with waiting(fleet, reservation_request(("node1", other), ttl=timedelta(hours=4))):
        with pytest.raises(BusyError, match="free only until"):
            reserve.reserve_or_wait(fleet.context("dave"), asked)
        assert bookings.bookings(fleet.context()).items == (made,)
    assert reserve.reserve_or_wait(fleet.context("dave"), asked).held.hosts[0].name == made.hosts[0]
    assert bookings.bookings(fleet.context()).items[0].hosts == (other,)
