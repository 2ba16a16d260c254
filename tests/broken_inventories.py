"""Inventories that are broken on purpose, by changing their rows directly."""

from __future__ import annotations

from collections.abc import Iterable
from unittest import mock

import psycopg

from bmhctl.domain.model import CheckResult, HostSpec, Verdict
from bmhctl.domain.policy import Step
from bmhctl.domain.requirements import ReservationRequest, reservation_request
from bmhctl.probes import run as probe
from bmhctl.probes.step_environment import StepEnvironment
from bmhctl.results.diagnosis import Diagnosis
from bmhctl.stores.database import Database
from bmhctl.usecases import hosts, lifecycle_verbs
from bmhctl.usecases.doctor.doctor import doctor
from bmhctl.usecases.reservations import reserve
from bmhctl.usecases.shared.host_selection import Choice
from bmhctl.usecases.steps import step_verbs
from tests.conftest import Lab

POLICY = """
[checks.ping]
command = ["true"]

[cleanup.wipe]
command = ["true"]
"""

Found = tuple[str, str, str | None, str, str]
"""A finding: its kind, its severity, its host, what is wrong, and what to do."""


def a_host_in_each_state(lab: Lab) -> None:
    """node1 initial, node2 available, node3 reserved (r-3), node4 tainted, node5 in maintenance.

    node6 is in maintenance with its reservation (r-6), and node7 was removed.
    """
    lab.policy(POLICY)
    for number in range(1, 8):
        attributes = hosts.AttributeChanges(
            mac=f"52:54:00:00:00:0{number}", labels={"arch": "arm64"}, hardware={"cpus": 8}
        )
        hosts.add(lab.context(), [f"node{number}"], attributes)
    with mock.patch.object(probe, "run", _passed):
        step_verbs.ready(lab.context(), Choice(tuple(f"node{number}" for number in range(2, 8))), jobs=1)
    for number in (3, 4, 6):
        asked = ReservationRequest(reservation_request((f"node{number}",)).requirements, token=f"r-{number}")
        reserve.reserve_or_wait(lab.context("bob"), asked)
    lifecycle_verbs.taint(lab.context("bob"), Choice(("node4",)))
    lifecycle_verbs.maintain(lab.context(), Choice(("node5", "node6")), reason="new disk")
    hosts.remove(lab.context(), Choice(("node7",)))
    lab.close()


def _passed(step: Step, _: HostSpec, __: StepEnvironment) -> CheckResult:
    """Return the result of a step that runs ``true``, without starting the two processes of a step on a server."""
    return CheckResult(step.name, Verdict.PASS, "exit 0", 0.0, phase=step.phase)


def unchecked(lab: Lab, *statements: str) -> None:
    """Changes rows, also to values that the constraints of the database exclude.

    On a server, the constraints are dropped only if they refuse the values: another test then needs a new inventory.
    """
    database = lab.context().store.database
    if database.files:
        lifted = [f"PRAGMA {pragma}" for pragma in ("foreign_keys = OFF", "ignore_check_constraints = ON")]
        for statement in lifted:
            list(database.execute(statement))
        _run(database, statements)
    else:
        try:
            _run(database, statements)
        except psycopg.errors.IntegrityError:
            _drop_constraints(database)
            _run(database, statements)
    lab.close()


def _run(database: Database, statements: Iterable[str]) -> None:
    with database.transaction(write=True):
        for statement in statements:
            list(database.execute(statement))


def _drop_constraints(database: Database) -> None:
    rows = database.execute(
        "SELECT concat('ALTER TABLE ', conrelid::regclass, ' DROP CONSTRAINT ',"
        " string_agg(quote_ident(conname), ', DROP CONSTRAINT '))"
        " FROM pg_constraint WHERE contype IN ('c', 'f') AND connamespace = current_schema()::regnamespace"
        " GROUP BY conrelid"
    )
    for row in list(rows):
        list(database.execute(str(row[0])))


def everything(lab: Lab) -> dict[str, list[tuple[object, ...]]]:
    """Return every row of an inventory."""
    tables = ("hosts", "reservations", "facts", "results", "events", "departed", "tickets", "meta")
    database = lab.context().store.database
    return {
        table: sorted((tuple(row) for row in database.execute(f"SELECT * FROM {table}")), key=repr) for table in tables
    }


def examined(lab: Lab, *, fix: bool = False) -> Diagnosis:
    """Return the diagnosis, over a new connection."""
    lab.close()
    return doctor(lab.context(), fix=fix)


def found(diagnosis: Diagnosis) -> list[Found]:
    """Return the findings that are not fixed."""
    return [(f.kind, f.severity.value, f.host, f.message, f.remedy) for f in diagnosis.findings if not f.fixed]
