"""Read the declaration in a TOML inventory, and find the line of a mistake."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from bmhctl.domain.host_name import AS_STORED, check_name
from bmhctl.domain.host_spec import SPEC_KEYS, duplicates, parse_spec
from bmhctl.domain.model import HostSpec
from bmhctl.domain.policy import Policy
from bmhctl.domain.policy_parser import POLICY_KEYS, WITHIN, parse_policy
from bmhctl.domain.tables import check_keys, require_table
from bmhctl.errors import InvalidError
from bmhctl.stores.state_files import TABLE, state_of
from bmhctl.stores.toml.file import DeclarationFile, Fingerprint, shown
from bmhctl.support.toml_text import broken, load, position
from bmhctl.support.values import Frozen

_DEPTH = 5  # keys in mistakes are at most as deep as hosts.node01.labels.arch


class Declaration(Frozen):
    """The content of a TOML inventory: its hosts in the order of the file, its policy, and warnings.

    ``policy_text`` is the policy alone as TOML; empty if the file has none.
    """

    hosts: tuple[HostSpec, ...]
    policy_text: str
    policy: Policy
    warnings: tuple[str, ...]
    fingerprint: Fingerprint


def read_declaration(file: DeclarationFile) -> Declaration:
    """Return the present declaration in the file, with its fingerprint; wait as :meth:`DeclarationFile.load` does.

    Raises :class:`UnreachableError` when the file can't be read, :class:`InvalidError` when it is not a declaration.
    """
    data, fingerprint = file.load()
    return parse_declaration(data, shown(file.path), fingerprint)


def parse_declaration(data: bytes, name: str, fingerprint: Fingerprint | None = None) -> Declaration:
    """Return the declaration in the bytes of a TOML inventory; ``name`` is the file's name in messages.

    Raises :class:`InvalidError` for other contents. Its message begins with ``name:line:column:`` when the text is not
    TOML, and with ``name:line:`` when it is not an inventory, or ``name:`` if the line is not certain.
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
        raise broken("a NUL byte", name, *position(text, text.index("\0")), hint="this does not look like a text file")
    return text


def _judged(document: Mapping[str, object]) -> tuple[tuple[HostSpec, ...], Policy]:
    if "export" in document:
        raise InvalidError(
            "export: this file is an export, not an inventory",
            hint="take it into an inventory: bmhctl import FILE",
            details={"key": "export"},
        )
    _check_tables(document)
    state_of(document.get(TABLE), Path())
    policy = parse_policy(document)
    written: dict[str, str] = {}  # for each name in lower case, its spelling in the file
    hosts = []
    for name, entry in require_table(document.get("hosts", {}), "hosts").items():
        hosts.append(_host(name, entry))
        first = written.setdefault(hosts[-1].name, name)
        if first != name:
            raise InvalidError(
                f"hosts.{name}: {first} is the same name: names are compared without case",
                hint="rename one of them",
                details={"key": f"hosts.{name.translate(AS_STORED)}"},
            )
    return tuple(hosts), policy


def _check_tables(document: Mapping[str, object]) -> None:
    """Raise :class:`InvalidError` for a table or a key that an inventory does not have; suggest where it belongs."""
    try:
        check_keys(document, (*POLICY_KEYS, TABLE, "hosts"), "", {**WITHIN, "hosts.NAME": SPEC_KEYS})
    except InvalidError as error:
        name = str(error.details["key"])
        entry = document[name]
        if isinstance(entry, Mapping) and entry and entry.keys() <= {*SPEC_KEYS} and name not in SPEC_KEYS:
            header = name if "." not in name else f'"{name}"'
            error.hint = f"a host is a header such as [hosts.{header}] with its keys below"
        raise


def _host(name: str, entry: object) -> HostSpec:
    key = f"hosts.{name.translate(AS_STORED)}"
    try:
        check_name(name)
    except InvalidError as error:
        raise InvalidError(f"hosts: {error.message}", hint=error.hint, details={"key": key}) from error
    return parse_spec(name, require_table(entry, key))


def _policy_text(document: Mapping[str, object]) -> str:
    import tomli_w

    return tomli_w.dumps({key: document[key] for key in POLICY_KEYS if key in document})


def _located(error: InvalidError, text: str, name: str) -> InvalidError:
    line = _line_of(text, error.details.get("key"), error.message)
    details = {**error.details, "file": name} | ({"line": line} if line else {})
    where = f"{name}:{line}" if line else name
    return InvalidError(f"{where}: {error.message}", host=error.host, hint=error.hint, details=details)


def _line_of(text: str, key: object, message: str) -> int | None:
    """Return the line of the key, or of the key with which the message begins; None if it is not certain."""
    from bmhctl.stores.toml.scanner import scan, walk

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
