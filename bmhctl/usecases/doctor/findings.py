"""What each flaw of an inventory's rows means, in words for a person, and what to do about it."""

from __future__ import annotations

from collections.abc import Callable

from bmhctl.domain.model import State
from bmhctl.lifecycle.table import where
from bmhctl.results import Finding, Severity
from bmhctl.stores.integrity import Flaw
from bmhctl.stores.rows import Value, to_time

FIX = "bmhctl doctor --fix"

BROKEN, WARNING, NOTE = Severity.BROKEN, Severity.WARNING, Severity.NOTE


def let_go(host: str) -> str:
    """What remains where a host's history is broken: no command can make up what happened."""
    return (
        f"restore a backup; or clean it by hand, then let it go and come back: "
        f"bmhctl remove {host} --force --reason 'broken history'; bmhctl add {host}"
    )


def set_aside(host: str, *, marked_by_fix: bool = True) -> str:
    """How a host that counts as clean and is not becomes so by a cleanup, and is reserved by nobody meanwhile."""
    marking = f"; {FIX} (marks it dirty there)" if marked_by_fix else ""
    return f"bmhctl maintain {host} --reason 'not clean'{marking}; bmhctl resume {host} (cleans it)"


def finding(question: str, flaw: Flaw) -> Finding:
    """The finding that one answer to a question is."""
    return _SAYS[question](flaw)


def strange_event(
    host: str, is_there: bool, kind: tuple[str, str | None, str | None], first: int, more: int
) -> Finding:
    """An event that goes no way of the lifecycle's table; ``more`` others are like it."""
    verb, source, dest = kind
    others = f", and {more} more like it" if more else ""
    return Finding(
        "history",
        BROKEN if is_there else WARNING,
        f"event {first}, {verb}, leads from {source or '[*]'} to {dest or '[*]'}: no host can go that way{others}",
        let_go(host) if is_there else _NOTHING_DEPENDS,
        host,
    )


_NOTHING_DEPENDS = "it is gone, so nothing depends on its history; a backup may have the right one"


def _broken(kind: str, flaw: Flaw, message: str, fixed_by: str, else_do: str = "") -> Finding:
    remedy = f"{FIX} {fixed_by}" if flaw.mendable else else_do
    return Finding(kind, BROKEN, message, remedy, flaw.host, flaw.mendable)


def _gap(flaw: Flaw) -> Finding:
    gone, number, event, verb, source, before = flaw.details
    more = f", and there {'is 1' if number == 2 else f'are {int(number or 0) - 1}'} more" if number != 1 else ""
    return Finding(
        "history",
        WARNING if gone else BROKEN,
        f"a gap in its history: event {event}, {verb}, begins at {source or '[*]'},"
        f" the one before ended at {before or '[*]'}{more}",
        _NOTHING_DEPENDS if gone else let_go(_host(flaw)),
        flaw.host,
    )


def _no_history(flaw: Flaw) -> Finding:
    return _broken("history", flaw, f"is {_where(flaw.details[0])}, and has no history", "", let_go(_host(flaw)))


def _other_end(flaw: Flaw) -> Finding:
    state, dest = flaw.details
    words = f"is {_where(state)}, but its history ends at {dest or '[*]'}"
    return _broken("history", flaw, words, "", let_go(_host(flaw)))


def _last_event(flaw: Flaw) -> Finding:
    noted, last = flaw.details
    words = f"its last event is {last}, not {noted} as noted"
    return _broken("history", flaw, words, "notes the right one", let_go(_host(flaw)))


def _vanished(flaw: Flaw) -> Finding:
    words = f"vanished: its history ends at {flaw.details[0]}, not with its removal"
    if flaw.mendable:
        return _broken("orphan", flaw, words, "makes sure that it is tainted should it be added again")
    return Finding("orphan", WARNING, words, f"restore a backup, or add it again: bmhctl add {flaw.host}", flaw.host)


def _reservation_missing(flaw: Flaw) -> Finding:
    reservation, state = flaw.details
    words = f"is {_where(state)} under reservation {reservation}, and there is no such reservation"
    return _broken("reservation", flaw, words, "", _out_of_nowhere(flaw, state))


def _reservation_absent(flaw: Flaw) -> Finding:
    words = "is reserved under no reservation"
    return _broken("reservation", flaw, words, "", _out_of_nowhere(flaw, State.RESERVED))


def _out_of_nowhere(flaw: Flaw, state: Value) -> str:
    if state == State.MAINTENANCE:
        return f"bmhctl resume {flaw.host} --all (cleans it)"
    return f"bmhctl maintain {flaw.host} --reason 'lost reservation'; bmhctl resume {flaw.host} (cleans it)"


def _reservation_ended(flaw: Flaw) -> Finding:
    reservation, state, reason = flaw.details
    words = f"is {_where(state)} under reservation {reservation}, which is over: {reason or 'nobody says why'}"
    return _broken("reservation", flaw, words, "", f"bmhctl taint {flaw.host} --force --reason 'its lease is over'")


def _reservation_stray(flaw: Flaw) -> Finding:
    reservation, state = flaw.details
    words = f"is {_where(state)}, and names reservation {reservation} all the same"
    return _broken("reservation", flaw, words, "takes it off: its history ends here", let_go(_host(flaw)))


def _reservation_empty(flaw: Flaw) -> Finding:
    reservation, owner = flaw.details
    return _broken("reservation", flaw, f"reservation {reservation} of {owner} is open and holds no host", "ends it")


def _unknown_end(flaw: Flaw) -> Finding:
    reservation, end = flaw.details
    words = f"reservation {reservation} ended in a way that this version does not know: {end!r}"
    return _broken("reservation", flaw, words, "", "update bmhctl, or restore a backup")


def _reasons(flaw: Flaw) -> Finding:
    words = f"is {_where(flaw.details[0])}, and has reasons for a maintenance"
    return _broken("mark", flaw, words, "drops them: its history ends here", let_go(_host(flaw)))


def _no_reason(flaw: Flaw) -> Finding:
    remedy = f"bmhctl resume {flaw.host}; or say why: bmhctl maintain {flaw.host} --reason WHY"
    return Finding("mark", WARNING, "is in maintenance, and nobody says why", remedy, flaw.host)


def _came_from(flaw: Flaw) -> Finding:
    state, came_from = flaw.details
    words = f"is {_where(state)}, and noted to be back from maintenance to {came_from}"
    return _broken("mark", flaw, words, "drops the note: its history ends here", let_go(_host(flaw)))


def _dirty_state(flaw: Flaw) -> Finding:
    return _broken("dirt", flaw, f"is {_where(flaw.details[0])}, and counts as clean", "marks it dirty")


def _dirty_history(flaw: Flaw) -> Finding:
    state, event = flaw.details
    words = f"is {_where(state)} and counts as clean, but was used (event {event}) and not cleaned since"
    return _broken("dirt", flaw, words, "marks it dirty", set_aside(_host(flaw)))


def _dirty_departed(flaw: Flaw) -> Finding:
    state, reason = flaw.details
    words = (
        f"is {_where(state)} and counts as clean, but the machine of its MAC left used ({reason}),"
        " and was not cleaned since"
    )
    return _broken("dirt", flaw, words, "marks it dirty", set_aside(_host(flaw)))


def _departed_name(flaw: Flaw) -> Finding:
    return Finding(
        "dirt",
        WARNING,
        f"counts as clean, but a machine of its name left used ({flaw.details[0]})",
        f"if it is that machine: bmhctl remove {flaw.host}; bmhctl add {flaw.host}: it enters tainted",
        flaw.host,
    )


def _too_dirty(flaw: Flaw) -> Finding:
    remedy = set_aside(_host(flaw), marked_by_fix=False)
    return _broken("dirt", flaw, f"is {_where(flaw.details[0])}, and dirty", "", remedy)


def _orphaned(what: str) -> Callable[[Flaw], Finding]:
    def say(flaw: Flaw) -> Finding:
        words = f"{flaw.details[0]} {what} of hosts that are gone"
        return Finding("orphan", WARNING, words, f"{FIX} deletes them", fixable=True)

    return say


def _mac(flaw: Flaw) -> Finding:
    mac, number, other = flaw.details
    words = f"has the MAC {mac} of {other}" + ("" if number == 2 else f" and {int(number or 0) - 2} more")
    remedy = f"one machine under two names can be given out twice: correct one MAC, or bmhctl remove {other}"
    return Finding("duplicate", WARNING, words, remedy, flaw.host)


def _moment(value: Value, form: str = "%Y-%m-%d %H:%M") -> str:
    try:
        return f"{to_time(value):{form}} UTC"
    except (ArithmeticError, TypeError, ValueError):
        return repr(value)  # somebody wrote it, but not bmhctl


def _future(flaw: Flaw) -> Finding:
    number, latest = flaw.details
    times = "1 time is" if number == 1 else f"{number} times are"
    return Finding(
        "clock",
        WARNING,
        f"{times} in the future, up to {_moment(latest, '%Y-%m-%d %H:%M:%S')}",
        "a clock is wrong now, or was: compare date -u; leases end by it",
    )


def _lease(flaw: Flaw) -> Finding:
    reservation, owner, until = flaw.details
    words = "has no end" if until is None else f"lasts until {_moment(until)}"
    return Finding(
        "lease",
        WARNING,
        f"reservation {reservation} of {owner} {words}, longer than this inventory allows",
        f"ask {owner} whether it is used still; bmhctl release -R {reservation} ends it",
    )


def _host(flaw: Flaw) -> str:
    return flaw.host or "HOST"


def _where(state: Value) -> str:
    try:
        return where(State(str(state)))
    except ValueError:
        return f"{state!r}"


_SAYS: dict[str, Callable[[Flaw], Finding]] = {
    "gap": _gap,
    "no-history": _no_history,
    "other-end": _other_end,
    "last-event": _last_event,
    "vanished": _vanished,
    "reservation-missing": _reservation_missing,
    "reservation-ended": _reservation_ended,
    "reservation-absent": _reservation_absent,
    "reservation-stray": _reservation_stray,
    "reservation-empty": _reservation_empty,
    "reservation-unknown-end": _unknown_end,
    "reasons": _reasons,
    "no-reason": _no_reason,
    "came-from": _came_from,
    "dirty-state": _dirty_state,
    "dirty-history": _dirty_history,
    "dirty-departed": _dirty_departed,
    "departed-name": _departed_name,
    "too-dirty": _too_dirty,
    "orphaned-facts": _orphaned("facts"),
    "orphaned-results": _orphaned("results of steps"),
    "mac": _mac,
    "future": _future,
    "lease": _lease,
}
