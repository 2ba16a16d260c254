"""Open the store of an inventory: a TOML file with its state file, SQLite, or PostgreSQL."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from bmhctl.errors import UsageError
from bmhctl.stores.locations import STATE_SUFFIX, is_on_server, resolve

if TYPE_CHECKING:
    from bmhctl.stores.store import Store
    from bmhctl.stores.toml.file import DeclarationFile


def open_store(location: str, *, create: bool = True) -> Store:
    """Open the inventory at a path or URL, and import only what that needs.

    A TOML file's missing state file is created, unless ``create`` is False. Raises :class:`UsageError` for a name that
    no inventory can have, :class:`UnreachableError` or :class:`InvalidError` when it can't be opened.
    """
    if is_on_server(location):
        from bmhctl.stores.postgres import open

        return open.open_store(location)
    path, is_declared = resolve(location)
    from bmhctl.stores.sqlite.claims import FileClaims
    from bmhctl.stores.sqlite.open import open_database
    from bmhctl.stores.store import Store

    if not is_declared:
        owner = path.with_name(path.name.removesuffix(STATE_SUFFIX) + ".toml")
        if path.name.endswith(STATE_SUFFIX) and owner.exists():
            raise UsageError(f"{path} is what {owner.name} remembers, no inventory of its own", hint=f"-i {owner}")
        return Store(open_database(path), claims=FileClaims(path), folder=str(path.parent), given=location)
    from bmhctl.stores.state_files import check_only_one
    from bmhctl.stores.toml.file import DeclarationFile

    declaration = DeclarationFile(path, Path(location).expanduser())
    check_only_one(declaration.given, declaration.path, declaration.state_path)
    return Store(
        open_database(_state_file(declaration) if create else declaration.state_path),
        claims=FileClaims(declaration.state_path),
        folder=str(declaration.path.parent),
        declaration=declaration,
        given=location,
    )


def reopen(store: Store) -> None:
    """Open the inventory that is at the location of a store now, for one that was removed or replaced meanwhile.

    Makes no file. Raises what :func:`open_store` raises; then the store is as before.
    """
    store.become(open_store(store.given, create=False))


def _state_file(declaration: DeclarationFile) -> Path:
    if not declaration.state_path.exists():
        from contextlib import suppress

        from bmhctl.stores.sqlite.open import create_database
        from bmhctl.stores.toml.declaration import read_declaration

        read_declaration(declaration)  # a missing or broken declaration must not leave a state file behind
        with suppress(FileExistsError):  # another command created it
            create_database(declaration.state_path)
    return declaration.state_path
