"""Explain a name that no host has: it was renamed, or which one was probably meant."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from bmhctl.errors import NotFoundError, nearest
from bmhctl.support.lazy_regex import pattern

if TYPE_CHECKING:
    from bmhctl.usecases.shared.context import Context

_NEAR = 500  # how many names before and after a missing one are compared with it
_PADDING = pattern(r"(?<![0-9])0++(?=[0-9])")


def not_found(ctx: Context, name: str, *, look_around: bool = True) -> NotFoundError:
    """Return the error for a name that no host has; with ``look_around`` it suggests the nearest name of a host."""
    if "*" in name or "?" in name or "[" in name:
        return NotFoundError(
            "is not a host name", host=name, hint="this command takes one exact name; bmhctl list shows all"
        )
    if look_around and next(ctx.store.events.read(name, last=1), None) is not None:
        return NotFoundError(
            "was removed, or has another name now", host=name, hint=f"bmhctl history {name} shows what became of it"
        )
    near = _nearest(name, ctx.store.hosts.names_near(name, _NEAR)) if look_around else None
    hint = f"did you mean {near}?" if near else "bmhctl list shows all hosts"
    return NotFoundError("there is no such host", host=name, hint=hint)


def _nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name with the same numbers without leading zeros, else the most similar one."""
    known = [*known]
    unpadded = _PADDING.sub("", name)
    return next((each for each in known if _PADDING.sub("", each) == unpadded), None) or nearest(name, known)
