"""Sync a TOML file with its state file, and write changes of the declaration to the TOML file.

bmhctl saves an edit in the state file as an intent before it replaces the TOML file. Replacing the file is the commit.
If the command is then killed, the next command finds the intent by the file's hash and completes it: so a rename stays
a rename, and a removal a removal. A change by hand has no intent: a missing name becomes undeclared.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from bmhctl.domain.model import Host, HostSpec, State
from bmhctl.errors import InvalidError, StateRefusedError, UnreachableError
from bmhctl.results import Outcome, failed
from bmhctl.stores.database import UNRECORDED
from bmhctl.stores.declared_hosts import host_of, host_values
from bmhctl.stores.host_query import HostQuery
from bmhctl.stores.meta import FINGERPRINT, INTENT, OWNER
from bmhctl.stores.toml.declaration import Declaration, parse_declaration, read_declaration
from bmhctl.stores.toml.file import DeclarationFile, Fingerprint
from bmhctl.support.values import replace
from bmhctl.usecases.shared.context import Context, undone
from bmhctl.usecases.shared.host_changes import (
    Changes,
    HostAddition,
    Removal,
    SpecChange,
    apply,
    check_removal,
    refuse_taken,
    replace_policy,
    undeclare,
)

_TRIES = 10


def sync_declaration(ctx: Context) -> None:
    """Apply to the state what changed in the TOML file since the last sync, in one commit.

    An unchanged file costs one ``stat``. The state of a retired inventory is not synced any more. Raises
    :class:`InvalidError` for a broken file, for a host that was renamed by hand, and for a state file of another TOML
    file, and :class:`UnreachableError` for a file that keeps changing; then nothing was changed.
    """
    file = _file(ctx)
    _check_owner(ctx, file)
    if ctx.store.meta.successor() is not None:
        return
    known = _known(ctx)
    if known is not None and file.same(known):
        if not file.is_untouched(known):
            _save_fingerprint(ctx, file, known)
        return
    for _ in range(_TRIES):
        declaration = read_declaration(file)
        file.check_state_path()
        with ctx.store.transaction():
            if not file.same(declaration.fingerprint):
                continue  # the file was written again meanwhile
            is_new = ctx.store.meta.get(OWNER) is None and not any(ctx.store.hosts.counts().values())
            if _known(ctx) != declaration.fingerprint:
                _check_same_hosts(ctx, file, declaration)
                intent = _intent(ctx, declaration)
                if intent is None:
                    _check_not_cut_off(ctx, file, declaration)
                _reconcile(ctx, declaration, intent)
                replace_policy(ctx, declaration.policy_text)
                ctx.store.meta.put(FINGERPRINT, declaration.fingerprint.to_text())
                ctx.store.meta.put(OWNER, file.identity)
                ctx.store.meta.put(INTENT, None)
        if is_new and declaration.hosts:
            made = f"made {file.state_path.name}: all hosts are initial"
            ctx.report(f"{made} (if this file existed before, restore it)")
        return
    raise UnreachableError(f"{file.path} keeps changing", hint="try again when the program that writes it has finished")


def _save_fingerprint(ctx: Context, file: DeclarationFile, known: Fingerprint) -> None:
    """Save the fingerprint of a file that was only touched, so that the next command only needs a ``stat``."""
    _, fresh = file.load()
    if fresh.settled and fresh.sha256 == known.sha256:
        with suppress(UnreachableError), ctx.store.transaction():  # a user who may not write keeps the old fingerprint
            if _known(ctx) == known:
                ctx.store.meta.put(FINGERPRINT, fresh.to_text())


def rehearse(ctx: Context) -> None:
    """Raise the errors of :func:`sync_declaration`, in the caller's transaction, and undo everything."""
    file = _file(ctx)
    declaration = read_declaration(file)
    with undone(ctx.store.savepoint()):
        _check_same_hosts(ctx, file, declaration)
        silent = _silent(ctx)
        _reconcile(silent, declaration, _intent(silent, declaration))


def declared(ctx: Context) -> Declaration | None:
    """Return the declaration in the TOML file if the state is synced with it; raise as :func:`sync_declaration`."""
    file = _file(ctx)
    _check_owner(ctx, file)
    declaration, known = read_declaration(file), _known(ctx)
    return declaration if known is not None and known.sha256 == declaration.fingerprint.sha256 else None


def forget(ctx: Context) -> None:
    """Make the next command sync the TOML file again; in the caller's transaction."""
    ctx.store.meta.put(FINGERPRINT, None)


def left_intent(ctx: Context) -> str | None:
    """Return the actor of an interrupted edit; None if there is none.

    The caller must hold the lock on edits: otherwise an edit may be in progress.
    """
    text = ctx.store.meta.get(INTENT)
    if text is None:
        return None
    try:
        kept = json.loads(text)
        sha256, actor = kept["sha256"], str(kept["actor"])
    except (ValueError, LookupError, TypeError):  # not as it was written
        sha256, actor = None, "an unknown actor"
    return None if sha256 == read_declaration(_file(ctx)).fingerprint.sha256 else actor


def change_declaration(ctx: Context, changes: Changes, check: Callable[[], None]) -> list[Outcome]:
    """Make changes in the TOML file, then in the state; return an outcome for each.

    If a change is refused, or ``check`` raises an error, that error is raised before the file is touched. Raises
    :class:`UnreachableError` if the file was changed but the state can't be written; then the next command syncs it.
    """
    from bmhctl.stores.toml.atomic_replace import edit_file
    from bmhctl.stores.toml.editor import Change, edited

    file = _file(ctx)
    renames = [Change.rename(old, new) for old, new in changes.renames]
    arrivals = [Change.add(newcomer.host.spec) for newcomer in changes.newcomers]
    outcomes: list[Outcome] = []

    def make(old: bytes) -> bytes:
        sync_declaration(ctx)  # under the lock on edits, so that earlier edits are synced first
        check()
        _check_taken(ctx, changes)
        specs = [
            Change.replace(replace(each.edit(ctx, ctx.host(each.name).spec), observed={})) for each in changes.specs
        ]
        declared = {spec.name for spec in parse_declaration(old, file.path.name).hosts}
        # An undeclared host is not in the file, so it is removed only from the state.
        gone = [Change.remove(removal.name) for removal in changes.removals if removal.name in declared]
        edits: list[Change] = [*renames, *specs, *arrivals, *gone]
        return edited(old, edits, file.path.name)

    if ctx.dry_run:
        return _planned(ctx, changes, make)

    def rehearse(new: bytes) -> None:
        declaration = parse_declaration(new, file.path.name)
        with ctx.store.transaction():
            with undone(ctx.store.savepoint()):
                outcomes[:] = _reconcile(_silent(ctx), declaration, (ctx.actor, changes))
            ctx.store.meta.put(INTENT, _write_intent(declaration.fingerprint.sha256, ctx.actor, changes))

    edit_file(file.path, make, rehearse)
    if not outcomes:  # nothing changes in the file, because the changes concern only undeclared hosts
        with ctx.transaction():
            return apply(ctx, changes, ctx.clock())
    ctx.store.database.unreported.append(UNRECORDED)  # even if the state is not synced before an interruption
    try:
        sync_declaration(ctx)
    except UnreachableError as error:
        raise UnreachableError(
            f"{file.path.name} is changed, but the state is not synced with it yet: {error.message}",
            hint="the next command syncs it, once the state file can be written",
        ) from error
    return _made(ctx, changes, outcomes)


def _planned(ctx: Context, changes: Changes, make: Callable[[bytes], bytes]) -> list[Outcome]:
    """Return the outcomes of the changes, and change nothing; ``make`` returns the new content of the TOML file."""
    file = _file(ctx)
    old = file.text()
    new = make(old)
    with ctx.transaction():
        if new == old:
            return apply(ctx, changes, ctx.clock())
        declaration = parse_declaration(new, file.path.name)
        return _reconcile(ctx, declaration, (ctx.actor, changes))


def _check_taken(ctx: Context, changes: Changes) -> None:
    """Raise the usual error for a name that is taken, before the editor of the file raises another one."""
    leaving = {old for old, _ in changes.renames} | {removal.name for removal in changes.removals}
    for old, new in changes.renames:
        if new not in leaving:
            refuse_taken(ctx, new, f"can't be renamed: there is a host {new} already", old)
    for newcomer in changes.newcomers:
        known = ctx.store.hosts.named(newcomer.host.name)
        if known is not None and not known.undeclared and known.name not in leaving:
            refuse_taken(ctx, known.name, "is in the inventory already", known.name)


def _silent(ctx: Context) -> Context:
    """Return the context of a rehearsal: its notices are reported when the change is made."""
    return replace(ctx, report=lambda _: None)


def _reconcile(ctx: Context, declaration: Declaration, intent: tuple[str, Changes] | None) -> list[Outcome]:
    """Make the state agree with the declaration: apply the intent first, then the changes by hand.

    With an intent, the whole file was written by its actor, so the other differences belong to the same edit. Returns
    the outcomes of the intent's changes.
    """
    now, outcomes = ctx.clock(), list[Outcome]()
    others = Changes(by_hand=True)
    if intent is not None:
        actor, changes = intent
        ctx = replace(ctx, actor=actor)
        outcomes = apply(ctx, replace(changes, imported={}), now)
        others = Changes(reason=changes.reason, command=changes.command, imported=changes.imported)
    name = _file(ctx).path.name
    known = {spec.name: (spec, undeclared) for spec, undeclared in ctx.store.declared.specs()}
    new: list[HostSpec] = []
    changed: list[HostSpec] = []
    for spec in declaration.hosts:
        before, was_undeclared = known.pop(spec.name, (None, False))
        if before is None:
            new.append(spec)
        elif was_undeclared or before != spec:
            changed.append(spec)
    specs = tuple(SpecChange.to(spec.name, spec) for spec in changed)
    newcomers = tuple(HostAddition(Host(spec, State.INITIAL, now), f"declared in {name}") for spec in new)
    apply(ctx, replace(others, specs=specs, newcomers=newcomers), now)
    for left, (_, was_undeclared) in sorted(known.items()):
        if not was_undeclared:
            undeclare(ctx, ctx.host(left), now, f"no longer in {name}")
    return outcomes


def _intent(ctx: Context, declaration: Declaration) -> tuple[str, Changes] | None:
    """Return the actor and the changes of the edit that led to the present TOML file; None for an edit by hand.

    A host may have been reserved since the edit was rehearsed. The file has changed already, so the removal of such a
    host can't be refused any more; it is left out instead, and the host becomes undeclared.
    """
    intent = _read_intent(ctx.store.meta.get(INTENT), declaration.fingerprint.sha256)
    if intent is None or not intent[1].removals:
        return intent
    actor, changes = intent
    there = ctx.store.hosts.with_names(removal.name for removal in changes.removals)
    possible = []
    for removal in changes.removals:
        if removal.name not in there:  # it was undeclared, and another command removed it from the state
            continue
        try:
            check_removal(there[removal.name], removal)
            possible.append(removal)
        except StateRefusedError as error:
            ctx.report(f"{removal.name}: {error.message}; it is no longer declared")
    return actor, replace(changes, removals=tuple(possible))


def _write_intent(sha256: str, actor: str, changes: Changes) -> str:
    """Return the text of an intent to make changes; ``sha256`` is the hash of the TOML file after the changes."""
    return json.dumps(
        {
            "sha256": sha256,
            "actor": actor,
            "renames": changes.renames,
            "removals": [[r.name, r.reason, r.force, r.retires, r.last_event] for r in changes.removals],
            "newcomers": [(*host_values(n.host), n.reason) for n in changes.newcomers],
            "reason": changes.reason,
            "imported": changes.imported,
            "command": changes.command,
        }
    )


def _read_intent(text: str | None, sha256: str) -> tuple[str, Changes] | None:
    """Return the actor and the changes of an intent; None if its hash is not that of the TOML file."""
    kept = json.loads(text) if text else None
    if kept is None or kept["sha256"] != sha256:
        return None
    return str(kept["actor"]), Changes(
        renames=tuple((old, new) for old, new in kept["renames"]),
        removals=tuple(Removal(*removal) for removal in kept["removals"]),
        newcomers=tuple(HostAddition(host_of((host, held)), reason) for host, held, reason in kept["newcomers"]),
        reason=kept["reason"],
        imported=kept.get("imported", {}),
        command=kept.get("command"),
    )


def _made(ctx: Context, changes: Changes, outcomes: Sequence[Outcome]) -> list[Outcome]:
    """Return the outcomes after the sync, with an error for each host that could not be removed any more."""
    there = ctx.store.hosts.with_names(removal.name for removal in changes.removals) if changes.removals else {}
    made = []
    for outcome in outcomes:
        host = there.get(outcome.host) if outcome.state is None else None
        if host is not None and host.undeclared:
            error = StateRefusedError(
                f"was not removed, because it became {host.state} meanwhile: it is no longer declared",
                host=host.name,
                hint=f"remove it when it is given back and reset: bmhctl remove {host.name}",
            )
            outcome = failed(error, host)
        made.append(outcome)
    return made


def _file(ctx: Context) -> DeclarationFile:
    if ctx.store.declaration is None:
        raise AssertionError("only a TOML inventory has a declaration")
    return ctx.store.declaration


def _known(ctx: Context) -> Fingerprint | None:
    return Fingerprint.from_text(ctx.store.meta.get(FINGERPRINT) or "")


def _check_owner(ctx: Context, file: DeclarationFile) -> None:
    owner = ctx.store.meta.get(OWNER)
    # A TOML file that was moved with its state file still owns it; a copy beside the original does not.
    if owner is None or owner == file.identity:
        return
    if Path(owner).exists() and not Path(owner).samefile(file.path):
        raise _foreign_state_error(file, owner)


def _check_not_cut_off(ctx: Context, file: DeclarationFile, declaration: Declaration) -> None:
    # A file without hosts still has a line or a comment; an empty file means that a save failed.
    if declaration.fingerprint.size == 0 and ctx.store.hosts.count(HostQuery(declared=True)):
        raise InvalidError(
            f"{file.path} is empty: was it cut off while it was saved? What it declared is kept",
            hint="save it again; to declare no host at all, leave a comment in it",
            details={"file": str(file.path)},
        )


def _check_same_hosts(ctx: Context, file: DeclarationFile, declaration: Declaration) -> None:
    owner = ctx.store.meta.get(OWNER)
    if owner is None or owner == file.identity:
        return
    hosts = list(ctx.store.hosts.find())
    names = {host.name for host in hosts} & {spec.name for spec in declaration.hosts}
    if hosts and declaration.hosts and not names:
        raise _foreign_state_error(file, owner)


def _foreign_state_error(file: DeclarationFile, owner: str) -> InvalidError:
    return InvalidError(
        f"{file.state_path} belongs to {owner}, not to {file.path}",
        hint=f"move it away to start with all hosts initial, or adopt it: bmhctl -i {file.path} init --adopt",
        details={"state_file": str(file.state_path), "owner": owner},
    )
