"""Random Redfish services: any mix of missing, null, odd, slow, lost and wrong answers.

Whatever the services do, a command ends in time with one clear line, acts only on the declared system, and reports a
change as done only if the service showed it.
"""

from __future__ import annotations

import json
import socket
import time
from dataclasses import dataclass, field
from datetime import timedelta
from http.server import BaseHTTPRequestHandler
from threading import Lock
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bmhctl.domain.host_spec import parse_spec
from bmhctl.domain.model import Bmc, BootTarget, Power
from bmhctl.probes.credentials import BmcError
from bmhctl.probes.redfish_boot import boot_once, identify
from bmhctl.probes.redfish_client import Client
from bmhctl.probes.redfish_conversation import ask
from bmhctl.probes.redfish_hardware import hardware
from bmhctl.probes.redfish_power import PowerSwitch
from bmhctl.probes.redfish_system import System
from bmhctl.probes.step_environment import StepEnvironment
from tests.faults.figures import Figures
from tests.probes.fake_bmc import ALL, FakeBmc, FakeSystem, shorten_pauses
from tests.probes.servers import saying, serving

SECONDS = 0.8
BEYOND = 3.0  # seconds that the end of a session and a busy machine may add
ODD: list[Any] = [None, "", "Weird", 7, -1, 1e300, True, [], {}, ["x"], {"a": None}, "\x1b[31m", "x" * 5000, "€"]
MISHAPS = (
    *("404", "401", "403", "409", "412", "429", "500", "502", "503", "204"),
    *("cut", "act and cut", "act and 500", "act and 503", "slow", "hang", "null", "missing", "odd", "garbage"),
    *("another",) * 5,
)
ACTIONS = ("status", "on", "off", "cycle", "soft-off", "identify", "identify-off", "boot", "inspect", *ALL)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    shorten_pauses(monkeypatch, poll=0.05, resend=0.2, busy=0.05)


@dataclass
class Service:
    """A fake BMC that has mishaps, in a given order; keeps what it showed of each system."""

    bmc: FakeBmc
    mishaps: list[str]
    keys: list[str]
    values: list[Any]
    shown: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    count: int = 0
    lock: Lock = field(default_factory=Lock)

    def __call__(self, request: BaseHTTPRequestHandler, body: bytes) -> bool:
        with self.lock:
            number, self.count = self.count, self.count + 1
        mishap = self.mishaps[number % len(self.mishaps)]
        if mishap == "slow":
            time.sleep(0.05)
        if mishap == "hang":
            time.sleep(0.4)
        if mishap.isdigit():
            saying("" if mishap == "204" else '{"error": {"message": "no"}}', int(mishap), "application/json")(request)
        elif mishap == "cut":
            request.connection.shutdown(socket.SHUT_RDWR)
        elif mishap == "garbage":
            saying("<html>")(request)
        else:
            with self.bmc.lock:
                status, said, headers = self.bmc.accept(request, body)
            if mishap == "act and cut":
                request.connection.shutdown(socket.SHUT_RDWR)
            elif mishap.startswith("act and 50"):
                saying("{}", int(mishap[-3:]), headers={"Retry-After": "0"})(request)
            else:
                said = self._bent(mishap, said, number)
                if status == 200:
                    with self.lock:
                        self.shown.append((request.path.rstrip("/"), said))
                saying("" if status == 204 else json.dumps(said), status, "application/json", headers)(request)
        return True

    def _bent(self, mishap: str, said: dict[str, Any], number: int) -> dict[str, Any]:
        key = self.keys[number % len(self.keys)]
        if mishap == "null":
            return {**said, key: None}
        if mishap == "missing":
            return {name: value for name, value in said.items() if name != key}
        if mishap == "odd":
            return {**said, key: self.values[number % len(self.values)]}
        if mishap == "another":
            text = json.dumps(said).replace("/Systems/s0", "/Systems/other").replace("/Systems/s1", "/Systems/s0")
            return dict(json.loads(text))
        return said


LIGHTS = st.sampled_from([{}, {"IndicatorLED": "Off"}, {"LocationIndicatorActive": False}])
ELSEWHERE: list[dict[str, Any]] = [
    {"Actions": {"#ComputerSystem.Reset": {"target": "/redfish/v1/Systems/other/Actions/ComputerSystem.Reset"}}},
    {"Actions": {"#ComputerSystem.Reset": {"target": "/redfish/v1/Systems/s0/../other/Actions/Reset"}}},
    {"@odata.id": "/redfish/v1/Systems/other"},
    {"@Redfish.Settings": {"SettingsObject": {"@odata.id": "/redfish/v1/Systems/other/Settings"}}},
]
SYSTEMS = st.builds(
    FakeSystem,
    power=st.sampled_from(["On", "Off", "On", "Off", "PoweringOn", "PoweringOff", "Paused", None]),
    lag=st.sampled_from([0.0, 0.1]),
    ramp=st.sampled_from([0.0, 0.1]),
    restart_off=st.sampled_from([None, 0.1]),
    stays_off=st.booleans(),
    ignores=st.lists(st.sampled_from(ALL), max_size=2).map(tuple),
    refuses=st.lists(st.sampled_from(ALL), max_size=2).map(tuple),
    extra=st.builds(
        lambda elsewhere, light, boot: {**elsewhere, **light, "Boot": boot, "ProcessorSummary": {"Count": 2}},
        st.sampled_from([*[dict[str, Any]()] * 6, *ELSEWHERE]),
        LIGHTS,
        st.sampled_from([{}, {"BootSourceOverrideEnabled": "Disabled", "BootSourceOverrideTarget": "None"}]),
    ),
)
KEYS = st.sampled_from(
    ["PowerState", "Actions", "Status", "Boot", "@odata.id", "Members", "Systems", "IndicatorLED", "Links", "Id"]
)
MOSTLY_FINE = st.dictionaries(st.integers(0, 11), st.sampled_from(MISHAPS), max_size=3).map(
    lambda chosen: [chosen.get(number, "fine") for number in range(12)]
)


def act(client: Client, action: str) -> object:
    if action == "inspect":
        return hardware(client)
    system = System(client)
    if action == "status":
        return system.power()
    if action.startswith("identify"):
        return identify(system, action == "identify")
    if action == "boot":
        return boot_once(system, BootTarget.PXE)
    if action in ALL:
        return PowerSwitch(system).reset(action)
    return PowerSwitch(system).set_power(Power(action))


RESTARTS = ("ForceRestart", "GracefulRestart", "PowerCycle")


def is_shown(action: str, states: list[dict[str, Any]]) -> bool:
    """Return whether the service showed the effect that bmhctl reported as done."""
    last = states[-1]
    powers = [state.get("PowerState") for state in states]
    if action in ("status", "inspect", "Nmi"):
        return True
    if action in ("cycle", *RESTARTS):
        return powers[-1] == "On" and any(power in ("Off", "PoweringOff", "PoweringOn", "Paused") for power in powers)
    if action.startswith("identify"):
        lit = action == "identify"
        return last.get("LocationIndicatorActive") is lit or (
            last.get("IndicatorLED") in (("Blinking", "Lit") if lit else ("Off",))
        )
    if action == "boot":
        boot = last.get("Boot")
        return isinstance(boot, dict) and (
            boot.get("BootSourceOverrideTarget") == "Pxe" and boot.get("BootSourceOverrideEnabled") == "Once"
        )
    if action == "PushPowerButton":
        return powers[-1] in ("On", "Off") and len(set(powers)) > 1
    return bool(powers[-1] == ("On" if action in ("on", "On", "ForceOn") else "Off"))


def test_a_random_bmc_is_reported_in_one_line_and_gets_only_the_requested_action(figures: Figures) -> None:
    counts = {"tries": 0, "done": 0, "refusals": 0, "actions": 0}
    service = Service(FakeBmc(), ["fine"], [""], [None])

    def answer(request: BaseHTTPRequestHandler) -> None:
        service.bmc(request)

    with serving(answer, keep_alive=True) as port:

        @settings(
            max_examples=max(60, settings.default.max_examples // 2),
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow],
        )
        @given(
            systems=st.lists(SYSTEMS, min_size=1, max_size=3),
            allowed=st.none() | st.lists(st.sampled_from(ALL), max_size=9, unique=True).map(tuple),
            action_info=st.booleans(),
            session=st.sampled_from([None, None, True, False]),
            mishaps=MOSTLY_FINE,
            keys=st.lists(KEYS, min_size=1, max_size=5),
            values=st.lists(st.sampled_from(ODD), min_size=1, max_size=5),
            declared=st.sampled_from([None, "s0", "s0", "s0", "s1"]),
            action=st.sampled_from(ACTIONS),
        )
        def tried(
            systems: list[FakeSystem],
            allowed: tuple[str, ...] | None,
            action_info: bool,
            session: bool | None,
            mishaps: list[str],
            keys: list[str],
            values: list[Any],
            declared: str | None,
            action: str,
        ) -> None:
            nonlocal service
            for number, system in enumerate(systems):
                system.name, system.changes, system.then = f"s{number}", {}, []
            login = None if session is None else ("admin", "s3cret€")
            bmc = FakeBmc(systems, allowed=allowed, action_info=action_info, login=login, basic=session is not False)
            service = Service(bmc, mishaps, keys, values)
            bmc.trouble = service
            environment = StepEnvironment({"LOGIN": "admin:s3cret€"}, "/")
            where = Bmc(f"http://127.0.0.1:{port}", system_id=declared, credentials=login and "env:LOGIN")
            counts["tries"] += 1
            words: list[str] = []
            started = time.monotonic()
            try:
                done = ask(where, environment, timedelta(seconds=SECONDS), lambda client: act(client, action))
            except BmcError as error:
                counts["refusals"] += 1
                words.append(f"{error.message} ({error.hint})")
            else:
                counts["done"] += 1
                states = [said for path, said in service.shown if path.split("/")[-2:-1] == ["Systems"]]
                assert is_shown(action, states), (action, done, states)
                if action == "inspect":
                    assert isinstance(done, dict)
                    assert parse_spec("node01", {"hardware": done}).hardware == done
            assert time.monotonic() - started < SECONDS + BEYOND
            assert all(line.isprintable() and "s3cret" not in line and line[0] != " " for line in words), words
            meant = declared or (systems[0].name if len(systems) == 1 else None)
            for method, path, _ in bmc.received:
                if "Session" not in path:
                    counts["actions"] += 1
                    assert path.split("/")[4:5] == [meant], (method, path, meant)
            assert all(bmc.resets.count(kind) <= 1 for kind in RESTARTS), "a restart may have been taken the first time"
            if login is not None and "cut" not in " ".join(mishaps) and set(mishaps) <= {"fine", "slow", "null"}:
                assert bmc.sessions == set()

        tried()
    figures("fuzz: BMCs of every temper", "random", **counts, faults=0)
