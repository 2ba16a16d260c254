"""Copy a whole inventory: to another backend, or into a backup."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from itertools import islice
from pathlib import Path
from shlex import quote

from bmhctl.domain.model import HostSpec, Phase
from bmhctl.domain.units import plural
from bmhctl.errors import StateRefusedError, UnreachableError, UsageError
from bmhctl.results import Done
from bmhctl.stores import admin
from bmhctl.stores.locations import is_on_server, resolve
from bmhctl.stores.meta import FINGERPRINT, INTENT, OWNER
from bmhctl.stores.os_files import SQLITE_SUFFIXES, unreachable
from bmhctl.stores.schema import SUCCESSOR_KEY
from bmhctl.stores.sqlite.database import SqliteDatabase, open_database
from bmhctl.stores.sqlite.files import building, new_database
from bmhctl.stores.state_files import state_file, without_table
from bmhctl.stores.store import Store
from bmhctl.support.values import replace
from bmhctl.usecases.shared.context import Context
from bmhctl.usecases.shared.refresh import refresh

_AT_ONCE = 1000  # the most hosts whose declaration is in memory
_TEXT = "declaration_text"  # the key in ``meta`` of the TOML file's text in a backup
_TRIES = 10
_MOST_REASONS = 3


def copy(ctx: Context, destination: str, *, retire_source: bool = False, force: bool = False) -> Done:
    """Copy the whole inventory, row by row and unchanged, to a destination that does not exist yet.

    On a server, the destination may also be an inventory that ``init`` created and no command has changed since.
    Reserved hosts stay reserved, and dirty hosts stay dirty. The destination appears complete or not at all. Returns
    what was copied. With ``retire_source``, this inventory then refuses changes and names the copy as its successor.

    Raises :class:`StateRefusedError` when there is another destination already. With ``retire_source`` it is also
    raised, unless ``force``, when the inventory is in use by a task of ``run``, a step, or a wait for hosts, which
    could not go on.
    Raises :class:`UsageError` for ``force`` without ``retire_source``.
    """
    if force and not retire_source:
        raise UsageError("--force is for --retire-source", hint="bmhctl copy --retire-source --force SRC DST")
    if not retire_source:
        refresh(ctx)
        return _copied(ctx, *_copy(ctx, destination))
    successor = _successor(destination)
    with declaration_locked(ctx):
        refresh(ctx)
        with ctx.transaction():
            ctx.store.meta.check_in_use(ctx.store.location)
            if not force:
                _check_idle(ctx)
            # The copy is complete before the source is retired. If the command is killed in between, both can be used.
            _, counts = _copy(ctx, destination, nullcontext())
            ctx.store.meta.retire(successor)
    return _copied(ctx, successor, counts, is_retired=True)


def declaration_locked(ctx: Context) -> AbstractContextManager[object]:
    """Keep other commands from editing the TOML file, if there is one: an edit that is not synced would be lost."""
    if ctx.store.declaration is None:
        return nullcontext()
    from bmhctl.stores.toml.atomic_replace import edits_locked

    return edits_locked(ctx.store.declaration.path)


def _successor(destination: str) -> str:
    """Return the location of a copy so that messages can name it to users in any folder."""
    if is_on_server(destination):
        from bmhctl.stores.postgres.url import Address

        return Address.parse(destination).shown
    return str(resolve(destination)[0].absolute())


def _check_idle(ctx: Context) -> None:
    from bmhctl.stores.claims import run_claim
    from bmhctl.usecases.reservations.fairness import waiting_tickets

    working = {run_claim(each.id): each for each in ctx.store.reservations.open()}
    runs = [working[name] for name in sorted(ctx.store.claims.claimed(working.keys()))]
    ids = {host.id: host.name for host in ctx.store.hosts.find()}
    steps = [ids[each] for each in sorted(ctx.store.claims.claimed_hosts(ids.keys()))]
    reasons = [
        *(f"a task of {each.owner} runs under {each.id}" for each in runs),
        *(f"a step runs on {name}" for name in steps),
        *(f"{ticket.owner} waits with ticket {ticket.id}" for ticket in waiting_tickets(ctx)),
    ]
    if reasons:
        more = f" and {len(reasons) - _MOST_REASONS} more" if len(reasons) > _MOST_REASONS else ""
        raise StateRefusedError(
            f"{ctx.store.location} is in use: {', '.join(reasons[:_MOST_REASONS])}{more}; nothing was copied",
            hint="wait until they end; --force copies now: waiting commands fail, and leases can't be renewed here",
        )


def _copy(
    ctx: Context, destination: str, place: AbstractContextManager[object] | None = None
) -> tuple[str, dict[str, int]]:
    """Return the location of the copy, and how many rows each of its tables has."""
    if is_on_server(destination):
        from bmhctl.stores.postgres import open

        with open.creating(destination, fills_unused=True) as target:
            counts = _fill(ctx, target, place)
            _record_owner(target)
        return _successor(destination), counts
    path, is_declared = resolve(destination)
    target_path = state_file(path) if is_declared else path
    # The state file gets its name before the TOML file: without it, all hosts would be initial, even used ones.
    with (
        _free(path, target_path),
        building(path) if is_declared else nullcontext() as declaration,
        building(target_path) as partial,
        _writing(ctx, partial, new_database(partial)) as target,
    ):
        counts = _fill(ctx, target, place)
        # Declare the hosts of the copy: the source may have changed, and a host without a state would count as new.
        if declaration is not None:
            with declaration.open("wb") as file:
                file.writelines(_declaration(target))
        _record_owner(target, None if declaration is None else path)
    return str(path), counts


def backup(ctx: Context, destination: str) -> Done:
    """Write the whole inventory as of one moment into a new SQLite file, while other commands may write.

    ``copy`` restores it into any backend; a TOML file is restored with its comments. Returns how many rows were
    written. Raises :class:`UsageError` for a destination that is not a SQLite file, and :class:`StateRefusedError` if
    it exists.
    """
    path, is_declared = resolve(destination)
    if is_declared:
        raise UsageError(f"a backup is a SQLite file, not {destination}", hint=f"its name ends in {SQLITE_SUFFIXES[0]}")
    refresh(ctx)
    with _free(path), building(path) as partial:
        counts = _back_up(ctx, partial)
        if counts is None:
            with _writing(ctx, partial, new_database(partial, takes_anything=True)) as target:
                counts = _fill(ctx, target)
                _record_owner(target)
    return Done(
        "backup",
        f"backed up {ctx.store.location} to {path}: {_in_words(counts)}",
        {"source": ctx.store.location, "destination": str(path), "rows": counts},
    )


def _copied(ctx: Context, destination: str, counts: dict[str, int], *, is_retired: bool = False) -> Done:
    source = ctx.store.location
    return Done(
        "copy",
        f"copied {source} to {destination}: {_in_words(counts)}",
        {"source": source, "destination": destination, "rows": counts, "retired": is_retired},
        (*_warnings(ctx, destination, counts["hosts"], is_retired), *_left_behind(ctx, destination)),
    )


def _left_behind(ctx: Context, destination: str) -> Iterator[str]:
    """Yield a warning where steps name programs by paths that lead elsewhere from the copy."""
    from bmhctl.support.programs import is_there

    if is_on_server(destination):
        from bmhctl.stores.postgres.open import FOLDER

        folder = FOLDER
    else:
        folder = str(resolve(destination)[0].absolute().parent)
    policy = ctx.store.policy()
    programs = dict.fromkeys(step.command[0] for step in policy.of(*Phase) if step.command)
    path = ctx.environ.get("PATH", os.defpath)
    lost = [each for each in programs if is_there(each, ctx.store.folder, path) and not is_there(each, folder, path)]
    if lost:
        yield (
            f"the steps of the copy are started in {folder}, where these programs do not exist: {', '.join(lost)}; "
            "name them by absolute paths in its policy, or the steps fail"
        )


def _warnings(ctx: Context, destination: str, hosts: int, is_retired: bool) -> Iterator[str]:
    """Yield that the source is retired, or that two inventories reserve the same machines if both are used."""
    source = ctx.store.location
    successor = ctx.store.meta.successor()
    if is_retired:
        yield (
            f"{source} is retired: it can be read, but not changed, and its successor is {destination}; to use it "
            f"again: bmhctl -i {quote(source)} init --reactivate"
        )
    elif hosts and successor is not None:
        yield (
            f"{source} was retired before, and its successor {successor} has the same {plural(hosts, 'host')}: use "
            "only one of the successor and the copy, or both reserve them"
        )
    elif hosts:
        yield (
            f"{source} still has the same {plural(hosts, 'host')}: use only one of the two inventories, or both "
            "reserve them (copy --retire-source makes the source refuse changes)"
        )


def _in_words(counts: dict[str, int]) -> str:
    return ", ".join(plural(counts[f"{noun}s"], noun) for noun in ("host", "reservation", "event"))


@contextmanager
def _free(*places: Path) -> Iterator[None]:
    """Refuse places where something is, or where the block finds that something has appeared."""
    try:
        for place in dict.fromkeys(places):
            if place.exists():
                raise StateRefusedError(f"there is {place} already: nothing was copied", hint="choose another name")
        if not places[0].parent.is_dir():
            raise UnreachableError(f"there is no folder {places[0].parent}", hint=f"mkdir -p {places[0].parent}")
        yield
    except FileExistsError as error:
        raise StateRefusedError(
            f"there is {error.filename2} already: nothing was copied", hint="choose another name"
        ) from error
    except OSError as error:
        raise unreachable(f"can't create {places[0]}", error) from error


@contextmanager
def _writing(ctx: Context, partial: Path, database: SqliteDatabase) -> Iterator[Store]:
    """Yield the inventory in a file that is being built, in a transaction."""
    made = Store(database, claims=lambda: ctx.store.claims, folder=str(partial.parent))
    with closing(made) as target, target.transaction():
        yield target


def _fill(ctx: Context, target: Store, moment: AbstractContextManager[object] | None = None) -> dict[str, int]:
    """Copy all rows, as of one moment, in the target's transaction; return how many rows each table has.

    ``moment`` is a transaction of the source in which to read; by default one that only reads.
    """
    with ctx.store.snapshot() if moment is None else moment:
        return admin.fill(target, ctx.store, ctx.progress)


def _record_owner(target: Store, declared_by: Path | None = None, text: bytes | None = None) -> None:
    """Replace what a copy records about the source's TOML file: by ``declared_by``, if any, and the text to restore."""
    for key in (FINGERPRINT, INTENT, SUCCESSOR_KEY):
        target.meta.put(key, None)
    target.meta.renew_identity()
    target.meta.put(OWNER, str(declared_by) if declared_by else None)
    if text is not None or declared_by is not None:
        target.meta.put(_TEXT, None if text is None else text.decode())


def _back_up(ctx: Context, partial: Path) -> dict[str, int] | None:
    """Copy a SQLite file page by page, with the text of the TOML file that declares its hosts, if there is one.

    Returns how many rows each table has; None for an inventory on a server.
    """
    from bmhctl.stores.toml.file import Fingerprint

    for _ in range(_TRIES):
        refresh(ctx)
        text = None if ctx.store.declaration is None else ctx.store.declaration.text()
        if not ctx.store.database.upkeep().copy_file_to(partial):
            return None
        with _writing(ctx, partial, open_database(partial)) as target:
            synced = Fingerprint.from_text(target.meta.get(FINGERPRINT) or "")
            if text is None or (synced is not None and synced.sha256 == Fingerprint.of(text).sha256):
                target.meta.reactivate()
                _record_owner(target, text=text)
                return admin.settle(target)
    raise UnreachableError(f"{ctx.store.location} keeps changing", hint="try again when no other command writes")


def _declaration(store: Store) -> Iterator[bytes]:
    """Yield the text of a TOML file that declares all hosts: the text in the backup, if it still agrees with the state.

    Otherwise it is generated, in parts because the hosts may not fit into memory.
    """
    from bmhctl.stores.toml.editor import Change, edited

    policy = (store.meta.policy_text() or "").encode()
    kept = store.meta.get(_TEXT)
    if kept is not None and _declares(kept.encode(), _declared(store), policy):
        yield without_table(kept.encode())  # the table names the old state file, but a copy has its own
        return
    declared, text = _declared(store), policy
    while some := [Change.add(spec) for spec in islice(declared, _AT_ONCE)]:
        if text:
            yield text if text.endswith(b"\n\n") else text + b"\n"
        text = edited(b"", some, "the copy")
    yield text


def _declared(store: Store) -> Iterator[HostSpec]:
    """Yield what is declared about the hosts, without the properties that steps observed: a file never has these."""
    return (replace(host.spec, observed={}) for host in store.hosts.find() if not host.undeclared)


def _declares(text: bytes, hosts: Iterable[HostSpec], policy: bytes) -> bool:
    from bmhctl.stores.toml.declaration import parse_declaration

    said = parse_declaration(text, "the backup")
    declared, stored = ({spec.name: spec for spec in each} for each in (said.hosts, hosts))
    return said.policy_text.encode() == policy and declared == stored
