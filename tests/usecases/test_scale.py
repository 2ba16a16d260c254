"""Commands read the same amount in a small and in a large fleet; reads are counted, not timed.

For SQLite, the steps of its virtual machine are counted; for a server, the rows that it reports as read.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest

from bmhctl.domain.model import State
from bmhctl.domain.requirements import reservation_request
from bmhctl.domain.selector import parse_selector
from bmhctl.errors import BmhctlError
from bmhctl.stores import open_store
from bmhctl.stores.host_query import HostQuery
from bmhctl.stores.postgres.url import Address
from bmhctl.stores.sqlite import database as sqlite_database
from bmhctl.support.values import replace
from bmhctl.usecases import copies, explain, hosts, lifecycle_verbs, queries
from bmhctl.usecases.reservations import bookings, queue
from bmhctl.usecases.reservations.reserve import reserve_or_wait
from bmhctl.usecases.shared import expiry
from bmhctl.usecases.shared.context import Context
from bmhctl.usecases.shared.host_selection import Choice
from bmhctl.usecases.status import status
from tests.benchmarks.generate import book, generate
from tests.conftest import location
from tests.postgres import drop_schema
from tests.processes import until

pytestmark = pytest.mark.slow

SMALL, LARGE, HUGE = 100, 2_000, 10_000
DEEPER = 1.35
"""The allowed difference: an index of more hosts is one level deeper, and its pages contain more neighbours."""

FEW = tuple(f"r00000-n{number:02}" for number in range(1, 9))
"""The hosts that both fleets have: two broken, two held, three cordoned, each with labels that no other host has."""


@pytest.fixture(scope="module")
def fleets(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """A small inventory and a large one."""
    folder = tmp_path_factory.mktemp("fleets")
    return {size: fleet(folder, size) for size in (SMALL, LARGE)}


def fleet(folder: Path, size: int) -> Path:
    """Make an inventory with ``size`` hosts, a few of which differ from the others."""
    path = generate(folder / f"{size}.db", size, state="available")
    with closing(open_store(str(path))) as store:
        ctx = Context(store, "alice")
        hosts.set_attributes(ctx, Choice(FEW), hosts.AttributeChanges(labels={"few": "yes", "size": "7"}))
        reserve_or_wait(ctx, reservation_request(FEW[:4]))
        lifecycle_verbs.uncordon(ctx, Choice(everything=True))
        lifecycle_verbs.taint(ctx, Choice(FEW[:2]), fault="fan")
        lifecycle_verbs.cordon(ctx, Choice(FEW[5:]))
    return path


Command = Callable[[Context], object]


def reserve(selector: str, count: int = 1) -> Command:
    return lambda ctx: reserve_or_wait(ctx, reservation_request((), parse_selector(selector), count))


def listed(*names: str, selector: str = "", states: frozenset[State] = frozenset()) -> Command:
    chosen = Choice(names, parse_selector(selector), states)
    return lambda ctx: list(queries.list_hosts(ctx, chosen).hosts)


COMMANDS: dict[str, Command] = {
    "reserve what most fit": reserve("arch=x86_64,zone=z2"),
    "reserve any": reserve(""),
    "reserve what few fit": reserve("few,arch"),
    "reserve by number": reserve("size>=7"),
    "reserve a host": lambda ctx: reserve_or_wait(ctx, reservation_request(FEW[4:5])),
    "reserve what is busy": reserve("few=yes", 2),
    "reserve what no host fits": reserve("zone=nowhere"),
    "reserve what no number is": reserve("size>=1000"),
    "taint": lambda ctx: lifecycle_verbs.taint(ctx, Choice(FEW[2:3])),
    "maintain": lambda ctx: lifecycle_verbs.maintain(ctx, Choice(FEW[2:3]), reason="fan"),
    "show": lambda ctx: queries.show(ctx, FEW[0]),
    "why": lambda ctx: explain.why(ctx, FEW[4]),
    "status": status,
    "graph": explain.graph,
    "reap": expiry.reap,
    "queue": queue.queue,
    "list -l, one in a few": listed(selector="few=yes"),
    "list -l, a key of a few": listed(selector="few"),
    "list -l, a number of a few": listed(selector="size>6"),
    "list --state, of a few": listed(states=frozenset({State.TAINTED, State.RESERVED})),
    "list NAME": listed(FEW[0]),
    "list PATTERN": listed("r00000-n0*"),
}

ON_SERVER = [name for name in COMMANDS if name not in ("status", "list --state, of a few")]
"""The commands that read as many rows on a server in any fleet; the others count or show all reserved hosts."""


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_reads_as_much_in_a_large_fleet_as_in_a_small_one(
    name: str, fleets: dict[int, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_steps(COMMANDS[name], fleets, tmp_path, monkeypatch)


@pytest.fixture(scope="module")
def booked(fleets: dict[int, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """The small and the large inventory with a booking of each host, at least a day ahead."""
    folder = tmp_path_factory.mktemp("booked")
    for path in fleets.values():
        shutil.copy(path, folder / path.name)
        with closing(open_store(str(folder / path.name))) as store:
            book(store, datetime.now(UTC) + timedelta(days=1))
    return {size: folder / path.name for size, path in fleets.items()}


def booking(selector: str, days: float, count: int = 2) -> Command:
    starts = datetime.now(UTC) + timedelta(days=days)
    asked = reservation_request((), parse_selector(selector), count)
    return lambda ctx: bookings.book(ctx, asked, starts, starts + timedelta(hours=4))


BESIDE_BOOKINGS: dict[str, Command] = {
    **{
        name: COMMANDS[name]
        for name in (
            *("reserve what most fit", "reserve any", "reserve what few fit", "reserve by number", "reserve a host"),
            *("taint", "show", "why", "reap"),
        )
    },
    "book before all bookings": booking("arch=x86_64,zone=z2", 0.5),
    "book among the bookings": booking("arch=x86_64", 1.5),
    "book after all bookings": booking("", 30),
    "book what few fit": booking("few,arch", 0.5, 1),
    "move a booking": lambda ctx: bookings.reschedule(
        replace(ctx, actor="alice@lab"), "b-00000000", datetime.now(UTC) + timedelta(days=20)
    ),
    "cancel a booking": lambda ctx: bookings.cancel(replace(ctx, actor="alice@lab"), "b-00000000"),
}


@pytest.mark.parametrize("name", BESIDE_BOOKINGS)
def test_a_command_reads_as_much_among_many_bookings_as_among_few(
    name: str, booked: dict[int, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_steps(BESIDE_BOOKINGS[name], booked, tmp_path, monkeypatch)


def check_steps(command: Command, fleets: dict[int, Path], folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compare how many steps a command takes in a small and in a large inventory."""
    small, large = (steps(command, fleets[size], folder / f"{size}.db", monkeypatch) for size in (SMALL, LARGE))
    assert small > 0
    assert large <= small * DEEPER, f"{large} steps, where {SMALL} hosts take {small}"


def steps(command: Command, fleet: Path, copy: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """Return how many steps SQLite takes for a command, even if the command is refused."""
    shutil.copy(fleet, copy)
    connect = sqlite_database.connect
    taken = 0

    def step() -> int:
        nonlocal taken
        taken += 1
        return 0

    def counted(path: Path) -> sqlite3.Connection:
        connection = connect(path)
        connection.set_progress_handler(step, 1)
        return connection

    with monkeypatch.context() as patch:
        patch.setattr(sqlite_database, "connect", counted)
        with closing(open_store(str(copy))) as store:
            opening, taken = taken, 0
            assert opening > 0
            with suppress(BmhctlError):
                command(Context(store, "alice"))
    return taken


def test_a_command_on_a_server_reads_as_many_rows_of_a_large_fleet_as_of_a_small_one(tmp_path: Path) -> None:
    read = {size: rows_of_each(fleet(tmp_path, size), location(tmp_path / f"{size}.schema")) for size in (SMALL, HUGE)}

    most = {
        name: max(2 * SMALL, small * DEEPER) for name, small in read[SMALL].items()
    }  # the server scans a small table
    assert {name: (rows, most[name]) for name, rows in read[HUGE].items() if rows > most[name]} == {}


def rows_of_each(fleet: Path, url: str) -> dict[str, int]:
    """Return how many rows a server reads for each of some commands, in a fleet with some reserved hosts."""
    with closing(open_store(str(fleet))) as store:
        ctx = Context(store, "alice")
        for _ in range(store.hosts.count(HostQuery()) // 20):
            reserve_or_wait(ctx, reservation_request((), None, 1))
        copies.copy(ctx, url)
    address = Address.parse(url)
    try:
        with psycopg.connect(address.url, autocommit=True) as watcher:
            watcher.execute(f'SET search_path = "{address.schema}"')
            watcher.execute("ANALYZE hosts, facts, events, reservations")
            to_open = rows(lambda _: None, url, watcher)
            return {name: rows(COMMANDS[name], url, watcher) - to_open for name in ON_SERVER}
    finally:
        drop_schema(url)


def rows(command: Command, url: str, watcher: psycopg.Connection[tuple[int]]) -> int:
    """Return how many rows a server reads for a process that opens the inventory and runs the command."""
    before = _read(watcher)
    with closing(open_store(url)) as store:
        backend = store.database.execute("SELECT pg_backend_pid()")[0][0]
        with suppress(BmhctlError):
            command(Context(store, "alice", clock=store.now))
    # The process reports the number of its reads before it ends.
    until(lambda: not watcher.execute("SELECT 1 FROM pg_stat_activity WHERE pid = %s", [backend]).fetchall())
    return _read(watcher) - before


def _read(watcher: psycopg.Connection[tuple[int]]) -> int:
    found = watcher.execute(
        "SELECT COALESCE(SUM(seq_tup_read), 0) + COALESCE(SUM(idx_tup_fetch), 0) FROM pg_stat_user_tables"
        " WHERE schemaname = current_schema()"
    ).fetchone()
    return int(found[0]) if found else 0
