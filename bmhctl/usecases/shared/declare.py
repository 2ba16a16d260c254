"""Change the declaration of hosts: in the TOML file and then in its state, or in the database."""

from __future__ import annotations

from collections.abc import Callable

from bmhctl.errors import BmhctlError, InvalidError, UnreachableError
from bmhctl.results import Outcome, failed
from bmhctl.support.values import replace
from bmhctl.usecases.shared.context import Context
from bmhctl.usecases.shared.host_changes import Changes, apply
from bmhctl.usecases.shared.refresh import retried


@retried
def change(ctx: Context, changes: Changes, check: Callable[[], None] = lambda: None) -> list[Outcome]:
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


def change_each(ctx: Context, changes: Changes) -> list[Outcome]:
    """Make removals and changes of declarations together, but each host independently; return an outcome for each.

    A TOML file is edited once for all hosts. A host whose change is refused is left out, and the error is its outcome.
    """
    refused: list[Outcome] = []
    while changes.removals or changes.specs:
        try:
            return [*change(ctx, changes), *refused]
        except (UnreachableError, InvalidError):
            raise  # the inventory itself failed, not a host
        except BmhctlError as error:
            removals = tuple(each for each in changes.removals if each.name != error.host)
            specs = tuple(each for each in changes.specs if each.name != error.host)
            if (removals, specs) == (changes.removals, changes.specs):
                raise
            changes = replace(changes, removals=removals, specs=specs)
            refused.append(failed(error))
    return refused
