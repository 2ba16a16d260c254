"""Small servers that answer, fail, hang or misbehave."""

from __future__ import annotations

import json
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

Answer = Callable[[BaseHTTPRequestHandler], None]


def saying(
    body: str | bytes, status: int = 200, content_type: str = "text/html", headers: dict[str, str] | None = None
) -> Answer:
    """Return a handler that answers every request with this body."""
    text = body.encode() if isinstance(body, str) else body

    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(status)
        request.send_header("Content-Type", content_type)
        request.send_header("Content-Length", str(len(text)))
        for name, value in (headers or {}).items():
            request.send_header(name, value)
        request.end_headers()
        request.wfile.write(text)

    return answer


def redfish(*systems: dict[str, object], password: str | None = None) -> Answer:
    """A BMC with these systems (each has an Id); with a password, all but its root requires the user admin."""
    import base64

    wanted = f"Basic {base64.b64encode(f'admin:{password}'.encode()).decode()}"

    def answer(request: BaseHTTPRequestHandler) -> None:
        path = request.path.rstrip("/")
        if password is not None and path != "/redfish/v1" and request.headers["Authorization"] != wanted:
            return saying('{"error": {}}', 401, "application/json")(request)
        pages: dict[str, dict[str, object]] = {
            "/redfish/v1": {"Id": "Root", "RedfishVersion": "1.5.0", "Systems": {"@odata.id": "/redfish/v1/Systems"}},
            "/redfish/v1/Systems": {
                "Name": "Systems",
                "Members@odata.count": len(systems),
                "Members": [{"@odata.id": f"/redfish/v1/Systems/{system['Id']}"} for system in systems],
            },
        }
        for system in systems:
            place = f"/redfish/v1/Systems/{system['Id']}"
            reset = {"#ComputerSystem.Reset": {"target": f"{place}/Actions/ComputerSystem.Reset"}}
            pages[place] = {"@odata.id": place, "Name": "a system", "Actions": reset, **system}
        found = pages.get(path)
        saying(json.dumps(found or {"error": {}}), 200 if found else 404, "application/json")(request)
        return None

    return answer


@contextmanager
def serving(
    answer: Answer,
    certificate: Path | None = None,
    *,
    context: ssl.SSLContext | None = None,
    keep_alive: bool = False,
) -> Iterator[int]:
    """Run an HTTP server on loopback, over TLS if it has a certificate or a context; yield its port."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1" if keep_alive else "HTTP/1.0"

        def do_GET(self) -> None:
            answer(self)

        def do_POST(self) -> None:
            answer(self)

        def do_PATCH(self) -> None:
            answer(self)

        def do_DELETE(self) -> None:
            answer(self)

        def log_message(self, *_: object) -> None:
            """Log nothing."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 100

        def handle_error(self, *_: object) -> None:
            """Ignore clients that disconnect."""

    with Server(("127.0.0.1", 0), Handler) as server:
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
        if context is not None:
            server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def silence() -> Iterator[int]:
    """Run a server that accepts connections and never answers; yield its port."""
    with socket.create_server(("127.0.0.1", 0), backlog=100) as server:
        yield server.getsockname()[1]


@contextmanager
def filtered() -> Iterator[int]:
    """A port that never answers: its queue of connections is full."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as server, socket.create_connection(server.getsockname()):
        yield server.getsockname()[1]


def closed_port() -> int:
    """A port on which no process listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def make_certificate(folder: Path) -> Path:
    """A certificate and its key that no machine trusts."""
    path = folder / "certificate.pem"
    options = ["-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost"]
    names = ["-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run(
        ["openssl", "req", "-x509", *options, *names, "-keyout", str(path), "-out", str(folder / "only.pem")],
        check=True,
        capture_output=True,
    )
    with path.open("a") as file:
        file.write((folder / "only.pem").read_text())
    return path
