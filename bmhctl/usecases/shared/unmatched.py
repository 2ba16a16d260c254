"""Explain why a name or a selector fits no host: a rename, a similar name or key, or the values that there are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from bmhctl.domain.model import State
from bmhctl.domain.selector import Operator, Selector, Term, selectable
from bmhctl.errors import NotFoundError, UsageError, nearest
from bmhctl.stores.host_query import HostQuery
from bmhctl.support.lazy_regex import pattern

if TYPE_CHECKING:
    from bmhctl.usecases.shared.context import Context

_NEAR = 500  # the names before and after a missing one, each, that are compared with it
_NOT_THERE = "there is no such host"
_SHOW_ALL = "bmhctl list shows all hosts"
_NO_HOSTS = "there are no hosts yet: bmhctl add HOST adds one, bmhctl import FILE many"
_LAST_NUMBER = pattern(r"[0-9]++(?=[^0-9]*+$)")
_PADDING = pattern(r"(?<![0-9])0++(?=[0-9])")
_SAMPLE = 1000  # the most hosts that are searched for a similar key
_SHOWN = 8  # the most values that are named


def not_found(ctx: Context, name: str, *, look_around: bool = True) -> NotFoundError:
    """Return the error for a name that no host has; with ``look_around`` it suggests the most similar host name."""
    if "*" in name or "?" in name or "[" in name:
        return NotFoundError("is not a host name", host=name, hint="write the name in full; bmhctl list shows all")
    if look_around and next(ctx.store.events.read(name, last=1), None) is not None:
        return _left(name)
    known = ctx.store.hosts.names_near(name, _NEAR) if look_around else []
    near = _nearest(name, known)
    hint = f"did you mean {near}?" if near else _SHOW_ALL if known or not look_around else _NO_HOSTS
    return NotFoundError(_NOT_THERE, host=name, hint=hint)


def explained_together(ctx: Context, errors: Sequence[NotFoundError]) -> list[NotFoundError]:
    """Return the errors of many unknown names: those of hosts that left say so, and the others get one hint.

    The hint has the names of hosts that have the same numbers with other leading zeros, if there are such hosts. Errors
    with a more specific explanation keep it.
    """
    unknown = {str(error.host): error for error in errors if error.message == _NOT_THERE}
    left = {name: _left(name) for name in ctx.store.events.past_names([*unknown])}
    _hint_together(ctx, {name: error for name, error in unknown.items() if name not in left})
    return [left.get(str(error.host), error) for error in errors]


def _hint_together(ctx: Context, unknown: Mapping[str, NotFoundError]) -> None:
    if not unknown:
        return
    first = next(iter(unknown))
    known = ctx.store.hosts.names_near(first, _NEAR)
    padded = _LAST_NUMBER.search(_same_number(first, known) or "")
    width = len(padded[0]) if padded else 0
    meant = [_LAST_NUMBER.sub(lambda number: number[0].lstrip("0").zfill(width), name) for name in unknown]
    hosts = ctx.store.hosts.with_names(meant) if width else {}
    hint = _SHOW_ALL if known else _NO_HOSTS
    if hosts:
        from shlex import quote

        from bmhctl.support.folding import folded

        hint = f"did you mean {' '.join(map(quote, folded(name for name in meant if name in hosts)))}?"
    for error in unknown.values():
        error.hint = hint


def _left(name: str) -> NotFoundError:
    hint = f"bmhctl history {name} shows what became of it"
    return NotFoundError("was removed, or has another name now", host=name, hint=hint)


def _same_number(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that differs in leading zeros only."""
    unpadded = _PADDING.sub("", name)
    return next((each for each in known if _PADDING.sub("", each) == unpadded), None)


def _nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that differs only in leading zeros of numbers, else the most similar one."""
    known = [*known]
    longer = (each for each in known if each.startswith(name))
    return _same_number(name, known) or next(longer, None) or nearest(name, known)


def note_unmatched(ctx: Context, selector: Selector) -> bool:
    """Report why no host of the inventory fits ``selector``; return False if a host in another state fits.

    Each unknown key is reported with the key or option that was probably meant. If all keys are known, the existing
    values are reported.
    """
    notes = [*_unknown_keys(ctx, selector)]
    if not notes and next(ctx.store.hosts.names(HostQuery(selector=selector)), None) is None:
        notes = [
            f"no host fits {selector}" + "".join(known_values(ctx, term) for term in selector.terms) + _either(selector)
        ]
    for note in notes:
        ctx.report(note)
    return bool(notes)


def known_values(ctx: Context, term: Term) -> str:
    """Return the values that hosts have for the key of a term, or a similar key if they have none, in words after ";".

    Empty if the term names no value, or one of them.
    """
    if term.operator not in (Operator.EQUAL, Operator.IN):
        return ""
    from bmhctl.stores.availability_queries import fitting, values_of

    if fitting(ctx.store, Selector((term,))):
        return ""
    known = values_of(ctx.store, term.key, _SHOWN + 1)
    if not known:
        near = _nearest_key(ctx, term.key)
        return f"; did you mean {near}?" if near else ""
    return f"; {term.key} is {', '.join(known[:_SHOWN])}" + (", …" if len(known) > _SHOWN else "")


def _either(selector: Selector) -> str:
    """Return the term that was probably meant by two values of one key, which no host can have, in words."""
    for key in dict.fromkeys(term.key for term in selector.terms):
        values = [term.values[0] for term in selector.terms if (term.key, term.operator) == (key, Operator.EQUAL)]
        if len({*values}) > 1:
            return f"; for either: -l '{Term(key, Operator.IN, (*dict.fromkeys(values),))}'"
    return ""


def refuse_misspelt_exclusion(ctx: Context, selector: Selector) -> None:
    """Raise :class:`UsageError` for a term such as ``rak!=r1`` if no host has its key but a similar key exists."""
    for term in selector.terms:
        if term.is_negative and not _is_known(ctx, term.key):
            near = _nearest_key(ctx, term.key)
            if near:
                meant = str(term).replace(term.key, near, 1)
                raise UsageError(
                    f"no host has the key {term.key}, so {term} excludes none: nothing was done",
                    hint=f"did you mean {meant}? If not, leave the term out",
                    details={"key": term.key, "near": near},
                )


def _is_known(ctx: Context, key: str) -> bool:
    present = Selector((Term(key, Operator.PRESENT, ()),))
    return next(ctx.store.hosts.names(HostQuery(selector=present)), None) is not None


def _nearest_key(ctx: Context, key: str) -> str | None:
    sample = ctx.store.hosts.find(HostQuery(limit=_SAMPLE))
    return nearest(key, sorted({known for host in sample for known in selectable(host.spec)}))


def _unknown_keys(ctx: Context, selector: Selector) -> Iterator[str]:
    for key, term in {term.key: term for term in selector.terms}.items():
        if _is_known(ctx, key):
            continue
        owner = next(iter(term.values), "NAME")
        state = next((value for value in term.values if value in [*State]), "STATE")
        options = {
            "owner": f"; bmhctl reservations --owner {owner} lists what it holds",
            "state": f"; states are chosen with --state {state}",
        }
        near = None if key in options else _nearest_key(ctx, key)
        yield f"no host has the key {key}" + options.get(key, f"; did you mean {near}?" if near else "")
