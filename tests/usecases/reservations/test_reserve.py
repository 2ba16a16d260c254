"""Reserving hosts on every backend: all or none, in order, and the reasons of refusals."""

from __future__ import annotations

from datetime import timedelta

import pytest

from bmhctl.domain.requirements import parse_requirement, reservation_request
from bmhctl.domain.selector import parse_selector
from bmhctl.errors import BmhctlError, BusyError, NotFoundError, UnsatisfiableError, UsageError
from bmhctl.usecases import hosts, lifecycle_verbs, queries
from bmhctl.usecases.reservations import reserve
from bmhctl.usecases.shared.host_selection import Choice
from bmhctl.usecases.steps import step_verbs
from tests.conftest import Lab, copied


@pytest.fixture
@copied
def fleet(lab: Lab) -> Lab:
    """Four hosts in two racks, made available."""
    hosts.add(lab.context(), ["node[1-2]"], hosts.AttributeChanges(labels={"rack": "r1"}, hardware={"memory": "64GiB"}))
    hosts.add(
        lab.context(), ["node[3-4]"], hosts.AttributeChanges(labels={"rack": "r2"}, hardware={"memory": "256GiB"})
    )
    step_verbs.ready(lab.context(), Choice(everything=True))
    return lab


def take(lab: Lab, *names: str, actor: str = "alice", **asked: object) -> list[str]:
    if isinstance(asked.get("selector"), str):
        asked["selector"] = parse_selector(str(asked["selector"]))
    held = reserve.reserve_or_wait(lab.context(actor), reservation_request(names, **asked)).held  # type: ignore[arg-type]  # a test's shorthand
    return [host.name for host in held.hosts]


def free(lab: Lab) -> int:
    return sum(h.state == "available" for h in queries.list_hosts(lab.context(), Choice(everything=True)).hosts)


def test_four_reservations_in_a_pool_of_four_get_different_hosts(fleet: Lab) -> None:
    taken = [take(fleet, count=1, actor=f"actor{n}")[0] for n in range(4)]

    assert sorted(taken) == ["node1", "node2", "node3", "node4"]
    with pytest.raises(BusyError):
        take(fleet, count=1)


def test_a_selector_finds_hosts_by_label_and_by_number(fleet: Lab) -> None:
    assert take(fleet, selector="memory>=128GiB,rack!=r1", count=2) == ["node3", "node4"]


def test_a_selector_without_a_count_takes_one_host(fleet: Lab) -> None:
    assert take(fleet, selector="rack=r1") == ["node1"]


def test_a_dry_run_of_a_repeated_request_plans_no_further_hosts(fleet: Lab) -> None:
    request = reservation_request(count=1, request_id="job-1")
    held = reserve.reserve_or_wait(fleet.context(), request).held

    plan = reserve.plan_reserve(fleet.context(), request)

    [item] = plan.items
    assert (item.host, item.changed) == ("node1", False)
    assert item.message.startswith(f"already reserved by {held.reservation.words}")
    assert plan.notes == ("request job-1 was granted before",)
    assert free(fleet) == 3


def test_no_named_host_is_taken_when_one_of_them_is_busy(fleet: Lab) -> None:
    take(fleet, "node2", actor="bob", purpose="soak")

    with pytest.raises(BusyError) as refused:
        take(fleet, "node1", "node2", "node3")

    assert refused.value.host == "node2"
    assert "is reserved by bob (r-" in refused.value.message
    assert "soak" in refused.value.message
    assert free(fleet) == 3


def test_a_request_with_too_few_free_hosts_is_busy_and_takes_none(fleet: Lab) -> None:
    take(fleet, "node1", actor="bob")

    with pytest.raises(BusyError) as refused:
        take(fleet, selector="rack=r1", count=2)

    assert refused.value.message.startswith("2 hosts with rack=r1: 1 free now, nothing was reserved: ")
    assert "the first lease ends at 2026-01-01 16:00 UTC" in refused.value.message
    assert free(fleet) == 3


def test_the_hint_of_a_busy_refusal_says_how_hosts_of_each_state_become_available(lab: Lab) -> None:
    hosts.add(lab.context(), ["node[1-3]"], hosts.AttributeChanges())

    def hint(*names: str, **asked: object) -> str | None:
        with pytest.raises(BusyError) as refused:
            take(lab, *names, **asked)
        return refused.value.hint

    ready = "bmhctl ready HOST makes initial hosts available"
    by_hand = "bmhctl status --reasons shows which hosts wait for an operator"
    assert hint(count=1) == ready
    assert hint("node1") == "bmhctl ready node1"
    step_verbs.ready(lab.context(), Choice(("node[1-2]",)))
    take(lab, "node1")
    take(lab, "node2", actor="bob")
    lifecycle_verbs.release(lab.context(), Choice(("node1",)))
    assert hint("node1") == "bmhctl recycle node1"
    assert hint("node2") == "wait with --wait 30m; bmhctl why node2"
    assert hint(count=1) == (
        "wait for them with --wait 30m; bmhctl reservations shows who holds what; "
        f"bmhctl recycle brings tainted hosts back; {ready}"
    )
    lifecycle_verbs.cordon(lab.context("carl"), Choice(("node2",)), reason="power work")
    assert hint("node2") == "bmhctl why node2"  # waiting may be useless
    lifecycle_verbs.release(lab.context("bob"), Choice(("node2",)))
    lifecycle_verbs.cordon(lab.context(), Choice(("node1",)))
    step_verbs.recycle(lab.context(), Choice(("node1", "node2")))
    assert hint(count=1) == f"{by_hand}; {ready}"
    lifecycle_verbs.maintain(lab.context(), Choice(("node3",)), reason="new disk")
    assert hint(count=1) == f"wait for them with --wait 30m; {by_hand}"  # a maintenance may end by itself


def test_an_unsatisfiable_request_is_refused_with_what_each_term_excludes(fleet: Lab) -> None:
    with pytest.raises(UnsatisfiableError) as refused:
        take(fleet, selector="rack=r1,memory>=128GiB", count=1)

    assert refused.value.details == {
        "fitting": 0,
        "hosts": 4,
        "excluded": {"rack=r1": 2, "memory>=128GiB": 2},
    }


def test_hosts_in_maintenance_make_a_request_busy_not_unsatisfiable(fleet: Lab) -> None:
    lifecycle_verbs.maintain(fleet.context(), Choice(("node*",)), reason="power cut")

    with pytest.raises(BusyError):
        take(fleet, count=4)


def test_unknown_names_are_not_found_with_the_nearest_name(fleet: Lab) -> None:
    with pytest.raises(NotFoundError) as refused:
        take(fleet, "node1", "nod2")

    assert (refused.value.host, refused.value.hint) == ("nod2", "did you mean node2?")
    assert free(fleet) == 4


def test_a_host_name_never_matches_as_a_substring(fleet: Lab) -> None:
    with pytest.raises(NotFoundError):
        take(fleet, "node")


@pytest.mark.parametrize(
    "asked",
    [{}, {"count": 0}, {"names": ("node1",), "count": 2}, {"count": 1, "ttl": timedelta(0)}, {"names": ("no*",)}],
)
def test_an_invalid_request_is_a_usage_error(fleet: Lab, asked: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        reserve.reserve_or_wait(fleet.context(), reservation_request(**asked))  # type: ignore[arg-type]  # a table of shorthands


def test_the_least_recently_used_come_first(fleet: Lab) -> None:
    for _ in range(2):
        names = take(fleet, count=2)
        lifecycle_verbs.taint(fleet.context(), Choice(tuple(names)))
        step_verbs.reset(fleet.context(), Choice(tuple(names)))
        step_verbs.ready(fleet.context(), Choice(tuple(names)))

    assert take(fleet, count=4) == ["node1", "node2", "node3", "node4"]


def test_the_length_of_a_lease_is_the_requested_one_or_the_default_and_at_most_max_ttl(fleet: Lab) -> None:
    fleet.policy('[defaults]\nttl = "1h"\nmax_ttl = "2h"\n')

    def length(ttl: timedelta | None) -> timedelta | None:
        grant = reserve.reserve_or_wait(fleet.context(), reservation_request(count=1, ttl=ttl))
        held = grant.held.reservation
        assert held.expires_at == held.created_at + (held.ttl or timedelta())
        return held.ttl

    assert length(None) == timedelta(hours=1)
    assert length(timedelta(minutes=5)) == timedelta(minutes=5)
    assert length(timedelta(hours=9)) == timedelta(hours=2)


def test_a_lease_without_end_needs_a_policy_that_allows_it(fleet: Lab) -> None:
    with pytest.raises(UsageError):
        reserve.reserve_or_wait(fleet.context(), reservation_request(count=1, endless=True))

    fleet.policy('[defaults]\nmax_ttl = "none"\n')
    held = reserve.reserve_or_wait(fleet.context(), reservation_request(count=1, endless=True)).held
    assert held.reservation.expires_at is None


def test_reservations_are_listed_with_their_hosts_and_ended_ones_on_request(fleet: Lab) -> None:
    take(fleet, "node1", "node2", purpose="nightly")
    take(fleet, "node3", actor="bob")
    lifecycle_verbs.taint(fleet.context("bob"), Choice(("node3",)))

    now = [(h.reservation.owner, [x.name for x in h.hosts]) for h in queries.reservations(fleet.context()).items]
    ever = [h.reservation.end_reason for h in queries.reservations(fleet.context(), ended=True).items]

    assert now == [("alice", ["node1", "node2"])]
    assert ever == [None, "task completed"]


def test_a_failed_reservation_leaves_nothing_behind(fleet: Lab) -> None:
    with pytest.raises(BmhctlError):
        take(fleet, "node1", "nope")

    assert list(fleet.context().store.reservations.all()) == []


def test_a_retry_returns_the_hosts_in_the_order_of_the_requirements(fleet: Lab) -> None:
    wants = [parse_requirement("rack=r2"), parse_requirement("rack=r1")]
    asked = reservation_request(requirements=wants, request_id="job-1")

    first = reserve.reserve_or_wait(fleet.context(), asked, None).held
    again = reserve.reserve_or_wait(fleet.context(), asked, None).held

    assert [host.name for host in first.hosts] == ["node3", "node1"]
    assert [host.name for host in again.hosts] == ["node3", "node1"]


def test_a_request_with_reordered_terms_is_the_same_request(fleet: Lab) -> None:
    def ask(selector: str) -> str:
        asked = reservation_request(selector=parse_selector(selector), request_id="job-1")
        return reserve.reserve_or_wait(fleet.context(), asked, None).held.reservation.id

    assert ask("rack=r2,memory>=1GiB") == ask("memory>=1GiB,rack=r2")
    with pytest.raises(UsageError, match="request id 'job-1' was used for"):
        ask("rack=r1")
