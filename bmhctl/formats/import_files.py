"""Read the files, folders and standard input that an import names, of every known format."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

from bmhctl.domain.model import ImportBatch
from bmhctl.errors import InvalidError, UsageError
from bmhctl.formats.import_batch import MAX_BYTES, Part, combine, decode
from bmhctl.formats.metal3 import unpack_manifests
from bmhctl.formats.naming import NameTemplate
from bmhctl.formats.recognize import text_looks_like
from bmhctl.formats.toml_export import unpack_inventory
from bmhctl.support.values import replace

SUFFIXES = (".yaml", ".yml", ".json", ".toml")
"""What the files of a folder end with that are read; others are left alone."""

_TOML = re.compile(r"(?:\s++|#[^\n]*+\n)*+(?:\[[^\[\]{},:\n]++\][ \t\r]*+(?:#|\n|\Z)|[\w.-]++\s*+=)")


def read_paths(
    paths: Sequence[str | Path], stdin: BinaryIO, now: datetime, names: NameTemplate | None = None
) -> ImportBatch:
    """Return the hosts of files, of all files of a folder and its folders (hidden ones aside), and of ``-``, ``stdin``.

    A file whose name ends with ``.toml``, or without a known ending a text that looks like TOML, is an inventory;
    all else is YAML or JSON. ``names`` makes the hosts' names. Raises :class:`UsageError` for what can't be read,
    :class:`InvalidError` for what is wrong in a file or between files, such as a name in two of them, and for a file
    that has nothing to import; files of a folder that have nothing are skipped, unless that is so of all of them.
    """
    return combine(part for path in paths for part in _parts(Path(path), stdin, now, names))


def _parts(path: Path, stdin: BinaryIO, now: datetime, names: NameTemplate | None) -> list[Part]:
    found = [(origin, _unpack(content, origin, now, names)) for origin, content in _contents(path, stdin)]
    if all(_is_empty(part) for _, part in found):
        origin, part = found[0]
        said = f"it looks like {part.looks_like}" if part.looks_like else part.skipped[0].removeprefix(f"{origin}, ")
        more = f", and so on for {len(found)} files" if len(found) > 1 else ""
        raise InvalidError(
            f"{origin}: nothing to import: {said}{more}",
            hint="import reads BareMetalHost manifests (YAML or JSON), and what bmhctl export wrote as TOML or JSON",
            details={"file": origin, "looks_like": part.looks_like},
        )
    return [_skipped(part, origin) if _is_empty(part) and not part.skipped else part for origin, part in found]


def _is_empty(part: Part) -> bool:
    return not (part.hosts or part.hardware or part.policy) and bool(part.looks_like or part.skipped)


def _skipped(part: Part, origin: str) -> Part:
    return replace(part, skipped=(f"{origin}: skipped: it looks like {part.looks_like}",))


def _unpack(content: bytes, origin: str, now: datetime, names: NameTemplate | None) -> Part:
    text = decode(content, origin)
    suffix = Path(origin).suffix
    if suffix not in SUFFIXES and (looks_like := text_looks_like(text)):
        return Part(looks_like=looks_like)
    if suffix == ".toml" or (suffix not in SUFFIXES and _TOML.match(text)):
        return unpack_inventory(text, origin, now, names)
    return unpack_manifests(text, origin, now, names)


def _contents(path: Path, stdin: BinaryIO) -> Iterator[tuple[str, bytes]]:
    if str(path) == "-":
        yield "standard input", stdin.read(MAX_BYTES + 1)
        return
    try:
        if not path.is_dir():
            yield str(path), _read(path)
            return
        files = [
            file
            for file in sorted(path.rglob("*"))
            if file.suffix in SUFFIXES
            and file.is_file()
            and not any(part.startswith(".") for part in file.relative_to(path).parts)
        ]
        if not files:
            raise UsageError(f"no file in {path} ends with {', '.join(SUFFIXES)}", hint="name the files to read")
        for file in files:
            yield str(file), _read(file)
    except OSError as error:
        raise UsageError(f"can't read {error.filename or path}: {error.strerror}") from error


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(MAX_BYTES + 1)
