"""The Python API: an inventory as an object, on every backend."""

from __future__ import annotations

import doctest
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta, timezone
from functools import partial
from inspect import signature
from pathlib import Path
from typing import cast

import pytest

import bmhctl
from bmhctl import BmhctlError, ExitStatus, Inventory, State, api, open_inventory
from bmhctl.domain.model import Power
from bmhctl.errors import NotFoundError, UsageError
from tests.conftest import BACKENDS, SUFFIX, Lab
from tests.probes.fake_bmc import FakeSystem, fake_bmc


@pytest.fixture(params=BACKENDS)
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The location of a new inventory, once for each backend."""
    lab = Lab(tmp_path / SUFFIX[request.param])
    yield lab.location
    lab.remove()


def test_the_example_in_the_docstring_runs() -> None:
    assert doctest.testmod(api) == doctest.TestResults(failed=0, attempted=5)


def test_a_host_goes_through_its_whole_life(path: str) -> None:
    with open_inventory(path, actor="alice", create=True) as lab:
        lab.add("node1", address="10.0.0.1", labels={"arch": "arm64"})
        lab.ready("node1")
        held = lab.reserve(selector="arch=arm64", purpose="demo", ttl="20m")
        assert (held.reservation.ttl, [host.name for host in held.hosts]) == (timedelta(minutes=20), ["node1"])
        assert lab.extend(held.reservation.id, "2h").reservation.expires_at != held.reservation.expires_at
        bobs = lab.handover(held.reservation.id, "bob")
        lab.taint("node1", reservation=bobs.reservation.id)
        lab.reset("node1")
        lab.maintain("node1", reason="fan")
        lab.cordon("node1", reason="audit")
        lab.resume("node1")
        lab.uncordon("node1")
        lab.set("node1", note="fan 3", labels={"arch": None, "rack": "r1"}, hardware={"memory": 64})
        lab.rename("node1", "node2")
        lab.recycle("node2")
        assert [(each.host, each.changed) for each in lab.check("node2").items] == [("node2", False)]
        spec = lab.host("node2").spec
        assert (spec.address, spec.note, spec.labels, spec.hardware) == (
            "10.0.0.1",
            "fan 3",
            {"rack": "r1"},
            {"memory": 64},
        )
        lab.remove("node2")
        verbs = [str(event.verb) for event in lab.history("node2")]

    assert verbs == [
        *("enter", "ready", "reserve", "extend", "handover", "taint", "reset"),
        *("maintain", "cordon", "resume", "uncordon", "set", "rename", "ready", "remove"),
    ]


def test_methods_for_bmcs_switch_the_power_choose_the_boot_and_read_the_hardware(tmp_path: Path) -> None:
    boot = {"BootSourceOverrideEnabled": "Disabled", "BootSourceOverrideTarget": "None"}
    system = FakeSystem(power="Off", extra={"Boot": boot, "Model": "R650"})
    with fake_bmc(systems=[system]) as bmc, open_inventory(tmp_path / "lab.db", create=True) as lab:
        lab.add("node1", bmc=f"redfish+{bmc.url}")
        done = [
            lab.power("node1", to="status"),
            lab.power("node1", to=Power.ON, timeout=timedelta(seconds=10)),
            lab.boot_once("node1", target="pxe"),
            lab.inspect("node1"),
        ]
        messages = [(each.verb, each.items[0].message) for each in done]
        assert [*messages[:3], (messages[3][0], messages[3][1].partition(" ")[0])] == [
            ("power status", "power off"),
            ("power on", "power on"),
            ("boot-once pxe", "boots once from pxe"),
            ("inspect", "changed:"),
        ]
        assert lab.host("node1").spec.hardware["model"] == "R650"
        for failing in (partial(lab.power, to="sleep"), partial(lab.boot_once, target="floppy")):
            with pytest.raises(UsageError, match="is not a command for a BMC"):
                failing("node1")
        with pytest.raises(UsageError, match="timeout is zero"):
            lab.inspect("node1", timeout="0s")


def test_a_failure_is_the_error_that_the_command_reports(path: str) -> None:
    with open_inventory(path, actor="alice", create=True) as lab:
        lab.add("node1", "node2")
        lab.ready("node1")
        with pytest.raises(BmhctlError) as refused:
            lab.reset("node1", "nope", "node2")
        assert refused.value.status is ExitStatus.MIXED
        with pytest.raises(BmhctlError) as missing:
            lab.host("nope")
        assert missing.value.status is ExitStatus.NOT_FOUND


WRONG: dict[str, tuple[Callable[[Inventory], object], str]] = {
    "a text as a number": (lambda lab: lab.reserve(count="two"), "count must be a whole number or None, but is 'two'"),  # type: ignore[arg-type]
    "a negative number": (lambda lab: lab.history(last=-1), "last must be from 0 to 9223372036854775807, not -1"),
    "a huge number": (
        lambda lab: lab.queue_history(2**63),
        "last must be from 0 to 9223372036854775807, not 9223372036854775808",
    ),
    "a text as a list": (lambda lab: lab.reserve(wants="gpu*2"), "wants must be a list of texts, but is 'gpu*2'"),
    "a list as a name": (lambda lab: lab.hosts(["node1"]), "names must be a list of texts, but has ['node1']"),  # type: ignore[arg-type]
    "an unknown state": (lambda lab: lab.hosts(states=["busy"]), "states must be a list of states, but has 'busy'"),  # type: ignore[list-item]
    "no reason": (lambda lab: lab.maintain("node1", reason=None), "reason must be a text, but is None"),  # type: ignore[arg-type]
    "seconds as a duration": (
        lambda lab: lab.reserve("node1", ttl=60),
        "ttl must be a timedelta or a text or None, but is 60",
    ),  # type: ignore[arg-type]
    "a negative duration": (
        lambda lab: lab.reserve("node1", ttl=-timedelta(1)),
        "ttl must be from 0:00:00 to 36500 days, 0:00:00, not -1 day, 0:00:00",
    ),
    "a number as a label": (
        lambda lab: lab.set("node1", labels={"rack": 1}),
        "labels must be a mapping of texts or None, but is {'rack': 1}",
    ),  # type: ignore[dict-item]
    "a fraction as a property": (
        lambda lab: lab.set("node1", hardware={"load": 0.5}),
        "hardware must be a mapping of texts or whole numbers or None, but is {'load': 0.5}",
    ),  # type: ignore[dict-item]
    "a NUL": (
        lambda lab: lab.maintain("node1", reason="fan\0"),
        "reason has a character that can't be stored: U+0000",
    ),
    "half a character": (
        lambda lab: lab.add("node2", note="\ud800"),
        "note has a character that can't be stored: U+D800",
    ),
    "a time too far away": (
        lambda lab: lab.maintain("node1", reason="fan", until=datetime.max),
        "9999-12-31T23:59 is too far away",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_an_argument_of_a_wrong_type_or_value_is_refused_with_the_name_of_the_parameter(
    name: str, tmp_path: Path
) -> None:
    call, said = WRONG[name]
    with open_inventory(tmp_path / "lab.db", create=True) as lab:
        lab.add("node1")
        with pytest.raises(UsageError) as refused:
            call(lab)
    assert refused.value.message == said


class Span(timedelta):
    """A duration as other libraries have it."""


class Number(int):
    """A number as other libraries have it."""


@pytest.mark.parametrize(
    "call", [lambda lab: lab.reserve("node1", ttl=Span(-1)), lambda lab: lab.history(last=Number(2**63))]
)
def test_a_value_of_a_subclass_has_the_same_bounds(call: Callable[[Inventory], object], tmp_path: Path) -> None:
    with open_inventory(tmp_path / "lab.db", create=True) as lab:
        lab.add("node1")
        with pytest.raises(UsageError, match="must be from 0"):
            call(lab)


def test_a_call_without_an_argument_is_a_type_error_that_names_the_method(tmp_path: Path) -> None:
    with open_inventory(tmp_path / "lab.db", create=True) as lab, pytest.raises(TypeError, match=r"rename\(\)"):
        lab.rename("node1")  # type: ignore[call-arg]


class Folder:
    """A path that is no :class:`pathlib.Path`, like that of pytest's ``tmpdir``."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __fspath__(self) -> str:
        return str(self._path)


def test_a_location_may_be_any_path(tmp_path: Path) -> None:
    with open_inventory(Folder(tmp_path / "lab.db"), create=True) as lab:
        assert lab.hosts() == []
    assert (tmp_path / "lab.db").exists()


def test_the_methods_of_a_subclass_take_arguments_of_any_type(tmp_path: Path) -> None:
    class Own(Inventory):
        def twice(self, number: float, unit: Unknown = None) -> float:  # type: ignore[name-defined]  # noqa: F821
            return 2 * number

    with open_inventory(tmp_path / "lab.db", create=True) as lab:
        own = Own(lab._context)
        assert own.twice(-1) == -2
        with pytest.raises(UsageError):
            own.host(5)  # type: ignore[arg-type]


REQUIRED = {
    "name": "node1",
    "old": "node1",
    "new": "node2",
    "reason": "fan",
    "to": "status",
    "target": "pxe",
    "begins": "+1h",
}
VALUES: tuple[object, ...] = (
    *(None, -1, 0, 2**70, True, 2.5, "", "\0", "x" * 300, b"x", object(), (), [""], [None], {}, {"": ""}, {1: 2}),
    *(timedelta(-1), timedelta.max, datetime.min, datetime.max, ["node1"], {"rack": None}, {"rack": [1]}),
)


@pytest.mark.parametrize("name", [name for name in dir(Inventory) if not name.startswith("_") and name != "close"])
def test_no_argument_leads_to_an_error_that_is_not_one_of_bmhctl(name: str, tmp_path: Path) -> None:
    parameters = [*signature(getattr(Inventory, name)).parameters.values()][1:]
    required = {each.name: REQUIRED.get(each.name, "x") for each in parameters if each.default is each.empty}
    names = ["node1"] if required.pop("names", None) else []
    with open_inventory(tmp_path / "lab.db", create=True) as lab:
        lab.add("node1")
        for parameter in parameters:
            for value in VALUES:
                if name.startswith("reserve") and parameter.name == "wait" and value is True:
                    continue  # waits without limit
                own = {} if parameter.name == "names" else {parameter.name: value}
                with suppress(BmhctlError):
                    getattr(lab, name)(*(names if own else [value]), **{**required, **own})


def test_hosts_are_given_back_however_the_block_ends(path: str) -> None:
    with open_inventory(path, actor="alice", create=True) as lab:
        lab.add("node1")
        lab.ready("node1")

        def work() -> None:
            with lab.reserved("node1") as held:
                assert [host.state for host in held.hosts] == [State.RESERVED]
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            work()
        assert lab.host("node1").state is State.TAINTED
        assert lab.history("node1", last=1)[0].reason == "task failed: ZeroDivisionError"
        assert lab.reservations() == ()


def test_the_same_request_id_gives_the_same_reservation(path: str) -> None:
    with open_inventory(path, actor="alice", create=True) as lab:
        lab.add("node1", "node2")
        lab.ready("node*")
        first = lab.reserve(count=1, request_id="job-1")
        assert lab.reserve(count=1, request_id="job-1").reservation == first.reservation
        assert lab.reserve(count=1, request_id="job-2").reservation != first.reservation


def test_a_wait_ends_at_its_timeout(path: str) -> None:
    with open_inventory(path, actor="alice", create=True) as lab:
        lab.add("node1")
        with pytest.raises(BmhctlError) as refused:
            lab.reserve("node1", wait=timedelta(milliseconds=50))
        assert refused.value.status is ExitStatus.TIMED_OUT


def test_a_wait_of_zero_times_out_at_once(path: str) -> None:
    with open_inventory(path, actor="alice", create=True) as lab:
        lab.add("node1")
        with pytest.raises(BmhctlError) as refused:
            lab.reserve("node1", wait=timedelta(0))
        assert refused.value.status is ExitStatus.TIMED_OUT


def test_an_operator_can_move_the_ticket_of_a_waiting_program(path: str) -> None:
    def wait(owner: str) -> str:
        with open_inventory(path, actor=owner) as lab:
            held = lab.reserve(selector="", count=1, wait="30s")
            lab.release(held.reservation.id)
            lab.reset("node1")
            lab.ready("node1")
            return owner

    with open_inventory(path, actor="ops", create=True) as lab, ThreadPoolExecutor() as pool:
        lab.add("node1")
        waits = []
        for owner in ("bob", "carol"):
            waits.append(pool.submit(wait, owner))
            ends = time.monotonic() + 20
            while [each.ticket.owner for each in lab.queue()][-1:] != [owner]:
                assert time.monotonic() < ends
                time.sleep(0.02)
        status = lab.status()
        assert (status.free, status.waiting, status.counts[State.INITIAL]) == (0, 2, 1)
        with pytest.raises(NotFoundError):
            lab.move_ticket(4711, reason="urgent")
        with pytest.raises(UsageError):
            lab.move_ticket(lab.queue()[1].ticket.id, reason=" ")
        lab.move_ticket(lab.queue()[1].ticket.id, reason="urgent")
        assert [each.ticket.owner for each in lab.queue()] == ["carol", "bob"]
        lab.ready("node1")
        assert [each.result() for each in waits] == ["bob", "carol"]
        assert [event.actor for event in lab.history("node1") if event.verb == "reserve"] == ["carol", "bob"]


def test_importing_the_package_loads_nothing_before_its_names_are_used() -> None:
    code = "import bmhctl, sys; print(sorted(m for m in sys.modules if m.startswith('bmhctl')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout == "['bmhctl']\n"
    assert all(getattr(bmhctl, name) is not None for name in bmhctl.__all__)
    with pytest.raises(AttributeError):
        _ = bmhctl.nothing  # type: ignore[attr-defined]  # that is the point


@pytest.mark.slow
def test_a_lease_is_renewed_while_its_block_runs(path: str) -> None:
    with open_inventory(path, actor="alice", create=True) as lab:
        lab.add("node1")
        lab.ready("node1")
        with lab.reserved("node1", ttl="2s", renew=True) as held:
            time.sleep(3)
            [now] = lab.reservations()
            assert (now.reservation.id, [host.name for host in now.hosts]) == (held.reservation.id, ["node1"])
            assert now.reservation.renewed_at is not None
        assert lab.reservations() == ()


def test_a_dry_run_returns_the_planned_outcome_of_each_host_and_changes_nothing(path: str) -> None:
    with open_inventory(path, actor="alice", create=True) as lab:
        lab.add("node[1-3]")
        lab.ready("node[1-2]")
        lab.maintain("node2", reason="fan")
        held = lab.reserve("node1").reservation.id
        before = (lab.hosts(), lab.history())
        plans = {
            "[*] → initial": lab.add("node4", dry_run=True),
            "initial → [*]": lab.remove("node3", dry_run=True),
            "initial → available": lab.ready("node3", dry_run=True),
            "reserved → tainted": lab.release(held, dry_run=True),
            "maintenance → available": lab.resume("node2", dry_run=True),
            "reserved → maintenance": lab.maintain("node1", reason="fan", dry_run=True),
        }
        shown = {
            words: [f"{each.source or '[*]'} → {each.state or '[*]'}" for each in plan.items]
            for words, plan in plans.items()
        }
        assert shown == {words: [words] for words in plans}
        assert lab.cordon("node3", dry_run=True).items[0].changed
        assert lab.taint("node1", dry_run=True).items[0].changed
        with pytest.raises(BmhctlError, match="because of what happened since"):
            lab.undo(dry_run=True)
        with pytest.raises(BmhctlError, match="is held by alice"):
            lab.remove("node1", dry_run=True)
        with pytest.raises(BmhctlError):
            lab.plan_reserve("node2")
        assert lab.reap(dry_run=True) == ()
        assert (lab.hosts(), lab.history()) == before
        lab.resume("node2")
        assert [each.host for each in lab.plan_reserve(count=1).items] == ["node2"]


def test_a_program_that_opens_an_inventory_again_and_again_keeps_no_files_open(tmp_path: Path) -> None:
    path = tmp_path / "lab.db"

    def open_twice() -> int:
        with open_inventory(path, create=True) as lab, open_inventory(path) as same:
            assert lab.hosts() == same.hosts()
        return len(os.listdir("/proc/self/fd"))

    open_twice()
    assert open_twice() == open_twice()


IN_A_FORK = """
import os, sys
from bmhctl import open_inventory
from bmhctl.errors import UsageError

def in_a_fork(act):
    child = os.fork()
    if not child:
        try:
            act()
            print("did it")
        except UsageError as error:
            print(error.message.partition(" (")[0])
        sys.exit()
    os.waitpid(child, 0)

with open_inventory(sys.argv[1], actor="alice", create=True) as lab:
    lab.add("node[1-3]")
    lab.ready("*")
    sys.stdout.reconfigure(line_buffering=True)
    in_a_fork(lab.hosts)
    in_a_fork(lambda: lab.reserve("node2"))
    in_a_fork(lab.close)
    with lab.reserved("node1", renew=True) as held:
        for _ in range(3):
            in_a_fork(lab.reservations)
        child = os.fork()
        if not child:
            raise SystemExit
        os.waitpid(child, 0)
        print([host.state.value for host in lab.hosts()])
    print(lab.host("node1").state)
"""


def test_a_fork_of_the_process_is_refused_and_disturbs_neither_the_connection_nor_the_lease(path: str) -> None:
    done = subprocess.run([sys.executable, "-c", IN_A_FORK, path], capture_output=True, text=True, check=True)
    refused = "this inventory object was opened in another process"
    lines = [refused, refused, "did it", *[refused] * 3, "['reserved', 'available', 'available']", "tainted"]
    assert done.stdout.splitlines() == lines


def test_another_thread_is_refused_on_every_backend(path: str) -> None:
    with open_inventory(path, create=True) as lab, ThreadPoolExecutor() as pool:
        for method in (lab.hosts, partial(lab.reserve, count=1), lab.close):
            with pytest.raises(UsageError, match="was opened in another thread"):
                pool.submit(method).result()  # type: ignore[arg-type]  # methods with different results
        assert not lab.hosts()


def test_a_closed_inventory_says_so(path: str) -> None:
    lab = open_inventory(path, create=True)
    lab.close()
    lab.close()
    for method in (lab.hosts, partial(lab.add, "node1")):
        with pytest.raises(UsageError, match="is closed"):
            method()


@pytest.mark.parametrize("at", [datetime(2026, 12, 1), "now", None])
def test_a_clock_without_a_zone_is_refused_before_anything_is_made(at: object, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"clock returned .* not a datetime with a zone"):
        open_inventory(tmp_path / "lab.db", clock=lambda: cast("datetime", at), create=True)
    assert [*tmp_path.iterdir()] == []


def test_a_clock_may_lose_its_zone_later_and_may_be_of_any_zone(path: str) -> None:
    times: list[datetime] = []
    with open_inventory(path, actor="alice", clock=lambda: times[-1] if times else TOKYO, create=True) as lab:
        lab.add("node1")
        lab.ready("node1")
        held = lab.reserve("node1", ttl="2h")
        assert held.reservation.expires_at == datetime(2099, 12, 1, 2, tzinfo=UTC)
        times.append(datetime(2099, 12, 1, 10))
        with pytest.raises(UsageError, match="clock returned"):
            lab.extend(held.reservation.id, "3h")


TOKYO = datetime(2099, 12, 1, 9, tzinfo=timezone(timedelta(hours=9)))
