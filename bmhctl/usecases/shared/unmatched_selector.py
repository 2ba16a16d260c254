"""Explain why a selector fits no host: a key or value that no host has, or a key that has its own option."""

from __future__ import annotations

from collections.abc import Iterator

from bmhctl.domain.model import State
from bmhctl.domain.selector import Operator, Selector, Term, selectable
from bmhctl.errors import UsageError, nearest
from bmhctl.stores.host_query import HostQuery
from bmhctl.usecases.shared.context import Context

_SAMPLE = 1000  # the most hosts that are searched for a similar key
_SHOWN = 8  # the most values that are named


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
