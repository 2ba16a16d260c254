"""Change the declaration of hosts: in the TOML file and then in its state, or in the database."""

from __future__ import annotations

from collections.abc import Callable

from bmhctl.results import Outcome
from bmhctl.usecases.shared.context import Context
from bmhctl.usecases.shared.host_changes import Changes, apply
from bmhctl.usecases.shared.refresh import retried


def _no_check() -> None:
    """Accept every change."""


@retried
def change(ctx: Context, changes: Changes, check: Callable[[], None] = _no_check) -> list[Outcome]:
    """Make changes in the inventory, all or none; return an outcome for each.

    Raises the error of the first change that is refused, and before that what ``check`` raises. ``check`` is called
    where no other process can change a declaration any more.
    """
    if ctx.store.declaration is not None:
        from bmhctl.usecases.shared.declaration_sync import change_declaration

        return change_declaration(ctx, changes, check)
    with ctx.transaction():
        check()
        return apply(ctx, changes, ctx.clock())
