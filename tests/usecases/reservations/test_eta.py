"""When a request fits at the latest: against a simulation of every moment, and as it is shown in every backend."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bmhctl.domain.limits import Limit
from bmhctl.domain.matching import Cap, match
from bmhctl.domain.model import Host, HostSpec, State
from bmhctl.domain.requirements import Requirements, parse_requirement
from bmhctl.domain.selector import parse_selector
from bmhctl.domain.units import local_time
from bmhctl.errors import BusyError, WaitTimeoutError
from bmhctl.usecases import hosts, lifecycle_verbs
from bmhctl.usecases.reservations import eta, queue, reserve
from bmhctl.usecases.reservations.forecast import Claim, Freeing, Use, forecast
from bmhctl.usecases.reservations.queue_watch import Waiting
from bmhctl.usecases.reservations.request import reservation_request
from bmhctl.usecases.reservations.waiting import WaitOptions
from bmhctl.usecases.shared.host_selection import Choice
from bmhctl.usecases.steps import step_verbs
from tests.conftest import Lab

NOW = datetime(2026, 1, 1, tzinfo=UTC)
HORIZON = 60


def at(minutes: int) -> datetime:
    return NOW + timedelta(minutes=minutes)


def wants(text: str) -> Requirements:
    return (parse_requirement(text),)


LIMIT = Limit("one", "o1", parse_selector("a"), max_hosts=1, max_ttl=timedelta(minutes=4))

fleets = st.lists(st.tuples(st.sampled_from(["", "a", "b", "ab"]), st.integers(0, 6)), max_size=4)
queues = st.lists(
    st.builds(
        Claim,
        st.sampled_from(["o1", "o2"]),
        st.sampled_from(["*1", "*2", "a*1", "a*2", "b*1", "b*2"]).map(wants),
        st.one_of(st.none(), st.integers(1, 6).map(lambda minutes: timedelta(minutes=minutes))),
        st.one_of(st.none(), st.integers(1, 9).map(at)),
        st.booleans(),
    ),
    min_size=1,
    max_size=4,
)


def simulated(fleet: list[Freeing], claims: list[Claim], limits: list[Limit], turnaround: int) -> list[datetime | None]:
    """Walk through every minute; at each, serve the queue in its order again and again until nothing is granted."""
    free_at = {each.host.id: (each.free_at, each.used_at) for each in fleet}
    by_id = {each.host.id: each.host for each in fleet}
    leases: list[tuple[str, int, datetime]] = []
    granted: list[datetime | None] = [None] * len(claims)
    gone: set[int] = set()
    for minute in range(HORIZON):
        now = at(minute)
        gone |= {number for number, claim in enumerate(claims) if claim.deadline is not None and claim.deadline <= now}
        is_changed = True
        while is_changed:
            is_changed = False
            left = sorted((used, number) for number, (begin, used) in free_at.items() if begin <= now)
            for number, claim in enumerate(claims):
                if number in gone or granted[number] is not None:
                    continue
                caps = [
                    Cap(
                        limit.selector,
                        max(
                            0,
                            (limit.max_hosts or 0)
                            - sum(
                                owner == claim.owner and end > now and limit.counts(by_id[host].spec)
                                for owner, host, end in leases
                            ),
                        ),
                    )
                    for limit in limits
                    if limit.concerns(claim.owner)
                ]
                found = match(claim.requirements, [by_id[host] for _, host in left], caps)
                if not found.missing:
                    end = now + (claim.ttl or timedelta(days=9))
                    if caps and LIMIT.of(found.hosts):
                        end = min(end, now + (LIMIT.max_ttl or timedelta()))
                    granted[number], is_changed = now, True
                    for host in found.hosts:
                        free_at[host.id] = (end + timedelta(minutes=turnaround), end)
                        leases.append((claim.owner, host.id, end))
                    break
                if (claim.holds and not match(claim.requirements, list(by_id.values()), caps).missing) or (
                    claim.holds and not caps
                ):
                    taken = {host.id for host in found.hosts}
                    left = [each for each in left if each[1] not in taken]
    return granted


@given(fleets, queues, st.booleans(), st.integers(0, 2))
def test_the_forecast_is_what_a_simulation_of_every_minute_finds(
    fleet: list[tuple[str, int]], claims: list[Claim], is_limited: bool, turnaround: int
) -> None:
    found = [
        Freeing(
            Host(HostSpec(f"node{number}", labels=dict.fromkeys(labels, "")), State.RESERVED, NOW, id=number),
            at(minute),
            at(minute),
        )
        for number, (labels, minute) in enumerate(fleet, 1)
    ]
    limits = [LIMIT] if is_limited else []

    forecasted = forecast(NOW, found, claims, limits=limits, turnaround=timedelta(minutes=turnaround))

    assert forecasted == simulated(found, claims, limits, turnaround)


def test_what_an_owner_holds_counts_until_it_ends() -> None:
    host = Host(HostSpec("node1", labels={"a": ""}), State.AVAILABLE, NOW, id=1)
    other = Host(HostSpec("node2", labels={"a": ""}), State.RESERVED, NOW, id=2)
    claim = Claim("o1", wants("a*1"), None)
    free = [Freeing(host, NOW, NOW)]

    assert forecast(NOW, free, [claim], limits=[LIMIT], uses=[Use("o1", other, at(7))]) == [at(7)]
    assert forecast(NOW, free, [claim], limits=[LIMIT], uses=[Use("o1", other, None)]) == [None]


@pytest.fixture
def fleet(lab: Lab) -> Lab:
    """Three hosts, reserved for one, two and three hours."""
    hosts.add(lab.context(), ["node[1-3]"], hosts.AttributeChanges(labels={"rack": "r1"}))
    step_verbs.ready(lab.context(), Choice(everything=True))
    for hours in (1, 2, 3):
        wish = reservation_request((f"node{hours}",), ttl=timedelta(hours=hours))
        reserve.reserve_or_wait(lab.context(f"holder{hours}"), wish)
    return lab


def refused(lab: Lab, count: int, selector: str = "") -> BusyError:
    with pytest.raises(BusyError) as error:
        reserve.reserve_or_wait(lab.context(), reservation_request((), parse_selector(selector), count))
    return error.value


def test_a_busy_refusal_says_by_when_the_request_fits(fleet: Lab) -> None:
    ends = [each.expires_at for each in fleet.context().store.reservations.open()]

    for count in (1, 2, 3):
        end = ends[count - 1]
        assert end is not None
        error = refused(fleet, count, "rack=r1")
        assert error.message.endswith(
            f"it fits by {local_time(eta.by_minute(end))} at the latest, if every lease ends as written"
        )
        assert error.details["eta"] == end.isoformat().replace("+00:00", "Z")


def test_it_is_unknown_where_a_state_needs_a_person(fleet: Lab) -> None:
    lifecycle_verbs.maintain(fleet.context(), Choice(("node1",)), reason="dead fan")
    lifecycle_verbs.release(fleet.context(), Choice(("node2",)), force=True, reason="drill")

    assert refused(fleet, 1).details["eta"] is not None
    error = refused(fleet, 2)
    assert "fits" not in error.message
    assert error.details["eta"] is None


def test_a_ticket_and_its_progress_say_by_when_it_fits_behind_those_before_it(fleet: Lab) -> None:
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
