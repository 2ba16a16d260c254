"""Answers of a BMC, from small servers that misbehave."""

from __future__ import annotations

import os
import socket
import time
from datetime import timedelta
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from threading import Event

import pytest

from bmhctl.domain.bmc_address import Endpoint
from bmhctl.domain.model import Bmc, HostSpec
from bmhctl.probes.credentials import BmcError, credentials
from bmhctl.probes.redfish_conversation import ask, endpoint
from bmhctl.probes.redfish_hardware import hardware
from bmhctl.probes.step_environment import StepEnvironment
from tests.probes.conftest import Probe
from tests.probes.fake_bmc import LATER
from tests.probes.servers import Answer, closed_port, filtered, redfish, saying, serving, silence

SYSTEM: dict[str, object] = {"Id": "1", "PowerState": "On", "Status": {"State": "Enabled", "Health": "OK"}}
DEMAND: dict[str, object] = {"redfish": {"health": "OK", "power": "on"}}


def at(
    port: int, *, system: str | None = "1", scheme: str = "http", verify: bool = True, login: str | None = None
) -> Bmc:
    return Bmc(f"{scheme}://127.0.0.1:{port}", None, system, login, verify)


def host(bmc: Bmc | None) -> HostSpec:
    return HostSpec("node01", bmc=bmc)


@pytest.mark.parametrize(
    ("address", "system", "where"),
    [
        (
            "redfish+https://10.0.1.11/redfish/v1/Systems/1",
            None,
            ("https://10.0.1.11", "/redfish/v1", "/redfish/v1/Systems/1"),
        ),
        (
            "redfish+http://10.0.1.11:8000/redfish/v1/Systems/1/",
            None,
            ("http://10.0.1.11:8000", "/redfish/v1", "/redfish/v1/Systems/1"),
        ),
        ("redfish://bmc.lab/redfish/v1/Systems/1", None, ("https://bmc.lab", "/redfish/v1", "/redfish/v1/Systems/1")),
        (
            "redfish-virtualmedia://10.0.1.11/redfish/v1/Systems/a-b",
            None,
            ("https://10.0.1.11", "/redfish/v1", "/redfish/v1/Systems/a-b"),
        ),
        (
            "redfish-virtualmedia+http://10.0.1.11/redfish/v1/Systems/1",
            None,
            ("http://10.0.1.11", "/redfish/v1", "/redfish/v1/Systems/1"),
        ),
        (
            "idrac-redfish://10.0.1.11",
            "System.Embedded.1",
            ("https://10.0.1.11", "/redfish/v1", "/redfish/v1/Systems/System.Embedded.1"),
        ),
        ("idrac-virtualmedia+https://[fd00::1]:443", None, ("https://[fd00::1]:443", "/redfish/v1", None)),
        ("http://127.0.0.1:8000", "System-1", ("http://127.0.0.1:8000", "/redfish/v1", "/redfish/v1/Systems/System-1")),
        (
            "https://127.0.0.1:8000/",
            "/redfish/v1/Systems/9",
            ("https://127.0.0.1:8000", "/redfish/v1", "/redfish/v1/Systems/9"),
        ),
        ("https://127.0.0.1:8000", None, ("https://127.0.0.1:8000", "/redfish/v1", None)),
        (
            "ilo5-virtualmedia://10.0.1.11/redfish/v1/Systems/1",
            None,
            ("https://10.0.1.11", "/redfish/v1", "/redfish/v1/Systems/1"),
        ),
    ],
)
def test_every_form_of_bmc_address_in_manifests_names_a_service_and_a_system(
    address: str, system: str | None, where: tuple[str, str, str | None]
) -> None:
    assert endpoint(Bmc(address, system_id=system)) == Endpoint(*where)


@pytest.mark.parametrize("address", ["ipmi://10.0.1.11", "ilo4://10.0.1.11", "libvirt://10.0.1.11"])
def test_a_bmc_address_without_redfish_is_refused_with_an_alternative(address: str, probe: Probe) -> None:
    assert probe(DEMAND, host(Bmc(address))) == (
        "fail",
        f"its BMC address {address} does not use Redfish (redfish+https://… does; for ipmi:// declare a check of kind "
        "command that calls ipmitool: see examples/lab/ipmi-power.sh)",
    )


@pytest.mark.parametrize(
    ("changes", "verdict", "said"),
    [
        ({}, "pass", "health OK, power on"),
        ({"Status": {"State": "Enabled", "Health": "Critical"}}, "fail", "health Critical, power on"),
        ({"PowerState": "Off"}, "fail", "health OK, power off"),
        ({"Status": {"State": "Enabled"}}, "unknown", "health unknown, power on"),
        ({"Status": None}, "unknown", "health unknown, power on"),
        ({"PowerState": None}, "unknown", "health OK, power unknown"),
        ({"Status": None, "PowerState": "Off"}, "fail", "health unknown, power off"),
        ({"PowerState": None, "Status": {"Health": "Warning"}}, "fail", "health Warning, power unknown"),
    ],
)
def test_a_value_that_the_bmc_does_not_report_is_unknown_and_never_passes(
    changes: dict[str, object], verdict: str, said: str, probe: Probe
) -> None:
    with serving(redfish({**SYSTEM, **changes})) as port:
        assert probe(DEMAND, host(at(port))) == (verdict, said)


def test_inspect_returns_the_hardware_that_the_bmc_reports() -> None:
    report: dict[str, object] = {
        "Manufacturer": "Acme\x1b[31m\n",
        "Model": " X 9 ",
        "SerialNumber": "",
        "MemorySummary": {"TotalSystemMemoryGiB": 256.0},
        "ProcessorSummary": {"Count": 2, "CoreCount": 64, "LogicalProcessorCount": 128},
    }
    setting = StepEnvironment({}, "/")
    with serving(redfish({**SYSTEM, **report}, {**SYSTEM, "Id": "2", "MemorySummary": None, "Model": 7})) as port:
        assert ask(at(port), setting, timedelta(seconds=5), hardware) == {
            "vendor": "Acme[31m",
            "model": "X 9",
            "memory": "256GiB",
            "sockets": 2,
            "cpus": 128,
            "health": "OK",
        }
        assert ask(at(port, system="2"), setting, timedelta(seconds=5), hardware) == {"health": "OK"}


def test_a_bmc_with_one_system_needs_no_system_id(probe: Probe) -> None:
    with serving(redfish(SYSTEM)) as port:
        assert probe(DEMAND, host(at(port, system=None))) == ("pass", "health OK, power on")
    with serving(redfish(SYSTEM, {**SYSTEM, "Id": "2"})) as port:
        assert probe(DEMAND, host(at(port, system=None))) == (
            "fail",
            f"its BMC at http://127.0.0.1:{port} has 2 systems, and the host declares none of them "
            "(bmhctl set node01 --bmc-system ID; they are 1, 2)",
        )
        assert probe(DEMAND, host(at(port, system="3"))) == (
            "fail",
            f"its BMC at http://127.0.0.1:{port} has no system /redfish/v1/Systems/3 (it has 1, 2)",
        )
    with serving(redfish()) as port:
        assert probe(DEMAND, host(at(port, system=None))) == (
            "fail",
            f"its BMC at http://127.0.0.1:{port} has no systems",
        )


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (
            saying("<html><body>Log in</body></html>"),
            "its BMC at {where} is not a Redfish service: its answers are not JSON objects",
        ),
        (saying("not found", 404), "its BMC at {where} is not a Redfish service"),
        (
            saying("[]", content_type="application/json"),
            "its BMC at {where} is not a Redfish service: its answers are not JSON objects",
        ),
        (
            saying("{", content_type="application/json"),
            "its BMC at {where} is not a Redfish service: its answers are not JSON objects",
        ),
        (saying("", 500), "its BMC at {where} refuses: "),
        (saying('{"error": {"message": "a\\nb\\u001b[31m"}}', 400, "application/json"), "its BMC at {where} refuses: "),
    ],
    ids=["html", "404", "list", "torn", "500", "400"],
)
def test_a_server_that_is_not_a_bmc_is_reported_in_one_line(answer: Answer, said: str, probe: Probe) -> None:
    with serving(answer) as port:
        verdict, words = probe(DEMAND, host(at(port)))
    assert (verdict, words.startswith(said.format(where=f"http://127.0.0.1:{port}"))) == ("fail", True), words


@pytest.mark.slow
def test_a_bmc_that_is_down_silent_or_unknown_fails_within_the_timeout(probe: Probe) -> None:
    port = closed_port()
    assert probe({**DEMAND, "timeout": "1s"}, host(at(port))) == (
        "fail",
        f"its BMC at http://127.0.0.1:{port} refuses connections, for 1 s{LATER}",
    )
    for dead in (silence, filtered):
        with dead() as port:
            assert probe({**DEMAND, "timeout": "1s"}, host(at(port))) == (
                "fail",
                f"its BMC at http://127.0.0.1:{port} did not answer in 1 s{LATER}",
            )
    assert probe(DEMAND, host(Bmc("http://no-such-bmc.invalid", system_id="1"))) == (
        "fail",
        "its BMC at http://no-such-bmc.invalid can't be found: its name does not resolve",
    )


@pytest.mark.slow
def test_the_timeout_covers_all_answers_of_a_slow_bmc_together(probe: Probe) -> None:
    asked: list[str] = []

    def slow(request: BaseHTTPRequestHandler) -> None:
        asked.append(request.path)
        time.sleep(0.7)
        redfish({**SYSTEM, "PowerState": "Off"})(request)

    with serving(slow) as port:
        demand = {"redfish": {"power": "on"}, "timeout": "1s"}
        verdict, said = probe(demand, host(at(port)), group="cleanup")
        assert verdict == "fail"
        assert said.replace(" all requests", "") == f"its BMC at http://127.0.0.1:{port} did not answer in 1 s{LATER}"
        time.sleep(1.5)  # a process that was left behind would continue in this time
        assert not any("Reset" in path for path in asked), "a step whose time was up must not act any more"


def test_an_unknown_certificate_is_refused_unless_the_host_says_otherwise(probe: Probe, certificate: Path) -> None:
    with serving(redfish(SYSTEM), certificate) as port:
        where = f"https://127.0.0.1:{port}"
        assert probe(DEMAND, host(at(port, scheme="https"))) == (
            "fail",
            f"its BMC at {where} has a TLS certificate that can't be verified: self-signed certificate "
            "(bmhctl set node01 --no-verify-tls accepts any certificate)",
        )
        assert probe(DEMAND, host(at(port, scheme="https", verify=False))) == ("pass", "health OK, power on")
    with serving(redfish(SYSTEM)) as port:
        assert probe(DEMAND, host(at(port, scheme="https"))) == (
            "fail",
            f"its BMC at https://127.0.0.1:{port} does not speak TLS "
            "(bmhctl set node01 --bmc redfish+http://… speaks without TLS)",
        )


def test_credentials_come_from_the_environment_a_file_or_a_command(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("admin:pass:word\nmore\n")
    (tmp_path / "windows").write_text("\ufeffadmin:pass:word\r\n")
    setting = StepEnvironment({"LAB_BMC": " admin:pass:word\n", "PATH": "/usr/bin:/bin"}, str(tmp_path))
    for reference in ("env:LAB_BMC", "file:secret", f"file:{tmp_path}/secret", "file:windows", "command:cat secret"):
        assert credentials(reference, setting, 5) == ("admin", "pass:word")
    assert credentials(None, setting, 5) is None


@pytest.mark.slow
@pytest.mark.parametrize(
    ("reference", "said"),
    [
        ("env:NOWHERE", "its credentials are in $NOWHERE, which is not set"),
        ("env:HALF", "its credentials env:HALF hold no user:password"),
        ("env:NO_PASSWORD", "its credentials env:NO_PASSWORD hold no user:password"),
        ("env:NO_USER", "its credentials env:NO_USER hold no user:password"),
        ("file:pipe", "its credentials file:pipe can't be read: TimeoutError"),
        ("command:", "its credentials command: can't be read: ValueError"),
        ("file:nowhere", "its credentials file:nowhere can't be read: No such file or directory"),
        ("file:binary", "its credentials file:binary can't be read: UnicodeDecodeError"),
        ("command:nowhere", "its credentials command:nowhere can't be read: No such file or directory"),
        ("command:sh -c 'echo s3cret; exit 3'", "the command that gives its credentials: exit 3"),
        ("command:sleep 60", "the command that gives its credentials: took longer than 1 s"),
        ("command:'", "its credentials command:' can't be read: ValueError"),
    ],
)
def test_missing_credentials_are_reported_without_showing_a_secret(reference: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    os.mkfifo(tmp_path / "pipe")
    environ = {"HALF": "s3cret", "NO_PASSWORD": "admin:", "NO_USER": ":s3cret", "PATH": "/usr/bin:/bin"}
    setting = StepEnvironment(environ, str(tmp_path))
    with pytest.raises(BmcError) as caught:
        credentials(reference, setting, 1)
    assert caught.value.message == said
    assert "s3cret" not in f"{caught.value.message} {caught.value.hint}".replace(reference, "")


def test_a_rejected_password_is_not_shown_in_the_error(probe: Probe) -> None:
    with serving(redfish(SYSTEM, password="s3cret")) as port:
        where = f"http://127.0.0.1:{port}"
        step = {**DEMAND, "timeout": "5s"}
        assert probe(step, host(at(port, login="env:LOGIN")), LOGIN="admin:s3cret") == ("pass", "health OK, power on")
        assert probe(step, host(at(port, login="env:LOGIN")), LOGIN="admin:wr0ng") == (
            "fail",
            f"its BMC at {where} rejects the credentials (check the user and the password that the reference names)",
        )
        assert probe(step, host(at(port))) == (
            "fail",
            f"its BMC at {where} requires credentials, and none are declared "
            "(bmhctl set node01 --credentials env:NAME, file:PATH or command:…)",
        )


def test_a_redfish_step_on_a_host_without_a_bmc_fails_with_that_reason(probe: Probe) -> None:
    assert probe(DEMAND, host(None)) == ("fail", "it has no BMC declared (bmhctl set node01 --bmc redfish+https://…)")


def test_a_cancelled_step_sends_no_more_requests_to_the_bmc(probe: Probe) -> None:
    cancelled = Event()
    cancelled.set()
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.3)
        assert probe(DEMAND, host(at(server.getsockname()[1])), cancelled=cancelled) == ("unknown", "interrupted")
        with pytest.raises(TimeoutError):
            server.accept()
