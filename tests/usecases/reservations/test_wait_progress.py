"""What a waiting command reports while hosts are given back, cleaned and checked, on every backend."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from datetime import timedelta

import pytest

from bmhctl.domain.requirements import ReservationRequest, reservation_request
from bmhctl.errors import WaitTimeoutError
from bmhctl.stores.claims import host_claim
from bmhctl.usecases import hosts, lifecycle_verbs
from bmhctl.usecases.reservations.queue_watch import Waiting
from bmhctl.usecases.reservations.reserve import reserve_or_wait
from bmhctl.usecases.reservations.waiting import WaitOptions
from bmhctl.usecases.shared.host_selection import Choice
from bmhctl.usecases.steps import step_verbs
from tests.conftest import Lab, copied

NODES = Choice(("node[1-2]",))


@pytest.fixture
@copied
def held(lab: Lab) -> Lab:
    """Two hosts, both reserved by alice."""
    hosts.add(lab.context(), ["node[1-2]"], hosts.AttributeChanges())
    step_verbs.ready(lab.context(), NODES, jobs=1)
    reserve_or_wait(lab.context("alice"), reservation_request(("node1", "node2")))
    return lab


def reported(lab: Lab, request: ReservationRequest, *acts: Callable[[], object]) -> list[str]:
    """Return what bob is told while he waits for a minute; ``acts`` are done meanwhile, two in a second."""
    told: list[Waiting] = []
    left = [*acts]

    def pause(_: float, __: int | None) -> None:
        if left:
            left.pop(0)()
        lab.clock.move(seconds=0.5 if left else 5)

    with pytest.raises(WaitTimeoutError):
        reserve_or_wait(lab.context("bob"), request, WaitOptions(pause, timedelta(minutes=1), told.append))
    return [each.why for each in told]


@pytest.mark.parametrize("request_", [reservation_request(("node1",)), reservation_request(count=2)])
def test_states_that_a_host_passes_through_at_once_are_not_reported(held: Lab, request_: ReservationRequest) -> None:
    with held.visit("alice") as ctx:
        said = reported(
            held,
            request_,
            lambda: lifecycle_verbs.release(ctx, NODES),
            lambda: step_verbs.reset(ctx, NODES),
            lambda: lifecycle_verbs.maintain(ctx, NODES, reason="new disk"),
        )
    assert len(said) == 2
    assert not any(state in words for words in said for state in ("tainted", "initial"))


@pytest.mark.parametrize("request_", [reservation_request(("node1",)), reservation_request(count=2)])
def test_a_waiter_is_told_on_which_hosts_steps_run_instead_of_advice(held: Lab, request_: ReservationRequest) -> None:
    with held.visit("alice") as ctx, ExitStack() as stack:
        claim = ctx.store.claims.claim(host_claim(ctx.host("node1").id))
        said = reported(
            held,
            request_,
            lambda: lifecycle_verbs.release(ctx, NODES),
            lambda: stack.enter_context(claim),
        )
    assert len(said) == 2
    assert said[1].endswith("; steps run on node1")
    assert "bmhctl recycle" not in said[1]


def test_a_waiter_is_told_how_hosts_come_back_on_which_no_step_runs(held: Lab) -> None:
    with held.visit("alice") as ctx:
        said = reported(held, reservation_request(count=2), lambda: lifecycle_verbs.release(ctx, NODES))
    assert said[1:] == [
        "2 hosts: none free now, nothing was reserved: 2 tainted; bmhctl recycle brings tainted hosts back"
    ]
