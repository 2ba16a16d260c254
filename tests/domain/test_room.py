"""Bookings that move for a request: compared with networkx if all overlap, else with all assignments."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bmhctl.domain.booking import Booking
from bmhctl.domain.matching import Cap
from bmhctl.domain.model import NEVER, Host, HostSpec, Planned, Reservation, State
from bmhctl.domain.requirements import (
    Requirement,
    Requirements,
    dump_requirements,
    load_requirements,
    parse_requirement,
)
from bmhctl.domain.room import Demand, Room, make_room
from bmhctl.domain.selector import parse_selector

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SELECTORS = ("", "a", "b", "a,b", "!a")


def at(minutes: int) -> datetime:
    return NOW + timedelta(minutes=minutes)


def wants(*texts: str) -> Requirements:
    return tuple(parse_requirement(text) for text in texts)


def host(number: int, labels: str = "", leased: int = 0, open_: bool = True) -> Host:
    """Return a host that is leased until a minute (0: not leased); unless ``open_``, only bookings may use it."""
    lease = Reservation("r-1", "o", None, NOW, at(leased), None) if leased else None
    state = State.RESERVED if lease else State.AVAILABLE if open_ else State.TAINTED
    return Host(HostSpec(f"n{number}", labels=dict.fromkeys(labels, "")), state, NOW, reservation=lease, id=number)


def is_open(one: Host) -> bool:
    return one.state is State.AVAILABLE


def planned(hosts: Sequence[Host], bookings: Sequence[Booking]) -> list[Host]:
    """The hosts with the bookings that they have."""
    from bmhctl.support.values import replace

    spans = {one.id: [each.span for each in bookings if one.id in each.hosts] for one in hosts}
    return [
        replace(one, planned=tuple(sorted(spans[one.id], key=lambda each: (each.starts_at, each.id)))) for one in hosts
    ]


def booking(number: int, begin: int, length: int, hosts: Sequence[int], *texts: str) -> Booking:
    wanted = dump_requirements(wants(*texts) if texts else tuple(Requirement(name=f"n{each}") for each in hosts))
    return Booking(f"b-{number}", "o", None, at(begin), at(begin + length), NOW, wanted, tuple(hosts), due_at=NOW)


def overlap(one: Booking | Planned, other: Booking | Planned, turnaround: timedelta) -> bool:
    return other.starts_at - turnaround < one.ends_at and one.starts_at - turnaround < other.ends_at


class World:
    """Hosts with bookings on them that don't overlap, and a request."""

    def __init__(
        self, hosts: list[Host], bookings: list[Booking], request: Requirements, span: tuple[int, int], turnaround: int
    ) -> None:
        self.turnaround = timedelta(minutes=turnaround)
        self.begin, self.end = at(span[0]), at(span[0] + span[1])
        self.request = request
        self.bookings: list[Booking] = []
        by_id = {one.id: one for one in hosts}
        for each in bookings:  # the bookings that do not exclude each other
            others = [other for other in self.bookings if set(other.hosts) & set(each.hosts)]
            may = all(may_have(by_id[one], each, self.turnaround) for one in each.hosts)
            if may and not any(overlap(each, other, self.turnaround) for other in others):
                self.bookings.append(each)
        self.hosts = planned(hosts, self.bookings)

    def answer(self, caps: Sequence[Cap] = (), kept: Sequence[int] = ()) -> Room | None:
        return make_room(
            Demand(self.request, self.begin, self.end, self.turnaround), self.hosts, self.bookings,
            able=[one.id for one in self.hosts if is_open(one)], caps=caps, kept=kept,
        )  # fmt: skip

    def jobs(self) -> list[tuple[Booking, Requirement, int | None]]:
        """Return the needed hosts, each with its booking or the request, its requirement, and its present host."""
        asked = Booking("", "o", None, self.begin, self.end, NOW, "", ())
        found: list[tuple[Booking, Requirement, int | None]] = [
            (asked, each, None) for each in self.request for _ in range(each.count)
        ]
        for each in self.bookings:
            slots = [one for one in load_requirements(each.requirements) for _ in range(one.count)]
            # A booking is made in the order of its requirements, as choose_for does.
            found += [(each, slot, where) for slot, where in zip(slots, each.hosts, strict=True)]
        return found

    def fits(self, job: tuple[Booking, Requirement, int | None], one: Host) -> bool:
        if job[2] == one.id:
            return True
        if not job[0].id:
            return job[1].fits(one.spec) and is_open(one)
        return job[1].fits(one.spec) and may_have(one, job[0], self.turnaround)

    def is_plan(self, found: Room, caps: Sequence[Cap] = ()) -> bool:
        """Return whether an answer is valid: all requirements are met, and no bookings of a host overlap."""
        places: list[tuple[Booking, Host]] = []
        for job, one in zip(self.jobs()[: len(found.hosts)], found.hosts, strict=True):
            assert self.fits(job, one)
            places.append((job[0], one))
        known = {one.id: one for one in self.hosts}
        for each in self.bookings:
            there = found.moves.get(each.id) or tuple(known[number] for number in each.hosts)
            slots = [one for one in load_requirements(each.requirements) for _ in range(one.count)]
            for slot, one in zip(slots, there, strict=True):
                assert slot.fits(one.spec)
                assert one.id in each.hosts or may_have(one, each, self.turnaround)
                places.append((each, one))
        for number, (one, where) in enumerate(places):
            for other, there_too in places[:number]:
                if where.id == there_too.id and overlap(one, other, self.turnaround):
                    return False
        return all(sum(cap.selector.fits(one.spec) for one in found.hosts) <= cap.number for cap in caps)

    def has_a_way(self, caps: Sequence[Cap] = ()) -> bool:
        """Return whether any assignment of all needed hosts is valid."""
        return next(self.ways(caps), None) is not None

    def ways(self, caps: Sequence[Cap] = ()) -> Iterator[Mapping[int, int]]:
        jobs = self.jobs()
        for chosen in product(*([one for one in self.hosts if self.fits(job, one)] for job in jobs)):
            pairs = [*zip(jobs, chosen, strict=True)]
            mine = [one for job, one in pairs if not job[0].id]
            if any(sum(cap.selector.fits(one.spec) for one in mine) > cap.number for cap in caps):
                continue
            if not any(
                one.id == other.id and overlap(job[0], beside[0], self.turnaround)
                for number, (job, one) in enumerate(pairs)
                for beside, other in pairs[:number]
            ):
                yield {number: one.id for number, one in enumerate(chosen)}


def may_have(one: Host, each: Booking, turnaround: timedelta) -> bool:
    leased = one.reservation.expires_at if one.reservation else None
    return leased is None or leased <= each.starts_at - turnaround


def fleets(most: int) -> st.SearchStrategy[list[Host]]:
    row = st.tuples(st.text("ab", max_size=2), st.sampled_from([0, 0, 0, 4, 9]), st.booleans())
    return st.lists(row, min_size=1, max_size=most).map(
        lambda rows: [host(number, *row) for number, row in enumerate(rows, 1)]
    )


@st.composite
def worlds(draw: st.DrawFn, hosts: int, bookings: int, *, share_a_moment: bool) -> World:
    """Draw a world; with ``share_a_moment``, each booking and the request include minute 20."""
    fleet = draw(fleets(hosts))
    made = []
    for number in range(draw(st.integers(0, bookings))):
        here = draw(st.lists(st.sampled_from(fleet), min_size=1, max_size=2, unique_by=lambda one: one.id))
        texts = []
        for one in here:
            fitting = [text for text in SELECTORS if parse_selector(text).fits(one.spec)]
            texts.append(draw(st.sampled_from(fitting)))
        begin = draw(st.integers(15, 19) if share_a_moment else st.integers(3, 20))
        length = draw(st.integers(6, 20) if share_a_moment else st.integers(1, 15))
        is_named = draw(st.integers(0, 4)) == 0
        # The texts are sorted, in the order in which bmhctl saves them.
        rows = sorted(zip(texts, (one.id for one in here), strict=True), key=lambda row: str([row[0], 1]))
        order = [number for _, number in rows]
        made.append(
            booking(
                number,
                begin,
                length,
                sorted(order) if is_named else order,
                *([] if is_named else (f"{text}*1" for text, _ in rows)),
            )
        )
    request = draw(st.lists(st.sampled_from(["*1", "*2", "a*1", "b*1", "a,b*1", "!a*1"]), min_size=1, max_size=2))
    span = (
        draw(st.tuples(st.integers(0, 18), st.integers(5, 30)))
        if share_a_moment
        else draw(st.tuples(st.integers(0, 12), st.integers(1, 20)))
    )
    if share_a_moment:
        span = (span[0], max(span[1], 21 - span[0]))
    return World(fleet, made, wants(*request), span, draw(st.integers(0, 2)))


@given(worlds(7, 8, share_a_moment=True))
def test_bookings_that_all_overlap_can_be_moved_exactly_where_a_maximum_matching_exists(world: World) -> None:
    import networkx as nx  # only here: it takes long, and each worker imports every test

    jobs = world.jobs()
    graph = nx.Graph()
    graph.add_nodes_from(range(len(jobs)))
    graph.add_edges_from(
        (number, one.name) for number, job in enumerate(jobs) for one in world.hosts if world.fits(job, one)
    )
    found = world.answer()

    matched = nx.bipartite.hopcroft_karp_matching(graph, range(len(jobs)))
    assert (found is not None) == (len(matched) == 2 * len(jobs))
    assert found is None or world.is_plan(found)


@given(worlds(4, 4, share_a_moment=False), st.sampled_from([(), (Cap(parse_selector("a"), 1),)]))
def test_in_a_small_fleet_every_possible_move_of_bookings_is_found(world: World, caps: Sequence[Cap]) -> None:
    found = world.answer(caps)

    assert (found is not None) == world.has_a_way(caps)
    assert found is None or world.is_plan(found, caps)


def test_no_booking_moves_while_a_host_is_free() -> None:
    fleet = World([host(1), host(2)], [booking(1, 1, 9, [1], "*1")], wants("*1"), (0, 5), 0)

    assert fleet.answer() == Room((fleet.hosts[1],), {})


def test_only_the_bookings_on_one_path_move() -> None:
    fleet = World(
        [host(1, "a"), host(2, "ab"), host(3, "b"), host(4, "a")],
        [booking(1, 1, 9, [1], "a*1"), booking(2, 1, 9, [2], "b*1")],
        wants("a*2"), (0, 5), 0,
    )  # fmt: skip
    found = fleet.answer()

    assert found is not None
    assert [one.name for one in found.hosts] == ["n4", "n2"]
    assert {each: [one.name for one in there] for each, there in found.moves.items()} == {"b-2": ["n3"]}


def test_a_booking_that_names_its_hosts_stays() -> None:
    assert World([host(1), host(2, open_=False)], [booking(1, 1, 9, [1])], wants("*1"), (0, 5), 0).answer() is None


def test_no_booking_moves_to_an_excluded_host() -> None:
    fleet = World([host(1), host(2, open_=False)], [booking(1, 1, 9, [1], "*1")], wants("*1"), (0, 5), 0)

    assert fleet.answer() is not None
    assert fleet.answer(kept=[2]) is None


def test_all_bookings_move_off_the_host_of_a_lease_without_end() -> None:
    fleet = World(
        [host(1, "a"), host(2)], [booking(1, 1, 9, [1], "*1"), booking(2, 20, 9, [1], "*1")], wants("a*1"), (0, 1), 3
    )
    found = make_room(Demand(fleet.request, NOW, NEVER, fleet.turnaround), fleet.hosts, fleet.bookings, able=[1, 2])

    assert found is not None
    assert {each: [one.name for one in there] for each, there in found.moves.items()} == {"b-1": ["n2"], "b-2": ["n2"]}


@pytest.mark.slow
def test_a_chain_of_a_thousand_bookings_moves_each_by_one_host() -> None:
    # Booking n fits host n and host n + 1; only the last host is free.
    fleet = [
        Host(HostSpec(f"n{n}", labels={f"k{n}": "", f"k{n - 1}": ""}), State.AVAILABLE, NOW, id=n)
        for n in range(1, 1002)
    ]
    chain = [booking(n, 10, 10, [n], f"k{n}*1") for n in range(1, 1001)]
    found = make_room(Demand(wants("k0*1"), NOW, at(30)), planned(fleet, chain), chain, able=[1])

    assert found is not None
    assert [len(found.moves), found.hosts[0].name, found.moves["b-1000"][0].name] == [1000, "n1", "n1001"]
