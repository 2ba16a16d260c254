"""``policy show``, ``policy check``, ``policy apply``, ``policy grants`` and ``schema``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from bmhctl.cli.session import Selected, invocation_of, session
from bmhctl.errors import UsageError
from bmhctl.output import render
from bmhctl.results import Done, Plan
from bmhctl.results.texts import Document, Script
from bmhctl.usecases.policy import apply_policy, check_policy, role_grants, show_policy


def policy_show(ctx: typer.Context) -> None:
    """Show the policy as TOML: defaults of leases, readiness checks, cleanup steps."""
    with session(ctx, Document) as lab:
        lab.show(show_policy(lab.context))


def policy_check(
    ctx: typer.Context,
    hosts: Selected,
    file: Annotated[str | None, typer.Option(metavar="FILE|-", help="Check this policy, not the inventory's.")] = None,
) -> None:
    """Validate the policy, and show for each host which steps apply to it."""
    text = None if file is None else _read(file)
    with session(ctx, Plan) as lab:
        lab.show(check_policy(lab.context, hosts, text, file or ""))


def policy_apply(
    ctx: typer.Context,
    file: Annotated[str, typer.Argument(metavar="FILE|-", help="A TOML file with [defaults], [checks], [cleanup].")],
) -> None:
    """Replace the policy of a database; the policy of a TOML inventory is in the TOML file."""
    text = _read(file)
    with session(ctx, Done) as lab:
        lab.show(apply_policy(lab.context, text, file))


def policy_grants(
    ctx: typer.Context,
    prefix: Annotated[
        str | None, typer.Option(metavar="NAME", help="The beginning of the roles' names.  [default: the schema]")
    ] = None,
) -> None:
    """Print the SQL for three roles on a PostgreSQL server: a viewer, a runner, an operator.

    The owner of the inventory runs it, also after each update of bmhctl: bmhctl policy grants | psql URL. A viewer
    sees all and changes nothing. A runner also reserves hosts, gives them back, runs their steps and cordons them. An
    operator also adds, changes and removes hosts, and replaces the policy.
    """
    with session(ctx, Script) as lab:
        lab.show(role_grants(lab.context, prefix))


def _read(file: str) -> str:
    from bmhctl.formats.import_batch import MAX_BYTES, decode, read_file

    try:
        content = sys.stdin.buffer.read(MAX_BYTES + 1) if file == "-" else read_file(Path(file))
    except OSError as error:
        raise UsageError(f"can't read {file}: {error.strerror}") from error
    return decode(content, file).replace("\r\n", "\n")


def schema(ctx: typer.Context) -> None:
    """Print the JSON Schema of a TOML inventory; it also describes a policy.

    Editors with taplo or tombi check a file against it if the file's first line is #:schema bmh.schema.json
    """
    import json

    from bmhctl.formats.schema import inventory_schema

    render(Document(json.dumps(inventory_schema(), indent=2) + "\n"), invocation_of(ctx).display())
