"""Wait until hosts are in a state."""

from __future__ import annotations

import time
from collections.abc import Iterable
from datetime import datetime

from bmhctl.domain.booking import is_set_aside
from bmhctl.domain.model import Host, State, StateName
from bmhctl.domain.units import OF_DAY, local_time
from bmhctl.errors import AwayError, UnreachableError, UsageError
from bmhctl.results import Hosts
from bmhctl.support.folding import folded
from bmhctl.usecases.queries import chosen
from bmhctl.usecases.reservations.waiting import WaitOptions
from bmhctl.usecases.shared.changes import await_change
from bmhctl.usecases.shared.context import Context
from bmhctl.usecases.shared.host_selection import Choice
from bmhctl.usecases.shared.refresh import reap_due

_REAP = 5.0  # seconds between two checks for expired leases
_REPORT = 1.0  # seconds between two reports
_FEW_STATES = 3
_FEW_WORDS = 4


def wait(
    ctx: Context,
    choice: Choice,
    wanted: StateName,
    patience: WaitOptions,
) -> Hosts:
    """Return the chosen hosts once all of them are in the wanted state; report what is missing whenever that changes.

    A timeout of zero checks only once. Leases that expire meanwhile are ended. Raises :class:`UsageError` when no host
    is chosen, :class:`WaitTimeoutError` with what is missing, :class:`NotFoundError` for a name that no host has, also
    if the host is removed meanwhile, and what the pause of ``patience`` raises.
    """
    if not choice.names and not choice.selector:
        raise UsageError("no host is named", hint="name hosts (node01, 'rack1-*', node[01-20]), or choose with -l")
    waiting = _Wait(ctx, choice, wanted, patience)
    return await_change(ctx, waiting.pause, waiting.look, waiting.reaps)


class _Wait:
    """The state of one wait."""

    def __init__(self, ctx: Context, choice: Choice, wanted: StateName, patience: WaitOptions) -> None:
        self._ctx = ctx
        self._choice = choice
        self._wanted = wanted
        self._patience = patience
        left = patience.left()
        self._until = "" if left is None else f" until {local_time(ctx.clock() + left, OF_DAY)}"
        self._missing = f"the hosts to be {wanted}: the inventory could not be read"
        self._reported = ""
        self._silent_until = 0.0
        self._reaps_at = time.monotonic() + _REAP

    def look(self) -> Hosts | None:
        """Return the hosts if all of them are in the wanted state; else record what is missing."""
        found = chosen(self._ctx, self._choice)
        hosts = list(found.hosts)
        missing = [host for host in hosts if not _is(host, self._wanted, found.now)]
        if not missing:
            return Hosts(hosts, found.now, failed=found.failed)
        count = f"{len(missing)} of {len(hosts)} hosts" if len(hosts) > 1 else missing[0].name
        states = _in_words(missing, found.now) if len(hosts) > 1 else _words(missing[0], found.now)
        self._missing = f"{count} to be {self._wanted}: {states}"
        self._report()
        return None

    def _report(self) -> None:
        now = time.monotonic()
        if self._missing != self._reported and now >= self._silent_until:
            self._reported, self._silent_until = self._missing, now + _REPORT
            self._ctx.report(f"waiting{self._until} for {self._missing}")

    def pause(self, seconds: float, wakes: int | None) -> None:
        """Report what is missing, and sleep; raise :class:`WaitTimeoutError` when the time is up."""
        if self._patience.is_over():
            hint = "bmhctl list shows their states; or wait for longer"
            raise self._patience.timed_out(self._missing, hint)
        left = self._patience.left()
        self._report()
        self._patience.pause(seconds if left is None else min(seconds, left.total_seconds()), wakes)

    def reaps(self) -> bool:
        """End expired leases, every few seconds at most; return whether any had expired."""
        if time.monotonic() < self._reaps_at:
            return False
        self._reaps_at = time.monotonic() + _REAP
        try:
            return reap_due(self._ctx, self._ctx.clock())
        except AwayError:
            raise
        except UnreachableError:  # a role that may only read: another user's command will end the lease
            return False


def _is(host: Host, wanted: StateName, now: datetime) -> bool:
    if wanted is StateName.FREE:
        return host.state is State.AVAILABLE and _kept_back(host, now) is None
    return host.state.value == wanted.value


def _kept_back(host: Host, now: datetime) -> str | None:
    """Return what keeps an available host from being free; None if nothing does."""
    if host.cordon:
        return host.cordon.flag
    if host.undeclared:
        return "undeclared"
    return "set aside" if is_set_aside(host, now) else None


def _in_words(hosts: Iterable[Host], now: datetime) -> str:
    """Return the first hosts of each state in words: ``node[01-03] tainted, node07 available but cordoned``."""
    groups: dict[str, list[str]] = {}
    for host in hosts:
        groups.setdefault(_words(host, now), []).append(host.name)
    parts = []
    for words, names in [*groups.items()][:_FEW_STATES]:
        shown = folded(names)
        more = " …" if len(shown) > _FEW_WORDS else ""
        parts.append(f"{' '.join(shown[:_FEW_WORDS])}{more} {words}")
    return ", ".join(parts) + (", …" if len(groups) > _FEW_STATES else "")


def _words(host: Host, now: datetime) -> str:
    """Return the state of a host in words, with what keeps an available host from being free."""
    if host.state is State.RESERVED and host.reservation is not None:
        return f"reserved by {host.reservation.owner}"
    if host.state is State.AVAILABLE and (why := _kept_back(host, now)) is not None:
        return f"available but {why}"
    return host.state.value
