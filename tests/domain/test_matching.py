"""The hosts that requests get, compared with a search through all assignments; and the hosts that tickets hold."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import combinations, permutations

from hypothesis import given
from hypothesis import strategies as st

from bmhctl.domain.matching import Cap, Claimant, Match, left_over, match
from bmhctl.domain.model import Host, HostSpec, State
from bmhctl.domain.requirements import Requirements, parse_requirement, total
from bmhctl.domain.selector import parse_selector

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def host(number: int, labels: str = "") -> Host:
    """A free host; ``labels`` is one label for each letter."""
    return Host(HostSpec(f"node{number}", labels=dict.fromkeys(labels, "")), State.AVAILABLE, NOW, id=number)


def wants(*texts: str) -> Requirements:
    return tuple(parse_requirement(text) for text in texts)


def due(*earlier: Requirements) -> list[Claimant]:
    """Tickets of owners without limits."""
    return [Claimant(each) for each in earlier]


def names(hosts: tuple[Host, ...] | list[Host]) -> list[str]:
    return [one.name for one in hosts]


fleets = st.lists(st.text("abc", max_size=3), max_size=5).map(
    lambda labels: [host(number, text) for number, text in enumerate(labels, 1)]
)
requests = st.lists(
    st.tuples(st.sampled_from(["", "a", "b", "c", "a,b", "!a", "!b,c"]), st.integers(1, 2)), min_size=1, max_size=3
).map(lambda rows: wants(*(f"{selector}*{count}" for selector, count in rows)))


some_caps = st.lists(
    st.builds(Cap, st.sampled_from(["", "a", "b", "!c"]).map(parse_selector), st.integers(0, 3)), min_size=1, max_size=3
)


@given(requests, fleets, some_caps)
def test_a_match_under_caps_is_the_largest_possible(request: Requirements, free: list[Host], caps: list[Cap]) -> None:
    def is_capped(chosen: tuple[Host, ...]) -> bool:
        return all(sum(cap.selector.fits(one.spec) for one in chosen) <= cap.number for cap in caps)

    found = match(request, free, caps)

    assert is_capped(found.hosts)
    assert can_serve(request, found.hosts)
    sizes = range(len(found.hosts) + 1, min(total(request), len(free)) + 1)
    larger = (chosen for size in sizes for chosen in combinations(free, size))
    assert not any(is_capped(chosen) and can_serve(request, chosen) for chosen in larger)
    assert found.missing == total(request) - len(found.hosts)


@given(
    st.lists(st.text("abcd", max_size=4), max_size=60),
    st.lists(st.tuples(st.sampled_from(["", "a", "b", "c", "a,b", "!a", "!b,c"]), st.integers(1, 9)), max_size=6),
    st.integers(0, 9),
    st.integers(0, 9),
)
def test_a_match_under_caps_that_share_no_host_is_a_maximum_flow(
    fleet: list[str], rows: list[tuple[str, int]], with_d: int, without_d: int
) -> None:
    import networkx as nx  # only here: it takes long, and each worker imports every test

    request = wants(*(f"{selector}*{count}" for selector, count in rows))
    free = [host(number, text) for number, text in enumerate(fleet, 1)]
    caps = [Cap(parse_selector("d"), with_d), Cap(parse_selector("!d"), without_d)]
    graph = nx.DiGraph()
    graph.add_nodes_from(["source", "sink"])
    for number, requirement in enumerate(request):
        graph.add_edge("source", number, capacity=requirement.count)
    for one in free:
        graph.add_edges_from((n, one.name, {"capacity": 1}) for n, each in enumerate(request) if each.fits(one.spec))
        graph.add_edge(one.name, "d" if "d" in one.spec.labels else "!d", capacity=1)
    graph.add_edge("d", "sink", capacity=with_d)
    graph.add_edge("!d", "sink", capacity=without_d)

    assert len(match(request, free, caps).hosts) == nx.maximum_flow_value(graph, "source", "sink")


def test_a_match_under_caps_that_overlap_is_found_in_a_large_fleet() -> None:
    fleet = [host(number, text) for number, text in enumerate(["ab", "a", "b", "abc", ""] * 200)]
    caps = [Cap(parse_selector("a"), 150), Cap(parse_selector("b"), 170)]

    # All 200 without labels; a host under both caps takes from both.
    assert match(wants("*900"), fleet, caps).missing == 900 - 200 - 150 - 170


def can_serve(request: Requirements, chosen: tuple[Host, ...]) -> bool:
    """Whether each of the hosts can be assigned to a different requirement."""
    slots = [want for want in request for _ in range(want.count)]
    return any(
        all(want.fits(one.spec) for want, one in zip(order, chosen, strict=True))
        for order in permutations(slots, len(chosen))
    )


def best(request: Requirements, free: list[Host]) -> tuple[Host, ...]:
    """Return the largest set of hosts that serves the request, the first in the order of ``free``."""
    for size in range(min(total(request), len(free)), 0, -1):
        for chosen in combinations(free, size):
            if can_serve(request, chosen):
                return chosen
    return ()


@given(requests, fleets)
def test_a_match_is_as_good_as_the_best_of_all_assignments(request: Requirements, free: list[Host]) -> None:
    found = match(request, free)

    assert sorted(names(found.hosts)) == sorted(names(best(request, free)))
    assert found.missing == total(request) - len(found.hosts)


@given(requests, fleets)
def test_the_hosts_come_in_the_order_of_the_requirements_that_they_meet(
    request: Requirements, free: list[Host]
) -> None:
    found = match(request, free)

    if not found.missing:
        slots = [want for want in request for _ in range(want.count)]
        assert all(want.fits(one.spec) for want, one in zip(slots, found.hosts, strict=True))


def test_a_host_that_fits_two_requirements_goes_to_the_one_without_another_host() -> None:
    both, plain = host(1, "ab"), host(2, "a")

    assert match(wants("a", "b"), [both, plain]) == Match((plain, both), 0)


def test_the_first_hosts_are_used_in_any_order_of_the_requirements() -> None:
    hosts = [host(1, "ab"), host(2, "a"), host(3, "b")]

    assert match(wants("a", "b"), hosts) == Match((hosts[1], hosts[0]), 0)


def test_a_long_chain_of_hosts_is_reassigned_for_the_last_requirement() -> None:
    # requirement n fits host n and host n + 1: if each has the later one, a request for the first moves all of them
    hosts = [
        Host(HostSpec(f"node{n}", labels={f"k{n}": "", f"k{n - 1}": ""}), State.AVAILABLE, NOW, id=n)
        for n in range(1, 301)
    ]
    request = wants(*(f"k{n}" for n in range(1, 301)))

    assert match(request, hosts[1:] + hosts[:1]) == Match(tuple(hosts), 0)


def test_ten_thousand_hosts_are_matched_in_one_pass() -> None:
    hosts = [host(n, "a") for n in range(10_000)]

    assert match(wants("a*9999", "b"), hosts) == Match(tuple(hosts[:9999]), 1)


def everything_comes_back(_: Requirements) -> bool:
    return True


def needs_an_operator(_: Requirements) -> bool:
    return False


FREE = [host(1, "a"), host(2, "a"), host(3, "b")]


def test_hosts_are_set_aside_for_an_earlier_ticket_that_they_meet_completely() -> None:
    assert names(left_over(due(wants("a*2")), FREE, needs_an_operator)) == ["node3"]


def test_an_earlier_ticket_that_lacks_hosts_holds_only_those_that_match() -> None:
    assert names(left_over(due(wants("a*4")), FREE, everything_comes_back)) == ["node3"]


def test_an_earlier_ticket_that_needs_an_operator_holds_nothing() -> None:
    assert names(left_over(due(wants("a*4")), FREE, needs_an_operator)) == ["node1", "node2", "node3"]


def test_older_tickets_choose_first() -> None:
    assert names(left_over(due(wants("a"), wants("a", "b")), [*FREE, host(4, "b")], everything_comes_back)) == ["node4"]
    assert names(left_over(due(wants("a*2"), wants("a")), FREE, everything_comes_back)) == ["node3"]


@given(st.lists(requests, max_size=3), fleets, st.booleans())
def test_a_later_ticket_never_takes_a_host_that_an_earlier_one_needs(
    earlier: list[Requirements], free: list[Host], comes_back: bool
) -> None:
    left = left_over(due(*earlier), free, lambda _: comes_back)

    held = [one for one in free if one not in left]
    assert left == [one for one in free if one not in held]
    for request in earlier[:1]:
        whole = not match(request, free).missing
        first = match(request, free).hosts if whole or comes_back else ()
        assert set(names(first)) <= set(names(held))
    if not earlier:
        assert left == free
