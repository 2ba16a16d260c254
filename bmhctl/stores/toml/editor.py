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


class Add(Frozen):
    """Declare a host."""

    spec: HostSpec


class Replace(Frozen):
    """Change the declaration of a host; values that stay the same keep their spelling."""

    spec: HostSpec


class Rename(Frozen):
    """Give a host another name."""

    old: str
    new: str


class Remove(Frozen):
    """Remove a host's declaration; the comments in its tables stay."""

    name: str


Change = Add | Replace | Rename | Remove


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
    match change:
        case Add(spec) | Replace(spec):
            return replace(change, spec=parse_spec(spec.name, dump_spec(spec)))
        case Rename(old, new):
            return Rename(old.translate(AS_STORED), check_name(new))
        case Remove(gone):
            return Remove(gone.translate(AS_STORED))


def _names(change: Change) -> set[str]:
    match change:
        case Add(spec) | Replace(spec):
            return {spec.name}
        case Rename(old, new):
            return {old, new}
        case Remove(name):
            return {name}


def _apply(change: Change, specs: dict[str, HostSpec], name: str) -> None:
    match change:
        case Add(spec):
            _refuse_taken(spec.name, specs, name)
            specs[spec.name] = spec
        case Replace(spec):
            _require(spec.name, specs, name)
            specs[spec.name] = spec
        case Rename(old, new):
            _require(old, specs, name)
            if new != old:
                _refuse_taken(new, specs, name)
                specs[new] = replace(specs.pop(old), name=new)
        case Remove(gone):
            _require(gone, specs, name)
            del specs[gone]


def _require(host: str, specs: Mapping[str, HostSpec], name: str) -> None:
    if host not in specs:
        raise NotFoundError(f"{name} declares no host {host}", host=host, hint="see what it declares: bmhctl list")


def _refuse_taken(host: str, specs: Mapping[str, HostSpec], name: str) -> None:
    if host in specs:
        raise InvalidError(f"{name} already declares {host}", host=host, hint=f"change it: bmhctl set {host} …")


def _by_hand(changes: Iterable[Change], hosts: Iterable[HostSpec]) -> list[str]:
    specs = {spec.name: spec for spec in hosts}
    lines = []
    for change in changes:
        match change:
            case Add(spec):
                pairs = ", ".join(toml_pairs(dump_spec(spec)))
                lines.append(f"at the end write [hosts.{host_key(spec.name)}] and below it {pairs}")
            case Replace(spec):
                before, after = dump_spec(specs[spec.name]), dump_spec(spec)
                new = toml_pairs({key: value for key, value in after.items() if before.get(key) != value})
                gone = [key for key in before if key not in after]
                said = [f"write {', '.join(new)}"] * bool(new) + [f"delete {', '.join(gone)}"] * bool(gone)
                lines.append(f"under [hosts.{host_key(spec.name)}] {' and '.join(said) or 'change nothing'}")
            case Rename(old, new_name):
                lines.append(f"write hosts.{host_key(new_name)} for hosts.{host_key(old)} wherever it occurs")
            case Remove(name):
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
        case Add(spec):
            rewriting.add(spec)
        case Replace(spec):
            rewriting.replace(specs[spec.name], spec)
        case Rename(old, new):
            rewriting.rename(old, new)
        case Remove(name):
            rewriting.remove(name)


def _batches(changes: Iterable[Change]) -> Iterator[list[Change]]:
    """Yield the changes in groups of different hosts, so that each group needs only one scan of the text."""
    batch: list[Change] = []
    touched: set[str] = set()
    for change in changes:
        names = _names(change)
        if touched & names:
            yield batch
            batch, touched = [], set()
        batch.append(change)
        touched |= names
    yield batch
