"""A connection that is cut while many rows are read or written, or while a command waits: no change is partial."""

from __future__ import annotations

import json
import re
import subprocess
import time
from pathlib import Path

import pytest

from bmhctl import open_inventory
from bmhctl.domain.model import State
from bmhctl.stores import reopen
from tests.conftest import Run
from tests.faults.figures import Figures
from tests.faults.in_process import call
from tests.faults.proxy import Fate, Message, Plan, everything_passes, first
from tests.faults.server_link import ServerLink
from tests.postgres import drop_schema
from tests.processes import spawn, until

HOSTS = 2_500  # more rows than one fetch returns

CUTS = (Fate.BEFORE, Fate.MIDDLE, Fate.AFTER)


def is_row(message: Message) -> bool:
    return not message.is_clients and message.kind == b"D"


def is_load(message: Message) -> bool:
    return message.is_clients and message.kind in b"dc"


def is_end(message: Message) -> bool:
    return message.is_clients and message.kind == b"c"


def is_grant(message: Message) -> bool:
    return message.is_clients and b"INTO reservations" in message.body and b"COMMIT" in message.body


def is_said(done: Run) -> bool:
    return done.status == 11 and all(words in done.stderr for words in ("can't reach postgresql://", "hint"))


def copied(link: ServerLink, source: str, target: str, plan: Plan = everything_passes) -> Run:
    link.proxy.begin(plan)
    done = call("copy", source, target)
    assert "Traceback" not in done.stderr
    until(lambda: link.sessions() == 1)
    return done


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An inventory with many hosts, in a file."""
    path = str(tmp_path_factory.mktemp("many") / "source.db")
    with open_inventory(path, create=True) as made:
        made.add("node1")
        made.add(f"many[2-{HOSTS}]")
    return path


def test_a_copy_to_a_server_that_is_cut_off_leaves_no_inventory_there(
    link: ServerLink, source: str, figures: Figures
) -> None:
    url = link.url.replace("schema=t_", "schema=copy_")
    ends = {
        "at a row": first(is_load, Fate.MIDDLE, skip=2),
        "at the end of a table": first(
            lambda message: message.is_clients and message.kind == b"c", Fate.BEFORE, skip=2
        ),
        "before the commit": first(lambda message: message.is_commit, Fate.BEFORE),
    }
    losses = []
    for when, plan in ends.items():
        done = copied(link, source, url, plan)
        link.proxy.begin()
        looked = call("-i", url, "list")
        if done.status != 11 or looked.status != 11 or "there is no inventory in" not in looked.stderr:
            losses.append((when, done, looked))
    figures("cut in a copy", "postgres", tries=len(ends), faults=len(ends), losses=len(losses))
    assert losses == []

    uncertain = copied(link, source, url, first(lambda message: message.is_committed, Fate.BEFORE))
    assert (uncertain.status, "it is not known whether the change was made" in uncertain.stderr) == (11, True)
    link.proxy.begin()
    assert len(call("-i", url, "list", "-o", "name").stdout.splitlines()) == HOSTS, "it did, wholly"
    drop_schema(url)


def test_a_list_or_copy_fails_when_the_server_is_cut_off_and_leaves_no_copy(
    link: ServerLink, source: str, tmp_path: Path, figures: Figures
) -> None:
    drop_schema(link.url)
    assert copied(link, source, link.url).status == 0
    reopen(link.lab._context.store)  # the path has another inventory now
    losses = []
    for number, fate in zip((HOSTS - 200, 1_500, 30), CUTS, strict=True):
        done = link.call("list", "-o", "jsonl", plan=first(is_row, fate, skip=number))
        names = [json.loads(row)["name"] for row in done.stdout.splitlines()]
        if not is_said(done) or len(names) >= HOSTS or len(set(names)) != len(names):
            losses.append(done)
    for name in ("copied.db", "copied.toml"):
        folder = tmp_path / name
        folder.mkdir()
        done = copied(link, link.url, str(folder / name), first(is_row, Fate.MIDDLE, skip=HOSTS))
        if not is_said(done) or list(folder.iterdir()):
            losses.append(done)
    figures("cut in a stream", "postgres", tries=5, faults=5, losses=len(losses))
    assert losses == []
    assert copied(link, link.url, str(folder / name)).status == 0


def test_a_waiter_whose_connection_is_cut_goes_on_waiting_and_gets_its_host(link: ServerLink, figures: Figures) -> None:
    link.reserve()
    with spawn("-m", "bmhctl", "-i", link.url, "reserve", "node1", "--wait", "1m", "-o", "name") as waiter:
        until(lambda: link.lab._context.store.tickets.all() and listens(link))
        link.proxy.cut()
        until(lambda: link.sessions() == 2 and link.lab._context.store.tickets.all() and listens(link))
        link.bring(State.AVAILABLE)
        out, err = waiter.communicate(timeout=30)
    until(lambda: link.sessions() == 1)
    waiting = json.loads(link.call("queue", "-o", "json").stdout)["tickets"]
    figures("cut while waiting", "postgres", tries=1, faults=1, losses=int(waiter.returncode != 0))
    assert (waiter.returncode, out, "Traceback" in err) == (0, "node1\n", False)
    assert re.search(r"^can't reach .*: .*; waiting until it is back\n(.*\n)*.* is back$", err, re.M), err
    assert (waiting, len(link.held())) == ([], 1)


RESERVE, NODE1 = ("-m", "bmhctl", "-i"), ("reserve", "node1", "-o", "name")


def wait_through_proxy(link: ServerLink, *options: str) -> subprocess.Popen[str]:
    """A command that waits for node1 through the proxy, and is in the queue."""
    before = len(link.lab._context.store.tickets.all())
    waiter = spawn(*RESERVE, link.url, *NODE1, *options)
    until(lambda: len(link.lab._context.store.tickets.all()) > before and listens(link))
    return waiter


def test_a_waiter_tries_an_unavailable_server_a_few_times_a_second(link: ServerLink) -> None:
    link.reserve()
    with wait_through_proxy(link, "--wait", "1m") as waiter:
        link.proxy.begin()
        link.proxy.is_away = True
        link.proxy.cut()
        until(lambda: link.proxy.turned_away >= 5)
        began, tries = time.monotonic(), link.proxy.turned_away
        until(lambda: link.proxy.turned_away >= tries + 5)
        assert time.monotonic() - began > 0.5, "it pauses, though what it listened to is closed"
        waiter.terminate()
        waiter.communicate()


def test_a_waiter_keeps_its_deadline_when_the_server_comes_back_only_briefly(link: ServerLink) -> None:
    link.reserve()
    with wait_through_proxy(link, "--wait", "4s") as waiter:

        def first_words(message: Message) -> Fate:
            if message.is_clients and b"BEGIN" in message.body:
                link.proxy.is_away = True
                return Fate.BEFORE
            return Fate.PASS

        link.proxy.begin(first_words)
        link.proxy.cut()
        out, err = waiter.communicate(timeout=30)
    assert (waiter.returncode, out) == (7, ""), err


def test_a_waiter_that_does_not_learn_whether_it_is_in_the_queue_goes_on_waiting(link: ServerLink) -> None:
    link.reserve()
    is_asked = False

    def cut_once(message: Message) -> Fate:
        nonlocal is_asked
        is_asked |= message.is_clients and b"INSERT INTO tickets" in message.body
        if is_asked and message.is_committed:
            link.proxy.plan = everything_passes
            return Fate.BEFORE
        return Fate.PASS

    link.proxy.begin(cut_once)
    with wait_through_proxy(link, "--wait", "1m") as waiter:
        until(lambda: len(link.lab._context.store.tickets.all()) == 1)
        link.bring(State.AVAILABLE)
        out, err = waiter.communicate(timeout=30)
    assert (waiter.returncode, out) == (0, "node1\n"), err
    assert "is back" in err


def test_a_waiter_that_reconnects_gets_what_its_request_was_granted_meanwhile(
    link: ServerLink,
) -> None:
    link.reserve()
    same = ("--wait", "1m", "--request-id", "job-1")
    with wait_through_proxy(link, *same) as cut, spawn(*RESERVE, link.direct, *NODE1, *same) as other:
        until(lambda: link.sessions() == 3 and listens(link, 2))
        link.proxy.is_away = True
        link.proxy.cut()
        link.bring(State.AVAILABLE)
        other.communicate(timeout=30)
        (ours,) = link.held()
        link.proxy.begin()
        out, err = cut.communicate(timeout=30)
    assert (other.returncode, cut.returncode, out, link.held()) == (0, 0, "node1\n", [ours]), err


def test_a_waiter_cut_off_during_its_grant_has_its_host_or_goes_on_waiting(link: ServerLink, figures: Figures) -> None:
    losses = []
    for fate in (*CUTS, Fate.BEFORE):
        link.bring(State.AVAILABLE)
        link.reserve()
        with wait_through_proxy(link, "--wait", "1m") as waiter:
            link.proxy.begin(first(is_grant, fate))
            link.bring(State.AVAILABLE)
            out, err = waiter.communicate(timeout=60)
        if (waiter.returncode, out, len(link.held())) != (0, "node1\n", 1):
            losses.append((fate, waiter.returncode, out, err))
    figures("cut in a waiter's grant", "postgres", tries=4, faults=4, losses=len(losses))
    assert losses == []


def listens(link: ServerLink, number: int = 1) -> bool:
    """Return whether this number of waiting commands listens for notifications."""
    idle = "SELECT 1 FROM pg_stat_activity WHERE application_name = 'bmhctl' AND state = 'idle'"
    return len(list(link.lab._context.store.database.execute(idle))) >= number
