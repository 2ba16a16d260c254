"""Images are inserted only into the virtual drive of this system, and the BMC shows them there."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest

from bmhctl.domain.model import Bmc, HostSpec
from bmhctl.domain.policy_parser import parse_policy
from bmhctl.errors import InvalidError
from tests.probes.conftest import Probe
from tests.probes.fake_bmc import FakeBmc, FakeSystem, fake_bmc, shorten_pauses
from tests.probes.servers import saying

IMAGE = "http://images.lab/noble.iso"
MANAGER = "/redfish/v1/Managers/bmc"
DRIVE = f"{MANAGER}/VirtualMedia/Cd"


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    shorten_pauses(monkeypatch, poll=0.05, resend=0.5, busy=0.1)


def media(*systems: str, has_actions: bool = True, **drive: Any) -> dict[str, Any]:
    """A manager of these systems with a USB stick and a CD drive."""
    target = {"target": f"{DRIVE}/Actions/VirtualMedia.InsertMedia"}
    actions = {
        "#VirtualMedia.InsertMedia": target,
        "#VirtualMedia.EjectMedia": {"target": f"{DRIVE}/Actions/VirtualMedia.EjectMedia"},
    }
    links = [{"@odata.id": f"/redfish/v1/Systems/{system}"} for system in systems]
    return {
        MANAGER: {"Links": {"ManagerForServers": links}, "VirtualMedia": {"@odata.id": f"{MANAGER}/VirtualMedia"}},
        f"{MANAGER}/VirtualMedia": {
            "Members": [{"@odata.id": f"{MANAGER}/VirtualMedia/Usb"}, {"@odata.id": DRIVE}]
        },
        f"{MANAGER}/VirtualMedia/Usb": {"MediaTypes": ["USBStick"], "Inserted": False},
        DRIVE: {
            "MediaTypes": ["CD", "DVD"], "Inserted": False, "Image": None,
            **({"Actions": actions} if has_actions else {}), **drive,
        },
    }  # fmt: skip


@pytest.fixture
def bmc() -> Iterator[FakeBmc]:
    with fake_bmc() as made:
        made.systems[0].extra["Links"] = {"ManagedBy": [{"@odata.id": MANAGER}]}
        made.resources = media(made.systems[0].name)
        yield made


def ask(
    probe: Probe, bmc: FakeBmc, more: dict[str, Any] | None = None, *, at: str = "", **demand: Any
) -> tuple[str, str]:
    spec = HostSpec("node01", bmc=Bmc(f"redfish+{bmc.url}{at}"), labels={"image": "noble"})
    return probe({"redfish": demand, "timeout": "3s", **(more or {})}, spec, group="prepare", most=4.0)


def actions(bmc: FakeBmc) -> list[str]:
    return [path.rsplit(".", 1)[-1] for _, path, _ in bmc.received]


@pytest.mark.slow
def test_an_image_is_inserted_and_ejected(probe: Probe, bmc: FakeBmc) -> None:
    assert ask(probe, bmc, insert="http://images.lab/{labels.image}.iso") == ("pass", f"inserted {IMAGE}")
    assert bmc.resources[DRIVE]["Image"] == IMAGE
    assert ask(probe, bmc, insert=IMAGE)[0] == "pass"
    assert actions(bmc) == ["InsertMedia"]  # an image that is already in the drive is not inserted again
    assert ask(probe, bmc, insert="http://images.lab/jammy.iso")[0] == "pass"
    assert actions(bmc) == ["InsertMedia", "EjectMedia", "InsertMedia"]
    assert ask(probe, bmc, eject=True) == ("pass", "ejected")
    assert ask(probe, bmc, eject=True) == ("pass", "nothing to eject")
    assert bmc.resources[DRIVE]["Inserted"] is False


@pytest.mark.slow
def test_a_host_is_installed_by_an_image_without_a_script(probe: Probe, bmc: FakeBmc) -> None:
    verdict, said = ask(probe, bmc, insert=IMAGE, boot_once="cd", power="cycle")
    assert (verdict, said) == ("pass", f"inserted {IMAGE}, boots once from cd, power on")
    assert [method for method, _, _ in bmc.received] == ["POST", "PATCH", "POST"]


def test_a_bmc_that_accepts_only_the_image_gets_only_the_image(probe: Probe, bmc: FakeBmc) -> None:
    bmc.media_keys = ("Image",)
    assert ask(probe, bmc, insert=IMAGE)[0] == "pass"
    assert [body for _, _, body in bmc.received][-1] == {"Image": IMAGE}


def test_the_transfer_protocol_is_sent_to_a_bmc_that_requires_it(probe: Probe, bmc: FakeBmc) -> None:
    bmc.media_keys = ("Image", "TransferMethod", "TransferProtocolType")

    def trouble(request: BaseHTTPRequestHandler, body: bytes) -> bool:
        is_refused = request.command == "POST" and b"TransferProtocolType" not in body
        if is_refused:
            saying("{}", 400)(request)
        return is_refused

    bmc.trouble = trouble
    assert ask(probe, bmc, insert=IMAGE)[0] == "pass"
    assert [body for _, _, body in bmc.received] == [
        {"Image": IMAGE, "TransferMethod": "Stream", "TransferProtocolType": "HTTP"}
    ]


def test_an_image_reported_only_by_its_name_counts_as_inserted(probe: Probe, bmc: FakeBmc) -> None:
    bmc.resources[DRIVE].update({"Image": None, "ImageName": IMAGE.rpartition("/")[2], "Inserted": True})
    assert ask(probe, bmc, insert=IMAGE)[0] == "pass"
    assert bmc.received == []


@pytest.mark.slow
def test_a_drive_without_actions_is_changed_by_its_properties(probe: Probe, bmc: FakeBmc) -> None:
    bmc.resources = media(bmc.systems[0].name, has_actions=False)
    assert ask(probe, bmc, insert=IMAGE)[0] == "pass"
    assert ask(probe, bmc, eject=True)[0] == "pass"
    assert [method for method, _, _ in bmc.received] == ["PATCH", "PATCH"]


def with_a_drive_before(bmc: FakeBmc, **drive: Any) -> str:
    """Add a virtual CD drive that is listed first and can't be changed; return its path."""
    path = f"{MANAGER}/VirtualMedia/RDOC1"
    bmc.resources[f"{MANAGER}/VirtualMedia"]["Members"].insert(0, {"@odata.id": path})
    bmc.resources[path] = {"MediaTypes": ["CD", "DVD"], "Inserted": False, "Image": None, **drive}

    def trouble(request: BaseHTTPRequestHandler, _: bytes) -> bool:
        is_refused = request.command != "GET" and request.path.startswith(path)
        if is_refused:
            saying("{}", 405)(request)
        return is_refused

    bmc.trouble = trouble
    return path


@pytest.mark.parametrize("has_actions", [True, False])
def test_an_image_is_inserted_into_a_drive_that_the_bmc_lets_clients_use(
    probe: Probe, bmc: FakeBmc, has_actions: bool
) -> None:
    bmc.resources = media(bmc.systems[0].name, has_actions=has_actions)
    with_a_drive_before(bmc)
    assert ask(probe, bmc, insert=IMAGE) == ("pass", f"inserted {IMAGE}")
    assert bmc.resources[DRIVE]["Image"] == IMAGE
    assert ask(probe, bmc, insert=IMAGE) == ("pass", f"inserted {IMAGE}")
    assert len(bmc.received) == 1


def test_no_image_is_left_in_another_drive_by_eject(probe: Probe, bmc: FakeBmc) -> None:
    first = with_a_drive_before(bmc)
    bmc.resources[DRIVE].update({"Image": IMAGE, "Inserted": True})
    assert ask(probe, bmc, eject=True) == ("pass", "ejected")
    assert actions(bmc) == ["EjectMedia"]
    for drive in (first, DRIVE):
        bmc.resources[drive].update({"Image": IMAGE, "Inserted": True})
    assert ask(probe, bmc, eject=True) == (
        "fail", f"its BMC at {bmc.url} refuses: Method Not Allowed (405)"
    )  # fmt: skip
    assert bmc.resources[DRIVE]["Inserted"] is False


def test_the_usual_path_of_an_action_is_used_if_the_drive_names_none(probe: Probe, bmc: FakeBmc) -> None:
    bmc.resources[DRIVE]["Actions"] = {"#VirtualMedia.InsertMedia": {}, "#VirtualMedia.EjectMedia": {}}
    assert ask(probe, bmc, insert=IMAGE)[0] == "pass"
    assert ask(probe, bmc, eject=True)[0] == "pass"
    assert actions(bmc) == ["InsertMedia", "EjectMedia"]


def answering(bmc: FakeBmc, method: str, part: str, answer: Callable[[bytes], tuple[int, str] | None]) -> None:
    """Answer each request with this method and this part of its path as ``answer`` does, unless it returns None."""

    def trouble(request: BaseHTTPRequestHandler, body: bytes) -> bool:
        found = answer(body) if request.command == method and part in request.path else None
        if found is not None:
            saying(json.dumps({"error": {"message": found[1]}}), found[0], "application/json")(request)
        return found is not None

    bmc.trouble = trouble


@pytest.mark.parametrize("systems", [("1",), (), ("1", "2")])
def test_a_drive_below_the_system_may_have_its_actions_below_a_manager_that_names_no_other_system(
    probe: Probe, bmc: FakeBmc, systems: tuple[str, ...]
) -> None:
    bmc.resources = media(*systems)
    own = "/redfish/v1/Systems/1/VirtualMedia"
    bmc.systems[0].extra["VirtualMedia"] = {"@odata.id": own}
    bmc.resources[own] = {"Members": [{"@odata.id": f"{own}/Cd"}]}
    bmc.resources[f"{own}/Cd"] = bmc.resources[DRIVE]
    bmc.resources[f"{MANAGER}/VirtualMedia"]["Members"] = []
    verdict, said = ask(probe, bmc, insert=IMAGE)
    if len(systems) < 2:
        assert (verdict, actions(bmc)) == ("pass", ["InsertMedia"])
    else:
        assert (verdict, bmc.received) == ("fail", [])
        assert "would change another drive" in said


@pytest.mark.parametrize("key", ["ManagedBy", "Managers"])
def test_the_manager_of_a_system_is_found_in_each_form_of_its_link(probe: Probe, bmc: FakeBmc, key: str) -> None:
    bmc.systems[0].extra["Links"] = {key: {"@odata.id": MANAGER}}
    bmc.resources[MANAGER]["Links"]["ManagerForServers"] = {"@odata.id": "/redfish/v1/Systems/1"}
    assert ask(probe, bmc, insert=IMAGE) == ("pass", f"inserted {IMAGE}")


def test_an_image_whose_url_the_bmc_shows_in_another_form_counts_as_inserted(probe: Probe, bmc: FakeBmc) -> None:
    def insert(_: bytes) -> tuple[int, str]:
        bmc.resources[DRIVE].update({"Image": "//images.lab/noble.iso/noble.iso", "Inserted": True})
        return 200, ""

    answering(bmc, "POST", "InsertMedia", insert)
    assert ask(probe, bmc, insert=IMAGE) == ("pass", f"inserted {IMAGE}")


@pytest.mark.parametrize("refused", ["", "EjectMedia"])
def test_an_earlier_image_that_an_empty_drive_still_names_is_ejected_if_possible(
    probe: Probe, bmc: FakeBmc, refused: str
) -> None:
    bmc.resources[DRIVE].update({"Image": "http://images.lab/old.iso", "ImageName": "old.iso", "Inserted": False})
    answering(bmc, "POST", refused or "InsertMedia", lambda _: (400, "no") if refused or left() else None)

    def left() -> bool:
        return bool(bmc.resources[DRIVE]["Image"])

    assert ask(probe, bmc, insert=IMAGE) == ("pass", f"inserted {IMAGE}")
    assert actions(bmc) == ["InsertMedia"] if refused else ["EjectMedia", "InsertMedia"]


def test_a_drive_that_is_not_connected_has_no_image(probe: Probe, bmc: FakeBmc) -> None:
    bmc.resources[DRIVE].update({"Image": IMAGE, "Inserted": None, "ConnectedVia": "NotConnected"})
    assert ask(probe, bmc, eject=True) == ("pass", "nothing to eject")


def test_a_login_for_the_image_is_sent_only_to_a_bmc_that_requires_one(probe: Probe, bmc: FakeBmc) -> None:
    bmc.media_keys = ("Image", "TransferMethod", "TransferProtocolType", "UserName", "Password")
    required = "the action requires the parameter UserName"
    answering(bmc, "POST", "InsertMedia", lambda body: None if b"UserName" in body else (400, required))
    assert ask(probe, bmc, insert=IMAGE) == ("pass", f"inserted {IMAGE}")
    assert [body for _, _, body in bmc.received] == [
        {
            "Image": IMAGE,
            "TransferMethod": "Stream",
            "TransferProtocolType": "HTTP",
            "UserName": "none",
            "Password": "none",
        }
    ]


def test_the_reason_why_the_drives_can_not_be_read_is_shown(probe: Probe, bmc: FakeBmc) -> None:
    answering(bmc, "GET", "/VirtualMedia", lambda _: (403, "Not licensed to perform this request"))
    assert ask(probe, bmc, insert=IMAGE) == (
        "fail",
        f"its BMC at {bmc.url} has no virtual CD drive for /redfish/v1/Systems/1"
        " (refuses: Not licensed to perform this request (403))",
    )


def test_each_reason_is_shown_when_an_image_is_refused_in_every_form(probe: Probe, bmc: FakeBmc) -> None:
    def trouble(request: BaseHTTPRequestHandler, body: bytes) -> bool:
        if request.command == "POST":
            is_unknown = b"TransferMethod" in body
            why = "TransferMethod is unknown" if is_unknown else "the remote file location is not accessible"
            saying(json.dumps({"error": {"message": why}}), 400, "application/json")(request)
        return request.command == "POST"

    bmc.trouble = trouble
    assert ask(probe, bmc, insert=IMAGE) == (
        "fail",
        f"its BMC at {bmc.url} refuses: the remote file location is not accessible (400);"
        " TransferMethod is unknown (400)",
    )


@pytest.mark.parametrize("systems", [(), ("1", "other")])
def test_a_drive_that_may_belong_to_another_system_is_not_changed(
    probe: Probe, bmc: FakeBmc, systems: tuple[str, ...]
) -> None:
    bmc.systems.append(FakeSystem("2"))
    bmc.resources = media(*systems)
    verdict, said = ask(probe, bmc, at="/redfish/v1/Systems/1", insert=IMAGE)
    assert verdict == "fail"
    assert "has no virtual CD drive for" in said
    assert bmc.received == []


@pytest.mark.parametrize("links", [{}, {"ManagerForServers": []}])
def test_a_manager_that_names_no_system_is_that_of_the_only_system(
    probe: Probe, bmc: FakeBmc, links: dict[str, Any]
) -> None:
    bmc.resources[MANAGER]["Links"] = links
    assert ask(probe, bmc, at="/redfish/v1/Systems/1", insert=IMAGE) == ("pass", f"inserted {IMAGE}")


@pytest.mark.slow
def test_an_image_that_the_bmc_never_reports_fails(probe: Probe, bmc: FakeBmc) -> None:
    bmc.resources[DRIVE]["Actions"]["#VirtualMedia.InsertMedia"]["target"] = f"{DRIVE}/Actions/VirtualMedia.EjectMedia"
    verdict, said = ask(probe, bmc, insert=IMAGE)
    assert verdict == "fail"
    late = "InsertMedia was sent; its BMC"  # the deadline comes while the state is read, as on a busy machine
    assert "accepted InsertMedia, but does not show the change" in said or late in said


def test_an_action_that_names_another_drive_is_refused(probe: Probe, bmc: FakeBmc) -> None:
    bmc.resources[DRIVE]["Actions"]["#VirtualMedia.InsertMedia"]["target"] = (
        "/redfish/v1/Managers/x/VirtualMedia/Cd/Insert"
    )
    verdict, said = ask(probe, bmc, insert=IMAGE)
    assert (verdict, bmc.received) == ("fail", [])
    assert "would change another drive" in said


@pytest.mark.parametrize(
    ("demand", "message"),
    [
        ({"insert": "ftp://images/x.iso"}, "must be a URL such as"),
        ({"insert": "http://u:p@images/x.iso"}, "must be a URL such as"),
        ({"insert": "http://images/{param.imag}.iso"}, "unknown placeholder {param.imag}"),
        ({"eject": "yes"}, "eject must be true or false"),
        ({"eject": False}, "asks for nothing"),
    ],
)
def test_an_invalid_redfish_step_is_refused(demand: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidError, match=message):
        parse_policy({"prepare": {"x": {"redfish": demand, "params": {"image": "[a-z]+"}}}})
