"""Workers whose clocks are an hour off: on a server, leases are granted, renewed and ended by the server's alone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from bmhctl import open_inventory
from bmhctl.api import Inventory
from bmhctl.domain.model import State
from bmhctl.usecases import inventories
from tests.conftest import location
from tests.faults.figures import Figures
from tests.postgres import drop_schema
from tests.processes import start, until

HOURS = (1, -1)
SLACK = timedelta(seconds=20)  # tolerance for a busy machine; an error would be an hour

WRONG = """
import datetime, sys, time
import psycopg  # knows the datetime that is in C

off = datetime.timedelta(hours=int(sys.argv.pop(1)))
right, clock = datetime.datetime, time.time

class Wrong(right):
    @classmethod
    def now(cls, tz=None):
        return right.now(tz) + off

datetime.datetime = Wrong
time.time = lambda: clock() + off.total_seconds()
"""

RUN = "from bmhctl.__main__ import main\nmain()\n"

WORKER = """
import json
from bmhctl import open_inventory

with open_inventory(sys.argv[1], actor="worker") as lab:
    held = lab.reserve("node1", ttl="30m")
    reaped = [one.reservation.id for one in lab.reap()]
    renewed = lab.extend(held.reservation.id, "40m")
    ends = [one.reservation.expires_at.timestamp() for one in (held, renewed)]
    said = [event.at.timestamp() for event in lab.history("node1")]
json.dump({"reaped": reaped, "ends": ends, "said": said}, sys.stdout)
"""


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Inventory]:
    """Three hosts that are available, on the server."""
    url = location(tmp_path / "lab.schema")
    inventories.init(url)
    with open_inventory(url, actor="operator") as made:
        made.add("node[1-3]")
        made.ready("node*")
        yield made
    drop_schema(url)


@pytest.mark.parametrize("hours", HOURS)
def test_a_worker_with_a_wrong_clock_uses_the_clock_of_the_server(lab: Inventory, hours: int, figures: Figures) -> None:
    url = lab._context.store.database.address.location  # type: ignore[attr-defined]  # it is PostgreSQL's
    valid = lab.reserve("node2", ttl="30m").reservation
    began = lab._context.clock()
    worker = start("-c", WRONG + WORKER, str(hours), url)
    out, err = worker.communicate(timeout=60)
    now = lab._context.clock()
    assert (worker.returncode, err) == (0, "")
    found = json.loads(out)
    first, renewed = (datetime.fromtimestamp(end, UTC) for end in found["ends"])

    is_true = (
        began - SLACK <= first - timedelta(minutes=30) <= now + SLACK
        and began - SLACK <= renewed - timedelta(minutes=40) <= now + SLACK
        and all(at <= (now + SLACK).timestamp() for at in found["said"])
    )
    figures("wrong clock", "postgres", tries=1, faults=1, losses=int(not is_true) + len(found["reaped"]))
    assert is_true, (began, now, found)
    assert found["reaped"] == [], "what is valid by the server's clock is not ended"
    assert lab.reservations()[0].reservation == valid
    assert {host.state for host in lab.hosts()} == {State.RESERVED, State.AVAILABLE}


def test_a_run_with_a_wrong_clock_renews_its_lease_and_reaps_an_expired_one(
    lab: Inventory, tmp_path: Path, figures: Figures
) -> None:
    url = lab._context.store.database.address.location  # type: ignore[attr-defined]  # it is PostgreSQL's
    go = tmp_path / "go"
    task = f"while [ ! -e {go} ]; do sleep 0.05; done"
    runs = [
        start("-c", WRONG + RUN, str(hours), "-i", url, "run", "--host", name, "--ttl", "9s", "--", "sh", "-c", task)
        for hours, name in zip(HOURS, ("node1", "node2"), strict=True)
    ]
    until(lambda: len(lab.reservations()) == len(runs))
    over = lab.reserve("node3", ttl="1s").reservation  # this one is not renewed
    ends = {one.reservation.id: one.reservation.expires_at for one in lab.reservations()}
    renewed = {one for one in ends if one != over.id}

    def ends_now(one: str) -> datetime:
        known = lab._context.store.reservations.get(one)
        assert known is not None
        assert known.expires_at is not None
        return known.expires_at

    until(lambda: all(ends_now(one) > (ends[one] or ends_now(one)) for one in renewed))
    until(lambda: not lab._context.store.reservations.get(over.id).is_open())  # type: ignore[union-attr]  # it is there
    go.touch()
    said = [run.communicate(timeout=60) for run in runs]
    statuses = [run.returncode for run in runs]
    figures("wrong clock", "postgres", tries=2, faults=2, losses=len([status for status in statuses if status]))
    assert (statuses, [out for out, _ in said]) == ([0, 0], ["", ""])
    last = lab.history("node3")[-1]
    assert (last.verb, last.reason) == ("taint", "lease expired")
    assert last.at >= (over.expires_at or last.at), "and not before"
