"""Steps of kind tcp and http."""

from __future__ import annotations

import socket
import threading
import time
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from bmhctl.domain.model import HostSpec
from tests.probes.conftest import Probe
from tests.probes.servers import closed_port, filtered, saying, serving, silence


@pytest.fixture
def stuck_resolver(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """A name server that does not answer: resolving a name takes until the event is set."""
    answered = threading.Event()

    def hang(*_: object, **__: object) -> list[object]:
        answered.wait()
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    return answered


@pytest.mark.slow
def test_an_open_port_passes_and_a_closed_one_fails(probe: Probe) -> None:
    with silence() as port:
        assert probe({"tcp": port}) == ("pass", f"127.0.0.1 port {port} is open")
    port = closed_port()
    assert probe({"tcp": port, "retries": 1}) == ("fail", f"127.0.0.1 port {port}: Connection refused (tried 2 times)")


@pytest.mark.slow
def test_a_port_that_does_not_answer_fails_within_the_timeout(probe: Probe) -> None:
    with filtered() as port:
        assert probe({"tcp": port, "timeout": "1s"}) == ("fail", f"127.0.0.1 port {port}: no answer in 1 s")


def test_a_host_without_an_address_or_with_one_that_does_not_resolve_fails(probe: Probe) -> None:
    assert probe({"tcp": 22}, HostSpec("node01")) == ("fail", "it has no address, so port 22 can't be reached")
    verdict, said = probe({"tcp": 22}, HostSpec("node01", "no-such-host.invalid"))
    assert (verdict, said.startswith("no-such-host.invalid port 22: ")) == ("fail", True)
    verdict, said = probe({"tcp": 22}, HostSpec("node01", "x" * 80 + ".invalid"))
    assert (verdict, said.startswith("xxx")) == ("fail", True)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"tcp": 22}, "slow.example port 22: no answer in 1 s"),
        ({"http": "http://{address}/x"}, "http://slow.example/x: no answer in 1 s"),
    ],
)
def test_a_name_server_that_hangs_does_not_block_the_step(
    entry: dict[str, object], said: str, probe: Probe, stuck_resolver: threading.Event
) -> None:
    try:
        assert probe({**entry, "timeout": "1s"}, HostSpec("node01", "slow.example")) == ("fail", said)
    finally:
        stuck_resolver.set()


@pytest.mark.parametrize("kind", ["tcp", "http", "redfish"])
def test_a_cancelled_step_returns_at_once_although_its_connection_hangs(kind: str, probe: Probe) -> None:
    from bmhctl.domain.model import Bmc

    cancelled = threading.Event()
    with filtered() as port:
        entries: dict[str, dict[str, object]] = {
            "tcp": {"tcp": port},
            "http": {"http": f"http://127.0.0.1:{port}"},
            "redfish": {"redfish": {"power": "on"}},
        }
        spec = HostSpec("node01", "127.0.0.1", bmc=Bmc(f"http://127.0.0.1:{port}", system_id="1"))
        timer = threading.Timer(0.5, cancelled.set)
        timer.start()
        started = time.monotonic()
        said = probe({**entries[kind], "timeout": "3s", "retries": 5}, spec, cancelled=cancelled)
        assert (said, time.monotonic() - started < 2) == (("unknown", "interrupted"), True)
        timer.join()


def test_an_http_step_passes_by_the_status_and_the_text_of_the_page(probe: Probe) -> None:
    with serving(saying("all is well", 203)) as port:
        url = f"http://127.0.0.1:{port}/health?full=1"
        assert probe({"http": {"url": f"http://{{address}}:{port}/health?full=1", "status": 203}}) == (
            "pass",
            f"{url}: status 203",
        )
        assert probe({"http": {"url": url, "status": 203, "text": "is well"}}) == ("pass", f"{url}: status 203")
        assert probe({"http": {"url": url, "status": 203, "text": "ready"}}) == (
            "fail",
            f"{url}: status 203, but without the text 'ready'",
        )
        assert probe({"http": url}) == ("fail", f"{url}: status 203, not 200")


def test_an_http_step_accepts_html(probe: Probe) -> None:
    with serving(saying("<html><body>Log in</body></html>")) as port:
        url = f"http://127.0.0.1:{port}"
        assert probe({"http": url}) == ("pass", f"{url}: status 200")
        assert probe({"http": {"url": url, "text": '"healthy"'}})[0] == "fail"


def test_a_redirect_is_not_followed(probe: Probe) -> None:
    with serving(saying("", 302, headers={"Location": "http://elsewhere/"})) as port:
        url = f"http://127.0.0.1:{port}/"
        assert probe({"http": url}) == ("fail", f"{url}: status 302 (leads to http://elsewhere/), not 200")
        assert probe({"http": {"url": url, "status": 302}}) == ("pass", f"{url}: status 302")


def test_an_https_page_needs_a_trusted_certificate(
    probe: Probe, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(saying("ok"), certificate) as port:
        url = f"https://127.0.0.1:{port}/"
        said = f"{url}: has a TLS certificate that can't be verified: self-signed certificate"
        assert probe({"http": url}) == ("fail", said)
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        assert probe({"http": url}) == ("pass", f"{url}: status 200")


@pytest.mark.parametrize("url", ["http://127.0.0.1:99999/", "http://::1:80/", "http://{hardware.where}/"])
def test_an_impossible_url_is_reported_as_invalid(url: str, probe: Probe) -> None:
    spec = HostSpec("node01", hardware={"where": "[bad"})
    assert probe({"http": url}, spec) == ("fail", f"{url.replace('{hardware.where}', '[bad')}: not a valid URL")


def test_letters_that_a_url_cannot_have_are_sent_encoded(probe: Probe) -> None:
    asked: list[str] = []

    def page(request: BaseHTTPRequestHandler) -> None:
        asked.append(request.path)
        saying("")(request)

    with serving(page) as port:
        step = {"http": f"http://127.0.0.1:{port}/a%20b/{{hardware.image}}?q=1&r=[2]"}
        assert probe(step, HostSpec("node01", hardware={"image": "ü x"}))[0] == "pass"
        assert asked == ["/a%20b/%C3%BC%20x?q=1&r=[2]"]


def drip(request: BaseHTTPRequestHandler) -> None:
    """Sends a byte from time to time, without end: each read returns in time, but the page is never complete."""
    request.send_response(200)
    request.end_headers()
    for _ in range(300):
        request.wfile.write(b"x")
        request.wfile.flush()
        time.sleep(0.05)


@pytest.mark.slow
def test_a_slow_or_silent_server_fails_within_the_timeout(probe: Probe) -> None:
    with silence() as port:
        url = f"http://127.0.0.1:{port}/"
        assert probe({"http": url, "timeout": "1s"}) == ("fail", f"{url}: no answer in 1 s")
    with serving(drip) as port:
        url = f"http://127.0.0.1:{port}/"
        assert probe({"http": url, "timeout": "1s"}) == ("fail", f"{url}: no answer in 1 s")


def test_a_missing_server_or_one_without_http_fails(probe: Probe) -> None:
    port = closed_port()
    assert probe({"http": f"http://127.0.0.1:{port}"}) == (
        "fail",
        f"http://127.0.0.1:{port}: refuses connections",
    )
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

        def greet() -> None:
            connection, _ = server.accept()
            with connection:
                connection.sendall(b"SSH-2.0-x\r\n")

        thread = threading.Thread(target=greet)
        thread.start()
        verdict, said = probe({"http": f"http://127.0.0.1:{port}"})
        thread.join()
        assert (verdict, said) == ("fail", f"http://127.0.0.1:{port}: does not speak HTTP as it should")


def test_an_ipv6_address_is_written_in_brackets_in_a_url(probe: Probe) -> None:
    port = closed_port()
    verdict, said = probe({"http": f"http://{{address}}:{port}/"}, HostSpec("node01", "::1"))
    assert (verdict, said.startswith(f"http://[::1]:{port}/: ")) == ("fail", True)
    assert "Invalid" not in said
