"""Ansible inventories: YAML, TOML, INI, and the JSON of `ansible-inventory --list` or of an inventory script."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterable, Mapping
from itertools import product
from typing import TypeGuard

from bmhctl.domain.host_spec import is_ip
from bmhctl.errors import InvalidError
from bmhctl.formats.importers.record import (
    BMC_DNS_NAMES,
    BMC_NAMES,
    IPMI_NAMES,
    MAC_NAMES,
    Item,
    Record,
    alone,
    bad_line,
    bmc_url,
    port_of,
    text_of,
)
from bmhctl.formats.manifest_fields import bad_field
from bmhctl.support.values import Frozen

_ALL = ("all", "ungrouped")
_GROUP_KEYS = {"hosts", "vars", "children"}
_NOT_OF_A_GROUP = "skipped: a group has only hosts, vars and children"
_SECTION = re.compile(r"\[([^\]:\s]+)(?::(\w+))?\]\s*(?:[#;].*)?")
_RANGE = re.compile(r"\[(\w*):(\w+)(?::(\d+))?\]")
_PORT = re.compile(r"(.+):(\d{1,5})")
_MOST_HOSTS = 100_000
_MOST_LEVELS = 100
_LONGEST_LINE = 20_000
_NUMBER = re.compile(r"-?[0-9]{1,9}")
_QUOTED = re.compile(r"[\"'\\#]")
_MACS = (*MAC_NAMES, "bmh_mac")
_LOCAL = ("localhost", "127.0.0.1", "::1")
_ADDRESSES = ("ansible_host", "ansible_ssh_host")
_BMCS = {"redfish+https": (*BMC_NAMES, *BMC_DNS_NAMES, "baseuri"), "ipmi": IPMI_NAMES}
_OF_BMC = ("bmc", "redfish", "idrac", "ilo", "ipmi")
"""The variables that may be a mapping: ``bmc: {ip: 10.0.1.1}`` is read as ``bmc_ip: 10.0.1.1``."""


class _Group:
    def __init__(self) -> None:
        self.hosts: dict[str, dict[str, object]] = {}
        self.variables: dict[str, object] = {}
        self.children: dict[str, None] = {}


class _Parsed(Frozen):
    """An inventory as its groups, and the variables of hosts."""

    groups: dict[str, _Group]
    hosts: dict[str, dict[str, object]]

    def group(self, name: str) -> _Group:
        """Return the group of this name, and create it if it is new."""
        return self.groups.setdefault(name, _Group())


def read_document(document: object, place: str) -> list[Item] | None:
    """Return the hosts of a YAML, JSON or TOML document; None if it is not an inventory."""
    if not _is_inventory(document):
        return None
    parsed = _Parsed({}, {})
    skipped = []
    top = document.get("all")
    # Only what a script prints has groups that are lists; in a file of YAML, hosts and children are mappings.
    is_file = isinstance(top, dict) and any(isinstance(top.get(key), dict) for key in ("hosts", "children"))
    for name, body in document.items():
        if name != "_meta" and (not _is_group(body) or (is_file and isinstance(body, list))):
            skipped.append(Item(place, {}, skipped=f"{name!s:.80} skipped: not a group"))
        elif name == "_meta":
            variables = body.get("hostvars") if isinstance(body, dict) else None
            for host, values in _mapping(variables, "_meta.hostvars").items():
                parsed.hosts.setdefault(str(host), {}).update(_mapping(values, "_meta.hostvars", host))
        else:
            said = _take_group(parsed, str(name), body)
            skipped += [Item(place, {}, skipped=f"{each} {_NOT_OF_A_GROUP}") for each in said]
    return skipped + _items(parsed, place)


def _is_inventory(document: object) -> TypeGuard[dict[object, object]]:
    if not isinstance(document, dict) or not document:
        return False
    groups = {name: body for name, body in document.items() if name != "_meta"}
    if not document.keys() & {"all", "_meta"} and any(_has_other_keys(body) for body in groups.values()):
        return False  # lists of hosts beside other keys are in the configuration of many programs
    script = isinstance(document.get("_meta"), dict) and "hostvars" in document["_meta"]
    # Ansible skips what is not a group, such as the values of anchors; without a group ``all``, it is another document.
    if not (all(_is_group(body) for body in groups.values()) or ("all" in groups and _is_group(groups["all"]))):
        return False
    return script or any(isinstance(body, dict) and body.keys() & {"hosts", "children"} for body in groups.values())


def _is_group(body: object) -> bool:
    if isinstance(body, dict):
        own = body.keys() & _GROUP_KEYS
        # Ansible skips the other keys of a group, with a warning.
        return own == body.keys() or (bool(own) and all(_is_names(body[key]) for key in own))
    return body is None or (isinstance(body, list) and _is_names(body))


def _has_other_keys(body: object) -> bool:
    return isinstance(body, dict) and not body.keys() <= _GROUP_KEYS and not isinstance(body.get("hosts"), dict)


def _is_names(body: object) -> bool:
    """Return whether a value can be the hosts or children of a group; inventory scripts may write them as a list."""
    if isinstance(body, list):
        return all(isinstance(each, str) for each in body)
    return isinstance(body, dict | str | None)


def _mapping(value: object, path: str, key: object = None) -> Mapping[str, object]:
    """Return a value that must be a mapping; ``path``, and ``key`` in it, are where it is."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise bad_field(path if key is None else f"{path}.{key!s:.80}", "must be a mapping")
    return value


def _named(value: object, path: str) -> Mapping[str, object]:
    """Return hosts or children as a mapping; Ansible also accepts a single name, and a list in what a script prints."""
    if isinstance(value, str):
        value = [value]
    return {str(each): None for each in value} if isinstance(value, list) else _mapping(value, path)


def _take_group(parsed: _Parsed, name: str, body: object) -> list[str]:
    """Add a group and all groups inside it, at any depth; return the keys that a group can't have."""
    pending: list[tuple[str, object]] = [(name, body)]
    unknown = []
    while pending:
        name, body = pending.pop()
        group = parsed.group(name)
        if isinstance(body, list):
            body = {"hosts": body}
        fields = _mapping(body, name)
        where = f"{name}.hosts"
        for pattern, variables in _named(fields.get("hosts"), where).items():
            values = _mapping(variables, where, pattern)
            for host in _expanded(pattern, where):
                group.hosts.setdefault(host, {}).update(values)
        group.variables.update(_mapping(fields.get("vars"), f"{name}.vars"))
        for child, inner in _named(fields.get("children"), f"{name}.children").items():
            group.children[child] = None
            pending.append((child, inner))
        unknown += [f"{name:.80}.{key!s:.80}" for key in fields if key not in _GROUP_KEYS]
    return unknown


def read_text(text: str, origin: str) -> list[Item]:
    """Return the hosts of an INI inventory; raise `InvalidError` that names the line of a mistake."""
    parsed = _Parsed({}, {})
    section, kind = "ungrouped", "hosts"
    for number, line in enumerate(text.splitlines(), 1):
        line = line.strip()
        if not line or line[0] in "#;":
            continue
        try:
            if line[0] == "[" and (match := _SECTION.fullmatch(line)):
                section, kind = match[1], match[2] or "hosts"
                if kind not in _GROUP_KEYS:
                    raise bad_field("", f"[{section}:{kind}] is not a kind of section (vars or children)")
                parsed.group(section)
            elif kind == "vars":
                key, equals, value = line.partition("=")
                if not equals:
                    raise _not_a_variable()
                parsed.group(section).variables[key.strip()] = _literal(value.strip())
            elif kind == "children":
                child = line.partition("#")[0].strip()
                parsed.group(section).children[child] = None
                parsed.group(child)
            else:
                _take_line(parsed.group(section), line)
        except InvalidError as error:
            raise bad_line(origin, number, error.message, error.hint) from error
    return _items(parsed, origin)


def _take_line(group: _Group, line: str) -> None:
    if len(line) > _LONGEST_LINE:
        raise bad_field("", f"longer than {_LONGEST_LINE} characters")
    try:
        # Most lines do not need shlex, which takes 20 times as long.
        pattern, *words = shlex.split(line, comments=True) if _QUOTED.search(line) else line.split()
    except ValueError as error:
        raise bad_field("", f"{str(error).lower()} in the line of a host") from error
    variables: dict[str, object] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals:
            raise _not_a_variable("a value with spaces needs quotes")
        variables[key] = _literal(value) if value[:1] in ("[", "{") else value  # a number may stay a text
    for host in _expanded(pattern, "host"):
        group.hosts.setdefault(host, {}).update(variables)


def _not_a_variable(hint: str | None = None) -> InvalidError:
    # The message does not show the text, which may be a part of a password.
    return bad_field("", "a variable must be KEY=VALUE", hint=hint)


def _literal(text: str) -> object:
    """Return the value of a variable, as Ansible reads it: a literal of Python or a text."""
    try:
        return ast.literal_eval(text)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return text


def _expanded(pattern: str, where: str) -> list[str]:
    """Return the hosts of a pattern such as ``web[01:10].lab`` or ``db-[a:c]``, without a port at its end."""
    if "[" not in pattern and ":" not in pattern:
        return [pattern]
    if (match := _PORT.fullmatch(pattern)) and (":" not in _RANGE.sub("", match[1]) or match[1].endswith("]")):
        pattern = match[1]
    if pattern.startswith("[") and pattern.endswith("]") and not _RANGE.search(pattern):
        pattern = pattern[1:-1]  # an IPv6 address
    parts = _RANGE.split(pattern)
    if len(parts) == 1:
        return [pattern]
    texts, choices, total = parts[::4], [], 1
    for first, last, step in zip(parts[1::4], parts[2::4], parts[3::4], strict=True):
        choices.append(values := _range(first or "0", last, int(step or 1), where))
        total *= len(values)
        if total > _MOST_HOSTS:
            raise bad_field(where, f"{pattern!r:.80} stands for more than {_MOST_HOSTS} hosts")
    return ["".join(text + value for text, value in zip(texts, (*each, ""), strict=True)) for each in product(*choices)]


def _range(first: str, last: str, step: int, where: str) -> list[str]:
    if first.isdigit() and last.isdigit() and first.isascii() and last.isascii() and len(last) < 10 and step:
        if len(first) > 1 and first[0] == "0" and len(first) != len(last):
            raise bad_field(where, f"[{first}:{last}]: both ends must have as many digits")
        width = len(first) if first[0] == "0" else 0
        numbers = range(int(first), int(last) + 1, step)
        if len(numbers) > _MOST_HOSTS:
            raise bad_field(where, f"[{first}:{last}] stands for more than {_MOST_HOSTS} hosts")
        values = [f"{number:0{width}d}" for number in numbers]
    elif len(first) == len(last) == 1 and first.isascii() and first.isalpha() and last.isascii() and step:
        values = [chr(code) for code in range(ord(first), ord(last) + 1, step)]
    else:
        values = []
    if not values:
        raise bad_field(where, f"[{first:.20}:{last:.20}] is not a range", hint="such as [01:10], [a:f] or [0:10:2]")
    return values


def _items(parsed: _Parsed, place: str) -> list[Item]:
    """Return one item for each host, with its groups, and with the values that its variables have in Ansible."""
    parsed.group("ungrouped")
    ancestors = _ancestors(parsed.groups)
    direct: dict[str, list[str]] = {}
    own: dict[str, dict[str, object]] = {}
    for name, group in parsed.groups.items():
        for host, variables in group.hosts.items():
            direct.setdefault(host, []).append(name)
            own.setdefault(host, {}).update(variables)
    for host in parsed.hosts:
        direct.setdefault(host, [])
    of_groups: dict[tuple[str, ...], tuple[list[str], dict[str, object]]] = {}
    items = []
    for host, groups in direct.items():
        key = tuple(name for name in groups if name not in _ALL) or ("ungrouped",)
        if key not in of_groups:
            of_groups[key] = _inherited(parsed.groups, ancestors, key)
        names, variables = of_groups[key]
        known = {**variables, **own.get(host, {}), **parsed.hosts.get(host, {})}
        data: dict[str, object] = {"groups": names, "variables": known}
        items.append(Item(f"{place}, host {host:.80}", data, host))
    return items


def _ancestors(groups: Mapping[str, _Group]) -> dict[str, dict[str, int]]:
    """Return for each group the groups that contain it, with their distances; 0 is the group itself.

    Raise an error if groups contain each other in a circle.
    """
    parents: dict[str, list[str]] = {}
    for name, group in groups.items():
        for child in group.children:
            parents.setdefault(child, []).append(name)
    found: dict[str, dict[str, int]] = {}
    for name in groups:
        level, distance, seen = [name], 0, {name: 0}
        while level:
            distance += 1
            level = list(dict.fromkeys(parent for each in level for parent in parents.get(each, ())))
            if name in level:
                raise bad_field(name, "the group contains itself")
            if distance > _MOST_LEVELS:
                raise bad_field(name, f"groups nest deeper than {_MOST_LEVELS} levels, or in a circle")
            seen |= dict.fromkeys(level, distance)
        found[name] = seen
    return found


def _inherited(
    groups: Mapping[str, _Group], ancestors: Mapping[str, Mapping[str, int]], direct: Iterable[str]
) -> tuple[list[str], dict[str, object]]:
    distances: dict[str, int] = {"all": len(groups) + 1} if "all" in groups else {}
    for name in direct:
        for each, distance in ancestors[name].items():
            distances[each] = max(distance, distances.get(each, 0))
    variables: dict[str, object] = {}
    for name in sorted(distances, key=lambda each: (-distances[each], _priority(groups[each]), each)):
        variables |= groups[name].variables
    return [name for name in distances if name not in _ALL], variables


def _priority(group: _Group) -> int:
    """Return which of several groups at one distance counts, if they set the same variable: that with the highest."""
    text = str(group.variables.get("ansible_group_priority"))
    return int(text) if _NUMBER.fullmatch(text) else 1


@alone
def reader(item: Item) -> Record | str:
    """Return the host of an item."""
    variables = item.data["variables"]
    groups = item.data["groups"]
    if not isinstance(variables, dict) or not isinstance(groups, list) or item.name is None:
        raise TypeError("this reader takes only the items that this module makes")
    if item.name in _LOCAL:
        return f"{item.name} skipped: it is the machine that runs Ansible"
    warnings: list[str] = []
    address = _first(variables, _ADDRESSES, warnings)
    if address is None and is_ip(item.name):
        address = item.name
    if address in _LOCAL:
        warnings.append("gets no address: ansible_host is the machine that runs Ansible")
        address = None
    mac = _first(variables, _MACS, warnings)
    return Record(
        item.name,
        address=address,
        macs=[mac] if mac else (),
        bmc=_bmc(variables, warnings),
        groups=groups,
        attributes=variables,
        warnings=warnings,
    )


def _bmc(variables: Mapping[str, object], warnings: list[str]) -> dict[str, object]:
    inner = {key: each for key in _OF_BMC if isinstance(each := variables.get(key), dict)}
    if inner:
        flat = {f"{key}_{name}": value for key, each in inner.items() for name, value in each.items()}
        variables = {**flat, **variables}
    for scheme, keys in _BMCS.items():
        for key in keys:
            if key in variables and (found := _first(variables, (key,), warnings)) is not None:
                port = f"{key.rpartition('_')[0] or key}_port"  # ipmi_port beside ipmi_ip
                return {"address": bmc_url(found, scheme), "port": port_of(_first(variables, (port,), warnings))}
    return {}


def _first(variables: Mapping[str, object], keys: Iterable[str], warnings: list[str]) -> str | None:
    """Return the first of some variables that is set. A value that is a template is skipped, with a warning."""
    for key in keys:
        text = text_of(variables[key]) if key in variables else None
        if text is not None and "{{" in text:
            warnings.append(f"{key} is a template, which is not evaluated")
        elif text is not None:
            return text
    return None
