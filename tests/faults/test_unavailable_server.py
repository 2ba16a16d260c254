"""PostgreSQL stopped, restarted and killed under commands at work: nothing acknowledged is lost, nothing shared."""

from __future__ import annotations

import random
import re
import signal
import socket
import struct
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import FrameType, SimpleNamespace

import psycopg
import pytest
from psycopg.pq import Ping

from bmhctl import Inventory, open_inventory
from bmhctl.domain.model import Phase, State
from bmhctl.errors import AwayError, BmhctlError, BusyError, StateRefusedError, UnreachableError
from bmhctl.stores.claims import ticket_claim
from bmhctl.stores.host_query import HostQuery
from bmhctl.stores.postgres import connection
from bmhctl.stores.postgres.url import Address
from bmhctl.stores.store import Store
from bmhctl.usecases.doctor.doctor import doctor
from bmhctl.usecases.policy import apply_policy
from bmhctl.usecases.reservations.queue import cancel, queue
from bmhctl.usecases.steps.execution import claimed
from tests.conftest import SCALE
from tests.faults.figures import Figures
from tests.postgres import Server, drop_schema
from tests.processes import spawn, until

WORKER = """
import os, sys, time
from bmhctl import BmhctlError, ExitStatus, open_inventory

url, actor, marks = sys.argv[1:]
lab = None
while True:
    try:
        lab = lab or open_inventory(url, actor=actor)
        held = lab.reserve(count=1, ttl="5s")
        name = held.hosts[0].name
        os.close(os.open(os.path.join(marks, name), os.O_CREAT | os.O_EXCL))  # fails if another one holds it
        print("reserved", held.reservation.id, name, flush=True)
        os.unlink(os.path.join(marks, name))
        while True:
            try:
                lab.release(held.reservation.id)
                break
            except BmhctlError as error:
                if error.status is not ExitStatus.UNREACHABLE:
                    raise
                time.sleep(0.1)
        print("released", held.reservation.id, name, flush=True)
        lab.reset(name)
        lab.ready(name)
        time.sleep(0.1)  # else six of them would have the processors for themselves
    except BmhctlError as error:
        print("status", int(error.status), "-", flush=True)
        time.sleep(0.1)
        try:  # what others, or we ourselves, had to leave half done
            for host in lab.hosts() if lab else ():
                if host.state == "tainted":
                    lab.reset(host.name)
                if host.state in ("tainted", "initial"):
                    lab.ready(host.name)
        except BmhctlError as error:
            print("status", int(error.status), "-", flush=True)
"""


@pytest.fixture
def server(own_server: Server) -> Iterator[Server]:
    """A server to stop and kill, without an inventory; the same one in each test, since making one takes a second."""
    yield own_server
    if not own_server.is_running:
        own_server.start()
    with psycopg.connect(own_server.url, autocommit=True) as connection:
        connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'bmhctl'")
    drop_schema(own_server.url)


def test_stopping_and_killing_the_server_during_a_race_loses_nothing_and_shares_no_host(
    server: Server, tmp_path: Path, figures: Figures
) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()
    with open_inventory(server.url, actor="operator", create=True) as lab:
        lab.add("node[1-4]")
        lab.ready("node*")
    dice = random.Random(5)
    workers = [spawn("-c", WORKER, server.url, f"worker{number}", str(marks)) for number in range(6)]
    faults = max(4, round(20 * SCALE))
    for number in range(faults):
        time.sleep(dice.uniform(0.3, 1.2))  # it hits the commands in progress
        server.stop(kill=number % 2 == 1)
        time.sleep(dice.uniform(0, 0.3))
        server.start()
    time.sleep(1)
    said: list[list[str]] = []
    for worker in workers:
        worker.kill()
        out, err = worker.communicate()
        assert err == "", "no traceback"
        said += [line.split() for line in out.splitlines()]

    reserved = {identifier for word, identifier, _ in said if word == "reserved"}
    released = {identifier for word, identifier, _ in said if word == "released"}
    assert {identifier for word, identifier, _ in said if word == "status"} <= {"4", "5", "8", "11"}, (
        "published, and expected"
    )
    with open_inventory(server.url, actor="operator") as lab:
        store = lab._context.store
        with store.transaction():  # no server process works for a dead command any more
            known = {one.id: one for one in store.reservations.all()}
            hosts = list(store.hosts.find(HostQuery()))
        lost = [one for one in reserved if one not in known] + [one for one in released if known[one].is_open()]
        for host in hosts:
            chain = list(store.events.read(host))
            assert [chain[0].source, *(e.dest for e in chain)] == [None, *(e.source for e in chain[1:]), host.state]
            assert (host.state is State.RESERVED) == (host.reservation is not None)
    assert len(reserved) > faults, "they were at work between the faults"
    figures("server stopped and killed in a race", "postgres", tries=len(said), faults=faults, losses=len(lost))
    assert lost == []


@pytest.mark.parametrize("waits", [False, True])
def test_a_run_survives_an_absent_server_while_the_lease_lasts_and_renews_it_afterwards(
    server: Server, tmp_path: Path, figures: Figures, waits: bool
) -> None:
    go = tmp_path / "go"
    task = f"echo on; while [ ! -e {go} ]; do sleep 0.1; done; exit 3"
    options = ["--host", "node1", "--ttl", "18s", "--quiet", *(["--wait", "1m"] if waits else [])]
    with open_inventory(server.url, actor="operator", create=True) as lab:
        lab.add("node1")
        lab.ready("node1")
        if waits:
            lab.reserve("node1")
        run = spawn("-m", "bmhctl", "-i", server.url, "--as", "alice", "run", *options, "--", "sh", "-c", task)
        if waits:
            until(lambda: len(lab._context.store.tickets.all()) == 1)
            lab.taint("node1")
            lab.reset("node1")
            lab.ready("node1")
    assert run.stdout is not None
    assert run.stdout.readline() == "on\n"
    with open_inventory(server.url) as lab:
        ends = lab.reservations()[0].reservation.expires_at
    assert ends is not None
    server.stop()
    time.sleep(7)  # in this time a renewal is due, and fails
    server.start()
    with open_inventory(server.url) as lab:
        deadline = time.monotonic() + 11
        while (lab.reservations()[0].reservation.expires_at or ends) <= ends:
            assert time.monotonic() < deadline, "the lease was not renewed"
            time.sleep(0.1)
    go.touch()
    out, err = run.communicate(timeout=30)
    assert (run.returncode, out, err) == (3, "", "")
    with open_inventory(server.url) as lab:
        assert lab.host("node1").state is State.TAINTED
    figures("server away during a run", "postgres", tries=1, faults=1, losses=0)


def test_a_run_whose_server_stays_unavailable_ends_with_its_lease(server: Server) -> None:
    with open_inventory(server.url, actor="alice", create=True) as lab:
        lab.add("node1")
        lab.ready("node1")
    task = "echo on; exec sleep 1000"
    run = spawn("-m", "bmhctl", "-i", server.url, "run", "--host", "node1", "--ttl", "3s", "--", "sh", "-c", task)
    assert run.stdout is not None
    assert run.stdout.readline() == "on\n"
    server.stop()
    _, err = run.communicate(timeout=60)
    assert run.returncode == 125
    assert "the lease is lost: it ends at" in err
    server.start()
    with open_inventory(server.url) as lab:
        until(lambda: lab.reap() or lab.host("node1").state is State.TAINTED)  # the task ended before its lease


def waiting(lab: Inventory) -> list[str]:
    """Return the owners of the valid tickets, in the order of the queue."""
    return [queued.ticket.owner for queued in queue(lab._context).items]


@pytest.mark.slow(seconds=25)
@pytest.mark.parametrize("kill", [False, True], ids=["stopped", "killed"])
def test_a_waiter_keeps_its_position_while_the_server_is_unavailable(
    server: Server, figures: Figures, kill: bool
) -> None:
    with open_inventory(server.url, actor="operator", create=True) as lab:
        lab.add("node1")
        lab.ready("node1")
        lab.reserve("node1")
        waiters = []
        for number in range(4):
            line = ("--as", f"waiter{number}", "reserve", "-n1", "--wait", "1m", "-o", "name")
            waiters.append(spawn("-m", "bmhctl", "-i", server.url, *line))
            until(lambda number=number: len(waiting(lab)) == number + 1)  # type: ignore[misc]
    server.stop(kill=kill)
    time.sleep(3)
    waiters[0].kill()  # one of the commands will not come back
    waiters[0].communicate()
    server.start()
    with open_inventory(server.url, actor="late") as lab:
        assert waiting(lab)[-3:] == ["waiter1", "waiter2", "waiter3"], "valid even before they have reconnected"
        for waiter in waiters[1:]:
            lab.taint("node1", force=True, reason="its time is over")
            lab.reset("node1")
            lab.ready("node1")
            out, err = waiter.communicate(timeout=30)
            assert (waiter.returncode, out) == (0, "node1\n"), err
            assert re.search(r"^can't reach (\S+): .*; waiting until it is back\n(.*\n)*\1 is back$", err, re.M), err
            assert "lost its place" not in err
        assert waiting(lab) == []
    figures("server away while some wait", "postgres", tries=4, faults=1, losses=0)


def test_a_waiter_keeps_its_position_when_all_connections_break(server: Server) -> None:
    with open_inventory(server.url, actor="operator", create=True) as lab:
        lab.add("node1")
        waiters = []
        for number in range(3):
            line = ("--as", f"waiter{number}", "reserve", "-n1", "--wait", "1m", "-o", "name")
            waiters.append(spawn("-m", "bmhctl", "-i", server.url, *line))
            until(lambda number=number: len(waiting(lab)) == number + 1)  # type: ignore[misc]

        def asked(statement: str) -> object:
            return lab._context.store.database.execute(statement)[0][0]

        until(lambda: asked("SELECT clock_timestamp() - pg_postmaster_start_time() > interval '6 s'"))
        waiters[0].send_signal(signal.SIGSTOP)  # this command is back later than the others
        all_others = "FROM pg_stat_activity WHERE application_name = 'bmhctl' AND pid <> pg_backend_pid()"
        now = asked("SELECT clock_timestamp()::text")
        assert asked(f"SELECT COUNT(pg_terminate_backend(pid)) {all_others}") == len(waiters)
        until(lambda: asked(f"SELECT COUNT(*) = 2 {all_others} AND backend_start > '{now}'"))
        until(lambda: waiting(lab) == ["waiter1", "waiter2"])
        lab.ready("node1")
        waiters[0].send_signal(signal.SIGCONT)
        for waiter in waiters:
            _, err = waiter.communicate(timeout=30)
            assert waiter.returncode == 0, err
            assert "lost its place" not in err
            lab.taint("node1", force=True, reason="its time is over")
            lab.reset("node1")
            lab.ready("node1")


def test_a_waiter_keeps_its_deadline_when_the_server_stays_unavailable(server: Server) -> None:
    with open_inventory(server.url, actor="operator", create=True) as lab:
        lab.add("node1")
        waiter = spawn("-m", "bmhctl", "-i", server.url, "reserve", "-n1", "--wait", "4s")
        until(lambda: waiting(lab))
    server.stop()
    out, err = waiter.communicate(timeout=30)
    assert (waiter.returncode, out) == (7, "")
    assert "timed out after 4s waiting for 1 host" in err


def test_the_ticket_of_a_disconnected_waiter_can_be_cancelled_after_it_reconnects(server: Server) -> None:
    with open_inventory(server.url, actor="operator", create=True) as lab:
        lab.add("node1")
        waiter = spawn("-m", "bmhctl", "-i", server.url, "--as", "first", "reserve", "-n1", "--wait", "1m")
        until(lambda: waiting(lab) == ["first"])
    waiter.send_signal(signal.SIGSTOP)
    server.stop()
    server.start()
    with open_inventory(server.url, actor="operator") as lab:
        (item,) = queue(lab._context).items
        with pytest.raises(
            BusyError, match="its process lost the connection to the server and has not reconnected yet"
        ):
            cancel(lab._context, item.ticket.id, force=True, reason="not any more")
        assert doctor(lab._context, fix=True).findings == ()
        waiter.send_signal(signal.SIGCONT)
        until(lambda: lab._context.store.claims.shared([ticket_claim(item.ticket.id)]))
        cancel(lab._context, item.ticket.id, force=True, reason="not any more")
        out, err = waiter.communicate(timeout=30)
        assert (waiter.returncode, out) == (4, ""), err
        assert "the ticket was cancelled" in err


def test_a_waiter_past_its_deadline_blocks_no_other_after_a_restart_of_the_server(server: Server) -> None:
    with open_inventory(server.url, actor="operator", create=True) as lab:
        lab.add("node1")
        lab.ready("node1")
        lab.reserve("node1")
        waiter = spawn("-m", "bmhctl", "-i", server.url, "--as", "first", "reserve", "-n1", "--wait", "4s")
        until(lambda: waiting(lab) == ["first"])
    server.stop()
    assert waiter.wait(timeout=30) == 7
    waiter.communicate()
    server.start()
    with open_inventory(server.url, actor="operator") as lab:
        assert waiting(lab) == []
        lab.taint("node1", force=True, reason="its time is over")
        lab.reset("node1")
        lab.ready("node1")
        assert lab.reserve(count=1).hosts[0].name == "node1"


@pytest.mark.slow(seconds=15)
def test_the_ticket_of_a_killed_process_survives_one_restart_of_the_server_but_not_two(server: Server) -> None:
    with open_inventory(server.url, actor="operator", create=True) as lab:
        lab.add("node1")
        lab.ready("node1")
        lab.reserve("node1")
        waiter = spawn("-m", "bmhctl", "-i", server.url, "--as", "first", "reserve", "-n1", "--wait", "1m")
        until(lambda: waiting(lab) == ["first"])
        second = spawn("-m", "bmhctl", "-i", server.url, "--as", "second", "reserve", "-n1", "--wait", "1m")
        until(lambda: waiting(lab) == ["first", "second"])
    server.stop()
    waiter.kill()
    waiter.communicate()
    server.start()
    with open_inventory(server.url, actor="operator") as lab:
        until(lambda: shared(lab) == [False, True])
        assert waiting(lab) == ["first", "second"], "its process may come back"
    server.stop()
    server.start()
    with open_inventory(server.url, actor="operator") as lab:
        until(lambda: waiting(lab) == ["second"])
        lab.taint("node1", force=True, reason="its time is over")
        lab.reset("node1")
        lab.ready("node1")
    _, err = second.communicate(timeout=30)
    assert second.returncode == 0, err


def shared(lab: Inventory) -> list[bool]:
    """Return the tickets that have a process, the oldest first."""
    store = lab._context.store
    return [bool(store.claims.shared([ticket_claim(ticket.id)])) for ticket in store.tickets.all()]


@pytest.mark.parametrize("line", [("reserve", "-n1", "--wait", "1m"), ("run", "-n1", "--wait", "1m", "--", "true")])
def test_a_wait_that_starts_while_the_server_is_unavailable_waits_for_it(server: Server, line: tuple[str, ...]) -> None:
    with open_inventory(server.url, actor="operator", create=True) as lab:
        lab.add("node1")
        lab.ready("node1")
    server.stop()
    waiter = spawn("-m", "bmhctl", "-i", server.url, *line)
    assert waiter.stderr is not None
    assert re.match(r"can't reach .*; waiting until it is back", waiter.stderr.readline())
    server.start()
    _, err = waiter.communicate(timeout=30)
    assert waiter.returncode == 0, err
    assert "is back" in err


@pytest.mark.parametrize("line", [("history", "--follow"), ("status", "--watch")])
def test_a_watch_that_starts_while_the_server_is_unavailable_waits_for_it(
    server: Server, line: tuple[str, ...]
) -> None:
    with open_inventory(server.url, actor="operator", create=True) as lab:
        lab.add("node1")
    server.stop()
    watcher = spawn("-m", "bmhctl", "-i", server.url, *line)
    try:
        assert watcher.stderr is not None
        assert watcher.stdout is not None
        assert re.match(r"can't reach .*; waiting until it is back", watcher.stderr.readline())
        server.start()
        assert watcher.stdout.readline()
    finally:
        watcher.kill()
        watcher.communicate()


def test_a_recycler_waits_for_an_unavailable_server(server: Server) -> None:
    with open_inventory(server.url, actor="operator", create=True) as lab:
        lab.add("node1")
        lab.ready("node1")
        lab.release(lab.reserve("node1").reservation.id)
    server.stop()
    watch = spawn("-m", "bmhctl", "-i", server.url, "recycle", "--watch", "1s")
    assert watch.stderr is not None
    assert re.match(r"can't reach .*; waiting until it is back", watch.stderr.readline())
    server.start()
    with open_inventory(server.url, actor="operator") as lab:
        until(lambda: lab.host("node1").state is State.AVAILABLE)
        server.stop()
        time.sleep(2)
        server.start()
        until(lambda: is_back(lab))
        lab.release(lab.reserve("node1").reservation.id)
        until(lambda: lab.host("node1").state is State.AVAILABLE)
    watch.terminate()
    _, err = watch.communicate(timeout=30)
    assert watch.returncode == 143, err
    assert "is back" in err


def is_back(lab: Inventory) -> bool:
    try:
        return bool(lab.hosts())
    except UnreachableError:
        return False


@pytest.mark.parametrize(
    ("said", "ping"),
    [
        ("the database system is starting up", Ping.OK),  # it has started since
        ("das Datenbanksystem startet", Ping.REJECT),
    ],
)
def test_a_starting_server_is_not_reported_as_a_wrong_password(
    said: str, ping: Ping, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "PGconn", SimpleNamespace(ping=lambda _: ping))
    refused = psycopg.OperationalError(f"connection failed: FATAL:  {said}")
    error = connection.translate(refused, Address.parse(server.url), is_lost=True)
    assert type(error) is AwayError
    assert error.hint == "the server is starting, stopping or recovering: try again in a moment"


@pytest.fixture
def refusing(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], BmhctlError]]:
    """Returns the error for a server that refuses a connection with a text, and is ready an instant later."""
    monkeypatch.setattr(connection, "PGconn", SimpleNamespace(ping=lambda _: Ping.OK))
    with socket.create_server(("127.0.0.1", 0)) as listening, ThreadPoolExecutor(1) as pool:
        listening.settimeout(30)
        port = listening.getsockname()[1]
        # libpq quotes the server's name before the answer; so the database has the same one
        url = f"postgresql://otto@127.0.0.1:{port}/127.0.0.1?sslmode=disable&gssencmode=disable"

        def answer(message: bytes) -> None:
            client, _ = listening.accept()
            with client:
                client.recv(1000)
                client.sendall(b"E" + struct.pack("!I", len(message) + 4) + message)

        def refuse(text: str) -> BmhctlError:
            answering = pool.submit(answer, text.encode() + b"\0\0")
            with pytest.raises(UnreachableError) as refused:
                connection.connect(Address.parse(url))
            answering.result()
            return refused.value

        yield refuse


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("SFATAL\0VFATAL\0C57P03\0Mdas Datenbanksystem startet", AwayError),
        ("SВАЖНО\0VFATAL\0C57P03\0Mсистема баз данных запускается", AwayError),
        ("SFATAL\0VFATAL\0C53300\0Mtut mir leid, schon zu viele Verbindungen", AwayError),
        ('SВАЖНО\0VFATAL\0C28P01\0Mпользователь "otto" не прошёл проверку', UnreachableError),
        ("SFATAL\0VFATAL\0C28P01\0MPasswort-Authentifizierung für Benutzer »otto« fehlgeschlagen", UnreachableError),
        ("SFATAL\0VFATAL\0C3D000\0Mla base de données « 127.0.0.1 » n'existe pas", UnreachableError),
    ],
)
def test_a_refusal_in_any_language_is_final_only_for_a_user_or_a_database(
    said: str, kind: type[BmhctlError], refusing: Callable[[str], BmhctlError]
) -> None:
    error = refusing(said)
    assert type(error) is kind
    where = "check the user, the password and the database; the server's log says more"
    assert error.hint == (where if kind is UnreachableError else f"try again; if it stays refused, {where}")


def test_a_waiter_that_lost_its_ticket_joins_the_queue_again_at_the_end(server: Server) -> None:
    with open_inventory(server.url, actor="operator", create=True) as lab:
        lab.add("node1")
        first = spawn("-m", "bmhctl", "-i", server.url, "--as", "first", "reserve", "-n1", "--wait", "1m")
        until(lambda: waiting(lab) == ["first"])
        list(lab._context.store.database.execute("DELETE FROM tickets"))
        list(
            lab._context.store.database.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE application_name = 'bmhctl' AND pid <> pg_backend_pid()"
            )
        )
        until(lambda: waiting(lab) == ["first"])
        lab.ready("node1")
        _, err = first.communicate(timeout=30)
        assert first.returncode == 0, err
        assert "lost its place in the queue; queued again at the end" in err


def test_an_unavailable_server_is_status_11_with_the_reason(server: Server) -> None:
    with open_inventory(server.url, create=True):
        pass
    server.stop()
    for command in (["list"], ["reserve", "-n", "1"], ["status"], ["doctor"], ["backup", "x.db"]):
        done = spawn("-m", "bmhctl", "-i", server.url, *command)
        _, err = done.communicate(timeout=60)
        assert done.returncode == 11, command
        assert err.startswith("bmhctl: can't reach postgresql://postgres@/postgres"), err
        assert "Is the server running" not in err


def test_one_request_never_runs_twice_at_once_even_after_the_server_was_unavailable(
    server: Server, tmp_path: Path
) -> None:
    with open_inventory(server.url, actor="alice", create=True) as lab:
        lab.add("node1")
        lab.ready("node1")
    go = tmp_path / "go"
    task = f"echo on; while [ ! -e {go} ]; do sleep 0.1; done"
    line = ("-m", "bmhctl", "-i", server.url, "run", "--host", "node1", "--request-id", "job-1", "--", "sh", "-c", task)
    first = spawn(*line)
    assert first.stdout is not None
    assert first.stdout.readline() == "on\n"
    server.stop()
    server.start()
    out, err = spawn(*line).communicate(timeout=60)
    go.touch()
    ended, _ = first.communicate(timeout=60)
    assert (out, ended, first.returncode) == ("", "", 0)
    assert "request job-1 is running already" in err


def test_a_step_whose_claim_another_process_took_does_not_run(server: Server, tmp_path: Path) -> None:
    with open_inventory(server.url, actor="alice", create=True) as lab:
        lab.add("node1")
        ran = tmp_path / "ran"
        apply_policy(lab._context, f'[checks.mark]\ncommand = ["touch", "{ran}"]\n', "policy.toml")
        store = lab._context.store
        host = store.hosts.named("node1")
        assert host is not None
        with claimed(lab._context, host) as held:
            list(store.database.execute("UPDATE claims SET token = 'another'"))
            with pytest.raises(StateRefusedError, match="another process has it"):
                held.plan(Phase.CHECKS).run()
        assert not ran.exists()


ACTS: dict[str, Callable[[Store], object]] = {
    "one statement": lambda store: store.hosts.named("node1"),
    "many statements": lambda store: [
        store.database.enqueue("UPDATE hosts SET since = ? WHERE name = ?", [number, "node1"]) for number in range(1000)
    ],
    "a stream": lambda store: list(store.events.read()),
    "a load": lambda store: store.database.load("meta", ("key", "value"), [("a", "b")]),
}


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ("25P03", "can't reach postgresql://.*: it happened"),  # idle_in_transaction_session_timeout
        ("25P04", "can't reach postgresql://.*: it happened"),  # transaction_timeout
        ("58030", "it happened: nothing was changed"),  # its disk
        ("XX001", "it happened: nothing was changed"),  # defects of the server
    ],
)
def test_a_transaction_that_the_server_ends_is_reported_as_unreachable(server: Server, state: str, words: str) -> None:
    with open_inventory(server.url, actor="alice", create=True) as lab:
        store = lab._context.store
        fails = f"DO $$ BEGIN RAISE EXCEPTION 'it happened' USING ERRCODE = '{state}'; END $$"
        with pytest.raises(AwayError, match=words), store.transaction():
            store.database.execute(fails)
        lab.add("node1")


@pytest.mark.parametrize("act", list(ACTS))
def test_a_connection_that_the_server_ends_is_reported_as_lost(server: Server, act: str) -> None:
    with open_inventory(server.url, actor="alice", create=True) as lab, psycopg.connect(server.url) as other:
        store = lab._context.store
        lab.add("node1")

        def ended() -> None:
            with store.transaction():
                other.execute(
                    "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE application_name = 'bmhctl'"
                )
                ACTS[act](store)

        with pytest.raises(UnreachableError, match="can't reach postgresql://"):
            ended()
        assert lab.host("node1").name == "node1"


def test_a_grant_interrupted_by_a_signal_is_reported_or_undone(server: Server, figures: Figures) -> None:
    tries = max(30, round(600 * SCALE))
    dice = random.Random(11)
    interrupted = leaked = 0

    def interrupt(_: int, frame: FrameType | None) -> None:
        while frame is not None:  # once it has its answer, the caller decides about the host
            if frame.f_code.co_name == "reserve_or_wait":
                raise KeyboardInterrupt
            if frame.f_code.co_name in ("connect", "gc_callback", "__del__"):  # the error would be lost there
                return
            frame = frame.f_back

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        with open_inventory(server.url, actor="alice", create=True) as lab, open_inventory(server.url) as other:
            lab.add("node1")
            lab.ready("node1")
            began = time.monotonic()
            lab.release(lab.reserve("node1").reservation.id)
            span = time.monotonic() - began
            for _ in range(tries):
                if other.host("node1").state is not State.AVAILABLE:
                    lab.reset("node1")
                    lab.ready("node1")
                try:
                    signal.setitimer(signal.ITIMER_REAL, dice.uniform(0.05, 1) * span)
                    lab.reserve("node1")
                    signal.setitimer(signal.ITIMER_REAL, 0)
                except KeyboardInterrupt:
                    interrupted += 1
                    leaked += len(other.reservations())
                for held in other.reservations():
                    lab.release(held.reservation.id)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    figures("a signal in a grant", "postgres", tries=tries, faults=interrupted, losses=leaked)
    assert leaked == 0


def test_a_follower_goes_on_after_its_server_was_stopped_and_killed(server: Server) -> None:
    with open_inventory(server.url, actor="operator", create=True) as lab:
        lab.add("node1")
    follower = spawn("-m", "bmhctl", "-i", server.url, "history", "--follow", "--fields", "host", "-o", "csv")
    try:
        assert follower.stdout is not None
        assert follower.stderr is not None
        assert [follower.stdout.readline() for _ in range(2)] == ["host\n", "node1\n"]
        for number in (2, 3):
            server.stop(kill=number == 3)
            time.sleep(0.4)  # it has noticed
            server.start()
            with open_inventory(server.url, actor="operator") as lab:
                lab.add(f"node{number}")
            assert follower.stdout.readline() == f"node{number}\n"
            while not re.search(r"(?<!until it) is back$", said := follower.stderr.readline()):
                assert said.endswith("; waiting until it is back\n")
    finally:
        follower.kill()
        out, _ = follower.communicate()
    assert out == ""
