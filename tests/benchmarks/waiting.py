"""What waiting costs: an idle waiter, a hundred of them, and the time from giving back to the next grant.

    python tests/benchmarks/waiting.py [--waiters N] [--hosts N] [--seconds N] [--home db|toml]

Each waiter is a process of its own, ``bmhctl reserve --wait``. Prints percent of one core, beside a process that
only sleeps as often as a waiter looks, and seconds.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from bmhctl import open_inventory
from bmhctl.api import Inventory
from bmhctl.usecases.queue import queue

TICKS = os.sysconf("SC_CLK_TCK")
SLEEPER = "import time\nwhile True: time.sleep(0.1)"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--waiters", type=int, default=100)
    parser.add_argument("--hosts", type=int, default=40)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--home", choices=("db", "toml"), default="db")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"lab.{options.home}"
        with open_inventory(path, actor="holder", create=True) as lab:
            lab.add(*(f"node{number:05}" for number in range(options.hosts)))
            lab.ready("node*")
            held = lab.reserve(count=options.hosts, ttl="1h")
            for number in (1, options.waiters):
                report(f"{number} waiting", idle(lab, path, number, options.seconds))
                asleep = [[sys.executable, "-c", SLEEPER]] * number
                report(f"{number} asleep", measured(asleep, options.seconds, lab))
            print(f"from giving back to the grant: {handover(path, lab, held.reservation.id):.3f} s")


def report(name: str, percent: float) -> None:
    print(f"{name:>15}: {percent:6.2f} % of a core", flush=True)


def waiter(path: Path, number: int) -> list[str]:
    return [sys.executable, "-m", "bmhctl", "-i", str(path), "--as", f"waiter{number}", "reserve", "-n1", "--wait"]


def idle(lab: Inventory, path: Path, number: int, seconds: float) -> float:
    """Percent of a core that so many waiters use together, once they all wait."""
    return measured([waiter(path, count) for count in range(number)], seconds, lab, number)


def measured(commands: list[list[str]], seconds: float, lab: Inventory, tickets: int = 0) -> float:
    children = [
        subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, text=True)
        for command in commands
    ]
    try:
        await_tickets(lab, tickets, children)
        time.sleep(2)  # the last one's arrival has woken all others
        before, began = sum(used(child.pid) for child in children), time.monotonic()
        time.sleep(seconds)
        return 100 * (sum(used(child.pid) for child in children) - before) / (time.monotonic() - began)
    finally:
        for child in children:
            child.terminate()
        for child in children:
            child.wait()


def used(pid: int) -> float:
    """The seconds of processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def await_tickets(lab: Inventory, number: int, children: Sequence[subprocess.Popen[str]]) -> None:
    while len(queue(lab._context).items) < number:
        assert all(child.poll() is None for child in children), "a waiter has failed"
        time.sleep(0.2)


def handover(path: Path, lab: Inventory, reservation: str) -> float:
    """Seconds from the end of ``ready`` to the answer of a waiter that is a process of its own."""
    with subprocess.Popen([*waiter(path, 0), "-o", "name"], stdout=subprocess.PIPE, text=True) as child:
        await_tickets(lab, 1, [child])
        lab.release(reservation)
        lab.reset("node00000")
        lab.ready("node00000")
        began = time.monotonic()
        assert child.stdout is not None
        child.stdout.readline()
        return time.monotonic() - began


if __name__ == "__main__":
    main()
