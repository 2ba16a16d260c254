"""Commands give up a silent server, and wait for a slow one."""

from __future__ import annotations

import select
import time

import psycopg
import pytest

from bmhctl.domain.model import State
from bmhctl.stores.postgres import connection
from bmhctl.stores.postgres.url import Address
from bmhctl.usecases.reservations import contended
from tests.conftest import SCALE
from tests.faults.conftest import some
from tests.faults.figures import Figures
from tests.faults.in_process import call
from tests.faults.proxy import Fate, Message
from tests.faults.server_link import ServerLink
from tests.postgres import Server
from tests.processes import spawn, until

LINES = (
    ("list",),
    ("reserve", "node1"),
    ("maintain", "node1", "--reason", "disk"),
    ("status",),
    ("export",),
    ("history", "node1"),
    ("doctor",),
    ("cordon", "node1"),
    ("reserve", "-n", "9"),
)

IMPATIENT = """
from bmhctl.__main__ import main
from bmhctl.stores.postgres import connection

connection.SILENCE = 0.5
main()
"""


@pytest.fixture(autouse=True)
def _little_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "SILENCE", 0.2)
    monkeypatch.setattr(contended, "_FIND_OUT", 0.5)


def test_a_server_that_stops_answering_is_status_11_with_the_reason(link: ServerLink, figures: Figures) -> None:
    tries = some(LINES, "lines", 1 if SCALE >= 1 else 0.2)
    hanging = []
    for words in tries:
        started = time.monotonic()

        def falls_silent(message: Message) -> Fate:
            # From a command's first query on, the server gets no messages from this command or from later ones.
            link.proxy.is_away = link.proxy.is_away or (message.is_clients and b"migrations" in message.body)
            return Fate.FREEZE if link.proxy.is_away else Fate.PASS

        done = link.call(*words, plan=falls_silent)
        if done.status != 11 or "it has not answered for 0.2 s" not in done.stderr:
            hanging.append((words, done))
        assert link.state is State.AVAILABLE
        print(words, f"{time.monotonic() - started:.1f} s")
    figures("server silent", "postgres", tries=len(tries), faults=len(tries), losses=len(hanging))
    assert hanging == []


def test_a_command_gives_up_a_server_that_is_stopped_in_the_middle(own_server: Server, link: ServerLink) -> None:
    blocked = psycopg.connect(Address.parse(own_server.url).url)
    blocked.execute(f'LOCK TABLE "{Address.parse(link.url).schema}".hosts')
    command = spawn("-c", IMPATIENT, "-i", link.url, "cordon", "node1")
    waiting = "SELECT pid FROM pg_locks WHERE NOT granted"
    until(lambda: blocked.execute(waiting).fetchall())
    own_server.freeze()
    try:
        _, err = command.communicate(timeout=60)
    finally:
        own_server.thaw()
        blocked.close()
    assert (command.returncode, "Traceback" in err) == (11, False)
    assert "it has not answered for 0.5 s" in err


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        (("history", "--follow", "--verb", "cordon", "-o", "jsonl", "--fields", "verb"), '{"verb":"cordon"}\n'),
        (("status", "--reasons", "--watch", "-o", "jsonl", "--fields", "kind"), '{"kind":"cordoned"}\n'),
        (("wait", "node1", "--for", "maintenance", "-o", "name"), "node1\n"),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_a_command_that_only_listens_notices_a_connection_that_was_cut_without_an_error(
    link: ServerLink, line: tuple[str, ...], shown: str
) -> None:
    notified: list[Message] = []

    def is_forgotten(message: Message) -> Fate:
        """A firewall that has forgotten an idle connection; the next connection passes."""
        if message.is_clients or message.kind != b"A":
            return Fate.PASS
        notified.append(message)
        return Fate.FREEZE if len(notified) == 1 else Fate.PASS

    link.proxy.begin(is_forgotten)
    command = spawn("-c", IMPATIENT, "-i", link.url, *line)
    try:
        until(lambda: any(b"LISTEN" in message.body for message in link.proxy.passed))
        time.sleep(0.2)  # the command has looked at the queue, and sends nothing more
        link.lab.cordon("node1")
        link.lab.maintain("node1", reason="disk")
        out = command.stdout
        assert out is not None
        until(lambda: select.select([out], [], [], 0)[0])
        assert out.readline() == shown
    finally:
        command.kill()
        _, err = command.communicate()
    assert "it has not answered for 0.5 s; waiting until it is back" in err


def test_a_command_gives_up_a_commit_that_a_synchronous_standby_does_not_confirm(
    own_server: Server, link: ServerLink
) -> None:
    with psycopg.connect(own_server.url, autocommit=True) as admin:

        def wait_for(standby: str) -> None:
            admin.execute(f"ALTER SYSTEM SET synchronous_standby_names = '{standby}'")
            admin.execute("SELECT pg_reload_conf()")
            until(lambda: admin.execute("SHOW synchronous_standby_names").fetchone() == (standby,))

        wait_for("missing")
        try:
            done = call("-i", link.url, "cordon", "node1", "--reason", "fan")
        finally:
            wait_for("")
    assert done.status == 11
    assert done.stderr == (
        f"bmhctl: can't reach {Address.parse(link.url).shown}: its synchronous standby does not confirm the commit,"
        " during a commit: it is not known whether the change was made\n"
        "hint: check before you repeat the command: bmhctl status, bmhctl history HOST\n"
    )
    until(lambda: link.lab.host("node1").cordon is not None)


def test_a_command_waits_for_a_slow_statement(link: ServerLink) -> None:
    schema = Address.parse(link.url).schema
    database = link.lab._context.store.database
    for statement in (
        f'CREATE FUNCTION "{schema}".slow() RETURNS trigger LANGUAGE plpgsql AS'
        " 'BEGIN PERFORM pg_sleep(1); RETURN NEW; END'",
        f'CREATE TRIGGER slow BEFORE INSERT ON events FOR EACH ROW EXECUTE FUNCTION "{schema}".slow()',
    ):
        list(database.execute(statement))
    link.proxy.begin()
    done = link.call("cordon", "node1", plan=lambda _: Fate.PASS)
    assert (done.status, done.stderr) == (0, "")
    asked = [message for message in link.proxy.passed if b"wait_event_type" in message.body]
    assert asked, "it was asked whether it was at work"
