"""Show, check and replace the policy, which is stored as text and in parsed form; print roles."""

from __future__ import annotations

import os
from collections.abc import Iterator
from shlex import quote

from bmhctl.domain.model import HostSpec, Phase
from bmhctl.domain.policy import PHASES, Policy
from bmhctl.domain.policy_parser import POLICY_KEYS, WITHIN, parse_policy
from bmhctl.domain.tables import check_keys
from bmhctl.domain.units import plural
from bmhctl.errors import InvalidError, UsageError
from bmhctl.results import Done, Plan, already, failed
from bmhctl.results.texts import Document, Script
from bmhctl.stores.locations import is_on_server
from bmhctl.support.programs import is_there, why_missing
from bmhctl.support.toml_text import load
from bmhctl.usecases.shared.context import Context
from bmhctl.usecases.shared.host_changes import save_policy
from bmhctl.usecases.shared.host_selection import Choice, choose
from bmhctl.usecases.shared.refresh import refresh, refresh_and_reap, retried


def show_policy(ctx: Context) -> Document:
    """Return the policy as TOML."""
    refresh(ctx)
    return Document(ctx.store.meta.policy_text() or "# no policy: 4h leases, at most 3d, no checks, no cleanup\n")


def check_policy(ctx: Context, choice: Choice, text: str | None, name: str) -> Plan:
    """Return which steps apply to which host, under the inventory's policy or under the one in ``text``.

    ``name`` is the file name of ``text`` in messages. Raises :class:`InvalidError` for a text that is not a policy.
    """
    refresh(ctx)
    policy = ctx.store.policy() if text is None else _parsed(text, name)
    hosts, missing = choose(ctx, choice if choice.names or choice.selector else Choice(everything=True))
    items = [already(h, _applying(policy, h.spec)) for h in hosts]
    notes = (_counts(policy), *_limits(ctx, policy), *_not_there(ctx, policy))
    return Plan("policy check", (*items, *(failed(error) for error in missing)), notes)


@retried
def apply_policy(ctx: Context, text: str, name: str) -> Done:
    """Replace the policy of a database with ``text``; ``name`` is the name of its file in messages.

    Raises :class:`UsageError` for a TOML inventory, and :class:`InvalidError` for a text that is not a policy.
    """
    refresh_and_reap(ctx)
    if ctx.store.declaration is not None:
        raise UsageError(
            f"{ctx.store.location} contains its policy",
            hint="edit its tables there: [defaults], [checks.NAME], [cleanup.NAME] and the others",
        )
    policy = _parsed(text, name)
    with ctx.transaction():
        save_policy(ctx, text, ctx.clock())
    words = f"policy of {ctx.store.location}: {_counts(policy)}"
    notes = (*_limits(ctx, policy), *_not_there(ctx, policy))
    return Done("policy apply", words, {"inventory": ctx.store.location}, notes)


def role_grants(ctx: Context, prefix: str | None) -> Script:
    """Return the SQL that creates the roles for the users of an inventory on a server, and grants their rights.

    The names of the roles begin with ``prefix`` (None: the name of the schema). Raises :class:`UsageError` for an
    inventory in a file, and for a prefix that can't begin the name of a role.
    """
    if not is_on_server(ctx.store.address):
        raise UsageError(
            f"{ctx.store.location} is a file: its permissions decide who may use it",
            hint="init --group NAME makes an inventory that a group shares; chgrp and chmod share an old one",
        )
    from bmhctl.stores.postgres import roles
    from bmhctl.stores.postgres.url import Address

    schema = Address.parse(ctx.store.address).schema
    return Script(roles.sql(schema, schema if prefix is None else prefix))


def _parsed(text: str, name: str) -> Policy:
    document = load(text, name)
    if "hosts" in document:
        raise InvalidError(
            f"{name} declares hosts: it is an inventory, not a policy",
            hint=f"take only its policy: bmhctl -i {quote(name)} policy show >policy.toml",
            details={"key": "hosts"},
        )
    try:
        check_keys(document, POLICY_KEYS, "", WITHIN)
        return parse_policy(document)
    except InvalidError as error:
        raise InvalidError(f"{name}: {error.message}", hint=error.hint, details=error.details) from error


def _applying(policy: Policy, spec: HostSpec) -> str:
    words = []
    for phase in _mentioned(policy):
        names = ", ".join(step.name for step in policy.applying(phase, spec))
        words.append(f"{phase}: {names or 'none'}")
    if policy.limits:
        words.append(f"limits: {', '.join(limit.name for limit in policy.limits if limit.counts(spec)) or 'none'}")
    return "; ".join(words)


def _not_there(ctx: Context, policy: Policy) -> Iterator[str]:
    """Yield a note for each step whose program does not exist on this machine; other machines may still run it."""
    path = ctx.environ.get("PATH", os.defpath)
    for step in policy.of(*Phase):
        program = step.command[0] if step.command else ""
        if program and "{" not in program and not is_there(program, ctx.store.folder, path):
            why = why_missing(program, ctx.store.folder)
            noun = PHASES[step.phase].short_noun
            yield f"{noun} {step.name}: there is no program {program} here that can be run{why}"


def _counts(policy: Policy) -> str:
    words = [plural(len(policy.of(phase)), PHASES[phase].short_noun) for phase in _mentioned(policy)]
    return ", ".join([*words, plural(len(policy.limits), "limit")] if policy.limits else words)


def _limits(ctx: Context, policy: Policy) -> Iterator[str]:
    """Yield in words what each limit allows, and for which owners."""
    for limit in policy.limits:
        whom = "each role" if limit.is_by_role else f"each owner {limit.owner}" if limit.owner != "*" else "each owner"
        yield f"limit {limit.name}: {limit.allows} for {whom}"
        if limit.is_by_role and ctx.store.database.role is None:
            yield f"limit {limit.name}: a file has no roles, so it counts by the owner's name here"


def _mentioned(policy: Policy) -> Iterator[Phase]:
    """Yield the phases that a summary names: those with steps, and the two that every inventory should have."""
    return (phase for phase in Phase if policy.of(phase) or phase in (Phase.CHECKS, Phase.CLEANUP))
