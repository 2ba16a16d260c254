"""The cost of waiting: the time from a release to the next grant, and the processor time of a hundred waiting commands.

Each waiting command is a process of ``bmhctl reserve --wait``, each follower one of ``bmhctl history --follow``.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from bmhctl import open_inventory
from bmhctl.api import Inventory
from bmhctl.usecases.reservations.queue import queue
from tests.benchmarks.harness import Bench, Figure, Series
from tests.benchmarks.processes import environment, programs

_TICKS = os.sysconf("SC_CLK_TCK")
_SLEEPER = "import time\nwhile True: time.sleep(0.15)"
_IDLE = 5.0
"""Seconds of one sample."""


@contextmanager
def _children(command: Sequence[str], number: int, answers: int = subprocess.DEVNULL) -> Iterator[list[int]]:
    """Run ``number`` processes until the block ends; they write their output to one descriptor."""
    children = [
        subprocess.Popen(
            command,
            env={**environment(), "BMHCTL_ACTOR": f"waiter{place}@lab"},
            stdout=answers,
            stderr=subprocess.DEVNULL,
        )
        for place in range(number)
    ]
    try:
        yield [child.pid for child in children]
    finally:
        for child in children:
            child.terminate()
        for child in children:
            child.wait()


@contextmanager
def _held_lab(bench: Bench) -> Iterator[tuple[Inventory, str, list[str]]]:
    """Return an inventory of one host, the reservation that holds the host, and a command line that waits for it."""
    with bench.scratch() as folder, open_inventory(folder / "lab.db", actor="holder@lab", create=True) as lab:
        lab.add("node01")
        lab.ready("node01")
        waiter = [programs(bench).bmhctl, "-i", str(folder / "lab.db"), "reserve", "-n1", "--wait", "-o", "jsonl"]
        yield lab, lab.reserve("node01").reservation.id, waiter


def _await_tickets(lab: Inventory, number: int) -> None:
    while len(queue(lab._context).items) < number:
        time.sleep(0.2)
    time.sleep(2)  # until all waiting commands have noticed the last ticket


def _handed_over(bench: Bench) -> Series:
    number = bench.size(100, 10)
    samples = []
    with _held_lab(bench) as (lab, held, waiter):
        reader, writer = os.pipe()
        with os.fdopen(reader) as answers, _children(waiter, number, writer):
            os.close(writer)
            _await_tickets(lab, number)
            for _ in range(bench.rounds):
                lab.taint("node01", reservation=held)
                lab.reset("node01")
                began = time.perf_counter()
                lab.ready("node01")
                answers.readline()
                samples.append(time.perf_counter() - began)
                held = lab.reservations()[0].reservation.id
    return Series(samples)


def _idle(bench: Bench) -> Series:
    number = bench.size(100, 10)
    sleeper = [programs(bench).python, "-c", _SLEEPER]
    with _held_lab(bench) as (lab, _, waiter), _children(waiter, number) as waiting:
        _await_tickets(lab, number)
        with _children(sleeper, number) as asleep:
            samples = [_percent(waiting, asleep) for _ in range(bench.at_most(5))]
    mine, its = zip(*samples, strict=True)
    return Series(mine, subject=mine, floor=its)


@contextmanager
def _followed_lab(bench: Bench, number: int) -> Iterator[tuple[Inventory, list[int], TextIO]]:
    """Return an inventory of one host, ``number`` processes that follow its history, and the pipe of their output."""
    with bench.scratch() as folder, open_inventory(folder / "lab.db", actor="holder@lab", create=True) as lab:
        lab.add("node01")
        command = [programs(bench).bmhctl, "-i", str(folder / "lab.db"), "history", "-n1", "--follow", "-o", "jsonl"]
        reader, writer = os.pipe()
        with os.fdopen(reader) as answers, _children(command, number, writer) as following:
            os.close(writer)
            for _ in range(number):
                answers.readline()
            yield lab, following, answers


def _handed_on(bench: Bench) -> Series:
    samples = []
    with _followed_lab(bench, 1) as (lab, _, answers):
        for _ in range(bench.at_most(20)):
            lab.cordon("node01", reason="drill")
            began = time.perf_counter()  # the event is committed
            answers.readline()
            samples.append(time.perf_counter() - began)
            lab.uncordon("node01")
            answers.readline()
    return Series(samples)


def _following(bench: Bench) -> Series:
    number = bench.size(50, 5)
    sleeper = [programs(bench).python, "-c", _SLEEPER]
    with _followed_lab(bench, number) as (_, following, _), _children(sleeper, number) as asleep:
        samples = [_percent(following, asleep) for _ in range(bench.at_most(5))]
    mine, its = zip(*samples, strict=True)
    return Series(mine, subject=mine, floor=its)


def _percent(*groups: Sequence[int]) -> list[float]:
    """Return how many percent of a core each group of processes uses while all groups run at the same time."""
    before, began = [sum(map(_used, group)) for group in groups], time.monotonic()
    time.sleep(_IDLE)
    share = 100 / (time.monotonic() - began)
    return [share * (sum(map(_used, group)) - used) for group, used in zip(groups, before, strict=True)]


def _used(pid: int) -> float:
    """The seconds of processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


FIGURES = (
    Figure(
        "waiting/handover",
        "from a host that is ready again to the next waiter's answer, 100 waiters",
        _handed_over,
        0.3,
        unit="s",
    ),
    Figure("waiting/follow", "from a commit to the line that history --follow prints", _handed_on, 0.3, unit="s"),
    Figure("waiting/followers", "processor time of 50 followers, in percent of a core", _following, 10, unit="%"),
    Figure("waiting/idle", "processor time of 100 waiters, in percent of a core", _idle, unit="%"),
)
