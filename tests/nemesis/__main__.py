"""Random clients beside a nemesis that kills, stops, locks and restarts; afterwards a checker that knows only logs.

    python -m tests.nemesis --backend postgres --minutes 60 --seed 7

Exit status 1: the checker found something. The checker reads what the tasks wrote down and what ``bmhctl history``
prints, and nothing else.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from tests.conftest import environment
from tests.postgres import Server

HOSTS = ("node1", "node2", "node3", "node4")
STATUSES = {0, 4, 5, 7, 8, 11, 12, 124, 125, 137, 143}
"""How a command may end here: published statuses, and what ends a process from outside."""

TASK = (
    'trap "" TERM; n=0; while [ $n -lt {beats} ]; do'
    ' echo "$BMH_HOST $BMH_RESERVATION $(date +%s.%N)" >> {log}; sleep 0.05; n=$((n+1)); done'
)
"""A task that ignores TERM, and writes down when it is on which host."""

API = """
import random, sys, time
from bmhctl import BmhctlError, open_inventory
location, actor, seed, log = sys.argv[1:]
dice = random.Random(seed)
with open_inventory(location, actor=actor) as lab:
    held = lab.reserve(count=1, ttl="3s", wait="3s")
    for _ in range(dice.randrange(1, 20)):
        at = time.time()
        if at >= held.reservation.expires_at.timestamp():  # it was stopped: nothing ends a task of the API
            break
        with open(log, "a") as file:
            file.write(f"{held.hosts[0].name} {held.reservation.id} {at:.9f}\\n")
        time.sleep(0.05)
    lab.release(held.reservation.id)
"""


@dataclass
class Clients:
    """Processes of random commands on one inventory; what they write down is in ``log``."""

    location: str
    folder: Path
    dice: random.Random
    ended: Counter[tuple[str, int]] = field(default_factory=Counter)
    complaints: list[str] = field(default_factory=list)
    running: list[subprocess.Popen[str]] = field(default_factory=list)
    is_over: threading.Event = field(default_factory=threading.Event)

    @property
    def log(self) -> Path:
        return self.folder / "beats"

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
                ("list", "-o", "json"),
                ("api",),
            ]
        )

    def live(self, number: int, seed: int) -> None:
        """One client: a command after the other, until it is over."""
        dice = random.Random(seed)
        while not self.is_over.is_set():
            line = self.commands(dice)
            module = ["-c", API, self.location, f"client{number}", str(dice.random()), str(self.log)]
            if line != ("api",):
                module = ["-m", "bmhctl", "-i", self.location, "--as", f"client{number}", *line]
            process = subprocess.Popen(
                [sys.executable, *module],
                env=environment(),
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )
            self.running.append(process)
            _, said = process.communicate()
            self.running.remove(process)
            status = process.returncode if process.returncode >= 0 else 128 - process.returncode
            self.ended[line[0], status] += 1
            if line != ("api",) and (status not in STATUSES or "Traceback" in said):
                self.complaints.append(f"{' '.join(line)[:80]}: status {status}: {said}")


def kill(clients: Clients, dice: random.Random) -> None:
    """SIGKILL of a command, and with some luck of one with a task."""
    for process in dice.sample(clients.running, min(1, len(clients.running))):
        with suppress(ProcessLookupError):
            process.kill()


def stop(clients: Clients, dice: random.Random) -> None:
    """SIGSTOP of a command for longer than its lease."""
    runs = [process for process in clients.running if "run" in process.args] or clients.running
    stopped = dice.sample(runs, min(3, len(runs)))
    for number in (signal.SIGSTOP, signal.SIGCONT):
        for process in stopped:
            with suppress(ProcessLookupError):
                process.send_signal(number)
        time.sleep(dice.uniform(2, 6) if number == signal.SIGSTOP else 0)


def lock(clients: Clients, dice: random.Random) -> None:
    """Another process writes for long."""
    path = clients.folder / ("lab.state.db" if clients.location.endswith(".toml") else "lab.db")
    with closing(sqlite3.connect(path, isolation_level=None)) as other, suppress(sqlite3.Error):
        other.execute("BEGIN IMMEDIATE")
        time.sleep(dice.uniform(0.5, 7))
        other.execute("ROLLBACK")


def checked(clients: Clients, history: str) -> list[str]:
    """Return what is wrong with what the tasks wrote down and the history says."""
    wrong = list(clients.complaints)
    spans: dict[tuple[str, str], list[float]] = defaultdict(list)
    for line in clients.log.read_text().splitlines() if clients.log.exists() else ():
        host, reservation, at = line.split()
        spans[host, reservation].append(float(at))
    for name in HOSTS:
        of_host = sorted(
            (min(beats), max(beats), reservation) for (host, reservation), beats in spans.items() if host == name
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
            used = (used or event["verb"] == "reserve") and event["verb"] != "reset"
        known = {event["reservation"] for event in events if event["verb"] == "reserve"}
        wrong += [f"{name}: {held} is not in the history" for host, held in spans if host == name and held not in known]
    return wrong


def attack(location: str, folder: Path, seconds: float, seed: int, server: Server | None, number: int = 6) -> list[str]:
    """Let clients and the nemesis work on a new inventory for so long; return what the checker found."""
    dice = random.Random(seed)
    clients = Clients(location, folder, dice)

    def bmhctl(*args: str) -> str:
        line = [sys.executable, "-m", "bmhctl", "-i", location, *args]
        return subprocess.run(line, env=environment(), check=True, capture_output=True, text=True).stdout

    def restart(_: Clients, __: random.Random) -> None:
        assert server is not None
        server.stop(kill=dice.random() < 0.5)
        time.sleep(dice.uniform(0, 2))
        server.start()

    bmhctl("init")
    bmhctl("add", *HOSTS)
    bmhctl("ready", *HOSTS)
    threads = [
        threading.Thread(target=clients.live, args=(each, dice.randrange(1 << 30)), name=f"client{each}")
        for each in range(number)
    ]
    for thread in threads:
        thread.start()
    acts: list[Callable[[Clients, random.Random], None]] = [kill, stop, lock if server is None else restart]
    ends = time.monotonic() + seconds
    faults = 0
    while time.monotonic() < ends:
        time.sleep(dice.uniform(0.1, 1))
        dice.choice(acts)(clients, dice)
        faults += 1
    clients.is_over.set()
    for thread in threads:
        thread.join()
    time.sleep(6)  # what outlives its command is ended by its watchdog, at the end of its lease
    wrong = checked(clients, bmhctl("history", "-o", "jsonl"))
    print(f"seed {seed}, {faults} faults, {sum(clients.ended.values())} commands: {len(wrong)} findings")
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
    server = Server() if asked.backend == "postgres" else None
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        try:
            location = str(folder / ("lab.toml" if asked.backend == "toml" else "lab.db"))
            if server is not None:
                server.start()
                location = server.url
            wrong = attack(location, folder, asked.minutes * 60, asked.seed, server, asked.clients)
        finally:
            if server is not None:
                server.remove()
    for each in wrong:
        print(each)
    return 1 if wrong else 0


if __name__ == "__main__":
    os.environ.setdefault("LC_ALL", "C.UTF-8")
    sys.exit(main())
