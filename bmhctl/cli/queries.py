"""``list``, ``show``, ``status``, ``why``, ``history`` and ``graph``: commands that change nothing."""

# No `from __future__ import annotations`: Typer would compile the text of each annotation at every start.

from typing import TYPE_CHECKING, Annotated

import typer

from bmhctl.cli.options import MOST, Fields, HostName, HostNames, SelectorText, States, Watch
from bmhctl.cli.session import Session, invocation_of, session, show_or_watch
from bmhctl.errors import UsageError
from bmhctl.output import Format
from bmhctl.results import History, HostDetail, Hosts, Names
from bmhctl.support.values import replace
from bmhctl.usecases.shared.context import Context

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from bmhctl.domain.model import Event
    from bmhctl.results.status import Fleet, Reasons, Status
    from bmhctl.usecases.history import HistoryRequest

_OptionalHost = Annotated[str | None, typer.Argument(metavar="[HOST]", help="A host's name.", show_default=False)]

_BEFORE_FOLLOWING = 10  # how many earlier events history --follow shows first, unless the user names their beginning


def list_(
    ctx: typer.Context,
    hosts: HostNames = None,
    selector: SelectorText = None,
    state: States = None,
    sort: Annotated[
        str | None, typer.Option(metavar="KEY", help="name, state, since, owner, until, used, labels.…; -KEY reverses.")
    ] = None,
    watch: Watch = None,
    fields: Fields = None,
) -> None:
    """List all hosts, or those that are named or match."""
    from bmhctl.usecases.queries import chosen, list_hosts, list_names
    from bmhctl.usecases.shared.host_selection import choice

    names_only = invocation_of(ctx).output == Format.NAME and not (hosts or sort or fields or watch)

    def read(context: Context) -> Hosts | Names:
        wanted = choice(hosts, selector, state)
        if names_only:
            return list_names(context, wanted)
        if watch is None:
            return list_hosts(context, wanted, sort)
        found = chosen(context, wanted, sort)
        return replace(found, hosts=tuple(found.hosts))  # read now, to be compared with those before

    show_or_watch(ctx, Names if names_only else Hosts, read, watch, fields)


def show(ctx: typer.Context, host: HostName, fields: Fields = None) -> None:
    """Show everything about one host, with its latest events."""
    from bmhctl.usecases.queries import show as show_host

    with session(ctx, HostDetail, fields) as lab:
        lab.show(show_host(lab.context, host))


def status(
    ctx: typer.Context,
    reasons: Annotated[bool, typer.Option("--reasons", help="Why hosts are not free, a line for each reason.")] = False,
    by: Annotated[
        str | None, typer.Option(metavar="LABEL", help="A mark for each host, a row for each value of a label.")
    ] = None,
    watch: Watch = None,
    fields: Fields = None,
) -> None:
    """Show the fleet on one screen: hosts by state, reservations, what ends next, what needs attention."""
    from bmhctl.results.status import Fleet, Reasons, Status

    if reasons and by is not None:
        raise UsageError("--reasons and --by can't be combined", hint="give one of them")
    kind = Reasons if reasons else Status if by is None else Fleet
    show_or_watch(ctx, kind, lambda context: _look(context, reasons, by), watch, fields)


def _look(ctx: Context, reasons: bool, by: str | None) -> "Status | Reasons | Fleet":
    if reasons:
        from bmhctl.usecases.overviews import reasons as look_at_reasons

        return look_at_reasons(ctx)
    if by is not None:
        from bmhctl.usecases.overviews import fleet

        return fleet(ctx, by)
    from bmhctl.usecases.status import status as look_at_all

    return look_at_all(ctx)


def why(ctx: typer.Context, host: HostName) -> None:
    """Explain a host's state, which verbs are possible now, and what prevents the others."""
    from bmhctl.results.why import Why
    from bmhctl.usecases.explain import why as explain

    with session(ctx, Why) as lab:
        lab.show(explain(lab.context, host))


def history(
    ctx: typer.Context,
    hosts: HostNames = None,
    selector: SelectorText = None,
    last: Annotated[
        int | None, typer.Option("-n", "--last", min=0, max=MOST, metavar="N", help="Only the newest N events.")
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(metavar="WHEN", help="From this time on: 2h (ago), yesterday, 2026-01-31T12:00 (local)."),
    ] = None,
    until: Annotated[
        str | None, typer.Option(metavar="WHEN", help="Before this time; the same forms as --since.")
    ] = None,
    actor: Annotated[str | None, typer.Option(metavar="ACTOR", help="By an actor, or by several: 'ci*'.")] = None,
    verb: Annotated[
        list[str] | None, typer.Option(metavar="VERB", help="Only events of this verb; may be repeated.")
    ] = None,
    reservation: Annotated[
        str | None, typer.Option("-R", "--reservation", metavar="ID", help="Only events under this reservation.")
    ] = None,
    since_id: Annotated[
        int | None,
        typer.Option(min=0, max=2**63 - 1, metavar="N", help="Only events after event N."),
    ] = None,
    newest_first: Annotated[bool, typer.Option("--newest-first", help="The newest event first.")] = False,
    follow: Annotated[
        bool, typer.Option("-f", "--follow", help="The last 10 events, then each new one as it is recorded.")
    ] = False,
    queue: Annotated[bool, typer.Option("--queue", help="What happened to the tickets of the queue.")] = False,
    fields: Fields = None,
) -> None:
    """Show the events of hosts, also of removed ones; without a host, of all hosts. The oldest come first."""
    from bmhctl.usecases.queries import history as read

    others = (selector, since, until, actor, verb, reservation, since_id, newest_first, follow)
    if queue:
        from bmhctl.results.queue import QueueHistory
        from bmhctl.usecases.reservations.queue import queue_history

        if hosts or any(others):
            raise UsageError("--queue can be combined with -n and --fields only")
        with session(ctx, QueueHistory, fields) as lab:
            lab.show(queue_history(lab.context, last))
        return
    with session(ctx, History, fields, endless=follow) as lab:
        if len(hosts or ()) < 2 and not any(other not in (None, False, 0) for other in others):
            name = hosts[0] if hosts else None
            if name is None or not any(sign in name for sign in "*?["):
                lab.show(read(lab.context, name, last))
                return
        from bmhctl.domain.times import parse_past
        from bmhctl.usecases.history import HistoryRequest, find_history
        from bmhctl.usecases.shared.host_selection import choice

        now = lab.context.clock()
        request = HistoryRequest(
            choice(hosts, selector),
            None if since is None else parse_past(since, now),
            None if until is None else parse_past(until, now),
            actor,
            tuple(verb or ()),
            reservation,
            _BEFORE_FOLLOWING if follow and last is None and since is None and since_id is None else last,
            newest_first,
            since_id or 0,
        )
        if follow:
            _follow(lab, request)
        else:
            lab.show(find_history(lab.context, request))


def _follow(lab: Session, request: "HistoryRequest") -> None:
    """Show the requested events, then each new one as it is recorded; only an exception ends this."""
    from bmhctl.cli.pauses import pause_on
    from bmhctl.output.event_stream import EventStream
    from bmhctl.usecases.follow import follow

    stream = EventStream(lab.display, lab.fields, lab.context.store.location, request.host)

    def show(events: "Sequence[Event]", now: "datetime") -> None:
        lab.line.clear()
        stream.write(events, now)

    follow(lab.context, request, pause_on(lab.display), show)


def graph(ctx: typer.Context, host: _OptionalHost = None) -> None:
    """Draw the lifecycle with the count of hosts in each state; with a host, where it is and how it got there.

    For documents: -o mermaid, -o dot, -o svg.
    """
    from bmhctl.results.why import Graph
    from bmhctl.usecases.explain import graph as draw

    with session(ctx, Graph) as lab:
        lab.show(draw(lab.context, host))
