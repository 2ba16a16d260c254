"""A TOML file under editors and git while processes reserve, release and recycle: no command breaks, no host is lost.

Commands may report that the file is broken (10), missing or changing (11), or that their host is not in it any more.
Faults are a traceback, an undocumented status, an acknowledged reservation or release that is not in the inventory, a
chain of events with a gap, and a used host that is clean without its cleanup.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bmhctl.domain.model import State, Verb
from bmhctl.stores.host_query import HostQuery
from tests.conftest import SCALE, Lab, environment
from tests.faults.figures import Figures
from tests.faults.forked_commands import End, ForkedCommands
from tests.faults.snapshots import check

PROCESSES = 4
EDITS = round(30 * SCALE)
STATUSES = {*range(13)} - {1}

POLICY = """
[cleanup.wipe]
command = ["true"]
"""
HOSTS = [f'[hosts.node{number}]\nmac = "52:54:00:00:00:0{number}"\n' for number in range(1, 7)]
FEW = "# a lab\n" + POLICY + "".join(HOSTS[:4])
MANY = "# a lab\n" + POLICY + "".join(HOSTS[:3]).replace("\nmac", '\nnote = "moved"\nmac', 1) + "".join(HOSTS[4:])
"""Two declarations of a lab: node4 is only in the first, node5 and node6 are only in the second."""


Edit = Iterator[None]
"""A save of a file that stops at each moment at which the file is not complete, until some commands have read it."""


def in_place(path: Path, text: str) -> Edit:
    """Truncates the file and writes it in pieces, like many editors and cp."""
    with path.open("w", encoding="utf-8") as file:
        yield
        for start in range(0, len(text), len(text) // 3):
            file.write(text[start : start + len(text) // 3])
            file.flush()
            yield


def by_renaming(path: Path, text: str) -> Edit:
    """Writes another file and moves it into place, as careful editors do."""
    new = path.with_name("new.swp")
    new.write_text(text, encoding="utf-8")
    yield
    new.replace(path)


def like_vim(path: Path, text: str) -> Edit:
    """Moves the old file away first, like vim, so that for a moment there is no file."""
    path.replace(path.with_name("lab.toml~"))
    yield
    path.write_text(text, encoding="utf-8")


def by_git(path: Path, text: str) -> Edit:
    """Checks out one branch after the other; git does not wait for the locks of bmhctl."""
    yield
    for branch in ("few", "many", "few" if text == FEW else "many"):
        git(path.parent, "checkout", "--quiet", "--force", branch)


def git(folder: Path, *args: str) -> None:
    subprocess.run(["git", *args], cwd=folder, env=environment(GIT_CONFIG_GLOBAL=os.devnull), check=True)


def branches(folder: Path) -> None:
    """A repository with one branch for each declaration."""
    git(folder, "init", "--quiet", "--initial-branch=few")
    for branch, text in (("few", FEW), ("many", MANY)):
        if branch == "many":
            git(folder, "checkout", "--quiet", "-b", branch)
        (folder / "lab.toml").write_text(text, encoding="utf-8")
        git(folder, "add", "lab.toml")
        git(folder, "-c", "user.name=lab", "-c", "user.email=lab@localhost", "commit", "--quiet", "-m", branch)
    git(folder, "checkout", "--quiet", "few")


EDITORS: dict[str, Callable[[Path, str], Edit]] = {
    "in place": in_place,
    "by renaming": by_renaming,
    "like vim": like_vim,
    "by git": by_git,
}


class Worker(threading.Thread):
    """Repeatedly reserves a host, gives it back and recycles it; each command is a process.

    Commands that fail because of the file are tried again. With ``sets``, the worker edits the file, too.
    """

    def __init__(self, folder: Path, number: int, over: threading.Event, *, sets: bool) -> None:
        super().__init__()
        self._forked = ForkedCommands(environment(BMHCTL_ACTOR=f"worker{number}"))
        self._folder = folder
        self._over = over
        self._sets = sets
        self.ends: list[tuple[tuple[str, ...], End]] = []
        self.held: dict[str, bool] = {}
        """The acknowledged reservations, each with whether its release was acknowledged."""

    def run(self) -> None:
        while not self._over.is_set():
            reserved = self._bmhctl("reserve", "-n", "1", "-o", "json")
            if reserved.status != 0:
                continue
            reservation = json.loads(reserved.stdout)["reservation"]
            token, name = reservation["id"], reservation["hosts"][0]
            self.held[token] = False
            self.held[token] = self._bmhctl("release", "-R", token).status == 0
            self._bmhctl("recycle", name)
            if self._sets:
                self._bmhctl("set", "node2", "--label", f"round=r{len(self.ends)}")

    def _bmhctl(self, *line: str) -> End:
        while True:
            end = self._forked.run(self._folder, ("-i", "lab.toml", *line))
            self.ends.append((line, end))
            if end.status not in (10, 11) or self._over.is_set():
                return end


@pytest.fixture
def lab(folder: Path) -> Iterator[Lab]:
    made = Lab(folder / "lab.toml")
    yield made
    made.close()


@pytest.mark.parametrize("editor", EDITORS)
def test_no_host_is_lost_while_the_toml_file_is_edited_beside_running_commands(
    editor: str, lab: Lab, folder: Path, forked: ForkedCommands, figures: Figures
) -> None:
    if editor == "by git":
        if shutil.which("git") is None:
            pytest.skip("git is not here")
        branches(folder)
    else:
        lab.path.write_text(FEW, encoding="utf-8")
    assert forked.run(folder, ("-i", "lab.toml", "ready", "node[1-4]")).status == 0
    over = threading.Event()
    # One edits the file, too; not what another editor has half written and goes on to write: that edit would be lost.
    sets = editor != "in place"
    workers = [Worker(folder, number, over, sets=sets and number == 0) for number in range(PROCESSES)]
    for worker in workers:
        worker.start()

    def commands() -> int:
        return sum(len(worker.ends) for worker in workers)

    def done() -> int:
        return sum(end.status == 0 for worker in workers for _, end in list(worker.ends))

    for number in range(EDITS):
        for _ in EDITORS[editor](lab.path, MANY if number % 2 == 0 else FEW):
            until(commands() + 2, commands)
        until(done() + 2, done)
    for _ in EDITORS[editor](lab.path, FEW):
        until(commands() + 1, commands)
    over.set()
    for worker in workers:
        worker.join(60)

    ends = [end for worker in workers for _, end in worker.ends]
    statuses = Counter(end.status for end in ends)
    print(editor, dict(statuses))
    broken = [end for end in ends if end.status not in STATUSES or "Traceback" in end.stderr]
    store = lab.context().store
    check(store)
    lost = [*broken, *(token for worker in workers for token in missing(store, worker)), *laundered(store)]
    figures("editors", "toml", tries=len(ends), faults=EDITS + 1, losses=len(lost))
    assert lost == []
    assert statuses[0] >= 2 * EDITS

    # and all hosts can be used again
    for line in (["reap"], ["recycle", "node[1-4]"], ["ready", "node[1-4]"]):
        forked.run(folder, ("-i", "lab.toml", *line))
    for token in [one.id for one in store.reservations.open()]:
        assert forked.run(folder, ("-i", "lab.toml", "release", "-R", token)).status == 0
    assert forked.run(folder, ("-i", "lab.toml", "recycle", "node[1-4]")).status == 0
    everyone = forked.run(folder, ("-i", "lab.toml", "reserve", "-n", "4"))
    assert (everyone.status, everyone.stderr) == (0, "")


def missing(store, worker: Worker) -> Iterator[str]:  # type: ignore[no-untyped-def]  # a Store
    """Return the reservations that a worker received and that the inventory does not have."""
    for token, is_given_back in worker.held.items():
        known = store.reservations.get(token)
        if known is None or (is_given_back and known.is_open()):
            yield token


def laundered(store) -> Iterator[str]:  # type: ignore[no-untyped-def]  # a Store
    """Return hosts that became clean after a use although the cleanup step, which is always declared, did not run."""
    for host in store.hosts.find(HostQuery()):
        for event in store.events.read(host):
            if event.verb is Verb.RESET and event.source is State.TAINTED and "wipe" not in (event.reason or ""):
                yield f"{host.name}: {event.reason}"


def until(number: int, counted: Callable[[], int]) -> None:
    """Waits until other processes have counted to a number; fails the test if that takes too long."""
    deadline = time.monotonic() + 60
    while counted() < number:
        assert time.monotonic() < deadline, "it never came to pass"
        time.sleep(0.005)
