"""Read the files, folders and standard input that an import names, of every known format."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

from bmhctl.domain.model import ImportBatch
from bmhctl.errors import UsageError
from bmhctl.formats.import_batch import MAX_BYTES, combine, decode
from bmhctl.formats.metal3 import unpack_manifests
from bmhctl.formats.toml_export import unpack_inventory

SUFFIXES = (".yaml", ".yml", ".json", ".toml")
"""What the files of a folder end with that are read; others are left alone."""

_TOML = re.compile(r"(?:\s++|#[^\n]*+\n)*+(?:\[[^\[\]{},:\n]++\][ \t\r]*+(?:#|\n|\Z)|[\w.-]++\s*+=)")


def read_paths(paths: Sequence[str | Path], stdin: BinaryIO, now: datetime) -> ImportBatch:
    """The hosts of files, of all files of a folder and its folders (hidden ones aside), and of ``-``, ``stdin``.

    A file whose name ends with ``.toml``, or without a known ending a text that looks like TOML, is an inventory;
    all else is YAML or JSON. Raises :class:`UsageError` for what can't be read, :class:`InvalidError` for what is
    wrong in a file or between files, such as a name in two of them.
    """
    return combine(_unpack(content, origin, now) for path in paths for origin, content in _contents(Path(path), stdin))


def _unpack(content: bytes, origin: str, now: datetime) -> ImportBatch:
    text = decode(content, origin)
    suffix = Path(origin).suffix
    if suffix == ".toml" or (suffix not in SUFFIXES and _TOML.match(text)):
        return unpack_inventory(text, origin, now)
    return unpack_manifests(text, origin, now)


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
