"""Finds what is wrong with an inventory, also with one that no other command would touch; mends what needs no guess."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from itertools import count
from pathlib import Path

from bmhctl.errors import InvalidError, StateRefusedError, UnreachableError
from bmhctl.results import Diagnosis, Finding
from bmhctl.stores import open_store
from bmhctl.stores.locations import is_on_server, resolve, state_file
from bmhctl.stores.sqlite.database import SqliteDatabase
from bmhctl.stores.sqlite.files import building, log_of
from bmhctl.stores.store import Store, closing
from bmhctl.stores.toml.atomic_replace import edits_locked
from bmhctl.stores.toml.declaration import read_declaration
from bmhctl.stores.toml.file import DeclarationFile
from bmhctl.support.values import replace
from bmhctl.usecases.doctor import files
from bmhctl.usecases.doctor.examine import Seen, examine, ordered, refused
from bmhctl.usecases.inventories import backup
from bmhctl.usecases.shared import declaration_sync
from bmhctl.usecases.shared.context import Context, utc_now

_ROUNDS = 5  # what one mends may make work for another


def doctor_at(location: str, context: Callable[[Store], Context], *, fix: bool = False) -> Diagnosis:
    """:func:`doctor` for the inventory at a path, which may be too broken to be opened: then that is the finding.

    ``context`` makes the context once it is open. Raises :class:`UnreachableError` when nothing of it is there.
    """
    if is_on_server(location):
        with closing(open_store(location)) as store:
            return doctor(context(store), fix=fix)
    path, is_declared = resolve(location)
    database = state_file(path) if is_declared else path
    if not any(map(_may_be_there, (path, database, log_of(database)))):
        raise UnreachableError(f"there is no inventory at {path}", hint=f"create one: bmhctl -i {path} init")
    found: list[Finding] = []
    if not _may_be_there(database):
        found = [*(_declaration(path) if is_declared else ()), files.missing(database)]
    else:
        try:
            store = open_store(location, create=False)
        except (InvalidError, UnreachableError) as error:
            found = [*(_declaration(path) if is_declared else ()), refused(error, str(path))]
        else:
            with closing(store):
                return doctor(context(store), fix=fix)
    seen = Seen()
    for each in (*found, *files.access(path if is_declared else None, (database,))):
        seen.note(each)
    return Diagnosis(str(path), tuple(seen.findings), utc_now(), {})


def _may_be_there(path: Path) -> bool:
    try:
        os.stat(path)
    except PermissionError:
        return True  # in a folder that may not be entered: opening it says so
    except OSError:
        return False
    return True


def _declaration(path: Path) -> list[Finding]:
    try:
        read_declaration(DeclarationFile(path))
    except (InvalidError, UnreachableError) as error:
        return [refused(error, str(path))]
    return []


def doctor(ctx: Context, *, fix: bool = False) -> Diagnosis:
    """What is wrong with an inventory, and what to do about it; changes nothing.

    With ``fix`` it mends what needs no guess, after a backup beside the inventory and in one commit: never does a host
    get cleaner by that, and no event is made up. A second time there is nothing left to mend.
    """
    seen = _examined(ctx, deep=True)
    if not (fix and seen.mends):
        return _diagnosis(ctx, seen)
    backup = _keep_copy(ctx)
    was_fixable = _mend(ctx, is_damaged=seen.is_damaged)
    left = _examined(ctx, deep=seen.is_damaged)
    fixed = [replace(each, fixed=True) for each in was_fixable if each not in left.findings]
    return _diagnosis(ctx, left, fixed, str(backup))


def _examined(ctx: Context, *, deep: bool) -> Seen:
    try:
        return examine(ctx, deep=deep)
    except InvalidError as error:  # the database turned out to be damaged where nothing had found it so
        seen = Seen()
        seen.note(refused(error, ctx.store.location))
        return seen


def _diagnosis(ctx: Context, seen: Seen, fixed: Sequence[Finding] = (), backup: str | None = None) -> Diagnosis:
    findings = tuple(ordered((*fixed, *seen.findings)))
    return Diagnosis(ctx.store.location, findings, ctx.clock(), seen.counts, backup)


def _mend(ctx: Context, *, is_damaged: bool) -> list[Finding]:
    """Mends all that can be, in one commit; returns what that was."""
    done: dict[Finding, None] = {}
    mended: set[str] = set()
    with ExitStack() as stack:
        if ctx.store.declaration is not None:
            stack.enter_context(edits_locked(ctx.store.declaration.path))
        with ctx.store.transaction():
            for _ in range(_ROUNDS):
                seen = examine(ctx, deep=is_damaged, mending=True)
                if not seen.mends:
                    break
                for name, mend in seen.mends.items():
                    mend(ctx)
                    mended.add(name)
                done.update(dict.fromkeys(each for each in seen.findings if each.fixable))
                is_damaged = seen.is_damaged
        if "declaration" in mended:
            with suppress(InvalidError, UnreachableError):  # the next look finds what stands against it
                declaration_sync.sync_declaration(ctx)
    return list(done)


def _keep_copy(ctx: Context) -> Path:
    """A copy of the inventory beside it, as it was before anything is mended; of a server's, in this folder."""
    database = ctx.store.database
    source = Path(database.location) if database.files else Path.cwd() / "bmhctl"
    stem = f"{source.name}.before-doctor-{ctx.clock():%Y%m%dT%H%M%SZ}"
    for number in count(1):
        copy = source.with_name(f"{stem}{f'-{number}' if number > 1 else ''}.db")
        with suppress(FileExistsError, StateRefusedError):  # another doctor was here in this very second
            if isinstance(database, SqliteDatabase):
                with building(copy) as partial:
                    database.copy_to(partial)
            else:
                backup(ctx, str(copy))
            return copy
    raise AssertionError("numbers end nowhere")
