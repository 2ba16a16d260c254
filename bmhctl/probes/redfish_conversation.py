"""Hold a conversation with a BMC: all requests about one host, with a time limit, and few at the same time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from threading import Condition
from typing import TypeVar

from bmhctl.domain.bmc_address import Endpoint, redfish_endpoint
from bmhctl.domain.model import Bmc
from bmhctl.probes.cancellation import Cancelled, InterruptedStepError, within
from bmhctl.probes.credentials import BmcError, credentials
from bmhctl.probes.http_connection import ConnectionRules, HttpConnection, proxy_for
from bmhctl.probes.redfish_client import Client
from bmhctl.probes.redfish_errors import PassingError, RejectedError
from bmhctl.probes.redfish_login import Login
from bmhctl.probes.redfish_requests import Requests, bmc_name
from bmhctl.probes.redfish_time_limit import TimeLimit
from bmhctl.probes.step_environment import StepEnvironment

_T = TypeVar("_T")
_REMEMBERED = 60.0  # seconds for which credentials that a BMC has rejected are not tried again
_GRACE = 0.3  # seconds past the deadline in which the conversation may still end with a more precise error


def ask(bmc: Bmc | None, environment: StepEnvironment, timeout: timedelta, question: Callable[[Client], _T]) -> _T:
    """Return the result of ``question`` in a conversation with a BMC that takes at most ``timeout``.

    At most ``environment.bmc_parallel`` conversations with one BMC are held at a time; the time limit begins when the
    conversation begins. Raises :class:`BmcError`. If a session was opened, it is ended in any case.
    """
    if bmc is None:
        raise BmcError("it has no BMC declared", hint="bmhctl set HOST --bmc redfish+https://…")
    where, seconds = endpoint(bmc), timeout.total_seconds()
    with _turn(where.server, environment.bmc_parallel, environment.cancelled):
        started = time.monotonic()
        secret = credentials(bmc.credentials, environment, seconds)
        _check_not_rejected(where.server, secret)
        rules = ConnectionRules(
            bmc.verify_tls, bmc.tls_min_version, proxy_for(environment.proxy, environment.environ, where.url)
        )
        limit = TimeLimit(bmc_name(where), seconds, started, environment.cancelled)
        login = Login(Requests(where, HttpConnection(where.url, rules), limit), secret)
        client = Client(where, login, limit)

        def work() -> _T:
            try:
                return question(client)
            except PassingError as passing:
                raise passing.error from None
            except RejectedError as rejected:
                _rejected[where.server, secret] = time.monotonic(), rejected
                raise

        try:
            return within(limit.left + _GRACE, environment.cancelled, work)
        except TimeoutError:
            raise limit.late() from None
        finally:
            login.end()


def endpoint(bmc: Bmc) -> Endpoint:
    """Return where a BMC's service and system are; raises :class:`BmcError` for an address without Redfish."""
    try:
        found = redfish_endpoint(bmc.address, bmc.system_id)
    except ValueError as error:
        raise BmcError(f"its BMC address {bmc.address}: {error}", hint="bmhctl set HOST --bmc …") from None
    if found is None:
        raise BmcError(
            f"its BMC address {bmc.address} does not use Redfish",
            hint="redfish+https://… does; for ipmi:// declare a check of kind command that calls ipmitool: see "
            "examples/lab/ipmi-power.sh",
        )
    return found


_Server = tuple[str, str | None, int]

_rejected: dict[tuple[_Server, tuple[str, str] | None], tuple[float, RejectedError]] = {}
"""The credentials that each BMC has rejected, with the time and the error."""


def _check_not_rejected(server: _Server, login: tuple[str, str] | None) -> None:
    """Raise the previous error again if a BMC has just rejected these credentials.

    BMCs lock an account, or this machine, after a few failed logins. Therefore several hosts of one BMC, and the
    retries of a step, cause only one login.
    """
    at, error = _rejected.get((server, login), (0.0, None))
    if error is not None and time.monotonic() - at < _REMEMBERED:
        raise RejectedError(error.message, hint=error.hint)


_turns: dict[_Server, int] = {}

_free = Condition()


@contextmanager
def _turn(server: _Server, most: int, cancelled: Cancelled) -> Iterator[None]:
    """Wait until fewer than ``most`` conversations with a BMC are held by this process."""
    with _free:
        while _turns.get(server, 0) >= most:
            if cancelled.is_set():
                raise InterruptedStepError
            _free.wait(0.1)
        _turns[server] = _turns.get(server, 0) + 1
    try:
        yield
    finally:
        with _free:
            _turns[server] -= 1
            _free.notify_all()
