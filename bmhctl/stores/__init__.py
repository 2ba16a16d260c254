"""Where an inventory lives: a TOML file with its state file, a SQLite file, or a schema in PostgreSQL."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from bmhctl.errors import UsageError

if TYPE_CHECKING:
    from bmhctl.stores.engine import Store
    from bmhctl.stores.tomlfile import DeclarationFile

SQLITE_SUFFIXES = (".db", ".sqlite", ".sqlite3")

STATE_SUFFIX = ".state.db"

_SERVER = "postgres"


def is_on_server(location: str) -> bool:
    """Whether a location is the URL of a server, no path."""
    return location[: len(_SERVER)].lower() == _SERVER and "://" in location


def open_store(location: str, *, create: bool = True) -> Store:
    """Opens the inventory at a path or URL, by what it looks like; nothing that it does not need is imported.

    A TOML file's state file is created when it is missing, unless ``create`` is False. Raises :class:`UsageError` for
    a name that is no inventory's, else what the home raises.
    """
    from bmhctl.stores.engine import Store

    if is_on_server(location):
        from bmhctl.stores import server

        return server.open_store(location)
    from bmhctl.stores.claims import FileClaims
    from bmhctl.stores.sqlite import open_database

    path, is_declared = resolve(location)
    if not is_declared:
        owner = path.with_name(path.name.removesuffix(STATE_SUFFIX) + ".toml")
        if path.name.endswith(STATE_SUFFIX) and owner.exists():
            raise UsageError(f"{path} is what {owner.name} remembers, no inventory of its own", hint=f"-i {owner}")
        return Store(open_database(path), claims=FileClaims(path), folder=str(path.parent))
    from bmhctl.stores.tomlfile import DeclarationFile

    declaration = DeclarationFile(path)
    return Store(
        open_database(_state_file(declaration) if create else declaration.state_path),
        claims=FileClaims(declaration.state_path),
        folder=str(declaration.path.parent),
        declaration=declaration,
    )


def state_file(declaration: Path) -> Path:
    """Where the states of a TOML inventory's hosts are kept: ``lab.state.db`` beside ``lab.toml``."""
    return declaration.with_name(declaration.name.removesuffix(".toml") + STATE_SUFFIX)


def resolve(location: str) -> tuple[Path, bool]:
    """An inventory's real path, and whether it is a TOML file; raises :class:`UsageError` for anything else."""
    try:
        path = Path(location).expanduser()
    except RuntimeError as error:
        raise UsageError(f"{location!r}: {error}") from error
    if path.suffix != ".toml" and path.suffix not in SQLITE_SUFFIXES:
        from bmhctl.stores.address import without_secrets

        raise UsageError(
            f"{without_secrets(location)!r} is no inventory",
            hint="its name must end in .toml, .db, .sqlite or .sqlite3, or be a URL: postgresql://host/database",
        )
    return path.resolve(), path.suffix == ".toml"


def _state_file(declaration: DeclarationFile) -> Path:
    from contextlib import suppress

    from bmhctl.stores.sqlite import create_database

    if not declaration.state_path.exists():
        declaration.read()  # a missing or broken declaration must not leave a state file behind
        with suppress(FileExistsError):  # another command was faster
            create_database(declaration.state_path)
    return declaration.state_path
