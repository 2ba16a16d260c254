"""The possible contents of a disk after a power cut: everything that was synced, and any part of the other writes.

The module uses the record of :class:`tests.faults.forked_commands.Recorder`. A file keeps the contents of its last
sync; each later write may be present, missing, or partly present, sector by sector. A name that was made, moved or
removed since the last sync of the folder may have its new or its old state; a rename is one step. Journaling file
systems guarantee more than that.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults.snapshots import Folder
from tests.faults.vfs import Change

SECTOR = 512

Names = dict[str, int | None]
"""The number of the file behind each name; None if the name was removed."""


@dataclass
class _File:
    synced: bytes = b""
    pending: list[tuple[int | None, bytes, int]] = field(default_factory=list)  # offset, data; None: cut to a size

    def sync(self) -> None:
        self.synced, self.pending = self.now(), []

    def now(self) -> bytes:
        return self.content(lambda _: True)

    def content(self, keeps) -> bytes:  # type: ignore[no-untyped-def]  # of each sector of each write: is it there?
        data = bytearray(self.synced)
        for offset, written, size in self.pending:
            if offset is None:
                if keeps(0):
                    del data[size:]
                    data.extend(bytes(size - len(data)))
                continue
            for start in range(0, len(written), SECTOR):
                if keeps(start):
                    part = written[start : start + SECTOR]
                    data.extend(bytes(max(0, offset + start - len(data))))
                    data[offset + start : offset + start + len(part)] = part
        return bytes(data)


class Disk:
    """A folder on a disk that loses power. The contents at the first look count as durable."""

    def __init__(self, start: Folder) -> None:
        self._start = start
        self._files: list[_File] = []
        self._alive: dict[int, int] = {}  # the present file of each inode, because inodes are reused
        self._synced: Names = {}
        self._now: Names = {}
        self._pending: list[Names] = []

    def see(self, names: dict[str, int], written: dict[int, bytes]) -> None:
        """Starts from what the folder contained."""
        is_first = not self._files
        self._alive = {inode: file for inode, file in self._alive.items() if inode in names.values()}
        for name, inode in names.items():
            if inode not in self._alive:
                self._alive[inode] = len(self._files)
                self._files.append(_File(self._start.get(name, b"") if is_first else b""))
        now = {name: self._alive[inode] for name, inode in names.items()}
        step: Names = {name: file for name, file in now.items() if self._now.get(name) != file}
        step.update(dict.fromkeys(self._now.keys() - now.keys()))
        self._now = dict(now)
        if is_first:
            self._synced = dict(now)
        elif step:
            self._pending.append(step)
        for inode, content in written.items():
            file = self._files[self._alive[inode]]
            if file.now() != content:
                file.pending += [(None, b"", 0), (0, content, 0)]

    def do(self, change: Change) -> None:
        """Applies a change to the content of a file; :meth:`see` applies changes of names."""
        if change.kind == "sync-folder":
            self._synced, self._pending = dict(self._now), []
            return
        number = self._now.get(Path(change.path).name)
        if number is None:
            return
        file = self._files[number]
        match change.kind:
            case "write":
                file.pending.append((change.offset, change.data, 0))
            case "truncate":
                file.pending.append((None, b"", change.offset))
            case "sync" | "fsync":
                file.sync()

    def after_a_cut(self, contents: str, names: str, dice: random.Random) -> Folder:
        """Return the contents after a power cut, with ``none``, ``all`` or ``some`` of the unsynced writes."""
        keeps = {"none": lambda *_: False, "all": lambda *_: True, "some": lambda *_: dice.random() < 0.5}
        found: Names = dict(self._synced)
        for step in self._pending:
            if keeps[names]():
                found.update(step)
        return {name: self._files[file].content(keeps[contents]) for name, file in found.items() if file is not None}


MODES = (("none", "none"), ("none", "all"), ("all", "none"), ("all", "all"), ("some", "some"), ("some", "all"))
"""Which unsynced contents and which unsynced names survive."""


def cuts(
    start: Folder, changes: list[tuple[Change, dict[str, int], dict[int, bytes]]], seed: str, share: float
) -> Iterator[tuple[int, tuple[str, str], int, Folder]]:
    """Yield for every moment and mode: its number, the mode, the number of acknowledged commands, and the contents.

    Contents that were yielded before, with the same number of acknowledgements, are left out. Only a share of the
    moments is tried, always with the first one and the first after each acknowledgement.
    """
    disk, said = Disk(start), 0
    seen: set[tuple[int, int]] = set()
    dice = random.Random(seed)
    is_due = True
    for number, (change, names, written) in enumerate(changes):
        disk.see(names, written)
        if change.kind == "said":
            said += 1
            is_due = True
        for mode in MODES if is_due or dice.random() < share else ():
            found = disk.after_a_cut(*mode, dice)
            key = (said, hash(tuple(sorted(found.items()))))
            if key not in seen:
                seen.add(key)
                yield number, mode, said, found
        disk.do(change)
        is_due = False
