"""A Redfish service with a switch for each way in which BMCs differ; it keeps what it received, in order."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from bmhctl.domain.model import Bmc, Power
from bmhctl.probes import (
    redfish_boot,
    redfish_conversation,
    redfish_login,
    redfish_media,
    redfish_power,
    redfish_system,
    redfish_time_limit,
)
from bmhctl.probes.credentials import BmcError
from bmhctl.probes.redfish_conversation import ask
from bmhctl.probes.redfish_power import PowerSwitch
from bmhctl.probes.redfish_system import System
from bmhctl.probes.step_environment import StepEnvironment
from tests.probes.servers import saying, serving

Json = dict[str, Any]

ALL = (
    "On",
    "ForceOff",
    "ForceOn",
    "ForceRestart",
    "GracefulRestart",
    "GracefulShutdown",
    "Nmi",
    "PowerCycle",
    "PushPowerButton",
)


LATER = " (a longer timeout waits for a BMC that is restarting or busy)"


def shorten_pauses(monkeypatch: pytest.MonkeyPatch, *, poll: float, resend: float, busy: float) -> None:
    """Shorten the pauses between reads, repeated commands and new tries from seconds to tenths of a second."""
    for module in (redfish_boot, redfish_media, redfish_power, redfish_system):
        monkeypatch.setattr(module, "POLL", poll)
    monkeypatch.setattr(redfish_power, "_CYCLE_POLL", poll / 2)
    monkeypatch.setattr(redfish_power, "RESEND", resend)
    monkeypatch.setattr(redfish_boot, "_AGAIN", resend)
    monkeypatch.setattr(redfish_time_limit, "_BUSY_PAUSE", busy)
    monkeypatch.setattr(redfish_login, "_PAUSE", busy)


@dataclass
class FakeSystem:
    """One system: its power, and how it reacts.

    ``lag`` are the seconds before a change of power begins, ``ramp`` the seconds that it takes. ``restart_off`` are the
    seconds for which a restart switches the power off; with None, nothing shows a restart. ``refuses`` are resets that
    are answered with 400.
    """

    name: str = "1"
    power: str | None = "On"
    lag: float = 0.0
    ramp: float = 0.0
    restart_off: float | None = 0.3
    stays_off: bool = False
    ignores: tuple[str, ...] = ()
    refuses: tuple[str, ...] = ()
    extra: Json = field(default_factory=dict)
    changes: Json = field(default_factory=dict)
    then: list[tuple[float, str]] = field(default_factory=list)
    """The next power states, each with its moment."""
    reset_time: int = 0

    def now(self) -> str | None:
        while self.then and self.then[0][0] <= time.monotonic():
            self.power = self.then.pop(0)[1]
        return self.power

    def plan(self, *steps: tuple[float, str]) -> None:
        at = time.monotonic()
        self.then = []
        for delay, state in steps:
            at += delay
            self.then.append((at, state))

    def reset(self, kind: str) -> None:
        state = self.now()
        if kind in self.ignores:
            return
        is_on = state in ("On", "PoweringOn", "Paused")
        if kind in ("On", "ForceOn", "Resume") or (kind == "PushPowerButton" and not is_on):
            self.plan((self.lag, "PoweringOn"), (self.ramp, "On")) if self.ramp else self.plan((self.lag, "On"))
        elif kind in ("ForceOff", "GracefulShutdown", "PushPowerButton"):
            self.plan((self.lag, "PoweringOff"), (self.ramp, "Off")) if self.ramp else self.plan((self.lag, "Off"))
        elif kind in ("ForceRestart", "GracefulRestart", "PowerCycle") and self.restart_off is not None:
            on = () if self.stays_off else ((self.restart_off, "On"),)
            self.plan((self.lag, "Off"), *on)


@dataclass
class FakeBmc:
    """The service: its systems under ``prefix``, and what it does to requests before it answers them.

    ``trouble`` is called with each request and may return the answer itself. ``allowed`` are the AllowableValues of
    Reset, or None if the BMC does not give them; with ``action_info``, they are in an ActionInfo.
    """

    systems: list[FakeSystem] = field(default_factory=lambda: [FakeSystem()])
    prefix: str = ""
    writes_prefix: bool = True
    allowed: tuple[str, ...] | None = ALL
    action_info: bool = False
    login: tuple[str, str] | None = None
    basic: bool = True
    media_keys: tuple[str, ...] = ("Image", "Inserted", "WriteProtected")
    """The parameters that InsertMedia accepts."""
    resources: dict[str, Json] = field(default_factory=dict)
    """More resources, by their path without the prefix."""
    trouble: Callable[[BaseHTTPRequestHandler, bytes], bool] | None = None
    received: list[tuple[str, str, Json]] = field(default_factory=list)
    """Every POST, PATCH and DELETE that was received: method, path, body."""
    reads: list[str] = field(default_factory=list)
    sessions: set[str] = field(default_factory=set)
    talking: int = 0
    most_talking: int = 0
    hold: float = 0.0
    port: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def resets(self) -> list[str]:
        return [
            body.get("ResetType", "") for method, path, body in self.received if path.endswith("ComputerSystem.Reset")
        ]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __call__(self, request: BaseHTTPRequestHandler) -> None:
        body = request.rfile.read(int(request.headers.get("Content-Length") or 0))
        with self.lock:
            self.talking += 1
            self.most_talking = max(self.most_talking, self.talking)
        try:
            time.sleep(self.hold)
            with self.lock:
                if request.command == "GET":
                    self.reads.append(request.path)
            if self.trouble is None or not self.trouble(request, body):
                with self.lock:
                    self._answer(request, body)
        finally:
            with self.lock:
                self.talking -= 1

    def accept(self, request: BaseHTTPRequestHandler, body: bytes) -> tuple[int, Json, dict[str, str]]:
        """Carry out a request; the caller sends the answer, or loses it."""
        path = request.path.rstrip("/")
        root = f"{self.prefix}/redfish/v1"
        if request.command == "POST" and path == f"{root}/SessionService/Sessions":
            return self._log_in(json.loads(body), root)
        if path != root and not self._may(request):
            return 401, {"error": {"message": "no"}}, {}
        if request.command == "DELETE":
            self.received.append(("DELETE", path, {}))
            self.sessions.discard(path.rsplit("/", 1)[-1])
            return 204, {}, {}
        if request.command in ("POST", "PATCH"):
            return self._change(request.command, path, json.loads(body))
        found = self._pages(root).get(path)
        return (404, {"error": {}}, {}) if found is None else (200, found, {})

    def _answer(self, request: BaseHTTPRequestHandler, body: bytes) -> None:
        status, said, headers = self.accept(request, body)
        saying("" if status == 204 else json.dumps(said), status, "application/json", headers)(request)

    def _log_in(self, body: Json, root: str) -> tuple[int, Json, dict[str, str]]:
        self.received.append(("POST", "Sessions", {}))
        if self.login is None or (body.get("UserName"), body.get("Password")) != self.login:
            return 401, {"error": {"message": "wrong"}}, {}
        token = f"t{len(self.received)}"
        self.sessions.add(token)
        return 201, {}, {"X-Auth-Token": token, "Location": f"{root}/SessionService/Sessions/{token}"}

    def _may(self, request: BaseHTTPRequestHandler) -> bool:
        if self.login is None or request.headers.get("X-Auth-Token") in self.sessions:
            return True
        wanted = "Basic " + base64.b64encode(":".join(self.login).encode()).decode()
        return self.basic and request.headers.get("Authorization") == wanted

    def _change(self, method: str, path: str, body: Json) -> tuple[int, Json, dict[str, str]]:
        self.received.append((method, path, body))
        for system in self.systems:
            place = f"{self.prefix}/redfish/v1/Systems/{system.name}"
            if path == f"{place}/Actions/ComputerSystem.Reset" and method == "POST":
                kind = body["ResetType"]
                if kind in system.refuses or (self.allowed is not None and kind not in self.allowed):
                    return 400, {"error": {"message": f"{kind} is not supported"}}, {}
                system.reset(kind)
                return 204, {}, {}
            if path == place and method == "PATCH":
                for key, value in body.items():
                    old = system.changes.get(key, system.extra.get(key))
                    system.changes[key] = {**old, **value} if isinstance(old, dict) else value
                return 204, {}, {}
        place, _, action = path.removeprefix(self.prefix).partition("/Actions/VirtualMedia.")
        if action and method == "POST":
            drive = self.resources[place]
            if action == "InsertMedia" and set(body) - set(self.media_keys):
                return 400, {"error": {"message": "unknown property"}}, {}
            drive.update({"Image": body.get("Image"), "Inserted": action == "InsertMedia"})
            return 204, {}, {}
        resource = self.resources.get(path.removeprefix(self.prefix))
        if resource is not None and method == "PATCH":
            resource.update(body)
            return 204, {}, {}
        return 404, {"error": {}}, {}

    def _pages(self, root: str) -> dict[str, Json]:
        shown = root if self.writes_prefix else "/redfish/v1"
        pages: dict[str, Json] = {
            root: {
                "RedfishVersion": "1.15.0",
                "Systems": {"@odata.id": f"{shown}/Systems"},
                "Links": {"Sessions": {"@odata.id": f"{shown}/SessionService/Sessions"}},
            },
            f"{root}/Systems": {"Members": [{"@odata.id": f"{shown}/Systems/{each.name}"} for each in self.systems]},
        }
        for system in self.systems:
            place = f"{shown}/Systems/{system.name}"
            reset: Json = {"target": f"{place}/Actions/ComputerSystem.Reset"}
            if self.action_info:
                reset["@Redfish.ActionInfo"] = f"{place}/ResetActionInfo"
                pages[f"{root}/Systems/{system.name}/ResetActionInfo"] = {
                    "Parameters": [{"Name": "ResetType", "AllowableValues": list(self.allowed or ())}]
                }
            elif self.allowed is not None:
                reset["ResetType@Redfish.AllowableValues"] = list(self.allowed)
            pages[f"{root}/Systems/{system.name}"] = {
                "@odata.id": place,
                "Id": system.name,
                "PowerState": system.now(),
                "Status": {"State": "Enabled", "Health": "OK"},
                "Actions": {"#ComputerSystem.Reset": reset},
                **system.extra,
                **system.changes,
            }
        pages.update({self.prefix + path: page for path, page in self.resources.items()})
        return pages


@contextmanager
def fake_bmc(certificate: Path | None = None, **switches: Any) -> Iterator[FakeBmc]:
    """A service that answers on loopback."""
    redfish_conversation._rejected.clear()  # rejections by a BMC that had this port before
    bmc = FakeBmc(**switches)
    with serving(bmc, certificate, keep_alive=True) as bmc.port:
        yield bmc


def talk(
    bmc: FakeBmc,
    question: Callable[[System], Any],
    *,
    seconds: float = 10.0,
    path: str = "",
    where: str | None = None,
    cancelled: Event | None = None,
    login: str | None = None,
    setting: StepEnvironment | None = None,
    **declared: Any,
) -> Any:
    """Return the answer of a BMC, or the message and the hint of an error in one line."""
    address = Bmc(where or bmc.url + path, credentials=login and "env:LOGIN", **declared)
    setting = setting or StepEnvironment({"LOGIN": login or ""}, "/", cancelled=cancelled or Event())
    started = time.monotonic()
    try:
        return ask(address, setting, timedelta(seconds=seconds), lambda client: question(System(client)))
    except BmcError as error:
        line = error.message + (f" ({error.hint})" if error.hint else "")
        assert line.isprintable(), line
        return line.replace(bmc.url, "BMC")
    finally:
        assert time.monotonic() - started < seconds + 3


def switch(power: Power) -> Callable[[System], str]:
    """Return a function that switches the power and waits until the BMC shows it."""
    return lambda system: PowerSwitch(system).set_power(power)


def status(system: System) -> str:
    """The power of a system."""
    return system.power()
