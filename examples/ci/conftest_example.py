"""A host of the lab for a test session: put this into your conftest.py, and ask for ``host`` in your tests.

    BMHCTL_INVENTORY=/srv/lab/lab.toml pytest --lab-selector arch=arm64

The host is reserved when the first test asks for it. It is given back at the end of the session, also after Ctrl-C or
TERM. When pytest is killed with KILL, the host stays reserved until the lease expires.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest

import bmhctl
from bmhctl.errors import NotYoursError

TTL = 20 * 60.0
"""Seconds. The lease is renewed between tests, so no single test may take longer than two thirds of this time."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--lab-selector", default="", help="a selector for the host to reserve")


class Bench:
    """A reserved host. Its lease is renewed between the tests, in the thread that opened the inventory."""

    def __init__(self, lab: bmhctl.Inventory, selector: str) -> None:
        self._lab = lab
        self._held = lab.reserve(selector=selector, purpose="pytest", ttl=f"{TTL:.0f}s", wait="30m")
        self._renewed = time.monotonic()
        self.host = self._held.hosts[0]

    def renew(self) -> None:
        """Renews the lease when a third of it has passed; raises ``NotYoursError`` when it is lost."""
        if time.monotonic() - self._renewed > TTL / 3:
            self._lab.extend(self._held.reservation.id)
            self._renewed = time.monotonic()

    def give_back(self, failed: int) -> None:
        reason = f"tests failed: {failed}" if failed else "tests passed"
        with suppress(NotYoursError):  # the lease was lost, which a test reported
            self._lab.release(self._held.reservation.id, reason=reason)


@pytest.fixture(scope="session")
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    # CI systems cancel a job with TERM. Treat it like Ctrl-C, so that the host is given back.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with bmhctl.open_inventory(os.environ["BMHCTL_INVENTORY"]) as lab:
        made = Bench(lab, request.config.getoption("--lab-selector"))
        try:
            yield made
        finally:
            made.give_back(request.session.testsfailed)


@pytest.fixture
def host(bench: Bench) -> bmhctl.Host:
    """The host: its name, address, labels and hardware are in ``host.spec``."""
    try:
        bench.renew()
    except bmhctl.BmhctlError as error:
        pytest.exit(f"the host is lost: {error}", returncode=3)
    return bench.host
