"""Undo a change of the inventory's declaration, if no later change depends on it."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from functools import partial

from bmhctl.domain.host_spec import parse_spec
from bmhctl.domain.model import NO_LONGER_WHEN_FREE, WHEN_FREE, Event, EventKind, HostSpec, PropertyValue, State, Verb
from bmhctl.domain.units import format_age
from bmhctl.errors import NotFoundError, StateRefusedError
from bmhctl.results import Outcome, Outcomes, stayed
from bmhctl.support.folding import folded, folded_within
from bmhctl.support.values import Frozen, replace
from bmhctl.usecases.shared.confirmation import MANY, confirm_names
from bmhctl.usecases.shared.context import Context
from bmhctl.usecases.shared.declare import change
from bmhctl.usecases.shared.former import BY_HAND, COMMAND, DECLARED, Former, imported_of, whole_host
from bmhctl.usecases.shared.host_changes import Changes, HostAddition, Removal, SpecChange
from bmhctl.usecases.shared.host_selection import unfold
from bmhctl.usecases.shared.refresh import refresh_and_reap, retried
from bmhctl.usecases.shared.transitions import change_cordon

_SHOWN = 3
_ROOM = 60  # characters for the hosts of a change: its words are also the reason in the event of each host
_LONG = timedelta(minutes=1)
_UNDONE = "undo"
_UNDO = f"{_UNDONE} of "  # the beginning of the reason in the events of an undo
_MARKS = (EventKind.CORDON, EventKind.UNCORDON)
_DECLARES = (EventKind.SET, EventKind.RENAME, EventKind.UNDECLARE, EventKind.DECLARE, Verb.REMOVE, Verb.RETIRE)
_CORDONS = (
    *_MARKS,
    EventKind.RETIRING,
    EventKind.RETIRE_UNDONE,
    *(Verb.MAINTAIN, Verb.RESUME, Verb.REMOVE, Verb.RETIRE),
)

_IN_THE_WAY: tuple[tuple[tuple[Verb | EventKind, ...], tuple[Verb | EventKind, ...]], ...] = (
    ((Verb.ENTER,), ()),
    (_MARKS, _CORDONS),
    (_DECLARES, _DECLARES),
)
"""Pairs of groups of verbs: an event with a verb of the first group can't be undone if the host has a later event with
a verb of the second group.

An empty second group stands for all events, so that an added host that was used since is not removed. A change of a
host's declaration can be undone although the host was used since.
"""


class _Change(Frozen):
    """A change to undo: its events, each with the id of its host, and the former policy if it replaced that."""

    at: datetime
    actor: str
    events: tuple[tuple[int, Event], ...] = ()
    policy: str | None = None

    @property
    def words(self) -> str:
        """The change in words: "set of node01 by alice", or "undo of node01 by alice"."""
        verbs = dict.fromkeys(_command(event) for _, event in self.events)
        what = "/".join([*verbs, *(["policy"] if self.policy is not None else [])])
        hosts = f" of {folded_within([event.host for _, event in self.events], _ROOM)}" if self.events else ""
        return f"{what}{hosts} by {self.actor}"


def _command(event: Event) -> str:
    """Return the command that made a change; an older bmhctl recorded it only in the words of the reason."""
    named = "add" if event.verb is Verb.ENTER else event.verb.value
    if COMMAND in _kept(event):
        return str(_kept(event)[COMMAND] or named)
    if (event.reason or "").startswith(_UNDO):
        return _UNDONE
    if event.verb is EventKind.CORDON and (event.reason or "").startswith(WHEN_FREE):
        return "maintain --when-free"
    if event.verb in _MARKS and (event.reason or "").startswith(NO_LONGER_WHEN_FREE):
        return Verb.RESUME.value
    return named


def undo(ctx: Context, names: Sequence[str] = (), *, event: int | None = None) -> Outcomes:
    """Undo the last change of the declaration, of a cordon or of the policy; return the outcome of each host.

    ``names`` limits the undo to some hosts of the change, also by patterns and ranges. ``event`` is the id of an event
    of an earlier change to undo instead. An undo is a change, too, so a second one makes the first change again. Raises
    :class:`StateRefusedError` when there is no change to undo, or when a later event prevents it.
    """
    refresh_and_reap(ctx)
    whole = _change(ctx, event)
    last = _only(whole, names) if names else whole
    _check_undoable(ctx, last)
    names = [event.host for _, event in last.events]
    confirm_names(ctx, f"undo of the {last.words}", names, most=MANY if last.actor == ctx.actor else 0)
    if not names and last.actor != ctx.actor and ctx.confirm is not None:
        ctx.confirm(f"undo of the {last.words} changes the policy")
    if last.policy is None and all(event.verb in _MARKS for _, event in last.events):
        items = _unmark(ctx, last)
    else:  # an event that was recorded while the user was asked may also prevent the undo
        items = tuple(change(ctx, _inverse(ctx, last), partial(_check_undoable, ctx, last)))
    age = ctx.clock() - last.at
    note = f"took back the {last.words}" + (f", {format_age(age)} ago" if age >= _LONG else "")
    if ctx.dry_run:
        return Outcomes("undo", items, (f"would take {note[5:]}",))
    rest = ("the policy of that change stays",) if whole.policy is not None and last.policy is None else ()
    return Outcomes("undo", items, (note, *rest, *_next_steps(ctx, whole)))


def _next_steps(ctx: Context, last: _Change) -> Iterator[str]:
    """Yield what another ``undo`` does, and how to undo the change before this one."""
    yield "bmhctl undo makes the change again"
    if last.events:
        earlier = ctx.store.events.change(min(event.id for _, event in last.events) - 1)
        if earlier and _command(earlier[0][1]) != _UNDONE:
            found = _Change(earlier[0][1].at, earlier[0][1].actor, tuple(earlier))
            with suppress(StateRefusedError):  # an edit by hand, a retirement, or a change on which later ones depend
                _check_undoable(ctx, found)
                yield f"bmhctl undo --event {earlier[-1][1].id} takes back the {found.words}, too"


def _only(last: _Change, names: Sequence[str]) -> _Change:
    """Return the part of a change that concerns the hosts with these names."""
    chosen: dict[int, tuple[int, Event]] = {}
    for name in unfold(names):
        found = {event.id: (host, event) for host, event in last.events if fnmatchcase(event.host, name)}
        if not found:
            raise NotFoundError(f"the {last.words} is not about {name}", hint="bmhctl undo --dry-run shows its hosts")
        chosen |= found
    return replace(last, events=tuple(chosen[key] for key in sorted(chosen)), policy=None)


def _change(ctx: Context, event: int | None) -> _Change:
    found = ctx.store.events.change(event)
    if event is not None and all(each.id != event for _, each in found):
        raise NotFoundError(
            f"no event {event} changed what is declared",
            hint="bmhctl history --fields id,host,verb,reason shows the ids",
        )
    kept = ctx.store.meta.kept_policy()
    by_event = _Change(found[0][1].at, found[0][1].actor, tuple(found)) if found else None
    by_policy = None if kept is None else _Change(kept[0], kept[1], (), kept[2])
    if by_event and by_policy and (by_event.at, by_event.actor) == (by_policy.at, by_policy.actor):
        return replace(by_event, policy=by_policy.policy)
    changes = [each for each in (by_event, by_policy if event is None else None) if each is not None]
    if not changes:
        raise StateRefusedError("there is no change to undo", hint="bmhctl history shows what was done")
    return max(changes, key=lambda each: each.at)


def _check_undoable(ctx: Context, last: _Change) -> None:
    if any(_kept(event).get(BY_HAND) for _, event in last.events):
        raise StateRefusedError(
            f"the change was made in {ctx.store.location} by an editor, not by bmhctl", hint="undo it in the file"
        )
    if any(event.verb is Verb.RETIRE for _, event in last.events):
        raise StateRefusedError(
            f"the {last.words} can't be undone", hint="to keep a machine that is still there: bmhctl add NAME"
        )
    later = _in_the_way(ctx, last)
    since = sorted(later.values(), key=lambda each: each.id)
    words = [_since(ctx, f"{each.verb} of {each.host}", each.at, each.actor) for each in since]
    kept = ctx.store.meta.kept_policy() if last.policy is not None else None
    if kept is not None and kept[:2] != (last.at, last.actor):
        words.append(_since(ctx, "policy", kept[0], kept[1]))
    if words:
        more = f" and {len(words) - _SHOWN} more" if len(words) > _SHOWN else ""
        rest = folded(event.host for host, event in last.events if host not in later)
        which = f"bmhctl undo {shlex.join(rest)} takes back the rest" if rest else "change it with bmhctl set or remove"
        look = f"bmhctl history {since[0].host}; {which}" if since else "bmhctl policy show"
        raise StateRefusedError(
            f"the {last.words} can't be undone, because of what happened since: {', '.join(words[:_SHOWN])}{more}",
            hint=f"see {look}",
            details={"since": [each.id for each in since]},
        )


def _since(ctx: Context, what: str, at: datetime, actor: str) -> str:
    return f"{what} by {actor} {format_age(ctx.clock() - at)} ago"


def _in_the_way(ctx: Context, last: _Change) -> dict[int, Event]:
    """Return, by host id, the first event after the change that prevents its undo."""
    found: dict[int, Event] = {}
    for kinds, verbs in _IN_THE_WAY:
        mine = [(host, event) for host, event in last.events if event.verb in kinds]
        later = ctx.store.events.later(mine, verbs) if mine else {}
        found |= {host: event for host, event in later.items() if not (verbs and _is_as_before(ctx, host, event))}
    return found


def _is_as_before(ctx: Context, host_id: int, later: Event) -> bool:
    """Return whether a host's declaration and cordon are those from before a later event, so that it was undone."""
    host, kept = ctx.store.hosts.with_id(host_id), _kept(later)
    if host is None or kept.get(DECLARED) != Former().of(host)[DECLARED]:
        return False
    return later.verb not in _MARKS or whole_host(kept).cordon == host.cordon


def _kept(event: Event) -> Mapping[str, object]:
    return event.before or {}


@retried
def _unmark(ctx: Context, last: _Change) -> tuple[Outcome, ...]:
    """Restore the former cordon of each host, in one commit."""
    with ctx.transaction():
        now = ctx.clock()
        _check_undoable(ctx, last)
        return tuple(_unmark_one(ctx, event, host_id, now) for host_id, event in last.events)


def _unmark_one(ctx: Context, event: Event, host_id: int, now: datetime) -> Outcome:
    host = ctx.store.hosts.with_id(host_id, lock=True)
    if host is None:
        raise AssertionError("a host that left has a later event")
    cordon = whole_host(_kept(event)).cordon
    if cordon is not None and cordon.maintains and host.state is not State.RESERVED:  # --when-free needs a holder
        raise StateRefusedError(
            f"{host.name} can't go to maintenance when it is free: it is {host.state}",
            hint=f"bmhctl maintain {host.name} --reason TEXT",
        )
    reason = f"{_UNDO}{_command(event)} by {event.actor}"
    change_cordon(ctx, host, cordon, now, reason, _UNDONE)
    word = "uncordoned" if cordon is None else cordon.flag
    return stayed(host, f"{word}: {reason}")


def _inverse(ctx: Context, last: _Change) -> Changes:
    """Return the changes that undo a change."""
    renames, removals, specs, newcomers = [], [], [], []
    imported: dict[str, dict[str, PropertyValue] | None] = {}
    for host_id, event in last.events:
        kept, reason = _kept(event), f"{_UNDO}{_command(event)} by {event.actor}"
        declared = kept[DECLARED]
        if event.verb is Verb.ENTER:
            removals.append(Removal(event.host, reason, force=True, last_event=event.id))
            continue
        spec = _spec(declared)
        if event.verb is EventKind.RENAME:
            renames.append((event.host, spec.name))
        elif event.verb is Verb.REMOVE:
            host = replace(whole_host(kept), id=host_id, undeclared=False, planned=())
            newcomers.append(HostAddition(host, reason))
            imported[spec.name] = imported_of(kept)
        elif event.verb is EventKind.SET:
            specs.append(SpecChange.to(event.host, spec))
            imported[spec.name] = imported_of(kept)
        else:
            raise StateRefusedError(
                f"the {last.words} can't be undone", hint="it declared a host again: take it out of the file"
            )
    return Changes(
        reason=f"{_UNDO}the {last.words}",
        command=_UNDONE,
        policy=last.policy,
        renames=tuple(renames),
        removals=tuple(removals),
        specs=tuple(specs),
        newcomers=tuple(newcomers),
        imported=imported,
    )


def _spec(declared: object) -> HostSpec:
    if not isinstance(declared, Mapping):
        raise AssertionError("only a new host had no declaration")
    return parse_spec(str(declared["name"]), {key: value for key, value in declared.items() if key != "name"})
