"""Find the inventory that a command means, and who acts; open the store: TOML with its state, SQLite, or PostgreSQL."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from bmhctl.errors import BmhctlError, UsageError
from bmhctl.stores.os_files import SQLITE_SUFFIXES, STATE_SUFFIX, unreachable

if TYPE_CHECKING:
    from bmhctl.stores.store import Store
    from bmhctl.stores.toml.file import DeclarationFile

_SERVER = "postgres"

NAMES = ("bmh.toml", "bmh.db")
"""The file names that are searched for in the current folder and its parents."""

VARIABLE = "BMHCTL_INVENTORY"

ACTOR_VARIABLE = "BMHCTL_ACTOR"


def find_inventory(given: str | None, environ: Mapping[str, str], folder: Path, report: Callable[[str], None]) -> str:
    """Return the location of the inventory: ``given``, ``$BMHCTL_INVENTORY``, or the nearest ``bmh.toml``/``bmh.db``.

    The search begins in ``folder``. An inventory names commands to run. So a file that was found is used only if it
    belongs to this user or root, and not every user may write it; and with ``$CI`` set in ``environ``, none is searched
    for. ``report`` is called with a line for each ignored file. Raises :class:`UsageError` if no inventory is found, or
    two in the same folder.
    """
    if given or environ.get(VARIABLE):
        return given or environ[VARIABLE]
    if environ.get("CI"):
        raise UsageError(
            "no inventory is named, and none is searched for because $CI is set",
            hint=f"name it: bmhctl -i lab.db …, or export {VARIABLE}=…",
        )
    for place in (folder, *folder.parents):
        found = [place / name for name in NAMES if (place / name).exists()]
        trusted = [path for path in found if _is_trusted(path, report)]
        if len(trusted) > 1:
            retired = [path for path in trusted if _is_retired(path)]
            left = [path for path in trusted if path not in retired]
            choice = f": -i {left[0].name}, because {retired[0].name} is retired" if retired and left else ""
            raise UsageError(
                f"there are two inventories here: {trusted[0]} and {trusted[1]}",
                hint=f"choose one{choice or ' with -i'}; or move the other one away",
            )
        if trusted:
            return str(trusted[0])
    raise UsageError(
        "no inventory is named, and there is no bmh.toml or bmh.db in this folder or above it",
        hint=f"create one: bmhctl -i bmh.toml init, or name one with -i or ${VARIABLE}",
    )


def _is_retired(path: Path) -> bool:
    """Return whether an inventory refuses changes; false if that is not known."""
    with suppress(BmhctlError), closing(open_store(str(path), create=False)) as store:
        return store.meta.successor() is not None
    return False


def _is_trusted(path: Path, report: Callable[[str], None]) -> bool:
    # Check the folder, too: a user who may rename files in it can replace the inventory.
    for place in (path, path.resolve(), path.resolve().parent):
        try:
            status = place.stat()
        except OSError:
            return False
        if status.st_uid not in (os.geteuid(), 0):
            report(f"ignored {path}: {place} belongs to another user; name it with -i to use it")
            return False
        if status.st_mode & stat.S_IWOTH and not (stat.S_ISDIR(status.st_mode) and status.st_mode & stat.S_ISVTX):
            report(f"ignored {path}: every user may write {place}; name it with -i to use it")
            return False
    return True


def default_actor(environ: Mapping[str, str]) -> str:
    """Return ``$BMHCTL_ACTOR``, or user@hostname."""
    if environ.get(ACTOR_VARIABLE):
        return environ[ACTOR_VARIABLE]
    import pwd

    try:
        user = pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:  # a user in a container may have no name
        user = f"uid{os.geteuid()}"
    return f"{user}@{os.uname().nodename}"


def is_on_server(location: str) -> bool:
    """Return whether a location is the URL of a server, not a path."""
    return location[: len(_SERVER)].lower() == _SERVER and "://" in location


def resolve(location: str) -> tuple[Path, bool]:
    """Return an inventory's path with links resolved, and whether it is a TOML file.

    Raises :class:`UsageError` for a name that no inventory can have.
    """
    try:
        path = Path(location).expanduser()
    except RuntimeError as error:
        raise UsageError(f"{location!r}: {error}") from error
    if path.suffix != ".toml" and path.suffix not in SQLITE_SUFFIXES:
        from bmhctl.support.redact import without_secrets

        raise UsageError(
            f"{without_secrets(location)!r} is not an inventory",
            hint="its name must end in .toml, .db, .sqlite or .sqlite3, or be a URL: postgresql://host/database",
        )
    return Path(os.path.realpath(path)), path.suffix == ".toml"  # Path.resolve fails for a loop of links


def open_store(location: str, *, create: bool = True) -> Store:
    """Open the inventory at a path or URL, and import only the modules of its backend.

    A missing state file of a TOML file is created, unless ``create`` is False. Raises :class:`UsageError` for a name
    that no inventory can have, :class:`UnreachableError` or :class:`InvalidError` when the inventory can't be opened.
    """
    if is_on_server(location):
        from bmhctl.stores.postgres import open

        return open.open_store(location)
    try:
        return _open_files(location, create=create)
    except OSError as error:
        raise unreachable(f"can't read {error.filename or location}", error) from error


def _open_files(location: str, *, create: bool) -> Store:
    path, is_declared = resolve(location)
    from bmhctl.stores.sqlite.database import open_database
    from bmhctl.stores.store import Store

    if not is_declared:
        owner = path.with_name(path.name.removesuffix(STATE_SUFFIX) + ".toml")
        if path.name.endswith(STATE_SUFFIX) and owner.exists():
            raise UsageError(f"{path} is the state file of {owner.name}, not an inventory", hint=f"-i {owner}")
        database = open_database(path)
        given = Path(location).expanduser().absolute()
        if given != path and database.open_files is not None:
            database.open_files.add_link(given)
        return Store(database, claims=database.claims, folder=str(path.parent), given=location)
    from bmhctl.stores.state_files import check_only_one
    from bmhctl.stores.toml.file import DeclarationFile

    declaration = DeclarationFile(Path(location).expanduser())
    check_only_one(declaration.given, declaration.path, declaration.state_path)
    database = open_database(_state_file(declaration) if create else declaration.state_path)
    return Store(
        database,
        claims=database.claims,
        folder=str(declaration.path.parent),
        declaration=declaration,
        given=location,
    )


def reopen(store: Store) -> None:
    """Open the inventory that is at a store's location now, after the opened one was removed or replaced.

    Creates no file. Raises the errors of :func:`open_store`; a store in files is closed then. (All connections of a
    process to one file share the index of its log, which may be that of another file now.)
    """
    if store.database.files:
        store.close()
    fresh = open_store(store.given, create=False)
    store.close()
    store.__dict__ = fresh.__dict__


def _state_file(declaration: DeclarationFile) -> Path:
    if not declaration.state_path.exists():
        from bmhctl.stores.sqlite.files import create_database
        from bmhctl.stores.toml.declaration import read_declaration

        read_declaration(declaration)  # raises before a state file is created for a missing or broken declaration
        with suppress(FileExistsError):  # another command created it
            create_database(declaration.state_path)
    return declaration.state_path
