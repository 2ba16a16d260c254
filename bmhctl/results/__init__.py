"""The values that use cases return and ``output`` renders. This module has those that most commands need."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import TypeVar

from bmhctl.domain.model import CheckResult, Event, Host, Reservation, State
from bmhctl.errors import BmhctlError, ExitStatus, InvalidError, StepFailedError, UnreachableError, combine
from bmhctl.support.values import Frozen, field

_Result = TypeVar("_Result")


class Outcome(Frozen):
    """The result of a command for one host.

    ``changed`` is False when nothing had to be done. ``source`` and ``state`` are the host's state before and after
    (None: not in the inventory). After a failure, ``error`` says why, and the host is unchanged.
    """

    host: str
    changed: bool
    message: str
    source: State | None = None
    state: State | None = None
    reservation: str | None = None
    steps: tuple[CheckResult, ...] = ()
    error: BmhctlError | None = None


def moved(before: Host, after: Host, words: str, steps: tuple[CheckResult, ...] = ()) -> Outcome:
    """Return the outcome of a host that a command changed; ``words`` say how."""
    held = after.reservation or before.reservation
    return Outcome(
        host=before.spec.name,
        changed=True,
        message=words,
        source=before.state,
        state=after.state,
        reservation=held.id if held else None,
        steps=steps,
    )


def stayed(host: Host, words: str) -> Outcome:
    """Return the outcome of a host that a command changed, but not its state."""
    return Outcome(host.name, True, words, host.state, host.state)


def already(host: Host, words: str | None = None, steps: tuple[CheckResult, ...] = ()) -> Outcome:
    """Return the outcome of a host for which nothing had to be done, or only ``steps`` that change nothing."""
    return Outcome(host.name, False, words or f"already {host.state}", host.state, host.state, steps=steps)


def failed(error: BmhctlError, host: Host | None = None) -> Outcome:
    """Return the outcome of a host for which the command was refused or failed."""
    state = host.state if host else None
    steps = error.results if isinstance(error, StepFailedError) else ()
    return Outcome(error.host or "", False, error.message, state, state, steps=steps, error=error)


def attempt(host: Host, one: Callable[[Host], _Result]) -> _Result | Outcome:
    """Return what ``one`` returns for a host; an error that concerns only this host becomes an outcome."""
    try:
        return one(host)
    except (UnreachableError, InvalidError):
        raise  # the inventory itself failed, not this host
    except BmhctlError as error:
        error.host = error.host or host.name
        return failed(error, host)


class Outcomes(Frozen):
    """The outcome of every host for which a command was called, in the order of the call."""

    verb: str
    items: tuple[Outcome, ...]
    notes: tuple[str, ...] = ()

    @property
    def error(self) -> BmhctlError | None:
        """The one error that stands for all failures; None if every host succeeded."""
        failed = [item.error for item in self.items if item.error]
        return combine(failed) if failed else None

    @property
    def status(self) -> ExitStatus:
        """The command's exit status."""
        error = self.error
        return error.status if error else ExitStatus.DONE


class Held(Frozen):
    """A reservation and the hosts that it holds now: in the order of the request after a grant, otherwise by name.

    ``had`` are the names of all hosts that the reservation ever held; empty unless the caller asked for them.
    """

    reservation: Reservation
    hosts: tuple[Host, ...]
    had: tuple[str, ...] = ()


class Grant(Frozen):
    """What ``reserve`` reserved."""

    held: Held
    notes: tuple[str, ...] = ()


class Hosts(Frozen):
    """Hosts to show, and the time at which they were read; ``missing`` has an error for each name that no host has.

    ``failed`` are the failed results that keep hosts in their state, by host id.
    """

    hosts: Iterable[Host]
    now: datetime
    missing: tuple[BmhctlError, ...] = ()
    failed: Mapping[int, Sequence[CheckResult]] = field(default_factory=dict)


class Names(Frozen):
    """Only the names of hosts."""

    names: Iterable[str]


class HostDetail(Frozen):
    """One host with its latest events, oldest first, and the last result of each step."""

    host: Host
    events: tuple[Event, ...]
    now: datetime
    results: tuple[CheckResult, ...] = ()


class Reservations(Frozen):
    """Reservations to show, and the time at which they were read; ``none`` says in words that there are none."""

    items: tuple[Held, ...]
    now: datetime
    none: str | None = None


class History(Frozen):
    """Events, oldest first.

    ``host`` is the name of the host concerned; None for all hosts. ``inventory`` is the inventory's location in
    messages.
    """

    events: Iterable[Event]
    host: str | None
    now: datetime
    inventory: str = ""


class Plan(Outcomes):
    """What a verb would do to each host (``--dry-run``); nothing was changed."""


class Imported(Frozen):
    """What an import did to each host in its files, or with ``dry_run`` would do, and what it skipped."""

    items: tuple[Outcome, ...]
    skipped: tuple[str, ...]
    warnings: tuple[str, ...]
    dry_run: bool


class Done(Frozen):
    """A command whose result is one message: ``init``, ``copy``, ``policy apply``."""

    command: str
    message: str
    details: Mapping[str, object]
    notes: tuple[str, ...] = ()
