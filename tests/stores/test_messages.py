"""The number of round trips to the server for each command."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from bmhctl.domain.import_batch import ImportBatch, ImportedHost
from bmhctl.domain.model import Host, HostSpec, Reservation, State
from bmhctl.domain.requirements import ReservationRequest, reservation_request
from bmhctl.domain.selector import parse_selector
from bmhctl.stores.claims import run_claim
from bmhctl.stores.postgres.connection import Connection
from bmhctl.usecases import hosts, lifecycle_verbs, queries
from bmhctl.usecases.reservations import holder
from bmhctl.usecases.reservations.reserve import reserve_or_wait
from bmhctl.usecases.shared.context import Context
from bmhctl.usecases.shared.host_selection import Choice
from bmhctl.usecases.steps import step_verbs
from tests.conftest import Lab, made_in


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Lab]:
    """Eight hosts on a server, seven of them available, two of those held as r-one and r-two."""
    for lab in made_in("postgres", tmp_path):
        hosts.add(lab.context(), ["node[1-8]"], hosts.AttributeChanges(labels={"rack": "r1"}))
        step_verbs.ready(lab.context(), Choice(tuple(f"node{number}" for number in range(1, 8))))
        for number, token in enumerate(("r-one", "r-two"), 1):
            wants = reservation_request((f"node{number}",)).requirements
            reserve_or_wait(lab.context(), ReservationRequest(wants, token=token))
        yield lab


def reserve(count: int, request_id: str | None = None) -> Callable[[Context], object]:
    asked = reservation_request((), parse_selector("rack=r1"), count, request_id=request_id)
    return lambda ctx: reserve_or_wait(ctx, asked)


ACTS: dict[str, tuple[Callable[[Context], object], int]] = {
    # one to begin, with all queries and the locked hosts; one for all writes and the commit
    "reserve": (reserve(1), 2),
    # and one for the ids of the other events
    "reserve five": (reserve(5), 3),
    # the query for the request id is in the first message
    "reserve under a request id": (reserve(1, "job-1"), 2),
    "release": (lambda ctx: lifecycle_verbs.release(ctx, Choice(), reservation="r-one"), 6),
    "extend": (lambda ctx: holder.extend(ctx, "r-two"), 7),
    "show": (lambda ctx: queries.show(ctx, "node1"), 5),
    # without setup steps, recheck ages and properties in the policy, none of these needs a query
    "ready": (lambda ctx: step_verbs.ready(ctx, Choice(("node8",))), 9),
    "check": (lambda ctx: step_verbs.check(ctx, Choice(("node3",))), 12),
    # not one for each host: their reservations are saved together, too
    "import of forty reserved hosts": (lambda ctx: hosts.import_hosts(ctx, reserved_elsewhere(40)), 38),
}


def reserved_elsewhere(count: int) -> ImportBatch:
    """Hosts that another system has reserved, each on its own."""
    now = datetime.now(UTC)
    held = Reservation("", "Dunder-Mifflin", None, now, None, None)
    made = [
        Host(HostSpec(f"web{number}"), State.RESERVED, now, dirty=True, reservation=held)
        for number in range(1, count + 1)
    ]
    return ImportBatch(tuple(ImportedHost(host, None, "devices.json") for host in made))


@pytest.mark.parametrize("name", ACTS)
def test_a_command_needs_no_more_round_trips_to_a_server_than_counted(
    name: str, fleet: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    act, most = ACTS[name]
    ctx = fleet.context()
    with round_trips(monkeypatch) as waited:
        act(ctx)
    assert len(waited) == most


def test_tasks_that_run_cost_a_reset_no_round_trips(fleet: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    ctx = fleet.context()
    with round_trips(monkeypatch) as alone:
        step_verbs.reset(ctx, Choice(("node8",)))
    claim = ctx.store.claims.claim
    with claim(run_claim("r-one")), claim(run_claim("r-two")), round_trips(monkeypatch) as beside:
        step_verbs.reset(ctx, Choice(("node8",)))
    assert len(beside) == len(alone)


@contextmanager
def round_trips(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[None]]:
    """Yield a list that becomes longer with each round trip in the block."""
    waited: list[None] = []
    wait = Connection.wait

    def counted(self: Connection, *args: object, **options: object) -> object:
        waited.append(None)
        return wait(self, *args, **options)  # type: ignore[arg-type]  # passed on as they came

    with monkeypatch.context() as patch:
        patch.setattr(Connection, "wait", counted)
        yield waited
