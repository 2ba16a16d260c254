"""Inventories that an older bmhctl made are opened, read and used as they are."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest

from bmhctl.stores.postgres.url import Address
from tests.conftest import BACKENDS, SUFFIX, Run, location, run_bmhctl
from tests.postgres import drop_schema, load_schema

FIXTURES = Path(__file__).parent / "fixtures" / "25a5e5a"
COMMANDS = {
    "list": ["list"],
    "list-arm": ["list", "-l", "arch=arm64,cpus>=16,memory>=64GiB"],
    "show": ["show", "held01"],
    "history": ["history"],
    "reservations": ["reservations"],
    "queue": ["queue"],
    "status": ["status"],
    "doctor": ["doctor"],
}
"""The commands whose answers were recorded when the inventory was made."""

Ask = Callable[..., Run]


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def ask(backend: str, tmp_path: Path) -> Iterator[Ask]:
    """Runs a command on a copy of the older inventory."""
    path = tmp_path / SUFFIX[backend]
    place = location(path)
    if backend == "postgres":
        load_schema(place, (FIXTURES / "lab.sql").read_text(encoding="utf-8"), "fixture_schema")
    for file in {"toml": ("lab.toml", "lab.state.db"), "sqlite": ("lab.db",)}.get(backend, ()):
        shutil.copyfile(FIXTURES / file, tmp_path / file)
    yield lambda *words, **extra: run_bmhctl("-i", place, *words, cwd=tmp_path, **extra)
    if backend == "postgres":
        drop_schema(place)


def answered(ask: Ask, *words: str) -> dict[str, Any]:
    done = ask(*words, "-o", "json")
    assert done.status == 0, done.stderr
    return json.loads(done.stdout)


def comparable(answer: dict[str, Any], backend: str) -> dict[str, Any]:
    """Return an answer without the inventory's location, the time of the answer and the wording of messages.

    On a server that was just started, the ticket of a process that has ended still counts, because its owner may be
    reconnecting.
    """
    kept = {key: value for key, value in answer.items() if key not in ("now", "inventory")}
    if "findings" in kept:
        wording = ("message", "remedy")
        kept["findings"] = [{k: v for k, v in each.items() if k not in wording} for each in kept["findings"]]
    if backend == "postgres":
        for key in ("waiting", "tickets"):
            kept.pop(key, None)
        if "findings" in kept:
            kept["findings"] = [each for each in kept["findings"] if each["kind"] != "ticket"]
    return kept


def known_then(now: Any, then: Any) -> Any:
    """Return the present answer without keys that the older bmhctl did not have."""
    if isinstance(now, dict) and isinstance(then, dict):
        return {key: known_then(value, then[key]) for key, value in now.items() if key in then}
    if isinstance(now, list) and isinstance(then, list) and len(now) == len(then):
        return [known_then(mine, its) for mine, its in zip(now, then, strict=True)]
    return now


@pytest.mark.parametrize("name", COMMANDS)
def test_an_older_inventory_gives_the_same_answers(ask: Ask, backend: str, name: str) -> None:
    then = json.loads((FIXTURES / "expected.json").read_text(encoding="utf-8"))[backend][name]
    now = comparable(answered(ask, *COMMANDS[name]), backend)
    then = comparable(then, backend)
    assert known_then(now, then) == then


def test_the_first_command_reports_that_an_older_bmhctl_cannot_use_the_inventory_any_more(
    ask: Ask, backend: str
) -> None:
    grants = "; if it has roles, grant them again: bmhctl policy grants" if backend == "postgres" else ""
    updated = ask("list", "-o", "name").stderr
    assert updated.startswith("updated the tables of ")
    assert updated.endswith(f": an older bmhctl can't use it any more{grants}\n")
    assert ask("list", "-o", "name").stderr == ""


def retire(backend: str, folder: Path) -> None:
    """Retires an older inventory like ``copy --retire-source``, with the triggers that a migration has to handle."""
    if backend == "postgres":
        address = Address.parse(location(folder / SUFFIX[backend]))
        with psycopg.connect(address.url, autocommit=True) as server:
            server.execute(f'SET search_path = "{address.schema}"'.encode())
            server.execute(
                "CREATE FUNCTION refuse_changes() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
                " RAISE EXCEPTION USING ERRCODE = 'BM001', MESSAGE = 'elsewhere.db'; END $$"
            )
            server.execute(
                "CREATE TRIGGER retired BEFORE INSERT OR UPDATE ON hosts"
                " FOR EACH STATEMENT EXECUTE FUNCTION refuse_changes()"
            )
            server.execute("INSERT INTO meta (key, value) VALUES ('successor', 'elsewhere.db')")
        return
    with closing(sqlite3.connect(folder / {"toml": "lab.state.db", "sqlite": "lab.db"}[backend])) as database:
        database.executescript(
            "CREATE TRIGGER retired_hosts_update BEFORE update ON hosts"
            " BEGIN SELECT RAISE(ABORT, 'retired: elsewhere.db'); END;"
            "INSERT INTO meta (key, value) VALUES ('successor', 'elsewhere.db');"
        )


def test_an_older_inventory_that_was_retired_is_read_and_can_be_used_again(
    ask: Ask, backend: str, tmp_path: Path
) -> None:
    retire(backend, tmp_path)
    assert set(states(ask)) >= {"free02", "held01"}
    assert ask("maintain", "free02", "--reason", "fan").status == 11
    assert ask("init", "--reactivate").status == 0
    assert ask("maintain", "free02", "--reason", "fan").status == 0


def states(ask: Ask) -> dict[str, str]:
    return {host["name"]: host["state"] for host in answered(ask, "list")["hosts"]}


@pytest.mark.slow
def test_work_goes_on_in_an_older_inventory(ask: Ask, backend: str) -> None:
    """The leases, fencing, request ids, counted failures, notes and departed hosts of the inventory still count."""
    before = states(ask)
    assert ask("reserve", "free02").status == 5  # it is cordoned
    assert ask("reserve", "-l", "cpus=65").status == 6
    assert ask("taint", "held01").status == 8  # alice is not alice@ci
    again = answered(ask, "reserve", "held01", "--request-id", "job-17-1", "--as", "alice@ci")
    assert (again["reservation"]["id"], [host["name"] for host in again["hosts"]]) == ("r-ajgwmgdf", ["held01"])
    assert (
        ask("reserve", "bad01", "--request-id", "job-18-1", "--as", "alice@ci").status == 8
    )  # its reservation has ended
    expired = {"lapsed01": "tainted"}
    assert states(ask) == before | expired

    assert ask("taint", "held01", "-R", "r-ajgwmgdf").status == 0
    assert ask("reset", "held01", "lapsed01", "used01").status == 0
    assert ask("ready", "held01", "new01").status == 0
    assert ask("reset", "stuck01").status == 9  # the second failure in a row
    moved = {"held01": "available", "new01": "available", "lapsed01": "initial", "used01": "initial"}
    assert states(ask) == before | moved | {"stuck01": "maintenance"}

    assert ask("resume", "down01", "--as", "bob").status == 0
    assert states(ask)["down01"] == "maintenance"  # the other reason is olga's
    assert ask("resume", "down01", "--as", "olga@lab").status == 0
    assert ask("uncordon", "free02").status == 0
    taken = answered(ask, "reserve", "-l", "arch=arm64", "-n", "2", "--ttl", "1h")
    assert sorted(host["name"] for host in taken["hosts"]) == ["free01", "free02"]

    assert ask("add", "gone01").status == 0
    assert states(ask)["gone01"] == "tainted"  # this host was removed while it was in use
    assert ask("doctor", "--fix").status == 0  # removes the ticket of the killed process
    diagnosis = comparable(answered(ask, "doctor"), backend)
    assert (diagnosis["healthy"], [each["kind"] for each in diagnosis["findings"]]) == (True, [])


def test_values_that_an_older_bmhctl_did_not_record_are_unknown(ask: Ask) -> None:
    """They are null, never 0: the steps of events, and when a reservation was asked for. New ones are recorded."""
    assert {each["steps"] and len(each["steps"]) for each in answered(ask, "history")["events"]} == {None}
    listed = answered(ask, "reservations", "--ended")["reservations"]
    assert [(each["asked_at"], each["tags"]) for each in listed] == [(None, {})] * len(listed)
    assert ask("reset", "used01").status == 0
    assert answered(ask, "history", "used01", "-n", "1")["events"][0]["steps"] is not None
    assert ask("uncordon", "free02").status == 0
    taken = answered(ask, "reserve", "free02", "--tag", "job=4711")["reservation"]
    assert (taken["asked_at"] is not None, taken["tags"]) == (True, {"job": "4711"})
