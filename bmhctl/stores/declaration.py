"""A TOML inventory as a declaration: whether it changed, what it says, and where in it a mistake stands.

Nothing here writes: the file is a person's. ``stores.edit`` changes it when asked to.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bmhctl.errors import InvalidError, UnreachableError, brief
from bmhctl.model import HostSpec
from bmhctl.policy import POLICY_KEYS, Policy, known, parse_policy, table
from bmhctl.spec import check_name, duplicates, parse_spec
from bmhctl.stores import state_file
from bmhctl.tomltext import broken, load, position

SIZE_LIMIT = 256 * 2**20
"""No declaration is larger than this, in bytes."""

_GRAIN = 20_000_000  # two ticks of the slowest kernel, in ns: a later write is sure to get another time
_COARSE_GRAIN = 2_000_000_000  # FAT counts in steps of two seconds
_PATIENCE = 25_000_000  # how long one reading waits for a file that was written just now, in ns
_TRIES = 5

_DEPTH = 5  # no mistake is named deeper than hosts.node01.labels.arch


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What a file looked like when it was read; times in ns, ``sha256`` in hex.

    ``settled``: the file's times lay so far in the past that every later write gives it others.
    """

    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int
    sha256: str
    settled: bool

    @classmethod
    def of(cls, data: bytes) -> Fingerprint:
        """The fingerprint of a content that is in no file yet: files are compared with it by their content."""
        return cls(0, len(data), 0, 0, _sha256(data), settled=False)

    def to_text(self) -> str:
        """One line that :meth:`from_text` reads back."""
        numbers = (self.inode, self.size, self.mtime_ns, self.ctime_ns, int(self.settled))
        return " ".join((*map(str, numbers), self.sha256))

    @classmethod
    def from_text(cls, text: str) -> Fingerprint | None:
        """The fingerprint that a text stands for; None, which is like no file, when it stands for none."""
        match = re.fullmatch(r"(\d{1,20}) (\d{1,20}) (-?\d{1,20}) (-?\d{1,20}) ([01]) ([0-9a-f]{64})", text, re.ASCII)
        if not match:
            return None
        inode, size, mtime_ns, ctime_ns, settled = map(int, match.groups()[:5])
        return cls(inode, size, mtime_ns, ctime_ns, match[6], settled=bool(settled))


@dataclass(frozen=True, slots=True)
class Declaration:
    """What a TOML inventory says: its hosts in the order of the file, its policy, and what looks odd.

    ``policy_text`` is the policy alone as TOML, empty if the file has none.
    """

    hosts: tuple[HostSpec, ...]
    policy_text: str
    policy: Policy
    warnings: tuple[str, ...]
    fingerprint: Fingerprint


class DeclarationFile:
    """A TOML inventory on disk. Links are followed first, so that all links to a file share its state file."""

    def __init__(self, path: Path) -> None:
        self._path = Path(os.path.realpath(path))

    @property
    def path(self) -> Path:
        """The file itself, links resolved."""
        return self._path

    @property
    def state_path(self) -> Path:
        """Where the states of its hosts are kept: ``lab.state.db`` beside ``lab.toml``."""
        return state_file(self._path)

    def same(self, fingerprint: Fingerprint | None) -> bool:
        """Whether the file is as it was at the fingerprint: one ``stat`` as a rule, at most a hash, never a parse.

        Raises :class:`UnreachableError` when the file is missing or can't be read.
        """
        if fingerprint is None:
            return False
        status = _status(self._path)
        if fingerprint.settled and _stamp(status) == _stamp(fingerprint):
            return True
        return status.st_size == fingerprint.size and _sha256(self._bytes()) == fingerprint.sha256

    def read(self) -> Declaration:
        """What the file says now; waits up to 25 ms for one that was written just now.

        Raises :class:`UnreachableError` when it can't be read, :class:`InvalidError` when it is no declaration.
        """
        data, fingerprint = self._load()
        return parse_declaration(data, shown(self._path), fingerprint)

    def _load(self) -> tuple[bytes, Fingerprint]:
        patience = _PATIENCE
        for _ in range(_TRIES):
            now = time.time_ns()
            before = _status(self._path)
            # A file that is being saved may be half there; and only an old one's times tell of the next write.
            short_of = _GRAIN - (now - max(before.st_mtime_ns, before.st_ctime_ns))
            if 0 < short_of <= patience:
                patience -= short_of
                time.sleep(short_of / 1e9)
                continue
            data = self._bytes()
            if _stamp(_status(self._path)) == _stamp(before):
                return data, Fingerprint(*_stamp(before), _sha256(data), settled=_is_settled(before, now))
        raise UnreachableError(
            f"{shown(self._path)} keeps changing while it is read", hint="try again when whoever writes it is done"
        )

    def _bytes(self) -> bytes:
        return read_file(self._path)


def read_file(path: Path) -> bytes:
    """A declaration's bytes; :class:`UnreachableError` or, when there are too many, :class:`InvalidError`."""
    size = _status(path).st_size
    if size <= SIZE_LIMIT:
        try:
            with open(path, "rb") as file:
                data = file.read(SIZE_LIMIT + 1)
        except OSError as error:
            raise _unreadable(path, error) from error
        if len(data) <= SIZE_LIMIT:
            return data
    raise InvalidError(f"{shown(path)} is larger than {SIZE_LIMIT // 2**20} MiB", details={"file": shown(path)})


def shown(path: Path) -> str:
    """A path as messages name it: relative when it is in the working directory or below."""
    try:
        return str(path.relative_to(Path.cwd()))
    except (ValueError, OSError):
        return str(path)


def _status(path: Path) -> os.stat_result:
    try:
        status = os.stat(path)
    except OSError as error:
        raise _unreadable(path, error) from error
    if stat.S_ISREG(status.st_mode):
        return status
    kind = "a directory" if stat.S_ISDIR(status.st_mode) else "no regular file"
    raise UnreachableError(f"{shown(path)} is {kind}", hint="name the TOML file itself", details={"file": shown(path)})


def _unreadable(path: Path, error: OSError) -> UnreachableError:
    name = shown(path)
    match error.errno:
        case errno.ENOENT | errno.ENOTDIR:
            return UnreachableError(
                f"there is no {name}", hint=f"create it: bmhctl -i {name} init", details={"file": name}
            )
        case errno.EACCES | errno.EPERM:
            hint = "ask its owner for the right to read it and to enter its folders"
            return UnreachableError(f"may not read {name}: permission denied", hint=hint, details={"file": name})
        case _:
            return UnreachableError(f"can't read {name}: {error.strerror or error}", details={"file": name})


def _stamp(seen: os.stat_result | Fingerprint) -> tuple[int, int, int, int]:
    if isinstance(seen, Fingerprint):
        return seen.inode, seen.size, seen.mtime_ns, seen.ctime_ns
    return seen.st_ino, seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns


def _sha256(data: bytes) -> str:
    import hashlib

    return hashlib.sha256(data).hexdigest()


def _is_settled(status: os.stat_result, now: int) -> bool:
    times = (status.st_mtime_ns, status.st_ctime_ns)
    if any(at % 1_000_000_000 == 0 for at in times):
        return now - max(times) > _COARSE_GRAIN
    return now - max(times) >= _GRAIN


def parse_declaration(data: bytes, name: str, fingerprint: Fingerprint | None = None) -> Declaration:
    """What the bytes of a TOML inventory say; ``name`` is the file's name in messages.

    Raises :class:`InvalidError` whose message begins with ``name:line:column:`` when it is no TOML, and with
    ``name:line:``, or ``name:`` when the line is not certain, when it is no inventory.
    """
    text = _decoded(data, name)
    document = load(text, name)
    try:
        hosts, policy = _judged(document)
    except InvalidError as error:
        raise _located(error, text, name) from error
    return Declaration(
        hosts=hosts,
        policy_text=_policy_text(document),
        policy=policy,
        warnings=tuple(duplicates(hosts)),
        fingerprint=fingerprint or Fingerprint.of(data),
    )


def _decoded(data: bytes, name: str) -> str:
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        line_start = data.rfind(b"\n", 0, error.start) + 1
        raise broken(
            f"byte 0x{data[error.start]:02x} is not UTF-8",
            name,
            data.count(b"\n", 0, error.start) + 1,
            len(data[line_start : error.start].decode("utf-8")) + 1,
            hint="save the file as UTF-8",
        ) from error
    if text.startswith("\ufeff"):
        raise broken("begins with a byte order mark", name, 1, 1, hint="save the file as UTF-8 without BOM")
    if "\0" in text:
        raise broken("a NUL byte", name, *position(text, text.index("\0")), hint="this looks like no text file")
    return text


def _judged(document: Mapping[str, object]) -> tuple[tuple[HostSpec, ...], Policy]:
    if "export" in document:
        raise InvalidError(
            "export: this file is an export, not an inventory",
            hint="take it into an inventory: bmhctl import FILE",
            details={"key": "export"},
        )
    known(document, (*POLICY_KEYS, "hosts"), "")
    policy = parse_policy(document)
    return tuple(_host(name, entry) for name, entry in table(document.get("hosts", {}), "hosts").items()), policy


def _host(name: str, entry: object) -> HostSpec:
    key = f"hosts.{name}"
    try:
        check_name(name)
    except InvalidError as error:
        raise InvalidError(f"hosts: {error.message}", hint=error.hint, details={"key": key}) from error
    if not isinstance(entry, Mapping):
        raise InvalidError(
            f"{key} must be a table, not {brief(entry)}",
            hint="a host is a header such as [hosts.node01] with its keys below",
            details={"key": key},
        )
    return parse_spec(name, entry)


def _policy_text(document: Mapping[str, object]) -> str:
    import tomli_w

    return tomli_w.dumps({key: document[key] for key in POLICY_KEYS if key in document})


def _located(error: InvalidError, text: str, name: str) -> InvalidError:
    line = _line_of(text, error.details.get("key"), error.message)
    details = {**error.details, "file": name} | ({"line": line} if line else {})
    where = f"{name}:{line}" if line else name
    return InvalidError(f"{where}: {error.message}", host=error.host, hint=error.hint, details=details)


def _line_of(text: str, key: object, message: str) -> int | None:
    """The line of the key, or of the one that the message begins with; None unless it is certain."""
    from bmhctl.stores.source import scan, walk

    try:
        nodes = list(walk(scan(text).nodes))
    except (ValueError, RecursionError):
        return None
    paths: dict[str, set[tuple[str, ...]]] = {}
    for path in {node.path[:depth] for node in nodes for depth in range(1, min(len(node.path), _DEPTH) + 1)}:
        paths.setdefault(".".join(path), set()).add(path)
    if not isinstance(key, str):
        key = max((dotted for dotted in paths if message.startswith((f"{dotted} ", f"{dotted}:"))), key=len, default="")
    meant = paths.get(key, set())
    starts = [node.parts[-1][0] for node in nodes if node.path in meant]
    return position(text, starts[0])[0] if starts and len(meant) == 1 else None
