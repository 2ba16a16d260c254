"""How often a command waits for a server's answer: each time is a way there and back, wherever the server stands."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bmhctl.selector import parse_selector
from bmhctl.stores.connection import Connection
from bmhctl.usecases import holding, hosts, looking, queue, reservations, verbs
from bmhctl.usecases.choosing import Choice
from bmhctl.usecases.context import Context
from tests.conftest import Lab, made_in


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Lab]:
    """Eight hosts on a server, seven of them available, two of those held as r-one and r-two."""
    for lab in made_in("postgres", tmp_path):
        hosts.add(lab.context(), ["node[1-8]"], hosts.FactChanges(labels={"rack": "r1"}))
        verbs.ready(lab.context(), Choice(tuple(f"node{number}" for number in range(1, 8))))
        for number, token in enumerate(("r-one", "r-two"), 1):
            wants = reservations.wish_for((f"node{number}",)).wants
            queue.reserve_or_wait(lab.context(), reservations.Wish(wants, token=token))
        yield lab


def reserve(count: int, request_id: str | None = None) -> Callable[[Context], object]:
    wish = reservations.wish_for((), parse_selector("rack=r1"), count, request_id=request_id)
    return lambda ctx: queue.reserve_or_wait(ctx, wish)


ACTS: dict[str, tuple[Callable[[Context], object], int]] = {
    # begin, with all that is asked, and the hosts, locked; what is written, with the commit
    "reserve": (reserve(1), 2),
    # and the ids of the other events
    "reserve five": (reserve(5), 3),
    # and whether it was granted before
    "reserve under a request id": (reserve(1, "job-1"), 3),
    "release": (lambda ctx: verbs.release(ctx, Choice(), reservation="r-one"), 11),
    "extend": (lambda ctx: holding.extend(ctx, "r-two"), 7),
    "show": (lambda ctx: looking.show(ctx, "node1"), 5),
}


@pytest.mark.parametrize("name", ACTS)
def test_a_command_waits_for_a_server_no_more_often_than_it_must(
    name: str, fleet: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    act, most = ACTS[name]
    ctx = fleet.context()
    waited, wait = 0, Connection.wait

    def counted(self: Connection, *args: object, **options: object) -> object:
        nonlocal waited
        waited += 1
        return wait(self, *args, **options)  # type: ignore[arg-type]  # passed on as they came

    with monkeypatch.context() as patch:
        patch.setattr(Connection, "wait", counted)
        act(ctx)
    assert waited == most
