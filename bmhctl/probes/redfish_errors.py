"""The failures of a Redfish service: temporary ones, refusals, and what to do about them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from bmhctl.probes.credentials import BmcError
from bmhctl.probes.http_connection import HttpError, Reply
from bmhctl.probes.redfish_reply import reason_of, resolution_of, retry_after

_T = TypeVar("_T")

_PASSING = frozenset({404, 408, 425, 429, 500, 502, 503, 504})
_BUSY = frozenset({429, 502, 503, 504})
_RESTARTING = frozenset({"refused", "cut", "half", "timeout", "no route"})  # kinds of HttpError
TRY_TLS = "bmhctl set HOST --bmc redfish+https://… speaks TLS"
"""The hint for a BMC that requires TLS, where the address declares none."""
_TLS_HINTS = {
    "certificate": "bmhctl set HOST --no-verify-tls accepts any certificate",
    "client certificate": "let the BMC accept clients without a certificate",
    "tls": "bmhctl set HOST --tls-min-version 1.0 accepts old TLS",
    "only tls": TRY_TLS,
    "no tls": "bmhctl set HOST --bmc redfish+http://… speaks without TLS",
}
POWER_HINT = "bmhctl power HOST status shows whether the power changed"
"""The hint after a reset whose effect is not known."""
CHANGE_HINT = "try again: a change that the BMC shows is not sent again"
"""The hint after any other change whose effect is not known."""

_PAGES = (  # texts of nginx, Apache and Go with status 400
    (b"HTTPS port", TRY_TLS),
    (b"SSL-enabled server port", TRY_TLS),
    (b"HTTP request to an HTTPS server", TRY_TLS),
    (b"No required SSL certificate", _TLS_HINTS["client certificate"]),
)


class PassingError(Exception):
    """A failure that may be temporary; ``error`` is the error to report if it lasts.

    ``after`` are the seconds to wait, if the BMC gives them. ``sent`` is true if the BMC may have acted on the request,
    ``busy`` if it asks to try again, or answers like a BMC that restarts, ``silent`` if no answer came in time.
    """

    def __init__(
        self, error: BmcError, *, sent: bool, busy: bool = False, after: float | None = None, silent: bool = False
    ) -> None:
        super().__init__(error.message)
        self.error = error
        self.sent = sent
        self.busy = busy
        self.after = after
        self.silent = silent


class RejectedError(BmcError):
    """The BMC rejects the credentials: they are wrong, or the account is locked."""


class RefusedError(BmcError):
    """The BMC received a request, refused it and did nothing. ``answer`` is the HTTP status."""

    answer = 0


def first_accepted(name: str, ways: Iterable[Callable[[], _T]]) -> _T:
    """Try the ways in turn, and return the result of the first that the BMC with this name does not refuse. If it
    refuses all of them, raise what :func:`combined` returns.
    """
    refusals: list[RefusedError] = []
    for way in ways:
        try:
            return way()
        except RefusedError as error:
            refusals.append(error)
    raise combined(name, refusals)


def combined(name: str, refusals: Sequence[RefusedError]) -> RefusedError:
    """Return an error with the reasons of all refusals by the BMC with this name: any may be the one that matters."""
    first = refusals[0]
    words = (error.message.removeprefix(f"{name} ").removeprefix("refuses: ") for error in refusals[1:])
    known = first.message.removeprefix(f"{name} ").removeprefix("refuses: ")
    reasons = [first.message, *dict.fromkeys(each for each in words if each != known)]
    error = RefusedError("; ".join(reasons), hint=next((each.hint for each in refusals if each.hint), None))
    error.answer = first.answer
    return error


def unreachable(name: str, error: HttpError, *, lacks_tls: bool) -> PassingError:
    """Return the error for a request without an answer.

    ``lacks_tls`` is true if the address declares no TLS; the BMC may require it.
    """
    hint = _TLS_HINTS.get(error.kind)
    if error.kind == "cut" and error.sent and lacks_tls:
        hint = TRY_TLS
    return PassingError(
        BmcError(f"{name} {error.words}", hint=hint),
        sent=error.sent,
        busy=error.kind in _RESTARTING,
        silent=error.kind == "timeout",
    )


def refusal(name: str, reply: Reply, shown: Callable[[str], str], *, acting: bool) -> BmcError | PassingError:
    """Return the error for an answer with a status of 300 or above: a temporary or a permanent one.

    ``shown`` makes a text of the BMC fit for a message, ``acting`` is true if the request changes something.
    """
    reason, may_pass = reason_of(reply)
    words = f"{name} refuses: {shown(reason)} ({reply.status})"
    if may_pass or (acting and reply.status == 409):
        return PassingError(BmcError(words), sent=False, busy=True, after=retry_after(reply))
    if reply.status in _PASSING and not (acting and reply.status == 404):
        busy = reply.status in _BUSY
        return PassingError(BmcError(words), sent=reply.status != 429, busy=busy, after=retry_after(reply))
    if acting and reply.status >= 500 and reply.status != 501:
        return PassingError(BmcError(words), sent=True)
    hints = [hint for sign, hint in _PAGES if reply.status == 400 and sign in reply.body]
    error = RefusedError(words, hint=hints[0] if hints else shown(resolution_of(reply)) or None)
    error.answer = reply.status
    return error
