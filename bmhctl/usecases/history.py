"""The events of many hosts, selected by hosts, time, actor, verb and reservation."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from itertools import islice

from bmhctl.domain.model import Event, EventKind, Verb
from bmhctl.domain.times import check_period
from bmhctl.errors import NotFoundError, UsageError, nearest
from bmhctl.results import History
from bmhctl.stores.events import EventQuery
from bmhctl.support.values import Frozen
from bmhctl.usecases.queries import noting_unmatched
from bmhctl.usecases.shared.context import Context
from bmhctl.usecases.shared.host_selection import Choice, unfold
from bmhctl.usecases.shared.leases import known_reservation
from bmhctl.usecases.shared.owners import of_owner
from bmhctl.usecases.shared.refresh import refresh
from bmhctl.usecases.shared.unmatched import not_found

MOST_HOSTS = 10_000
"""The most hosts that one history may name: databases limit the parameters of a statement."""


class HistoryRequest(Frozen):
    """Which events to show; of all hosts if ``choice`` names none.

    Events are from ``since`` on and before ``until``. ``actor`` may have ``*`` and ``?``. ``last`` keeps only the
    newest so many. Their ids are greater than ``after``, and at most ``upto``.
    """

    choice: Choice = Choice()
    since: datetime | None = None
    until: datetime | None = None
    actor: str | None = None
    verbs: tuple[str, ...] = ()
    reservation: str | None = None
    last: int | None = None
    newest_first: bool = False
    after: int = 0
    upto: int | None = None

    @property
    def host(self) -> str | None:
        """The only host whose events are requested; None for several, and for a glob or a range."""
        name, *others = self.choice.names or ("*",)
        return None if others or any(sign in name for sign in "*?[") else name


def find_history(ctx: Context, request: HistoryRequest) -> History:
    """Return the requested events, the oldest first unless ``newest_first``; they are read while they are used.

    Names may be those of removed hosts. Raises :class:`NotFoundError` for a name that no host ever had and for an
    unknown reservation, and :class:`UsageError` for an unknown verb, an empty actor, or an impossible period.
    """
    if request.since is not None:
        check_period(request.since, request.until)
    verbs = tuple(map(_verb, request.verbs))
    now = refresh(ctx)
    if request.reservation is not None:
        known_reservation(ctx, request.reservation)
    if request.choice.selector is not None and request.upto is None:
        noting_unmatched(ctx, request.choice.selector, ctx.store.hosts.names(request.choice.query(now)))
    query = EventQuery(
        hosts=_ids(ctx, request.choice.names) if request.choice.names else None,
        among=request.choice.query(ctx.clock()) if request.choice.selector or request.choice.states else None,
        since=request.since,
        until=request.until,
        verbs=verbs,
        reservation=request.reservation,
        after=request.after,
        upto=request.upto,
    )
    return History(_events(ctx, request, query), request.host, now, ctx.store.location)


def _events(ctx: Context, request: HistoryRequest, query: EventQuery) -> Iterable[Event]:
    backwards = request.newest_first or request.last is not None
    events = ctx.store.events.find(query, newest_first=backwards)
    if request.actor is not None:
        report = ctx.report if request.upto is None else None  # not for each part of a history that is followed
        events = of_owner(events, request.actor, lambda event: event.actor, ("event by", "actor"), report)
    if request.last is not None:
        events = islice(events, request.last)
    return events if request.newest_first or not backwards else [*events][::-1]


def _verb(text: str) -> Verb | EventKind:
    for kind in (Verb, EventKind):
        if text in list(kind):
            return kind(text)
    known = [*Verb, *EventKind]
    near = nearest(text, known)
    raise UsageError(
        f"there is no verb {text!r}", hint=(f"did you mean {near}? " if near else "") + f"known: {', '.join(known)}"
    )


def _ids(ctx: Context, names: Sequence[str]) -> tuple[int, ...]:
    found: dict[int, None] = {}
    for name in unfold(names):
        ids = ctx.store.events.hosts_named(name)
        if not ids and ("*" in name or "?" in name):
            raise NotFoundError("no host ever had such a name", host=name, hint="bmhctl list shows the current hosts")
        if not ids:
            raise not_found(ctx, name)
        found.update(dict.fromkeys(ids))
    if len(found) > MOST_HOSTS:
        raise UsageError(
            f"{len(found)} hosts are too many to be named",
            hint=f"at most {MOST_HOSTS} can be named; without names, all hosts are shown",
        )
    return tuple(found)
