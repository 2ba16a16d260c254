"""``remind``: report once what ends or begins soon; for cron."""

from __future__ import annotations

import io
import shlex
import subprocess
from typing import Annotated

import typer

from bmhctl.cli.options import Fields
from bmhctl.cli.session import session
from bmhctl.domain.units import parse_duration
from bmhctl.errors import StepFailedError, UsageError
from bmhctl.output import Format, render
from bmhctl.results.queue import Reminders
from bmhctl.support.values import replace


def remind(
    ctx: typer.Context,
    before: Annotated[str, typer.Option(metavar="DURATION", help="How long before the end or the beginning.")] = "1h",
    command: Annotated[
        str | None,
        typer.Option("--exec", metavar="COMMAND", help="Pass the reminders to this command, one JSON object per line."),
    ] = None,
    fields: Fields = None,
) -> None:
    """Show once which leases and maintenances end soon, and which bookings begin; run it from cron."""
    from bmhctl.usecases.remind import remind as remind_of

    with session(ctx, Reminders, fields) as lab:

        def tell(found: Reminders) -> None:
            if command is None:
                lab.show(found)
                return
            if found.items:
                text = io.StringIO()
                render(found, replace(lab.display, stdout=text, format=Format.JSONL), lab.fields)
                _run(command, text.getvalue())

        remind_of(lab.context, parse_duration(before), tell)


def _run(command: str, lines: str) -> None:
    """Run the command of ``--exec`` without a shell; raise an error if it can't be run or fails."""
    try:
        words = shlex.split(command)
        done = subprocess.run(words, input=lines.encode(), check=False)
    except (ValueError, IndexError, OSError) as error:
        hint = "such as --exec './notify --to lab'; it runs without a shell"
        raise UsageError(f"can't run {command!r}: {error}", hint=hint) from error
    if done.returncode:
        raise StepFailedError(
            f"the command of --exec ended with status {done.returncode}", hint="the next remind reports the same again"
        )
