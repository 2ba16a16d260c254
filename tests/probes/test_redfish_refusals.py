"""BMCs that refuse a change in one form, or for a while: what is sent after that, and which reason a user sees."""

from __future__ import annotations

import json
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest

from bmhctl.domain.model import BootTarget, Power
from bmhctl.probes.redfish_boot import boot_once, identify
from bmhctl.probes.redfish_system import System
from tests.probes.fake_bmc import FakeBmc, FakeSystem, fake_bmc, shorten_pauses, switch, talk
from tests.probes.servers import saying

SYSTEM = "/redfish/v1/Systems/1"
BOOT = {
    "BootSourceOverrideEnabled": "Continuous",
    "BootSourceOverrideTarget": "Hdd",
    "BootSourceOverrideMode": "UEFI",
}
REFUSES = "its BMC at BMC refuses: "


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    shorten_pauses(monkeypatch, poll=0.05, resend=0.5, busy=0.1)


def message(text: str, *, name: str = "Base.1.12.GeneralFailure", **more: Any) -> dict[str, Any]:
    """The body of an error with one message."""
    info = {"MessageId": name, "Message": text, **more}
    return {"error": {"code": "x", "message": "See the messages.", "@Message.ExtendedInfo": [info]}}


def refusing(bmc: FakeBmc, why: Callable[[BaseHTTPRequestHandler, bytes], tuple[int, dict[str, Any]] | None]) -> None:
    """Answer each change for which ``why`` returns a status and a body with these."""

    def trouble(request: BaseHTTPRequestHandler, body: bytes) -> bool:
        refused = why(request, body) if request.command != "GET" else None
        if refused is not None:
            saying(json.dumps(refused[1]), refused[0], "application/json")(request)
        return refused is not None

    bmc.trouble = trouble


def booting(target: BootTarget) -> Callable[[System], str]:
    return lambda system: boot_once(system, target)


@pytest.mark.parametrize(
    "name",
    [
        "UnableToModifyDuringSystemPOST",
        "ResetInProgress",
        "ResourceBeingFlashed",
        "ResourceTemporarilyUnavailable",
        "InvalidOperationForSystemState",
    ],
)
def test_a_change_is_sent_again_when_the_host_or_the_bmc_is_only_starting(name: str) -> None:
    with fake_bmc(systems=[FakeSystem(extra={"Boot": BOOT})]) as bmc:
        info = {"MessageId": f"iLO.2.37.{name}", "MessageArgs": ["BootSourceOverrideTarget"]}
        times = iter(range(3))
        refusing(bmc, lambda *_: (400, {"error": {"@Message.ExtendedInfo": [info]}}) if next(times, None) else None)
        next(times)
        assert talk(bmc, booting(BootTarget.PXE)) == "pxe"
        assert [body["Boot"]["BootSourceOverrideTarget"] for _, _, body in bmc.received] == ["Pxe"]


@pytest.mark.parametrize(
    ("target", "required", "sent"),
    [
        (BootTarget.NONE, b"Mode", {**BOOT, "BootSourceOverrideEnabled": "Disabled"}),
        (BootTarget.NONE, b"Target", {**BOOT, "BootSourceOverrideEnabled": "Disabled"}),
        (
            BootTarget.PXE,
            b"Mode",
            {**BOOT, "BootSourceOverrideEnabled": "Once", "BootSourceOverrideTarget": "Pxe"},
        ),
    ],
)
def test_the_next_boot_is_sent_with_what_the_bmc_shows_if_it_requires_that(
    target: BootTarget, required: bytes, sent: dict[str, Any]
) -> None:
    with fake_bmc(systems=[FakeSystem(extra={"Boot": BOOT})]) as bmc:
        missing = message(f"The property {required.decode()} is required")
        refusing(bmc, lambda _, body: None if b"Override" + required in body else (400, missing))
        assert talk(bmc, booting(target)) == target.value
        assert bmc.received == [("PATCH", SYSTEM, {"Boot": sent})]


@pytest.mark.parametrize(
    ("target", "source", "mode"), [(BootTarget.PXE, "Pxe", "Legacy"), (BootTarget.HTTP, "UefiHttp", "UEFI")]
)
def test_the_next_boot_is_sent_with_its_mode_to_a_bmc_that_ignores_it_without_one(
    target: BootTarget, source: str, mode: str
) -> None:
    with fake_bmc(systems=[FakeSystem(extra={"Boot": {**BOOT, "BootSourceOverrideMode": "Legacy"}})]) as bmc:
        refusing(bmc, lambda _, body: None if b"Mode" in body else (200, {}))
        assert talk(bmc, booting(target)) == target
        assert [body["Boot"] for _, _, body in bmc.received] == [
            {
                "BootSourceOverrideEnabled": "Once",
                "BootSourceOverrideTarget": source,
                "BootSourceOverrideMode": mode,
            }
        ]


def test_the_next_boot_over_http_is_sent_in_uefi_mode() -> None:
    with fake_bmc(systems=[FakeSystem(extra={"Boot": {**BOOT, "BootSourceOverrideMode": "Legacy"}})]) as bmc:
        assert talk(bmc, booting(BootTarget.HTTP)) == "http"
        assert bmc.systems[0].changes["Boot"]["BootSourceOverrideMode"] == "UEFI"
        bmc.systems[0].changes.clear()
        refusing(bmc, lambda _, body: (400, message("The mode is read-only")) if b"Mode" in body else None)
        assert talk(bmc, booting(BootTarget.HTTP)) == "its BMC at BMC refuses: The mode is read-only (400)"


def test_a_next_boot_that_the_bmc_keeps_for_ever_is_reported_with_the_command_that_ends_it() -> None:
    with fake_bmc(systems=[FakeSystem(extra={"Boot": {**BOOT, "BootSourceOverrideEnabled": "Disabled"}})]) as bmc:

        def trouble(request: BaseHTTPRequestHandler, body: bytes) -> bool:
            if request.command == "PATCH":
                bmc.systems[0].changes["Boot"] = {**json.loads(body)["Boot"], "BootSourceOverrideEnabled": "Continuous"}
                saying("", 204)(request)
            return request.command == "PATCH"

        bmc.trouble = trouble
        assert talk(bmc, booting(BootTarget.PXE), seconds=2) == (
            "its BMC at BMC accepted booting once from pxe, but shows Continuous, Pxe after 2 s"
            " (it boots from there every time, until bmhctl boot-once HOST none removes it)"
        )


@pytest.mark.parametrize("status", [412, 428])
@pytest.mark.parametrize("accepted", ['W/"7"', '"7"', "*"])
def test_an_action_is_sent_with_the_etag_of_its_system_to_a_bmc_that_requires_it(status: int, accepted: str) -> None:
    with fake_bmc(systems=[FakeSystem(power="Off", extra={"@odata.etag": 'W/"7"'})]) as bmc:
        missing = message("The request did not provide the required precondition")
        refusing(bmc, lambda request, _: None if request.headers.get("If-Match") == accepted else (status, missing))
        assert talk(bmc, switch(Power.ON)) == "on"
        assert bmc.resets == ["On"]


def test_an_action_is_sent_without_an_etag_to_a_bmc_that_refuses_one() -> None:
    with fake_bmc(systems=[FakeSystem(power="Off", extra={"@odata.etag": '"7"'})]) as bmc:
        refusing(bmc, lambda request, _: (412, {}) if request.headers.get("If-Match") else None)
        assert (talk(bmc, switch(Power.ON)), bmc.resets) == ("on", ["On"])


def test_the_id_of_a_message_is_read_as_old_bmcs_write_it() -> None:
    with fake_bmc(systems=[FakeSystem(power="Off")], allowed=("On",)) as bmc:
        info = {"MessageID": "iLO.0.10.PowerValueNotOptimal", "MessageArgs": ["Power is off"]}
        refusing(bmc, lambda *_: (400, {"error": {"message": "See the messages.", "@Message.ExtendedInfo": [info]}}))
        assert talk(bmc, switch(Power.ON)) == f"{REFUSES}{info['MessageID']} (Power is off) (400)"


LOCKED = "Lockdown mode is enabled"


def test_each_reason_is_shown_when_all_ways_to_restart_a_host_are_refused() -> None:
    with fake_bmc(allowed=("ForceRestart", "PowerCycle")) as bmc:
        reasons = {"ForceRestart": (403, message(LOCKED)), "PowerCycle": (400, message("PowerCycle is not supported"))}
        refusing(bmc, lambda _, body: reasons[json.loads(body)["ResetType"]])
        assert talk(bmc, switch(Power.CYCLE)) == f"{REFUSES}{LOCKED} (403); PowerCycle is not supported (400)"
        refusing(bmc, lambda *_: reasons["ForceRestart"])
        assert talk(bmc, switch(Power.CYCLE)) == f"{REFUSES}{LOCKED} (403)"


def test_each_reason_is_shown_when_the_system_and_its_settings_refuse_a_change() -> None:
    settings = {"SettingsObject": {"@odata.id": f"{SYSTEM}/Settings"}}
    system = FakeSystem(extra={"Boot": BOOT, "@Redfish.Settings": settings})
    with fake_bmc(systems=[system], resources={f"{SYSTEM}/Settings": {"Boot": BOOT}}) as bmc:
        refusing(bmc, lambda request, _: (400, message(LOCKED if request.path == SYSTEM else "Boot is read-only")))
        assert talk(bmc, booting(BootTarget.PXE)) == f"{REFUSES}{LOCKED} (400); Boot is read-only (400)"


def test_each_reason_is_shown_when_all_indicator_lights_are_refused() -> None:
    system = FakeSystem(extra={"IndicatorLED": "Off", "Links": {"Chassis": [{"@odata.id": "/redfish/v1/Chassis/1"}]}})
    chassis = {"IndicatorLED": "Off", "Links": {"ComputerSystems": [{"@odata.id": SYSTEM}]}}
    with fake_bmc(systems=[system], resources={"/redfish/v1/Chassis/1": chassis}) as bmc:
        refusing(bmc, lambda request, _: (400, message(LOCKED if request.path == SYSTEM else "it has no lamp")))
        assert talk(bmc, lambda system: identify(system, True)) == f"{REFUSES}{LOCKED} (400); it has no lamp (400)"
