"""Undo the last change of what is declared, if nothing has happened to its hosts since."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from functools import partial

from bmhctl.domain.host_spec import parse_spec
from bmhctl.domain.model import Event, EventKind, HostSpec, PropertyValue, Verb
from bmhctl.domain.units import format_age
from bmhctl.errors import StateRefusedError
from bmhctl.results import Outcome, Outcomes
from bmhctl.support.folding import folded
from bmhctl.support.values import Frozen, replace
from bmhctl.usecases.shared.confirmation import MANY, confirm_names
from bmhctl.usecases.shared.context import Context, retried
from bmhctl.usecases.shared.declaration_sync import change
from bmhctl.usecases.shared.former import BY_HAND, DECLARED, Former, imported_of, whole_host
from bmhctl.usecases.shared.host_changes import Changes, HostAddition, Removal, SpecChange
from bmhctl.usecases.shared.refresh import refresh_and_reap
from bmhctl.usecases.shared.transitions import record_event

_SHOWN = 3
_LONG = timedelta(minutes=1)
_MARKS = (EventKind.CORDON, EventKind.UNCORDON)
_PLANS = (EventKind.PLANNED, EventKind.PLAN_ENDED)  # what is planned on a host stays as it is


class _Change(Frozen):
    """The last change: its events, each with the id of its host, and the policy that it replaced (None: none)."""

    at: datetime
    actor: str
    events: tuple[tuple[int, Event], ...] = ()
    policy: str | None = None

    @property
    def words(self) -> str:
        """What it was, as "set of node01 by alice"."""
        verbs = dict.fromkeys(_command(event) for _, event in self.events)
        names = folded(event.host for _, event in self.events)
        what = "/".join([*verbs, *(["policy"] if self.policy is not None else [])])
        more = " …" if len(names) > _SHOWN else ""
        hosts = f" of {' '.join(names[:_SHOWN])}{more}" if names else ""
        return f"{what}{hosts} by {self.actor}"


def _command(event: Event) -> str:
    return "add" if event.verb is Verb.ENTER else event.verb.value


def undo(ctx: Context) -> Outcomes:
    """Take back the last change of what is declared: ``add``, ``set``, ``rename``, ``remove``, ``import``, ``cordon``,
    ``uncordon`` or ``policy apply``; return the outcome of each host.

    It is a change like any other, so that a second ``undo`` makes the first change again. Raises
    :class:`StateRefusedError` when there is none, or when something happened to one of its hosts since.
    """
    refresh_and_reap(ctx)
    last = _last_change(ctx)
    _check_undoable(ctx, last)
    names = [event.host for _, event in last.events]
    confirm_names(ctx, f"undo of the {last.words}", names, most=MANY if last.actor == ctx.actor else 0)
    items = _unmark(ctx, last) if _is_mark(last) else tuple(change(ctx, _inverse(ctx, last)))
    age = ctx.clock() - last.at
    note = f"took back the {last.words}" + (f", {format_age(age)} ago" if age >= _LONG else "")
    again = () if ctx.dry_run else ("bmhctl undo takes this back",)
    return Outcomes("undo", items, (f"would take {note[5:]}" if ctx.dry_run else note, *again))


def _last_change(ctx: Context) -> _Change:
    found = ctx.store.events.last_change()
    kept = ctx.store.meta.kept_policy()
    by_event = _Change(found[0][1].at, found[0][1].actor, tuple(found)) if found else None
    by_policy = None if kept is None else _Change(kept[0], kept[1], (), kept[2])
    if by_event is None or by_policy is None:
        last = by_event or by_policy
        if last is None:
            raise StateRefusedError("there is no change to undo", hint="bmhctl history shows what was done")
        return last
    if (by_event.at, by_event.actor) == (by_policy.at, by_policy.actor):
        return replace(by_event, policy=by_policy.policy)
    return max(by_event, by_policy, key=lambda each: each.at)


def _check_undoable(ctx: Context, last: _Change) -> None:
    if any(_kept(event).get(BY_HAND) for _, event in last.events):
        raise StateRefusedError(
            f"the last change was made in {ctx.store.location} by an editor, not by bmhctl", hint="undo it in the file"
        )
    if any(event.verb is Verb.RETIRE for _, event in last.events):
        raise StateRefusedError(
            f"the {last.words} can't be undone", hint="to keep a machine that is still there: bmhctl add NAME"
        )
    adds = any(event.verb is Verb.ENTER for _, event in last.events)
    since = [each for each in ctx.store.events.later(last.events) if adds or each.verb not in _PLANS]
    if since:
        now = ctx.clock()
        words = [f"{each.verb} of {each.host} by {each.actor} {format_age(now - each.at)} ago" for each in since]
        more = f" and {len(words) - _SHOWN} more" if len(words) > _SHOWN else ""
        raise StateRefusedError(
            f"the {last.words} can't be undone, because of what happened since: {', '.join(words[:_SHOWN])}{more}",
            hint=f"see bmhctl history {since[0].host}; change what is declared with bmhctl set",
            details={"since": [each.id for each in since]},
        )


def _kept(event: Event) -> Mapping[str, object]:
    return event.before or {}


def _is_mark(last: _Change) -> bool:
    return all(event.verb in _MARKS for _, event in last.events) and last.policy is None


@retried
def _unmark(ctx: Context, last: _Change) -> tuple[Outcome, ...]:
    """Give each host the cordon that it had, in one commit."""
    with ctx.transaction():
        now = ctx.clock()
        _check_undoable(ctx, last)
        return tuple(_unmark_one(ctx, event, host_id, now) for host_id, event in last.events)


def _unmark_one(ctx: Context, event: Event, host_id: int, now: datetime) -> Outcome:
    host = ctx.store.hosts.with_id(host_id, lock=True)
    if host is None:
        raise AssertionError("a host that left has a later event")
    cordon = whole_host(_kept(event)).cordon
    kind = EventKind.UNCORDON if cordon is None else EventKind.CORDON
    reason = f"undo of {_command(event)} by {event.actor}"
    before = Former().of(host, whole=True)
    record_event(ctx, replace(host, cordon=cordon), kind, now, reason=reason, before=before)
    return Outcome(host.name, True, f"{kind}ed: {reason}", host.state, host.state)


def _inverse(ctx: Context, last: _Change) -> Changes:
    """Return the changes that take back a change."""
    inverse = Changes(reason=f"undo of the {last.words}", policy=last.policy)
    renames, removals, specs, newcomers = [], [], [], []
    imported: dict[str, dict[str, PropertyValue] | None] = {}
    for _, event in last.events:
        kept, reason = _kept(event), f"undo of {_command(event)} by {event.actor}"
        declared = kept[DECLARED]
        if event.verb is Verb.ENTER:
            removals.append(Removal(event.host, reason, force=True, last_event=event.id))
            continue
        spec = _spec(declared)
        if event.verb is EventKind.RENAME:
            renames.append((event.host, spec.name))
        elif event.verb is Verb.REMOVE:
            newcomers.append(HostAddition(replace(whole_host(kept), undeclared=False, planned=()), reason))
            imported[spec.name] = imported_of(kept)
        elif event.verb is EventKind.SET:
            specs.append(SpecChange(event.host, partial(_declared, spec)))
            imported[spec.name] = imported_of(kept)
        else:
            raise StateRefusedError(
                f"the {last.words} can't be undone", hint="it declared a host again: take it out of the file"
            )
    return replace(
        inverse,
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


def _declared(spec: HostSpec, _: Context, __: HostSpec) -> HostSpec:
    return spec
