"""The inode, size, times and hash of a TOML file, from which a later change is recognised."""

from __future__ import annotations

import re

from bmhctl.support.values import Frozen


class Fingerprint(Frozen):
    """The state of a file when it was read; times in ns, ``sha256`` in hex.

    ``settled`` is whether the file's times were so far in the past that every later write must change them.
    """

    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int
    sha256: str
    settled: bool

    @classmethod
    def of(cls, data: bytes) -> Fingerprint:
        """Return the fingerprint of a content that is not in a file yet; only its hash can match a file."""
        return cls(0, len(data), 0, 0, sha256_of(data), settled=False)

    def to_text(self) -> str:
        """Return the fingerprint as one line that :meth:`from_text` reads back."""
        numbers = (self.inode, self.size, self.mtime_ns, self.ctime_ns, int(self.settled))
        return " ".join((*map(str, numbers), self.sha256))

    @classmethod
    def from_text(cls, text: str) -> Fingerprint | None:
        """Return the fingerprint in a text; None for any other text, which then matches no file."""
        match = re.fullmatch(r"(\d{1,20}) (\d{1,20}) (-?\d{1,20}) (-?\d{1,20}) ([01]) ([0-9a-f]{64})", text, re.ASCII)
        if not match:
            return None
        inode, size, mtime_ns, ctime_ns, settled = map(int, match.groups()[:5])
        return cls(inode, size, mtime_ns, ctime_ns, match[6], settled=bool(settled))


def sha256_of(data: bytes) -> str:
    """Return the SHA-256 of some bytes, in hexadecimal digits."""
    import hashlib

    return hashlib.sha256(data).hexdigest()
