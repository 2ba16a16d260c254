"""Find the state file of a TOML inventory: where the TOML file or ``$BMHCTL_STATE_DIR`` says, or beside it."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

from bmhctl.errors import InvalidError, UsageError
from bmhctl.stores.os_files import SQLITE_SUFFIXES, STATE_SUFFIX
from bmhctl.support.lazy_regex import pattern

VARIABLE = "BMHCTL_STATE_DIR"
"""The environment variable with the folder for state files; a TOML file can name another path itself."""

shared_folder: str | None = None
"""The value of :data:`VARIABLE` for this process; None or empty: state files are beside their TOML files."""

TABLE, KEY = "inventory", "state"
"""The table of the TOML file, and the key in it, that name the state file."""

_MOST_LINKS = 40

_HEADER = pattern(rb"""^[ \t]*\[[ \t]*(?:inventory|"inventory"|'inventory')[ \t]*\]""", re.M)
_OTHER = pattern(rb"""^[ \t]*(?:inventory|"inventory"|'inventory')[ \t]*[.=]""", re.M)
_NEXT_HEADER = pattern(rb"^[ \t]*\[", re.M)


def state_file(declaration: Path) -> Path:
    """Return the state file of the TOML file ``declaration``, a path with links resolved.

    The first of these applies: the path that the file names under ``[inventory]``; ``lab.state.db`` in the folder of
    :data:`VARIABLE`; the path beside ``lab.toml``. Raises :class:`InvalidError` when the file names a path that can't
    be one.
    """
    if (named := _named_in(declaration)) is not None:
        return named
    if shared_folder:
        return Path(os.path.realpath(Path(shared_folder).expanduser())) / beside(declaration).name
    return beside(declaration)


def _named_in(declaration: Path) -> Path | None:
    """Return the state file that the TOML file itself names; None if it names none."""
    try:
        return named_state(declaration.read_bytes(), declaration)
    except OSError:
        return None  # code that needs the file reports the failure


def beside(declaration: Path) -> Path:
    """Return ``lab.state.db`` beside ``lab.toml``."""
    return declaration.with_name(declaration.name.removesuffix(".toml") + STATE_SUFFIX)


def named_state(data: bytes, declaration: Path) -> Path | None:
    """Return the state file that a TOML file names; None if it names none. ``data`` is the file's content.

    Only the few lines of the table are parsed. Raises :class:`InvalidError` for a table with other keys or values.
    """
    if b"inventory" not in data:
        return None
    header = _HEADER.search(data)
    if header is None and _OTHER.search(data) is None:
        return None
    text = data if header is None else data[slice(*section(data, header))]
    import tomllib

    try:
        table = tomllib.loads(text.decode()).get(TABLE)
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise InvalidError(
            f"{declaration}: can't read its [{TABLE}] table ({error})",
            hint=f'write it like: [{TABLE}] and, in the next line, {KEY} = "/var/lib/bmhctl/lab.state.db"',
            details={"file": str(declaration)},
        ) from error
    try:
        return state_of(table, declaration)
    except InvalidError as error:
        raise InvalidError(f"{declaration}: {error.message}", hint=error.hint, details=error.details) from error


def section(data: bytes, header: re.Match[bytes]) -> tuple[int, int]:
    """Return the offset where a table begins, and the offset where the next table begins."""
    following = _NEXT_HEADER.search(data, header.end())
    return header.start(), len(data) if following is None else following.start()


def without_table(data: bytes) -> bytes:
    """Return a TOML text without its ``[inventory]`` table, for a copy with its own state file."""
    header = _HEADER.search(data)
    if header is None:
        return data
    start, end = section(data, header)
    return data[:start] + data[end:]


def state_of(table: object, declaration: Path) -> Path | None:
    """Return the state file that an ``[inventory]`` table names, relative to the TOML file's folder.

    Raises :class:`InvalidError` for a value that can't be the path of a state file.
    """
    if table is None:
        return None
    hint = f'such as {KEY} = "/var/lib/bmhctl/lab{STATE_SUFFIX}"'
    if not isinstance(table, dict):
        raise InvalidError(f"{TABLE} must be a table", hint=hint, details={"key": TABLE})
    unknown = [key for key in table if key != KEY]
    if unknown:
        raise InvalidError(
            f"{TABLE}: unknown key {str(unknown[0])!r:.60}", hint=f"known here: {KEY}", details={"key": TABLE}
        )
    if KEY not in table:
        return None
    key = f"{TABLE}.{KEY}"
    text = table[KEY]
    if not isinstance(text, str) or not text.endswith(SQLITE_SUFFIXES) or "\0" in text:
        raise InvalidError(
            f"{key} must be a path that ends in {', '.join(SQLITE_SUFFIXES)}", hint=hint, details={"key": key}
        )
    try:
        path = Path(text).expanduser()
    except RuntimeError as error:
        raise InvalidError(f"{key}: {error}", hint=hint, details={"key": key}) from error
    return Path(os.path.realpath(declaration.parent / path))


def check_only_one(given: Path, declaration: Path, state: Path) -> None:
    """Raise :class:`UsageError` if it is uncertain which state file belongs to the TOML file.

    Otherwise all hosts would appear as initial after a link was pointed at another file, or after the state file was
    not moved to its new place. ``given`` is the path that the user gave, ``declaration`` the TOML file, ``state`` its
    state file.
    """
    old = beside(declaration)
    if state != old or shared_folder:
        if not state.exists() and old.exists():
            raise UsageError(
                f"{state} does not exist yet, but {old} does",
                hint=f"while no command runs: mv {old} {state}; to start afresh, move the old file away",
            )
        if state != old and old.exists() and _named_in(declaration) is None:
            raise UsageError(
                f"there are two state files, {state} and {old}: commands without {VARIABLE} use the second",
                hint=f'while no command runs, move one away, or name one in the file: [{TABLE}] {KEY} = "…"',
                details={"file": str(declaration), "state": str(old)},
            )
        return
    if not state.exists():
        _check_only_name(declaration)
    if given == declaration:
        return
    others = [beside(place / declaration.name) for place in _link_folders(given, declaration)]
    if not state.exists():
        others += _of_siblings(given, declaration)
    for other in others:
        if other.exists() and other != state:
            raise UsageError(
                f"{given} is a link to {declaration}, but there is also the state file {other}",
                hint=f'choose one: {KEY} = "…" under [{TABLE}] in the file, or {VARIABLE}=FOLDER',
                details={"file": str(declaration), "state": str(other)},
            )


def _check_only_name(declaration: Path) -> None:
    """Raise :class:`UsageError` when the file has a second name, because its state file may be beside that one."""
    from bmhctl.stores.sqlite.open_files import mounts

    try:
        status = declaration.stat()
    except OSError:
        return  # code that needs the file reports the failure
    why = None
    if not stat.S_ISDIR(status.st_mode) and status.st_nlink > 1:
        why = f"has {status.st_nlink} names (hard links)"
    elif str(declaration) in mounts():
        why = "is mounted alone, without its folder"
    if why is not None:
        raise UsageError(
            f"{declaration} {why}, and there is no state file here: it may be beside the other name",
            hint=f'say where it is: {KEY} = "…" under [{TABLE}] in the file, or {VARIABLE}=FOLDER',
            details={"file": str(declaration)},
        )


def _hops(given: Path) -> Iterator[Path]:
    """Yield a path, the path to which it is a link, and so on."""
    path = given
    for _ in range(_MOST_LINKS):
        yield path
        if not path.is_symlink():
            return
        path = Path(os.path.normpath(os.path.join(os.path.realpath(path.parent), os.readlink(path))))


def _link_folders(given: Path, declaration: Path) -> list[Path]:
    """Return the folders of the links that lead to the file, without the file's own folder."""
    folders = dict.fromkeys(Path(os.path.realpath(hop.parent)) for hop in _hops(given))
    return [folder for folder in folders if folder != declaration.parent]


def _of_siblings(given: Path, declaration: Path) -> list[Path]:
    """Return state files in the folders beside the TOML file's folder, where other releases of a deployment are."""
    if not any(hop.is_symlink() or hop.parent.is_symlink() for hop in _hops(given)):
        return []  # only a folder further up is a link, such as a home folder
    return sorted(declaration.parent.parent.glob(f"*/{beside(declaration).name}"))
