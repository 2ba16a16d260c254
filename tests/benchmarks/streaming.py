"""Lists as streams: rows per second, memory, and the time until the first row; and a table on a terminal."""

from __future__ import annotations

import os
import pty
import subprocess
import time
from functools import partial

from tests.benchmarks.harness import Bench, Figure, Series, in_turn, seconds
from tests.benchmarks.processes import Programs, environment, programs
from tests.benchmarks.starting import series

FLOOR = """\
import json, sqlite3, sys
database = sqlite3.connect(sys.argv[1])
rows = database.execute(
    "SELECT hosts.*, r.* FROM hosts LEFT JOIN reservations r ON r.id = hosts.reservation ORDER BY hosts.name"
)
names = [column[0] for column in rows.description]
for row in rows:
    sys.stdout.write(json.dumps(dict(zip(names, row))) + "\\n")
database.close()
"""
"""The floor: the same rows, fetched and dumped without bmhctl."""


def _line(tools: Programs, bench: Bench, hosts: int) -> list[str]:
    return [tools.bmhctl, "-i", str(bench.database(hosts)), "list", "-o", "jsonl"]


def _hosts(bench: Bench) -> int:
    return bench.size(1_000_000, 20_000)


def _rate(bench: Bench) -> Series:
    tools, hosts = programs(bench), _hosts(bench)
    subject = partial(tools.run, *_line(tools, bench, hosts))
    floor = partial(tools.run, tools.python, "-c", FLOOR, str(bench.database(hosts)))
    found = series(*in_turn(bench.at_most(3), subject, floor, warm_up=0))
    faster = [1 / sample for sample in found.samples], [1 / sample for sample in found.cpu]
    return Series(*faster, found.subject, found.floor)


def _peak(bench: Bench) -> Series:
    tools = programs(bench)
    return Series([tools.peak(*_line(tools, bench, _hosts(bench))) / 2**20])


def _first(bench: Bench) -> Series:
    tools = programs(bench)
    line = _line(tools, bench, _hosts(bench))

    def first_row() -> float:
        began = time.perf_counter()
        with subprocess.Popen(line, env=environment(), stdout=subprocess.PIPE) as child:
            assert child.stdout is not None
            child.stdout.readline()
            took = time.perf_counter() - began
            child.kill()
        return took

    return Series(*in_turn(bench.rounds, first_row))


def _table(bench: Bench) -> Series:
    tools = programs(bench)
    line = [tools.bmhctl, "-i", str(bench.database(2_000)), "list"]

    def on_terminal() -> float:
        shown, terminal = pty.openpty()
        with subprocess.Popen(line, env={**environment(), "TERM": "xterm"}, stdout=terminal) as child:
            os.close(terminal)
            return seconds(lambda: _drain(shown, child))

    return Series(*in_turn(bench.rounds, on_terminal))


def _drain(shown: int, child: subprocess.Popen[bytes]) -> None:
    lines = 0
    while True:
        try:
            text = os.read(shown, 65536)
        except OSError:  # the last process with the terminal open has ended
            break
        lines += text.count(b"\n")
    os.close(shown)
    assert child.wait() == 0
    assert lines == 2_002, lines  # the heading, the hosts, and the line that names the columns that are left out


FIGURES = (
    Figure(
        "stream/rate",
        "list -o jsonl of 1,000,000 hosts, rows a second over sqlite3 and json.dumps",
        _rate,
        0.7,
        at_least=True,
    ),
    Figure("stream/peak", "its peak memory", _peak, 80, unit="MiB"),
    Figure("stream/first", "its first row", _first, 0.3, unit="s"),
    Figure("table", "list as a table on a terminal, 2,000 hosts", _table, 1.0, unit="s"),
)
