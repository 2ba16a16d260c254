"""The command ``doctor``."""

from __future__ import annotations

from typing import Annotated

import typer

from bmhctl.cli.options import Fields
from bmhctl.cli.session import show, target
from bmhctl.results.diagnosis import Diagnosis


def doctor(
    ctx: typer.Context,
    fix: Annotated[bool, typer.Option("--fix", help="Fix what can be fixed safely, after a backup.")] = False,
    fields: Fields = None,
) -> None:
    """Report what is wrong with the inventory, and what to do about it.

    It also examines an inventory that other commands can't open. --fix never marks a host as clean, and never
    writes an event; its backup is beside the inventory.
    """
    from bmhctl.usecases.doctor.doctor import doctor_at

    with target(ctx, Diagnosis, fields) as found:
        diagnosis = doctor_at(found.location, lambda store: found.session(store).context, fix=fix)
        show(diagnosis, found.display, found.line, found.fields)
