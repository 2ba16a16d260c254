"""Write a file so that readers find either the old or the new content, never a part of it."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from tempfile import NamedTemporaryFile

from bmhctl.errors import UnreachableError

_MODE = 0o644  # programs of other users read the file


def write_atomically(path: Path, texts: Iterable[str]) -> None:
    """Write the texts, in UTF-8, to a new file, and replace the file at ``path`` with it.

    A pipe or a device, such as ``/dev/null``, is written to, not replaced. Raises :class:`UnreachableError` when
    writing fails; then a file at ``path`` is unchanged.
    """
    target = Path(os.path.realpath(path))
    draft = None
    try:
        if path.exists() and not path.is_file():
            with path.open("w", encoding="utf-8") as stream:
                stream.writelines(texts)
            return
        with NamedTemporaryFile(
            "w", encoding="utf-8", dir=target.parent, prefix=f".{target.name}.", suffix=".new", delete=False
        ) as file:
            draft = file.name
            file.writelines(texts)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(draft, _MODE)
        os.replace(draft, target)
        draft = None
    except OSError as error:
        raise UnreachableError(
            f"{path} can't be written: {error.strerror}", hint="check the folder, its rights and its free space"
        ) from error
    finally:
        if draft is not None:
            with suppress(OSError):
                os.unlink(draft)
