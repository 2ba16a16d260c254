"""Pieces of lines that several views share: a time, a state, the hosts of a reservation, a step's result."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from itertools import groupby
from math import ceil
from operator import itemgetter
from typing import TYPE_CHECKING

from bmhctl.domain.model import CheckResult, Host, Reservation
from bmhctl.domain.units import SECONDS, format_age, local_time
from bmhctl.output.layout import COLOUR, VERDICT, Line, Span, padded, state_span
from bmhctl.output.sanitize import cell_width, clean

if TYPE_CHECKING:
    from bmhctl.results.why import VerbAnswer

_SOON = timedelta(minutes=15)


FEW_HOSTS = 4  # the number of hosts of a reservation that a line on a terminal names


def ago(at: datetime, now: datetime) -> str:
    """Return ``2h ago`` or ``just now``; the latter also for a future moment, which a different clock may cause."""
    past = now - at
    return f"{format_age(past)} ago" if past >= timedelta(seconds=1) else "just now"


def until(at: datetime | None, now: datetime) -> str:
    """Return ``in 35m``, ``overdue 5m`` if the end has passed, or ``no end``."""
    if at is None:
        return "no end"
    left = at - now
    return f"in {format_age(left)}" if left > timedelta(0) else f"overdue {format_age(-left)}"


def stamp(at: datetime) -> str:
    """Return a moment for people, in the local zone and with that zone: ``2026-11-23 08:09:16 CET``."""
    return local_time(at, SECONDS)


DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_HEAT_LEVELS = 4
_HEAT_STEPS = (1, 2, 5, 10, 15, 20, 25)


def heat_step(shares: Iterable[float | None]) -> int:
    """Return the percent from one level of a heat map to the next, so that the largest share is in the highest."""
    most = max((share or 0.0 for share in shares), default=0.0)
    return next((step for step in _HEAT_STEPS if most * 100 <= _HEAT_LEVELS * step), _HEAT_STEPS[-1])


def heat_level(share: float | None, step: int) -> int:
    """Return the level of a share in a heat map: 1 to 4, or 0 if the share is zero or not known."""
    return min(_HEAT_LEVELS, max(1, ceil(share * 100 / step - 0.001))) if share else 0


def until_line(at: datetime | None, now: datetime) -> Line:
    """Return when something ends, in a colour for its urgency."""
    if at is None:
        return [("no end", "dim")]
    if at <= now:
        return [(until(at, now), "red")]
    return [(until(at, now), "yellow" if at - now < _SOON else "")]


def prepared_line(reservation: Reservation) -> Line:
    """Return with which parameters the hosts of a reservation were prepared, or that they are not prepared yet."""
    if reservation.params is None:
        return []
    values = " ".join(f"{name}={value}" for name, value in reservation.params.items())
    if reservation.prepared_at is None:
        return [(" ".join(filter(None, ("in progress:" if reservation.is_open() else "not done:", values))), "yellow")]
    return [(values or "yes", "")]


_FLAG_STYLE = {
    **dict.fromkeys(("cordoned", "retiring", "draining", "undeclared"), "magenta"),
    "dirty": "yellow",
    "fault": "red",
}


def flag_spans(host: Host) -> list[Span]:
    """Return a host's flags, each in its colour."""
    from bmhctl.output.records import flags

    return [(flag, _FLAG_STYLE.get(flag, "yellow")) for flag in flags(host)]


def joined(parts: Iterable[Span], separator: str) -> Line:
    """Return the parts as one line, with a dim separator between them."""
    line: list[Span] = []
    for part in parts:
        line += [(separator, "dim"), part]
    return line[1:]


def runs(cells: Iterable[Span]) -> Iterator[Span]:
    """Yield each run of cells of one style as one span."""
    for style, run in groupby(cells, key=itemgetter(1)):
        yield "".join(mark for mark, _ in run), style


def packed(parts: Iterable[Line], separator: str, width: int | None) -> list[Line]:
    """Return the parts in lines of at most ``width`` cells, with as many parts in each as fit; None means one line."""
    lines: list[Line] = []
    line: list[Span] = []
    for part in parts:
        longer = [*line, (separator, "dim"), *part] if line else [*part]
        if line and width is not None and sum(cell_width(text) for text, _ in longer) > width:
            lines.append(line)
            longer = [*part]
        line = longer
    return [*lines, line]


def inventory_line(inventory: str, words: Iterable[Span], width: int | None) -> Line:
    """Return the first line of a view: the inventory's path, cut at its beginning if it is too long, and some words."""
    known = [*words]
    if width is None:
        return [(inventory, "bold"), ("  ", ""), *known]
    whole = clean(inventory)
    room = width - 2 - sum(cell_width(text) for text, _ in known)
    folders = whole.split("/")
    texts = [whole, *(f"…/{'/'.join(folders[start:])}" for start in range(1, len(folders)))]
    shown = next((text for text in texts if cell_width(text) <= room), texts[-1])
    return [(shown, "bold"), ("  ", ""), *known]


def hosts_line(hosts: Sequence[Host], limit: int | None) -> Line:
    """Return the first few hosts by name, in the colour of their states; numbered ones of one state as ranges."""
    if limit and len(hosts) > 2 and len({host.state for host in hosts}) == 1:
        from bmhctl.support.folding import folded

        words = folded(host.name for host in hosts)
        if sum(map(len, words)) <= sum(len(host.name) for host in hosts[:limit]):
            return joined([(word, COLOUR[hosts[0].state]) for word in words], " ")
    names = joined([(host.name, COLOUR[host.state]) for host in hosts[:limit]], " ")
    return names if limit is None or len(hosts) <= limit else [*names, (f" +{len(hosts) - limit}", "dim")]


def heading(host: Host, now: datetime) -> Iterator[Line]:
    """Yield a host's name, its state, how long it has been in it, and its flags."""
    line = [(host.name, "bold"), ("  ", ""), state_span(host.state), (f"  {ago(host.since, now)}", "dim")]
    yield line + [(f"  {flag}", style) for flag, style in flag_spans(host)]


def result_lines(results: Sequence[CheckResult], now: datetime) -> Iterator[Line]:
    """Yield the last result of each step, and how long ago it was."""
    if results:
        yield []
    names = padded(result.step for result in results)
    for result, name in zip(results, names, strict=True):
        glyph, style = VERDICT[result.verdict]
        age = f"  {ago(result.at, now)}" if result.at else ""
        took = f", took {result.seconds:.1f} s" if result.seconds >= 1 else ""
        yield [
            ("  ", ""),
            (glyph, style),
            (f" {name}", ""),
            (f"  {result.detail}" if result.detail else "", ""),
            (f"{age}{took}", "dim"),
        ]


_ANSWER: dict[bool | None, Span] = {True: ("✓", "green"), None: ("?", "yellow"), False: ("✗", "dim")}


def answer_lines(answers: Iterable[VerbAnswer]) -> Iterator[Line]:
    """Yield one line for each verb: whether it is possible, its destination, and the command or the reason why not."""
    for answer in sorted(answers, key=lambda a: (a.open is False, a.open is None)):
        refused = answer.open is False
        line: list[Span] = [("  ", ""), _ANSWER[answer.open], (f" {answer.verb:<9}", "dim" if refused else "bold")]
        if not refused and answer.dest:
            line += [("→ ", ""), (f"{answer.dest:<13}", COLOUR[answer.dest])]
        words = "; ".join(answer.words)
        yield [*line, (words if refused else answer.command, "dim" if refused else "cyan")]
        if not refused and words:
            yield [(f"{'':13}{words}", "dim")]
