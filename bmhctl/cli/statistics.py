"""``stats``, ``timeline``, ``metrics`` and ``report``: figures and pictures of the history of the fleet."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from bmhctl.cli.options import Fields, Watch
from bmhctl.cli.session import Selected, Session, session, show_or_watch
from bmhctl.errors import UsageError
from bmhctl.results.statistics import HourlyUse, Metrics, Statistics, Timeline
from bmhctl.results.texts import Document
from bmhctl.usecases.shared.context import Context


def stats(
    ctx: typer.Context,
    since: Annotated[
        str, typer.Option(metavar="TIME", help="From this time on: 30d, yesterday, 2026-11-01 (local).")
    ] = "30d",
    until: Annotated[str | None, typer.Option(metavar="TIME", help="Up to this time; now by default.")] = None,
    by: Annotated[str | None, typer.Option(metavar="GROUP", help="host, owner, [label:]KEY, tag:KEY, or hour.")] = None,
    sort: Annotated[
        str | None, typer.Option(metavar="KEY", help="name, utilisation, tasks, failures, …; -KEY reverses.")
    ] = None,
    fields: Fields = None,
) -> None:
    """See how well the fleet was used, how long people waited, and which hosts fail.

    Times in JSON, CSV and plain are in seconds. bmhctl help statistics defines each figure.
    """
    from bmhctl.domain.times import parse_past
    from bmhctl.usecases.statistics import hourly_use, statistics

    if sort is not None and by in (None, "hour"):
        raise UsageError("--sort needs --by: it orders the rows of groups", hint="such as --by host --sort -failures")
    with session(ctx, HourlyUse if by == "hour" else Statistics, fields) as lab:
        now = lab.context.clock()
        start = parse_past(since, now)
        end = None if until is None else parse_past(until, now)
        if by == "hour":
            lab.show(hourly_use(lab.context, start, end))
        else:
            lab.show(statistics(lab.context, start, end, by, sort))


def timeline(
    ctx: typer.Context,
    hosts: Selected,
    since: Annotated[str, typer.Option(metavar="TIME", help="From this time on: 24h, yesterday.")] = "24h",
    until: Annotated[
        str | None, typer.Option(metavar="TIME", help="Up to this time: +12h from now, or a time.")
    ] = None,
    watch: Watch = None,
) -> None:
    """Draw the states of each host over the last day, and the leases and bookings ahead.

    -o svg draws for documents; -o ics writes a calendar of the leases and bookings.
    """
    from bmhctl.domain.times import parse_past, parse_until
    from bmhctl.usecases.timeline import timeline as draw

    def read(context: Context) -> Timeline:
        now = context.clock()
        end = None if until is None else parse_until(until, now)
        return draw(context, hosts, parse_past(since, now), end)

    show_or_watch(ctx, Timeline, read, watch)


def metrics(
    ctx: typer.Context,
    to: Annotated[
        Path | None, typer.Option(metavar="FILE.prom", help="Replace this file atomically instead of printing.")
    ] = None,
    per_host: Annotated[bool, typer.Option("--per-host", help="A series for each host as well.")] = False,
) -> None:
    """Write metrics in Prometheus' text format, for example for the textfile collector.

    The inventory keeps the sums, so that the next call reads only newer events.
    """
    from bmhctl.output.views.metrics import exposition
    from bmhctl.usecases.metrics import metrics as collect

    with session(ctx, Metrics) as lab:
        found = collect(lab.context, per_host=per_host)
        _deliver(lab, found, exposition(found), to)


def report(
    ctx: typer.Context,
    to: Annotated[
        Path | None, typer.Option(metavar="FILE.html", help="Replace this file atomically instead of printing.")
    ] = None,
    since: Annotated[str, typer.Option(metavar="TIME", help="From this time on: 56d, 2026-11-01.")] = "56d",
) -> None:
    """Write one page for a browser: the fleet now, its use and waits, what is broken, each host's history.

    The page needs no server and loads no other files; a timer can write it into a web folder. Needs bmhctl[report].
    """
    from bmhctl.domain.times import parse_past
    from bmhctl.output.html_report import page
    from bmhctl.usecases.report import report as collect

    with session(ctx, Document) as lab:
        if to is None and lab.display.stdout_tty:
            raise UsageError(
                "the report is a page for a browser, not for a terminal", hint="bmhctl report --to lab.html"
            )
        text = page(collect(lab.context, parse_past(since, lab.context.clock())))
        _deliver(lab, Document(text), (text,), to)


def _deliver(lab: Session, result: object, parts: Iterable[str], to: Path | None) -> None:
    """Show a result, or write the parts of its text to a file."""
    if to is None or to == Path("-"):
        lab.show(result)
        return
    from bmhctl.support.atomic_write import write_atomically

    lab.line.clear()
    write_atomically(to, parts)
