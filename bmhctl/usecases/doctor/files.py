"""What ``doctor`` checks of an inventory's files: permissions, missing files, and files that killed commands left."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from bmhctl.results.diagnosis import Finding
from bmhctl.stores.sqlite.claims import folder_beside
from bmhctl.stores.sqlite.files import log_of
from bmhctl.stores.toml.atomic_replace import draft_of
from bmhctl.usecases.doctor.question import BROKEN, WARNING


def access(declaration: Path | None, databases: Sequence[Path]) -> Iterator[Finding]:
    """Yield the problems with the permissions of the TOML file, the databases, their claims and folders."""
    files = [path for path in (declaration, *databases) if path is not None]
    for place in (*files, *map(folder_beside, databases), *dict.fromkeys(path.parent for path in files)):
        status = _status(place)
        if status is not None and _is_world_writable(status):
            message = f"every user may write {place}, and so choose the commands that ready and recycle run"
            yield Finding("access", BROKEN, message, f"chmod o-w {place}")
    for database in databases:
        yield from _for_this_user(database)
        if declaration is not None:
            yield from _for_other_users(declaration, database)


def _is_world_writable(status: os.stat_result) -> bool:
    is_shared_folder = stat.S_ISDIR(status.st_mode) and status.st_mode & stat.S_ISVTX
    return bool(status.st_mode & stat.S_IWOTH) and not is_shared_folder


def _for_this_user(database: Path) -> Iterator[Finding]:
    for place in (database, database.parent):
        if _status(place) is not None and not os.access(place, os.W_OK):
            remedy = f"ask the owner of {place} for the right to write it"
            yield Finding("access", WARNING, f"you may not write {place}: commands fail", remedy)


def _for_other_users(declaration: Path, database: Path) -> Iterator[Finding]:
    """Yield a finding for users who may write the TOML file but not its state file, because their commands fail."""
    declared, stored = _status(declaration), _status(database)
    if declared is None or stored is None:
        return
    group_may_write = declared.st_gid == stored.st_gid and stored.st_mode & 0o060 == 0o060
    if declared.st_mode & stat.S_IWGRP and not group_may_write:
        group = _name(declaration.group, declared.st_gid)
        message = (
            f"the group {group} may write {declaration.name}, but not {database.name}: commands of its members fail"
        )
        yield Finding("access", WARNING, message, f"chgrp {group} {database}; chmod g+rw {database}")
    all_may_write = stored.st_mode & 0o006 == 0o006
    if declared.st_uid not in (stored.st_uid, 0) and not (all_may_write or group_may_write):
        owner = _name(declaration.owner, declared.st_uid)
        other = _name(database.owner, stored.st_uid)
        message = (
            f"{database.name} belongs to {other}, and {declaration.name} to {owner}, who may not write {database.name}"
        )
        yield Finding("access", WARNING, message, f"chown {owner} {database}")


def _status(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except OSError:
        return None


def _name(look_up: Callable[[], str], number: int) -> str:
    """Return the name of a user or group; its number if this machine knows no name."""
    try:
        return look_up()
    except KeyError:
        return str(number)


def left_behind(files: Sequence[Path]) -> list[Path]:
    """Return the unfinished files that killed commands left beside these files."""
    found = []
    for path in files:
        draft = draft_of(path)
        # Match exactly this name: a copy to a longer name may still be in progress.
        partial = re.compile(rf"\.{re.escape(path.name)}\.[a-z0-9_]{{8}}\.partial(-wal|-shm|-journal)?")
        with suppress(OSError):
            beside = sorted(path.parent.iterdir())
            found += [left for left in beside if left == draft or partial.fullmatch(left.name)]
    return found


def missing(database: Path) -> Finding:
    """Return the finding for a missing state file; only the operator knows whether there ever was one."""
    log = log_of(database)
    if log.exists():
        return Finding(
            "file",
            BROKEN,
            f"{database} is gone, but {log.name}, the last writes to it, is there",
            f"restore {database.name} from a backup; or, to start again with no history, move {log} away first",
        )
    return Finding(
        "file",
        WARNING,
        f"there is no {database.name}: states, reservations and history of the hosts, if they had any, are gone",
        f"restore {database} from a backup; if the inventory is new, the next command creates it",
    )
