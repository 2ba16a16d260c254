"""Fixtures for all tests: inventories on every backend, several actors, and a clock that the test moves."""

from __future__ import annotations

import gc
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial, wraps
from pathlib import Path
from typing import cast
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, settings

from bmhctl.stores import open_store
from bmhctl.stores.meta import FINGERPRINT, OWNER
from bmhctl.stores.postgres import session
from bmhctl.stores.postgres.database import PostgresDatabase
from bmhctl.stores.sqlite import open_files
from bmhctl.stores.store import Store
from bmhctl.stores.toml.file import Fingerprint, sha256_of
from bmhctl.usecases import inventories
from bmhctl.usecases.shared.context import Context
from bmhctl.usecases.shared.refresh import refresh
from tests import forked
from tests.postgres import TEMPLATE, VARIABLE, Contents, EmptyInventories, Server, drop_schema, schema_url

pytest_plugins = ("tests.fast", "tests.faults.figures")

SCALE = float(os.environ.get("BMHCTL_TEST_SCALE", "0.05"))
"""The share of all faults and races that is tried; 1 means all of them."""

settings.register_profile(
    "default",
    max_examples=50,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.register_profile("long", parent=settings.get_profile("default"), max_examples=2000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))

BACKENDS = ("toml", "sqlite", "postgres")
"""Every backend of an inventory."""

FILES = ("toml", "sqlite")
"""The backends that are files."""

SUFFIX = {"toml": "lab.toml", "sqlite": "lab.db", "postgres": "lab.schema"}
"""The path of an inventory in a test's folder: its file, or a path after which its schema on the server is named."""

_server: list[Server] = []

_empty: list[EmptyInventories] = []

_new: dict[str, dict[str, bytes]] = {}
"""The files of a new inventory of a kind, by their endings."""

_opened: list[Store] = []
"""The contexts that labs have opened and not closed yet."""


def pytest_configure(config: pytest.Config) -> None:
    """Starts one server for all tests, unless one is given, and shows times in UTC on any machine."""
    os.environ["TZ"] = "UTC"
    time.tzset()
    for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGQUIT, signal.SIG_DFL)):
        if signal.getsignal(number) is signal.SIG_IGN:  # set by a shell in the background, and inherited
            signal.signal(number, handler)
    if VARIABLE not in os.environ and not hasattr(config, "workerinput"):
        _server.append(Server())
        os.environ[TEMPLATE] = str(_server[0].template())
        _server[0].start()
        os.environ[VARIABLE] = _server[0].url


def pytest_collection() -> None:
    """Disables garbage collection while the tests are collected: almost nothing becomes garbage."""
    gc.disable()


def pytest_collection_finish() -> None:
    """Excludes the objects that exist now from garbage collections, because some tests collect often."""
    gc.enable()
    gc.freeze()


def pytest_unconfigure() -> None:
    """Ends the server."""
    forked.close()
    for inventories_there in _empty:
        inventories_there.close()
    for server in _server:
        server.remove()


def location(path: Path) -> str:
    """Return the location of the inventory at a path, in the form for a command."""
    return schema_url(os.environ[VARIABLE], path) if path.suffix == ".schema" else str(path)


class Clock:
    """A clock that the test moves; each reading moves it on by a microsecond."""

    def __init__(self) -> None:
        self.now = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        self.now += timedelta(microseconds=1)
        return self.now

    def move(self, **by: float) -> None:
        self.now += timedelta(**by)


def _references(parameter: object) -> int:
    return sys.getrefcount(parameter)


def _references_of_local() -> int:
    local = object()
    return sys.getrefcount(local)


_OF_CALL = next(_references(each) for each in [object()]) - 1
_OF_LOCAL = _references_of_local()
"""How many references a count itself adds, to what a generator passes on and to a local variable: fewer since 3.14."""


def _is_unused(store: Store) -> bool:
    """Return whether a context is open, and only ``Lab.opened`` and ``_opened`` refer to it.

    The lab's ``settle`` may also keep its last context alive.
    """
    last = store.settle.args[0] if isinstance(store.settle, partial) else None
    if store not in _opened or (last is not None and sys.getrefcount(last) > _OF_LOCAL + 1):
        return False
    return sys.getrefcount(store) - (last is not None) <= _OF_CALL + 2


def _open(location: str) -> Store:
    """Open an inventory; one on the server through a connection that an earlier test has left, if there is one."""
    if not _empty:
        return open_store(location)
    with patch.object(session, "connect", _empty[0].connect):
        return open_store(location)


@dataclass
class Lab:
    """An inventory in its own folder."""

    path: Path
    clock: Clock = field(default_factory=Clock)
    said: list[str] = field(default_factory=list)
    opened: list[Store] = field(default_factory=list)

    @property
    def is_toml(self) -> bool:
        return self.path.suffix == ".toml"

    @property
    def location(self) -> str:
        """The location of the inventory, in the form for a command."""
        return location(self.path)

    def context(self, actor: str = "alice") -> Context:
        """Return a context with a separate connection, like that of another process; unused contexts are reused.

        To open a context takes up to 10 ms of processor time, and many tests need a dozen contexts, each for one call.
        """
        store = next((store for store in self.opened if _is_unused(store)), None)
        if store is None:
            store = _open(self.location)
            self.opened.append(store)
            _opened.append(store)
        store.settle = None  # it is bound to the context before
        return Context(store=store, actor=actor, clock=self.clock, environ=dict(os.environ), report=self.said.append)

    @contextmanager
    def visit(self, actor: str = "alice") -> Iterator[Context]:
        """Yield a context for another thread, and close it: only the thread that opened a connection can close it."""
        with closing(open_store(self.location)) as store:
            yield Context(store=store, actor=actor, clock=self.clock, environ=dict(os.environ), report=self.said.append)

    def leave(self) -> list[Store]:
        """Forget the contexts that it has opened, and return their stores, which are still open."""
        left = [*self.opened]
        self.opened.clear()
        for store in left:
            if store in _opened:
                _opened.remove(store)
        return left

    def close(self) -> None:
        for store in self.leave():
            store.close()

    def remove(self) -> None:
        """Removes the inventory from the server; files are removed with the test's folder."""
        self.close()
        if self.path.suffix == ".schema":
            drop_schema(self.location)

    def policy(self, text: str) -> None:
        """Replaces the policy of the inventory; the hosts of a TOML file are kept."""
        from bmhctl.usecases.policy import apply_policy

        if self.is_toml:
            with self.path.open("a", encoding="utf-8") as file:
                file.write("\n" + text)
        else:
            apply_policy(self.context(), text, "policy.toml")


@dataclass(frozen=True)
class Run:
    """The exit status and the output of a command."""

    status: int
    stdout: str
    stderr: str


Bmhctl = Callable[..., Run]


def environment(**extra: str) -> dict[str, str]:
    """Return the environment of a command under test, without the caller's variables that would affect it."""
    kept = {
        key: os.environ[key]
        for key in ("PATH", "HOME", "LANG", "TMPDIR", "COVERAGE_PROCESS_START")
        if key in os.environ
    }
    return {**kept, "LC_ALL": "C.UTF-8", "TZ": "UTC", "BMHCTL_ACTOR": "alice", "PAGER": "cat", **extra}


def run_bmhctl(*args: str, cwd: Path, stdin: str | bytes | None = None, **extra: str) -> Run:
    """Runs the real command in a pipe."""
    environ = environment(**extra)
    given = stdin.encode() if isinstance(stdin, str) else stdin or b""
    if forked.can_run(environ):
        status, stdout, stderr = forked.run(args, cwd, environ, given, 60)
    else:
        done = subprocess.run(
            [sys.executable, "-W", "error", "-m", "bmhctl", *args],
            cwd=cwd,
            env=environ,
            input=given,
            capture_output=True,
            timeout=60,
        )
        status, stdout, stderr = done.returncode, done.stdout, done.stderr
    return Run(status, stdout.decode(), stderr.decode())


def make_empty(path: Path) -> None:
    """Copies the empty file inventory of ``init``: a copy takes 0.1 ms of processor time, ``init`` takes 7 ms."""
    kind = path.suffix.removeprefix(".")
    if kind not in _new:
        with tempfile.TemporaryDirectory() as folder:
            inventories.init(str(first := Path(folder, f"lab.{kind}")))
            _new[kind] = {file.name.removeprefix(first.stem): file.read_bytes() for file in Path(folder).iterdir()}
    for suffix, content in _new[kind].items():
        path.with_name(path.stem + suffix).write_bytes(content)


def write_copy(files: dict[str, bytes], folder: Path) -> None:
    """Writes the files of an inventory that was made elsewhere; a state file belongs to the TOML file here."""
    for name, content in files.items():
        (folder / name).write_bytes(content)
    for path in folder.glob("*.toml"):
        state = path.with_suffix(".state.db")
        if path.name in files and state.name in files:
            at = path.stat()
            digest = sha256_of(files[path.name])
            seen = Fingerprint(at.st_ino, at.st_size, at.st_mtime_ns, at.st_ctime_ns, digest, settled=False)
            with closing(sqlite3.connect(state, isolation_level=None)) as database:
                known = [(str(path), OWNER), (seen.to_text(), FINGERPRINT)]
                database.executemany("UPDATE meta SET value = ? WHERE key = ?", known)


def copied(prepare: Callable[[Lab], Lab]) -> Callable[[Lab], Lab]:
    """Lets a fixture prepare an empty inventory once on each backend; later tests get a copy of the result.

    The fixture must use only the inventory and its clock.
    """
    left: dict[str, tuple[dict[str, bytes] | Contents, datetime, list[str]]] = {}

    @wraps(prepare)
    def made(lab: Lab) -> Lab:
        name = lab.path.name
        if name not in left:
            left[name] = _left(prepare, lab)
        there, lab.clock.now, said = left[name]
        lab.said[:] = said
        if isinstance(there, Contents):
            _empty[0].fill(lab.path, there)
        else:
            write_copy(there, lab.path.parent)
        return lab

    return made


def _left(prepare: Callable[[Lab], Lab], lab: Lab) -> tuple[dict[str, bytes] | Contents, datetime, list[str]]:
    """Return the prepared inventory, with the time and the reports of its preparation."""
    if lab.path.suffix == ".schema":
        prepare(lab).close()
        return _empty[0].contents(lab.path), lab.clock.now, [*lab.said]
    with tempfile.TemporaryDirectory() as folder:
        first = Lab(Path(folder, lab.path.name))
        make_empty(first.path)
        prepare(first)
        refresh(first.context())  # the copy counts as synced
        first.close()
        files = {file.name: file.read_bytes() for file in Path(folder).iterdir() if file.is_file()}
    return files, first.clock.now, first.said


def made_in(backend: str, folder: Path) -> Iterator[Lab]:
    """Yield an empty inventory on a backend, and remove it afterwards."""
    made = Lab(folder / SUFFIX[backend])
    if backend != "postgres":
        make_empty(made.path)
        yield made
        made.remove()
        return
    if not _empty:
        _empty.append(EmptyInventories(os.environ[VARIABLE]))
    _empty[0].take(made.path)
    yield made
    _empty[0].give_back(made.path, [cast(PostgresDatabase, store.database)._connection for store in made.leave()])


@pytest.fixture(autouse=True)
def closes_labs() -> Iterator[None]:
    """Closes the connections of labs that a test made itself, because Python 3.13 warns of open connections."""
    before = len(_opened)
    yield
    for store in _opened[before:]:
        store.close()
    del _opened[before:]
    for key, handle in [*open_files._open.items()]:
        if not os.fstat(handle).st_nlink:  # the test is over; each new inventory checks all open files
            os.close(open_files._open.pop(key))


@pytest.fixture(params=BACKENDS)
def lab(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Lab]:
    """An empty inventory, once on each backend."""
    yield from made_in(request.param, tmp_path)


@pytest.fixture
def toml_lab(tmp_path: Path) -> Iterator[Lab]:
    """An empty TOML inventory."""
    made = Lab(tmp_path / "lab.toml")
    make_empty(made.path)
    yield made
    made.close()


@pytest.fixture
def bmhctl(tmp_path: Path) -> Bmhctl:
    """The real command, run in the test's folder."""

    def call(*args: str, stdin: str | bytes | None = None, cwd: Path | None = None, **extra: str) -> Run:
        return run_bmhctl(*args, cwd=cwd or tmp_path, stdin=stdin, **extra)

    return call


@pytest.fixture(scope="session")
def forking(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for the ``PATH`` of scripts, with a ``bmhctl`` that is forked: see ``forked.install``."""
    folder = tmp_path_factory.mktemp("bin")
    forked.install(folder)
    return folder


@pytest.fixture
def zone(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Sets the local zone."""

    def be_in(name: str) -> None:
        monkeypatch.setenv("TZ", name)
        time.tzset()

    yield be_in
    monkeypatch.undo()
    time.tzset()
