"""Which inventory a command means, and whether it is a TOML file, a SQLite file or a server."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping
from pathlib import Path

from bmhctl.errors import UsageError

SQLITE_SUFFIXES = (".db", ".sqlite", ".sqlite3")

STATE_SUFFIX = ".state.db"

_SERVER = "postgres"

NAMES = ("bmh.toml", "bmh.db")
"""What discovery looks for in this folder and its parents."""

VARIABLE = "BMHCTL_INVENTORY"


def find_inventory(given: str | None, environ: Mapping[str, str], folder: Path, tell: Callable[[str], None]) -> str:
    """The inventory's path or URL: the given one, ``$BMHCTL_INVENTORY``, or the nearest ``bmh.toml``/``bmh.db``.

    An inventory names commands to run, so a discovered file counts only when it belongs to this user or root
    and not everybody may write it; with ``$CI`` set nothing is discovered at all. Raises :class:`UsageError`.
    """
    if given or environ.get(VARIABLE):
        return given or environ[VARIABLE]
    if environ.get("CI"):
        raise UsageError(
            "no inventory is named, and with $CI set none is searched for",
            hint=f"name it: bmhctl -i lab.db …, or export {VARIABLE}=…",
        )
    for place in (folder, *folder.parents):
        found = [place / name for name in NAMES if (place / name).exists()]
        trusted = [path for path in found if _is_trusted(path, tell)]
        if len(trusted) > 1:
            raise UsageError(
                f"there are two inventories here: {trusted[0]} and {trusted[1]}", hint="choose one with -i"
            )
        if trusted:
            return str(trusted[0])
    raise UsageError(
        "no inventory is named, and there is no bmh.toml or bmh.db in this folder or above it",
        hint=f"create one: bmhctl -i bmh.toml init, or name one with -i or ${VARIABLE}",
    )


def _is_trusted(path: Path, tell: Callable[[str], None]) -> bool:
    # The folder counts too: who may rename files in it may plant one.
    for place in (path, path.resolve(), path.resolve().parent):
        try:
            status = place.stat()
        except OSError:
            return False
        if status.st_uid not in (os.geteuid(), 0):
            tell(f"ignored {path}: {place} belongs to another user; name it with -i to use it")
            return False
        if status.st_mode & stat.S_IWOTH and not (stat.S_ISDIR(status.st_mode) and status.st_mode & stat.S_ISVTX):
            tell(f"ignored {path}: everybody may write {place}; name it with -i to use it")
            return False
    return True


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
