"""The declaration of a host: parse, validate and write it, from and to plain mappings."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping
from functools import lru_cache
from itertools import chain, count
from typing import Any

from bmhctl.domain.bmc_address import redfish_endpoint, server_word, system_key, with_slashes
from bmhctl.domain.host_name import check_name
from bmhctl.domain.model import TLS_VERSIONS, Bmc, HostSpec, PropertyValue
from bmhctl.domain.selector import is_label_key, is_label_value
from bmhctl.domain.tables import Kind, check_keys, flag, one_of, require_table, text, type_error
from bmhctl.errors import InvalidError, nearest
from bmhctl.support.lazy_regex import pattern

ONE_MACHINE = "one machine under two names can be reserved twice"
"""Why a warning says that two hosts share a MAC, an address or a system of a BMC."""

_DNS_NAME = pattern(
    r"(?=.{1,253}\.?$)(?:[A-Za-z0-9_](?:[-A-Za-z0-9_]{0,61}[A-Za-z0-9])?\.)*[A-Za-z0-9](?:[-A-Za-z0-9]{0,61}[A-Za-z0-9])?\.?"
)
_MAC = pattern(r"(?:[0-9a-f]{2}:){5}(?:[0-9a-f]{2})")
_BARE_MAC = pattern(r"[0-9a-f]{4}(\.?)[0-9a-f]{4}\1[0-9a-f]{4}")  # switches write dots, other devices no separators
_NO_MACS = ("00:00:00:00:00:00", "ff:ff:ff:ff:ff:ff")
_IPV4 = pattern(r"(?:(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)(?:\.(?!$)|$)){4}", re.ASCII)
_ZONE = pattern(r"[A-Za-z0-9._-]{1,15}")
_BMC_URL = pattern(
    r"(?P<scheme>[a-z][-a-z0-9+.]*://)?(?:\[(?P<ipv6>[^/?#\[\]]+:[^/?#\[\]]*)\]|(?P<name>[^/?#\[\]:]+))"
    r"(?::(?P<port>[0-9]{1,5}))?(?P<rest>(?:/[^?#]*)?(?:\?[^#]*)?)",
    re.I,
)
_VISIBLE = pattern("[!-~]*")
_CREDENTIALS = pattern(r"(?:env:[A-Za-z_][A-Za-z0-9_]*|file:.+|command:.+)", re.S)
_CONTROL = pattern(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def parse_spec(name: str, entry: Mapping[str, object]) -> HostSpec:
    """Return a host's spec from its TOML or JSON table; raise :class:`InvalidError` that names the key."""
    name = check_name(name)
    where = f"hosts.{name}"
    _check_spec_keys(name, entry)
    return HostSpec(name, **_values(entry, _SPEC, where))


def _values(table: Mapping[str, object], kinds: Mapping[str, Kind], where: str) -> dict[str, Any]:
    """Return the values of a table with known keys; JSON may have null for a key without a value."""
    return {key: kinds[key](value, f"{where}.{key}") for key, value in table.items() if value is not None}


def _check_spec_keys(name: str, entry: Mapping[str, object]) -> None:
    try:
        check_keys(entry, SPEC_KEYS, f"hosts.{name}")
    except InvalidError as error:
        unknown = str(error.details["key"]).removeprefix(f"hosts.{name}.")
        if isinstance(entry[unknown], Mapping):  # TOML reads [hosts.a.b] as a table b in the host a
            error.hint = f'a name with dots needs quotes: [hosts."{name}.{unknown}"]'
        elif unknown.removeprefix("bmc_") in _BMC_KEYS:
            error.hint = f"write bmc.{unknown.removeprefix('bmc_')} = …"
        elif error.hint and error.hint.startswith("known here"):
            error.hint += '; for others: labels = { rack = "r1" } or hardware = { cpus = 64 }'
        raise


def dump_spec(spec: HostSpec) -> dict[str, object]:
    """Return the table that :func:`parse_spec` reads back: the keys that are set, in the order of :data:`SPEC_KEYS`."""
    entry = {
        "address": spec.address,
        "mac": spec.mac,
        "labels": dict(spec.labels) or None,
        "bmc": None if spec.bmc is None else _dump_bmc(spec.bmc),
        "hardware": dict(spec.hardware) or None,
        "note": spec.note,
    }
    return {key: value for key, value in entry.items() if value is not None}


def _dump_bmc(bmc: Bmc) -> dict[str, object]:
    entry = {key: getattr(bmc, key) for key in _BMC}
    return {key: value for key, value in entry.items() if value is not None and value is not True}


def host_variables(spec: HostSpec) -> dict[str, str]:
    """Return a host as environment variables, named without their prefix: ``HOST``, ``ADDRESS``, ``LABEL_RACK``, …

    There is no variable for an attribute that is not declared. In names, keys are in upper case, with ``_`` for all but
    letters and digits; if several keys give the same name, the later ones end in ``_2``, ``_3`` and so on.
    """
    bmc = spec.bmc
    found = {"HOST": spec.name, "ADDRESS": spec.address, "MAC": spec.mac}
    if bmc is not None:
        found |= {"BMC_ADDRESS": bmc.address, "BMC_TYPE": bmc.type, "BMC_SYSTEM_ID": bmc.system_id}
    variables = {name: value for name, value in found.items() if value}
    return variables | keyed_variables("LABEL", spec.labels) | keyed_variables("HARDWARE", spec.properties)


def keyed_variables(prefix: str, values: Mapping[str, PropertyValue]) -> dict[str, str]:
    """Return values as variables: the prefix and the key make the name, as :func:`host_variables` describes."""
    variables: dict[str, str] = {}
    for key, value in sorted(values.items()):
        variables[_unused(f"{prefix}_{re.sub('[^A-Z0-9]', '_', key.upper())}", variables)] = str(value)
    return variables


def _unused(name: str, taken: Container[str]) -> str:
    """Return the name, or the first of ``NAME_2``, ``NAME_3``, … that is not in ``taken``."""
    numbered = (f"{name}_{number}" for number in count(2))
    return next(each for each in chain((name,), numbered) if each not in taken)


def duplicates(specs: Iterable[HostSpec]) -> list[str]:
    """Return a warning, with the hosts' names, for each MAC, address and BMC system that several of the hosts have."""
    specs = tuple(specs)
    bearers: dict[tuple[str, str], list[str]] = {}
    for kind, values in (("MAC", [spec.mac for spec in specs]), ("address", [spec.address for spec in specs])):
        several = {value for value, number in Counter(values).items() if number > 1}
        for spec, value in zip(specs, values, strict=True) if several - {None} else ():
            if value is not None and value in several:
                bearers.setdefault((kind, value), []).append(spec.name)
    systems = shared_systems((spec.name, spec.bmc) for spec in specs if spec.bmc is not None)
    bearers |= {("system of a BMC,", system): names for system, names in systems}
    return [same(kind, value, names) for (kind, value), names in bearers.items()]


def shared_systems(bmcs: Iterable[tuple[str, Bmc]]) -> Iterator[tuple[str, list[str]]]:
    """Yield each BMC system that several hosts have, as the first of them declares it, and the names of these hosts.

    Different spellings of an address count as the same. IPMI addresses are left out: one may lead to several machines.
    """
    bmcs = tuple(bmcs)
    words = [server_word(bmc.address) for _, bmc in bmcs]
    several = {word for word, number in Counter(words).items() if number > 1}
    servers: dict[str, list[tuple[str, Bmc]]] = {}
    for named, word in zip(bmcs, words, strict=True) if several else ():
        if word in several:
            servers.setdefault(word, []).append(named)
    for neighbours in servers.values():
        systems: dict[object, list[tuple[str, Bmc]]] = {}
        for name, bmc in neighbours:
            systems.setdefault(system_key(bmc.address, bmc.system_id), []).append((name, bmc))
        for key, sharing in systems.items():
            if key is not None and len(sharing) > 1:
                first = sharing[0][1]
                yield f"{first.address} {first.system_id or ''}".strip(), [name for name, _ in sharing]


def same(kind: str, value: str, names: list[str]) -> str:
    """Return the warning for hosts with one ``value`` of a ``kind``: a MAC, an address or a system of a BMC."""
    shown = names if len(names) <= 4 else [*names[:3], f"{len(names) - 3} others"]
    who = f"{', '.join(shown[:-1])} and {shown[-1]}"
    return f"{who} have the same {kind} {value}: {ONE_MACHINE}"


def _line(value: object, where: str) -> str:
    line = text(value, where)
    # isprintable first: it is many times as fast as the search, and true for most texts.
    if len(line) > 1000 or not (line.isprintable() or not _CONTROL.search(line)):
        raise type_error(where, "one line of at most 1000 characters without control characters", line)
    return line


def _address(value: object, where: str) -> str:
    address = text(value, where)
    if not is_network_name(address):
        error = type_error(where, "an IP address or a DNS name", address)
        error.hint = _name_in_dns(address) or error.hint
        raise error
    return address


def _name_in_dns(value: str) -> str | None:
    """Return a hint with the form that DNS has of a name with letters beyond ASCII; None for any other text."""
    try:
        name = value.encode("idna").decode()
    except UnicodeError:
        return None
    return None if name == value.lower() or not is_network_name(name) else f"in DNS it is {name}"


def is_network_name(value: str) -> bool:
    """Return whether a text is an IP address or a DNS name."""
    if _IPV4.fullmatch(value) or (_DNS_NAME.fullmatch(value) and not value.rsplit(".", 1)[-1].isdigit()):
        return True
    return is_ip(value) and ("%" not in value or _ZONE.fullmatch(value.partition("%")[2]) is not None)


def is_ip(value: str) -> bool:
    """Return whether a text is an IP address."""
    if _IPV4.fullmatch(value):  # most addresses are IPv4, and the pattern is much faster than ipaddress
        return True
    from ipaddress import ip_address

    try:
        ip_address(value)
    except ValueError:
        return False
    return True


def known_mac(value: str | None) -> str | None:
    """Return a MAC that another system gave; None for zeros and ``ff:…``, with which it marks an unknown MAC."""
    return None if value is None or normal_mac(value) in _NO_MACS else value


def normal_mac(value: str) -> str | None:
    """Return a MAC in lower case with colons, whatever separators it has; None for a text that is not a MAC."""
    mac = value.strip().lower().replace("-", ":")
    if _MAC.fullmatch(mac):
        return mac
    bare = mac.replace(".", "") if _BARE_MAC.fullmatch(mac) else ""
    return ":".join(bare[at : at + 2] for at in range(0, 12, 2)) if bare else None


def _mac(value: object, where: str) -> str:
    mac = normal_mac(text(value, where))
    if mac is None:
        raise type_error(where, "a MAC address such as bc:55:85:92:de:b7", value)
    return mac


def _labels(table: object, where: str) -> dict[str, str]:
    labels = {}
    for key, value in require_table(table, where).items():
        if not is_label_key(key):
            raise InvalidError(
                f"{where}: {key!r:.80} is not a label key",
                hint="at most 63 letters, digits, '-', '_' and '.', after an optional 'dns.name/'",
                details={"key": where},
            )
        if not isinstance(value, str) or not is_label_value(value):
            raise type_error(f"{where}.{key}", "a text of at most 63 letters, digits, '-', '_' and '.'", value)
        labels[key] = value
    return labels


def parse_properties(table: object, where: str) -> dict[str, PropertyValue]:
    """Return the hardware properties in a table; raise :class:`InvalidError` for an invalid key or value."""
    hardware: dict[str, PropertyValue] = {}
    for key, value in require_table(table, where).items():
        if not is_label_key(key):
            raise InvalidError(f"{where}: {key!r:.80} is not a key", hint="use letters, digits, '-', '_' and '.'")
        if isinstance(value, str):
            _line(value, f"{where}.{key}")
        elif isinstance(value, bool) or not isinstance(value, int):
            raise type_error(f"{where}.{key}", 'a text, a whole number or a size such as "256GiB"', value)
        elif abs(value) >= 2**63:
            raise type_error(f"{where}.{key}", "a number of at most 63 bits", value)
        hardware[key] = value
    return hardware


def _bmc(value: object, where: str) -> Bmc:
    table = require_table(value, where)
    for key in table:
        if key not in _BMC and nearest(key.lower(), ("password", "username", "user", "token", "secret")):
            raise InvalidError(
                f"{where}.{key}: an inventory holds no secrets",
                hint='keep it elsewhere and refer to it: credentials = "env:NAME", "file:PATH" or "command:…"',
                details={"key": f"{where}.{key}"},
            )
    check_keys(table, _BMC_KEYS, where)
    entry = _values(table, _BMC, where)
    if "address" not in entry:
        raise InvalidError(
            f"{where} has no address",
            hint='such as address = "redfish+https://10.0.1.11/redfish/v1/Systems/1"',
        )
    entry["address"] = _bmc_address(entry["address"], entry.get("system_id"), f"{where}.address")
    return Bmc(**entry)


def _credentials(value: object, where: str) -> str:
    credentials = _line(value, where)
    if not _CREDENTIALS.fullmatch(credentials):
        raise InvalidError(
            f"{where} is not a reference",  # never show the value: it may be a password
            hint='an inventory holds no secrets: refer to them with "env:NAME", "file:PATH" or "command:…"',
            details={"key": where},
        )
    return credentials


def _bmc_address(address: str, system_id: str | None, where: str) -> str:
    if "@" in address:  # anywhere in the address: a parser would end the password at its first "/"
        raise InvalidError(
            f"{where} holds a user name or a password",
            hint='an inventory holds no secrets: use credentials = "env:NAME"',
            details={"key": where},
        )
    address = with_slashes(address)
    match = _BMC_URL.fullmatch(address) if _VISIBLE.fullmatch(address) else None
    scheme, ipv6, name, port, rest = match.groups("") if match else [""] * 5
    if not match or not is_network_name(ipv6 or name) or not 0 < int(port or 443) <= 65535 or len(address) > 1000:
        error = type_error(where, "a BMC address such as redfish+https://10.0.1.11/redfish/v1/Systems/1", address)
        named = _BMC_URL.fullmatch(address)
        error.hint = _name_in_dns((named and named["name"]) or "") or error.hint
        if is_ip(address.partition("://")[2].partition("/")[0]):
            error.hint = "an IPv6 address stands in brackets: redfish+https://[fd00::1]/redfish/v1/Systems/1"
        raise error
    try:
        _check_resource(scheme, rest, system_id)
    except ValueError as error:
        raise InvalidError(
            f"{where} {address}: {error}",
            hint="…/redfish/v1/Systems/ID names a system; a prefix may stand before /redfish/v1",
            details={"key": where},
        ) from None
    return address


@lru_cache(maxsize=1000)  # apart from the host names, most BMC addresses of a fleet are the same
def _check_resource(scheme: str, rest: str, system_id: str | None) -> None:
    redfish_endpoint(f"{scheme}bmc{rest}", system_id)


_BMC: dict[str, Kind] = {
    "address": text,
    "type": _line,
    "system_id": _line,
    "credentials": _credentials,
    "verify_tls": flag,
    "tls_min_version": one_of(*TLS_VERSIONS),
}
_SPEC: dict[str, Kind] = {
    "address": _address,
    "mac": _mac,
    "labels": _labels,
    "bmc": _bmc,
    "hardware": parse_properties,
    "note": _line,
}
_BMC_KEYS = tuple(_BMC)
SPEC_KEYS = tuple(_SPEC)
"""The keys of the table of a host."""
