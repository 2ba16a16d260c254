"""Each result as lines for people, for a terminal of some width or for a pipe."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from itertools import islice

from bmhctl.domain.model import CheckResult, Event, Host, Reservation, State, Verdict
from bmhctl.domain.units import format_age
from bmhctl.output.layout import COLOUR, GLYPH, Column, Line, Span, columns, state_span, table
from bmhctl.output.records import flags, host_record
from bmhctl.output.sanitize import ago, cell_width, clean, flatten, pad, stamp, until
from bmhctl.results import Grant, Held, HostDetail, Outcome, Queue, Queued, Status, VerbAnswer, Why

_SOON = timedelta(minutes=15)
_MOST = 8  # of a kind, at a glance on a terminal
_FEW = 4  # hosts of one reservation, in a line on a terminal
_ENDLESS = 10**6  # the width where nothing is to be cut, but empty columns are left out

HOST_COLUMNS = (
    Column("HOST"),
    Column("STATE"),
    Column("SINCE", 4),
    Column("HOLDER", 1, 12),
    Column("UNTIL", 2),
    Column("FLAGS", 3),
    Column("ADDRESS", 7),
    Column("LABELS", 6, 16),
    Column("NOTE", 5, 16),
)


def host_rows(hosts: Iterable[Host], now: datetime) -> Iterator[list[Line]]:
    """Hosts as rows of :data:`HOST_COLUMNS`."""
    for host in hosts:
        yield [
            [(host.name, "bold")],
            [state_span(host.state)],
            [(format_age(now - host.since), "")],
            _holder(host.reservation) if host.reservation else [],
            _host_until(host, now),
            _flags(host),
            [(host.spec.address or "", "")],
            [(flatten(dict(host.spec.labels)), "cyan")],
            _remarks(host),
        ]


def _holder(reservation: Reservation) -> Line:
    line = [(reservation.owner, "")]
    return [*line, (f" {clean(reservation.purpose)}", "dim")] if reservation.purpose else line


def _host_until(host: Host, now: datetime) -> Line:
    if host.reservation:
        return _until(host.reservation.expires_at, now)
    planned = [mark.until for mark in host.maintenance if mark.until]
    return _until(max(planned), now) if planned else []


def _until(at: datetime | None, now: datetime) -> Line:
    if at is None:
        return [("no end", "dim")]
    if at <= now:
        return [(f"over {format_age(now - at)}", "red")]
    return [(until(at, now), "yellow" if at - now < _SOON else "")]


_FLAG_STYLE = {"cordoned": "magenta", "undeclared": "magenta", "dirty": "yellow", "fault": "red"}


def _flags(host: Host) -> Line:
    line: list[Span] = []
    for flag in flags(host):
        line += [(" ", ""), (flag, _FLAG_STYLE[flag])]
    return line[1:]


def _remarks(host: Host) -> Line:
    parts: list[Span] = []
    if host.fault:
        parts.append((host.fault, "red"))
    parts += [(mark.reason, COLOUR[State.MAINTENANCE]) for mark in host.maintenance]
    if host.cordon:
        parts.append((host.cordon.reason, "magenta"))
    if host.spec.note:
        parts.append((host.spec.note, ""))
    return _joined(parts, " · ")


def _joined(parts: Iterable[Span], separator: str) -> Line:
    line: list[Span] = []
    for part in parts:
        line += [(separator, "dim"), part]
    return line[1:]


RESERVATION_COLUMNS = (
    Column("ID"),
    Column("OWNER", 1, 12),
    Column("UNTIL", 2),
    Column("HOSTS", 0, 12),
    Column("SINCE", 5),
    Column("PURPOSE", 4, 12),
    Column("ENDED", 3, 12),
)


def reservation_rows(items: Iterable[Held], now: datetime) -> Iterator[list[Line]]:
    """Reservations as rows of :data:`RESERVATION_COLUMNS`."""
    for held in items:
        r = held.reservation
        yield [
            [(r.id, "bold")],
            [(r.owner, "")],
            _until(r.expires_at, now) if r.is_open() else [("ended", "dim")],
            _hosts(held.hosts, _FEW),
            [(ago(r.created_at, now), "")],
            [(r.purpose or "", "")],
            [(" ".join(filter(None, (ago(r.ended_at, now), r.end_reason))), "")] if r.ended_at else [],
        ]


_QUEUE_COLUMNS = (
    Column("POS"),
    Column("TICKET"),
    Column("OWNER", 1, 12),
    Column("WAITS", 2),
    Column("UNTIL", 4),
    Column("PURPOSE", 3, 12),
)


def queue_lines(queue: Queue, width: int) -> Iterator[Line]:
    """A row a ticket, the oldest first, and below each in whole what it waits for and still misses."""
    lines = iter(columns(_QUEUE_COLUMNS, (_queue_row(item, queue.now) for item in queue.items), width))
    yield from islice(lines, 1)
    for item, line in zip(queue.items, lines, strict=True):
        yield line
        yield [("     ", ""), (item.wants, "cyan"), (" · missing: ", "dim"), (item.missing, "yellow")]


def _queue_row(item: Queued, now: datetime) -> list[Line]:
    ticket = item.ticket
    return [
        [(str(item.position), "bold")],
        [(str(ticket.id), "")],
        [(ticket.owner, "bold")],
        [(format_age(now - ticket.created_at), "")],
        _until(ticket.deadline, now) if ticket.deadline else [],
        [(ticket.purpose or "", "")],
    ]


def _hosts(hosts: Sequence[Host], limit: int | None) -> Line:
    """The first few by name, in the colour of their states."""
    names = _joined([(host.name, COLOUR[host.state]) for host in hosts[:limit]], " ")
    return names if limit is None or len(hosts) <= limit else [*names, (f" +{len(hosts) - limit}", "dim")]


def grant_lines(grant: Grant, width: int) -> Iterator[Line]:
    """What was taken, and how to give it back."""
    r = grant.held.reservation
    expiry = [(stamp(r.expires_at), "")] if r.expires_at else [("no end", "dim")]
    heads = (Column("RESERVATION"), Column("HOST"), Column("ADDRESS", 2), Column("UNTIL", 1))
    rows = (
        [[(r.id, "bold")], [(h.name, COLOUR[State.RESERVED])], [(h.spec.address or "", "")], expiry]
        for h in grant.held.hosts
    )
    yield from columns(heads, rows, width)
    yield []
    yield [("give back  ", "dim"), (f"bmhctl release -R {r.id}", "")]
    if r.expires_at:
        yield [("keep       ", "dim"), (f"bmhctl extend -R {r.id}", "")]


def outcome_lines(items: Iterable[Outcome], verbose: bool, planned: bool = False) -> Iterator[Line]:
    """One line for each host that is where it was wanted; the others are errors, and reported as such."""
    done = [item for item in items if item.error is None]
    heads = (Column(""), Column(""), Column(""))
    rows = ([[(item.host, "bold")], _change(item), [(item.message, "")]] for item in done)
    for item, line in zip(done, columns(heads, rows, _ENDLESS, header=False), strict=False):
        yield line
        if verbose:
            yield from step_lines(item)


def step_lines(item: Outcome) -> Iterator[Line]:
    """What each step said, below its host."""
    sign = {Verdict.PASS: ("✓", "green"), Verdict.FAIL: ("✗", "red"), Verdict.UNKNOWN: ("?", "yellow")}
    for step in item.steps:
        yield [("  ", ""), sign[step.verdict], (f" {step.step} {step.seconds:.1f}s ", ""), (step.detail, "dim")]


def _change(item: Outcome) -> Line:
    if item.changed and item.source is not item.state:
        return move(item.source, item.state)
    return [_place(item.state)] if item.state else []


def move(source: State | None, dest: State | None) -> list[Span]:
    """``reserved → tainted``, each in its colour."""
    return [_place(source), (" → ", ""), _place(dest)]


def _place(state: State | None) -> Span:
    return (state.value, COLOUR[state]) if state else ("[*]", "dim")


def history_lines(events: Iterable[Event], now: datetime, one_host: bool) -> Iterator[Line]:
    """A timeline: a state's glyph where a host arrived in it, a bar where something else happened to it."""
    for event in events:
        moved = event.source is not event.dest
        sign = (GLYPH[event.dest], COLOUR[event.dest]) if moved and event.dest else ("│" if not moved else "·", "dim")
        line: list[Span] = [sign, (f" {stamp(event.at)}  ", "dim")]
        if not one_host:
            line += [(event.host, "bold"), ("  ", "")]
        line.append((event.verb.value, "bold" if moved else ""))
        if moved:
            line += [("  ", ""), *move(event.source, event.dest)]
        yield [*line, (f"  {clean(event.actor)}", "cyan"), (f"  {ago(event.at, now)}", "dim")]
        about = _joined([(text, "") for text in (event.reason, event.reservation) if text], " · ")
        if about:
            yield [("│   " if one_host else "    ", "dim"), *about]


def detail_lines(detail: HostDetail) -> Iterator[Line]:
    """Everything about one host, then what last happened to it."""
    host, now = detail.host, detail.now
    yield from heading(host, now)
    yield []
    yield from table(_facts(host, now), "  ")
    yield from result_lines(detail.results, now)
    if detail.events:
        yield []
        yield from history_lines(detail.events, now, True)


def heading(host: Host, now: datetime) -> Iterator[Line]:
    """A host's name, its state, since when, and what to know beside it."""
    line = [(host.name, "bold"), ("  ", ""), state_span(host.state), (f"  {ago(host.since, now)}", "dim")]
    yield line + [(f"  {flag}", _FLAG_STYLE[flag]) for flag in flags(host)]


def _facts(host: Host, now: datetime) -> Iterator[tuple[str, Line]]:
    spec = host.spec
    if r := host.reservation:
        yield "held by", _joined([(r.owner, "bold"), (r.id, "")] + ([(r.purpose, "")] if r.purpose else []), " · ")
        yield "until", [*_until(r.expires_at, now), *([(f" · {stamp(r.expires_at)}", "dim")] if r.expires_at else [])]
    for mark in host.maintenance:
        back = f", back {until(mark.until, now)}" if mark.until else ""
        yield "maintenance", [(mark.reason, "magenta"), (f" · {mark.actor}, {ago(mark.since, now)}{back}", "dim")]
    if host.came_from:
        yield "came from", [_place(host.came_from)]
    if host.cordon:
        yield "cordoned", [(host.cordon.reason, "magenta"), (f" · {host.cordon.actor}", "dim")]
    if host.fault:
        yield "fault", [(host.fault, "red")]
    if host.failed_cleanups:
        yield "cleanups", [(f"{host.failed_cleanups} failed in a row", "red")]
    if spec.address:
        yield "address", [(spec.address, "")]
    if spec.mac:
        yield "mac", [(spec.mac, "")]
    if spec.labels:
        yield "labels", [(flatten(dict(spec.labels)), "cyan")]
    if spec.hardware:
        yield "hardware", [(flatten(dict(spec.hardware)), "")]
    if spec.bmc:
        yield "bmc", _joined([(t, "") for t in (spec.bmc.address, spec.bmc.type, spec.bmc.credentials) if t], " · ")
    if spec.note:
        yield "note", [(spec.note, "")]
    if host.used_at:
        yield "last used", [(ago(host.used_at, now), "")]


def plain_detail(detail: HostDetail) -> Iterator[Line]:
    """Every field of one host, a line each."""
    return table((name, [(flatten(value) or "-", "")]) for name, value in host_record(detail.host).items())


def status_lines(status: Status, width: int | None, colour: bool) -> Iterator[Line]:
    """The fleet at a glance."""
    total = sum(status.counts.values())
    yield [
        (status.inventory, "bold"),
        (f"  {total:,} host{'' if total == 1 else 's'} · ", ""),
        (f"{status.free:,} free", "green" if status.free else "red"),
        (f" · {status.waiting:,} waiting" if status.waiting else "", "yellow"),
        (f" · {stamp(status.now)}", "dim"),
    ]
    yield []
    if total:
        yield _bar(status, min(width or 72, 100), colour)
        yield []
    counts = [(state, status.counts.get(state, 0)) for state in State]
    legend = [(f"{GLYPH[state]} {count:,} {state}", COLOUR[state] if count else "dim") for state, count in counts]
    if width and len("   ".join(text for text, _ in legend)) > width:
        yield from ([each] for each in legend)
    else:
        yield _joined(legend, "   ")
    limit = _MOST if width else None
    if status.held:
        yield from _section("Held")
        longest = max((cell_width(host.name) for held in status.held[:limit] for host in held.hosts), default=0)
        heads = (Column(""), Column(""), Column(""), Column("", 0, max(10, longest)), Column("", 1, 10))
        rows = (
            [
                [("  ", ""), (held.reservation.owner, "bold")],
                [(held.reservation.id, "")],
                _until(held.reservation.expires_at, status.now),
                _hosts(held.hosts, _FEW if width else None),
                [(held.reservation.purpose or "", "dim")],
            ]
            for held in status.held[:limit]
        )
        yield from columns(heads, rows, width or _ENDLESS, header=False)
        yield from _more(status.total("held") - len(status.held[:limit]), "bmhctl reservations")
    if status.endings:
        yield from _section("Ends next")
        endings = (
            (until(ending.at, status.now), [(f"{clean(ending.what)}  ", ""), *_names(ending.hosts, limit)])
            for ending in status.endings[:limit]
        )
        yield from table(endings, "  ")
        yield from _more(status.total("endings") - len(status.endings[:limit]), "bmhctl list --sort until")
    looks = [
        ("cordoned", "cordoned", status.cordoned, "magenta"),
        ("undeclared", "undeclared", status.undeclared, "magenta"),
        ("fault", "faults", status.faults, "red"),
        ("expired", "expired", status.expired, "red"),
    ]
    if any(names for _, _, names, _ in looks):
        yield from _section("Look at")
        yield from table(
            ((word, _names(names, limit, style, status.total(key))) for word, key, names, style in looks if names), "  "
        )
    if status.expired:
        yield [("  an expired lease ends with the next writing command, or now with: bmhctl reap", "dim")]


def _names(names: Sequence[str], limit: int | None, style: str = "", total: int = 0) -> Line:
    line: list[Span] = [(" ".join(map(clean, names[:limit])), style)]
    more = max(total, len(names)) - len(names[:limit])
    return [*line, (f" and {more:,} more", "dim")] if more else line


def _more(count: int, command: str) -> Iterator[Line]:
    if count > 0:
        yield [(f"  and {count:,} more: {command}", "dim")]


def _section(title: str) -> Iterator[Line]:
    yield []
    yield [(title, "bold")]


def _bar(status: Status, width: int, colour: bool) -> Line:
    """The states' shares; every state that has a host has at least one cell, and the cells add up."""
    counts = {state: status.counts.get(state, 0) for state in State}
    total = sum(counts.values())
    cells = {state: max(1, count * width // total) if count else 0 for state, count in counts.items()}
    by_error = sorted(counts, key=lambda state: counts[state] * width / total - cells[state])
    while (excess := sum(cells.values()) - width) != 0:
        state = max(cells, key=lambda s: cells[s]) if excess > 0 else by_error.pop()
        cells[state] += -1 if excess > 0 else 1
    return [("█" * n if colour else GLYPH[state] * n, COLOUR[state]) for state, n in cells.items()]


def why_lines(why: Why) -> Iterator[Line]:
    """Why a host is where it is, and what may be done."""
    host = why.host
    yield from heading(host, why.now)
    yield []
    yield [(f"  {clean(why.summary)}", "")]
    for fact in why.facts:
        yield [("  · ", "dim"), (fact, "")]
    yield from result_lines(why.results, why.now)
    if why.answers:
        yield []
        yield from answer_lines(why.answers)
    if why.next:
        yield []
        yield [("next  ", "bold"), (why.next, "bold cyan")]


_VERDICT: dict[Verdict, Span] = {
    Verdict.PASS: ("✓", "green"),
    Verdict.FAIL: ("✗", "red"),
    Verdict.UNKNOWN: ("?", "yellow"),
}


def result_lines(results: Sequence[CheckResult], now: datetime) -> Iterator[Line]:
    """What each check and cleanup step said last, and how long ago."""
    if results:
        yield []
    width = max((cell_width(result.step) for result in results), default=0)
    for result in results:
        glyph, style = _VERDICT[result.verdict]
        age = f"  {ago(result.at, now)}" if result.at else ""
        took = f", took {result.seconds:.1f} s" if result.seconds >= 1 else ""
        yield [
            ("  ", ""),
            (glyph, style),
            (f" {pad(clean(result.step), width)}  ", ""),
            (clean(result.detail), ""),
            (f"{age}{took}", "dim"),
        ]


_ANSWER: dict[bool | None, Span] = {True: ("✓", "green"), None: ("?", "yellow"), False: ("✗", "dim")}


def answer_lines(answers: Iterable[VerbAnswer]) -> Iterator[Line]:
    """One line a verb: whether it is open, where to, and the command or why not."""
    for answer in sorted(answers, key=lambda a: (a.open is False, a.open is None)):
        refused = answer.open is False
        line: list[Span] = [("  ", ""), _ANSWER[answer.open], (f" {answer.verb:<9}", "dim" if refused else "bold")]
        if not refused and answer.dest:
            line += [("→ ", ""), (f"{answer.dest:<13}", COLOUR[answer.dest])]
        words = "; ".join(answer.words)
        yield [*line, (words if refused else answer.command, "dim" if refused else "cyan")]
        if not refused and words:
            yield [(f"{'':13}{clean(words)}", "dim")]
