"""The time by which a request fits: compared with a simulation of every minute, and in the output on every backend."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bmhctl.domain.limits import Limit, Use
from bmhctl.domain.matching import Cap, match
from bmhctl.domain.model import Host, HostSpec, Planned, State
from bmhctl.domain.requirements import Requirements, parse_requirement, reservation_request
from bmhctl.domain.selector import parse_selector
from bmhctl.domain.units import by_minute, local_time
from bmhctl.errors import BusyError, WaitTimeoutError
from bmhctl.usecases import hosts, lifecycle_verbs
from bmhctl.usecases.planned_maintenance import plan_maintenance
from bmhctl.usecases.reservations import bookings, queue, reserve
from bmhctl.usecases.reservations.forecast import Claim, Freeing, forecast
from bmhctl.usecases.reservations.queue_watch import Waiting
from bmhctl.usecases.reservations.waiting import WaitOptions
from bmhctl.usecases.shared import expiry
from bmhctl.usecases.shared.host_selection import Choice
from bmhctl.usecases.steps import step_verbs
from tests.conftest import Lab, copied

NOW = datetime(2026, 1, 1, tzinfo=UTC)
HORIZON = 60


def at(minutes: int) -> datetime:
    return NOW + timedelta(minutes=minutes)


def wants(text: str) -> Requirements:
    return (parse_requirement(text),)


LIMIT = Limit("one", "o1", parse_selector("a"), max_hosts=1, max_ttl=timedelta(minutes=4))

fleets = st.lists(
    st.tuples(
        st.sampled_from(["", "a", "b", "ab"]),
        st.integers(0, 6),
        st.lists(st.tuples(st.booleans(), st.integers(0, 12), st.integers(1, 5)), max_size=2),
    ),
    max_size=4,
)
queues = st.lists(
    st.builds(
        Claim,
        st.sampled_from(["o1", "o2"]),
        st.sampled_from(["*1", "*2", "a*1", "a*2", "b*1", "b*2"]).map(wants),
        st.one_of(st.none(), st.integers(1, 6).map(lambda minutes: timedelta(minutes=minutes))),
        st.one_of(st.none(), st.integers(1, 9).map(at)),
        st.booleans(),
        st.booleans(),
    ),
    min_size=1,
    max_size=4,
)


class Simulated:
    """A simulation of every minute: in each, the queue is served in its order until no ticket gets hosts."""

    def __init__(self, fleet: list[Freeing], claims: list[Claim], limits: list[Limit], turnaround: int) -> None:
        self.claims, self.limits, self.turnaround = claims, limits, turnaround
        self.hosts = {each.host.id: each.host for each in fleet}
        self.free_from = {each.host.id: minutes(each.free_at) for each in fleet}
        self.used = {each.host.id: each.used_at for each in fleet}
        self.leases: list[tuple[str, int, datetime]] = []
        self.granted: list[datetime | None] = [None] * len(claims)

    def run(self) -> list[datetime | None]:
        for minute in range(HORIZON):
            while self.grants_one(minute):
                pass
        return self.granted

    def room(self, host: int, minute: int) -> int | None:
        """Return for how many minutes a host can be leased, or None if it is taken."""
        spans = self.hosts[host].planned
        taken = any(
            minutes(each.starts_at) <= minute < minutes(each.ends_at) + (self.turnaround if each.is_booking else 0)
            for each in spans
        )
        if taken or self.free_from[host] > minute:
            return None
        begins = [minutes(each.starts_at) for each in spans if minutes(each.starts_at) > minute]
        return min(begins, default=10**6) - self.turnaround - minute

    def caps(self, owner: str, now: datetime) -> list[Cap]:
        return [
            Cap(each.selector, max(0, (each.max_hosts or 0) - self.held(owner, each, now)))
            for each in self.limits
            if each.concerns(owner)
        ]

    def held(self, owner: str, limit: Limit, now: datetime) -> int:
        return sum(who == owner and end > now and limit.counts(self.hosts[host].spec) for who, host, end in self.leases)

    def grants_one(self, minute: int) -> bool:
        """Serve the queue; return whether a ticket got its hosts."""
        now = at(minute)
        left = [host for _, host in sorted((self.used[host], host) for host in self.hosts)]
        left = [host for host in left if self.room(host, minute) is not None]
        for number, claim in enumerate(self.claims):
            if self.granted[number] is not None or (claim.deadline is not None and claim.deadline <= now):
                continue
            caps = self.caps(claim.owner, now)
            length = 10**5 if claim.ttl is None else claim.ttl // timedelta(minutes=1)
            rooms = {host: self.room(host, minute) or 0 for host in left}
            whole = sorted((host for host in left if rooms[host] >= length), key=lambda host: rooms[host])
            found = match(claim.requirements, [self.hosts[host] for host in whole], caps)
            if found.missing and claim.may_be_short:
                short = sorted((host for host in left if rooms[host] >= 1), key=lambda host: -rooms[host])
                found = match(claim.requirements, [self.hosts[host] for host in short], caps)
            if not found.missing:
                self.grant(number, [host.id for host in found.hosts], minute, rooms)
                return True
            is_stuck = bool(caps) and match(claim.requirements, [*self.hosts.values()], caps).missing
            if claim.holds and not is_stuck:
                left = [host for host in left if host not in {one.id for one in found.hosts}]
        return False

    def grant(self, number: int, hosts: list[int], minute: int, rooms: dict[int, int]) -> None:
        claim = self.claims[number]
        ends = [minute + rooms[host] for host in hosts if self.hosts[host].planned] + [10**5]
        if claim.ttl is not None:
            ends.append(minute + claim.ttl // timedelta(minutes=1))
        if any(each.concerns(claim.owner) and each.of([self.hosts[host] for host in hosts]) for each in self.limits):
            ends.append(minute + 4)
        self.granted[number] = at(minute)
        for host in hosts:
            self.free_from[host] = min(ends) + self.turnaround
            self.used[host] = at(min(ends))
            self.leases.append((claim.owner, host, at(min(ends))))


def minutes(moment: datetime) -> int:
    return (moment - NOW) // timedelta(minutes=1)


def spans(rows: list[tuple[bool, int, int]], free_at: int) -> tuple[Planned, ...]:
    """Return the planned times of a host, one after the other, beginning when the host is free."""
    found: list[Planned] = []
    begin = free_at
    for number, (is_booking, wait, length) in enumerate(rows):
        begin += wait + 3 * bool(found)
        found.append(Planned(f"{'b' if is_booking else 'm'}-{number}", "o3", at(begin), at(begin + length)))
        begin += length
    return tuple(found)


@given(fleets, queues, st.booleans(), st.integers(0, 2))
def test_the_forecast_is_the_same_as_that_of_a_simulation_of_every_minute(
    fleet: list[tuple[str, int, list[tuple[bool, int, int]]]], claims: list[Claim], is_limited: bool, turnaround: int
) -> None:
    found = [
        Freeing(
            Host(
                HostSpec(f"node{number}", labels=dict.fromkeys(labels, "")),
                State.RESERVED,
                NOW,
                planned=spans(planned, minute),
                id=number,
            ),
            at(minute),
            at(minute),
        )
        for number, (labels, minute, planned) in enumerate(fleet, 1)
    ]
    limits = [LIMIT] if is_limited else []

    forecasted = forecast(NOW, found, claims, limits=limits, turnaround=timedelta(minutes=turnaround))

    assert forecasted == Simulated(found, claims, limits, turnaround).run()


def test_reservations_of_an_owner_count_against_its_limit_until_they_end() -> None:
    host = Host(HostSpec("node1", labels={"a": ""}), State.AVAILABLE, NOW, id=1)
    other = Host(HostSpec("node2", labels={"a": ""}), State.RESERVED, NOW, id=2)
    claim = Claim("o1", wants("a*1"), None)
    free = [Freeing(host, NOW, NOW)]

    assert forecast(NOW, free, [claim], limits=[LIMIT], uses=[Use("o1", (other,), NOW, at(7))]) == [at(7)]
    assert forecast(NOW, free, [claim], limits=[LIMIT], uses=[Use("o1", (other,), NOW, None)]) == [None]


@pytest.fixture
@copied
def fleet(lab: Lab) -> Lab:
    """Three hosts, reserved for one, two and three hours."""
    hosts.add(lab.context(), ["node[1-3]"], hosts.AttributeChanges(labels={"rack": "r1"}))
    step_verbs.ready(lab.context(), Choice(everything=True))
    for hours in (1, 2, 3):
        asked = reservation_request((f"node{hours}",), ttl=timedelta(hours=hours))
        reserve.reserve_or_wait(lab.context(f"holder{hours}"), asked)
    return lab


def refused(lab: Lab, count: int, selector: str = "") -> BusyError:
    with pytest.raises(BusyError) as error:
        reserve.reserve_or_wait(lab.context(), reservation_request((), parse_selector(selector), count))
    return error.value


def test_a_busy_refusal_names_the_time_by_which_the_request_fits(fleet: Lab) -> None:
    ends = [each.expires_at for each in fleet.context().store.reservations.open()]

    for count in (1, 2, 3):
        end = ends[count - 1]
        assert end is not None
        error = refused(fleet, count, "rack=r1")
        assert error.message.endswith(f"it fits by {local_time(by_minute(end))} at the latest, if no lease is extended")
        assert error.details["eta"] == end.isoformat().replace("+00:00", "Z")


def test_the_eta_counts_by_role_only_where_there_are_roles(fleet: Lab) -> None:
    role = fleet.context().store.database.role or "alice"
    hosts.add(fleet.context(), ["node4"], hosts.AttributeChanges())
    step_verbs.ready(fleet.context(), Choice(("node4",)))
    asked = reservation_request(("node4",), ttl=timedelta(hours=2))
    reserve.reserve_or_wait(fleet.context(f"{role}@desk"), asked)
    fleet.policy('[limits.each]\nowner = "role"\nmax_hosts = 1\n')

    seen: list[object] = []

    def look(seconds: float, _: int | None) -> None:
        with fleet.visit(f"{role}@lab") as ctx, pytest.raises(BusyError) as error:
            reserve.reserve_or_wait(ctx, reservation_request(("node2",)))
        seen.append(error.value.details["eta"])
        raise KeyboardInterrupt

    long = reservation_request(("node1",), ttl=timedelta(hours=9))
    ends = {each.owner: each.expires_at for each in fleet.context().store.reservations.open()}
    with pytest.raises(KeyboardInterrupt):
        reserve.reserve_or_wait(fleet.context(f"{role}@queue"), long, WaitOptions(look))

    has_roles = fleet.context().store.database.role is not None
    end = ends[f"{role}@desk" if has_roles else "holder2"]
    assert end is not None
    eta = end + timedelta(hours=9) if has_roles else end
    assert seen[0] == eta.isoformat().replace("+00:00", "Z")


def test_the_eta_is_unknown_where_a_host_needs_an_operator(fleet: Lab) -> None:
    lifecycle_verbs.maintain(fleet.context(), Choice(("node1",)), reason="dead fan")
    lifecycle_verbs.release(fleet.context(), Choice(("node2",)), force=True, reason="drill")

    assert refused(fleet, 1).details["eta"] is not None
    error = refused(fleet, 2)
    assert "fits" not in error.message
    assert error.details["eta"] is None


def test_a_ticket_and_its_progress_show_an_eta_behind_earlier_tickets(fleet: Lab) -> None:
    seen: list[list[datetime | None]] = []
    told: list[Waiting] = []
    ends = [each.expires_at for each in fleet.context().store.reservations.open()]

    def look(seconds: float, _: int | None) -> None:
        if len(fleet.context().store.tickets.all()) == 1:
            with fleet.visit("second") as ctx, pytest.raises(WaitTimeoutError):
                reserve.reserve_or_wait(ctx, reservation_request(count=2), WaitOptions(deeper, timedelta(seconds=20)))
        fleet.clock.move(seconds=max(1, seconds))

    def deeper(seconds: float, _: int | None) -> None:
        seen.append([item.eta for item in queue.queue(fleet.context()).items])
        fleet.clock.move(seconds=max(1, seconds))

    patience = WaitOptions(look, timedelta(seconds=60), told.append)
    with pytest.raises(WaitTimeoutError):
        reserve.reserve_or_wait(fleet.context("first"), reservation_request(count=1, ttl=timedelta(hours=9)), patience)

    assert seen[0] == [ends[0], ends[1]]
    assert told[0].eta == ends[0]


def told(lab: Lab, **more: object) -> datetime | None:
    """Return the time at which one host of rack r1 is free, as a refusal says."""
    with pytest.raises(BusyError) as error:
        reserve.reserve_or_wait(lab.context(), reservation_request((), parse_selector("rack=r1"), 1, **more))  # type: ignore[arg-type]
    eta = error.value.details["eta"]
    return None if eta is None else datetime.fromisoformat(str(eta))


def test_a_long_lease_fits_only_after_the_next_plan(fleet: Lab) -> None:
    first, second, third = (each.expires_at for each in fleet.context().store.reservations.open())
    assert first is not None
    assert second is not None
    assert third is not None
    hour = timedelta(hours=1)
    bookings.book(fleet.context("team"), reservation_request(("node1",)), first + hour, first + 9 * hour)
    plan_maintenance(fleet.context("ops"), Choice(("node2",)), second + hour, second + 3 * hour, reason="power work")

    assert told(fleet) == first
    assert told(fleet, ttl=hour) == first
    assert told(fleet, ttl=2 * hour) == third
    bookings.book(fleet.context("team"), reservation_request(("node3",)), third + hour, third + 12 * hour)
    assert told(fleet, ttl=2 * hour) == second + 3 * hour


def test_the_eta_includes_the_turnaround_after_a_lease_and_a_release(fleet: Lab) -> None:
    first = fleet.context().store.reservations.open()[0].expires_at
    assert first is not None
    fleet.policy('[defaults]\nturnaround = "10m"\n')
    assert told(fleet) == first + timedelta(minutes=10)
    released = fleet.clock.now
    lifecycle_verbs.release(fleet.context(), Choice(("node3",)), force=True, reason="drill")
    eta = told(fleet)
    assert eta is not None
    assert timedelta() <= eta - released - timedelta(minutes=10) < timedelta(seconds=1)
    fleet.clock.move(minutes=11)
    assert told(fleet) == first + timedelta(minutes=10)


def test_a_waiter_beside_a_booking_gets_a_host_by_its_eta(fleet: Lab) -> None:
    """Until then, its ticket does not prevent leases of others that end before the booking."""
    begin = fleet.clock.now
    for name in ("node2", "node3"):
        lifecycle_verbs.cordon(fleet.context(), Choice((name,)))
    booked = bookings.book(
        fleet.context("team"), reservation_request(("node1",)), begin + timedelta(hours=3), begin + timedelta(hours=6)
    ).items[0]
    fleet.clock.move(hours=1, minutes=1)  # the lease of node1 ends
    assert expiry.reap(fleet.context())
    step_verbs.recycle(fleet.context(), Choice(("node1",)))
    step_verbs.ready(fleet.context(), Choice(("node1",)))
    said: list[Waiting] = []
    seen: list[object] = []

    def pause(seconds: float, _: int | None) -> None:
        fleet.clock.move(seconds=max(1, seconds))
        if len(seen) == 1:
            with fleet.visit("short") as ctx:  # at 13:01, until 14:01
                short = reserve.reserve_or_wait(ctx, reservation_request(count=1, ttl=timedelta(hours=1)))
                seen.append(short.held.reservation.expires_at)
            lifecycle_verbs.release(fleet.context("short"), Choice(("node1",)))
            step_verbs.recycle(fleet.context(), Choice(("node1",)))
            step_verbs.ready(fleet.context(), Choice(("node1",)))
        elif not seen:
            [item] = queue.queue(fleet.context()).items
            seen.append((item.missing, item.eta))
        elif len(seen) == 2:
            fleet.clock.now = begin + timedelta(hours=3, minutes=1)
            with fleet.visit("team") as ctx:
                seen.append(reserve.reserve_or_wait(ctx, reservation_request(booking=booked.booking.id)))
        elif fleet.clock.now < booked.booking.ends_at:
            fleet.clock.now = booked.booking.ends_at
            expiry.reap(fleet.context())
            step_verbs.recycle(fleet.context(), Choice(("node1",)))
            step_verbs.ready(fleet.context(), Choice(("node1",)))

    asked = reservation_request((), parse_selector("rack=r1"), 1, ttl=timedelta(hours=4))
    granted = reserve.reserve_or_wait(fleet.context("long"), asked, WaitOptions(pause, timedelta(hours=9), said.append))

    held_back = "node1 is booked by team from 2026-01-01 15:00 UTC to 2026-01-01 18:00 UTC"
    assert seen[0] == (f"1 more host: {held_back} ({booked.booking.id})", booked.booking.ends_at)
    assert said[0].eta == booked.booking.ends_at
    assert granted.held.reservation.created_at - booked.booking.ends_at < timedelta(minutes=1)
    assert [host.name for host in granted.held.hosts] == ["node1"]
