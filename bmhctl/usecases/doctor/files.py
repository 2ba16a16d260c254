"""The files of an inventory and what lies beside them: who may write them, and what killed commands left."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

from bmhctl.results import Finding, Severity
from bmhctl.stores.sqlite.claims import folder_beside
from bmhctl.stores.sqlite.files import log_of
from bmhctl.stores.toml.atomic_replace import draft_of
from bmhctl.usecases.doctor.findings import FIX


def access(declaration: Path | None, databases: Sequence[Path]) -> Iterator[Finding]:
    """Who may write what; each finding names a command that puts it right."""
    files = [path for path in (declaration, *databases) if path is not None]
    places = [*files, *map(folder_beside, databases), *dict.fromkeys(path.parent for path in files)]
    for place in places:
        status = _status(place)
        if status is not None and _is_anybodys(status):
            yield Finding(
                "access",
                Severity.BROKEN,
                f"everybody may write {place}, and so have commands run as whoever readies and recycles",
                f"chmod o-w {place}",
            )
    for database in databases:
        yield from _for_me(database)
        if declaration is not None:
            yield from _for_others(declaration, database)


def _is_anybodys(status: os.stat_result) -> bool:
    is_shared_folder = stat.S_ISDIR(status.st_mode) and status.st_mode & stat.S_ISVTX
    return bool(status.st_mode & stat.S_IWOTH) and not is_shared_folder


def _for_me(database: Path) -> Iterator[Finding]:
    for place in (database, database.parent):
        if place.exists() and not os.access(place, os.W_OK):
            yield Finding(
                "access",
                Severity.WARNING,
                f"you may not write {place}: commands fail",
                f"ask the owner of {place} for the right to write it",
            )


def _for_others(declaration: Path, database: Path) -> Iterator[Finding]:
    """Who may write the TOML file must be able to write its state file, or their commands fail."""
    declared, kept = _status(declaration), _status(database)
    if declared is None or kept is None:
        return
    if declared.st_mode & stat.S_IWGRP and (declared.st_gid != kept.st_gid or kept.st_mode & 0o060 != 0o060):
        group = _group(declared.st_gid)
        yield Finding(
            "access",
            Severity.WARNING,
            f"the group {group} may write {declaration.name}, but not {database.name}: its members' commands fail",
            f"chgrp {group} {database}; chmod g+rw {database}",
        )
    if declared.st_uid != kept.st_uid and not (
        kept.st_mode & 0o006 == 0o006 or declared.st_uid == 0 or _is_shared(declared, kept)
    ):
        owner = _user(declared.st_uid)
        yield Finding(
            "access",
            Severity.WARNING,
            f"{database.name} belongs to {_user(kept.st_uid)}, {declaration.name} to {owner}, who may not write both",
            f"chown {owner} {database}",
        )


def _is_shared(declared: os.stat_result, kept: os.stat_result) -> bool:
    return declared.st_gid == kept.st_gid and kept.st_mode & 0o060 == 0o060


def _status(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except OSError:
        return None


def _group(number: int) -> str:
    import grp

    try:
        return grp.getgrgid(number).gr_name
    except KeyError:
        return str(number)


def _user(number: int) -> str:
    import pwd

    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)


def left_behind(files: Sequence[Path]) -> list[Path]:
    """What commands that were killed began to write beside these files; nobody will go on with it."""
    found = []
    for path in files:
        draft = draft_of(path)
        # Exactly: a copy of this inventory to a longer name may be on its way.
        partial = re.compile(rf"\.{re.escape(path.name)}\.[a-z0-9_]{{8}}\.partial(-wal|-shm|-journal)?")
        try:
            beside = sorted(path.parent.iterdir())
        except OSError:
            continue
        found += [place for place in beside if place == draft or partial.fullmatch(place.name)]
    return found


def leftover(path: Path) -> Finding:
    """The finding that one of :func:`left_behind` is."""
    words = f"{path} is left of a command that was killed"
    return Finding("leftover", Severity.NOTE, words, f"{FIX} removes it", fixable=True)


def missing(database: Path) -> Finding:
    """The file with the states is not there; a new TOML file has none yet, and nobody but a person can tell."""
    log = log_of(database)
    if log.exists():
        return Finding(
            "file",
            Severity.BROKEN,
            f"{database} is gone, but {log.name}, the last writes to it, is there",
            f"restore {database.name} from a backup; or, to start afresh with no history, move {log} away first",
        )
    return Finding(
        "file",
        Severity.WARNING,
        f"there is no {database.name}: states, reservations and history of the hosts, if they had any, are gone",
        f"restore {database} from a backup; if the inventory is new, the next command makes it",
    )
