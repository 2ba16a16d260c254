"""An open inventory: what the groups of methods share."""

from __future__ import annotations

import os
from inspect import isfunction
from threading import get_ident

from bmhctl.api.arguments import checked
from bmhctl.errors import UsageError
from bmhctl.results import Outcomes
from bmhctl.support.values import replace
from bmhctl.usecases.shared.context import Context


class Opened:
    """An open inventory, with an actor and a clock; the public methods of its parts check their arguments.

    Only the thread that opened it may use it. A fork of its process has the same connection to the database: it could
    read the answers of the other process, close that connection, or change a file without the locks.
    """

    def __init_subclass__(cls) -> None:
        is_part = cls.__module__.startswith("bmhctl.api.")  # a user's subclass has methods with types of its own
        for name, member in [*vars(cls).items()] if is_part else ():
            if isfunction(member) and not name.startswith("_"):
                setattr(cls, name, checked(member))

    def __init__(self, context: Context) -> None:
        self._opened = context
        self._process = os.getpid()
        self._thread = get_ident()
        self._is_closed = False

    @property
    def _context(self) -> Context:
        """The context; raise :class:`UsageError` if this thread must not use the inventory, or after its end."""
        if self._is_closed:
            raise UsageError("this inventory object is closed", hint="open the inventory again: open_inventory(…)")
        if self._is_in_fork():
            raise _elsewhere("process", self._process)
        if self._thread != get_ident():
            raise _elsewhere("thread", self._thread)
        return self._opened

    def _is_in_fork(self) -> bool:
        return self._process != os.getpid()

    def _with(self, dry_run: bool) -> Context:
        return replace(self._context, dry_run=dry_run) if dry_run else self._context


def done(outcomes: Outcomes) -> Outcomes:
    """Return the outcomes; raise the error that stands for all failures if a host failed."""
    if outcomes.error is not None:
        raise outcomes.error
    return outcomes


def _elsewhere(kind: str, where: int) -> UsageError:
    return UsageError(
        f"this inventory object was opened in another {kind} ({where})",
        hint=f"open the inventory again in this {kind}: open_inventory(…)",
    )
