"""Tell from a location whether it is a TOML file, a SQLite file or a server, and where its state file is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from bmhctl.errors import UsageError

if TYPE_CHECKING:
    pass


SQLITE_SUFFIXES = (".db", ".sqlite", ".sqlite3")

STATE_SUFFIX = ".state.db"

_SERVER = "postgres"


def is_on_server(location: str) -> bool:
    """Whether a location is the URL of a server, no path."""
    return location[: len(_SERVER)].lower() == _SERVER and "://" in location


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
        from bmhctl.support.redact import without_secrets

        raise UsageError(
            f"{without_secrets(location)!r} is no inventory",
            hint="its name must end in .toml, .db, .sqlite or .sqlite3, or be a URL: postgresql://host/database",
        )
    return path.resolve(), path.suffix == ".toml"
