"""Edit a TOML inventory and keep every byte that need not change, comments included.

The edited text is parsed again, and refused unless it declares exactly what the changes ask for.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

from bmhctl.domain.host_name import AS_STORED, check_name
from bmhctl.domain.host_spec import dump_spec, parse_spec
from bmhctl.domain.model import HostSpec
from bmhctl.errors import InvalidError, NotFoundError
from bmhctl.stores.toml.declaration import parse_declaration
from bmhctl.stores.toml.rewriting import Rewriting, host_key, toml_pairs
from bmhctl.support.values import Frozen, replace

_STRING_OR_COMMENT = re.compile(
    r'''"""(?:[^\\]|\\.)*?"{3,5}|\'{3}.*?\'{3,5}|"(?:[^"\\\n]|\\.)*"|\'[^\'\n]*\'|(#[^\r\n]*)''', re.S
)


class Change(Frozen):
    """A change of one host: ``old`` is its present name, ``new`` its name afterwards, ``spec`` its new declaration.

    A host that is added has no ``old`` name, and one that is removed no ``new`` one. Without ``spec``, the declaration
    stays the same.
    """

    old: str | None
    new: str | None
    spec: HostSpec | None = None

    @classmethod
    def add(cls, spec: HostSpec) -> Change:
        """Declare a host."""
        return cls(None, spec.name, spec)

    @classmethod
    def replace(cls, spec: HostSpec) -> Change:
        """Change the declaration of a host; values that stay the same keep their spelling."""
        return cls(spec.name, spec.name, spec)

    @classmethod
    def rename(cls, old: str, new: str) -> Change:
        """Give a host another name."""
        return cls(old, new)

    @classmethod
    def remove(cls, name: str) -> Change:
        """Remove a host's declaration; the comments in its tables stay."""
        return cls(name, None)


def edited(text: bytes, changes: Sequence[Change], name: str) -> bytes:
    """Return the text of a TOML inventory with the changes, made in order; ``name`` is the file's name in messages.

    Raises :class:`NotFoundError` for a host that is not declared, and :class:`InvalidError` when the text is not an
    inventory, when a name is taken, or when the changes can't be made without losing a comment or changing something
    else. In the last case, ``hint`` and ``details["by_hand"]`` say what to write by hand.
    """
    before = parse_declaration(text, name)
    changes = [_canonical(change) for change in changes]
    wanted = {spec.name: spec for spec in before.hosts}
    for change in changes:
        _apply(change, wanted, name)
    source = text.decode("utf-8")
    try:
        result = _rewritten(source, changes, before.hosts)
        after = parse_declaration(result.encode("utf-8"), name)
        exact = (
            {spec.name: spec for spec in after.hosts} == wanted
            and after.policy_text == before.policy_text
            and _comments(result) == _comments(source)
        )
    except (InvalidError, ValueError, RecursionError):
        exact = False
    if exact:
        return result.encode("utf-8")
    by_hand = _by_hand(changes, before.hosts)
    raise InvalidError(
        f"{name}: can't make this change and keep the rest of the file; nothing was changed",
        hint="edit it by hand: " + "; ".join(by_hand[:3]) + (" …" if len(by_hand) > 3 else ""),
        details={"file": name, "by_hand": by_hand},
    )


# functions that make the requested changes


def _canonical(change: Change) -> Change:
    """Return a change with the names and values that the file will have; raise `InvalidError` for an invalid one."""
    return Change(
        None if change.old is None else change.old.translate(AS_STORED),
        None if change.new is None else check_name(change.new),
        None if change.spec is None else parse_spec(change.spec.name, dump_spec(change.spec)),
    )


def _apply(change: Change, specs: dict[str, HostSpec], name: str) -> None:
    """Make a change in ``specs``; raise an error for a host that is missing or taken in the file ``name``."""
    spec = change.spec
    if change.old is not None:
        if change.old not in specs:
            hint = "see what it declares: bmhctl list"
            raise NotFoundError(f"{name} declares no host {change.old}", host=change.old, hint=hint)
        was = specs.pop(change.old)
        spec = spec or was
    if change.new is not None and spec is not None:
        if change.new in specs:
            hint = f"change it: bmhctl set {change.new} …"
            raise InvalidError(f"{name} already declares {change.new}", host=change.new, hint=hint)
        specs[change.new] = replace(spec, name=change.new)


def _by_hand(changes: Iterable[Change], hosts: Iterable[HostSpec]) -> list[str]:
    specs = {spec.name: spec for spec in hosts}
    lines = []
    for change in changes:
        match change:
            case Change(None, _, HostSpec() as spec):
                pairs = ", ".join(toml_pairs(dump_spec(spec)))
                lines.append(f"at the end write [hosts.{host_key(spec.name)}] and below it {pairs}")
            case Change(_, _, HostSpec() as spec):
                before, after = dump_spec(specs[spec.name]), dump_spec(spec)
                new = toml_pairs({key: value for key, value in after.items() if before.get(key) != value})
                gone = [key for key in before if key not in after]
                said = [f"write {', '.join(new)}"] * bool(new) + [f"delete {', '.join(gone)}"] * bool(gone)
                lines.append(f"under [hosts.{host_key(spec.name)}] {' and '.join(said) or 'change nothing'}")
            case Change(str(old), str(new_name)):
                lines.append(f"write hosts.{host_key(new_name)} for hosts.{host_key(old)} wherever it occurs")
            case Change(str(name)):
                lines.append(f"delete all of hosts.{host_key(name)}")
        _apply(change, specs, "")
    return lines


# functions that read or write text


def _comments(text: str) -> Counter[str]:
    """Return the comments of a valid TOML text; found without the scanner, in order to check the scanner's work."""
    return Counter(comment for comment in _STRING_OR_COMMENT.findall(text) if comment)


def _rewritten(text: str, changes: Sequence[Change], hosts: Iterable[HostSpec]) -> str:
    specs = {spec.name: spec for spec in hosts}
    first_line = text.find("\n")
    newline = "\r\n" if text.endswith("\r", 0, max(first_line, 0)) else "\n"
    is_open = not text.endswith("\n") and text != ""
    if is_open:
        text += newline
    for batch in _batches(changes):
        rewriting = Rewriting(text, newline)
        for change in batch:
            _write(change, specs, rewriting)
            _apply(change, specs, "")
        text = rewriting.result()
    return text.removesuffix(newline) if is_open else text


def _write(change: Change, specs: Mapping[str, HostSpec], rewriting: Rewriting) -> None:
    match change:
        case Change(None, _, HostSpec() as spec):
            rewriting.add(spec)
        case Change(_, _, HostSpec() as spec):
            rewriting.replace(specs[spec.name], spec)
        case Change(str(old), str(new)):
            rewriting.rename(old, new)
        case Change(str(name)):
            rewriting.remove(name)


def _batches(changes: Iterable[Change]) -> Iterator[list[Change]]:
    """Yield the changes in groups of different hosts, so that each group needs only one scan of the text."""
    batch: list[Change] = []
    touched: set[str] = set()
    for change in changes:
        names = {each for each in (change.old, change.new) if each is not None}
        if touched & names:
            yield batch
            batch, touched = [], set()
        batch.append(change)
        touched |= names
    yield batch
