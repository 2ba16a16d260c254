"""The policy of an inventory: kept as the text that a person wrote, beside its parsed form for quick reading."""

from __future__ import annotations

import re

from bmhctl.errors import InvalidError, UsageError
from bmhctl.policy import POLICY_KEYS, known, parse_policy
from bmhctl.results import Document, Done
from bmhctl.units import plural
from bmhctl.usecases.context import Context
from bmhctl.usecases.entry import begin, look


def show_policy(ctx: Context) -> Document:
    """The policy as TOML."""
    look(ctx)
    return Document(ctx.store.policy_text() or "# no policy: 4h leases, at most 3d, no checks, no cleanup\n")


def apply_policy(ctx: Context, text: str, name: str) -> Done:
    """Replaces the policy of a database by a text; ``name`` is its file's, for messages.

    A TOML inventory holds its policy itself: :class:`UsageError`. An invalid text is :class:`InvalidError`.
    """
    import tomllib

    begin(ctx)
    if ctx.store.declaration is not None:
        raise UsageError(
            f"{ctx.store.location} holds its policy itself", hint="edit [defaults], [checks] and [cleanup] there"
        )
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        said = re.sub(r" \(at line (\d+), column (\d+)\)$", "", str(error))
        at = re.search(r"at line (\d+), column (\d+)", str(error))
        raise InvalidError(f"{name}:{f'{at[1]}:{at[2]}:' if at else ''} {said}") from error
    try:
        known(document, POLICY_KEYS, "")
        policy = parse_policy(document)
    except InvalidError as error:
        raise InvalidError(f"{name}: {error.message}", hint=error.hint, details=error.details) from error
    with ctx.store.transaction():
        ctx.store.keep_policy(text)
    counts = f"{plural(len(policy.checks), 'check')}, {plural(len(policy.cleanup), 'cleanup step')}"
    return Done("policy apply", f"policy of {ctx.store.location}: {counts}", {"inventory": ctx.store.location})
