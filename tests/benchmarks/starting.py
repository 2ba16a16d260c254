"""Whole commands, compared with bare Python and Typer's hello-world; and on large and small inventories."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from functools import partial
from pathlib import Path

from bmhctl import open_inventory
from bmhctl.stores.state_files import state_file
from tests.benchmarks.generate import generate
from tests.benchmarks.harness import Bench, Figure, Series, in_turn, ratio
from tests.benchmarks.processes import Cost, Programs, programs

COMMANDS = ("list -o name", "reserve", "reserve -l", "show", "taint", "status")
HELD = ("list -o name", "reserve", "taint", "show")
"""The commands whose start-up has a bound."""

LARGE = ("reserve -l", "taint", "show", "status")
"""The commands that must not be slower in a large inventory."""


class Lab:
    """An inventory in which commands are timed; the hosts that they reserve are given back between the rounds."""

    def __init__(self, tools: Programs, path: Path) -> None:
        self._tools = tools
        self._path = path
        self._answer = path.with_suffix(".answer")
        database = sqlite3.connect(state_file(path) if path.suffix == ".toml" else path)
        free = "SELECT name FROM hosts WHERE state = 'available' AND cordon IS NULL ORDER BY id DESC LIMIT 1"
        (self._host,) = database.execute(free).fetchone()
        database.close()

    def run(self, command: str) -> Cost:
        """Times one command; if it names a host, that host is reserved directly before."""
        args = command.split()
        if command == "reserve -l":
            args += ["arch=x86_64,zone=z2", "-o", "name"]
        elif command in ("reserve", "taint", "show"):
            args.append(self._host)
        return self._tools.run(self._tools.bmhctl, "-i", str(self._path), *args, output=self._answer_of(command))

    def _answer_of(self, command: str) -> Path | None:
        return self._answer if command == "reserve -l" else None

    def restore(self) -> None:
        """Makes the reserved and tainted hosts available again."""
        names = [self._host, *self._answer.read_text().split()]
        with open_inventory(self._path, actor="alice@lab") as lab:
            lab.taint(*names)
            lab.reset(*names)
            lab.ready(*names)


def series(subject: list[Cost], floor: list[Cost]) -> Series:
    """Return the samples of two commands, each with the times of its processes."""
    walls = [cost.wall for cost in subject], [cost.wall for cost in floor]
    cpu = ratio([cost.cpu for cost in subject], [cost.cpu for cost in floor])
    return Series(ratio(*walls), cpu, *walls)


def _hello(bench: Bench) -> Series:
    tools = programs(bench)
    bare, hello = partial(tools.run, tools.python, "-c", "pass"), partial(tools.run, tools.python, tools.hello)
    return series(*in_turn(bench.rounds, hello, bare))


def _over_hello(kind: str, hosts: int, command: str, bench: Bench) -> Series:
    def measure() -> dict[str, list[Cost]]:
        tools = programs(bench)
        with bench.scratch() as folder:
            lab = Lab(tools, generate(folder / f"lab.{kind}", hosts))
            works = [partial(tools.run, tools.python, tools.hello), *(partial(lab.run, name) for name in COMMANDS)]
            found = in_turn(bench.rounds, *works, after=lab.restore)
        return dict(zip(("hello", *COMMANDS), found, strict=True))

    found = bench.once(("over hello", kind, hosts), measure)
    return series(found[command], found["hello"])


def _over_small(command: str, bench: Bench) -> Series:
    def measure() -> dict[str, tuple[list[Cost], list[Cost]]]:
        tools = programs(bench)
        with bench.scratch() as folder:
            large = Lab(tools, bench.database(bench.size(1_000_000, 20_000)))
            small = Lab(tools, generate(folder / "small.db", 100))

            def restore() -> None:
                large.restore()
                small.restore()

            works: list[Callable[[], Cost]] = []
            for name in ("reserve", *LARGE):
                works += [partial(large.run, name), partial(small.run, name)]
            found = in_turn(bench.rounds, *works, after=restore)
        return dict(zip(("reserve", *LARGE), zip(found[::2], found[1::2], strict=True), strict=True))

    return series(*bench.once("over small", measure)[command])


FIGURES = (
    Figure("hello", "a Typer hello-world over bare Python, whole processes", _hello),
    *(
        Figure(
            f"start/{kind}-{hosts}/{command.replace(' ', '')}",
            f"{command}, {hosts:,} hosts in {where}, over a Typer hello-world",
            partial(_over_hello, kind, hosts, command),
            bound if command in HELD else None,
        )
        for kind, hosts, where, bound in (
            ("db", 1_000, "SQLite", 1.3),
            ("toml", 1_000, "TOML that did not change", 1.35),
            ("toml", 10_000, "TOML that did not change", 1.35),
        )
        for command in COMMANDS
    ),
    *(
        Figure(
            f"large/{command.replace(' ', '')}",
            f"{command}, 1,000,000 hosts over 100 hosts, SQLite",
            partial(_over_small, command),
            1.3,
        )
        for command in LARGE
    ),
)
