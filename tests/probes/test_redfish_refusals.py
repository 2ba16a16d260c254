"""BMCs that refuse a change in one form, or for a while: what is sent after that, and which reason a user sees."""

from __future__ import annotations

import json
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest

from bmhctl.domain.bmc_commands import BootTarget, Power
from bmhctl.probes.redfish_boot import boot_once
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
    ["UnableToModifyDuringSystemPOST", "ResetInProgress", "ResourceBeingFlashed", "ResourceTemporarilyUnavailable"],
)
def test_a_change_is_sent_again_when_the_host_or_the_bmc_is_only_starting(name: str) -> None:
    with fake_bmc(systems=[FakeSystem(extra={"Boot": BOOT})]) as bmc:
        info = {"MessageId": f"iLO.2.37.{name}", "MessageArgs": ["BootSourceOverrideTarget"]}
        times = iter(range(3))
        refusing(bmc, lambda *_: (400, {"error": {"@Message.ExtendedInfo": [info]}}) if next(times, None) else None)
        next(times)
        assert talk(bmc, booting(BootTarget.PXE)) == "pxe"
        assert [body["Boot"]["BootSourceOverrideTarget"] for _, _, body in bmc.received] == ["Pxe"]


def test_the_id_of_a_message_is_read_as_old_bmcs_write_it() -> None:
    with fake_bmc(systems=[FakeSystem(power="Off")], allowed=("On",)) as bmc:
        info = {"MessageID": "iLO.0.10.InvalidOperationForSystemState", "MessageArgs": ["Power is off"]}
        refusing(bmc, lambda *_: (400, {"error": {"message": "See the messages.", "@Message.ExtendedInfo": [info]}}))
        assert talk(bmc, switch(Power.ON)) == f"{REFUSES}{info['MessageID']} (Power is off) (400)"
