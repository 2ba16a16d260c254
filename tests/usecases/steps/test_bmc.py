"""Power, inspection and whole lifecycles through Redfish, with the emulator of sushy-tools and without mocks."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import bcrypt
import pytest

from bmhctl.domain.model import BootTarget, EventKind, Power, State
from bmhctl.domain.requirements import reservation_request
from bmhctl.domain.selector import parse_selector
from bmhctl.errors import ExitStatus, NotYoursError, UsageError
from bmhctl.formats.import_files import read_paths
from bmhctl.results import Outcomes
from bmhctl.stores.host_query import HostQuery
from bmhctl.support.values import replace
from bmhctl.usecases import hosts, lifecycle_verbs
from bmhctl.usecases.reservations import reserve
from bmhctl.usecases.shared.context import Context
from bmhctl.usecases.shared.host_selection import Choice
from bmhctl.usecases.steps import bmc, step_verbs
from bmhctl.usecases.undo import undo
from tests.conftest import Lab, environment
from tests.probes.servers import saying, serving, silence

pytestmark = pytest.mark.slow

PASSWORD = "s3cret"
LOGIN = {"BMC_FOO": f"admin:{PASSWORD}", "LAB_BMC": f"admin:{PASSWORD}"}

MANIFEST = """\
apiVersion: metal.afritzler.github.io/v1alpha1
kind: BareMetalHost
metadata:
  name: compute-{number}
spec:
  systemId: "System-{number}"
  power: "Off"
  bootMACAddress: "52:54:00:00:00:0{number}"
  bmc:
    address: {url}
    type: RedfishLocal
    secretRef:
      name: foo
"""
METAL3 = """\
apiVersion: metal3.io/v1alpha1
kind: BareMetalHost
metadata:
  name: compute-{number}
spec:
  online: true
  bootMACAddress: "52:54:00:00:00:0{number}"
  bmc:
    address: redfish-virtualmedia+{url}/redfish/v1/Systems/System-{number}
    credentialsName: foo
"""
POLICY = """
[checks.bmc]
redfish = { health = "OK", power = "on" }
timeout = "20s"
[cleanup.restart]
redfish = { reset = "ForceRestart", power = "on" }
timeout = "30s"
"""

EMULATOR = """
import random, sys
from sushy_tools.emulator.main import main

random.randint = lambda *between: 2  # seconds that a switch takes, or one less: not up to 11
sys.exit(main())
"""


@dataclass(frozen=True)
class Emulator:
    """The address of the emulator. It has seven systems; those with odd numbers are on."""

    url: str


@pytest.fixture(scope="session")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    folder = tmp_path_factory.mktemp("emulator")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    hashed = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4, b"2a")).decode()
    (folder / "auth").write_text(f"admin:{hashed.replace('$2a$', '$2y$')}\n")
    systems = [
        {"uuid": f"System-{n}", "name": f"compute-{n}", "power_state": "On" if n % 2 else "Off", "nics": []}
        for n in range(1, 8)
    ]
    (folder / "emulator.conf").write_text(
        f"SUSHY_EMULATOR_LISTEN_IP = '127.0.0.1'\nSUSHY_EMULATOR_LISTEN_PORT = {port}\n"
        f"SUSHY_EMULATOR_AUTH_FILE = {str(folder / 'auth')!r}\nSUSHY_EMULATOR_STATE_DIR = {str(folder)!r}\n"
        f"SUSHY_EMULATOR_FAKE_DRIVER = True\nSUSHY_EMULATOR_FAKE_SYSTEMS = {systems!r}\n"
    )
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", EMULATOR, "--config", folder / "emulator.conf"],
            cwd=folder,
            stdout=log,
            stderr=log,
            env={**os.environ, "TMPDIR": str(folder)},  # it leaves the folders of images there
        )
        try:
            url = f"http://127.0.0.1:{port}"
            deadline = time.monotonic() + 30
            while True:
                try:
                    with urllib.request.urlopen(f"{url}/redfish/v1/", timeout=5):
                        break
                except OSError:
                    assert process.poll() is None, (folder / "log").read_text()
                    assert time.monotonic() < deadline, "the emulator does not answer"
                    time.sleep(0.05)
            yield Emulator(url)
        finally:
            process.terminate()
            process.wait(10)


def context(lab: Lab, actor: str = "alice", **env: str) -> Context:
    ctx = lab.context(actor)
    return Context(ctx.store, actor, ctx.clock, {"PATH": os.environ["PATH"], **LOGIN, **env}, ctx.report)


@pytest.fixture
def fleet(lab: Lab, emulator: Emulator, tmp_path: Path) -> Lab:
    """Seven hosts from manifests of both dialects."""
    for number in range(1, 8):
        text = (MANIFEST if number < 5 else METAL3).format(number=number, url=emulator.url)
        (tmp_path / f"compute-{number}.yaml").write_text(text)
    files = [str(path) for path in sorted(tmp_path.glob("compute-*.yaml"))]
    batch = read_paths(files, sys.stdin.buffer, lab.clock())
    assert len(hosts.import_hosts(context(lab), batch).items) == 7
    hosts.set_attributes(context(lab), Choice(("compute-[1-7]",)), hosts.AttributeChanges(credentials="env:LAB_BMC"))
    return lab


def said(outcomes: Outcomes) -> dict[str, str]:
    return {item.host: item.message for item in outcomes.items}


def power(lab: Lab, names: str, action: Power, **more: object) -> dict[str, str]:
    return said(bmc.power(context(lab), Choice((names,)), action, **more))  # type: ignore[arg-type]


@pytest.mark.slow(seconds=12)
@pytest.mark.parametrize("lab", ["toml"], indirect=True)
def test_a_host_is_set_up_checked_and_cleaned_through_redfish(fleet: Lab) -> None:
    fleet.policy(POLICY)
    seven = [f"compute-{n}" for n in range(1, 8)]
    before = power(fleet, "compute-*", Power.STATUS)
    assert before == {name: f"power {'on' if int(name[-1]) % 2 else 'off'}" for name in seven}
    started = time.monotonic()
    assert power(fleet, "compute-*", Power.ON) == dict.fromkeys(seven, "power on")
    print(f"seven at once on: {time.monotonic() - started:.1f} s")
    assert power(fleet, "compute-[2-7]", Power.STATUS) == dict.fromkeys(seven[1:], "power on")

    first = bmc.inspect(context(fleet), Choice(("compute-1",)), dry_run=True)
    assert said(first) == {"compute-1": "changed: hardware.vendor (none) → Sushy Emulator, hardware.health (none) → OK"}
    found = bmc.inspect(context(fleet), Choice(("compute-*",)))
    assert [item.changed for item in found.items] == [True] * 7
    again = bmc.inspect(context(fleet), Choice(("compute-*",)))
    assert said(again) == dict.fromkeys(seven, "unchanged")
    healthy = HostQuery(selector=parse_selector("health=OK"))
    assert [host.name for host in context(fleet).store.hosts.find(healthy)] == seven

    assert said(step_verbs.ready(context(fleet), Choice(("compute-*",)))) == dict.fromkeys(
        seven, "readiness check passed: bmc"
    )
    asked = reservation_request(count=2, selector=parse_selector("health=OK"))
    held = reserve.reserve_or_wait(context(fleet), asked).held
    names = [host.name for host in held.hosts]
    assert names == seven[:2]
    lifecycle_verbs.taint(context(fleet), Choice(tuple(names)))
    started = time.monotonic()
    outcomes = step_verbs.recycle(context(fleet), Choice())
    print(f"two recycled: {time.monotonic() - started:.1f} s")
    assert said(outcomes) == dict.fromkeys(names, "cleanup step passed: restart; readiness check passed: bmc")
    assert {host.state for host in context(fleet).store.hosts.find(HostQuery())} == {State.AVAILABLE}
    host = context(fleet).store.hosts.named("compute-1")
    assert host is not None
    assert {(r.step, r.verdict.value, r.detail) for r in context(fleet).store.step_results.of(host)} == {
        ("restart", "pass", "reset ForceRestart, power on"),
        ("bmc", "pass", "health OK, power on"),
    }


@pytest.mark.parametrize("lab", ["sqlite"], indirect=True)
def test_switching_the_power_waits_for_the_new_state_or_the_timeout(fleet: Lab) -> None:
    # Like real BMCs, the emulator takes more than a second for each change.
    assert power(fleet, "compute-4", Power.ON, timeout=timedelta(seconds=30)) == {"compute-4": "power on"}
    assert power(fleet, "compute-4", Power.STATUS) == {"compute-4": "power on"}
    started = time.monotonic()
    outcomes = bmc.power(context(fleet), Choice(("compute-4",)), Power.OFF, timeout=timedelta(seconds=0.3))
    assert time.monotonic() - started < 3
    (item,) = outcomes.items
    assert item.error is not None
    assert item.error.status is ExitStatus.STEP_FAILED
    assert "after 0.3 s" in item.message or "in 0.3 s" in item.message
    assert power(fleet, "compute-4", Power.OFF, timeout=timedelta(seconds=30)) == {"compute-4": "power off"}


@pytest.mark.parametrize("lab", ["sqlite"], indirect=True)
def test_light_shutdown_and_next_boot_are_reported_as_the_bmc_shows_them(fleet: Lab) -> None:
    time_limit = timedelta(seconds=30)
    assert power(fleet, "compute-5", Power.ON, timeout=time_limit) == {"compute-5": "power on"}
    assert power(fleet, "compute-5", Power.IDENTIFY) == {"compute-5": "indicator light on"}
    assert power(fleet, "compute-5", Power.IDENTIFY_OFF) == {"compute-5": "indicator light off"}
    assert power(fleet, "compute-5", Power.SOFT_OFF, timeout=time_limit) == {"compute-5": "power off"}
    assert power(fleet, "compute-5", Power.CYCLE, timeout=time_limit) == {"compute-5": "power on"}
    chosen = Choice(("compute-5",))
    (item,) = bmc.boot_once(context(fleet), chosen, BootTarget.PXE, timeout=timedelta(seconds=3)).items
    assert item.message.endswith("accepted booting once from pxe, but shows Continuous, Pxe after 3 s")


def test_power_on_a_host_of_another_owner_needs_force_and_is_recorded(fleet: Lab) -> None:
    step_verbs.ready(context(fleet), Choice(("compute-1",)))
    reservation = reserve.reserve_or_wait(context(fleet), reservation_request(("compute-1",))).held.reservation
    choice = Choice(("compute-1",))
    (item,) = bmc.power(context(fleet, "bob"), choice, Power.ON).items
    assert isinstance(item.error, NotYoursError)
    with pytest.raises(UsageError):
        bmc.power(context(fleet, "bob"), choice, Power.ON, force=True)
    for who, more in (
        ("alice", {}),
        ("bob", {"reservation": reservation.id}),
        ("bob", {"force": True, "reason": "fire"}),
    ):
        done = bmc.power(context(fleet, who), choice, Power.ON, **more)  # type: ignore[arg-type]
        assert said(done) == {"compute-1": "power on"}
    assert said(bmc.power(context(fleet, "bob"), choice, Power.STATUS)) == {"compute-1": "power on"}
    host = context(fleet).store.hosts.named("compute-1")
    assert host is not None
    last = list(context(fleet).store.events.read(host))[-1]
    assert (last.verb, last.actor, last.reason) == (EventKind.SET, "bob", "forced power on: fire")


def test_a_bmc_that_fails_does_not_stop_the_requests_to_others(fleet: Lab, emulator: Emulator) -> None:
    def change(number: int, **facts: str) -> None:
        hosts.set_attributes(context(fleet), Choice((f"compute-{number}",)), hosts.AttributeChanges(**facts))  # type: ignore[arg-type]

    (fleet.path.parent / "login").write_text(f"admin:{PASSWORD}\n")
    with silence() as port:
        change(1, credentials=f"file:{fleet.path.parent}/login")
        change(2, credentials=f"command:cat {fleet.path.parent}/login")
        change(3, credentials="env:WRONG")
        change(4, bmc_system_id="nope")
        change(5, bmc=f"http://127.0.0.1:{port}", bmc_system_id="1", credentials="env:LAB_BMC")
        change(6, bmc=emulator.url, credentials="env:LAB_BMC")
        change(7, bmc="ipmi://127.0.0.1")
        ctx = context(fleet, WRONG="admin:wr0ng")
        started = time.monotonic()
        outcomes = bmc.power(ctx, Choice(("compute-*",)), Power.STATUS, timeout=timedelta(seconds=2))
        assert time.monotonic() - started < 6
    assert said(outcomes) == {
        "compute-1": "power on",
        "compute-2": "power " + said(outcomes)["compute-2"].split()[-1],
        "compute-3": f"its BMC at {emulator.url} rejects the credentials",
        "compute-4": f"its BMC at {emulator.url} has no system /redfish/v1/Systems/nope",
        "compute-5": f"its BMC at http://127.0.0.1:{port} did not answer in 2 s",
        "compute-6": f"its BMC at {emulator.url} has 7 systems, and the host declares none of them",
        "compute-7": "its BMC address ipmi://127.0.0.1 does not use Redfish",
    }
    assert outcomes.status is ExitStatus.STEP_FAILED
    words = " ".join(f"{item.message} {item.error and item.error.hint}" for item in outcomes.items)
    assert "ipmitool" in words
    assert not any(secret in words for secret in (PASSWORD, "wr0ng"))


def test_list_never_loads_the_redfish_client(fleet: Lab) -> None:
    code = (
        "import sys; from bmhctl.cli.main import run\n"
        "assert run(['list', '-o', 'name']) == 0\n"
        "assert not {'http.client', 'bmhctl.probes.redfish_client'} & {*sys.modules}, sorted(sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=fleet.path.parent,
        env=environment(BMHCTL_INVENTORY=fleet.location),
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr, len(done.stdout.split())) == (0, "", 7)


def test_an_interrupted_inspection_reports_what_it_recorded(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    hosts.add(lab.context(), ["node[1-3]"], hosts.AttributeChanges())

    def progress(_: str, position: str) -> None:
        if position == "3 of 3":
            raise KeyboardInterrupt

    monkeypatch.setattr(bmc, "ask", lambda *_: {"cpus": 8})
    with pytest.raises(KeyboardInterrupt):
        bmc.inspect(replace(lab.context(), progress=progress), Choice(everything=True), jobs=1)
    assert lab.said == [f"node{n}: changed: hardware.cpus (none) → 8" for n in (1, 2)]
    known = lab.context().store.hosts.find(HostQuery())
    assert [host.spec.hardware for host in known] == [{"cpus": 8}, {"cpus": 8}, {}]


def test_an_inspection_of_several_hosts_is_one_change_and_one_undo(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    hosts.add(lab.context(), ["node[1-3]"], hosts.AttributeChanges())

    def ask(*_: object) -> dict[str, int]:
        with lab.visit("bob") as ctx:
            hosts.remove(ctx, Choice(("node2",)))
        return {"cpus": 8}

    monkeypatch.setattr(bmc, "ask", ask)
    done = bmc.inspect(lab.context(), Choice(("node[1-3]",)), jobs=1)
    assert [(item.host, item.changed, item.error and item.error.message) for item in done.items] == [
        ("node1", True, None),
        ("node2", False, "was removed, or has another name now"),
        ("node3", True, None),
    ]
    assert [item.host for item in undo(lab.context()).items] == ["node1", "node3"]
    assert [host.spec.hardware for host in lab.context().store.hosts.find(HostQuery())] == [{}, {}]


def test_the_example_for_ipmi_is_a_shell_script() -> None:
    script = Path(__file__).parents[3] / "examples" / "lab" / "ipmi-power.sh"
    assert subprocess.run(["sh", "-n", script], capture_output=True, text=True).stderr == ""
    assert script.stat().st_mode & 0o111 == 0o111


@pytest.mark.parametrize("lab", ["sqlite"], indirect=True)
def test_a_host_is_installed_by_virtual_media_before_its_holder_gets_it(fleet: Lab) -> None:
    """This needs only an image server and the policy, no script. The emulator never shows a boot once."""
    with serving(saying("an image", 200, "application/octet-stream")) as port:
        image = f"http://127.0.0.1:{port}/{{param.image}}.iso"
        demand = f'insert = "{image}", power = "cycle"'
        fleet.policy(
            f'[prepare.install]\nredfish = {{ {demand} }}\nparams = {{ image = "[a-z]+" }}\ntimeout = "90s"\n'
            "[cleanup.media]\nredfish = { eject = true }\n"
        )
        step_verbs.ready(context(fleet), Choice(("compute-2",)))
        asked = reservation_request(("compute-2",), params={"image": "noble"})
        held = reserve.reserve_or_wait(context(fleet), asked).held
    assert held.reservation.params == {"image": "noble"}
    results = {result.step: result.detail for result in fleet.context().store.step_results.of(held.hosts[0])}
    inserted = image.replace("{param.image}", "noble")
    assert results["install"] == f"inserted {inserted}, power on"
    lifecycle_verbs.release(context(fleet), Choice(), reservation=held.reservation.id)
    assert step_verbs.reset(context(fleet), Choice(("compute-2",))).error is None
