"""Commands that change an inventory in every possible way, each with the inventory that it starts from."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from unittest import mock

from bmhctl.api import Inventory
from bmhctl.domain.requirements import reservation_request
from bmhctl.stores import bookings as stored_bookings
from bmhctl.stores.store import Store
from bmhctl.usecases import inventories
from bmhctl.usecases.planned_maintenance import plan_maintenance
from bmhctl.usecases.reservations import bookings, reserve
from bmhctl.usecases.shared.host_selection import Choice
from tests.conftest import Lab
from tests.faults.snapshots import Folder, read_folder, write_folder

FILES = {"toml": "lab.toml", "sqlite": "lab.db"}
"""The backends that are files."""

TOKEN = "r-00000000"

BOOKING = "b-00000000"

TEN_MINUTES = timedelta(minutes=10)

POLICY = """
[defaults]
ttl = "1h"

[checks.ping]
command = ["true"]

[cleanup.wipe]
command = ["true"]
"""

MANIFEST = """
apiVersion: metal3.io/v1alpha1
kind: BareMetalHost
metadata: {name: node8, namespace: lab, labels: {rack: r8}}
spec: {bootMACAddress: 52:54:00:00:00:08, consumerRef: {kind: Machine, name: m-8, namespace: ci}}
---
apiVersion: metal3.io/v1alpha1
kind: BareMetalHost
metadata: {name: node9, namespace: lab}
spec: {bootMACAddress: 52:54:00:00:00:09}
"""


@dataclass(frozen=True)
class Scenario:
    """A command line and its preparation; ``between`` is the state between its two commits, if it has two."""

    line: tuple[str, ...]
    before: Callable[[Lab], object] = lambda lab: None
    between: tuple[str, ...] | None = None
    backends: tuple[str, ...] = tuple(FILES)


def of(lab: Lab) -> Inventory:
    return Inventory(lab.context("alice"))


def hold(count: int) -> Callable[[Lab], object]:
    """Reserves the first hosts under a fixed id, which the command lines use."""
    asked = replace(reservation_request(count=count), token=TOKEN)
    return lambda lab: reserve.reserve_or_wait(lab.context("alice"), asked)


def hold_too_long(lab: Lab) -> None:
    lab.clock.move(days=-1)
    hold(2)(lab)
    lab.clock.move(days=1)


def use(lab: Lab) -> None:
    hold(1)(lab)
    of(lab).release(TOKEN)


def book(count: int, begins: timedelta = timedelta(hours=2)) -> Callable[[Lab], object]:
    """Books the first hosts for three hours under a fixed id; a negative ``begins`` is in the past.

    A booking whose beginning is in the past was made a day ago.
    """

    def make(lab: Lab) -> None:
        lab.clock.move(days=-1)
        starts = lab.clock.now + timedelta(days=1) + begins
        asked = reservation_request(count=count)
        with mock.patch.object(stored_bookings, "random_id", lambda prefix: f"{prefix}00000000"):
            bookings.book(lab.context("alice"), asked, starts, starts + timedelta(hours=3))
        lab.clock.move(days=1)

    return make


def break_a_booked_host(lab: Lab) -> None:
    """Leaves a booked host in maintenance, like a command that is killed directly after its commit."""
    book(2)(lab)
    with mock.patch.object(Store, "make_due", lambda store, ids, now: store.bookings.hasten(ids, now)):
        of(lab).maintain("node1", reason="disk")


def block_a_booked_host(lab: Lab) -> None:
    """Books two hosts; another owner has booked one of them five hours later."""
    book(2)(lab)
    starts = lab.clock.now + timedelta(hours=7)
    bookings.book(lab.context("bob"), reservation_request(("node1",)), starts, starts + timedelta(hours=3))


def plan_power_work(lab: Lab) -> None:
    """Plans a maintenance that has begun ten minutes ago, and that no command has noticed yet."""
    lab.clock.move(days=-1)
    starts = lab.clock.now + timedelta(days=1, minutes=-10)
    plan_maintenance(
        lab.context("bob"), Choice(("node1", "node2")), starts, starts + timedelta(hours=3), reason="power"
    )
    lab.clock.move(days=1)


def edit_by_hand(lab: Lab) -> None:
    text = lab.path.read_text(encoding="utf-8")
    lab.path.write_text(text.replace("[hosts.node4]", "[hosts.node6]").replace("00:04", "00:06"), encoding="utf-8")


SCENARIOS = {
    "reserve": Scenario(("reserve", "-n", "2")),
    "release": Scenario(("release", "node1", "node2"), hold(2)),
    "taint": Scenario(("taint", "node1", "--fault", "fan"), hold(2)),
    "extend": Scenario(("extend", "-R", TOKEN, "--ttl", "2h"), hold(2)),
    "handover": Scenario(("handover", TOKEN, "--to", "bob"), hold(2)),
    "replace": Scenario(("replace", "node1", "-R", TOKEN, "--reason", "fan"), hold(2)),
    "reset": Scenario(("reset", "node1"), use),
    "ready": Scenario(("ready", "node4")),
    "maintain": Scenario(("maintain", "node[1-3]", "--reason", "disk")),
    "resume": Scenario(("resume", "node1"), lambda lab: of(lab).maintain("node1", reason="disk")),
    "add": Scenario(("add", "node5", "--mac", "52:54:00:00:00:05", "--label", "arch=arm64")),
    "set": Scenario(("set", "node[1-2]", "--label", "rack=r9", "--note", "moved")),
    "rename": Scenario(("rename", "node1", "spare"), hold(1)),
    "remove": Scenario(("remove", "node2", "--force", "--reason", "scrapped"), hold(2)),
    "import": Scenario(("import", "metal.yaml")),
    "policy apply": Scenario(("policy", "apply", "policy.toml"), backends=("sqlite",)),
    "reap": Scenario(("reap",), hold_too_long),
    "reap and reserve": Scenario(("reserve", "node3"), hold_too_long, between=("reap",)),
    "book": Scenario(("reserve", "-n", "2", "--from", "2h", "--ttl", "3h")),
    "book weekly": Scenario(("reserve", "node1", "--from", "2h", "--ttl", "3h", "--weekly", "3")),
    "take a booking": Scenario(("reserve", "--booking", BOOKING), book(2, -TEN_MINUTES)),
    "take a booking by asking": Scenario(("reserve", "-n", "2"), book(2, -TEN_MINUTES)),
    "cancel a booking": Scenario(("bookings", "cancel", BOOKING), book(2)),
    "move a booking": Scenario(("bookings", "move", BOOKING, "--from", "3h"), book(2)),
    "move a booking to another host": Scenario(("bookings", "move", BOOKING, "--from", "6h"), block_a_booked_host),
    "exchange a booked host": Scenario(("reap",), break_a_booked_host),
    "let a booking lapse": Scenario(("reap",), book(2, timedelta(hours=-1))),
    "plan a maintenance": Scenario(
        ("maintain", "node[1-2]", "--from", "2h", "--until", "+3h", "--reason", "power", "--resume")
    ),
    "begin a planned maintenance": Scenario(("reap",), plan_power_work),
    "sync an edit": Scenario(("list",), edit_by_hand, backends=("toml",)),
}

CASES = [(name, backend) for name, scenario in SCENARIOS.items() for backend in scenario.backends]


@cache
def start_of(name: str, backend: str) -> Folder:
    """The files from which a scenario starts."""
    with tempfile.TemporaryDirectory() as folder:
        write_folder(_base(backend), Path(folder))
        lab = Lab(Path(folder) / FILES[backend])
        lab.clock.now = datetime.now(UTC)
        SCENARIOS[name].before(lab)
        lab.close()
        return read_folder(lab.path.parent)


@cache
def _base(backend: str) -> Folder:
    """Three hosts that are available and one that is not, with a check and a cleanup."""
    with tempfile.TemporaryDirectory() as folder:
        lab = Lab(Path(folder) / FILES[backend])
        lab.clock.now = datetime.now(UTC)
        inventories.init(str(lab.path))
        lab.policy(POLICY)
        for number in range(1, 5):
            of(lab).add(f"node{number}", mac=f"52:54:00:00:00:0{number}", labels={"rack": "r1"})
        of(lab).ready("node1", "node2", "node3")
        hosts = of(lab).hosts()
        lab.close()
        assert [host.state for host in hosts] == ["available"] * 3 + ["initial"]
        (lab.path.parent / "metal.yaml").write_text(MANIFEST, encoding="utf-8")
        (lab.path.parent / "policy.toml").write_text('[defaults]\nttl = "9h"\n', encoding="utf-8")
        return read_folder(lab.path.parent)
