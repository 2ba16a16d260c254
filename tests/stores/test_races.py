"""Processes that race for hosts, and processes that are killed: no host is shared and no change is lost."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import pytest

from bmhctl import open_inventory
from bmhctl.domain.model import State
from bmhctl.stores.claims import host_claim
from bmhctl.stores.host_query import HostQuery
from bmhctl.usecases import hosts, lifecycle_verbs, queries
from bmhctl.usecases.reservations import reserve
from bmhctl.usecases.shared.host_selection import Choice
from bmhctl.usecases.steps import step_verbs
from tests.conftest import SCALE, Lab, environment
from tests.forked import Process
from tests.processes import until

pytestmark = pytest.mark.slow

IS_WHOLE = SCALE >= 1
"""Whether every moment is tried, or only a sample that is the same in each run."""


@pytest.fixture(autouse=True)
def _real_time(request: pytest.FixtureRequest) -> None:
    """Set the clock of the test to the real time, which the other processes use."""
    for name in {"lab", "toml_lab"} & set(request.fixturenames):
        request.getfixturevalue(name).clock.now = datetime.now(UTC)


RACER = """
import os, sys
from bmhctl import BmhctlError, open_inventory
from bmhctl.errors import BusyError

inventory, actor, marks, rounds = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
got = 0
with open_inventory(inventory, actor=actor) as lab:
    print("ready", flush=True)
    sys.stdin.readline()
    while got < rounds:
        try:
            held = lab.reserve(count=1)
        except BusyError:
            continue
        mark = os.path.join(marks, held.hosts[0].name)
        os.close(os.open(mark, os.O_CREAT | os.O_EXCL))  # fails if another one holds this host
        os.unlink(mark)
        lab.release(held.reservation.id)
        lab.reset(held.hosts[0].name)
        lab.ready(held.hosts[0].name)
        got += 1
print(got)
"""


def spawn(code: str, *args: str) -> Process:
    return Process(args, Path.cwd(), environment(), code=code)


def test_processes_that_reserve_at_once_never_share_a_host(lab: Lab, tmp_path: Path) -> None:
    hosts.add(lab.context(), ["node[1-2]"], hosts.AttributeChanges())
    step_verbs.ready(lab.context(), Choice(everything=True))
    lab.close()
    marks = tmp_path / "marks"
    marks.mkdir()

    racers = [spawn(RACER, lab.location, f"actor{n}", str(marks), "25") for n in range(4)]
    for racer in racers:
        assert racer.stdout is not None
        assert racer.stdout.readline() == "ready\n"
    ends = []
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("go\n")
        racer.stdin.flush()
    for racer in racers:
        out, err = racer.communicate(timeout=120)
        ends.append((racer.returncode, out.strip(), err))

    assert ends == [(0, "25", "")] * 4
    store = lab.context().store
    assert [host.state for host in store.hosts.find(HostQuery())] == [State.AVAILABLE] * 2
    reserves = [event for event in store.events.read() if event.verb == "reserve"]
    assert len(reserves) == 100


BOOKER = """
import sys
from bmhctl import open_inventory
from bmhctl.errors import BusyError

inventory, actor = sys.argv[1:]
got = 0
with open_inventory(inventory, actor=actor) as lab:
    print("ready", flush=True)
    sys.stdin.readline()
    for start in range(60, 84):
        try:
            lab.book(begins=f"{start}m", ttl="90s", count=1)
            got += 1
        except BusyError:
            pass
print(got)
"""


def test_processes_that_book_at_once_never_get_overlapping_times(lab: Lab) -> None:
    hosts.add(lab.context(), ["node[1-2]"], hosts.AttributeChanges())
    step_verbs.ready(lab.context(), Choice(everything=True))
    lab.close()
    bookers = [spawn(BOOKER, lab.location, f"actor{n}") for n in range(3)]
    for booker in bookers:
        assert booker.stdout is not None
        assert booker.stdout.readline() == "ready\n"
    for booker in bookers:
        assert booker.stdin is not None
        booker.stdin.write("go\n")
        booker.stdin.flush()
    ends = [booker.communicate(timeout=120) for booker in bookers]
    assert [(booker.returncode, err) for booker, (_, err) in zip(bookers, ends, strict=True)] == [(0, "")] * 3
    store = lab.context().store
    made = store.bookings.open()
    assert len(made) == sum(int(out) for out, _ in ends) >= 24
    for host in store.hosts.find(HostQuery()):
        mine = [each for each in made if host.id in each.hosts]
        assert [each.id for each in mine] == [each.id for each in host.planned]
        assert all(one.ends_at <= following.starts_at for one, following in pairwise(mine))


VICTIM = """
import os, signal, sys
from bmhctl import open_inventory

inventory, kill_at = sys.argv[1], int(sys.argv[2])
statements = 0

def counting(act):
    def counted(self, sql="", *parameters, **more):
        global statements
        if statements >= kill_at:  # one may run others
            os.kill(os.getpid(), signal.SIGKILL)
        rows = act(self, *((sql,) if sql else ()), *parameters, **more)
        if not sql or sql.startswith(("BEGIN", "INSERT", "UPDATE", "DELETE", "COMMIT", "SAVEPOINT", "RELEASE")):
            statements += 1
        return rows
    return counted

with open_inventory(inventory, actor="victim") as lab:
    database = lab._context.store.database
    backend = type(database)
    for name in {"execute", "_run", "_run_many", "_begin", "_commit"} & {*vars(backend)}:
        setattr(backend, name, counting(getattr(backend, name)))
    held = lab.reserve(count=2)
    print(held.reservation.id, flush=True)
    lab.release(held.reservation.id)
    print("released", flush=True)
os._exit(0)
"""


def test_a_kill_at_any_statement_leaves_each_commit_whole_or_absent(lab: Lab) -> None:
    hosts.add(lab.context(), ["node[1-3]"], hosts.AttributeChanges())
    step_verbs.ready(lab.context(), Choice(everything=True))
    tries = 0
    for kill_at in range(200):
        lab.close()
        victim = spawn(VICTIM, lab.location, str(kill_at))
        out, err = victim.communicate(timeout=60)
        said = out.split()
        store = lab.context().store
        with store.transaction():  # the server may still work for a killed process
            held = store.reservations.open()
            reserved = list(store.hosts.find(HostQuery(states=frozenset({State.RESERVED}))))
        # a reservation has both of its hosts, or does not exist
        assert (len(held), len(reserved)) in ((0, 0), (1, 2)), kill_at
        if "released" in said:
            assert held == []
        elif said:  # an acknowledged reservation that no process has given back
            assert store.reservations.get(said[0]) is not None
        for host in store.hosts.find(HostQuery()):
            chain = list(store.events.read(host))
            assert chain[-1].dest == host.state
            assert chain[-1].id == host.last_event
        if victim.returncode == 0:
            break
        assert victim.returncode == -signal.SIGKILL, err
        tries += 1
        if held:
            lifecycle_verbs.release(lab.context("victim"), Choice(), reservation=held[0].id)
        step_verbs.reset(lab.context(), Choice(states=frozenset({State.TAINTED})))
        step_verbs.ready(lab.context(), Choice(states=frozenset({State.INITIAL})))
    else:
        pytest.fail("the victim never came to its end")
    # a server gets all writes of a grant and of a release with the commit
    assert tries >= 4, "it was killed before every statement that writes"


WORKER = """
import sys
from bmhctl import open_inventory

with open_inventory(sys.argv[1], actor="worker") as lab:
    while True:
        held = lab.reserve("node1")
        print("reserved", held.reservation.id, flush=True)
        lab.release(held.reservation.id)
        print("released", held.reservation.id, flush=True)
        lab.reset("node1")
        lab.ready("node1")
"""


def test_an_acknowledged_change_survives_a_kill_at_any_time(lab: Lab) -> None:
    hosts.add(lab.context(), ["node1"], hosts.AttributeChanges())
    step_verbs.ready(lab.context(), Choice(everything=True))
    for acknowledgements in range(1, 16, 1 if IS_WHOLE else 2):
        lab.close()
        worker = spawn(WORKER, lab.location)
        assert worker.stdout is not None
        said = [worker.stdout.readline().split() for _ in range(acknowledgements)]
        worker.kill()  # at some moment of the next commit
        written = worker.stdout.read().splitlines(keepends=True)
        said += [line.split() for line in written if line.endswith("\n")]
        worker.communicate()
        store = lab.context().store
        for word, reservation_id in said:
            known = store.reservations.get(reservation_id)
            assert known is not None
            assert word == "reserved" or known.ended_at is not None
        with store.transaction():  # the server may still work for a killed process
            left = store.reservations.open()
        for held in left:
            lifecycle_verbs.release(lab.context("worker"), Choice(), reservation=held.id)
        step_verbs.reset(lab.context(), Choice(states=frozenset({State.TAINTED})))
        step_verbs.ready(lab.context(), Choice(states=frozenset({State.INITIAL})))


EDITOR = """
import os, signal, sys
from bmhctl.stores.sqlite.database import SqliteDatabase
from bmhctl.stores.toml import atomic_replace
from bmhctl.usecases import hosts
from bmhctl import open_inventory

inventory, kill_at, verb = sys.argv[1], int(sys.argv[2]), sys.argv[3]
steps = 0

def killing(function):
    def wrapped(*args, **kwargs):
        global steps
        if steps == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        steps += 1
        return function(*args, **kwargs)
    return wrapped

with open_inventory(inventory, actor="editor") as lab:
    for name in ("fsync", "replace", "unlink"):
        setattr(os, name, killing(getattr(os, name)))
    for name in ("execute", "_run", "_run_many"):
        setattr(SqliteDatabase, name, killing(getattr(SqliteDatabase, name)))
    context = lab._context
    database = context.store.database
    if verb == "rename":
        hosts.rename(context, "node1", "renamed")
    elif verb == "remove":
        hosts.remove(context, hosts.Choice(("node2",)), force=True, reason="scrapped")
    else:
        hosts.add(context, ["added"], hosts.AttributeChanges(mac="52:54:00:00:00:09"))
    print("done", flush=True)
os._exit(0)
"""


@pytest.mark.parametrize("verb", ["add", "rename", "remove"])
def test_after_a_kill_during_an_edit_the_toml_file_and_the_state_agree(toml_lab: Lab, verb: str) -> None:
    hosts.add(toml_lab.context(), ["node1"], hosts.AttributeChanges(mac="52:54:00:00:00:01"))
    hosts.add(toml_lab.context(), ["node2"], hosts.AttributeChanges(mac="52:54:00:00:00:02"))
    step_verbs.ready(toml_lab.context(), Choice(everything=True))
    from bmhctl.domain.requirements import reservation_request

    reserve.reserve_or_wait(toml_lab.context("editor"), reservation_request(("node1", "node2")))
    before = {"node1": State.RESERVED, "node2": State.RESERVED}
    after = {
        "add": {**before, "added": State.INITIAL},
        "rename": {"renamed": State.RESERVED, "node2": State.RESERVED},
        "remove": {"node1": State.RESERVED},
    }[verb]
    toml_lab.close()
    saved = {path.name: path.read_bytes() for path in toml_lab.path.parent.iterdir() if path.is_file()}
    seen = set()
    for kill_at in range(0, 300, 1 if IS_WHOLE else 3):
        for path in toml_lab.path.parent.iterdir():
            path.unlink()
        for name, content in saved.items():
            (toml_lab.path.parent / name).write_bytes(content)
        editor = spawn(EDITOR, str(toml_lab.path), str(kill_at), verb)
        out, err = editor.communicate(timeout=60)
        found = {h.name: h.state for h in queries.list_hosts(toml_lab.context(), Choice(everything=True)).hosts}
        undeclared = [h.name for h in toml_lab.context().store.hosts.find(HostQuery()) if h.undeclared]
        toml_lab.close()
        assert found in (before, after), (kill_at, found)
        assert undeclared == [], kill_at
        if "done" in out:
            assert found == after
            break
        assert editor.returncode == -signal.SIGKILL, err
        seen.add(json.dumps(found))
    else:
        pytest.fail("the editor never came to its end")
    assert len(seen) == 2, "kills before and after the commit were both seen"


def test_the_host_of_a_killed_bmhctl_stays_claimed_until_the_step_ends(lab: Lab, tmp_path: Path) -> None:
    fifo = tmp_path / "go"
    os.mkfifo(fifo)
    lab.policy(f'[checks.slow]\ncommand = ["sh", "-c", "read line < {fifo}"]\n')
    hosts.add(lab.context(), ["node1"], hosts.AttributeChanges())
    host = lab.context().store.hosts.named("node1")
    assert host is not None
    claims = lab.context().store.claims
    runner = spawn(
        "import sys\nfrom bmhctl import open_inventory\nfrom bmhctl.stores.postgres import claims as leased_claims\n"
        "leased_claims._MICROSECONDS = 4_000_000\nopen_inventory(sys.argv[1]).ready('node1')",
        lab.location,
    )
    pipe = os.open(fifo, os.O_WRONLY)  # this opens when the step reads the FIFO

    runner.send_signal(signal.SIGKILL)
    runner.communicate()
    assert claims.claimed([host_claim(host.id)])
    refused = step_verbs.ready(lab.context(), Choice(("node1",)))
    assert [str(item.error) for item in refused.items] == ["a step is running on it"]

    with suppress(BrokenPipeError):  # on a server the step ends with its runner
        os.write(pipe, b"go\n")
    os.close(pipe)
    until(lambda: not claims.claimed([host_claim(host.id)]))
    done = subprocess.run([sys.executable, "-c", "pass"], check=True)
    assert done.returncode == 0


def test_a_second_opening_in_one_process_loses_no_commit(lab: Lab) -> None:
    hosts.add(lab.context(), ["node[1-2]"], hosts.AttributeChanges())
    step_verbs.ready(lab.context(), Choice(everything=True))
    lab.close()
    kept = lab.context()
    queries.list_hosts(kept, Choice(everything=True))
    with open_inventory(lab.location):  # closing the file anywhere in the process would release SQLite's locks
        pass
    cordon = "import sys\nfrom bmhctl import open_inventory\nopen_inventory(sys.argv[1]).cordon('node1')"
    subprocess.run([sys.executable, "-c", cordon, lab.location], env=environment(), check=True)

    lifecycle_verbs.cordon(kept, Choice(("node2",)))

    look = (
        "import sys\nfrom bmhctl import open_inventory\n"
        "print([h.cordon is not None for h in open_inventory(sys.argv[1]).hosts()])"
    )
    done = subprocess.run(
        [sys.executable, "-c", look, lab.location], env=environment(), check=True, capture_output=True, text=True
    )
    assert done.stdout == "[True, True]\n"
