"""Run random clients beside a nemesis that kills, stops, locks, moves, restarts and sets clocks; then check the logs.

    python -m tests.nemesis --backend postgres --minutes 60 --seed 7

Exit status 1: the checker found something. The checker reads only the logs of the tasks and the output of ``bmhctl
history``.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import shutil
import signal
import sqlite3
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

from bmhctl.support.watchdog import processes
from tests import forked
from tests.conftest import environment
from tests.forked import Process
from tests.postgres import Server

HOSTS = ("node1", "node2", "node3", "node4")
STATUSES = {0, 4, 5, 7, 8, 11, 12, 124, 125, 137, 143}
"""The allowed exit statuses: the documented ones, and those of processes that were ended from outside."""

DECOY = "decoy1"
"""The host in the other inventory, which replaces that of the clients for a while; it is in maintenance."""

TASK = (
    'trap "" TERM; n=0; while [ $n -lt {beats} ]; do'
    ' echo "$BMH_HOST $BMH_RESERVATION $$ $(date +%s.%N)" >> {log}; sleep 0.05; n=$((n+1)); done'
)
"""A task that ignores TERM, and records the times at which it uses each host."""

CLOCK = """
import os, time

right = time.clock_gettime

def moved(clock):
    if clock != time.CLOCK_REALTIME:
        return right(clock)
    with open(os.environ["NEMESIS_CLOCK"]) as file:
        return right(clock) + float(file.read())

time.clock_gettime = moved
"""
"""Gives a client the clock that the nemesis sets: a file has the number of seconds by which it is wrong."""

COMMAND = "from bmhctl.__main__ import main\nmain()\n"

API = """
import os, random, sys, time
from bmhctl import BmhctlError, open_inventory
_, location, actor, seed, log = sys.argv[1:]
dice = random.Random(seed)
try:
    with open_inventory(location, actor=actor) as lab:
        held = lab.reserve(count=1, ttl="3s", wait="3s")
        ends = 0.0
        for beat in range(dice.randrange(1, 60)):
            now = time.monotonic()
            if beat % 20 == 0:  # by the steady clock: a task of the API is not ended when its lease is
                lab.extend(held.reservation.id, "3s")
                ends = now + 3
            now, at = time.monotonic(), time.time()
            if now >= ends:
                break
            with open(log, "a") as file:
                file.write(f"{held.hosts[0].name} {held.reservation.id} {os.getpid()} {at:.9f}\\n")
            time.sleep(0.05)
        lab.release(held.reservation.id)
except BmhctlError as error:
    sys.exit(print(error.message, file=sys.stderr) or int(error.status))
"""


BOOK = """
import os, random, sys, time
from datetime import timedelta
from bmhctl import BmhctlError, open_inventory
from bmhctl.usecases.reservations.bookings import reschedule
_, location, actor, seed, log = sys.argv[1:]
dice = random.Random(seed)
try:
    with open_inventory(location, actor=actor) as lab:
        made = lab.book(begins="2s", ttl="6s", count=1)[0].booking
        turn = dice.random()
        if turn < 0.2:
            lab.cancel_booking(made.id)
        elif turn < 0.4:
            reschedule(lab._context, made.id, made.starts_at + timedelta(seconds=5))
        elif turn < 0.9:
            time.sleep(2)
            ends = time.monotonic() + 2  # the lease is longer, and begins later
            held = lab.reserve(booking=made.id, ttl="3s")
            while True:
                now, at = time.monotonic(), time.time()
                if now >= ends:
                    break
                with open(log, "a") as file:
                    file.write(f"{held.hosts[0].name} {held.reservation.id} {os.getpid()} {at:.9f}\\n")
                time.sleep(0.05)
            lab.release(held.reservation.id)
except BmhctlError as error:
    print(error.message, file=sys.stderr)
    sys.exit(5 if error.status == 2 else int(error.status))  # the clock was set past its beginning
"""


_Moments = defaultdict[tuple[str, str], float]


@dataclass
class Clients:
    """Processes that run random commands on one inventory; they write into ``log``.

    ``unwatched`` are processes whose watchdog was killed: if they are killed or stopped as well, nothing ends their
    task. No act of the nemesis takes longer than ``longest`` seconds. A client pauses for up to ``pause`` seconds after
    each command.
    """

    location: str
    folder: Path
    dice: random.Random
    ended: Counter[tuple[str, int]] = field(default_factory=Counter)
    complaints: list[str] = field(default_factory=list)
    running: list[Process] = field(default_factory=list)
    is_over: threading.Event = field(default_factory=threading.Event)
    unwatched: set[int] = field(default_factory=set)
    longest: float = 6
    pause: float = 0

    @property
    def log(self) -> Path:
        return self.folder / "beats"

    @property
    def place(self) -> Path:
        """The folder of the inventory, if that is a file."""
        return self.folder / "lab"

    @property
    def database(self) -> Path:
        """The inventory's SQLite file, if it has one."""
        return self.place / ("lab.state.db" if self.location.endswith(".toml") else "lab.db")

    @property
    def clock(self) -> Path:
        return self.folder / "clock"

    def victims(self) -> list[Process]:
        """The processes that may be killed and stopped."""
        return [process for process in self.running if process.pid not in self.unwatched]

    def set_clock(self, seconds: float) -> None:
        """Make the clients' clock wrong by this number of seconds."""
        new = self.clock.with_name("clock.new")
        new.write_text(str(seconds))
        new.replace(self.clock)

    def commands(self, dice: random.Random) -> Sequence[str]:
        task = TASK.format(beats=dice.randrange(1, 100), log=self.log)
        request = ("--request-id", f"job-{dice.randrange(50)}") if dice.random() < 0.2 else ()
        return dice.choice(
            [
                ("run", "-n1", "--ttl", dice.choice(("2s", "3s", "5s")), *request, "--", "sh", "-c", task),
                ("run", "-n1", "--ttl", "3s", "--wait", "5s", "--", "sh", "-c", task),
                ("run", "--host", dice.choice(HOSTS), "--ttl", "3s", "--wait", "3s", "--", "sh", "-c", task),
                ("run", "-n1", "--ttl", "2s", "--wait", "5s", "--", "sh", "-c", task),
                ("recycle",),
                ("recycle",),
                ("reap",),
                ("cordon", dice.choice(HOSTS), "--reason", "nemesis"),
                ("uncordon", "node*"),
                ("resume", "node*"),
                ("list", "-o", "json"),
                ("api",),
                ("book",),
                ("book",),
                ("reserve", "-n1", "--from", "1m", "--ttl", "1m"),
                ("maintain", dice.choice(HOSTS), "--from", "1m", "--until", "+2s", "--reason", "power", "--resume"),
            ]
        )

    def is_expected(self, status: int, said: str) -> bool:
        """Whether a command may end in this way; while the decoy is in place of the folder, a host may be missing or
        refused."""
        if status in STATUSES or self.location.startswith("postgres"):
            return status in STATUSES
        return status == 3 or (status == 10 and "belongs to" in said)

    def live(self, number: int, seed: int) -> None:
        """One client: run one command after the other, until the time is over."""
        dice = random.Random(seed)
        while not self.is_over.is_set():
            line = self.commands(dice) if number else ("api",)  # the first one uses Python alone
            code, more = COMMAND, ["--as", f"client{number}", *line]
            if line in (("api",), ("book",)):
                code, more = BOOK if line == ("book",) else API, [f"client{number}", str(dice.random()), str(self.log)]
            process = Process(
                ["-i", self.location, *more],
                self.folder,
                environment(NEMESIS_CLOCK=str(self.clock)),
                code=CLOCK + code,
            )
            self.running.append(process)
            _, said = process.communicate()
            self.running.remove(process)
            ended = process.wait()
            status = ended if ended >= 0 else 128 - ended
            self.ended[line[0], status] += 1
            if not self.is_expected(status, said) or "Traceback" in said:
                self.complaints.append(f"{' '.join(line)[:80]}: status {status}: {said}")
            self.is_over.wait(dice.uniform(0, self.pause))


def kill(clients: Clients, dice: random.Random) -> None:
    """Kill a random command with SIGKILL, sometimes one with a task."""
    victims = clients.victims()
    for process in dice.sample(victims, min(1, len(victims))):
        with suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)  # Process.kill would read its end, for which the client waits


def kill_watchdog(clients: Clients, dice: random.Random) -> None:
    """Kill the watchdogs of a ``run`` and of a step with SIGKILL; their runners must still end the tasks."""
    known = processes() or {}
    watchdogs = []
    for process, (parent, _, _) in known.items():
        with suppress(OSError):
            words = Path(f"/proc/{process}/cmdline").read_bytes()
            if b"watchdog.py" in words and parent in {client.pid for client in clients.running}:
                watchdogs.append((process, parent))
    for process, parent in dice.sample(watchdogs, min(1, len(watchdogs))):
        clients.unwatched.add(parent)
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)


def move(clients: Clients, dice: random.Random) -> None:
    """Move the folder of the inventory away and back, sometimes with another folder in its place meanwhile."""
    away, decoy = clients.folder / "away", clients.folder / "decoy"
    is_swapped = dice.random() < 0.5
    clients.place.rename(away)
    if is_swapped:
        decoy.rename(clients.place)
    time.sleep(dice.uniform(0.3, clients.longest))
    if is_swapped:
        clients.place.rename(decoy)
    away.rename(clients.place)


def set_clock(clients: Clients, dice: random.Random) -> None:
    """Set the clients' clock back by up to an hour; on a server, whose clock counts, also far ahead.

    If a machine's clock is set ahead, leases end while their tasks run; with file inventories no code can prevent that.
    """
    if clients.location.startswith("postgres"):
        clients.set_clock(dice.uniform(-3600, 3600))
    else:
        clients.set_clock(float(clients.clock.read_text()) - dice.uniform(0, 3600))


def stop(clients: Clients, dice: random.Random) -> None:
    """Stop a command with SIGSTOP for longer than its lease."""
    victims = clients.victims()
    runs = [process for process in victims if "run" in process.args] or victims
    stopped = dice.sample(runs, min(3, len(runs)))
    for number in (signal.SIGSTOP, signal.SIGCONT):
        for process in stopped:
            with suppress(ProcessLookupError):
                os.kill(process.pid, number)
        time.sleep(dice.uniform(2, clients.longest) if number == signal.SIGSTOP else 0)


def lock(clients: Clients, dice: random.Random) -> None:
    """Hold the write lock in another process for long."""
    with closing(sqlite3.connect(clients.database, isolation_level=None)) as other, suppress(sqlite3.Error):
        other.execute("BEGIN IMMEDIATE")
        time.sleep(dice.uniform(0.5, clients.longest))
        other.execute("ROLLBACK")


def checkpoint(clients: Clients, dice: random.Random) -> None:
    """Copy SQLite's log into the file again and again, as other programs may: the file then changes, but is not another
    one."""
    for _ in range(20):
        with closing(sqlite3.connect(clients.database, timeout=1)) as other, suppress(sqlite3.Error):
            other.execute(
                f"PRAGMA wal_checkpoint({dice.choice(('PASSIVE', 'FULL', 'RESTART', 'TRUNCATE'))})"
            ).fetchall()
        time.sleep(dice.uniform(0, 0.1))


def overlapping(bookings: str, history: str = "") -> list[str]:
    """Return the pairs of overlapping bookings of a host, among those that were kept until they began; reads JSON
    lines.

    Because the clock is set back, a booking may get a host for a time for which an earlier booking, which has ended,
    had it. The order of the events shows whether both had it at once. A booking that
    gets a host when the time of another one on it is over does not overlap with that one, even if nothing has recorded
    its end yet.
    """
    kept = [each for each in map(json.loads, bookings.splitlines()) if each["kind"] == "booking"]
    planned, ended, since = _lives(kept, history)
    wrong = []
    for one, other in combinations(kept, 2):
        begin = max(one["starts_at"], other["starts_at"])
        is_kept = all(each["ended_at"] is None or each["ended_at"] > begin for each in (one, other))
        is_shared = any(
            planned[one["id"], host] < ended[other["id"], host]
            and planned[other["id"], host] < ended[one["id"], host]
            and max(since.get((each["id"], host), begin) for each in (one, other))
            < min(one["ends_at"], other["ends_at"])
            for host in {*one["hosts"]} & {*other["hosts"]}
        )
        if is_kept and begin < min(one["ends_at"], other["ends_at"]) and is_shared:
            wrong.append(f"{one['id']} and {other['id']} overlap at {begin}")
    return wrong


def _lives(bookings: Iterable[dict[str, Any]], history: str) -> tuple[_Moments, _Moments, dict[tuple[str, str], str]]:
    """Return for each booking and host the event that set the host aside, the event that ended this, and when it was
    set aside.
    """
    taken = {each["reservation"]: each["id"] for each in bookings if each["reservation"]}
    planned: _Moments = defaultdict(float)
    ended: _Moments = defaultdict(lambda: float("inf"))
    since: dict[tuple[str, str], str] = {}
    for event in map(json.loads, history.splitlines()):
        for booking in re.findall(r"b-\w{8}", event.get("reason") or ""):
            if event["verb"] == "planned":
                planned[booking, event["host"]] = event["id"]
                since[booking, event["host"]] = event["at"]
                ended.pop((booking, event["host"]), None)
            elif event["verb"] == "plan-ended":
                ended[booking, event["host"]] = event["id"]
        if event["verb"] == "reserve" and event["reservation"] in taken:
            ended[taken[event["reservation"]], event["host"]] = event["id"]
    return planned, ended, since


def checked(clients: Clients, history: str, bookings: str = "") -> list[str]:
    """Return the contradictions between the logs of the tasks, the history and the bookings."""
    wrong = [*clients.complaints, *overlapping(bookings, history)]
    spans: dict[tuple[str, str, str], list[float]] = defaultdict(
        list
    )  # for each task, because two tasks may share a reservation
    for line in clients.log.read_text().splitlines() if clients.log.exists() else ():
        host, reservation, task, at = line.split()
        spans[host, reservation, task].append(float(at))
    for name in HOSTS:
        of_host = sorted(
            (min(beats), max(beats), reservation) for (host, reservation, _), beats in spans.items() if host == name
        )
        for (_, ended, one), (began, _, other) in pairwise(of_host):
            if began <= ended:
                wrong.append(f"{name}: {one} was on it until {ended:.3f}, {other} from {began:.3f}")
    chains: dict[str, list[dict[str, str]]] = defaultdict(list)
    for event in map(json.loads, history.splitlines()):
        chains[event["host"]].append(event)
    for name, events in chains.items():
        for before, after in pairwise(events):
            if after["source"] != before["dest"]:
                wrong.append(
                    f"{name}: {after['verb']} from {after['source']} follows {before['verb']} to {before['dest']}"
                )
        used = False
        for event in events:
            if event["dest"] == "available" and event["source"] != "available" and used:
                wrong.append(f"{name}: available again without a cleanup")
            is_clean = event["verb"] == "reset" or (event["verb"] == "resume" and "cleanup" in str(event["reason"]))
            used = (used or event["verb"] == "reserve") and not is_clean
        known = {event["reservation"] for event in events if event["verb"] == "reserve"}
        wrong += [
            f"{name}: {held} is not in the history" for host, held, _ in spans if host == name and held not in known
        ]
    return wrong


def attack(
    backend: str,
    folder: Path,
    seconds: float,
    seed: int,
    *,
    number: int = 6,
    longest: float = 6,
    pause: float = 0,
) -> list[str]:
    """Let clients and the nemesis work on a new inventory for ``seconds``; return the findings of the checker.

    Each act of the nemesis comes in turn, in an order that changes, and at least once.
    """
    server = Server() if backend == "postgres" else None
    try:
        if server is not None:
            server.start()
        (folder / "lab").mkdir()
        file = folder / "lab" / ("lab.toml" if backend == "toml" else "lab.db")
        location = str(file) if server is None else server.url
        clients = Clients(location, folder, random.Random(seed), longest=longest, pause=pause)
        return _attack(clients, seconds, seed, server, number)
    finally:
        if server is not None:
            server.remove()


def _attack(clients: Clients, seconds: float, seed: int, server: Server | None, number: int) -> list[str]:
    location, folder, dice = clients.location, clients.folder, clients.dice
    clients.set_clock(0)

    def bmhctl(*args: str, place: str = location) -> str:
        status, stdout, stderr = forked.run(["-i", place, *args], folder, environment(), timeout=600)
        assert status == 0, stderr.decode()
        return stdout.decode()

    def restart(_: Clients, __: random.Random) -> None:
        assert server is not None
        server.stop(kill=dice.random() < 0.5)
        time.sleep(dice.uniform(0, 2))
        server.start()

    decoy = location.replace("/lab/", "/decoy/")
    if server is None:
        (folder / "decoy").mkdir()
        bmhctl("init", place=decoy)
        bmhctl("add", DECOY, place=decoy)
        bmhctl("maintain", DECOY, "--reason", "nemesis", place=decoy)
    bmhctl("init")
    bmhctl("add", *HOSTS)
    bmhctl("ready", *HOSTS)
    threads = [
        threading.Thread(target=clients.live, args=(each, dice.randrange(1 << 30)), name=f"client{each}")
        for each in range(number)
    ]
    for thread in threads:
        thread.start()
    acts: list[Callable[[Clients, random.Random], None]] = [kill, kill_watchdog, stop, set_clock]
    acts += [lock, checkpoint, move] if server is None else [restart]
    ends = time.monotonic() + seconds
    faults: Counter[str] = Counter()
    while time.monotonic() < ends or len(faults) < len(acts):
        for act in dice.sample(acts, len(acts)):
            time.sleep(dice.uniform(0.1, 1))
            act(clients, dice)
            faults[act.__name__] += 1
    clients.is_over.set()
    for thread in threads:
        thread.join()
    time.sleep(6)  # a task that outlives its command is ended by its watchdog, before its lease ends
    history, bookings = bmhctl("history", "-o", "jsonl"), bmhctl("bookings", "--ended", "-o", "jsonl")
    (folder / "history.jsonl").write_text(history)
    (folder / "bookings.jsonl").write_text(bookings)
    wrong = checked(clients, history, bookings)
    if server is None and len(written := bmhctl("history", "-o", "jsonl", place=decoy).splitlines()) != 2:
        wrong.append(f"the other inventory was written to: {written}")
    print(f"seed {seed}, {faults.total()} faults, {sum(clients.ended.values())} commands: {len(wrong)} findings")
    print(", ".join(f"{name} {count}" for name, count in sorted(faults.items())))
    for (command, status), count in sorted(clients.ended.items()):
        print(f"  {command:10} {status:3} {count:6}")
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.nemesis", description=__doc__)
    parser.add_argument("--backend", choices=("toml", "sqlite", "postgres"), default="sqlite")
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--clients", type=int, default=14)
    asked = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="nemesis-"))
    wrong = attack(asked.backend, folder, asked.minutes * 60, asked.seed, number=asked.clients)
    for each in wrong:
        print(each)
    if wrong:
        print(f"the history, the bookings and the logs of the tasks are kept in {folder}")
        return 1
    shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    os.environ.setdefault("LC_ALL", "C.UTF-8")
    sys.exit(main())
