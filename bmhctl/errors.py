"""Errors, each with a message for people, a stable code and an exit status."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import IntEnum
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from bmhctl.domain.model import CheckResult


MOST_WORDS = 1000
"""The most characters of a message. A longer message quotes a file or a command line; its middle is left out."""


class ExitStatus(IntEnum):
    """The exit statuses of every command, which are published; a status that is not listed means failure."""

    DONE = 0
    DEFECT = 1
    USAGE = 2
    NOT_FOUND = 3
    REFUSED = 4
    BUSY = 5
    UNSATISFIABLE = 6
    TIMED_OUT = 7
    NOT_YOURS = 8
    STEP_FAILED = 9
    INVALID = 10
    UNREACHABLE = 11
    MIXED = 12


class BmhctlError(Exception):
    """A failure that a user can act on.

    ``message`` says what happened, ``host`` is the host concerned, and ``hint`` says what to do next; ``details`` holds
    more for programs. ``code`` is a stable word for the class, and ``status`` its exit status; ``run_status`` is the
    exit status of ``run`` for it, as in ``env``.
    """

    status: ClassVar[ExitStatus] = ExitStatus.DEFECT
    code: ClassVar[str] = "defect"
    run_status: int = 125

    def __init__(
        self,
        message: str,
        *,
        host: str | None = None,
        hint: str | None = None,
        details: Mapping[str, object] | None = None,
    ) -> None:
        if len(message) > MOST_WORDS:
            message = f"{message[: MOST_WORDS * 2 // 3]} … {message[-MOST_WORDS // 4 :]}"
        super().__init__(message)
        self.message = message
        self.host = host
        self.hint = hint
        self.details: dict[str, object] = dict(details or {})

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self), self.message, self.host, self.hint, self.details))


def _rebuild(
    kind: type[BmhctlError], message: str, host: str | None, hint: str | None, details: dict[str, object]
) -> BmhctlError:
    error = kind.__new__(kind)  # without calling the constructor: its parameters differ between classes
    BmhctlError.__init__(error, message, host=host, hint=hint, details=details)
    return error


class UsageError(BmhctlError):
    """The command line or the call is not valid."""

    status = ExitStatus.USAGE
    code = "usage"


class NotFoundError(BmhctlError):
    """There is no such host, reservation or other object."""

    status = ExitStatus.NOT_FOUND
    code = "not-found"


class StateRefusedError(BmhctlError):
    """The host's state, or a guard of the lifecycle, refuses the verb."""

    status = ExitStatus.REFUSED
    code = "state-refused"


class BusyError(BmhctlError):
    """Hosts fit the request, but too few of them are free now."""

    status = ExitStatus.BUSY
    code = "busy"


class UnsatisfiableError(BmhctlError):
    """No set of hosts of this inventory could ever fit the request."""

    status = ExitStatus.UNSATISFIABLE
    code = "unsatisfiable"


class WaitTimeoutError(BmhctlError):
    """The wait for hosts timed out before they were free."""

    status = ExitStatus.TIMED_OUT
    code = "timed-out"
    run_status = 124


class NotYoursError(BmhctlError):
    """Another owner holds the host, or the caller's lease has expired."""

    status = ExitStatus.NOT_YOURS
    code = "not-yours"


class StepFailedError(BmhctlError):
    """A step failed, such as a readiness check; ``results`` are the results of all steps that ran."""

    status = ExitStatus.STEP_FAILED
    code = "step-failed"
    results: tuple[CheckResult, ...] = ()


class InvalidError(BmhctlError):
    """An inventory, a policy, or a file to import is not valid."""

    status = ExitStatus.INVALID
    code = "invalid"


class UnreachableError(BmhctlError):
    """The inventory can't be opened, read, written or locked."""

    status = ExitStatus.UNREACHABLE
    code = "unreachable"


class MixedError(BmhctlError):
    """Several hosts failed, with different exit statuses."""

    status = ExitStatus.MIXED
    code = "mixed"


def brief(value: object) -> str:
    """Return a value as a message shows it: at most 60 characters, even of a value that Python can't print."""
    try:
        return f"{value!r:.60}"
    except (RecursionError, ValueError):  # ValueError: a number with thousands of digits
        return f"a {type(value).__name__} that is too large to show"


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Return the known word that is most like ``word``; None if none is, or ``word`` has more than 100 characters."""
    from difflib import get_close_matches

    near = get_close_matches(word, known, n=1) if len(word) <= 100 else []
    return near[0] if near else None


def combine(errors: Iterable[BmhctlError]) -> BmhctlError | None:
    """Return one error for the errors of several hosts; None if there are none.

    A single error is returned unchanged. Several errors with one exit status become an error of their common class, or
    of the class of the first one. Errors with different statuses become a :class:`MixedError`.
    """
    failed = list(errors)
    if len(failed) <= 1:
        return failed[0] if failed else None
    kind = _published(type(failed[0])) if len({error.status for error in failed}) == 1 else MixedError
    names = [error.host for error in failed if error.host]
    return _rebuild(
        kind,
        f"{len(failed)} hosts failed: {', '.join(names)}" if names else f"{len(failed)} failures",
        None,
        next((error.hint for error in failed if error.hint), None) if kind is not MixedError else None,
        {
            "errors": [
                {key: getattr(error, key) for key in ("host", "code", "status", "message", "hint")} for error in failed
            ]
        },
    )


def _published(kind: type[BmhctlError]) -> type[BmhctlError]:
    """Return the direct subclass of :class:`BmhctlError` to which a class belongs."""
    return next(base for base in kind.__mro__ if BmhctlError in base.__bases__)


FASTER = "another command was faster"
"""The beginning of the message of a :class:`ConflictError`."""


class ConflictError(UnreachableError):
    """Two transactions conflicted and this one was rolled back; running it again usually succeeds."""


class UncertainError(UnreachableError):
    """The connection was lost during a commit, so the change may have been made or not."""


class AwayError(UnreachableError):
    """The inventory can't be used now, but perhaps soon: its server is down, it is locked, or its disk is full."""


class RetiredError(UnreachableError):
    """The inventory was copied for good and refuses changes; ``details`` names its successor."""

    @classmethod
    def of(cls, location: str, successor: str) -> RetiredError:
        """Return the error for a retired inventory; ``successor`` is the location that replaced it."""
        from shlex import quote

        return cls(
            f"{location} is retired and can't be changed: its successor is {successor}",
            hint=f"name the successor: -i {quote(successor)}",
            details={"successor": successor},
        )


class MovedError(AwayError):
    """The file or schema was replaced since the inventory was opened; nothing was written."""


class GoneError(MovedError):
    """The opened file is no longer at its path: it was removed, moved away or unmounted. It may come back."""
