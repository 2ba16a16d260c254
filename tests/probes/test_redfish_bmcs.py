"""The ways in which real BMCs differ, and what a user sees of each.

``tests/usecases/steps/test_bmc.py`` tests with the emulator.
"""

from __future__ import annotations

import errno
import gzip
import json
import socket
import ssl
import threading
import time
import zlib
from collections.abc import Callable
from datetime import timedelta
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from bmhctl.domain.model import Bmc, BootTarget, HostSpec, Power
from bmhctl.probes.cancellation import InterruptedStepError
from bmhctl.probes.credentials import BmcError
from bmhctl.probes.redfish_boot import boot_once, identify
from bmhctl.probes.redfish_conversation import ask
from bmhctl.probes.redfish_hardware import hardware
from bmhctl.probes.redfish_power import PowerSwitch
from bmhctl.probes.redfish_system import System
from bmhctl.probes.step_environment import StepEnvironment
from tests.probes.conftest import Probe
from tests.probes.fake_bmc import ALL, LATER, FakeBmc, FakeSystem, fake_bmc, shorten_pauses, status, switch, talk
from tests.probes.servers import Answer, saying, serving

pytestmark = pytest.mark.slow(seconds=5)  # most of them only wait

SYSTEM = "/redfish/v1/Systems/1"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    shorten_pauses(monkeypatch, poll=0.1, resend=1.0, busy=0.2)


# tests: what a BMC allows


@pytest.mark.parametrize("action_info", [False, True], ids=["allowable-values", "action-info"])
@pytest.mark.parametrize(
    ("allowed", "goal", "sent"),
    [
        (ALL, Power.CYCLE, ["ForceRestart"]),
        (("On", "ForceOff", "ForceOn", "GracefulRestart", "PowerCycle"), Power.CYCLE, ["PowerCycle"]),
        (("On", "ForceOff", "GracefulRestart"), Power.CYCLE, ["ForceOff", "On"]),
        (("ForceOn", "ForceOff"), Power.CYCLE, ["ForceOff", "ForceOn"]),
        (("PushPowerButton", "ForceOff"), Power.CYCLE, ["ForceOff", "PushPowerButton"]),
        (("GracefulRestart",), Power.CYCLE, ["GracefulRestart"]),
        (("GracefulShutdown", "On"), Power.OFF, ["GracefulShutdown"]),
        (("PushPowerButton",), Power.OFF, ["PushPowerButton"]),
        (("On", "PushPowerButton"), Power.SOFT_OFF, ["PushPowerButton"]),
    ],
)
def test_the_first_reset_type_that_the_bmc_allows_for_a_goal_is_sent(
    allowed: tuple[str, ...], goal: Power, sent: list[str], action_info: bool
) -> None:
    with fake_bmc(allowed=allowed, action_info=action_info) as bmc:
        assert talk(bmc, switch(goal)) == ("on" if goal is Power.CYCLE else "off")
        assert bmc.resets == sent


@pytest.mark.parametrize(
    ("listed", "sent"),
    [
        (["On", "ForceOff", "GracefulShutdownGracefulRestart"], ["GracefulShutdown"]),
        (["On", "ForceOff", "PushPowerButton"], ["PushPowerButton"]),
    ],
)
def test_a_list_of_resets_with_an_unknown_name_is_completed_from_the_action_info(
    listed: list[str], sent: list[str]
) -> None:
    info = {"Parameters": [{"Name": "ResetType", "AllowableValues": ["On", "ForceOff", "GracefulShutdown"]}]}
    reset = {"ResetType@Redfish.AllowableValues": listed, "@Redfish.ActionInfo": f"{SYSTEM}/Info"}
    system = FakeSystem(extra={"Actions": {"#ComputerSystem.Reset": reset}})
    with fake_bmc(systems=[system], resources={f"{SYSTEM}/Info": info}, allowed=None) as bmc:
        assert (talk(bmc, switch(Power.SOFT_OFF)), bmc.resets) == ("off", sent)


def test_a_host_is_switched_on_with_a_reset_type_that_the_bmc_allows() -> None:
    for allowed in (("On",), ("ForceOn",), ("PushPowerButton",)):
        with fake_bmc(allowed=allowed, systems=[FakeSystem(power="Off")]) as bmc:
            assert talk(bmc, switch(Power.ON)) == "on"
            assert talk(bmc, switch(Power.ON)) == "on"
            assert bmc.resets == list(allowed), "it is on: nothing more is sent"
    with fake_bmc(systems=[FakeSystem(power="Paused")], allowed=("Resume", "On")) as bmc:
        assert (talk(bmc, status), talk(bmc, switch(Power.ON)), bmc.resets) == ("paused", "on", ["Resume"])


def test_a_bmc_that_allows_no_fitting_reset_type_is_reported_and_gets_none(probe: Probe) -> None:
    with fake_bmc(allowed=("Nmi", "GracefulRestart")) as bmc:
        assert talk(bmc, switch(Power.OFF)) == "its BMC at BMC can't switch it off: it allows Nmi, GracefulRestart"
        assert talk(bmc, switch(Power.SOFT_OFF)) == "its BMC at BMC can't shut it down: it allows Nmi, GracefulRestart"
        host = HostSpec("node01", bmc=Bmc(bmc.url))
        assert probe({"redfish": {"reset": "ForceOff"}}, host, group="cleanup") == (
            "fail",
            f"its BMC at {bmc.url} allows no ForceOff: it allows Nmi, GracefulRestart",
        )
        assert bmc.received == []
    with fake_bmc(allowed=("Nmi",)) as bmc:
        assert talk(bmc, switch(Power.CYCLE)) == "its BMC at BMC can't restart it: it allows Nmi"


def test_after_a_refusal_the_next_reset_type_is_tried_with_a_bmc_that_lists_none() -> None:
    with fake_bmc(allowed=None, systems=[FakeSystem(refuses=("ForceRestart", "PowerCycle"))]) as bmc:
        assert talk(bmc, switch(Power.CYCLE)) == "on"
        assert bmc.resets == ["ForceRestart", "PowerCycle", "ForceOff", "On"]
    with fake_bmc(allowed=None, systems=[FakeSystem(refuses=("ForceOff", "GracefulShutdown"))]) as bmc:
        assert talk(bmc, switch(Power.OFF)) == "off"
        assert bmc.resets == ["ForceOff", "GracefulShutdown", "PushPowerButton"]
    with fake_bmc(allowed=None, systems=[FakeSystem(refuses=ALL)]) as bmc:
        refused = "; ".join(
            f"{kind} is not supported (400)" for kind in ("ForceOff", "GracefulShutdown", "PushPowerButton")
        )
        assert talk(bmc, switch(Power.OFF)) == f"its BMC at BMC refuses: {refused}"


# tests: temporary failures, and answers that are lost


def failing(bmc: FakeBmc, seconds: float, how: str, *, after: bool = True) -> None:
    """Let all reads fail for ``seconds``, beginning with the first action or at once."""
    until: list[float] = [] if after else [time.monotonic() + seconds]

    def trouble(request: BaseHTTPRequestHandler, body: bytes) -> bool:
        if request.command == "POST" and not until:
            until.append(time.monotonic() + seconds)
            return False
        if not until or time.monotonic() > until[0]:
            return False
        if how == "reset":
            request.connection.shutdown(socket.SHUT_RDWR)
        elif how == "half an answer":
            request.send_response(200)
            request.send_header("Content-Length", "1000")
            request.end_headers()
            request.wfile.write(b'{"PowerState": ')
            request.connection.shutdown(socket.SHUT_RDWR)
        elif how == "SYS518":
            said = {"error": {"@Message.ExtendedInfo": [{"MessageId": "IDRAC.2.8.SYS518", "Message": "not ready"}]}}
            saying(json.dumps(said), 400, "application/json")(request)
        else:
            saying("{}", int(how), "application/json", {"Retry-After": "0"})(request)
        return True

    bmc.trouble = trouble


def test_the_answer_to_a_command_without_effect_is_reported_at_the_deadline() -> None:
    busy = {"error": {"@Message.ExtendedInfo": [{"MessageId": "X.1.Busy", "Message": "An update runs."}]}}
    with fake_bmc(systems=[FakeSystem(ignores=ALL)]) as bmc:
        assert talk(bmc, switch(Power.OFF), seconds=3) == (
            "is still on, not off, after 3 s (its BMC at BMC accepted ForceOff: check the BMC itself)"
        )

        def refuse(request: BaseHTTPRequestHandler, body: bytes) -> bool:
            if request.command == "POST":
                saying(json.dumps(busy), 409, "application/json")(request)
            return request.command == "POST"

        bmc.trouble = refuse
        assert talk(bmc, switch(Power.OFF), seconds=3) in (  # at the deadline bmhctl reads or repeats
            "is still on, not off, after 3 s (its BMC at BMC refuses: An update runs. (409))",
            f"its BMC at BMC refuses: An update runs. (409), for 3 s{LATER}",
        )


@pytest.mark.parametrize("how", ["503", "500", "404", "429", "SYS518", "reset", "half an answer"])
def test_a_bmc_that_fails_for_a_while_after_the_command_is_waited_for(how: str) -> None:
    with fake_bmc(systems=[FakeSystem(power="Off")]) as bmc:
        failing(bmc, 1.0, how)
        assert talk(bmc, switch(Power.ON)) == "on"
        assert bmc.resets == ["On"]


def test_a_bmc_that_stays_silent_after_a_command_is_reported_with_the_command_that_was_sent() -> None:
    with fake_bmc(systems=[FakeSystem(power="Off")]) as bmc:
        failing(bmc, 60, "503")
        assert talk(bmc, switch(Power.ON), seconds=3) == (
            "On was sent; its BMC at BMC has not answered since: its BMC at BMC refuses: Service Unavailable (503) "
            "(bmhctl power HOST status shows whether the power changed)"
        )
        assert bmc.resets == ["On"]


def test_a_bmc_that_answers_and_then_hangs_is_reported_as_silent() -> None:
    with fake_bmc(systems=[FakeSystem(ignores=ALL)]) as bmc:
        shown: list[str] = []

        def trouble(request: BaseHTTPRequestHandler, body: bytes) -> bool:
            is_hanging = bool(bmc.resets) and len(shown) > 2
            if bmc.resets and not is_hanging:
                shown.append(request.path)
            if is_hanging:
                time.sleep(6)
            return is_hanging

        bmc.trouble = trouble
        assert talk(bmc, switch(Power.OFF), seconds=4) == (
            "ForceOff was sent; its BMC at BMC has not answered since "
            "(bmhctl power HOST status shows whether the power changed)"
        )


def test_a_bmc_that_stays_silent_after_another_change_is_not_asked_for_its_power() -> None:
    with fake_bmc(systems=[FakeSystem(extra={"Boot": BOOT})]) as bmc:

        def trouble(request: BaseHTTPRequestHandler, body: bytes) -> bool:
            is_silent = bool(bmc.received)
            if is_silent:
                saying("{}", 503)(request)
            return is_silent

        bmc.trouble = trouble
        assert talk(bmc, lambda system: boot_once(system, BootTarget.PXE), seconds=3) == (
            "the change (booting once from pxe) was sent; its BMC at BMC has not answered since: "
            "its BMC at BMC refuses: Service Unavailable (503) "
            "(try again: a change that the BMC shows is not sent again)"
        )


def test_a_bmc_that_is_busy_for_a_while_does_not_fail_a_cleanup(probe: Probe) -> None:
    with fake_bmc() as bmc:
        failing(bmc, 1.0, "503")
        host = HostSpec("node01", bmc=Bmc(bmc.url))
        assert probe({"redfish": {"power": "off"}}, host, group="cleanup") == ("pass", "power off")


@pytest.mark.parametrize("how", ["503", "502", "504", "SYS518", "reset", "half an answer"])
def test_a_bmc_that_is_busy_or_restarts_is_waited_for_from_the_first_request_on(how: str) -> None:
    for goal in (status, switch(Power.ON)):
        with fake_bmc() as bmc:
            failing(bmc, 1.0, how, after=False)
            assert talk(bmc, goal) == "on"


@pytest.mark.parametrize("error", [ConnectionRefusedError(), OSError(errno.EHOSTUNREACH, "No route to host")])
def test_a_bmc_whose_network_comes_back_is_waited_for(error: OSError, monkeypatch: pytest.MonkeyPatch) -> None:
    connect, left = socket.create_connection, [error] * 3

    def connected(*there: Any, **how: Any) -> socket.socket:
        if left:
            raise left.pop()
        return connect(*there, **how)

    monkeypatch.setattr(socket, "create_connection", connected)
    with fake_bmc() as bmc:
        assert talk(bmc, status) == "on"


def test_failures_that_a_restart_does_not_explain_are_reported_at_once() -> None:
    with fake_bmc() as bmc:
        failing(bmc, 60, "500", after=False)
        started = time.monotonic()
        assert talk(bmc, status) == "its BMC at BMC refuses: Internal Server Error (500)"
        assert time.monotonic() - started < 1
        failing(bmc, 60, "429", after=False)
        assert talk(bmc, status, seconds=3) == f"its BMC at BMC refuses: Too Many Requests (429), for 3 s{LATER}"


def test_an_optional_read_is_retried_while_the_bmc_is_busy() -> None:
    light = {"IndicatorLED": "Off", "Links": {"ComputerSystems": [{"@odata.id": SYSTEM}]}}
    link = {"Links": {"Chassis": [{"@odata.id": "/redfish/v1/Chassis/1"}]}}
    for how in ("503", "reset"):
        system = FakeSystem(extra=link)
        with fake_bmc(
            systems=[system], allowed=("On",), action_info=True, resources={"/redfish/v1/Chassis/1": dict(light)}
        ) as bmc:
            left: list[str] = []

            def trouble(request: BaseHTTPRequestHandler, body: bytes, how: str = how, left: list[str] = left) -> bool:
                is_busy = request.path.endswith(("ActionInfo", "Chassis/1")) and left.count(request.path) < 2
                if is_busy:
                    left.append(request.path)
                    cut = request.connection.shutdown
                    cut(socket.SHUT_RDWR) if how == "reset" else saying("{}", 503)(request)
                return is_busy

            bmc.trouble = trouble
            assert talk(bmc, switch(Power.OFF)) == "its BMC at BMC can't switch it off: it allows On"
            assert bmc.received == [], "without the list, it would have tried ForceOff"
            assert talk(bmc, lambda system: identify(system, True)) == "on"
            assert len(left) == 4


def losing(bmc: FakeBmc, *, acts: bool, how: str = "cut") -> None:
    """Lose the answer to each first POST, or answer 500, after the BMC acted on the request or not."""
    lost: list[str] = []

    def trouble(request: BaseHTTPRequestHandler, body: bytes) -> bool:
        if request.command != "POST" or lost:
            return False
        lost.append(request.path)
        if acts:
            bmc.accept(request, body)
        else:
            bmc.received.append(("POST", request.path, json.loads(body)))
        if how == "cut":
            request.connection.shutdown(socket.SHUT_RDWR)
        else:
            saying("{}", int(how), "application/json")(request)
        return True

    bmc.trouble = trouble


@pytest.mark.parametrize("how", ["cut", "500", "503"])
def test_a_command_whose_answer_is_lost_is_not_sent_again_if_it_took_effect(how: str) -> None:
    for goal, sent in ((Power.OFF, ["ForceOff"]), (Power.CYCLE, ["ForceRestart"])):
        with fake_bmc() as bmc:
            losing(bmc, acts=True, how=how)
            assert talk(bmc, switch(goal)) == ("off" if goal is Power.OFF else "on")
            assert bmc.resets == sent


def test_a_lost_command_is_sent_again_after_the_state_was_read_except_a_restart() -> None:
    with fake_bmc() as bmc:
        losing(bmc, acts=False)
        assert talk(bmc, switch(Power.OFF)) == "off"
        assert bmc.resets == ["ForceOff", "ForceOff"]
        second = [i for i, path in enumerate(bmc.reads) if path == SYSTEM]
        assert len(second) > 3, "the state was read for a while in between"
    with fake_bmc() as bmc:
        losing(bmc, acts=False)
        assert talk(bmc, switch(Power.CYCLE), seconds=3) == (
            "its BMC at BMC did not confirm ForceRestart, and no restart was seen in 3 s "
            "(its BMC at BMC cut the connection; use power off, then power on: every BMC reports these)"
        )
        assert bmc.resets == ["ForceRestart"]


@pytest.mark.parametrize(("code", "message"), [(400, "SYS518"), (503, "ServiceTemporarilyUnavailable"), (409, "X")])
def test_a_change_is_sent_again_when_the_bmc_says_that_it_did_nothing(code: int, message: str) -> None:
    said = {"error": {"@Message.ExtendedInfo": [{"MessageId": f"Base.1.8.{message}", "Message": "Not ready."}]}}
    for goal in (switch(Power.CYCLE), switch(Power.SOFT_OFF), lambda system: boot_once(system, BootTarget.PXE)):
        with fake_bmc(systems=[FakeSystem(extra={"Boot": BOOT})]) as bmc:
            left = threading.Semaphore(2)

            def busy(request: BaseHTTPRequestHandler, body: bytes, left: threading.Semaphore = left) -> bool:
                is_busy = request.command != "GET" and left.acquire(blocking=False)
                if is_busy:
                    saying(json.dumps(said), code, "application/json")(request)
                return is_busy

            bmc.trouble = busy
            assert talk(bmc, goal) in ("on", "off", "pxe")
            assert len(bmc.received) == 1


def test_a_change_that_may_be_repeated_is_sent_again_when_a_busy_bmc_asks_for_it() -> None:
    for goal, done in ((switch(Power.OFF), "off"), (lambda system: boot_once(system, BootTarget.PXE), "pxe")):
        with fake_bmc(systems=[FakeSystem(extra={"Boot": BOOT})]) as bmc:
            sent: list[float] = []

            def busy(request: BaseHTTPRequestHandler, body: bytes, sent: list[float] = sent) -> bool:
                if request.command != "GET":
                    sent.append(time.monotonic())
                is_busy = request.command != "GET" and len(sent) == 1
                if is_busy:
                    saying("{}", 503, headers={"Retry-After": "2"})(request)
                return is_busy

            bmc.trouble = busy
            assert talk(bmc, goal) == done
            assert sent[1] - sent[0] > 1.5, "not after the usual second"


def test_a_change_that_was_not_confirmed_is_not_reported_as_accepted() -> None:
    boot = FakeSystem(extra={"Boot": BOOT, "IndicatorLED": "Off"})
    with fake_bmc(systems=[boot]) as bmc:

        def busy(request: BaseHTTPRequestHandler, body: bytes) -> bool:
            if request.command == "GET":
                return False
            saying("{}", 503)(request)
            return True

        bmc.trouble = busy
        reason = "its BMC at BMC refuses: Service Unavailable (503)"
        for goal, words in (
            (switch(Power.OFF), f"is still on, not off, after 3 s (ForceOff was sent, but not confirmed: {reason})"),
            (
                lambda system: boot_once(system, BootTarget.PXE),
                f"its BMC at BMC did not confirm booting once from pxe, and shows Disabled, None after 3 s ({reason})",
            ),
            (
                lambda system: identify(system, True),
                f"its BMC at BMC did not confirm the light on, and shows Off after 3 s ({reason})",
            ),
        ):
            said = talk(bmc, goal, seconds=3)
            assert said == words


# tests: a change counts as done when it is seen


def test_a_restart_without_a_visible_effect_fails(probe: Probe) -> None:
    with fake_bmc(systems=[FakeSystem(restart_off=None)]) as bmc:
        assert talk(bmc, switch(Power.CYCLE), seconds=3) == (
            "its BMC at BMC accepted ForceRestart, but no restart was seen in 3 s "
            "(use power off, then power on: every BMC reports these)"
        )
        host = HostSpec("node01", bmc=Bmc(bmc.url))
        step = {"redfish": {"reset": "ForceRestart", "power": "on"}, "timeout": "3s"}
        verdict, said = probe(step, host, group="cleanup")
        assert (verdict, "no restart was seen" in said) == ("fail", True)
        assert bmc.resets == ["ForceRestart"] * 2


def test_a_host_that_goes_off_late_and_comes_back_was_restarted() -> None:
    with fake_bmc(systems=[FakeSystem(lag=0.8, restart_off=0.5)]) as bmc:
        started = time.monotonic()
        assert talk(bmc, switch(Power.CYCLE)) == "on"
        assert time.monotonic() - started > 1.3
        assert bmc.resets == ["ForceRestart"]


def test_a_host_that_stays_off_after_a_restart_is_switched_on_or_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    with fake_bmc(systems=[FakeSystem(stays_off=True)]) as bmc:
        assert talk(bmc, switch(Power.CYCLE)) == "on"
        assert bmc.resets == ["ForceRestart", "On"]
    shorten_pauses(monkeypatch, poll=0.1, resend=10.0, busy=0.2)
    with fake_bmc(systems=[FakeSystem(stays_off=True)]) as bmc:
        assert talk(bmc, switch(Power.CYCLE), seconds=2.5) == (
            "restarted with ForceRestart, but is still off, after 2.5 s"
        )


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"LastResetTime": "2026-01-01T00:00:00Z"}, {"LastResetTime": "2026-01-01T01:00:00Z"}),
        ({"BootProgress": {"LastState": "OSRunning"}}, {"BootProgress": {"LastState": "MemoryInitializationStarted"}}),
    ],
    ids=["reset-time", "boot-progress"],
)
def test_a_restart_that_keeps_the_power_on_is_recognized_by_its_time_or_boot_progress(
    before: dict[str, Any], after: dict[str, Any]
) -> None:
    system = FakeSystem(restart_off=None, extra=before)
    with fake_bmc(systems=[system]) as bmc:
        threading.Timer(0.6, system.extra.update, [after]).start()
        started = time.monotonic()
        assert talk(bmc, switch(Power.CYCLE)) == "on"
        assert time.monotonic() - started > 0.4


def test_a_command_waits_for_a_power_transition_and_is_sent_again_if_it_ends_in_another_state() -> None:
    system = FakeSystem(power="PoweringOff")
    with fake_bmc(systems=[system]) as bmc:
        assert talk(bmc, status) == "powering-off"
        system.plan((0.5, "Off"))
        assert talk(bmc, switch(Power.ON)) == "on"
        assert bmc.resets == ["On"]
    system = FakeSystem(power="Off")
    with fake_bmc(systems=[system]) as bmc:

        def lost_on(request: BaseHTTPRequestHandler, body: bytes) -> bool:
            if request.command == "POST" and not bmc.resets:  # accepted, and the host goes off later
                bmc.received.append(("POST", request.path, json.loads(body)))
                system.power = "PoweringOff"
                system.plan((0.4, "Off"))
                saying("", 204)(request)
                return True
            return False

        bmc.trouble = lost_on
        assert talk(bmc, switch(Power.ON)) == "on"
        assert bmc.resets == ["On", "On"]
    with fake_bmc(systems=[FakeSystem(power="PoweringOff")]) as bmc:
        assert talk(bmc, switch(Power.ON), seconds=3) == "is still powering-off, not on, after 3 s"
        assert bmc.resets == []


def test_a_check_waits_for_a_transition_to_end(probe: Probe) -> None:
    system = FakeSystem(power="PoweringOn")
    with fake_bmc(systems=[system]) as bmc:
        system.plan((0.5, "On"))
        host = HostSpec("node01", bmc=Bmc(bmc.url))
        assert probe({"redfish": {"power": "on"}}, host) == ("pass", "power on")
        system.power = "PoweringOff"
        assert probe({"redfish": {"power": "on"}, "timeout": "3s"}, host) == ("fail", "power powering-off")


def test_a_power_state_is_read_in_any_case() -> None:
    for power, read in (("ON", "on"), ("off", "off"), ("poweringOn", "powering-on")):
        with fake_bmc(systems=[FakeSystem(extra={"PowerState": power})]) as bmc:
            assert talk(bmc, status) == read


@pytest.mark.parametrize("power", [None, "Sleeping", 7])
def test_a_power_state_that_is_not_reported_never_counts_as_reached(power: Any) -> None:
    with fake_bmc(systems=[FakeSystem(extra={"PowerState": power})]) as bmc:
        assert talk(bmc, status) == "unknown"
        assert talk(bmc, lambda system: PowerSwitch(system).reset("PushPowerButton")) == (
            "its BMC at BMC can't switch it on: it shows the power unknown"
        ), "a button that toggles is not pressed blindly"
        assert bmc.received == []
        assert talk(bmc, switch(Power.ON), seconds=3) == (
            "is still unknown, not on, after 3 s (its BMC at BMC accepted On: check the BMC itself)"
        )


# tests: which system is meant


def test_other_systems_behind_the_same_gateway_are_never_changed() -> None:
    for writes_prefix in (True, False):
        with fake_bmc(prefix="/bmc/node7", writes_prefix=writes_prefix) as bmc:
            assert talk(bmc, switch(Power.OFF), path="/bmc/node7/redfish/v1/Systems/1") == "off"
            assert {path for _, path, _ in bmc.received} == {f"/bmc/node7{SYSTEM}/Actions/ComputerSystem.Reset"}
            assert (
                talk(bmc, status) == "its BMC at BMC is not a Redfish service (if its address is wrong: "
                "bmhctl set HOST --bmc … declares another)"
            )
            assert talk(bmc, status, path="/bmc/node8/redfish/v1/Systems/1") == (
                "its BMC at BMC/bmc/node8 is not a Redfish service (if its address is "
                "wrong: bmhctl set HOST --bmc … declares another)"
            )


@pytest.mark.parametrize(
    "path", ["", "/", "/redfish/v1", "/redfish/v1/", "/redfish/v1/Systems", "/redfish/v1/Systems/"]
)
def test_an_address_without_a_system_means_the_only_one_and_several_are_listed(path: str) -> None:
    with fake_bmc(systems=[FakeSystem("blade3")]) as bmc:
        assert talk(bmc, switch(Power.OFF), path=path) == "off"
    with fake_bmc(systems=[FakeSystem("blade3"), FakeSystem("blade4")]) as bmc:
        assert talk(bmc, switch(Power.OFF), path=path) == (
            "its BMC at BMC has 2 systems, and the host declares none of them "
            "(bmhctl set HOST --bmc-system ID; they are blade3, blade4)"
        )
        assert bmc.received == []
        assert talk(bmc, switch(Power.OFF), path=path, system_id="blade4") == "off"
        assert [path for _, path, _ in bmc.received] == ["/redfish/v1/Systems/blade4/Actions/ComputerSystem.Reset"]


def test_a_system_that_is_not_there_is_reported_with_those_that_are() -> None:
    with fake_bmc(systems=[FakeSystem("a"), FakeSystem("b")]) as bmc:
        assert talk(bmc, switch(Power.OFF), path="/redfish/v1/Systems/c") == (
            "its BMC at BMC has no system /redfish/v1/Systems/c (it has a, b)"
        )


def test_a_bmc_that_answers_or_points_to_another_system_is_refused_and_nothing_is_sent() -> None:
    with fake_bmc(systems=[FakeSystem(extra={"@odata.id": "/redfish/v1/Systems/2"})]) as bmc:
        assert talk(bmc, switch(Power.OFF), path=SYSTEM) == (
            f"its BMC at BMC answers for another system, /redfish/v1/Systems/2, when asked for {SYSTEM}"
        )
    target = "/redfish/v1/Systems/2/Actions/ComputerSystem.Reset"
    system = FakeSystem(extra={"Actions": {"#ComputerSystem.Reset": {"target": target}}})
    with fake_bmc(systems=[system, FakeSystem("2")]) as bmc:
        assert talk(bmc, switch(Power.OFF), path=SYSTEM) == (
            f"its BMC at BMC names the reset of another system, {target}, for {SYSTEM}"
        )
        assert bmc.received == []


# tests: health and hardware


@pytest.mark.parametrize(
    ("status", "health"),
    [
        ({"Health": "OK", "HealthRollup": "Critical"}, "Critical"),
        ({"Health": "Critical", "HealthRollup": "OK"}, "Critical"),
        ({"Health": "OK", "HealthRollup": "Warning"}, "Warning"),
        ({"Health": "OK", "HealthRollup": None}, "OK"),
        ({"HealthRollup": "OK"}, "OK"),
        ({"Health": "OK", "HealthRollup": "Weird"}, "unknown"),
        ({"Health": "Critical", "HealthRollup": "Weird"}, "Critical"),
        ({"Health": "ok", "HealthRollup": "WARNING"}, "Warning"),
        ({"Health": 7}, "unknown"),
        ({}, "unknown"),
        (None, "unknown"),
    ],
)
def test_the_health_of_a_host_is_the_worst_of_the_system_and_its_parts(status: Any, health: str, probe: Probe) -> None:
    with fake_bmc(systems=[FakeSystem(extra={"Status": status})]) as bmc:
        assert talk(bmc, lambda system: system.health()) == health
        verdict, _ = probe({"redfish": {"health": "OK"}}, HostSpec("node01", bmc=Bmc(bmc.url)))
        assert verdict == {"OK": "pass", "unknown": "unknown"}.get(health, "fail")


def inspected(bmc: FakeBmc) -> dict[str, Any]:
    return ask(Bmc(bmc.url), StepEnvironment({}, "/"), timedelta(seconds=10), hardware)


def collection(path: str, *members: dict[str, Any]) -> dict[str, dict[str, Any]]:
    links = [{"@odata.id": f"{path}/{number}"} for number in range(len(members))]
    return {path: {"Members": links}, **{link["@odata.id"]: each for link, each in zip(links, members, strict=True)}}


CPU = {"ProcessorType": "CPU", "TotalCores": 20, "TotalThreads": 40, "Status": {"State": "Enabled"}}


def test_inspect_counts_cores_and_not_sockets_as_cpus() -> None:
    link = {"Processors": {"@odata.id": f"{SYSTEM}/Processors"}}
    with fake_bmc(systems=[FakeSystem(extra={"ProcessorSummary": {"Count": 2}})]) as bmc:
        assert inspected(bmc) == {"health": "OK", "sockets": 2}
    fpga = {"ProcessorType": "FPGA", "TotalThreads": 999}
    absent = {**CPU, "Status": {"State": "Absent"}}
    processors = collection(f"{SYSTEM}/Processors", CPU, fpga, CPU, absent)
    with fake_bmc(systems=[FakeSystem(extra={"ProcessorSummary": {"Count": 2}, **link})], resources=processors) as bmc:
        assert inspected(bmc) == {"health": "OK", "sockets": 2, "cpus": 80}
    with fake_bmc(systems=[FakeSystem(extra=link)], resources=processors) as bmc:
        assert inspected(bmc) == {"health": "OK", "sockets": 2, "cpus": 80}
    summary = {"ProcessorSummary": {"Count": 2, "CoreCount": 8, "LogicalProcessorCount": 16}}
    with fake_bmc(systems=[FakeSystem(extra=summary)]) as bmc:
        assert inspected(bmc) == {"health": "OK", "sockets": 2, "cpus": 16}
    partly = collection(f"{SYSTEM}/Processors", CPU, {"ProcessorType": "CPU"})
    with fake_bmc(systems=[FakeSystem(extra=link)], resources=partly) as bmc:
        assert inspected(bmc) == {"health": "OK", "sockets": 2}, "the threads of one processor are not known"


RACK_SERVER: dict[str, Any] = {
    "Manufacturer": "Contoso",
    "Model": " 3500 ",
    "SerialNumber": "437X",
    "BiosVersion": "P79 v1.45",
    "MemorySummary": {"TotalSystemMemoryGiB": 96},
    "ProcessorSummary": {"Count": 2, "CoreCount": 8, "LogicalProcessorCount": 16},
    "EthernetInterfaces": {"@odata.id": f"{SYSTEM}/EthernetInterfaces"},
    "Storage": {"@odata.id": f"{SYSTEM}/Storage"},
    "SimpleStorage": {"@odata.id": f"{SYSTEM}/SimpleStorage"},
}
PARTS = {
    **collection(
        f"{SYSTEM}/EthernetInterfaces",
        {"MACAddress": "12:44:6A:3B:04:11", "PermanentMACAddress": "12:44:6A:3B:88:90"},
        {"MACAddress": "aa-bb-cc-dd-ee-ff"},
        {"MACAddress": "00:00:00:00:00:00"},
        {"PermanentMACAddress": "000000000000", "MACAddress": "AABBCCDDEE01"},
        {"MACAddress": None},
        {"MACAddress": "21:00:F4:E9:D4:00:00:01", "PermanentMACAddress": "N/A"},  # of a Fibre Channel port
        {"MACAddress": "7E:D3:0A:58:A6:F1", "Links": {"HostInterface": {"@odata.id": "/redfish/v1/Managers/1"}}},
    ),
    **collection(
        f"{SYSTEM}/Storage",
        {"Drives": [{"@odata.id": "/redfish/v1/Drives/1"}, {"@odata.id": "/redfish/v1/Drives/2"}]},
        {"Drives": [{"@odata.id": "/redfish/v1/Drives/1/"}]},
    ),
    "/redfish/v1/Drives/1": {"CapacityBytes": 899527000000},
    "/redfish/v1/Drives/2": {"CapacityBytes": 899527000000},
}


def test_inspect_records_properties_that_selectors_can_use() -> None:
    with fake_bmc(systems=[FakeSystem(extra=RACK_SERVER)], resources=PARTS) as bmc:
        assert inspected(bmc) == {
            "vendor": "Contoso",
            "model": "3500",
            "serial": "437X",
            "bios": "P79 v1.45",
            "memory": "96GiB",
            "sockets": 2,
            "cpus": 16,
            "nics": 3,
            "macs": "12:44:6a:3b:88:90,aa:bb:cc:dd:ee:01,aa:bb:cc:dd:ee:ff",
            "storage": "1799GB",
            "health": "OK",
        }


@pytest.mark.parametrize("interfaces", [None, {"MACAddress": None}])
def test_interfaces_that_the_bmc_does_not_list_are_those_of_its_network_adapters(interfaces: Any) -> None:
    adapter = "/redfish/v1/Chassis/1/NetworkAdapters/1"
    link = {"Links": {"NetworkAdapter": {"@odata.id": adapter}}}
    resources = {
        **collection(f"{SYSTEM}/NetworkInterfaces", link, link),
        adapter: {"NetworkDeviceFunctions": {"@odata.id": f"{adapter}/Functions"}},
        **collection(
            f"{adapter}/Functions",
            {
                "NetDevFuncType": "Ethernet",
                "Ethernet": {"PermanentMACAddress": "7C:8C:09:00:00:01", "MACAddress": None},
            },
            {"NetDevFuncType": "InfiniBand", "InfiniBand": {"PermanentNodeGUID": "7c8c:0903:0000:0002"}},
        ),
        **({} if interfaces is None else collection(f"{SYSTEM}/EthernetInterfaces", interfaces)),
    }
    system = {"NetworkInterfaces": {"@odata.id": f"{SYSTEM}/NetworkInterfaces"}}
    if interfaces is not None:
        system["EthernetInterfaces"] = {"@odata.id": f"{SYSTEM}/EthernetInterfaces"}
    with fake_bmc(systems=[FakeSystem(extra=system)], resources=resources) as bmc:
        assert inspected(bmc) == {"health": "OK", "nics": 1, "macs": "7c:8c:09:00:00:01"}


def test_an_unreadable_part_omits_only_the_total_that_needs_it() -> None:
    broken = {
        path: page for path, page in PARTS.items() if path != "/redfish/v1/Drives/2" and "Interfaces/1" not in path
    }
    with fake_bmc(systems=[FakeSystem(extra=RACK_SERVER)], resources=broken) as bmc:
        found = inspected(bmc)
        assert ("storage" in found, "macs" in found, found["memory"]) == (False, False, "96GiB")
    simple = collection(f"{SYSTEM}/SimpleStorage", {"Devices": [{"CapacityBytes": 10**12}, {"CapacityBytes": 10**12}]})
    with fake_bmc(systems=[FakeSystem(extra=RACK_SERVER)], resources=simple) as bmc:
        assert inspected(bmc)["storage"] == "2000GB"


@pytest.mark.parametrize(
    "text",
    ["", "   ", "0000000000", "N/A", "NA", "To be filled by O.E.M.", "Default string", "Not Specified", "0123456789"],
)
def test_a_text_that_means_nothing_is_left_out(text: str) -> None:
    system = {"Manufacturer": text, "Model": text, "SerialNumber": text, "BiosVersion": f"{text} 1.0"}
    with fake_bmc(systems=[FakeSystem(extra=system)]) as bmc:
        assert inspected(bmc) == {"bios": f"{text} 1.0".strip(), "health": "OK"}


@pytest.mark.parametrize(
    ("drives", "storage"),
    [
        ({"Status": {"State": "Absent"}}, None),
        ({"CapacityBytes": 2 * 10**12}, "2000GB"),
        ({"CapacityBytes": "2000000000000"}, "2000GB"),
        ({"CapacityBytes": 2 * 10**8}, None),  # in another unit
        ({"CapacityBytes": 2 * 10**12, "systems": 2}, None),
    ],
)
def test_drives_that_no_controller_lists_are_those_of_the_own_chassis(drives: dict[str, Any], storage: Any) -> None:
    owners = [{"@odata.id": f"/redfish/v1/Systems/{number + 1}"} for number in range(drives.pop("systems", 1))]
    resources = {
        **collection(f"{SYSTEM}/Storages", {"Drives": []}),
        **collection("/redfish/v1/Chassis", {}),
        "/redfish/v1/Chassis/0": {
            "Links": {"ComputerSystems": owners, "Drives": [{"@odata.id": "/redfish/v1/Chassis/0/Drives/Disk 1"}]}
        },
        "/redfish/v1/Chassis/0/Drives/Disk%201": drives,
    }
    links = {"Links": {"Chassis": [{"@odata.id": "/redfish/v1/Chassis/0"}]}}
    system = {"Storage": {"@odata.id": f"{SYSTEM}/Storages"}, **links}
    with fake_bmc(systems=[FakeSystem(extra=system)], resources=resources) as bmc:
        assert inspected(bmc).get("storage") == storage


@pytest.mark.parametrize(
    ("arrays", "storage"),
    [
        ([{"CapacityMiB": 1831420, "SerialNumber": "B"}, {"CapacityMiB": 0, "Status": {"State": "Absent"}}], "2920GB"),
        ([{"CapacityMiB": 953870, "SerialNumber": "A"}], "1000GB"),  # the same drive
        ([{"CapacityMiB": None}], None),
        ([], "1000GB"),
        (None, None),
    ],
)
def test_drives_of_an_array_that_the_ilo_lists_apart_count_once(arrays: Any, storage: Any) -> None:
    smart = f"{SYSTEM}/SmartStorage"
    resources = {
        **collection(f"{SYSTEM}/Storage", {"Drives": [{"@odata.id": "/redfish/v1/Drives/1"}]}),
        "/redfish/v1/Drives/1": {"CapacityBytes": 10**12, "SerialNumber": "A"},
        smart: {"Links": {"ArrayControllers": {"@odata.id": f"{smart}/ArrayControllers"}, "HostBusAdapters": {}}},
        **collection(f"{smart}/ArrayControllers", {"Links": {"PhysicalDrives": {"@odata.id": f"{smart}/Drives"}}}),
        **({} if arrays is None else collection(f"{smart}/Drives", *arrays)),
    }
    oem = {"Oem": {"Hpe": {"Links": {"SmartStorage": {"@odata.id": f"{smart}/"}}}}}
    system = {"Storage": {"@odata.id": f"{SYSTEM}/Storage"}, **oem}
    with fake_bmc(systems=[FakeSystem(extra=system)], resources=resources) as bmc:
        assert inspected(bmc).get("storage") == storage


@pytest.mark.parametrize(
    ("total", "found"),
    [
        (0, "64GiB"),
        (None, "64GiB"),
        ("N/A", "64GiB"),
        (128, "128GiB"),
        (" 128", "128GiB"),
        (119.20928955078125, "128GiB"),
        (128.5, "128GiB"),
    ],
)
def test_memory_without_a_total_is_the_sum_of_its_modules(total: float | str | None, found: str) -> None:
    empty = {"CapacityMiB": 0, "Status": {"State": "Absent"}}
    system = {"MemorySummary": {"TotalSystemMemoryGiB": total}, "Memory": {"@odata.id": f"{SYSTEM}/Memory"}}
    modules = collection(f"{SYSTEM}/Memory", {"CapacityMiB": 32768}, empty, {"CapacityMiB": 32768})
    with fake_bmc(systems=[FakeSystem(extra=system)], resources=modules) as bmc:
        assert inspected(bmc)["memory"] == found
    partly = collection(f"{SYSTEM}/Memory", {"CapacityMiB": 32768}, {"CapacityMiB": None})
    with fake_bmc(systems=[FakeSystem(extra=system)], resources=partly) as bmc:
        assert inspected(bmc).get("memory") == (found if found == "128GiB" else None)


# tests: credentials and sessions


def test_a_password_is_sent_in_utf8() -> None:
    for password in ("p€ss", "pässwörd", "密码", "a b:c"):
        with fake_bmc(login=("admin", password)) as bmc:
            assert talk(bmc, status, login=f"admin:{password}") == "on"
            assert bmc.received == [], "Basic authentication was enough"
        with fake_bmc(login=("admin", password), basic=False) as bmc:
            assert talk(bmc, status, login=f"admin:{password}") == "on"
            assert bmc.sessions == set()


def test_a_bmc_that_requires_a_session_gets_a_login_and_a_logout() -> None:
    with fake_bmc(login=("admin", "s3cret"), basic=False) as bmc:
        assert talk(bmc, switch(Power.CYCLE), login="admin:s3cret") == "on"
        assert [(method, path) for method, path, _ in bmc.received if "Reset" not in path] == [
            ("POST", "Sessions"),
            ("DELETE", "/redfish/v1/SessionService/Sessions/t1"),
        ]
        assert bmc.sessions == set()
        assert talk(bmc, status, login="admin:wr0ng") == (
            "its BMC at BMC rejects the credentials (check the user and the password that the reference names)"
        )


def test_a_session_is_ended_at_a_timeout_or_an_interruption() -> None:
    with fake_bmc(login=("admin", "s3cret"), basic=False, systems=[FakeSystem(ignores=ALL)]) as bmc:
        assert "still on" in talk(bmc, switch(Power.OFF), login="admin:s3cret", seconds=3)
        assert bmc.sessions == set()
        cancelled = Event()
        threading.Timer(0.5, cancelled.set).start()
        with pytest.raises(InterruptedStepError):
            talk(bmc, switch(Power.OFF), login="admin:s3cret", cancelled=cancelled)
        assert bmc.sessions == set()
        assert len([path for method, path, _ in bmc.received if method == "DELETE"]) == 2


def test_a_session_that_ends_early_is_opened_again_once() -> None:
    with fake_bmc(login=("admin", "s3cret"), basic=False) as bmc:

        def question(system: System) -> str:
            bmc.sessions.clear()
            return PowerSwitch(system).set_power(Power.OFF)

        assert talk(bmc, question, login="admin:s3cret") == "off"
        assert bmc.sessions == set()


def test_no_error_shows_the_password_that_a_bmc_repeats() -> None:
    with fake_bmc(login=("admin", "s3cret")) as bmc:

        def echo(request: BaseHTTPRequestHandler, body: bytes) -> bool:
            sent = request.headers.get("Authorization", "")
            said = {"error": {"message": f"bad value s3cret in {sent}"}}
            saying(json.dumps(said), 400, "application/json")(request)
            return True

        bmc.trouble = echo
        assert talk(bmc, status, login="admin:s3cret") == "its BMC at BMC refuses: bad value *** in Basic *** (400)"


def test_only_a_url_that_can_be_a_session_is_deleted() -> None:
    for location in (
        "/redfish/v1/AccountService/Accounts/2",
        "/redfish/v1/Systems/1",
        "/redfish/v1/Sessions/../Systems",
    ):
        with fake_bmc(login=("admin", "s3cret"), basic=False) as bmc:

            def misled(request: BaseHTTPRequestHandler, body: bytes, bmc: FakeBmc = bmc, to: str = location) -> bool:
                if not request.path.endswith("/Sessions"):
                    return False
                _, _, headers = bmc.accept(request, body)
                saying("{}", 201, headers={**headers, "Location": to})(request)
                return True

            bmc.trouble = misled
            assert talk(bmc, status, login="admin:s3cret") == "on"
            assert [method for method, _, _ in bmc.received] == ["POST"], "the session is left to end by itself"


def test_a_locked_account_is_reported_as_the_bmc_says_it() -> None:
    said = {"error": {"@Message.ExtendedInfo": [{"MessageId": "X.1.0.Locked", "Message": "The account is locked."}]}}
    with serving(saying(json.dumps(said), 401)) as port:
        bmc = FakeBmc(port=port)
        assert talk(bmc, status, login="admin:s3cret") == (
            "its BMC at BMC rejects the credentials: The account is locked. "
            "(check the user and the password that the reference names)"
        )


# tests: why a BMC refuses


def test_the_reason_of_a_vendor_is_printed_first_and_uncut() -> None:
    reason = "Unable to perform the operation because the server is in Lifecycle Controller mode."
    said = {
        "error": {
            "code": "Base.1.8.GeneralError",
            "message": "A general error has occurred. " * 20,
            "@Message.ExtendedInfo": [
                {"MessageId": "Base.1.8.GeneralError", "Message": "A general error has occurred. " * 20},
                {"MessageId": "IDRAC.2.8.PSU501", "Message": reason, "MessageArgs": []},
            ],
        }
    }
    with fake_bmc() as bmc:

        def refuse(request: BaseHTTPRequestHandler, body: bytes) -> bool:
            if request.command == "POST":
                saying(json.dumps(said), 403, "application/json")(request)
            return request.command == "POST"

        bmc.trouble = refuse
        assert talk(bmc, switch(Power.OFF)) == f"its BMC at BMC refuses: {reason} (403)"


@pytest.mark.parametrize(
    ("info", "said"),
    [
        ({"Message": "%2 can't be %1.", "MessageArgs": ["Pxe", "Boot"]}, "Boot can't be Pxe. (400)"),
        ({"Message": "Is %1 or %3.", "MessageArgs": [7, None]}, "Is 7 or %3. (400)"),
        ({"MessageId": "Base.1.8.InsufficientPrivilege"}, "Base.1.8.InsufficientPrivilege (400)"),
        ({"MessageId": "Base.1.8.PropertyUnknown", "MessageArgs": ["Boot"]}, "Base.1.8.PropertyUnknown (Boot) (400)"),
        ({"MessageId": "Base.1.8.GeneralError"}, "See ExtendedInfo. (400)"),
        ({"Message": "No.", "Resolution": "Close the lid."}, "No. (400) (Close the lid.)"),
        ({"Message": "No.", "Resolution": "None."}, "No. (400)"),
    ],
)
def test_a_message_is_shown_with_its_arguments_its_id_or_its_recommendation(info: dict[str, Any], said: str) -> None:
    error = {"code": "Base.1.8.GeneralError", "message": "See ExtendedInfo.", "@Message.ExtendedInfo": [info]}
    with fake_bmc(allowed=("ForceOff",)) as bmc:

        def refuse(request: BaseHTTPRequestHandler, body: bytes) -> bool:
            if request.command == "POST":
                saying(json.dumps({"error": error}), 400, "application/json")(request)
            return request.command == "POST"

        bmc.trouble = refuse
        assert talk(bmc, switch(Power.OFF)) == f"its BMC at BMC refuses: {said}"


MONITOR = "/redfish/v1/TaskService/TaskMonitors/7"
TASK = "/redfish/v1/TaskService/Tasks/7"
LID = {"MessageId": "Vendor.1.0.LidOpen", "Message": "The chassis lid is open.", "MessageSeverity": "Critical"}
STARTED = {"MessageId": "TaskEvent.1.0.3.TaskStarted", "Message": "The task has started.", "Severity": "OK"}
REFUSED = {"error": {"@Message.ExtendedInfo": [{"MessageId": "Base.1.8.GeneralError", "Message": "x"}, LID]}}


def accepting(
    bmc: FakeBmc,
    monitor: tuple[int, dict[str, Any]],
    task: dict[str, Any] | None,
    only: str = "Reset",
    location: str = MONITOR,
) -> None:
    """Answers actions with 202 and a task, does nothing, and reports the task as given."""

    def trouble(request: BaseHTTPRequestHandler, body: bytes) -> bool:
        if request.command == "POST" and only in request.path + body.decode():
            bmc.received.append(("POST", request.path, json.loads(body)))
            headers = {"Location": location} if location else {}
            saying(json.dumps({"@odata.id": TASK, "TaskState": "New"}), 202, "application/json", headers)(request)
        elif request.path == MONITOR:
            saying(json.dumps(monitor[1]), monitor[0], "application/json")(request)
        elif request.path == TASK and task is not None:
            saying(json.dumps({"@odata.id": TASK, **task}), 200, "application/json")(request)
        else:
            return False
        return True

    bmc.trouble = trouble


@pytest.mark.parametrize(
    ("monitor", "task", "reason"),
    [
        ((202, {}), {"TaskState": "Exception", "Messages": [STARTED, LID]}, LID["Message"]),
        ((202, {}), {"TaskState": "Cancelled", "Messages": [{"MessageId": "A.L", "MessageArgs": ["2"]}]}, "A.L (2)"),
        ((202, {}), {"TaskState": "Completed", "TaskStatus": "Critical", "Messages": [LID]}, LID["Message"]),
        ((202, {}), {"TaskState": "Killed", "Messages": None}, "its task ended as Killed"),
        ((200, {"TaskState": "Exception", "Messages": [LID]}), None, LID["Message"]),
        ((400, REFUSED), None, LID["Message"]),
        ((500, {}), {"JobState": "Failed", "Message": "Unable to run it.", "MessageId": "PR21"}, "Unable to run it."),
    ],
    ids=["exception", "cancelled", "critical", "killed", "monitor", "monitor-400", "job"],
)  # fmt: skip
def test_a_failed_task_is_reported_at_once_with_the_reason_of_the_vendor(
    monitor: tuple[int, dict[str, Any]], task: dict[str, Any] | None, reason: str
) -> None:
    for goal, allowed in ((Power.OFF, ("ForceOff",)), (Power.CYCLE, ("ForceRestart",))):
        with fake_bmc(allowed=allowed) as bmc:
            accepting(bmc, monitor, task)
            started = time.monotonic()
            assert (
                talk(bmc, switch(goal), seconds=30) == f"its BMC at BMC accepted the change, and then failed: {reason}"
            )
            assert time.monotonic() - started < 15, "not at the deadline"
            assert bmc.resets == list(allowed)


def test_after_a_failed_task_the_next_reset_type_is_tried() -> None:
    with fake_bmc(allowed=("ForceOff", "GracefulShutdown")) as bmc:
        accepting(bmc, (202, {}), {"TaskState": "Exception"}, only="ForceOff")
        assert talk(bmc, switch(Power.OFF)) == "off"
        assert bmc.resets == ["ForceOff", "GracefulShutdown"]


@pytest.mark.parametrize(
    "task",
    [{"TaskState": "Running"}, {"TaskState": 7, "Messages": {}}, {"TaskState": "Completed", "TaskStatus": "OK"}, None],
)
def test_a_task_without_a_failure_does_not_end_the_wait_for_the_power_state(task: dict[str, Any] | None) -> None:
    for location in (MONITOR, "https://elsewhere.example/x", ""):
        with fake_bmc(allowed=("ForceOff",)) as bmc:
            accepting(bmc, (404, {}), task, location=location)
            said = talk(bmc, switch(Power.OFF), seconds=3)
            assert said.startswith("is still on, not off, after 3 s"), said


def test_a_task_that_goes_on_at_the_deadline_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    shorten_pauses(monkeypatch, poll=0.1, resend=10.0, busy=0.2)
    with fake_bmc(systems=[FakeSystem(extra={"Boot": BOOT})], allowed=("ForceOff",)) as bmc:
        accepting(bmc, (202, {}), {"TaskState": "Running"})
        assert talk(bmc, switch(Power.OFF), seconds=3) == (
            "is still on, not off, after 3 s (its BMC at BMC accepted ForceOff: its task is Running)"
        )


def test_a_refused_restart_is_reported_with_the_reason_of_the_vendor() -> None:
    with fake_bmc(allowed=("ForceRestart",), systems=[FakeSystem(refuses=("ForceRestart",))]) as bmc:
        assert talk(bmc, switch(Power.CYCLE)) == "its BMC at BMC refuses: ForceRestart is not supported (400)"


# tests: answers with an encoding that was not requested


def raw_deflate(body: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(body) + packer.flush()


@pytest.mark.parametrize(
    ("encoding", "pack"),
    [
        ("gzip", gzip.compress),
        ("x-gzip", gzip.compress),
        ("deflate", zlib.compress),
        ("deflate", raw_deflate),
        ("gzip, identity", gzip.compress),
        ("gzip", bytes),
    ],
)
def test_a_compressed_answer_is_read(encoding: str, pack: Callable[[bytes], bytes]) -> None:
    with fake_bmc() as bmc:

        def packed(request: BaseHTTPRequestHandler, body: bytes) -> bool:
            status, said, headers = bmc.accept(request, body)
            headers["Content-Encoding"] = encoding
            saying(pack(json.dumps(said).encode()), status, "application/json", headers)(request)
            return True

        bmc.trouble = packed
        assert talk(bmc, status) == "on"
        assert talk(bmc, switch(Power.OFF)) == "off"


def bomb() -> bytes:
    return gzip.compress(b" " * (64 << 20))


@pytest.mark.parametrize(
    ("encoding", "make", "words"),
    [
        ("gzip", bomb, "sends an answer without end"),
        ("gzip, gzip", lambda: gzip.compress(bomb()), "sends an answer without end"),
        ("gzip", lambda: gzip.compress(b"{}" * 1000)[:20], "cut the connection"),
        ("gzip", lambda: b"\x1f\x8bnonsense that is not gzip", "sends an answer that is marked as gzip, but is not"),
        ("br", lambda: b"\x0b\x02\x80{}\x03", "sends an answer encoded as br, which was not asked for"),
    ],
    ids=["bomb", "bomb-in-bomb", "cut", "nonsense", "unknown"],
)
def test_a_broken_compressed_answer_is_reported(encoding: str, make: Callable[[], bytes], words: str) -> None:
    with serving(saying(make(), 200, "application/json", {"Content-Encoding": encoding})) as port:
        assert talk(FakeBmc(port=port), status, seconds=2).startswith(f"its BMC at BMC {words}")


# tests: one conversation at a time


def test_blades_behind_one_bmc_get_one_request_at_a_time_unless_the_policy_allows_more() -> None:
    answers: list[str] = []
    blades = [FakeSystem(f"b{number}") for number in range(8)]
    for most in (1, 4):
        with fake_bmc(systems=blades, hold=0.02) as bmc:
            setting = StepEnvironment({}, "/", bmc_parallel=most)
            answers.clear()

            def ask_one(name: str, setting: StepEnvironment = setting, bmc: FakeBmc = bmc) -> None:
                answers.append(talk(bmc, status, setting=setting, system_id=name))

            threads = [threading.Thread(target=ask_one, args=(blade.name,)) for blade in blades]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert answers == ["on"] * 8
            assert (bmc.most_talking <= most, bmc.most_talking > 1) == (True, most > 1)


# tests: proxies


def test_no_proxy_or_netrc_of_the_environment_is_used_unless_the_policy_says_so(
    probe: Probe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, str | None]] = []

    def proxy(request: BaseHTTPRequestHandler) -> None:
        asked.append((request.path, request.headers.get("Proxy-Authorization")))
        saying('{"RedfishVersion": "1"}' if request.path.endswith("/v1/") else "{}", 200, "application/json")(request)

    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login admin password n3trc\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    with serving(proxy) as port, fake_bmc(login=("admin", "n3trc")) as bmc, serving(saying("page")) as page:
        environ = {"HTTP_PROXY": f"http://u:p@127.0.0.1:{port}", "no_proxy": ""}
        monkeypatch.setenv("HTTP_PROXY", environ["HTTP_PROXY"])
        host = HostSpec("node01", bmc=Bmc(bmc.url))
        assert "requires credentials" in probe({"redfish": {"power": "on"}}, host)[1]
        assert probe({"http": f"http://127.0.0.1:{page}/"}, host)[0] == "pass"
        assert asked == []
        for how in ("environment", f"http://127.0.0.1:{port}"):
            setting = StepEnvironment(environ, "/", proxy=how)
            talk(bmc, status, setting=setting, path=SYSTEM)
            with_login = "Basic dTpw" if how == "environment" else None
            assert asked[0] == (f"{bmc.url}/redfish/v1/", with_login)
            asked.clear()
        assert talk(
            bmc, status, setting=StepEnvironment({**environ, "no_proxy": "127.0.0.1"}, "/", proxy="environment")
        )
        assert asked == []


# tests: TLS


def test_an_old_tls_version_is_used_only_for_a_bmc_declared_with_it(certificate: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    bmc = FakeBmc()
    with serving(bmc, context=context, keep_alive=True) as bmc.port:
        where = f"https://127.0.0.1:{bmc.port}"

        def power(**declared: Any) -> str:
            try:
                return ask(
                    Bmc(where, verify_tls=False, **declared),
                    StepEnvironment({}, "/"),
                    timedelta(seconds=5),
                    lambda client: System(client).power(),
                )
            except BmcError as error:
                return f"{error.message} ({error.hint})".replace(where, "BMC")

        assert power() == (
            "its BMC at BMC does not speak TLS as it should (bmhctl set HOST --tls-min-version 1.0 accepts old TLS)"
        )
        assert power(tls_min_version="1.2").startswith("its BMC at BMC does not speak TLS")
        assert power(tls_min_version="1.0") == "on"
        assert power(tls_min_version="1.1") == "on"


# tests: soft-off, light and next boot


def test_soft_off_shuts_the_operating_system_down_and_forces_only_with_then_off() -> None:
    with fake_bmc(systems=[FakeSystem(lag=0.5)]) as bmc:
        assert (talk(bmc, switch(Power.SOFT_OFF)), bmc.resets) == ("off", ["GracefulShutdown"])
    with fake_bmc(systems=[FakeSystem(ignores=("GracefulShutdown",))]) as bmc:
        assert talk(bmc, switch(Power.SOFT_OFF), seconds=3) == (
            "is still on, not off, after 3 s (its BMC at BMC accepted GracefulShutdown: check the BMC itself)"
        )
        assert bmc.resets == ["GracefulShutdown"], "an operating system is asked once"
        bmc.received.clear()
        assert (
            talk(bmc, lambda system: PowerSwitch(system).set_power(Power.SOFT_OFF, force_after=0.5)) == "off by force"
        )
        assert bmc.resets == ["GracefulShutdown", "ForceOff"]
    with fake_bmc(allowed=("On", "ForceOff")) as bmc:
        assert talk(bmc, lambda system: PowerSwitch(system).set_power(Power.SOFT_OFF, force_after=5)) == (
            "its BMC at BMC can't shut it down: it allows On, ForceOff"
        )
        assert bmc.received == [], "nothing is forced at once"


@pytest.mark.parametrize(
    ("extra", "lit", "sent"),
    [
        ({"LocationIndicatorActive": False}, True, [{"LocationIndicatorActive": True}]),
        ({"LocationIndicatorActive": True, "IndicatorLED": "Lit"}, False, [{"LocationIndicatorActive": False}]),
        ({"IndicatorLED": "Off"}, True, [{"IndicatorLED": "Blinking"}]),
        (
            {"IndicatorLED": "Off", "IndicatorLED@Redfish.AllowableValues": ["Lit", "Off"]},
            True,
            [{"IndicatorLED": "Lit"}],
        ),
        ({"IndicatorLED": "Lit"}, False, [{"IndicatorLED": "Off"}]),
        ({"IndicatorLED": "Off"}, False, []),
        ({"IndicatorLED": "Lit"}, True, [{"IndicatorLED": "Blinking"}]),
        (
            {"IndicatorLED": "Blinking", "IndicatorLED@Redfish.AllowableValues": ["Lit", "Blinking"]},
            False,
            [{"IndicatorLED": "Lit"}],
        ),
    ],
)
def test_the_indicator_light_is_switched_and_its_new_state_is_read(
    extra: dict[str, Any], lit: bool, sent: list[dict[str, Any]]
) -> None:
    with fake_bmc(systems=[FakeSystem(extra=extra)]) as bmc:
        assert talk(bmc, lambda system: identify(system, lit)) == ("on" if lit else "off")
        assert [body for _, _, body in bmc.received] == sent


def test_the_light_of_a_chassis_is_switched_only_when_no_other_system_is_in_it() -> None:
    link = {"Links": {"Chassis": [{"@odata.id": "/redfish/v1/Chassis/1"}]}}
    alone = {"IndicatorLED": "Off", "Links": {"ComputerSystems": [{"@odata.id": SYSTEM}]}}
    both = {"IndicatorLED": "Off", "Links": {"ComputerSystems": [{"@odata.id": SYSTEM}, {"@odata.id": SYSTEM + "2"}]}}
    for chassis, said in ((alone, "on"), (both, "its BMC at BMC has no indicator light for this host")):
        with fake_bmc(systems=[FakeSystem(extra=link)], resources={"/redfish/v1/Chassis/1": dict(chassis)}) as bmc:
            assert talk(bmc, lambda system: identify(system, True)) == said
            assert len(bmc.received) == (said == "on")


def changing(bmc: FakeBmc, change: Callable[[str, dict[str, Any]], int], said: dict[str, Any] | None = None) -> None:
    """Pass each PATCH to ``change``, which returns the status; with 0 the BMC acts as usual."""

    def trouble(request: BaseHTTPRequestHandler, body: bytes) -> bool:
        code = change(request.path, json.loads(body)) if request.command == "PATCH" else 0
        if code:
            saying("" if code == 204 else json.dumps(said or {}), code, "application/json")(request)
        return code != 0

    bmc.trouble = trouble


def test_the_light_of_the_chassis_is_switched_where_the_system_refuses() -> None:
    chassis = {"IndicatorLED": "Off", "Links": {"ComputerSystems": [{"@odata.id": SYSTEM}]}}
    system = FakeSystem(extra={"IndicatorLED": "Off", "Links": {"Chassis": [{"@odata.id": "/redfish/v1/Chassis/1"}]}})
    with fake_bmc(systems=[system], resources={"/redfish/v1/Chassis/1": chassis}) as bmc:
        changing(bmc, lambda path, _: 400 if path == SYSTEM else 0)
        assert talk(bmc, lambda system: identify(system, True)) == "on"
        assert bmc.received == [("PATCH", "/redfish/v1/Chassis/1", {"IndicatorLED": "Blinking"})]


def test_a_light_that_was_off_and_is_shown_steady_instead_of_blinking_is_on() -> None:
    with fake_bmc(systems=[FakeSystem(extra={"IndicatorLED": "Off"})]) as bmc:

        def steady(_: str, body: dict[str, Any]) -> int:
            bmc.systems[0].changes["IndicatorLED"] = "Off" if body["IndicatorLED"] == "Off" else "Lit"
            return 204

        changing(bmc, steady)
        assert talk(bmc, lambda system: identify(system, True)) == "on"


BOOT = {"BootSourceOverrideEnabled": "Disabled", "BootSourceOverrideTarget": "None"}


def test_the_next_boot_is_set_once_and_read_back(probe: Probe) -> None:
    with fake_bmc(systems=[FakeSystem(extra={"Boot": BOOT})]) as bmc:
        assert talk(bmc, lambda system: boot_once(system, BootTarget.PXE)) == "pxe"
        assert talk(bmc, lambda system: boot_once(system, BootTarget.BIOS)) == "bios"
        assert talk(bmc, lambda system: boot_once(system, BootTarget.NONE)) == "none"
        assert [body["Boot"] for _, _, body in bmc.received] == [
            {"BootSourceOverrideEnabled": "Once", "BootSourceOverrideTarget": "Pxe"},
            {"BootSourceOverrideEnabled": "Once", "BootSourceOverrideTarget": "BiosSetup"},
            {"BootSourceOverrideEnabled": "Disabled"},
        ]
        bmc.received.clear()
        step = {"redfish": {"boot_once": "pxe", "power": "cycle"}}
        assert probe(step, HostSpec("node01", bmc=Bmc(bmc.url)), group="cleanup") == (
            "pass",
            "boots once from pxe, power on",
        )
        assert [method for method, _, _ in bmc.received] == ["PATCH", "POST"]


def test_a_next_boot_that_the_bmc_does_not_allow_or_show_is_reported() -> None:
    boot = {**BOOT, "BootSourceOverrideTarget@Redfish.AllowableValues": ["None", "Hdd", "Cd"]}
    with fake_bmc(systems=[FakeSystem(extra={"Boot": boot})]) as bmc:
        assert talk(bmc, lambda system: boot_once(system, BootTarget.PXE)) == (
            "its BMC at BMC can't boot from pxe: it allows None, Hdd, Cd"
        )
        assert bmc.received == []

        def ignore(request: BaseHTTPRequestHandler, body: bytes) -> bool:
            if request.command == "PATCH":
                saying("{}", 200, "application/json")(request)
            return request.command == "PATCH"

        bmc.trouble = ignore
        assert talk(bmc, lambda system: boot_once(system, BootTarget.CD), seconds=3) == (
            "its BMC at BMC accepted booting once from cd, but shows Disabled, None after 3 s (check the BMC itself)"
        )


@pytest.mark.parametrize(
    ("allowed", "said"),
    [
        ({"BootSourceOverrideTarget@Redfish.AllowableValues": ["None", "Pxe", "UsbCd"]}, "cd"),
        ({"BootSourceOverrideTarget@Redfish.AllowableValues": ["None", "Cd", "Pxe", "UsbCd"]}, "cd"),
        (
            {"BootSourceOverrideEnabled@Redfish.AllowableValues": ["Disabled", "Continuous"]},
            "its BMC at BMC can't boot only once from cd: it allows Disabled, Continuous",
        ),
    ],
)
def test_the_next_boot_uses_the_bmcs_name_of_the_device_and_needs_once(allowed: dict[str, Any], said: str) -> None:
    with fake_bmc(systems=[FakeSystem(extra={"Boot": {**BOOT, **allowed}})]) as bmc:
        assert talk(bmc, lambda system: boot_once(system, BootTarget.CD)) == said
        sent = [body["Boot"]["BootSourceOverrideTarget"] for _, _, body in bmc.received]
        assert sent == (["UsbCd"] if said == "cd" else [])


def test_the_next_boot_keeps_the_mode_uefi() -> None:
    boot = {**BOOT, "BootSourceOverrideMode": "UEFI"}
    for is_obeyed in True, False:
        with fake_bmc(systems=[FakeSystem(extra={"Boot": boot})]) as bmc:

            def revert(_: str, body: dict[str, Any], bmc: FakeBmc = bmc, is_obeyed: bool = is_obeyed) -> int:
                mode = body["Boot"].get("BootSourceOverrideMode", "Legacy")
                mode = mode if is_obeyed else "Legacy"
                bmc.systems[0].changes["Boot"] = {**boot, **body["Boot"], "BootSourceOverrideMode": mode}
                return 204

            changing(bmc, revert)
            said = talk(bmc, lambda system: boot_once(system, BootTarget.PXE), seconds=3)
            lost = "accepted booting once from pxe in UEFI mode, but shows Once, Pxe, Legacy after 3 s"
            assert said == ("pxe" if is_obeyed else f"its BMC at BMC {lost} (check the BMC itself)")
    legacy = {**BOOT, "BootSourceOverrideMode": "Legacy"}
    with fake_bmc(systems=[FakeSystem(extra={"Boot": legacy})]) as bmc:

        def uefi_only(_: str, body: dict[str, Any]) -> int:
            bmc.systems[0].changes["Boot"] = {**body["Boot"], "BootSourceOverrideMode": "UEFI"}
            return 204

        changing(bmc, uefi_only)
        assert talk(bmc, lambda system: boot_once(system, BootTarget.HTTP)) == "http", "it has no other mode"


@pytest.mark.parametrize(
    ("link", "place", "code"),
    [({}, "SD", 400), ({"SettingsObject": {"@odata.id": f"{SYSTEM}/Settings"}}, "Settings", 200)],
    ids=["refused, without a link", "accepted without an effect"],
)
def test_a_change_that_the_system_refuses_is_sent_to_its_settings(link: Any, place: str, code: int) -> None:
    system = FakeSystem(extra={"Boot": dict(BOOT), "@Redfish.Settings": link})
    with fake_bmc(systems=[system], resources={f"{SYSTEM}/{place}": {"Boot": dict(BOOT)}}) as bmc:
        changing(bmc, lambda path, _: code if path == SYSTEM else 0)
        assert talk(bmc, lambda system: boot_once(system, BootTarget.PXE)) == "pxe"
        assert [path for _, path, _ in bmc.received] == [f"{SYSTEM}/{place}"]


@pytest.mark.parametrize("without", [412, 428])
def test_an_etag_that_changed_since_it_was_read_is_read_again(without: int) -> None:
    system = FakeSystem(extra={"IndicatorLED": "Off", "@odata.etag": '"a"'})
    tags: list[str | None] = []
    with fake_bmc(systems=[system]) as bmc:

        def strict(request: BaseHTTPRequestHandler, body: bytes) -> bool:
            if request.command != "PATCH":
                return False
            system.extra["@odata.etag"] = '"b"'  # another client changed something, or the BMC itself
            tags.append(request.headers.get("If-Match"))
            if tags[-1] == '"b"':
                return False
            saying("{}", 412 if tags[-1] else without)(request)
            return True

        bmc.trouble = strict
        assert talk(bmc, lambda system: identify(system, True)) == "on"
    assert (tags[0], tags[-1]) == ('"a"', '"b"')


@pytest.mark.parametrize(
    ("shown", "wanted"), [*(('W/"a"', tag) for tag in ('W/"a"', '"a"', "*", None)), ("", "*"), ("", None)]
)
def test_a_change_is_sent_with_the_etag_that_the_bmc_accepts(shown: str, wanted: str | None) -> None:
    system = FakeSystem(extra={"IndicatorLED": "Off", "@odata.etag": shown})
    with fake_bmc(systems=[system]) as bmc:

        def strict(request: BaseHTTPRequestHandler, body: bytes) -> bool:
            tag = request.headers.get("If-Match")
            is_refused = request.command == "PATCH" and tag != wanted
            if is_refused:
                saying("{}", 400 if tag == "" else 412)(request)
            return is_refused

        bmc.trouble = strict
        assert talk(bmc, lambda system: identify(system, True)) == "on"


@pytest.mark.parametrize("within", [True, False])
def test_the_reason_of_a_refusal_is_read_from_the_refused_property(within: bool) -> None:
    info = {"Message": "The property is read-only.", "MessageId": "Base.1.8.PropertyNotWritable", "Severity": "Warning"}
    said = {"Boot@Message.ExtendedInfo": [info]}
    said = {"Boot": {"BootSourceOverrideTarget@Message.ExtendedInfo": [info]}} if within else said
    with fake_bmc(systems=[FakeSystem(extra={"Boot": BOOT})]) as bmc:
        changing(bmc, lambda *_: 400, said)
        assert talk(bmc, lambda system: boot_once(system, BootTarget.PXE)) == (
            "its BMC at BMC refuses: The property is read-only. (400)"
        )
        changing(bmc, lambda *_: 200, said)
        assert talk(bmc, lambda system: boot_once(system, BootTarget.PXE), seconds=3) == (
            "its BMC at BMC accepted booting once from pxe, but shows Disabled, None after 3 s "
            "(The property is read-only.)"
        )


# tests: further differences between BMCs


def test_a_redirect_is_followed_on_the_same_bmc_and_nowhere_else() -> None:
    with fake_bmc() as bmc:
        place = [SYSTEM + "/"]

        def move(request: BaseHTTPRequestHandler, body: bytes) -> bool:
            if request.path == SYSTEM:
                saying("", 308, headers={"Location": place[0]})(request)
            return request.path == SYSTEM

        bmc.trouble = move
        assert talk(bmc, status, path=SYSTEM) == "on"
        place[0] = "https://elsewhere.example/redfish/v1/Systems/1"
        assert talk(bmc, status, path=SYSTEM) == (
            "its BMC at BMC sends requests elsewhere: https://elsewhere.example/redfish/v1/Systems/1 "
            "(if its address is wrong: bmhctl set HOST --bmc … declares another)"
        )
        place[0] = f"https://127.0.0.1{SYSTEM}"
        assert talk(bmc, status, path=SYSTEM) == (
            f"its BMC at BMC sends requests elsewhere: {place[0]} (bmhctl set HOST --bmc redfish+https://… speaks TLS)"
        )
        place[0] = ""
        assert talk(bmc, status, path=SYSTEM) == (
            "its BMC at BMC sends requests elsewhere: it does not say where (if its address "
            "is wrong: bmhctl set HOST --bmc … declares another)"
        )
        place[0] = SYSTEM
        assert talk(bmc, status, path=SYSTEM) == (
            "its BMC at BMC redirects requests in a circle (if its address is wrong: "
            "bmhctl set HOST --bmc … declares another)"
        )


def test_systems_on_several_pages_are_all_counted() -> None:
    first = {
        "Members": [{"@odata.id": SYSTEM}],
        "Members@odata.nextLink": "/redfish/v1/Systems?$skip=1",
    }
    with fake_bmc(resources={"/redfish/v1/Systems": first}) as bmc:
        bmc.resources["/redfish/v1/Systems?$skip=1"] = {"Members": [{"@odata.id": "/redfish/v1/Systems/2"}]}
        assert talk(bmc, switch(Power.OFF)).startswith("its BMC at BMC has 2 systems")
        bmc.resources["/redfish/v1/Systems?$skip=1"] = first
        started = time.monotonic()
        assert talk(bmc, switch(Power.OFF)) == "its BMC at BMC never ends its list of systems"
        assert len([path for path in bmc.reads if "skip" in path]) == 2, "a page that comes again ends it"
        assert time.monotonic() - started < 5
        assert bmc.received == []


def test_a_request_is_retried_only_at_the_time_that_the_bmc_names() -> None:
    with fake_bmc() as bmc:
        asked: list[float] = []

        def busy(request: BaseHTTPRequestHandler, body: bytes) -> bool:
            asked.append(time.monotonic())
            if len(asked) == 1:
                saying("{}", 429, headers={"Retry-After": "1"})(request)
            return len(asked) == 1

        bmc.trouble = busy
        assert talk(bmc, status) == "on"
        assert asked[1] - asked[0] >= 1


def test_a_bmc_that_asks_to_wait_beyond_the_deadline_is_asked_shortly_before_it() -> None:
    with fake_bmc() as bmc:
        asked: list[float] = []
        full, wait = [True], ["600"]

        def busy(request: BaseHTTPRequestHandler, body: bytes) -> bool:
            asked.append(time.monotonic())
            is_busy = len(asked) == 1 or full[0]
            if is_busy:
                saying("{}", 503, headers={"Retry-After": wait[0]})(request)
            return is_busy

        bmc.trouble = busy
        assert talk(bmc, status, seconds=2) == (
            "its BMC at BMC refuses: Service Unavailable (503), for 2 s (the BMC asks to wait for 600 s)"
        )
        wait[0] = "1"
        said = talk(bmc, status, seconds=2.5)
        assert said == f"its BMC at BMC refuses: Service Unavailable (503), for 2.5 s{LATER}", "it waited as asked"
        full[0], wait[0] = False, "600"
        asked.clear()
        assert talk(bmc, status, seconds=7) == "on"
        assert asked[1] - asked[0] > 1.5, "not at once"


def test_a_changed_property_is_sent_with_its_etag_or_to_the_settings() -> None:
    settings = {"@Redfish.Settings": {"SettingsObject": {"@odata.id": f"{SYSTEM}/Settings"}}}
    system = FakeSystem(extra={"IndicatorLED": "Off", "@odata.etag": '"a1"', **settings})
    with fake_bmc(systems=[system], resources={f"{SYSTEM}/Settings": {"IndicatorLED": "Off"}}) as bmc:
        tags: list[tuple[str, str | None]] = []
        refusals = [412]

        def strict(request: BaseHTTPRequestHandler, body: bytes) -> bool:
            if request.command != "PATCH":
                return False
            tags.append((request.path, request.headers.get("If-Match")))
            if request.path.endswith("/Settings"):
                system.changes.update(json.loads(body))
            elif refusals:
                saying("{}", refusals.pop(0))(request)
                return True
            return False

        bmc.trouble = strict
        assert talk(bmc, lambda system: identify(system, True)) == "on"
        assert tags == [(SYSTEM, '"a1"'), (SYSTEM, "*")]
        tags.clear()
        refusals.append(405)
        assert talk(bmc, lambda system: identify(system, False)) == "off"
        assert tags == [(SYSTEM, '"a1"'), (f"{SYSTEM}/Settings", None)]
    boot = {"Boot": dict(BOOT), **settings}
    with fake_bmc(systems=[FakeSystem(extra=boot)], resources={f"{SYSTEM}/Settings": {"Boot": dict(BOOT)}}) as bmc:

        def next_start(request: BaseHTTPRequestHandler, body: bytes) -> bool:
            if request.command == "PATCH" and request.path == SYSTEM:
                saying("{}", 405)(request)
                return True
            return False

        bmc.trouble = next_start  # the settings show it, the system itself only after its next start
        assert talk(bmc, lambda system: boot_once(system, BootTarget.PXE)) == "pxe"


def test_a_reset_by_name_is_sent_once_and_its_effect_is_awaited_where_one_is_visible() -> None:
    with fake_bmc() as bmc:
        for kind, power in (("PushPowerButton", "off"), ("PushPowerButton", "on"), ("GracefulRestart", "on")):
            assert talk(bmc, lambda system, kind=kind: PowerSwitch(system).reset(kind)) is None
            assert talk(bmc, status) == power
        assert talk(bmc, lambda system: PowerSwitch(system).reset("Nmi")) is None
        assert bmc.resets == ["PushPowerButton", "PushPowerButton", "GracefulRestart", "Nmi"]
        bmc.received.clear()
        losing(bmc, acts=True)
        assert talk(bmc, lambda system: PowerSwitch(system).reset("Nmi")) == (
            "Nmi was sent, but not confirmed: its BMC at BMC cut the connection"
        )
        assert bmc.resets == ["Nmi"]


def test_a_power_state_unknown_before_a_restart_is_not_taken_as_a_restart() -> None:
    system = FakeSystem(restart_off=None, extra={"PowerState": None})
    with fake_bmc(systems=[system]) as bmc:
        threading.Timer(0.3, system.extra.clear).start()
        assert "no restart was seen" in talk(bmc, switch(Power.CYCLE), seconds=3)


def test_the_login_is_named_when_no_session_is_opened() -> None:
    def trouble(request: BaseHTTPRequestHandler, answer: Answer, logins: list[str]) -> bool:
        if request.path.endswith("/Sessions"):
            logins.append(request.path)
            answer(request)
        return request.path.endswith("/Sessions")

    limit = {"MessageId": "Base.1.8.SessionLimitExceeded", "Message": "Too many sessions."}
    full = saying(json.dumps({"error": {"@Message.ExtendedInfo": [limit]}}), 503, "application/json")
    with fake_bmc(login=("admin", "s3cret"), basic=False) as bmc:
        bmc.trouble = lambda request, _: trouble(request, full, [])
        assert talk(bmc, status, login="admin:s3cret", seconds=2) == (
            "its BMC at BMC opens no session: Too many sessions. (503), for 2 s "
            "(sessions of other clients, or of a killed command, end at the BMC's "
            "session timeout, or when you end them in the BMC)"
        )
    logins: list[str] = []
    with fake_bmc(login=("admin", "s3cret"), basic=False) as bmc:  # the last request to the other may come late
        bmc.trouble = lambda request, _: trouble(
            request, lambda each: each.connection.shutdown(socket.SHUT_RDWR), logins
        )
        assert talk(bmc, status, login="admin:s3cret") == "its BMC at BMC cut the connection at each of 3 logins"
        assert len(logins) == 3, "each may have opened a session"


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ("<html>Welcome</html>", "it gives no token"),
        ('{"@Message.ExtendedInfo": [{"Message": "Created.", "Severity": "OK"}]}', "it gives no token"),
        (
            '{"@Message.ExtendedInfo": [{"Message": "Change the password.", "Severity": "Critical"}]}',
            "Change the password.",
        ),
    ],
)
def test_a_login_without_a_token_is_not_taken_for_wrong_credentials(answer: str, why: str) -> None:
    with fake_bmc(login=("admin", "s3cret"), basic=False) as bmc:

        def trouble(request: BaseHTTPRequestHandler, body: bytes) -> bool:
            if request.path.endswith("/Sessions"):
                saying(answer)(request)
            return request.path.endswith("/Sessions")

        bmc.trouble = trouble
        said = talk(bmc, status, login="admin:s3cret")
        assert said == f"its BMC at BMC opens no session: {why} (200)"


def test_a_restart_is_sent_after_a_login_that_was_lost() -> None:
    with fake_bmc(login=("admin", "s3cret"), basic=False) as bmc:
        lost: list[str] = []

        def lose(request: BaseHTTPRequestHandler, body: bytes) -> bool:
            if request.path.endswith("/Sessions") and bmc.sessions == set() and len(lost) == 1:
                lost.append(request.path)
                request.connection.shutdown(socket.SHUT_RDWR)
                return True
            if request.path.endswith("Reset") and not lost:
                lost.append("the session has ended")
                bmc.sessions.clear()
            return False

        bmc.trouble = lose
        assert talk(bmc, switch(Power.CYCLE), login="admin:s3cret") == "on"
        assert (bmc.resets, len(lost)) == (["ForceRestart"], 2)


def test_a_session_is_requested_again_when_the_bmc_has_too_many() -> None:
    with fake_bmc(login=("admin", "s3cret"), basic=False) as bmc:
        full = [503, 503]

        def no_room(request: BaseHTTPRequestHandler, body: bytes) -> bool:
            if not request.path.endswith("/Sessions") or not full:
                return False
            saying("{}", full.pop())(request)
            return True

        bmc.trouble = no_room
        assert talk(bmc, status, login="admin:s3cret") == "on"
        assert bmc.sessions == set()
