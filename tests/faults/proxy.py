"""A proxy in front of a server's socket: it sees every message, and cuts the connection where the test wants it."""

from __future__ import annotations

import enum
import socket
import struct
import tempfile
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path


class Fate(enum.Enum):
    """What the proxy does with a message."""

    PASS = "passes"
    BEFORE = "the connection is cut before it passes"
    MIDDLE = "the connection is cut in the middle of it"
    AFTER = "it passes, and then the connection is cut"
    FREEZE = "neither it nor anything after it passes, without an error"


@dataclass(frozen=True)
class Message:
    """One message of the protocol; the first of a client has no kind."""

    is_clients: bool
    kind: bytes
    body: bytes

    @property
    def is_commit(self) -> bool:
        """Whether the client sends COMMIT, in the simple or in the extended protocol."""
        return self.is_clients and self.kind in b"QP" and self.body.strip(b"\0").startswith(b"COMMIT")

    @property
    def is_committed(self) -> bool:
        """Whether the server reports that the commit is done."""
        return not self.is_clients and self.kind == b"C" and self.body == b"COMMIT\0"

    def __str__(self) -> str:
        return f"{'>' if self.is_clients else '<'} {self.kind.decode()} {self.body[:60]!r}"


Plan = Callable[[Message], Fate]


def everything_passes(_: Message) -> Fate:
    return Fate.PASS


class Proxy:
    """Listens in a separate folder; ``plan`` decides about each message, of all connections.

    With ``is_away``, clients are refused and counted in ``turned_away``. ``passed`` are the messages since
    :meth:`begin`.
    """

    def __init__(self, server: Path) -> None:
        self.plan: Plan = everything_passes
        self.is_away = False
        self.turned_away = 0
        self.passed: list[Message] = []
        self._server = server
        self._folder = tempfile.TemporaryDirectory(prefix="bmhctl-proxy-", dir="/tmp")
        self._turn = threading.Lock()
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(Path(self._folder.name) / server.name))
        self._listener.listen(50)
        self._open: set[socket.socket] = set()
        threading.Thread(target=self._serve, daemon=True).start()

    def through(self, url: str) -> str:
        """Return the URL of the server at ``url`` through this proxy."""
        return url.replace(str(self._server.parent), self._folder.name)

    def begin(self, plan: Plan = everything_passes) -> None:
        """Forgets the recorded messages, and uses another plan."""
        with self._turn:
            self.passed, self.plan, self.is_away = [], plan, False

    def cut(self) -> None:
        """Cuts every present connection."""
        for one in [*self._open]:
            _end(one)

    def close(self) -> None:
        """Accepts no more clients, and cuts the present connections."""
        _end(self._listener)
        self.cut()
        self._folder.cleanup()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                if self.is_away:
                    self.turned_away += 1
                    _end(client)
                    continue
                server = socket.socket(socket.AF_UNIX)
                try:
                    server.connect(str(self._server))
                except OSError:
                    _end(client)
                    continue
                self._open |= {client, server}
                for pair in ((client, server), (server, client)):
                    threading.Thread(target=self._pump, args=(*pair, pair[0] is client), daemon=True).start()

    def _pump(self, source: socket.socket, target: socket.socket, is_clients: bool) -> None:
        """Passes on in one piece the messages that arrive together; each piece would wake the reader."""
        unread, is_first, is_frozen, fate = b"", is_clients, False, Fate.PASS
        with suppress(OSError):
            while fate in (Fate.PASS, Fate.FREEZE) and (more := source.recv(1 << 16)):
                unread += more
                passes = b""
                while fate in (Fate.PASS, Fate.FREEZE) and (size := _size(unread, is_first)) <= len(unread):
                    whole, unread = unread[:size], unread[size:]
                    kind, body = (b"", whole[4:]) if is_first else (whole[:1], whole[5:])
                    is_first = False
                    message = Message(is_clients, kind, body)
                    with self._turn:
                        fate = self.plan(message) if kind else Fate.PASS
                        self.passed.append(message)
                    is_frozen = is_frozen or fate is Fate.FREEZE
                    if not is_frozen:
                        passes += whole[: {Fate.BEFORE: 0, Fate.MIDDLE: (size + 1) // 2}.get(fate, size)]
                target.sendall(passes)
        for one in (source, target):
            self._open.discard(one)
            _end(one)


def _size(unread: bytes, is_first: bool) -> int:
    """Return the size of the message that begins here, or of its head if that is not complete."""
    at = 0 if is_first else 1
    return at + struct.unpack_from("!i", unread, at)[0] if len(unread) >= at + 4 else at + 4


def _end(one: socket.socket) -> None:
    with suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)
    one.close()


def at(number: int, fate: Fate) -> Plan:
    """Return a plan that lets ``number`` messages pass, and applies ``fate`` to the next one."""
    left = number

    def plan(_: Message) -> Fate:
        nonlocal left
        left -= 1
        return fate if left == -1 else Fate.PASS

    return plan


def first(test: Callable[[Message], bool], fate: Fate, skip: int = 0) -> Plan:
    """Return a plan that applies ``fate`` to the first message that passes the test, or after ``skip`` of them."""
    left = skip

    def plan(message: Message) -> Fate:
        nonlocal left
        if not test(message):
            return Fate.PASS
        left -= 1
        return fate if left == -1 else Fate.PASS

    return plan
