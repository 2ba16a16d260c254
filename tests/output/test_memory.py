"""Commands that read everything stream it: their memory does not grow with the fleet."""

from __future__ import annotations

import io
import tracemalloc
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from bmhctl.formats.toml_export import dump_parts
from bmhctl.output import Display, Format, layout, machine_formats, render
from bmhctl.results.texts import Document
from bmhctl.stores import open_store
from bmhctl.stores.sqlite import database as sqlite_database
from bmhctl.usecases import copies, queries
from bmhctl.usecases.shared.context import Context
from bmhctl.usecases.shared.host_selection import Choice
from tests.benchmarks.generate import generate

pytestmark = pytest.mark.slow

SMALL, LARGE = 400, 1100
"""Numbers of hosts: enough in the small inventory that all caches are full."""

AT_ONCE = 50
"""The number of rows that are read together."""

ROOM = 25_000
"""The allowed difference of peaks in bytes: less than the names of the additional hosts in the large inventory."""


class Nowhere(io.TextIOBase):
    """A stream that discards everything."""

    encoding = "utf-8"

    def write(self, text: str) -> int:
        return len(text)


@pytest.fixture(scope="module")
def fleets(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("fleets")
    small, large = (generate(folder / f"{size}.db", size) for size in (SMALL, LARGE))
    return small, large


@pytest.fixture(autouse=True)
def _few_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "_CHUNK", AT_ONCE)
    monkeypatch.setattr(machine_formats, "_LINES_AT_ONCE", AT_ONCE)
    monkeypatch.setattr(machine_formats, "_FEW", AT_ONCE)
    monkeypatch.setitem(sqlite_database._TOGETHER, "INSERT INTO facts ", AT_ONCE)


def listed(ctx: Context, display: Display) -> None:
    render(queries.list_hosts(ctx, Choice(everything=True)), display)


def named(ctx: Context, display: Display) -> None:
    render(queries.list_names(ctx, Choice()), display)


def history(ctx: Context, display: Display) -> None:
    render(queries.history(ctx), display)


def export(ctx: Context, display: Display) -> None:
    with queries.everything(ctx, Choice(everything=True)) as found:
        render(Document(dump_parts(found.reservations, found.hosts, found.policy, found.now)), display)


STREAMS: dict[str, tuple[Callable[[Context, Display], None], Format]] = {
    **{f"list -o {each}": (listed, each) for each in (Format.JSONL, Format.JSON, Format.CSV, Format.PLAIN)},
    "list -o name": (named, Format.NAME),
    **{f"history -o {each}": (history, each) for each in (Format.JSONL, Format.CSV, Format.PLAIN)},
    "export": (export, Format.TOML),
}


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_takes_as_much_memory_for_a_large_fleet_as_for_a_small_one(
    name: str, fleets: tuple[Path, Path]
) -> None:
    command, format = STREAMS[name]

    def work(path: Path) -> None:
        with closing(open_store(str(path))) as store:
            command(Context(store, "alice"), Display(Nowhere(), Nowhere(), format=format))  # type: ignore[arg-type]  # text

    work(fleets[0])  # memory that only the first call needs does not count
    small, large = (peak(lambda path=path: work(path)) for path in fleets)  # type: ignore[misc]  # mypy knows no default
    assert large < small + ROOM


def test_a_copy_takes_as_much_memory_for_a_large_fleet_as_for_a_small_one(
    fleets: tuple[Path, Path], tmp_path: Path
) -> None:
    def work(path: Path) -> None:
        with closing(open_store(str(path))) as store:
            copies.copy(Context(store, "alice"), str(tmp_path / f"{len(list(tmp_path.iterdir()))}.db"))

    work(fleets[0])
    small, large = (peak(lambda path=path: work(path)) for path in fleets)  # type: ignore[misc]  # mypy knows no default
    assert large < small + ROOM


def peak(work: Callable[[], None]) -> int:
    """Return the peak of Python's memory during some work."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
