"""Sync a TOML file with its state file, and write declared changes to the TOML file.

An edit of ours is kept in the state file as an intent before the TOML file is replaced; replacing is the commit.
Whoever next looks at the file finds the intent by the file's hash and carries it out: a rename stays a rename, a
removal a removal, whoever was killed in between. A change by hand has no intent: a name that is gone is undeclared.
"""

from __future__ import annotations

import json
from contextlib import suppress
from datetime import datetime
from functools import partial
from pathlib import Path

from bmhctl.domain.model import Host, HostSpec, State
from bmhctl.errors import InvalidError, UnreachableError
from bmhctl.results import Outcome
from bmhctl.stores.host_query import HostQuery
from bmhctl.stores.rows import Row, host_to_rows, rows_to_host
from bmhctl.stores.toml.declaration import Declaration, parse_declaration, read_declaration
from bmhctl.stores.toml.file import DeclarationFile
from bmhctl.stores.toml.fingerprint import Fingerprint
from bmhctl.stores.toml.state_keys import FINGERPRINT as FINGERPRINT
from bmhctl.stores.toml.state_keys import INTENT
from bmhctl.stores.toml.state_keys import OWNER as OWNER
from bmhctl.support.values import replace
from bmhctl.usecases.shared.context import Context, retried
from bmhctl.usecases.shared.host_changes import (
    Changes,
    HostAddition,
    Removal,
    SpecChange,
    apply,
    refuse_taken,
    undeclare,
)
from bmhctl.usecases.shared.host_selection import one_host

_TRIES = 10


def sync_declaration(ctx: Context) -> None:
    """Applies what changed in the TOML file since it was last looked at, in one commit; else only stats it.

    Raises :class:`InvalidError` for a broken file, one that renames a host by hand, or a state file that belongs
    to another TOML file; then nothing was changed.
    """
    file = _file(ctx)
    _check_owner(ctx, file)
    known = _known(ctx)
    if known is not None and file.same(known):
        if not file.rests(known):
            _see_again(ctx, file, known)
        return
    for _ in range(_TRIES):
        declaration = read_declaration(file)
        file.check_state_path()
        with ctx.store.transaction():
            if not file.same(declaration.fingerprint):
                continue  # somebody wrote it while it was read: what was read is not what is declared
            is_new = ctx.store.get(OWNER) is None
            if _known(ctx) != declaration.fingerprint:
                _check_kinship(ctx, file, declaration)
                intent = _intent(ctx, declaration.fingerprint)
                if intent is None:
                    _check_torn(ctx, file, declaration)
                _reconcile(ctx, declaration, intent, ctx.clock())
                _remember(ctx, file, declaration)
        if is_new and declaration.hosts:
            made = f"made {file.state_path.name}: all hosts begin as initial"
            ctx.tell(f"{made} (was there one before? restore it first)")
        return
    raise UnreachableError(f"{file.path} keeps changing", hint="try again when whoever writes it is done")


def _see_again(ctx: Context, file: DeclarationFile, known: Fingerprint) -> None:
    """Notes how a file that was only touched looks now: from the next command on, a look at its times will do."""
    fresh = file.fingerprint()
    if fresh.settled and fresh.sha256 == known.sha256:
        with suppress(UnreachableError), ctx.store.transaction():  # who may only read it looks at it all again
            if _known(ctx) == known:
                ctx.store.put(FINGERPRINT, fresh.to_text())


def rehearse(ctx: Context) -> None:
    """Raises what :func:`sync_declaration` would, in the caller's transaction, and undoes all that it does."""
    file = _file(ctx)
    declaration = read_declaration(file)
    with suppress(_RehearsedError), ctx.store.savepoint():
        _check_kinship(ctx, file, declaration)
        intent = _intent(ctx, declaration.fingerprint)
        _reconcile(replace(ctx, tell=_nobody), declaration, intent, ctx.clock())
        raise _RehearsedError


def declared(ctx: Context) -> Declaration | None:
    """What the TOML file says, if that is what the state has taken over; None if it says something else by now.

    Raises as :func:`sync_declaration` does.
    """
    file = _file(ctx)
    _check_owner(ctx, file)
    declaration, known = read_declaration(file), _known(ctx)
    return declaration if known is not None and known.sha256 == declaration.fingerprint.sha256 else None


def forget(ctx: Context) -> None:
    """Has the next command compare the TOML file with the state anew, in the caller's transaction."""
    ctx.store.put(FINGERPRINT, None)


def left_intent(ctx: Context) -> str | None:
    """Who began an edit that was never made, None if nobody did. Under the lock on edits: one may be on its way."""
    text = ctx.store.get(INTENT)
    if text is None:
        return None
    try:
        kept = json.loads(text)
        sha256, actor = kept["sha256"], str(kept["actor"])
    except (ValueError, LookupError, TypeError):
        return "somebody"
    return None if sha256 == read_declaration(_file(ctx)).fingerprint.sha256 else actor


def drop_intent(ctx: Context) -> None:
    """Forgets what :func:`left_intent` found, in the caller's transaction and under the lock on edits."""
    ctx.store.put(INTENT, None)


def change_declaration(ctx: Context, changes: Changes) -> list[Outcome]:
    """Makes the changes in the TOML file, and then in the state; refusals come before the file is touched."""
    from bmhctl.stores.toml.atomic_replace import edit_file
    from bmhctl.stores.toml.editor import Add, Change, Remove, Rename, Replace, edited

    file = _file(ctx)
    renames = [Rename(old, new) for old, new in changes.renames]
    arrivals = [Add(newcomer.host.spec) for newcomer in changes.newcomers]
    outcomes: list[Outcome] = []

    def make(old: bytes) -> bytes:
        sync_declaration(
            ctx
        )  # under the lock on edits: what was edited before is in the state before this is worked out
        _check_taken(ctx, changes)
        specs = [Replace(each.edit(ctx, one_host(ctx, each.name).spec)) for each in changes.specs]
        declared = {spec.name for spec in parse_declaration(old, file.path.name).hosts}
        # An undeclared host stands no longer in the file: it only has to leave the state.
        gone = [Remove(removal.name) for removal in changes.removals if removal.name in declared]
        edits: list[Change] = [*renames, *specs, *arrivals, *gone]
        return edited(old, edits, file.path.name)

    def rehearse(new: bytes) -> None:
        declaration = parse_declaration(new, file.path.name, Fingerprint.of(new))
        with ctx.store.transaction():
            try:
                with ctx.store.savepoint():
                    outcomes[:] = _reconcile(replace(ctx, tell=_nobody), declaration, (ctx.actor, changes), ctx.clock())
                    raise _RehearsedError
            except _RehearsedError:
                ctx.store.put(INTENT, _write_intent(declaration.fingerprint, ctx.actor, changes))

    edit_file(file.path, make, rehearse)
    if not outcomes:  # the file needs no change: only undeclared hosts are concerned, or nothing is
        with ctx.store.transaction():
            return apply(ctx, changes, ctx.clock())
    try:
        sync_declaration(ctx)
    except UnreachableError as error:
        raise UnreachableError(
            f"{file.path.name} is changed, but what it says is not taken over yet: {error.message}",
            hint="the next command does that, once the state file can be written",
        ) from error
    return outcomes


def _check_taken(ctx: Context, changes: Changes) -> None:
    """Refuses a name that is taken in the words of every home, before the file's editor does in its own."""
    leaving = {old for old, _ in changes.renames} | {removal.name for removal in changes.removals}
    for old, new in changes.renames:
        if new not in leaving:
            refuse_taken(ctx, new, f"can't be renamed: there is a host {new} already", old)
    for newcomer in changes.newcomers:
        known = ctx.store.host(newcomer.host.name)
        if known is not None and not known.undeclared and known.name not in leaving:
            refuse_taken(ctx, known.name, "is in the inventory already", known.name)


def adopt(ctx: Context) -> None:
    """Makes the state file this TOML file's, whichever it belonged to."""
    with ctx.store.transaction():
        ctx.store.put(OWNER, _file(ctx).identity)
        ctx.store.put(FINGERPRINT, None)


class _RehearsedError(Exception):
    """Ends a rehearsal: what it did is undone."""


def _nobody(_: str) -> None:
    """Tells nobody: the same is told when it is done in earnest."""


def _reconcile(
    ctx: Context, declaration: Declaration, intent: tuple[str, Changes] | None, now: datetime
) -> list[Outcome]:
    """Makes the state agree with the declaration: the intent first, then what was changed by hand.

    Where there is an intent, the whole file is as its actor wrote it: what else differs is of the same edit.
    """
    outcomes: list[Outcome] = []
    if intent is not None:
        actor, changes = intent
        ctx = replace(ctx, actor=actor)
        outcomes = apply(ctx, changes, now)
    name = _file(ctx).path.name
    known = {spec.name: (spec, undeclared) for spec, undeclared in ctx.store.specs()}
    new: list[HostSpec] = []
    changed: list[HostSpec] = []
    for spec in declaration.hosts:
        before, was_undeclared = known.pop(spec.name, (None, False))
        if before is None:
            new.append(spec)
        elif was_undeclared or before != spec:
            changed.append(spec)
    by_hand = Changes(
        specs=tuple(SpecChange(spec.name, partial(_as_declared, spec)) for spec in changed),
        newcomers=tuple(HostAddition(Host(spec, State.INITIAL, now), f"declared in {name}") for spec in new),
    )
    apply(ctx, by_hand, now)
    for left, (_, was_undeclared) in sorted(known.items()):
        if not was_undeclared:
            undeclare(ctx, one_host(ctx, left), now, f"no longer in {name}")
    return outcomes


def _as_declared(spec: HostSpec, _: Context, __: HostSpec) -> HostSpec:
    return spec


def _remember(ctx: Context, file: DeclarationFile, declaration: Declaration) -> None:
    ctx.store.keep_policy(declaration.policy_text)
    ctx.store.put(FINGERPRINT, declaration.fingerprint.to_text())
    ctx.store.put(OWNER, file.identity)
    ctx.store.put(INTENT, None)


def _file(ctx: Context) -> DeclarationFile:
    if ctx.store.declaration is None:
        raise AssertionError("only a TOML inventory has a declaration")
    return ctx.store.declaration


def _known(ctx: Context) -> Fingerprint | None:
    text = ctx.store.get(FINGERPRINT)
    return None if text is None else Fingerprint.from_text(text)


def _check_owner(ctx: Context, file: DeclarationFile) -> None:
    owner = ctx.store.get(OWNER)
    # A file that was moved with its state file is still its owner; a copy beside the original is not.
    if owner is None or owner == file.identity:
        return
    if Path(owner).exists() and not Path(owner).samefile(file.path):
        raise _foreign(file, owner)


def _check_torn(ctx: Context, file: DeclarationFile, declaration: Declaration) -> None:
    # A person who declares nothing any more leaves a line or a comment; no byte at all is a save that went wrong.
    if declaration.fingerprint.size == 0 and ctx.store.count(HostQuery(declared=True)):
        raise InvalidError(
            f"{file.path} is empty: was it cut off while it was saved? What it declared is kept",
            hint="save it again; if no host shall be declared any more, say so in a comment",
            details={"file": str(file.path)},
        )


def _check_kinship(ctx: Context, file: DeclarationFile, declaration: Declaration) -> None:
    owner = ctx.store.get(OWNER)
    if owner is None or owner == file.identity:
        return
    hosts = list(ctx.store.hosts(HostQuery()))
    names = {host.name for host in hosts} & {spec.name for spec in declaration.hosts}
    if hosts and declaration.hosts and not names:
        raise _foreign(file, owner)


def _foreign(file: DeclarationFile, owner: str) -> InvalidError:
    return InvalidError(
        f"{file.state_path} belongs to {owner}, not to {file.path}",
        hint=f"move it away to start afresh, or take it over: bmhctl -i {file.path} init --adopt",
        details={"state_file": str(file.state_path), "owner": owner},
    )


# intents as text


def _write_intent(fingerprint: Fingerprint, actor: str, changes: Changes) -> str:
    return json.dumps(
        {
            "sha256": fingerprint.sha256,
            "actor": actor,
            "renames": changes.renames,
            "removals": [[r.name, r.reason, r.force] for r in changes.removals],
            "newcomers": [(*host_to_rows(n.host), n.reason) for n in changes.newcomers],
            "reason": changes.reason,
            "imported": changes.imported,
        }
    )


def _intent(ctx: Context, fingerprint: Fingerprint) -> tuple[str, Changes] | None:
    text = ctx.store.get(INTENT)
    kept = json.loads(text) if text else None
    if kept is None or kept["sha256"] != fingerprint.sha256:
        return None
    newcomers: list[tuple[Row, Row | None, str | None]] = kept["newcomers"]
    return str(kept["actor"]), Changes(
        renames=tuple((old, new) for old, new in kept["renames"]),
        removals=tuple(Removal(*removal) for removal in kept["removals"]),
        newcomers=tuple(HostAddition(rows_to_host(host, held), reason) for host, held, reason in newcomers),
        reason=kept["reason"],
        imported=kept.get("imported", {}),
    )


@retried
def change(ctx: Context, changes: Changes) -> list[Outcome]:
    """Makes changes in the inventory's home, all or none."""
    if ctx.store.declaration is not None:
        from bmhctl.usecases.shared.declaration_sync import change_declaration

        return change_declaration(ctx, changes)
    with ctx.store.transaction():
        return apply(ctx, changes, ctx.clock())
