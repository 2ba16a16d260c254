"""The real command, forked from a process that has imported everything: a fifth of the time of an interpreter's start.

Each command is a separate process, with its own streams, folder and environment, and runs the command's own entry
point. Tests of the start of a process (its imports, its locale) start an interpreter instead. The parent of all
commands runs this file. It also forks functions of the tests (``act``), which can do what no command does, such as
refuse a write.
"""

from __future__ import annotations

import faulthandler
import fcntl
import functools
import gc
import importlib
import marshal
import os
import pickle
import select
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import termios
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, Self

_AT_START = ("PYTHON", "LC_", "LANG")
"""Variables that an interpreter reads when it starts."""

_FAULTS = "PYTHONFAULTHANDLER"
"""The only variable of :data:`_AT_START` that a fork obeys, too."""

_LARGEST = 1 << 17
"""The most bytes of a request, which has arguments and environment."""

_CLIENT = """\
#!{python} -IS
import marshal, os, sys
from _socket import AF_UNIX, SCM_RIGHTS, SOCK_SEQPACKET, SOL_SOCKET, socket

said, says = os.pipe()
request = marshal.dumps((sys.argv[1:], os.getcwd(), dict(os.environ), ""))
streams = b"".join(each.to_bytes(4, sys.byteorder) for each in (0, 1, 2, says))
parent = socket(AF_UNIX, SOCK_SEQPACKET)
parent.connect({address!r})
parent.sendmsg([request], [(SOL_SOCKET, SCM_RIGHTS, streams)])
os.close(says)
answer = b""
while read := os.read(said, 64):
    answer += read
status = int(answer.split()[1])
if status < 0:
    os.kill(os.getpid(), -status)
sys.exit(status)
"""
"""A program that has its command forked: no module of it is in a file, so that it starts in a tenth of the time."""

_lock = threading.Lock()
_parent: list[tuple[socket.socket, subprocess.Popen[bytes]]] = []
_address: list[bytes] = []
"""Where the parent of all commands accepts requests of other processes."""


def can_run(environ: dict[str, str]) -> bool:
    """Whether a fork acts as an interpreter that is started with these variables would."""
    chosen = {name: value for name, value in environ.items() if name.startswith(_AT_START) and name != _FAULTS}
    return chosen == {**({"LANG": environ["LANG"]} if "LANG" in environ else {}), "LC_ALL": "C.UTF-8"}


def run(
    args: Sequence[Any], cwd: Path, environ: dict[str, str], stdin: bytes = b"", timeout: float = 60, act: str = ""
) -> tuple[int, bytes, bytes]:
    """Runs a command in a pipe, and returns its status (below 0: the signal that ended it), stdout and stderr.

    ``act``, as ``module:function``, is called with the arguments instead, and returns the status.
    """
    deadline = time.monotonic() + timeout
    ours = _ask_in_pipes(args, cwd, environ, act)
    answers: dict[int, bytearray] = {handle: bytearray() for handle in ours[1:]}
    with selectors.DefaultSelector() as selector:
        selector.register(ours[0], selectors.EVENT_WRITE)
        for handle in answers:
            selector.register(handle, selectors.EVENT_READ)
        while selector.get_map():
            left = deadline - time.monotonic()
            if left <= 0:
                raise subprocess.TimeoutExpired(["bmhctl", *args], timeout)
            for key, _ in selector.select(left):
                handle = key.fd
                if handle in answers:
                    read = os.read(handle, 1 << 16)
                    answers[handle] += read
                    is_done = not read
                else:
                    try:
                        stdin = stdin[os.write(handle, stdin[: 1 << 12]) :] if stdin else b""
                    except BrokenPipeError:  # the reader of the pipe has ended
                        stdin = b""
                    is_done = not stdin
                if is_done:
                    selector.unregister(handle)
                    os.close(handle)
    stdout, stderr, said = (bytes(answer) for answer in answers.values())
    return _status(said), stdout, stderr


class Ending:
    """A command that was forked, and its end."""

    def __init__(self, args: Sequence[str], ended: int) -> None:
        """``ended`` is the pipe on which the parent of all commands writes the command's id, and later its status."""
        self.args = list(args)
        self._ended = ended
        self._said = os.read(ended, 64)
        self.pid = int(self._said.split()[0])
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Returns the status if the command has ended."""
        with suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Waits until the command has ended, and returns the status."""
        while self.returncode is None:
            if not select.select([self._ended], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(self.args, timeout or 0)
            read = os.read(self._ended, 64)
            self._said += read
            if not read:
                self.returncode = _status(self._said)
                os.close(self._ended)
        return self.returncode


def on_terminal(args: Sequence[str], cwd: Path, environ: dict[str, str], terminal: int) -> Ending:
    """Starts a command whose streams and whose controlling terminal are this open terminal."""
    ended, says = os.pipe()
    _ask(args, cwd, environ, "", (terminal, terminal, terminal, says))
    os.close(says)
    return Ending(args, ended)


class Process(Ending):
    """A command that was forked and runs beside the test, with the methods of ``subprocess.Popen`` in text mode.

    With ``code``, that program is run instead, as by ``python -c``. bmhctl's modules are already loaded, so it can't
    change what they read when they are imported. Its stderr goes to an open file if there is one.
    """

    def __init__(
        self,
        args: Sequence[str],
        cwd: Path,
        environ: dict[str, str],
        code: str | None = None,
        stderr: int | None = None,
    ) -> None:
        given, act = (args, "") if code is None else ((code, *args), f"{__name__}:run_code")
        writes, *reads, ended = _ask_in_pipes(given, cwd, environ, act, stderr)
        super().__init__(args, ended)
        self.stdin = open(writes, "w")  # noqa: SIM115 - as Popen's
        self.stdout, self.stderr = map(open, reads)
        self._readers: list[_Reader] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._close_stdin()
        self.stdout.close()
        self.stderr.close()
        self.wait()

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Closes the command's stdin, waits until it has ended, and returns the rest of its output."""
        deadline = None if timeout is None else time.monotonic() + timeout
        self._close_stdin()
        self._readers = self._readers or [_Reader(stream) for stream in (self.stdout, self.stderr)]
        for reader in self._readers:
            reader.join(None if deadline is None else max(0, deadline - time.monotonic()))
            if reader.is_alive():
                raise subprocess.TimeoutExpired(self.args, timeout or 0)
        self.wait(None if deadline is None else max(0, deadline - time.monotonic()))
        out, err = (reader.text for reader in self._readers)
        return out, err

    def _close_stdin(self) -> None:
        with suppress(BrokenPipeError):
            self.stdin.close()

    def send_signal(self, number: int) -> None:
        """Sends the command a signal, unless it has ended."""
        if self.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        """Sends it SIGKILL, unless it has ended."""
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        """Sends it SIGTERM, unless it has ended."""
        self.send_signal(signal.SIGTERM)


class _Reader(threading.Thread):
    """Reads a stream to its end, and closes it."""

    def __init__(self, stream: IO[str]) -> None:
        super().__init__(daemon=True)
        self._stream = stream
        self.text = ""
        self.start()

    def run(self) -> None:
        if not self._stream.closed:
            self.text = self._stream.read()
            self._stream.close()


def run_code(code: str, *args: str) -> int:
    """Runs a program as ``python -c`` does: what a :class:`Process` with ``code`` calls."""
    sys.argv[:] = ["-c", *args]
    sys.path[0] = ""
    try:
        exec(compile(code, "<string>", "exec"), {"__name__": "__main__"})
    finally:
        sys.stdout.flush()
    return 0


def install(folder: Path) -> None:
    """Creates ``bmhctl`` in a folder, for scripts that call it often: it lets the parent process fork the command.

    Such a command has the caller's streams, arguments, folder and environment, but not its process group. Do not use it
    in tests of signals, the foreground of a terminal, resource limits or the umask.
    """
    with _lock:
        _ensure_parent()
    program = folder / "bmhctl"
    program.write_text(_CLIENT.format(python=sys.executable, address=_address[0]))
    program.chmod(0o755)


def _ask_in_pipes(
    args: Sequence[Any], cwd: Path, environ: dict[str, str], act: str, stderr: int | None = None
) -> tuple[int, ...]:
    """Starts a command; returns our ends of its stdin, stdout and stderr, and of the pipe for its id and its status."""
    ours, theirs = zip(*[_pipe(is_input) for is_input in (True, False, False, False)], strict=True)
    if stderr is not None:
        os.dup2(stderr, theirs[2], inheritable=False)
    _ask(args, cwd, environ, act, theirs)
    for handle in theirs:
        os.close(handle)
    return ours


def _ask(args: Sequence[Any], cwd: Path, environ: dict[str, str], act: str, theirs: tuple[int, ...]) -> None:
    """Starts a command with these streams, and with a pipe for its id and its status."""
    request = marshal.dumps((pickle.dumps(args), str(cwd), environ, act))
    assert len(request) < _LARGEST
    with _lock:
        _ensure_parent()
        socket.send_fds(_parent[0][0], [request], theirs)


def _status(said: bytes) -> int:
    """Return the status of a command from the parent's answer, which has its id and its status."""
    assert said.count(b" ") == 1, "the parent of all commands is gone"
    return int(said.split()[1])


def _pipe(is_input: bool) -> tuple[int, int]:
    """Return our end of a pipe, and that of the command."""
    read, write = os.pipe()
    return (write, read) if is_input else (read, write)


def _ensure_parent() -> None:
    if not _parent:
        _parent.append(_start())


def _start() -> tuple[socket.socket, subprocess.Popen[bytes]]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs, socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(b"")  # Linux chooses an abstract name, without a file
        listener.listen()
        _address[:] = [listener.getsockname()]
        process = subprocess.Popen(
            [sys.executable, "-W", "error", "-m", "tests.forked", str(theirs.fileno()), str(listener.fileno())],
            cwd=Path(__file__).parents[1],
            env={**os.environ, "LC_ALL": "C.UTF-8"},
            stdin=subprocess.PIPE,  # pipes, like those of each command: Python's stream objects are not created again
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=[theirs.fileno(), listener.fileno()],
            start_new_session=True,
        )
    return ours, process


def close() -> None:
    """Ends the parent of all commands."""
    for connection, process in _parent:
        connection.close()
        process.communicate()
    _parent.clear()


# the parent and its children


def _serve(connection: socket.socket, listener: socket.socket) -> None:
    _import_everything()
    gc.collect()
    gc.freeze()  # children share existing objects as long as no garbage collection touches them
    with selectors.DefaultSelector() as selector:
        for each in (connection, listener):
            selector.register(each, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fileobj is listener:
                    selector.register(listener.accept()[0], selectors.EVENT_READ)
                elif isinstance(key.fileobj, socket.socket):
                    request, handles, _, _ = socket.recv_fds(key.fileobj, _LARGEST, 4)
                    if not request and key.fileobj is connection:
                        return
                    if not request:
                        selector.unregister(key.fileobj)
                        key.fileobj.close()
                        continue
                    args, folder, environ, act = marshal.loads(request)
                    if isinstance(args, bytes):
                        args = pickle.loads(args)
                    called = _function(act) if act else None
                    child = os.fork()
                    if not child:
                        for (
                            key
                        ) in selector.get_map().values():  # the answer ends when all processes have closed the pipe
                            if isinstance(key.fileobj, socket.socket):
                                key.fileobj.close()
                            else:
                                os.close(key.data[1])
                        selector.close()
                        _become(handles, folder, environ, called, args)
                    for handle in handles[:3]:
                        os.close(handle)
                    os.write(handles[3], f"{child} ".encode())
                    selector.register(os.pidfd_open(child), selectors.EVENT_READ, (child, handles[3]))
                else:
                    child, answer = key.data
                    _, status = os.waitpid(child, 0)
                    selector.unregister(key.fileobj)
                    os.close(key.fd)
                    os.write(answer, str(os.waitstatus_to_exitcode(status)).encode())
                    os.close(answer)


def build_commands_once() -> None:
    """Keeps the commands that this process builds: to build ``run`` takes as long as all other work of it."""
    from bmhctl.cli import app, main

    built, describe = functools.cache(app.build_command), app.OptionalValueCommand.format_options

    def described(command: app.OptionalValueCommand, ctx: Any, formatter: Any) -> None:
        describe(command, ctx, formatter)
        built.cache_clear()  # its help hides the ranges of its numbers, also from later errors

    if not hasattr(app.build_command, "cache_info"):
        app.build_command = main.build_command = built
        app.OptionalValueCommand.format_options = described


def _import_everything() -> None:
    """Imports the modules that commands import, also those that they import only when they run."""
    import pkgutil

    import bmhctl
    from bmhctl.cli import app, main
    from bmhctl.cli.commands import ENTRIES

    build_commands_once()
    for name, entry in ENTRIES.items():
        app.build_command(name, entry)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    for module in pkgutil.walk_packages(bmhctl.__path__, "bmhctl."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    errors = os.dup(2)
    with tempfile.TemporaryDirectory() as folder, open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
        for name in ("lab.db", "lab.toml"):
            for line in (
                "init",
                "add node1",
                "ready node1",
                "reserve node1",
                "list",
                "list -o json",
                "show x",
                "status",
            ):
                main.run(["-i", f"{folder}/{name}", *line.split()])
    os.dup2(errors, 2)
    os.close(errors)
    for number, handler in handlers.items():
        signal.signal(number, handler)


def _function(name: str) -> Callable[..., int]:
    """Returns a function of the tests; its module is imported once, for all commands."""
    module, _, function = name.partition(":")
    found: Callable[..., int] = getattr(importlib.import_module(module), function)
    return found


def _become(
    handles: list[int], folder: str, environ: dict[str, str], act: Callable[..., int] | None, args: Sequence[Any]
) -> None:
    """Runs a command in this process, and ends with it."""
    try:
        for number, handle in enumerate(handles[:3]):
            os.dup2(handle, number)
        for handle in handles:
            os.close(handle)
        os.setsid()
        if os.isatty(0):
            with suppress(OSError):  # a program that was installed has the terminal of its caller
                fcntl.ioctl(0, termios.TIOCSCTTY, 0)
            sys.stdout.reconfigure(line_buffering=True)
        os.environ.clear()
        os.environ.update(environ)
        time.tzset()
        os.chdir(folder)
        if environ.get(_FAULTS):
            faulthandler.enable()
        if act is not None:
            status = act(*args)
            sys.stderr.flush()
            os._exit(status)
        from bmhctl import __main__ as command

        sys.argv[1:] = args
        command.main()
    except SystemExit as ended:
        os._exit(ended.code if isinstance(ended.code, int) else 1)
    except BaseException:  # noqa: BLE001 - as the interpreter would
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)


if __name__ == "__main__":
    with socket.socket(fileno=int(sys.argv[1])) as requests, socket.socket(fileno=int(sys.argv[2])) as others:
        _serve(requests, others)
