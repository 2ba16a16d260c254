"""The cost of rechecking stale hosts: the time for all of them, and the delay of a reserve loop beside it."""

from __future__ import annotations

import sqlite3
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

from tests.benchmarks.harness import Bench, Figure, Series, over, seconds
from tests.benchmarks.processes import Programs, environment, programs

_HOSTS, _STALE, _JOBS = 200, 50, 64
_RESERVES = 8
_POLICY = """
[defaults]
recheck_after = "24h"
recheck_share = 1
[checks.slow]
command = ["sleep", "1"]
"""
_FLOOR = f"""
import subprocess
for child in [subprocess.Popen(["sleep", "1"], start_new_session=True) for _ in range({_STALE})]:
    child.wait()
"""
"""The floor: the same checks without bmhctl, all at once, because there are more jobs than stale hosts."""


@contextmanager
def _lab(bench: Bench, tools: Programs) -> Iterator[Path]:
    """A database of available hosts whose checks passed just now."""
    with bench.scratch() as folder:
        path = folder / "lab.db"
        (folder / "policy.toml").write_text(_POLICY)
        for line in (
            ["init"],
            ["add", f"node[001-{_HOSTS}]"],
            ["ready", "node*"],
            ["policy", "apply", str(folder / "policy.toml")],
        ):
            tools.run(tools.bmhctl, "-q", "-i", str(path), *line)
        yield path


def _stale(path: Path) -> int:
    """Return the number of hosts whose checks have not passed for a day."""
    with closing(sqlite3.connect(path, timeout=10)) as database:
        before = (time.time() - 86_400) * 1e6
        sql = "SELECT COUNT(*) FROM hosts WHERE state = 'available' AND proven_at <= ?"
        [(number,)] = database.execute(sql, [before]).fetchall()
        return int(number)


def _age(path: Path) -> None:
    """Make some hosts stale: those that were used last, which a reserve takes last."""
    with closing(sqlite3.connect(path, timeout=10)) as database, database:
        sql = (
            "UPDATE hosts SET proven_at = 0 WHERE id IN (SELECT id FROM hosts WHERE state = 'available'"
            f" ORDER BY COALESCE(used_at, 0) DESC, id DESC LIMIT {_STALE})"
        )
        database.execute(sql)


@contextmanager
def _watch(tools: Programs, path: Path) -> Iterator[None]:
    line = [tools.bmhctl, "-i", str(path), "recycle", "--watch", "1s", "-j", str(_JOBS)]
    with subprocess.Popen(line, env=environment(), stdout=subprocess.DEVNULL) as child:
        try:
            yield
        finally:
            child.terminate()


def _loop(tools: Programs, path: Path) -> None:
    for _ in range(_RESERVES):
        tools.run(tools.bmhctl, "-q", "-i", str(path), "reserve", "-n1")


def _recheck(path: Path) -> None:
    until = time.monotonic() + 60
    while _stale(path):
        if time.monotonic() > until:
            raise RuntimeError("stale hosts are not checked again")
        time.sleep(0.02)


class _Round(NamedTuple):
    """Seconds for rechecking all hosts during a reserve loop, for this loop, for a loop alone, and for the floor."""

    rechecked: float
    beside: float
    alone: float
    floor: float


def _round(tools: Programs, bench: Bench) -> _Round:
    floor = seconds(partial(tools.run, tools.python, "-c", _FLOOR))
    with _lab(bench, tools) as path:
        alone = seconds(partial(_loop, tools, path))
    with _lab(bench, tools) as path, ThreadPoolExecutor() as threads:
        _age(path)
        began = time.perf_counter()
        with _watch(tools, path):
            loop = threads.submit(seconds, partial(_loop, tools, path))
            _recheck(path)
            return _Round(time.perf_counter() - began, loop.result(), alone, floor)


def _rounds(bench: Bench) -> list[_Round]:
    tools = programs(bench)
    return bench.once("rechecking", lambda: [_round(tools, bench) for _ in range(bench.at_most(7))])


def _all(bench: Bench) -> Series:
    rounds = _rounds(bench)
    return over([each.rechecked for each in rounds], [each.floor for each in rounds])


def _beside(bench: Bench) -> Series:
    rounds = _rounds(bench)
    return over([each.beside for each in rounds], [each.alone for each in rounds])


FIGURES = (
    Figure("rechecking/all", "50 stale hosts of 200, checks of 1 s, -j 64, over all checks at once", _all, 1.5),
    Figure("rechecking/beside", "a loop of reserve beside that, over the same loop alone", _beside, 1.2),
)
