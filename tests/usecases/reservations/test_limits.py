"""Limits of owners on every backend: refusals with their reasons, waiting requests, and no moment beyond a limit."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from random import Random

import pytest

from bmhctl.domain.limits import Limit, Use
from bmhctl.domain.requirements import parse_requirement, reservation_request
from bmhctl.domain.selector import parse_selector
from bmhctl.errors import BmhctlError, BusyError, NotYoursError, UnsatisfiableError, UsageError
from bmhctl.results import Grant
from bmhctl.usecases import explain, hosts, lifecycle_verbs
from bmhctl.usecases.policy import check_policy
from bmhctl.usecases.reservations import bookings, holder, queue, reserve
from bmhctl.usecases.reservations.limits import check_booking
from bmhctl.usecases.reservations.replacement import replace_host
from bmhctl.usecases.reservations.waiting import WaitOptions
from bmhctl.usecases.shared.host_selection import Choice
from bmhctl.usecases.status import status
from bmhctl.usecases.steps import step_verbs
from tests.conftest import Lab, copied

INTERNS = """
[limits.interns]
owner = "intern-*"
selector = "gpu"
max_hosts = 2
max_ttl = "6h"
"""


@pytest.fixture
@copied
def fleet(lab: Lab) -> Lab:
    """Three hosts with a GPU and two without, available; interns may hold two of the former, for six hours."""
    hosts.add(lab.context(), ["gpu[1-3]"], hosts.AttributeChanges(labels={"gpu": "a"}))
    hosts.add(lab.context(), ["cpu[1-2]"], hosts.AttributeChanges(labels={"cpu": "a"}))
    step_verbs.ready(lab.context(), Choice(everything=True))
    lab.policy(INTERNS)
    return lab


def take(
    lab: Lab, selector: str = "gpu", count: int = 1, actor: str = "intern-1", ttl: timedelta | None = None
) -> Grant:
    asked = reservation_request((), parse_selector(selector), count, ttl=ttl)
    return reserve.reserve_or_wait(lab.context(actor), asked)


def names(grant: Grant) -> list[str]:
    return [host.name for host in grant.held.hosts]


def test_a_refusal_names_the_limit_what_it_allows_and_what_the_owner_holds(fleet: Lab) -> None:
    held = take(fleet).held.reservation.id
    take(fleet, "cpu")

    with pytest.raises(BusyError) as refused:
        take(fleet, count=2)

    assert refused.value.message.startswith(
        "2 hosts with gpu: nothing was reserved: "
        f"limit interns: at most 2 hosts of gpu for intern-1, who holds gpu1 ({held})"
    )
    assert refused.value.details["reservations"] == [held]
    assert names(take(fleet)) == ["gpu2"]


def test_a_request_for_more_than_a_limit_allows_is_unsatisfiable_even_with_wait(fleet: Lab) -> None:
    patience = WaitOptions(lambda *_: pytest.fail("it waited"))
    asked = reservation_request((), parse_selector("gpu"), 3)

    for way in (None, patience):
        with pytest.raises(UnsatisfiableError, match="limit interns allows: at most 2 hosts of gpu for intern-1"):
            reserve.reserve_or_wait(fleet.context("intern-1"), asked, way)
    assert len(names(take(fleet, count=3, actor="alice"))) == 3


def test_hosts_outside_a_reached_limit_are_chosen(fleet: Lab) -> None:
    take(fleet)
    assert sorted(names(take(fleet, "", count=3))) == ["cpu1", "cpu2", "gpu2"]


def test_a_lease_is_shortened_to_the_limit_with_a_note(fleet: Lab) -> None:
    granted = take(fleet, ttl=timedelta(hours=8))
    assert granted.held.reservation.ttl == timedelta(hours=6)
    assert granted.notes == ("the lease is 6h, the longest that limit interns allows intern-1",)
    assert take(fleet, "cpu", ttl=timedelta(hours=8)).held.reservation.ttl == timedelta(hours=8)

    fleet.clock.move(hours=1)
    before = fleet.clock()
    longer = holder.extend(fleet.context("intern-1"), granted.held.reservation.id, timedelta(hours=9))

    assert longer.held.reservation.expires_at is not None
    assert before < longer.held.reservation.expires_at - timedelta(hours=6) < fleet.clock()
    assert longer.notes == ("capped at 6h from now, the longest that limit interns allows intern-1",)


def test_a_lease_without_end_is_refused_under_a_limit_of_the_length(fleet: Lab) -> None:
    fleet.policy('[defaults]\nmax_ttl = "none"\n' if fleet.is_toml else f'[defaults]\nmax_ttl = "none"\n{INTERNS}')
    asked = reservation_request((), parse_selector("gpu"), endless=True)

    with pytest.raises(UsageError, match="limit interns allows intern-1 no lease without end"):
        reserve.reserve_or_wait(fleet.context("intern-1"), asked)
    assert reserve.reserve_or_wait(fleet.context("bob"), asked).held.reservation.expires_at is None


def test_a_handover_beyond_the_limit_of_the_new_owner_is_refused(fleet: Lab) -> None:
    take(fleet, count=2)
    theirs = take(fleet, actor="alice").held.reservation.id

    with pytest.raises(BusyError, match="nothing was changed: limit interns"):
        holder.handover(fleet.context("alice"), theirs, "intern-1")
    assert holder.handover(fleet.context("alice"), theirs, "intern-2").held.reservation.owner == "intern-2"


def test_replace_chooses_a_host_within_the_limit(fleet: Lab) -> None:
    granted = take(fleet, count=2)

    replaced = replace_host(fleet.context("intern-1"), "gpu1", granted.held.reservation.id, "dead fan")
    assert names(replaced) == ["gpu2", "gpu3"]

    mixed = take(fleet, "", actor="intern-2")
    assert names(mixed) == ["cpu1"]


def test_a_ticket_that_waits_for_its_limit_holds_nothing_and_is_granted_when_there_is_room(fleet: Lab) -> None:
    first = take(fleet, count=2)
    seen: list[str] = []
    steps: list[Callable[[], object]] = [
        lambda: seen.extend(item.missing for item in queue.queue(fleet.context()).items),
        lambda: seen.extend(status(fleet.context()).limited),
        lambda: seen.extend(explain.why(fleet.context(), "gpu3").facts),
        lambda: seen.append(f"free: {status(fleet.context()).free}"),
        lambda: seen.extend(names(take(fleet, actor="intern-2"))),
        lambda: lifecycle_verbs.release(fleet.context("intern-1"), Choice(), reservation=first.held.reservation.id),
        lambda: step_verbs.reset(fleet.context(), Choice(("gpu1",))),
        lambda: step_verbs.ready(fleet.context(), Choice(("gpu1",))),
    ]
    coming = iter(steps)

    def pause(seconds: float, _: int | None) -> None:
        next(coming, lambda: None)()
        fleet.clock.move(seconds=max(1.0, seconds))

    told: list[str] = []
    patience = WaitOptions(pause, timedelta(minutes=10), lambda waiting: told.append(waiting.why))
    granted = reserve.reserve_or_wait(
        fleet.context("intern-1"), reservation_request((), parse_selector("gpu")), patience
    )

    words = f"limit interns: at most 2 hosts of gpu for intern-1, who holds gpu[1-2] ({first.held.reservation.id})"
    assert seen[0] == f"it waits for the limit of its owner: {words}"
    assert seen[1].endswith(f"waits for {words}")
    assert any(line.endswith(f"waits for {words}") for line in seen[2:4])
    assert "free: 3" in seen
    assert seen[-1] == "gpu3"
    assert told[0] == f"1 host with gpu: nothing was reserved: {words}"
    assert names(granted) == ["gpu1"]


def test_a_limit_by_role_counts_all_owners_of_the_role_and_refuses_other_names(fleet: Lab) -> None:
    by_role = '[limits.each]\nowner = "role"\nmax_hosts = 2\n'
    fleet.policy(by_role)
    role = fleet.context().store.database.role
    notes = check_policy(fleet.context(), Choice(everything=True), by_role, "policy.toml").notes
    assert any("a file has no roles" in note for note in notes) is (role is None)

    if role is None:
        take(fleet, count=2, actor="alice")
        with pytest.raises(BusyError, match="limit each"):
            take(fleet, "", actor="alice")
        return
    take(fleet, count=1, actor=f"{role}@one")
    take(fleet, count=1, actor=role)
    with pytest.raises(BusyError, match=f"limit each: at most 2 hosts for {role}@two"):
        take(fleet, actor=f"{role}@two")
    with pytest.raises(NotYoursError, match=f"alice is connected as {role}"):
        take(fleet, actor="alice")


def test_two_grants_at_once_do_not_exceed_a_limit_together(fleet: Lab) -> None:
    together = threading.Barrier(4)
    got: list[int] = []

    def race() -> None:
        with fleet.visit("intern-1") as ctx:
            together.wait()
            try:
                grant = reserve.reserve_or_wait(ctx, reservation_request((), parse_selector("gpu")))
                got.append(len(grant.held.hosts))
            except BusyError:
                pass

    racers = [threading.Thread(target=race) for _ in range(4)]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join()
    assert sum(got) == 2


def test_the_limits_hold_after_every_command(fleet: Lab) -> None:
    """Random commands of three owners, two of them with limits; each command is refused or keeps the limits."""
    random = Random(7)
    owners = ("intern-1", "intern-2", "alice")

    def reservations() -> list[str]:
        return [each.id for each in fleet.context().store.reservations.open()]

    def act() -> None:
        actor = random.choice(owners)
        ctx = fleet.context(actor)
        token = random.choice([*reservations(), "r-none0000"])
        match random.randrange(6):
            case 0 | 1:
                wants = parse_requirement(f"{random.choice(['gpu', '', 'cpu'])}*{random.randint(1, 3)}")
                ttl = timedelta(hours=random.randint(1, 9))
                reserve.reserve_or_wait(ctx, reservation_request(requirements=[wants], ttl=ttl))
            case 2:
                holder.extend(ctx, token, timedelta(hours=random.randint(1, 9)))
            case 3:
                holder.handover(ctx, token, random.choice(owners), token=token)
            case 4:
                held = ctx.store.hosts.held_by(token)
                replace_host(ctx, held[0].name if held else "gpu1", token, "bad")
            case _:
                lifecycle_verbs.release(ctx, Choice(), reservation=token)
                tainted = [host.name for host in ctx.store.hosts.find() if host.state == "tainted"]
                step_verbs.reset(ctx, Choice(tuple(tainted)))
                step_verbs.ready(ctx, Choice(tuple(tainted)))

    granted, longest = 0, timedelta(hours=6)
    for _ in range(40):
        before = len(reservations())
        with suppress(BmhctlError):
            act()
        granted += len(reservations()) > before
        ended = fleet.clock()
        fleet.clock.move(minutes=10)
        ctx = fleet.context()
        held = [host for host in ctx.store.hosts.find() if host.reservation is not None and "gpu" in host.spec.labels]
        for owner in owners[:2]:
            mine = [host for host in held if host.reservation is not None and host.reservation.owner == owner]
            leases = [host.reservation for host in mine]
            assert len(mine) <= 2
            assert all(each and each.expires_at and each.expires_at <= ended + longest for each in leases)
        fleet.close()
    assert granted > 3


def test_the_refusal_of_a_booking_names_the_limit_that_it_exceeds(fleet: Lab) -> None:
    limit = Limit("interns", "intern-*", parse_selector("gpu"), 2, timedelta(hours=6), timedelta(days=14))
    now, hour = fleet.clock(), timedelta(hours=1)
    gpus = tuple(host for host in fleet.context().store.hosts.find() if "gpu" in host.spec.labels)

    def book(first: int, last: int, begin: float, end: float, *others: Use, owner: str = "intern-1") -> None:
        booking = Use(owner, gpus[first:last], now + begin * hour, now + end * hour)
        check_booking([limit], booking, others, now)

    book(0, 2, 24, 30)
    book(0, 3, 24, 99, owner="alice")
    for refused in ((0, 3, 24, 26), (0, 1, 24, 31), (0, 1, 24 * 15, 24 * 15 + 1)):
        with pytest.raises(UnsatisfiableError, match="limit interns allows intern-1"):
            book(*refused)
    lease = Use("intern-1", gpus[:1], now, now + 25 * hour)
    later = Use("intern-1", gpus[1:2], now + 25 * hour, now + 30 * hour)
    book(2, 3, 24, 30, lease, later)  # these two do not overlap, so only one of them counts at a time
    with pytest.raises(BusyError, match="intern-1 has 2 hosts from"):
        book(2, 3, 24, 30, lease, Use("intern-1", gpus[1:2], now + 24.5 * hour, now + 30 * hour))


def test_a_booking_gets_hosts_outside_the_selector_of_a_limit_that_is_reached(fleet: Lab) -> None:
    hour = timedelta(hours=1)

    def book(count: int, begin: int, length: int) -> list[str]:
        starts = fleet.clock.now + begin * hour
        asked = reservation_request((), None, count)
        return sorted(bookings.book(fleet.context("intern-1"), asked, starts, starts + length * hour).items[0].hosts)

    assert book(4, 24, 3) == ["cpu1", "cpu2", "gpu1", "gpu2"]
    assert book(2, 48, 8) == ["cpu1", "cpu2"]
    with pytest.raises(BusyError, match="limit interns"):
        book(1, 25, 1)
    with pytest.raises(UnsatisfiableError, match="limit interns"):
        book(5, 72, 3)
