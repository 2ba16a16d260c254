"""Write a file so that who reads it finds the old content or the new one, never a part."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from tempfile import NamedTemporaryFile

from bmhctl.errors import UnreachableError

_MODE = 0o644  # it is for other programs to read


def write_atomically(path: Path, texts: Iterable[str]) -> None:
    """Write the texts, in UTF-8, to a file that then takes the place of the one at ``path``.

    What is there and is no file, such as a pipe or ``/dev/null``, gets the texts and stays what it is. Raises
    :class:`UnreachableError` when it can't be written; the file that was there before is as it was.
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
