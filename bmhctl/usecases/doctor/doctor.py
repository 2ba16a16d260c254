"""Find problems in an inventory, even in one that no other command can open, and fix those that can be fixed safely."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from itertools import count
from pathlib import Path

from bmhctl.errors import InvalidError, StateRefusedError, UnreachableError
from bmhctl.results.diagnosis import Diagnosis, Finding
from bmhctl.stores import open_store
from bmhctl.stores.locations import is_on_server, resolve
from bmhctl.stores.sqlite.files import log_of
from bmhctl.stores.state_files import state_file
from bmhctl.stores.store import Store
from bmhctl.stores.toml.declaration import read_declaration
from bmhctl.stores.toml.file import DeclarationFile
from bmhctl.support.values import replace
from bmhctl.usecases.copies import backup, declaration_locked
from bmhctl.usecases.doctor import files as inventory_files
from bmhctl.usecases.doctor.examine import Examination, examine, ordered, refused
from bmhctl.usecases.doctor.question import Repair
from bmhctl.usecases.shared import declaration_sync
from bmhctl.usecases.shared.context import Context, utc_now

_ROUNDS = 5  # one repair may reveal another problem


def doctor_at(location: str, context: Callable[[Store], Context], *, fix: bool = False) -> Diagnosis:
    """Return the diagnosis of the inventory at ``location``; if it can't be opened, this is one of the findings.

    ``context`` makes the context for the open store. ``fix`` is that of :func:`doctor`. Raises
    :class:`UnreachableError` when no file of the inventory exists, or when a server can't be reached.
    """
    if is_on_server(location):
        with closing(open_store(location)) as store:
            return doctor(context(store), fix=fix)
    path, is_declared = resolve(location)
    database = state_file(path) if is_declared else path
    if not any(map(_may_exist, (path, database, log_of(database)))):
        raise UnreachableError(f"there is no inventory at {path}", hint=f"create one: bmhctl -i {path} init")
    if not _may_exist(database):
        return _unopened(path, database, inventory_files.missing(database))
    try:
        store = open_store(location, create=False)
    except (InvalidError, UnreachableError) as error:
        return _unopened(path, database, refused(error, str(path)))
    with closing(store):
        return doctor(context(store), fix=fix)


def _may_exist(path: Path) -> bool:
    try:
        os.stat(path)
    except PermissionError:
        return True  # if the folder can't be entered, opening the file reports that
    except OSError:
        return False
    return True


def _unopened(path: Path, database: Path, obstacle: Finding) -> Diagnosis:
    """Return the findings that do not need the database; ``obstacle`` is why the database can't be opened."""
    seen = Examination()
    if path != database:
        try:
            read_declaration(DeclarationFile(path))
        except (InvalidError, UnreachableError) as error:
            seen.note(refused(error, str(path)))
    for found in (obstacle, *inventory_files.access(None if path == database else path, (database,))):
        seen.note(found)
    return Diagnosis(str(path), tuple(seen.findings), utc_now(), {})


def doctor(ctx: Context, *, fix: bool = False) -> Diagnosis:
    """Return what is wrong with an inventory and what to do about it; change nothing.

    With ``fix``, first copy the inventory to a file beside it, then fix in one commit what can be fixed safely: no host
    is marked clean, and no event is written. A second call then finds nothing that it could fix.
    """
    seen = _examined(ctx, deep=True)
    if not (fix and seen.repairs):
        return _diagnosis(ctx, seen)
    copy = _keep_copy(ctx)
    fixable = _repair(ctx, is_damaged=seen.is_damaged)
    left = _examined(ctx, deep=seen.is_damaged)
    fixed = [replace(each, fixed=True) for each in fixable if each not in left.findings]
    return _diagnosis(ctx, left, fixed, str(copy))


def _examined(ctx: Context, *, deep: bool) -> Examination:
    try:
        return examine(ctx, deep=deep)
    except InvalidError as error:  # the database's own check did not find this damage
        seen = Examination()
        seen.note(refused(error, ctx.store.location))
        return seen


def _diagnosis(ctx: Context, seen: Examination, fixed: Sequence[Finding] = (), backup: str | None = None) -> Diagnosis:
    findings = tuple(ordered((*fixed, *seen.findings)))
    return Diagnosis(ctx.store.location, findings, ctx.clock(), seen.counts, backup)


def _repair(ctx: Context, *, is_damaged: bool) -> list[Finding]:
    """Run all repairs in one commit; return the findings that they fixed."""
    fixable: dict[Finding, None] = {}
    done: set[Repair] = set()
    with declaration_locked(ctx):
        with ctx.transaction():
            for _ in range(_ROUNDS):
                seen = examine(ctx, deep=is_damaged, fixing=True)
                if not seen.repairs:
                    break
                for repair in seen.repairs:
                    repair(ctx)
                done |= seen.repairs.keys()
                fixable.update(dict.fromkeys(each for each in seen.findings if each.fixable))
                is_damaged = seen.is_damaged
        if declaration_sync.forget in done:
            with suppress(InvalidError, UnreachableError):  # the next examination reports the reason
                declaration_sync.sync_declaration(ctx)
    return list(fixable)


def _keep_copy(ctx: Context) -> Path:
    """Copy the inventory to a new file and return its path; the file of a server's inventory is in this folder."""
    from bmhctl.stores.sqlite.files import building

    files = ctx.store.database.files
    source = files[0] if files else Path.cwd() / "bmhctl"
    stem = f"{source.name}.before-doctor-{ctx.clock():%Y%m%dT%H%M%SZ}"
    for number in count(1):
        copy = source.with_name(f"{stem}{f'-{number}' if number > 1 else ''}.db")
        with suppress(FileExistsError, StateRefusedError):  # another ``doctor`` made a copy in the same second
            if files:
                with building(copy) as partial:
                    ctx.store.database.upkeep().copy_file_to(partial)
            else:
                backup(ctx, str(copy))
            return copy
    raise AssertionError("count never ends")
