"""Explain a name that no host has: say that the host was renamed, or suggest another name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from bmhctl.errors import NotFoundError, nearest
from bmhctl.support.lazy_regex import pattern

if TYPE_CHECKING:
    from bmhctl.usecases.shared.context import Context

_NEAR = 500  # the names before and after a missing one, each, that are compared with it
_NOT_THERE = "there is no such host"
_SHOW_ALL = "bmhctl list shows all hosts"
_NO_HOSTS = "there are no hosts yet: bmhctl add HOST adds one, bmhctl import FILE many"
_LAST_NUMBER = pattern(r"[0-9]++(?=[^0-9]*+$)")
_PADDING = pattern(r"(?<![0-9])0++(?=[0-9])")


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
