"""Sixteen clients that reserve at once on one PostgreSQL server, compared with a raw loop that writes the same rows."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager

import psycopg

from bmhctl import open_inventory
from bmhctl.usecases import copies
from tests.benchmarks.harness import Bench, Figure, Series, in_turn, ratio
from tests.postgres import Server

CLIENTS = 16
_TTL = 4 * 3_600_000_000


class RawClient:
    """Reserves as fast as the server can, without any checks."""

    def __init__(self, url: str) -> None:
        server, _, schema = url.rpartition("&schema=")
        connection = psycopg.connect(server, autocommit=True)
        self._run, self.close = connection.execute, connection.close
        self._run(f'SET search_path = "{schema}"')

    def reserve(self) -> None:
        """Takes the least recently used free host that fits."""
        run = self._run
        now = time.time_ns() // 1000
        token = f"r-{os.urandom(5).hex()}"
        run("BEGIN")
        found = run(
            "SELECT id, name FROM hosts WHERE state = 'available' AND cordon IS NULL AND undeclared = 0 AND EXISTS "
            "(SELECT 1 FROM facts f WHERE f.host_id = hosts.id AND f.key = %s AND f.value = %s) "
            "ORDER BY COALESCE(used_at, 0), id LIMIT 1 FOR UPDATE SKIP LOCKED",
            ("arch", "x86_64"),
        ).fetchone()
        assert found is not None
        host, name = found
        run(
            "INSERT INTO reservations (id, owner, purpose, created_at, expires_at, ttl, wants)"
            " VALUES (%s, %s, %s, %s, %s, %s, %s)",
            (token, "alice@lab", "a benchmark", now, now + _TTL, _TTL, json.dumps([["arch=x86_64", 1]])),
        )
        event = run(
            "INSERT INTO events (host_id, host, at, actor, verb, source, dest, reason, reservation)"
            " VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s) RETURNING id",
            (host, name, now, "alice@lab", "reserve", "available", "reserved", "a benchmark", token),
        ).fetchone()
        assert event is not None
        run(
            "UPDATE hosts SET state = 'reserved', since = %s, dirty = 1, reservation = %s, used_at = %s,"
            " last_event = %s WHERE id = %s",
            (now, token, now, event[0], host),
        )
        run("COMMIT")


def serve(kind: str, url: str) -> None:
    """A client: reads a number from each line of its input, reserves that many times, and then answers."""
    with ExitStack() as stack:
        if kind == "raw":
            reserve = stack.enter_context(closing(RawClient(url))).reserve
        else:
            lab = stack.enter_context(open_inventory(url, actor="alice@lab"))

            def reserve() -> None:
                lab.reserve(selector="arch=x86_64", purpose="a benchmark")

        print("ready", flush=True)
        for line in sys.stdin:
            for _ in range(int(line)):
                reserve()
            print("done", flush=True)


@contextmanager
def _clients(kind: str, url: str) -> Iterator[list[subprocess.Popen[str]]]:
    code = "import sys; from tests.benchmarks.serving import serve; serve(sys.argv[1], sys.argv[2])"
    started = [
        subprocess.Popen(
            [sys.executable, "-c", code, kind, url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(CLIENTS)
    ]
    try:
        for client in started:
            _answer(client, "ready")
        yield started
    finally:
        for client in started:
            client.kill()
            client.communicate()


def _answer(client: subprocess.Popen[str], expected: str) -> None:
    assert client.stdout is not None
    assert client.stdout.readline() == f"{expected}\n"


def _seconds(clients: list[subprocess.Popen[str]], each: int) -> float:
    """Return how long the clients take to reserve ``each`` hosts, all clients at once."""
    began = time.perf_counter()
    for client in clients:
        assert client.stdin is not None
        client.stdin.write(f"{each}\n")
        client.stdin.flush()
    for client in clients:
        _answer(client, "done")
    return time.perf_counter() - began


def _reserved(bench: Bench) -> Series:
    each, rounds = bench.size(25, 3), bench.at_most(7)
    needed = CLIENTS * each * (rounds + 1)
    source = bench.database(2 * needed, "available")
    server = Server("fsync=on", place="/tmp")  # the last setting counts: acknowledged commits are on the disk
    try:
        server.start()
        urls = [f"{server.url}&schema={name}" for name in ("mine", "its")]
        with open_inventory(source) as lab:
            for url in urls:
                copies.copy(lab._context, url)
        with psycopg.connect(server.url, autocommit=True) as connection:
            connection.execute("ANALYZE")
        with _clients("api", urls[0]) as mine, _clients("raw", urls[1]) as its:
            subject, floor = in_turn(rounds, lambda: _seconds(mine, each), lambda: _seconds(its, each))
        with psycopg.connect(server.url) as connection:
            counts = [
                connection.execute(f"SELECT COUNT(*) FROM {name}.hosts WHERE state = 'reserved'").fetchone()
                for name in ("mine", "its")
            ]
        assert counts == [(needed,), (needed,)], counts
    finally:
        server.remove()
    return Series(ratio(floor, subject), subject=subject, floor=floor)


FIGURES = (
    Figure(
        "reserve/postgres",
        "reservations of 16 clients of one PostgreSQL, a second, over a raw SKIP LOCKED loop, as durable",
        _reserved,
        0.6,
        at_least=True,
    ),
)
