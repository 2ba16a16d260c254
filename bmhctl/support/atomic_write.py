"""Write a file so that readers find either the old or the new content, never a part of it."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from bmhctl.errors import UnreachableError

_MODE = 0o644  # programs of other users read the file


def write_atomically(path: Path, texts: Iterable[str]) -> None:
    """Write the texts, in UTF-8, to a new file, and replace the file at ``path`` with it.

    A pipe or a device, such as ``/dev/null``, is written to, not replaced. Raises :class:`UnreachableError` when
    writing fails; then a file at ``path`` is unchanged.
    """
    target = Path(os.path.realpath(path))
    draft = target.with_name(f".{target.name}.{os.urandom(4).hex()}.new")
    try:
        if path.exists() and not path.is_file():
            with path.open("w", encoding="utf-8") as stream:
                stream.writelines(texts)
            return
        with draft.open("x", encoding="utf-8") as file:
            file.writelines(texts)
            file.flush()
            os.fsync(file.fileno())
        draft.chmod(_MODE)
        draft.replace(target)
    except OSError as error:
        raise UnreachableError(
            f"{path} can't be written: {error.strerror}", hint="check the folder, its rights and its free space"
        ) from error
    finally:
        with suppress(OSError):  # after a success, it has its final name
            draft.unlink()
