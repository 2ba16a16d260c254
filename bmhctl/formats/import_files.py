"""Read the files of an import, in every known format: from files, folders and standard input."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

from bmhctl.domain.import_batch import ImportBatch
from bmhctl.domain.selector import is_label_key, parse_selector
from bmhctl.errors import InvalidError, UsageError
from bmhctl.formats.import_batch import MAX_BYTES, Part, combine, decode, read_file
from bmhctl.formats.importers.kinds import WORDS, Kind, as_csv, kind_named, kind_of_text, look_of_text, reads_text
from bmhctl.formats.importers.record import TARGETS, ImportOptions
from bmhctl.formats.importers.sort_records import ForeignRecords, not_as_wanted
from bmhctl.formats.importers.unpack import unpack_items
from bmhctl.formats.metal3 import unpack_manifests
from bmhctl.formats.naming import NameTemplate
from bmhctl.formats.recognize import NEVER_HOSTS, content_looks_like, text_looks_like
from bmhctl.formats.toml_export import unpack_inventory
from bmhctl.support.toml_text import load
from bmhctl.support.values import replace

SUFFIXES = (".yaml", ".yml", ".json", ".toml")
"""The endings of the files that are read in a folder; other files are skipped."""

_READABLE = (".csv", ".ini", ".leases", ".gz")
"""Further endings of files that may have hosts. Files in a folder with these endings are named in a note."""

NO_OPTIONS = ImportOptions()
"""The options that import every host of files of any kind, under the name in the file."""

_STDIN = "standard input"
_NO_HOST = " without a host"
_MAAS_HEADING = re.compile(r"\A\s*Success\.\s*Machine-readable output follows:\s*")
_TEMPLATE = re.compile(r"^[^\"'#\n]*\{[{%]", re.M)
_PLACEHOLDER = re.compile(r"'(?:[^'\n]*\{\{|\$\{|\$[A-Z]|<[A-Za-z][\w -]*>)")
"""A value in a message that a template engine or `envsubst` would have replaced."""
_LOOP = re.compile(r"^[ \t]*(?:\{%|%\{)", re.M)
"""A line that a template engine would have removed, of Jinja or Terraform."""
_FILL = "the file looks like a template: import what helm template, envsubst, Terraform or Ansible makes of it"
_TOML = re.compile(r"(?:\s++|#[^\n]*+\n)*+(?:\[[^\[\]{},:\n]++\][ \t\r]*+(?:#|\n|\Z)|[\w.-]++\s*+=)")


def import_options(
    kind: str | None = None,
    name: str | None = None,
    only: str | None = None,
    label_from: Sequence[str] | None = None,
    mapping: Sequence[str] | None = None,
) -> ImportOptions:
    """Return the options of an import from their texts; raise `UsageError` for an option that can't be read.

    ``label_from`` and ``mapping`` may each hold several items, separated by commas.
    """
    return ImportOptions(
        None if kind is None else kind_named(kind).word,
        None if name is None else NameTemplate(name),
        None if only is None else parse_selector(only),
        None if label_from is None else tuple(each for text in label_from for each in _listed(text)),
        tuple(_mapped(each) for text in mapping or () for each in _listed(text)),
    )


def _listed(text: str) -> list[str]:
    return [each.strip() for each in text.split(",") if each.strip()]


def _mapped(text: str) -> tuple[str, str]:
    source, _, target = text.rpartition("=")
    group, _, key = target.partition(".")
    known = target in TARGETS or (group in ("labels", "hardware") and is_label_key(key))
    if not source or not known:
        raise UsageError(
            f"--map: can't read {text!r:.80}",
            hint=f"NAME=FIELD, where FIELD is {', '.join(TARGETS)}, labels.KEY or hardware.KEY",
        )
    return source, target


def read_paths(
    paths: Sequence[str | Path], stdin: BinaryIO, now: datetime, options: ImportOptions = NO_OPTIONS
) -> ImportBatch:
    """Return the hosts of files, of folders and their subfolders without hidden files, and of standard input (``-``).

    A file with the ending ``.toml`` is an inventory, and so is a file without a known ending that looks like TOML. All
    other files are of the kind in ``options``, or else of the kind that they look like. Raises :class:`UsageError` for
    a file that can't be read, and :class:`InvalidError` for a mistake in a file, for a name that two files have, and
    for a file without hosts. In a folder, files without hosts are skipped if others have hosts.
    """
    others = ForeignRecords(None if options.kind is None else kind_named(options.kind))
    try:
        parts = [part for path in paths for part in _parts(Path(path), stdin, now, options, others)]
        parts += [unpack_items(kind, items, now, options) for kind, items in others.items.items() if items]
    except InvalidError as error:
        if _PLACEHOLDER.search(error.message):
            error.hint = _FILL
        raise
    batch = combine([*parts, Part(warnings=others.warnings())], options.only)
    if options.only is None and not (batch.arrivals or batch.policy):
        for said in batch.skipped:
            origin, why = re.split(", |: ", said, maxsplit=1)
            raise _nothing(origin, why)
        for kind in others.items:
            origin = _STDIN if str(paths[0]) == "-" else str(paths[0])
            raise _nothing(origin, f"it looks like {kind_named(kind).title} without a host")
    return batch


def _parts(path: Path, stdin: BinaryIO, now: datetime, options: ImportOptions, others: ForeignRecords) -> list[Part]:
    found = [(origin, _unpack(content, origin, now, options, others)) for origin, content in _contents(path, stdin)]
    unread = _unread(path)
    if all(_is_empty(part) for _, part in found):
        origin, part = found[0]
        said = f"it looks like {part.looks_like}" if part.looks_like else part.skipped[0].removeprefix(f"{origin}, ")
        more = f", and so on for {len(found)} files" if len(found) > 1 else ""
        raise _nothing(origin, "; ".join([f"{said}{more}", *unread]), part.looks_like)
    parts = [_skipped(part, origin) if _is_empty(part) and not part.skipped else part for origin, part in found]
    return [*parts, Part(skipped=tuple(f"{path}: {said}" for said in unread))]


def _nothing(origin: str, said: str, looks_like: str | None = None) -> InvalidError:
    kinds = ""
    if looks_like and ": " not in looks_like and not looks_like.endswith((_NO_HOST, " without hosts")):
        kinds = (
            f"import reads {', '.join(WORDS)}; choose one with --from KIND, or write a CSV with name,ip,mac,bmc_ip; "
        )
    return InvalidError(
        f"{origin}: nothing to import: {said}",
        hint=f"{kinds}see bmhctl help formats",
        details={"file": origin, "looks_like": looks_like},
    )


def _is_empty(part: Part) -> bool:
    found = part.hosts or part.hardware or part.policy or part.elsewhere
    return not found and bool(part.looks_like or part.skipped)


def _skipped(part: Part, origin: str) -> Part:
    return replace(part, skipped=(f"{origin}: skipped: it looks like {part.looks_like}",))


def _unpack(content: bytes, origin: str, now: datetime, options: ImportOptions, others: ForeignRecords) -> Part:
    content = _uncompressed(content, origin)
    if looks_like := content_looks_like(content) or _look_of_place(Path(origin)):
        return Part(looks_like=looks_like)
    text = _MAAS_HEADING.sub("", decode(content, origin), 1)
    suffix = Path(origin.removesuffix(".gz")).suffix
    wanted = others.wanted
    toml = suffix == ".toml" or (suffix not in SUFFIXES and _TOML.match(text) is not None)
    kind = wanted
    if wanted is not None:
        kind = as_csv(wanted, text)
        _check_wanted(kind, text, origin, toml=toml)
    elif suffix not in SUFFIXES:
        kind = kind_of_text(text) or _kind_of_name(suffix, options)
        looks_like = text_looks_like(text)
        if looks_like and ((kind is None and not toml) or looks_like in NEVER_HOSTS):
            return Part(looks_like=looks_like)
    if toml and wanted is not None and wanted.documents and _takes_toml(text, origin, others):
        return Part(elsewhere=True)
    if kind is not None and reads_text(kind, text):
        try:
            taken = others.take_text(text, origin, kind)
        except InvalidError as error:
            error.hint = _FILL if _LOOP.search(text) else error.hint
            raise
        return Part(looks_like=None if taken else f"{kind.title}{_NO_HOST}" if text.strip() else "an empty file")
    if toml:
        try:
            return unpack_inventory(text, origin, now, options.names)
        except InvalidError as error:
            if wanted is None and _takes_toml(text, origin, others):
                return Part(elsewhere=True)
            because = "the file was read as TOML because of its first lines; --from KIND names another kind"
            error.hint = error.hint or (because if suffix != ".toml" else _hint(text, wanted))
            raise
    try:
        return unpack_manifests(text, origin, now, options.names, others)
    except InvalidError as error:
        if "field" not in error.details:  # the text is neither YAML nor JSON
            error.hint = error.hint or _hint(text, wanted)
        raise


def _takes_toml(text: str, origin: str, others: ForeignRecords) -> bool:
    """Collect the hosts of an Ansible inventory in TOML; return False for a text that is not TOML or has no hosts.

    Raises `InvalidError` that begins with ``origin``.
    """
    try:
        document = load(text, origin)
    except InvalidError:
        return False
    try:
        return others.takes_document(origin, document)
    except InvalidError as error:
        where = {"file": origin, "field": error.details["field"]}
        raise InvalidError(f"{origin}: {error.message}", hint=error.hint, details=where) from error


def _hint(text: str, wanted: Kind | None) -> str | None:
    """Return how to import a text that can't be parsed; None if it looks like no other kind of text."""
    if _TEMPLATE.search(text):
        return _FILL
    kind = kind_of_text(text) if wanted is None else None
    return None if kind is None else f"the text looks like {kind.title}: --from {kind.word} reads it"


def _look_of_place(path: Path) -> str | None:
    of_ansible = {"group_vars", "host_vars"} & {path.parent.name, path.parent.parent.name}
    return "variables of Ansible, which ansible-inventory --list joins with the hosts" if of_ansible else None


def _kind_of_name(suffix: str, options: ImportOptions) -> Kind | None:
    """Return the kind of a file by its suffix, or by an option that names a column; None if neither shows the kind."""
    if suffix == ".ini":
        return kind_named("ansible")
    named = any(target == "name" for _, target in options.mapping)
    return kind_named("csv") if suffix == ".csv" or named else None


def _check_wanted(wanted: Kind, text: str, origin: str, *, toml: bool) -> None:
    if toml and wanted.word == "bmhctl":
        return
    looks_like = look_of_text(text, wanted) or ("TOML" if toml and not reads_text(wanted, text) else None)
    if looks_like:
        raise not_as_wanted(wanted, looks_like, origin)


def _uncompressed(content: bytes, origin: str) -> bytes:
    if not content.startswith(b"\x1f\x8b"):
        return content
    import zlib

    inflate = zlib.decompressobj(wbits=31)
    try:
        text = inflate.decompress(content, MAX_BYTES + 1)
    except zlib.error as error:
        raise InvalidError(f"{origin}: not a whole gzip file: {error}", details={"file": origin}) from error
    if not inflate.eof and len(text) <= MAX_BYTES:
        raise InvalidError(f"{origin}: not a whole gzip file: it is cut off", details={"file": origin})
    return text


def _contents(path: Path, stdin: BinaryIO) -> Iterator[tuple[str, bytes]]:
    if str(path) == "-":
        yield _STDIN, stdin.read(MAX_BYTES + 1)
        return
    try:
        if not path.is_dir():
            yield str(path), read_file(path)
            return
        files = _files(path, SUFFIXES)
        if not files:
            raise UsageError(f"no file in {path} ends with {', '.join(SUFFIXES)}", hint="name the files to read")
        for file in files:
            yield str(file), read_file(file)
    except OSError as error:
        raise UsageError(f"can't read {error.filename or path}: {error.strerror}") from error


def _unread(path: Path) -> list[str]:
    """Return a line about the files in a folder that may have hosts and are not read; no line if there are none."""
    left = [str(file.relative_to(path)) for file in _files(path, _READABLE)]
    names = f"{', '.join(left[:3])}{f' and {len(left) - 3} more' if len(left) > 3 else ''}"
    return [f"{names} not read: in a folder, import reads only {', '.join(SUFFIXES)}: name the others"] if left else []


def _files(path: Path, suffixes: tuple[str, ...]) -> list[Path]:
    """Return the files of a folder and its subfolders that have these endings, without hidden ones."""
    return [
        file
        for file in sorted(path.rglob("*"))
        if file.suffix in suffixes
        and file.is_file()
        and not any(part.startswith(".") for part in file.relative_to(path).parts)
    ]
