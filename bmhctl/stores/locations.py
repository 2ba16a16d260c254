"""Tell from a location whether it is a TOML file, a SQLite file or a server."""

from __future__ import annotations

from pathlib import Path

from bmhctl.errors import UsageError

SQLITE_SUFFIXES = (".db", ".sqlite", ".sqlite3")

STATE_SUFFIX = ".state.db"

_SERVER = "postgres"


def is_on_server(location: str) -> bool:
    """Whether a location is the URL of a server, no path."""
    return location[: len(_SERVER)].lower() == _SERVER and "://" in location


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
