"""The pytest plugin: fixtures for reserved hosts, one reservation per process, renewed and given back by itself."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

if TYPE_CHECKING:
    from bmhctl.api import Inventory
    from bmhctl.domain.model import Host
    from bmhctl.results import Held

_TTL = 600  # the length of a lease in seconds; it is renewed while the test runs
_RETRY = 5  # seconds between two tries to renew it while the inventory is unavailable
_LOST = 3  # the exit status of pytest when hosts were lost while tests ran
_VARIABLE = "BMHCTL_INVENTORY"


class _Wanted(NamedTuple):
    selector: str
    number: int


class _Lease:
    """Hosts that are reserved: a thread renews the lease, and a process gives them back if this one dies."""

    def __init__(self, location: str, wanted: _Wanted, wait: str | None, tell: Callable[[str], None]) -> None:
        import bmhctl
        from bmhctl.errors import BusyError

        self.wanted = wanted
        self.lost: Exception | None = None  # why the lease may have ended already
        self._location = location
        self._process = os.getpid()
        self._ended = threading.Event()
        purpose = " ".join(filter(None, ("pytest", os.environ.get("PYTEST_XDIST_WORKER"))))
        with bmhctl.open_inventory(location) as lab:
            reserve = partial(
                lab.reserve, selector=wanted.selector, count=wanted.number, purpose=purpose, ttl=f"{_TTL}s"
            )
            try:
                self._held: Held = reserve()
            except BusyError as error:
                if wait is None:
                    raise
                tell(f"bmhctl: waiting for up to {wait} (--bmh-wait): {error.message}")
                self._held = reserve(wait=wait)
            actor = self._held.reservation.owner
        self._guard = _guard(location, actor, self.id)
        self._renewer = threading.Thread(target=self._renew, name="bmhctl renews the lease", daemon=True)
        self._renewer.start()

    @property
    def id(self) -> str:
        """The reservation's id."""
        return self._held.reservation.id

    @property
    def hosts(self) -> Sequence[Host]:
        """The reserved hosts."""
        return self._held.hosts

    def give_back(self, reason: str) -> None:
        """Give the hosts back, unless a test has done so, or this is a process that a test has forked.

        Raises :class:`NotYoursError` or :class:`NotFoundError` if they were lost, and another :class:`BmhctlError` if
        the inventory can't be reached; the process that outlives this one tries again then.
        """
        if self._process != os.getpid():
            return
        self._ended.set()
        self._renewer.join()
        with self._inventory() as lab:
            lab.release(self.id, reason=reason)
        with suppress(BrokenPipeError):
            self._guard.communicate(b"done\n")

    def _inventory(self) -> Inventory:
        import bmhctl

        return bmhctl.open_inventory(self._location, actor=self._held.reservation.owner)

    def _renew(self) -> None:
        from bmhctl.errors import BmhctlError, NotFoundError, NotYoursError
        from bmhctl.support.watchdog import steady

        ends, pause = steady() + _TTL, _TTL / 3
        while not self._ended.wait(pause):
            now = steady()
            try:
                with self._inventory() as lab:
                    lab.extend(self.id)
                ends, pause = now + _TTL, _TTL / 3
            except (NotFoundError, NotYoursError) as error:
                self.lost = error
                return
            except (BmhctlError, OSError) as error:  # it is unavailable, or a test has opened too many files
                if now >= ends:
                    self.lost = error
                    return
                pause = _RETRY


def _guard(location: str, actor: str, reservation: str) -> subprocess.Popen[bytes]:
    """Start a process that gives a reservation back if this process ends without doing so."""
    # -P: the current folder may contain modules with the names of those that bmhctl imports.
    release = [sys.executable, "-P", "-m", "bmhctl", "-i", location, "--as", actor, "--quiet", "release"]
    return subprocess.Popen(
        ["/bin/sh", "-c", 'read -r said || exec "$@"', "sh", *release, "-R", reservation, "--reason", "pytest died"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C is for pytest alone
    )


_LEASE = pytest.StashKey["_Lease | None"]()
_TIMED_OUT = pytest.StashKey[set[_Wanted]]()  # the hosts for which a wait has timed out: the next test does not wait
_A_WORKER_LOST = pytest.StashKey[bool]()
_WORKER_LOST = "bmhctl lost the hosts"  # the key in the output of a worker


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options; nothing of bmhctl is imported before a test asks for a host."""
    group = parser.getgroup("bmhctl", "hosts of a lab")
    group.addoption("--bmh-inventory", metavar="INVENTORY", help=f"where hosts are reserved (default: ${_VARIABLE})")
    group.addoption("--bmh-wait", metavar="DURATION", default="30m", help="how long to wait for hosts (default: 30m)")


def pytest_configure(config: pytest.Config) -> None:
    """Declare the marker."""
    config.addinivalue_line("markers", "bmh(selector, count=1): which hosts of the lab the test needs")


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Give the hosts back, also after Ctrl-C; end pytest with an error if they were lost while tests ran."""
    failed = session.testsfailed
    said = "pytest was interrupted" if exitstatus == pytest.ExitCode.INTERRUPTED else "tests passed"
    lost = _give_back(session.config, f"tests failed: {failed}" if failed else said)
    if lost is not None:
        _tell(session.config, f"bmhctl: {lost}")
        _note_loss_of_worker(session.config)
    if lost is not None or session.config.stash.get(_A_WORKER_LOST, False):
        session.exitstatus = _LOST


def _note_loss_of_worker(config: pytest.Config) -> bool:
    """Note that a worker of pytest-xdist has lost its hosts; return False if this process is not a worker."""
    output: dict[str, object] | None = getattr(config, "workeroutput", None)
    if output is not None:
        output[_WORKER_LOST] = True
    return output is not None


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    """Remember that a worker of pytest-xdist has lost its hosts."""
    if getattr(node, "workeroutput", {}).get(_WORKER_LOST):
        node.config.stash[_A_WORKER_LOST] = True


def _give_back(config: pytest.Config, reason: str) -> str | None:
    """Give the hosts back; return why they were lost, or may have been lost, before that; None if they were not."""
    lease = config.stash.get(_LEASE, None)
    config.stash[_LEASE] = None
    if lease is None:
        return None
    from bmhctl.errors import BmhctlError, NotFoundError, NotYoursError

    try:
        lease.give_back(reason)
    except (NotFoundError, NotYoursError) as error:
        return f"the hosts were lost while tests ran: {error.message}"
    except BmhctlError as error:
        if lease.lost is not None:
            return f"the hosts may be lost, because their lease could not be renewed while tests ran: {lease.lost}"
        later = "bmhctl tries again when pytest ends; otherwise their lease expires by itself"
        _tell(config, f"bmhctl: the hosts could not be given back: {error.message}; {later}")
    return None


def _tell(config: pytest.Config, line: str) -> None:
    """Write a line to stderr past the capturing of pytest."""
    capture = config.pluginmanager.getplugin("capturemanager")
    with nullcontext() if capture is None else capture.global_and_fixture_disabled():
        sys.stderr.write(f"\n{line}\n")
        sys.stderr.flush()


@pytest.fixture
def bmh_hosts(request: pytest.FixtureRequest) -> list[Host]:
    """Reserve the hosts that the test's marker asks for: `@pytest.mark.bmh("arch=arm64", count=2)`.

    Tests that ask for the same get the same hosts. Without an inventory, the test is skipped.
    """
    wanted = _wanted(request.node)
    location = request.config.getoption("--bmh-inventory") or os.environ.get(_VARIABLE)
    if not location:
        pytest.skip(f"no inventory: --bmh-inventory or ${_VARIABLE} names one")
    config = request.config
    if "://" not in location:  # a test may change the current folder
        location = str(config.invocation_params.dir / Path(location).expanduser())
    lease = config.stash.get(_LEASE, None)
    if lease is None or lease.wanted != wanted or lease.lost is not None:
        if lost := _give_back(config, "the next test needs other hosts"):
            if _note_loss_of_worker(config):  # pytest-xdist does not expect a worker to exit
                pytest.fail(f"bmhctl: {lost}", pytrace=False)
            pytest.exit(lost, returncode=_LOST)
        lease = config.stash[_LEASE] = _reserved(location, wanted, config)
    return list(lease.hosts)


@pytest.fixture
def bmh_host(bmh_hosts: list[Host]) -> Host:
    """Reserve the host that the test's marker asks for; the first one if it asks for several."""
    return bmh_hosts[0]


def _reserved(location: str, wanted: _Wanted, config: pytest.Config) -> _Lease:
    """Return the lease of the hosts; if they can't be reserved, fail the test with the reason and what to do next."""
    from bmhctl.errors import BmhctlError, WaitTimeoutError

    timed_out = config.stash.setdefault(_TIMED_OUT, set())
    wait = None if wanted in timed_out else config.getoption("--bmh-wait")
    try:
        return _Lease(location, wanted, wait, partial(_tell, config))
    except BmhctlError as error:
        if isinstance(error, WaitTimeoutError):
            timed_out.add(wanted)
        said = f"bmhctl: {error.host}: {error.message}" if error.host else f"bmhctl: {error.message}"
        said += f"\nhint: {error.hint}" if error.hint else ""
    pytest.fail(said, pytrace=False)


def _wanted(node: pytest.Item) -> _Wanted:
    mark = node.get_closest_marker("bmh")
    arguments = {} if mark is None else {**dict(zip(("selector", "count"), mark.args, strict=False)), **mark.kwargs}
    selector, count = arguments.pop("selector", ""), arguments.pop("count", 1)
    if arguments or not isinstance(selector, str) or not isinstance(count, int) or count < 1:
        pytest.fail('the marker is @pytest.mark.bmh("SELECTOR", count=N)', pytrace=False)
    return _Wanted(selector, count)
