"""An open inventory: what the groups of methods share."""

from __future__ import annotations

from inspect import isfunction

from bmhctl.api.arguments import checked
from bmhctl.results import Outcomes
from bmhctl.support.values import replace
from bmhctl.usecases.shared.context import Context


class Opened:
    """An open inventory, with an actor and a clock; the public methods of its parts check their arguments."""

    def __init_subclass__(cls) -> None:
        is_part = cls.__module__.startswith("bmhctl.api.")  # a user's subclass has methods with types of its own
        for name, member in [*vars(cls).items()] if is_part else ():
            if isfunction(member) and not name.startswith("_"):
                setattr(cls, name, checked(member))

    def __init__(self, context: Context) -> None:
        self._context = context

    def _with(self, dry_run: bool) -> Context:
        return replace(self._context, dry_run=dry_run) if dry_run else self._context


def done(outcomes: Outcomes) -> Outcomes:
    """Return the outcomes; raise the error that stands for all failures if a host failed."""
    if outcomes.error is not None:
        raise outcomes.error
    return outcomes
