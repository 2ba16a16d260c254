"""HTTP and JSON of BMCs: redirects, incomplete lists, odd answers, logins."""

from __future__ import annotations

import errno
import http.server
import json
import socket
import ssl
import threading
import time
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from bmhctl.domain.model import Bmc, HostSpec, Power
from bmhctl.probes import redfish_conversation
from bmhctl.probes.cancellation import InterruptedStepError
from bmhctl.probes.redfish_boot import identify
from bmhctl.probes.redfish_hardware import hardware
from bmhctl.probes.redfish_system import System
from bmhctl.probes.step_environment import StepEnvironment
from tests.probes.conftest import Probe
from tests.probes.fake_bmc import LATER, FakeBmc, FakeSystem, fake_bmc, shorten_pauses, status, switch, talk
from tests.probes.servers import Answer, closed_port, saying, serving
from tests.processes import until

pytestmark = pytest.mark.slow

SYSTEM = "/redfish/v1/Systems/1"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    shorten_pauses(monkeypatch, poll=0.1, resend=1.0, busy=0.2)


def identify_it(system: System) -> str:
    return identify(system, True)


# tests: redirects


def moving(bmc: FakeBmc, *methods: str, to: str = "{path}/") -> None:
    """Redirect every request with these methods, unless its path ends with a slash."""

    def trouble(request: BaseHTTPRequestHandler, body: bytes) -> bool:
        if request.command not in methods or request.path.endswith("/"):
            return False
        last = request.path.rpartition("/")[2]
        saying("", 308, headers={"Location": to.format(path=request.path, last=last, port=bmc.port)})(request)
        return True

    bmc.trouble = trouble


def test_a_changing_request_is_redirected_to_the_same_path_with_a_slash() -> None:
    with fake_bmc(systems=[FakeSystem(extra={"IndicatorLED": "Off"})], login=("admin", "s3cret"), basic=False) as bmc:
        moving(bmc, "POST", "PATCH", "DELETE")
        assert talk(bmc, identify_it, login="admin:s3cret") == "on"
        assert talk(bmc, switch(Power.OFF), login="admin:s3cret") == "off"
        assert bmc.resets == ["ForceOff"]
        assert bmc.sessions == set(), "the login and the logout were redirected, too"


def test_an_action_is_not_redirected_to_another_system() -> None:
    with fake_bmc(systems=[FakeSystem("1"), FakeSystem("2")]) as bmc:
        other = "/redfish/v1/Systems/2/Actions/ComputerSystem.Reset/"
        moving(bmc, "POST", to=other)
        assert talk(bmc, switch(Power.OFF), path=SYSTEM) == (
            f"its BMC at BMC sends requests elsewhere: {other} (if its address is "
            "wrong: bmhctl set HOST --bmc … declares another)"
        )
        assert bmc.resets == []


@pytest.mark.parametrize(
    ("location", "is_followed"),
    [
        ("{last}/", True),
        ("//127.0.0.1:{port}{path}/", True),
        ("HTTP://127.0.0.1:{port}{path}/", True),
        ("//evil.example{path}/", False),
        ("http://127.0.0.1:1{path}/", False),
        ("https://127.0.0.1:{port}{path}/", False),
        ("http://127.0.0.1:{port}@evil.example{path}/", False),
        ("http://[bad{path}/", False),
    ],
)
def test_a_redirect_is_followed_in_each_spelling_of_this_bmc_only(location: str, is_followed: bool) -> None:
    with fake_bmc() as bmc:
        moving(bmc, "GET", to=location)
        said = talk(bmc, status, path=SYSTEM)
        assert said == "on" if is_followed else said.startswith("its BMC at BMC sends requests elsewhere: ")


# tests: lists


@pytest.mark.parametrize(
    ("rest", "said"),
    [
        ({"Members@odata.count": 2}, "lists 1 of the 2 systems that it counts"),
        ({"Members": [{"@odata.id": SYSTEM}, None]}, "lists systems without valid links"),
        ({"Members": [{"@odata.id": SYSTEM}, {"href": f"{SYSTEM}2"}]}, "lists systems without valid links"),
        ({"Members": [{"@odata.id": SYSTEM}, {"@odata.id": f"{SYSTEM} b"}]}, "has 2 systems"),
        ({"Members@odata.nextLink": "Systems?$skip=1"}, "lists systems without valid links"),
        ({"@odata.nextLink": "/redfish/v1/Systems?$skip=1"}, "lists no systems"),
    ],
)
def test_a_single_system_in_an_incomplete_list_is_not_taken_as_the_only_one(rest: dict[str, Any], said: str) -> None:
    systems = {"Members": [{"@odata.id": SYSTEM}], **rest}
    with fake_bmc(resources={"/redfish/v1/Systems": systems}) as bmc:
        assert talk(bmc, switch(Power.OFF)).startswith(f"its BMC at BMC {said}")
        assert bmc.received == []


def test_a_system_that_is_listed_twice_counts_once() -> None:
    members = [{"@odata.id": SYSTEM}, {"@odata.id": f"{SYSTEM}/"}]
    systems = {"Members": members, "Members@odata.count": 2, "Members@odata.nextLink": ""}
    with fake_bmc(resources={"/redfish/v1/Systems": systems}) as bmc:
        assert talk(bmc, status) == "on"


def test_systems_whose_ids_differ_only_in_case_are_two() -> None:
    with fake_bmc(systems=[FakeSystem("a"), FakeSystem("A")]) as bmc:
        assert talk(bmc, switch(Power.OFF)).startswith("its BMC at BMC has 2 systems")
        assert bmc.received == []


# tests: bodies


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "latin-1"])
def test_json_is_read_in_every_unicode_encoding(encoding: str) -> None:
    with fake_bmc(systems=[FakeSystem(extra={"AssetTag": "Gerät"})]) as bmc:

        def encode(request: BaseHTTPRequestHandler, body: bytes) -> bool:
            _, said, _ = bmc.accept(request, body)
            text = json.dumps(said, ensure_ascii=False).encode(encoding)
            saying(text, 200, "application/json")(request)
            return True

        bmc.trouble = encode
        assert talk(bmc, lambda system: system.report["AssetTag"]) == "Gerät"


def replacing(bmc: FakeBmc, old: str, new: str) -> None:
    """Replace a text in all bodies."""

    def trouble(request: BaseHTTPRequestHandler, body: bytes) -> bool:
        code, said, headers = bmc.accept(request, body)
        text = "" if code == 204 else json.dumps(said).replace(old, new)
        saying(text, code, "application/json", headers)(request)
        return True

    bmc.trouble = trouble


@pytest.mark.parametrize(
    "memory", ["9" * 5000, "-" + "9" * 5000, "1e999", "NaN", "[" * 200 + "]" * 200], ids=lambda memory: memory[:5]
)
def test_an_impossible_number_is_left_out(memory: str) -> None:
    system = FakeSystem(extra={"MemorySummary": {"TotalSystemMemoryGiB": "MEMORY"}, "Model": "M"})
    with fake_bmc(systems=[system]) as bmc:
        replacing(bmc, '"MEMORY"', memory)
        assert talk(bmc, lambda system: hardware(system.client)) == {"model": "M", "health": "OK"}
        assert talk(bmc, switch(Power.OFF)) == "off"


def test_json_with_the_end_of_a_c_string_is_read() -> None:
    with fake_bmc() as bmc:

        def trouble(request: BaseHTTPRequestHandler, body: bytes) -> bool:
            code, said, headers = bmc.accept(request, body)
            saying(b"" if code == 204 else json.dumps(said).encode() + b"\0\r\n\0", code, headers=headers)(request)
            return True

        bmc.trouble = trouble
        assert talk(bmc, switch(Power.OFF)) == "off"


def test_a_system_that_names_itself_with_a_query_is_the_declared_one() -> None:
    with fake_bmc(systems=[FakeSystem(extra={"@odata.id": f"{SYSTEM}?$expand=*"})]) as bmc:
        assert talk(bmc, status, path=SYSTEM) == "on"


@pytest.mark.parametrize(
    "answer",
    [
        saying("<html>The web server is starting</html>"),
        saying("", 200, "application/json"),
        saying('{"PowerState": ', 200, "application/json"),
        saying("", 302, headers={"Location": "/login.html/"}),
    ],
    ids=["a page", "nothing", "half", "the login page"],
)
def test_answers_that_are_not_json_for_a_while_after_a_command_are_retried(answer: Answer) -> None:
    with fake_bmc(systems=[FakeSystem(power="Off", lag=0.3)]) as bmc:
        left = threading.Semaphore(3)

        def trouble(request: BaseHTTPRequestHandler, body: bytes) -> bool:
            if request.path == "/login.html/":
                saying("<html>Log in</html>")(request)
                return True
            if request.command != "GET" or not bmc.resets or not left.acquire(blocking=False):
                return False
            answer(request)
            return True

        bmc.trouble = trouble
        assert talk(bmc, switch(Power.ON)) == "on"
        assert bmc.resets == ["On"]


def test_bytes_after_an_answer_do_not_spoil_the_next_one() -> None:
    with fake_bmc() as bmc:

        def trouble(request: BaseHTTPRequestHandler, body: bytes) -> bool:
            code, said, headers = bmc.accept(request, body)
            saying(json.dumps(said), code, "application/json", headers)(request)
            time.sleep(0.05)  # so that the client has read the answer before the rest comes
            request.wfile.write(b"\r\n")
            return True

        bmc.trouble = trouble
        assert talk(bmc, switch(Power.OFF)) == "off"
        assert bmc.resets == ["ForceOff"]


# tests: logins


def logins(bmc: FakeBmc) -> list[str]:
    """Return a list that collects the paths of requests with a password from now on."""
    found: list[str] = []

    def trouble(request: BaseHTTPRequestHandler, body: bytes) -> bool:
        is_root = request.path == "/redfish/v1/"
        if not is_root and (request.headers.get("Authorization") or b"Password" in body):
            found.append(request.path)
        return False

    bmc.trouble = trouble
    return found


def test_wrong_credentials_are_tried_once_for_all_hosts_of_a_bmc_and_all_retries(probe: Probe) -> None:
    with fake_bmc(login=("admin", "s3cret"), systems=[FakeSystem("1"), FakeSystem("2")]) as bmc:
        tried = logins(bmc)
        said = "its BMC at BMC rejects the credentials (check the user and the password that the reference names)"
        for system in "1", "2", "1":
            assert talk(bmc, status, system_id=system, login="admin:wr0ng") == said
            assert talk(bmc, identify_it, system_id=system, login="admin:wr0ng") == said
        host = HostSpec("node01", bmc=Bmc(bmc.url, system_id="1", credentials="env:LOGIN"))
        verdict, words = probe({"redfish": {"power": "on"}, "retries": 1}, host, LOGIN="admin:wr0ng")
        assert (verdict, "rejects the credentials" in words) == ("fail", True)
        assert talk(bmc, status, where=f"HTTP://127.0.0.1:{bmc.port}/", login="admin:wr0ng").startswith("its BMC at ")
        assert tried == [f"{SYSTEM}", "/redfish/v1/SessionService/Sessions"], "by each way to log in"
        tried.clear()
        assert talk(bmc, status, system_id="1", login="admin:s3cret") == "on", "others are tried at once"
        assert tried


def test_credentials_that_were_rejected_are_tried_again_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redfish_conversation, "_REMEMBERED", 0.2)
    with fake_bmc(login=("admin", "s3cret")) as bmc:
        assert "rejects the credentials" in talk(bmc, status, login="admin:new")
        bmc.login = ("admin", "new")
        assert "rejects the credentials" in talk(bmc, status, login="admin:new")
        time.sleep(0.2)
        assert talk(bmc, status, login="admin:new") == "on"


def test_a_rejection_of_credentials_that_worked_before_fails_only_its_request() -> None:
    processors = {"Members": [{"@odata.id": f"{SYSTEM}/Processors/0"}]}
    system = FakeSystem(extra={"Processors": {"@odata.id": f"{SYSTEM}/Processors"}, "Model": "M"})
    with fake_bmc(login=("admin", "s3cret"), systems=[system], resources={f"{SYSTEM}/Processors": processors}) as bmc:

        def trouble(request: BaseHTTPRequestHandler, body: bytes) -> bool:
            is_odd = request.path.endswith("/Processors/0")
            if is_odd:
                saying("{}", 401)(request)
            return is_odd

        bmc.trouble = trouble
        assert talk(bmc, lambda system: hardware(system.client), login="admin:s3cret") == {"model": "M", "health": "OK"}
        assert talk(bmc, status, login="admin:s3cret") == "on"


@pytest.mark.parametrize("basic", [True, False])
@pytest.mark.parametrize("rejections", [4, 99])
def test_credentials_that_worked_before_are_retried_a_few_times(basic: bool, rejections: int) -> None:
    with fake_bmc(login=("admin", "s3cret"), basic=basic, systems=[FakeSystem(power="Off", lag=0.3)]) as bmc:
        left = threading.Semaphore(rejections)
        logins: list[str] = []

        def trouble(request: BaseHTTPRequestHandler, body: bytes) -> bool:
            if not bmc.resets or request.command == "DELETE":
                return False
            logins.append(request.path)
            is_rejected = left.acquire(blocking=False)
            if is_rejected:
                saying("{}", 401)(request)
            return is_rejected

        bmc.trouble = trouble
        said = talk(bmc, switch(Power.ON), login="admin:s3cret")
        assert bmc.resets == ["On"]
        if rejections == 4:
            assert said == "on"
        else:
            assert said == (
                "its BMC at BMC rejects the credentials (bmhctl power HOST status shows whether the power changed)"
            )
            assert len(logins) <= 8, "each time by each way to log in"


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (503, "IDRAC.2.1.RAC0218"),
        (400, "IDRAC.2.1.RAC0218"),
        (403, "Base.1.8.SessionLimitExceeded"),
    ],
)
def test_a_request_is_retried_when_the_bmc_has_no_free_session(code: int, message: str) -> None:
    with fake_bmc(login=("admin", "s3cret"), basic=False) as bmc:
        left = threading.Semaphore(2)

        def trouble(request: BaseHTTPRequestHandler, body: bytes) -> bool:
            if request.command != "POST" or not left.acquire(blocking=False):
                return False
            info = {"MessageId": message, "Message": "The maximum number of sessions is reached."}
            said = {"error": {"@Message.ExtendedInfo": [info]}}
            saying(json.dumps(said), code, "application/json")(request)
            return True

        bmc.trouble = trouble
        assert talk(bmc, status, login="admin:s3cret") == "on"


def test_a_date_in_retry_after_counts_from_the_clock_of_the_bmc() -> None:
    with fake_bmc() as bmc:
        asked: list[float] = []

        def trouble(request: BaseHTTPRequestHandler, body: bytes) -> bool:
            asked.append(time.monotonic())
            if len(asked) > 1:
                return False
            request.send_response_only(503)
            request.send_header("Date", "Thu, 01 Jan 1970 00:00:59 GMT")
            request.send_header("Retry-After", "Thu, 01 Jan 1970 00:01:00 GMT")
            request.send_header("Content-Length", "0")
            request.end_headers()
            return True

        bmc.trouble = trouble
        assert talk(bmc, status) == "on"
        assert asked[1] - asked[0] >= 1


# tests: proxies


@pytest.mark.parametrize(
    ("proxy", "words"),
    [
        ("http://127.0.0.1:CLOSED", "the proxy 127.0.0.1:CLOSED refuses connections"),
        ("http://u:s3cret@127.0.0.1:CLOSED", "the proxy 127.0.0.1:CLOSED refuses connections"),
        (
            "http://no-such-proxy.invalid:1",
            "the proxy no-such-proxy.invalid:1 can't be found: its name does not resolve",
        ),
        ("socks5://u:s3cret@127.0.0.1:1", "the proxy 127.0.0.1:1 is not http://HOST:PORT"),
        ("http://127.0.0.1:x", "the proxy http://127.0.0.1:x is not http://HOST:PORT"),
        ("::bad", "the proxy http://::bad is not http://HOST:PORT"),
    ],
)
def test_a_proxy_that_fails_is_named_and_not_the_bmc(proxy: str, words: str, probe: Probe) -> None:
    closed = str(closed_port())
    environ = {"http_proxy": proxy.replace("CLOSED", closed)}
    words = f"can't be reached: {words.replace('CLOSED', closed)}"
    with fake_bmc() as bmc:
        setting = StepEnvironment(environ, "/", proxy="environment")
        started = time.monotonic()
        assert talk(bmc, status, setting=setting) == f"its BMC at BMC {words}"
        assert time.monotonic() - started < 5, "the BMC does not restart"


def test_the_refusal_of_a_proxy_to_reach_a_bmc_is_reported_with_its_status() -> None:
    class Refusing(http.server.BaseHTTPRequestHandler):
        def do_CONNECT(self) -> None:
            self.send_error(403)

        def log_message(self, *_: object) -> None:
            """Log nothing."""

    with http.server.HTTPServer(("127.0.0.1", 0), Refusing) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        proxy = f"127.0.0.1:{server.server_address[1]}"
        said = talk(
            FakeBmc(), status, where="https://bmc.lab", setting=StepEnvironment({}, "/", proxy=f"http://{proxy}")
        )
        assert said == f"its BMC at https://bmc.lab can't be reached: the proxy {proxy} refuses (403)"


def test_a_network_in_no_proxy_is_reached_without_the_proxy() -> None:
    for network, is_direct in (("10.0.0.0/8,127.0.0.0/8", True), ("10.0.0.0/8,not/one", False)):
        with fake_bmc() as bmc:
            environ = {"http_proxy": f"http://127.0.0.1:{closed_port()}", "no_proxy": network}
            said = talk(bmc, status, setting=StepEnvironment(environ, "/", proxy="environment"))
            assert (said == "on") is is_direct


def test_nothing_is_sent_over_a_connection_that_opens_after_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    connect, opened = socket.create_connection, list[socket.socket]()
    cancelled, ended = threading.Event(), threading.Event()

    def slow(*there: Any, **how: Any) -> socket.socket:
        cancelled.set()
        ended.wait(10)
        opened.append(connect(*there, **how))
        return opened[0]

    monkeypatch.setattr(socket, "create_connection", slow)
    with fake_bmc() as bmc:
        with pytest.raises(InterruptedStepError):
            talk(bmc, status, cancelled=cancelled)
        ended.set()
        until(lambda: opened and opened[0].fileno() == -1)
        assert bmc.reads == []


# tests: requests that must not reach another server


def resolving(monkeypatch: pytest.MonkeyPatch, port: int) -> list[tuple[str, int]]:
    """Resolve every name to this port; return the names and ports that are requested."""
    connect = socket.create_connection
    asked: list[tuple[str, int]] = []

    def recorded(address: tuple[str, int], *rest: Any, **named: Any) -> socket.socket:
        asked.append(address)
        return connect(("127.0.0.1", port), *rest, **named)

    monkeypatch.setattr(socket, "create_connection", recorded)
    return asked


def test_a_certificate_for_another_name_is_reported(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with serving(FakeBmc(), certificate) as port:
        resolving(monkeypatch, port)
        said = talk(FakeBmc(), status, where="https://bmc.lab")
        assert "can't be verified: Hostname mismatch, certificate is not valid for 'bmc.lab' (" in said


@pytest.mark.parametrize(
    "answer",
    [
        lambda request: request.connection.shutdown(socket.SHUT_RDWR),
        saying("<h1>400</h1>The plain HTTP request was sent to HTTPS port", 400),
    ],
    ids=["cut", "nginx"],
)
def test_a_bmc_that_speaks_tls_where_none_is_declared_is_reported_with_the_setting(answer: Answer) -> None:
    with serving(answer) as port:
        said = talk(FakeBmc(port=port), status, seconds=1.5)
        assert said.endswith("(bmhctl set HOST --bmc redfish+https://… speaks TLS)")
    assert talk(FakeBmc(port=closed_port()), status, seconds=1) == f"its BMC at BMC refuses connections, for 1 s{LATER}"
    with serving(saying("{", 200, headers={"Content-Encoding": "br"})) as port:
        assert "speaks TLS" not in talk(FakeBmc(port=port), status), "it does speak HTTP"


@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
def test_a_bmc_that_requires_a_client_certificate_is_reported_as_that(
    version: str, certificate: Path, probe: Probe, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    context.load_verify_locations(certificate)
    context.verify_mode = ssl.CERT_REQUIRED
    context.maximum_version = ssl.TLSVersion[version]
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with serving(FakeBmc(), context=context) as port:
        words = "requires a client certificate, and bmhctl sends none"
        assert talk(FakeBmc(), status, where=f"https://127.0.0.1:{port}") == (
            f"its BMC at https://127.0.0.1:{port} {words} (let the BMC accept clients without a certificate)"
        )
        url = f"https://127.0.0.1:{port}/"
        if version == "TLSv1_2":  # with 1.3 the request is sent before the alert, and may be reset
            assert probe({"http": url}) == ("fail", f"{url}: {words}")
    page = "<html><head><title>400 No required SSL certificate was sent</title></head></html>"
    with serving(saying(page, 400)) as port:
        assert talk(FakeBmc(port=port), status).endswith("(let the BMC accept clients without a certificate)")


def test_a_bmc_without_a_common_cipher_is_not_said_to_require_a_client_certificate(certificate: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("ECDHE-ECDSA-AES128-SHA")  # the certificate is for RSA
    with serving(FakeBmc(), context=context) as port:
        said = talk(FakeBmc(), status, where=f"https://127.0.0.1:{port}", verify_tls=False)
        assert "does not speak TLS as it should (bmhctl set HOST --tls-min-version 1.0 accepts old TLS)" in said


SERVER_HELLO = bytes.fromhex("16 0303 002a02 0000260303" + "00" * 32 + "00c02f00")
"""The first answer of a TLS 1.2 server without secure renegotiation."""


def test_a_bmc_without_secure_renegotiation_is_reported_with_the_setting_that_accepts_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def greet() -> None:
            for _ in range(2):
                connection, _ = server.accept()
                with connection:
                    connection.recv(10000)
                    connection.sendall(SERVER_HELLO)
                    connection.recv(10000)

        threading.Thread(target=greet, daemon=True).start()
        where = f"https://127.0.0.1:{server.getsockname()[1]}"
        assert talk(FakeBmc(), status, where=where) == (
            f"its BMC at {where} speaks TLS without secure renegotiation "
            "(bmhctl set HOST --tls-min-version 1.0 accepts old TLS)"
        )
        said = talk(FakeBmc(), status, where=where, tls_min_version="1.0", seconds=1)
        assert "renegotiation" not in said, "it goes on to the certificate, which never comes"


def test_a_bmc_that_answers_in_tls_without_a_tls_url_is_reported_with_the_setting() -> None:
    with serving(lambda request: request.wfile.write(b"\x15\x03\x01\x00\x02\x02\x46")) as port:
        said = talk(FakeBmc(port=port), status)
        assert said.startswith("its BMC at BMC answers in TLS to a request without TLS (bmhctl set HOST --bmc redfish+")
    with serving(lambda request: request.wfile.write(b"SSH-2.0-x\r\n")) as port:
        assert talk(FakeBmc(port=port), status) == "its BMC at BMC does not speak HTTP as it should"


def test_the_zone_of_an_ipv6_address_is_not_sent_to_the_bmc(monkeypatch: pytest.MonkeyPatch) -> None:
    names: set[str | None] = set()
    with fake_bmc() as bmc:

        def trouble(request: BaseHTTPRequestHandler, body: bytes) -> bool:
            names.add(request.headers.get("Host"))
            return False

        bmc.trouble = trouble
        asked = resolving(monkeypatch, bmc.port)
        for zone in "%25eth0", "%eth0":
            assert talk(bmc, status, where=f"http://[fe80::1{zone}]:8000") == "on"
        assert set(asked) == {("fe80::1%eth0", 8000)}
        assert names == {"[fe80::1]:8000"}


def test_the_zone_of_an_ipv6_address_is_not_sent_with_tls(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    names: list[str | None] = []
    context.sni_callback = lambda _, name, __: names.append(name)
    bmc = FakeBmc()
    with serving(bmc, context=context, keep_alive=True) as port:
        resolving(monkeypatch, port)
        assert talk(bmc, status, where="https://[fe80::1%eth0]", verify_tls=False) == "on"
        assert set(names) == {None}


@pytest.mark.parametrize(
    ("address", "error", "words"),
    [
        ("fe80::1", OSError(errno.EINVAL, "x"), "a link-local address needs its zone, such as fe80::1%eth0"),
        ("fe80::1%eth9", socket.gaierror(), "this machine has no network interface eth9"),
    ],
)
def test_a_link_local_address_without_a_valid_zone_is_reported_with_what_it_needs(
    address: str, error: OSError, words: str, probe: Probe, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: Any, **__: Any) -> socket.socket:
        raise error

    monkeypatch.setattr(socket, "create_connection", refused)
    host = HostSpec("node01", address, bmc=Bmc(f"http://[{address}]"))
    assert probe({"tcp": 22}, host) == ("fail", f"{address} port 22: {words}")
    assert probe({"http": "http://{address}/"}, host) == ("fail", f"http://[{address}]/: can't be reached: {words}")
    assert probe({"redfish": {"power": "on"}}, host) == (
        "fail",
        f"its BMC at http://[{address}] can't be reached: {words}",
    )


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_the_end_of_an_ipv6_address_is_not_taken_for_a_port(
    scheme: str, probe: Probe, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = resolving(monkeypatch, closed_port())
    host = HostSpec("node01", "fd00::1:8000", bmc=Bmc(f"{scheme}://[fd00::1:8000]"))
    for step in ({"http": f"{scheme}://{{address}}/"}, {"redfish": {"power": "on"}}):
        probe({**step, "timeout": "1s"}, host)
        assert set(asked) == {("fd00::1:8000", 443 if scheme == "https" else 80)}
        asked.clear()


def test_all_steps_reach_an_address_with_a_zone(probe: Probe, monkeypatch: pytest.MonkeyPatch) -> None:
    with fake_bmc() as bmc:
        asked = resolving(monkeypatch, bmc.port)
        host = HostSpec("node01", "fe80::1%eth0", bmc=Bmc("http://[fe80::1%25eth0]"))
        assert probe({"tcp": 22}, host) == ("pass", "fe80::1%eth0 port 22 is open")
        assert probe({"http": "http://{address}:81/redfish/v1/"}, host)[0] == "pass"
        assert probe({"redfish": {"power": "on"}}, host) == ("pass", "power on")
        assert set(asked) == {("fe80::1%eth0", port) for port in (22, 81, 80)}
        assert probe({"command": ["sh", "-c", "echo $0 $BMH_ADDRESS", "{address}"]}, host) == (
            "pass",
            "fe80::1%eth0 fe80::1%eth0",
        )
