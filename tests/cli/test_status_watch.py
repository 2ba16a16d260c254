"""``--watch``: on a terminal the picture in its place, in a pipe a document for each change."""

from __future__ import annotations

import json
import os
import re
import signal
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from threading import Timer
from typing import Any

import pexpect
import pytest

from bmhctl.domain.requirements import Requirement, dump_requirements
from bmhctl.domain.ticket import Ticket
from bmhctl.stores.claims import ticket_claim
from bmhctl.usecases import hosts, lifecycle_verbs
from bmhctl.usecases.shared.host_selection import Choice
from tests.cli.conftest import spawn
from tests.conftest import BACKENDS, Bmhctl, Lab, made_in
from tests.processes import spawn as spawn_in_pipe

pytestmark = pytest.mark.slow


@pytest.fixture(params=BACKENDS)
def lab(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Lab]:
    """Two hosts in two racks, once on each backend."""
    for lab in made_in(request.param, tmp_path):
        for name, rack in (("node1", "r1"), ("node2", "r2")):
            hosts.add(lab.context(), [name], hosts.AttributeChanges(labels={"rack": rack}))
        yield lab


def maintain(lab: Lab, name: str, reason: str) -> None:
    with lab.visit() as ctx:
        lifecycle_verbs.maintain(ctx, Choice((name,)), reason=reason)


def test_a_watch_in_a_pipe_prints_a_document_only_for_a_change(lab: Lab) -> None:
    watch = spawn_in_pipe("-m", "bmhctl", "-i", lab.location, "status", "--reasons", "--watch", "1s", "-o", "jsonl")
    limit = Timer(40, watch.kill)
    limit.start()
    assert watch.stdout is not None
    maintain(lab, "node1", "[red]disk")
    first = json.loads(watch.stdout.readline())
    assert (first["reason"], first["hosts"]) == ("[red]disk", ["node1"])
    maintain(lab, "node2", "[red]disk")
    assert json.loads(watch.stdout.readline())["hosts"] == ["node1", "node2"]
    watch.send_signal(signal.SIGINT)
    assert watch.communicate(timeout=10) == ("", "")
    limit.cancel()
    assert watch.returncode == 130


@pytest.mark.parametrize(
    ("command", "before", "after"),
    [
        ("list -o name --state maintenance", "", "node1\n"),
        ("list node1 -o csv --fields name,state", "name,state\nnode1,initial\n", "name,state\nnode1,maintenance\n"),
        ("list --sort -state -o name", "node2\nnode1\n", "node1\nnode2\n"),
        ("timeline node1 -o jsonl", '.*"state":"initial".*\n', '.*"state":"maintenance".*\n'),
        ("reservations -o csv --fields id", "id\n", ""),
        ("queue -o csv --fields ticket", "ticket\n", ""),
        ("bookings -o csv --fields id", "id\n", ""),
    ],
)
@pytest.mark.parametrize("lab", ["toml", "postgres"], indirect=True)
def test_tables_are_printed_again_after_a_change_only(lab: Lab, command: str, before: str, after: str) -> None:
    """``before`` and ``after`` are patterns of the lines that are printed."""
    watch = spawn_in_pipe("-m", "bmhctl", "-i", lab.location, *command.split(), "--watch", "1s")
    limit = Timer(40, watch.kill)
    limit.start()
    assert watch.stdout is not None
    for wanted in before.splitlines(keepends=True):
        assert re.fullmatch(wanted, watch.stdout.readline())
    maintain(lab, "node1", "disk")
    for wanted in after.splitlines(keepends=True):
        assert re.fullmatch(wanted, watch.stdout.readline())
    if not after:
        time.sleep(2)  # longer than the pause between two looks
    watch.send_signal(signal.SIGINT)
    out, err = watch.communicate(timeout=10)
    limit.cancel()
    assert (watch.returncode, err) == (130, "")
    assert out == ""


@pytest.mark.parametrize("lab", ["toml"], indirect=True)
def test_a_watch_in_json_reports_at_once_that_the_inventory_is_not_valid(lab: Lab) -> None:
    watch = spawn_in_pipe("-m", "bmhctl", "-i", lab.location, "status", "--watch", "1s", "-o", "json")
    limit = Timer(40, watch.kill)
    limit.start()
    assert watch.stdout is not None
    assert watch.stderr is not None
    while watch.stdout.readline() != "}\n":
        pass
    Path(lab.location).write_text("[hosts")
    assert "lab.toml" in json.loads(watch.stderr.readline())["note"]
    watch.send_signal(signal.SIGINT)
    watch.communicate(timeout=10)
    limit.cancel()
    assert watch.returncode == 130


@pytest.mark.parametrize("lab", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    ("command", "shown"),
    [
        ("queue", "no tickets: no request waits for hosts"),
        ("bookings", "no bookings"),
        ("list -l rak=r1", "no hosts: bmhctl list shows all[^$]*no host has the key rak; did you mean rack"),
    ],
)
def test_a_watched_table_without_rows_says_so_on_the_screen(lab: Lab, tmp_path: Path, command: str, shown: str) -> None:
    child = spawn("-i", lab.location, *command.split(), "--watch", cwd=tmp_path, NO_COLOR="1")
    child.timeout = 30
    child.expect(shown)
    child.send("q")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0


@pytest.mark.parametrize("lab", ["sqlite"], indirect=True)
@pytest.mark.parametrize("command", ["queue", "timeline"])
def test_a_watch_in_a_pipe_prints_nothing_for_a_commit_that_changes_nothing_it_shows(lab: Lab, command: str) -> None:
    wants, now = dump_requirements((Requirement(count=1),)), datetime.now(UTC)
    with lab.visit() as ctx, ExitStack() as claims:
        with ctx.store.transaction():
            ticket = ctx.store.tickets.add(Ticket("alice", wants, now, now))
        claims.enter_context(ctx.store.claims.share(ticket_claim(ticket.id)))
        watch = spawn_in_pipe("-m", "bmhctl", "-i", lab.location, command, "--watch", "1s", "-o", "json")
        limit = Timer(20, watch.kill)
        limit.start()
        assert watch.stdout is not None
        while watch.stdout.readline() != "}\n":
            pass
        for note in ("one", "two"):
            time.sleep(1.2)
            with ctx.store.transaction():
                ctx.store.tickets.refresh(ticket.id, datetime.now(UTC))
            hosts.set_attributes(ctx, Choice(("node1",)), hosts.AttributeChanges(note=note))
        time.sleep(1.5)
        watch.send_signal(signal.SIGINT)
        assert watch.communicate(timeout=10) == ("", "")
        limit.cancel()


@pytest.mark.parametrize("lab", ["sqlite"], indirect=True)
def test_a_watch_in_json_reports_at_once_also_which_inventory_it_ignored(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bmh.db").symlink_to(lab.location)
    folder = tmp_path / "below"
    folder.mkdir()
    (folder / "bmh.toml").touch()
    (folder / "bmh.toml").chmod(0o666)
    monkeypatch.chdir(folder)
    watch = spawn_in_pipe("-m", "bmhctl", "list", "--watch", "-o", "json")
    limit = Timer(20, watch.kill)
    limit.start()
    assert watch.stderr is not None
    assert "below/bmh.toml" in json.loads(watch.stderr.readline())["note"]
    assert watch.poll() is None
    watch.send_signal(signal.SIGINT)
    watch.communicate(timeout=10)
    limit.cancel()


@pytest.fixture
def screen(lab: Lab, tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Starts ``status --watch`` on a terminal, with a row for each rack."""
    started = []

    def start(*args: str, **env: str) -> Any:
        child = spawn("-i", lab.location, "status", "--watch", "1s", *args, cwd=tmp_path, **env)
        child.timeout = 30
        started.append(child)
        return child

    yield start
    for child in started:
        child.close(force=True)


def is_restored(child: Any) -> bool:
    flags = termios.tcgetattr(child.child_fd)[3]
    return bool(flags & termios.ECHO and flags & termios.ICANON)


@pytest.mark.parametrize("lab", ["sqlite", "postgres"], indirect=True)
def test_a_watch_redraws_the_screen_until_q_is_pressed(lab: Lab, screen: Callable[..., Any]) -> None:
    child = screen("--by", "rack", NO_COLOR="1")
    child.expect("r2 .*○")
    assert not is_restored(child)
    maintain(lab, "node2", "disk")
    child.expect("r2 .*■")
    child.expect("1 maintenance")
    child.send("q")
    child.expect(pexpect.EOF)
    assert is_restored(child)
    last = child.before
    assert "\x1b[?25h" in last  # the cursor is shown again
    assert "■" in last  # and the last screen stays
    child.close()
    assert child.exitstatus == 0


@pytest.mark.parametrize("lab", ["sqlite"], indirect=True)
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_any_signal_ends_the_watch_and_restores_the_terminal(
    lab: Lab, screen: Callable[..., Any], number: int, status: int
) -> None:
    child = screen()
    child.expect("2 initial")
    maintain(lab, "node1", "disk")
    child.expect("1 maintenance")  # all modules are imported now; a signal during an import would cause a warning
    os.kill(child.pid, number)
    child.expect(pexpect.EOF)
    assert is_restored(child)
    child.close()
    assert child.exitstatus == status
    assert "Traceback" not in child.before


@pytest.mark.parametrize("lab", ["sqlite"], indirect=True)
def test_a_watch_can_be_stopped_and_continued(screen: Callable[..., Any]) -> None:
    child = screen("--by", "rack", NO_COLOR="1")
    child.expect("r2 .*○")
    child.sendcontrol("z")  # a process group without a shell can't be stopped: it continues at once
    child.expect(re.escape("\x1b[?25h"))
    child.expect(re.escape("\x1b[?25l"))
    child.expect("r2 .*○")
    child.send("q")
    child.expect(pexpect.EOF)
    assert is_restored(child)


@pytest.mark.parametrize("lab", ["sqlite"], indirect=True)
def test_invalid_options_of_a_watch_are_refused(lab: Lab, bmhctl: Bmhctl) -> None:
    for args in (["--watch", "0s"], ["--watch", "1x"], ["--reasons", "--by", "rack"]):
        done = bmhctl("-i", lab.location, "status", *args)
        assert (done.status, done.stdout) == (2, "")
