"""An inventory as TOML: it is written and read without loss, and states that the lifecycle excludes are refused."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest
import tomli_w
from hypothesis import given
from hypothesis import strategies as st

from bmhctl.domain.import_batch import ImportBatch, ImportedHost
from bmhctl.domain.model import Bmc, FailedTask, Host, HostSpec, Note, Reservation, State
from bmhctl.errors import BmhctlError, InvalidError
from tests.formats.texts import dump_inventory, read_inventory

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
LATER = datetime(2026, 5, 2, 3, 4, 5, 678901, tzinfo=UTC)

HELD = Reservation("r-1", "ada@lab", "kernel tests", NOW, LATER, timedelta(hours=4))
ENDLESS = Reservation("r-2", "Machine/ci/m-1", None, NOW, None, None)


def test_an_exported_inventory_is_readable_for_people() -> None:
    host = Host(
        HostSpec("n1", mac="bc:55:85:92:de:b7", labels={"rack": "r1"}),
        State.MAINTENANCE,
        since=NOW,
        dirty=True,
        came_from=State.RESERVED,
        maintenance=(Note("eve@lab", "fan", NOW, until=LATER),),
        reservation=HELD,
    )
    assert (
        dump_inventory([host], '[defaults]\nttl = "2h"\n', LATER)
        == """\
[export]
version = 1
at = 2026-05-02 03:04:05.678901+00:00

[defaults]
ttl = "2h"

[reservations.r-1]
owner = "ada@lab"
purpose = "kernel tests"
created_at = 2026-05-01 12:00:00+00:00
expires_at = 2026-05-02 03:04:05.678901+00:00
ttl = "4h"

[hosts.n1]
mac = "bc:55:85:92:de:b7"

[hosts.n1.labels]
rack = "r1"

[hosts.n1.lifecycle]
state = "maintenance"
since = 2026-05-01 12:00:00+00:00
dirty = true
came_from = "reserved"
reservation = "r-1"

[[hosts.n1.lifecycle.maintenance]]
actor = "eve@lab"
reason = "fan"
since = 2026-05-01 12:00:00+00:00
until = 2026-05-02 03:04:05.678901+00:00
"""
    )


TIMES = st.datetimes(datetime(1970, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC))
LINES = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cf", "Zl", "Zp", "Cs")), max_size=20)
WORDS = st.from_regex(r"\A[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,10}[A-Za-z0-9])?\Z")
NAMES = st.from_regex(r"\A[a-z0-9](?:[-a-z0-9]{0,10}[a-z0-9])?\Z")
BMCS = st.builds(
    Bmc,
    address=st.sampled_from(["10.0.0.1", "redfish+https://bmc.lab/redfish/v1"]),
    type=st.none() | LINES,
    system_id=st.none() | WORDS,
    credentials=st.sampled_from([None, "env:BMC", "file:/run/bmc", "command:pass show bmc"]),
    verify_tls=st.booleans(),
    tls_min_version=st.sampled_from([None, "1.0", "1.2"]),
)
SPECS = st.builds(
    HostSpec,
    name=NAMES,
    address=st.sampled_from([None, "10.0.0.2", "fd00::1", "n1.lab"]),
    mac=st.sampled_from([None, "bc:55:85:92:de:b7"]),
    labels=st.dictionaries(WORDS, WORDS | st.just(""), max_size=3),
    bmc=st.none() | BMCS,
    hardware=st.dictionaries(WORDS, st.integers(-(2**63) + 1, 2**63 - 1) | LINES, max_size=3),
    note=st.none() | LINES,
    observed=st.dictionaries(WORDS, st.integers(0, 9) | LINES, max_size=2),
)
MARKS = st.builds(Note, LINES, LINES, TIMES, st.none() | TIMES, st.booleans())
RESERVATIONS = st.builds(
    Reservation,
    id=WORDS,
    owner=LINES,
    purpose=st.none() | LINES,
    created_at=TIMES,
    expires_at=st.none() | TIMES,
    ttl=st.none() | st.integers(0, 10**8).map(lambda seconds: timedelta(seconds=seconds)),
)


@st.composite
def hosts(draw: st.DrawFn, pool: list[Reservation]) -> Host:
    state = draw(st.sampled_from([*State]))
    holds = state is State.RESERVED or (state is State.MAINTENANCE and pool != [] and draw(st.booleans()))
    if holds and not pool:
        state, holds = State.TAINTED, False
    before = st.sampled_from([None, State.INITIAL, State.AVAILABLE, State.RESERVED, State.TAINTED])
    return Host(
        draw(SPECS),
        state,
        since=draw(TIMES),
        dirty=holds or state is State.TAINTED or (state is State.MAINTENANCE and draw(st.booleans())),
        undeclared=draw(st.booleans()),
        came_from=draw(before) if state is State.MAINTENANCE else None,
        cordon=draw(st.none() | MARKS),
        maintenance=tuple(draw(st.lists(MARKS, max_size=2))) if state is State.MAINTENANCE else (),
        fault=draw(st.none() | LINES),
        failed_cleanups=draw(st.integers(0, 9)),
        failed_tasks=tuple(draw(st.lists(st.builds(FailedTask, LINES, st.none() | LINES), max_size=2))),
        reservation=draw(st.sampled_from(pool)) if holds else None,
        used_at=draw(st.none() | TIMES),
        proven_at=draw(st.none() | TIMES),
        failed_setups=draw(st.integers(0, 9)),
        failed_recycles=draw(st.none() | st.integers(0, 9)) if state is State.INITIAL else None,
        id=draw(st.integers(0, 9)),
        last_event=draw(st.integers(0, 9)),
    )


@given(st.data())
def test_an_exported_inventory_is_read_back_unchanged(data: st.DataObject) -> None:
    pool = data.draw(st.lists(RESERVATIONS, max_size=3, unique_by=lambda reservation: reservation.id))
    fleet = data.draw(st.lists(hosts(pool), max_size=4, unique_by=lambda host: host.name))
    text = dump_inventory(fleet, None, NOW)
    batch = read_inventory(text.encode(), "lab.toml", LATER)
    assert [arrival.host for arrival in batch.arrivals] == [replace(host, id=0, last_event=0) for host in fleet]
    assert [arrival.source_state for arrival in batch.arrivals] == [host.state.value for host in fleet]


def test_a_policy_is_exported_as_its_own_text() -> None:
    policy = '[checks.ssh]\ntcp = 22\nselector = "gpu"\n\n[cleanup.wipe]\ncommand = ["./wipe.sh", "{address}"]\n'
    text = dump_inventory([], policy, NOW)
    back = read_inventory(text, "lab.toml", NOW)
    assert back.arrivals == ()
    assert back.policy is not None
    assert tomllib.loads(back.policy) == tomllib.loads(policy)
    assert read_inventory(dump_inventory([], None, NOW), "lab.toml", NOW) == ImportBatch(())


def test_hosts_of_one_reservation_share_it_after_an_import() -> None:
    fleet = [Host(HostSpec(name), State.RESERVED, NOW, dirty=True, reservation=HELD) for name in ("a", "b")]
    batch = read_inventory(dump_inventory(fleet, None, NOW), "lab.toml", NOW)
    assert [arrival.host.reservation for arrival in batch.arrivals] == [HELD, HELD]


def test_hosts_of_a_declaration_without_states_are_imported_as_initial() -> None:
    text = '[defaults]\nttl = "4h"\n[hosts.n1]\naddress = "10.0.0.1"\n[hosts.n2]\n'
    assert read_inventory(text, "lab.toml", NOW) == ImportBatch(
        (
            ImportedHost(Host(HostSpec("n1", address="10.0.0.1"), State.INITIAL, NOW), None, "lab.toml, hosts.n1"),
            ImportedHost(Host(HostSpec("n2"), State.INITIAL, NOW), None, "lab.toml, hosts.n2"),
        ),
        policy='[defaults]\nttl = "4h"\n',
    )


def test_other_offsets_are_read_as_the_same_moment() -> None:
    text = '[hosts.n1.lifecycle]\nstate = "available"\nsince = 2026-05-01T14:00:00+02:00\n'
    (arrival,) = read_inventory(text, "lab.toml", NOW).arrivals
    assert arrival.host.since == NOW
    assert arrival.host.since.tzinfo is UTC


LIFE = "[hosts.n1.lifecycle]\nsince = 2026-05-01T14:00:00Z\nstate = "
LEASE = '[reservations.r-1]\nowner = "ada"\ncreated_at = 2026-05-01T14:00:00Z\nttl = "none"\n'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x = 1", "unknown key 'x'"),
        ("hosts = 1", "hosts must be a table, not 1"),
        ("[export]\nversion = 2", "export.version is 2, and this bmhctl reads version 1"),
        ("[hosts.Big_]", "'Big_' is not a host name"),
        ('[hosts.n1]\nmac = "x"', "hosts.n1.mac must be a MAC address such as bc:55:85:92:de:b7, not 'x'"),
        ('[hosts.n1]\nowner = "x"', "hosts.n1: unknown key 'owner'"),
        ("[checks.ssh]\ntcp = 0", "checks.ssh.tcp must be a whole number from 1 to 65535, not 0"),
        (
            f'{LIFE}"free"',
            "hosts.n1.lifecycle.state must be one of initial, available, reserved, tainted, maintenance, not 'free'",
        ),
        ("[hosts.n1.lifecycle]", "hosts.n1.lifecycle.state: is missing"),
        (
            '[hosts.n1.lifecycle]\nstate = "initial"\nsince = 2026-05-01T14:00:00',
            "hosts.n1.lifecycle.since must be a date and time with its offset, such as 2026-01-31T12:00:00Z, "
            "not '2026-05-01 14:00:00'",
        ),
        (f'{LIFE}"available"\ndirty = true', "hosts.n1.lifecycle.dirty: a dirty host can't be available"),
        (f'{LIFE}"tainted"', "hosts.n1.lifecycle.dirty: a host that is tainted is dirty"),
        (f'{LIFE}"reserved"\ndirty = true', "hosts.n1.lifecycle.reservation: a reserved host needs one"),
        (
            f'{LIFE}"reserved"\nreservation = "r-1"\n{LEASE}',
            "hosts.n1.lifecycle.dirty: a host that is reserved is dirty",
        ),
        (
            f'{LIFE}"tainted"\ndirty = true\nreservation = "r-1"\n{LEASE}',
            "hosts.n1.lifecycle.reservation: a host that is tainted has none",
        ),
        (f'{LIFE}"reserved"\nreservation = "r-9"', "hosts.n1.lifecycle.reservation: there is no [reservations.r-9]"),
        (
            f'{LIFE}"initial"\ncame_from = "available"',
            "hosts.n1.lifecycle.came_from: is the state before maintenance, so only a host in maintenance has it",
        ),
        ('[reservations.r-1]\nttl = "soon"', "reservations.r-1.ttl: 'soon' is not a duration"),
        ('[reservations.r-1]\nttl = "1h"', "reservations.r-1.owner: is missing"),
    ],
)
def test_a_host_that_contradicts_the_lifecycle_is_refused_by_name(text: str, said: str) -> None:
    with pytest.raises(InvalidError) as caught:
        read_inventory(text, "lab.toml", NOW)
    assert caught.value.message == f"lab.toml: {said}"


@pytest.mark.parametrize("text", ["[hosts", "x = " + "[" * 5000, "x = " + "1" * 5000, b"\xff", "x = 2026-13-01"])
def test_broken_toml_is_refused_with_its_file(text: str | bytes) -> None:
    with pytest.raises(InvalidError, match=r"\Alab\.toml:"):
        read_inventory(text, "lab.toml", NOW)


SCALARS = st.one_of(
    st.booleans(),
    st.integers(),
    st.text(max_size=8),
    TIMES,
    st.datetimes(),
    st.just(datetime.min.replace(tzinfo=timezone(timedelta(hours=14)))),
    st.sampled_from(["reserved", "maintenance", "r-1", "1h", "none"]),
)
KEYS = st.sampled_from(
    [
        "export",
        "defaults",
        "checks",
        "hosts",
        "reservations",
        "n1",
        "r-1",
        "lifecycle",
        "state",
        "since",
        "dirty",
        "reservation",
        "maintenance",
        "cordon",
        "owner",
        "created_at",
        "ttl",
        "actor",
        "reason",
        "came_from",
    ]
)
TABLES = st.dictionaries(
    KEYS,
    st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(KEYS, inner, max_size=4)),
    max_size=4,
)


def said_of(text: str | bytes) -> str:
    try:
        read_inventory(text, "x", NOW)
    except BmhctlError as error:
        return error.message
    return "x: "


@given(TABLES | TABLES.map(lambda life: {"hosts": {"n1": {"lifecycle": {"state": "initial", "since": NOW} | life}}}))
def test_every_random_toml_document_is_refused_with_a_message(tables: dict[str, object]) -> None:
    assert said_of(tomli_w.dumps(tables)).startswith("x: ")
