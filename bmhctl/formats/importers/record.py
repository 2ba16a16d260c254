"""A host in the words of another system, and how it becomes a host to import: the common part of all importers."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from fnmatch import fnmatchcase
from functools import lru_cache

from bmhctl.domain.bmc_address import with_scheme
from bmhctl.domain.host_spec import is_ip, known_mac, normal_mac
from bmhctl.domain.model import HostSpec, PropertyValue, State
from bmhctl.domain.selector import Selector, is_label_key, is_label_value
from bmhctl.domain.units import format_size, quantity
from bmhctl.errors import InvalidError
from bmhctl.formats.import_batch import FoundHost, Nic, Source, entering
from bmhctl.formats.manifest_fields import Fields, bad_field
from bmhctl.formats.naming import NameTemplate, host_name, spec_of
from bmhctl.support.lazy_regex import pattern
from bmhctl.support.values import Frozen, field

TARGETS = ("name", "address", "mac", "note", "owner", "state", "id", "bmc.address", "bmc.type", "bmc.system_id")
"""The targets of ``--map COLUMN=TARGET``, besides ``labels.KEY`` and ``hardware.KEY``."""

GROUPS = "groups"
"""The word of ``--label-from`` for the groups or tags of a host."""

MAC_NAMES = (
    *("mac", "mac_address", "macaddress", "hwaddr", "boot_mac", "boot_mac_address", "pxe_mac"),
    *("provision_mac", "provisioning_mac"),
)
_ADDRESSES = ("address", "host", "ip", "url", "hostname", "fqdn")
_BMCS = ("redfish", "idrac", "ilo")
BMC_NAMES = (
    *("bmc_address", "bmc_host", "bmc_ip", "bmc_url", "oob_ip"),
    *(f"{bmc}_{address}" for bmc in _BMCS for address in ("address", "host", "ip", "url")),
)
BMC_DNS_NAMES = tuple(f"{bmc}_{name}" for bmc in ("bmc", *_BMCS) for name in ("hostname", "fqdn"))
IPMI_NAMES = tuple(f"ipmi_{address}" for address in _ADDRESSES)
"""The names of variables and columns that have the MAC of a host, or the address of its BMC; the first one counts."""

_BMC_WORDS = frozenset(
    ("bmc", "ipmi", "drac", "idrac", "ilo", "oob", "redfish", "cimc", "irmc", "rmc", "xcc", "imm", "lom")
)
_ADDRESS_WORDS = frozenset((*_ADDRESSES, "addr", "ipv", "dns", "uri"))
_BETWEEN_WORDS = pattern(r"(?<=[a-z])(?=[A-Z])|[^A-Za-z0-9]+")
_NO_ADDRESSES = ("", "none", "true", "false", "yes", "no")
_PATHS = {"name": "name", "namespace": "namespace", "id": "id", "labels": ""}
_MEMBER = "true"  # the value of a label that stands for a group or a tag
_NOT_IN_LABEL = pattern(r"[^A-Za-z0-9_.-]+")
_USER = pattern(r"(?<=//)[^/@]*@")
_PASSWORD = pattern(r"(?<=//)[^/@\s]*:[^/@\s]+@")
"""A name and a password in a URL."""
_SERVER = pattern(r"\A[^/]+//(?:[^/@]*@)?(?:\[[^]/]*\]|[^]/@:[]+)(?::(\d+))?(?=/|\Z)")
"""The protocol and the server of a URL, with its port if it has one."""
_PREFIX = pattern(r"([^/]*)/\d{1,3}")
_SECRET = pattern(
    r"(?:^|[^a-z])pass(?:$|[^a-z])|passw|pswd|passphrase|pwd|secret|token|credential|(?:private|api|access|ssh)_?key"
    r"|(?:^|_)(?:auth(?:$|_key)|pw(?:$|_)|k_?g(?:$|_))|community|vault"
)
_NOT_SECRET = pattern(r"secret_?ref|(?:credentials|secret)_?name|(?<!private_key)_(?:file|path)$")
_UNTITLED = pattern(r"column \d+")  # of a CSV
_KEYS = pattern(r"(?<![\w -])[\"' ]{0,3}([\w-][\w -]{0,100})[\"']?\s{0,9}:")
"""A key of a mapping in JSON, as Python writes it, or without quotes as in YAML."""
_VAULT = "$ANSIBLE_VAULT;"
_IPMI_PORT, _HTTPS_PORT = 623, 443


class Item(Frozen):
    """One record of a file: ``place`` is its position, ``name`` its key if it has one.

    ``skipped`` explains why it has no host, if that is clear before it is read.
    """

    place: str
    data: Mapping[str, object]
    name: str | None = None
    skipped: str | None = None

    @property
    def fields(self) -> Fields:
        """The record, as fields that know their path."""
        return Fields(self.data)


class Record(Frozen):
    """What another system knows about one host, in the words of bmhctl; unknown values are None or empty.

    ``word`` is the other system's word for the host's state, ``state`` the state in bmhctl. If ``state`` is None, the
    host is not imported, and ``gone`` says why. ``macs`` begins with the MAC of the boot interface. The ``port`` of
    ``bmc`` becomes part of its ``address``, unless it is a usual one or the address has another. ``groups`` become
    labels if ``--label-from`` names them, for some kinds also without the option. ``attributes`` (host variables,
    columns, custom fields) become labels only if ``--label-from`` names them; ``used`` are the attributes that already
    fill another field.
    """

    name: str | None
    id: str | None = None
    namespace: str | None = None
    address: str | None = None
    macs: Sequence[str] = ()
    bmc: Mapping[str, object] = field(default_factory=dict)
    labels: Mapping[str, str | None] = field(default_factory=dict)
    groups: Sequence[str] = ()
    attributes: Mapping[str, object] = field(default_factory=dict)
    hardware: Mapping[str, PropertyValue | None] = field(default_factory=dict)
    note: str | None = None
    word: str | None = None
    state: State | None = State.INITIAL
    gone: str = ""
    owner: str | None = None
    fault: str | None = None
    aside: Sequence[str] = ()
    secret: Source | None = None
    warnings: Sequence[str] = ()
    used: Sequence[str] = ()


Reader = Callable[[Item], Record | str]
"""Returns the host that an item of a file declares, or a line that explains why there is none."""


def alone(read: Reader) -> Callable[[list[Item]], Reader]:
    """Make the ``reader`` of a kind's module from a function that reads each item without the others."""
    return lambda _: read


class ImportOptions(Frozen):
    """How the hosts of an import are chosen, named and labelled; ``kind`` is that of the files (None: recognise it)."""

    kind: str | None = None
    names: NameTemplate | None = None
    only: Selector | None = None
    label_from: tuple[str, ...] | None = None
    mapping: tuple[tuple[str, str], ...] = ()


def found_host(record: Record, place: str, now: datetime, options: ImportOptions) -> FoundHost | str | None:
    """Return the host of a record, or a line that explains why it has none; None if ``--only`` excludes it.

    Raise `InvalidError` that names the field of a mistake.
    """
    mapped = dict(_mapped(record, options)) if options.mapping else {}
    labels = _labels(record, mapped, options)
    hardware = {
        key: value
        for key, value in record.hardware.items()
        if value not in (None, "", 0) and not (isinstance(value, str) and _has_secret(value))
    }
    hardware |= {key: _fact(value) for key, value in _below("hardware.", mapped).items()}
    if len(record.macs) > 1 and "nics" not in hardware:
        hardware["nics"] = len({mac.lower() for mac in record.macs})
    if options.only is not None and not options.only.fits(HostSpec("x", labels=labels, hardware=hardware)):
        return None
    name = (mapped.get("name") or record.name or "").removesuffix(".") or None  # absolute DNS names end with a dot
    identity = mapped.get("id") or record.id
    word, state = record.word, record.state
    if "state" in mapped:
        word, state = mapped["state"], _own_state(mapped["state"])
    if state is None:
        return f"{name or identity or 'a host':.100} skipped: {record.gone}"
    if name is None and (options.names is None or options.names.needs("name")):
        way = ": --name 'host-{id}' names it" if identity else ": add one there"
        return f"{identity or 'a host':.100} skipped: it has no name in the file{way}"
    named = host_name(options.names, name or "", labels, record.namespace, identity, _PATHS)
    bmc, ignored = _with_port({key: value for key, value in record.bmc.items() if value is not None})
    spec = _spec(named, record, mapped, labels, hardware, bmc | _below("bmc.", mapped))
    owner = mapped.get("owner") or record.owner
    if owner is None and state is State.RESERVED:
        owner = f"unknown ({word})"
    host = entering(
        spec,
        state,
        now,
        owner=owner if state in (State.RESERVED, State.MAINTENANCE) or "owner" in mapped else None,
        fault=record.fault,
        aside=record.aside or (("in maintenance in the other system",) if state is State.MAINTENANCE else ()),
    )
    said = (*record.warnings, *ignored)
    return FoundHost(host, word or None, place, secret=record.secret, id=identity, warnings=said)


def _mapped(record: Record, options: ImportOptions) -> Iterator[tuple[str, str]]:
    for source, target in options.mapping:
        value = text_of(record.attributes.get(source))
        if value is not None and not is_secret(source) and not _has_secret(value):
            value = _without_password(value)
            scheme = "ipmi" if "ipmi" in source.lower() else "redfish+https"
            yield target, (bmc_url(value, scheme) or value) if target == "bmc.address" else value


def _below(group: str, mapped: Mapping[str, str]) -> dict[str, str]:
    """Return the mapped values of a group, such as ``labels.``, by their keys in it."""
    return {key.removeprefix(group): value for key, value in mapped.items() if key.startswith(group)}


def _labels(record: Record, mapped: Mapping[str, str], options: ImportOptions) -> dict[str, str]:
    labels = {key: value for key, value in record.labels.items() if value and not _has_secret(value)}
    labels |= dict.fromkeys([each for each in record.groups if takes_group(options, each)], _MEMBER)
    for name in options.label_from or ():
        for key, value in record.attributes.items():
            if takes_attribute(name, key) and (text := text_of(value)) is not None and not _has_secret(text):
                labels[key] = _without_password(text)
    labels |= _below("labels.", mapped)
    made = {label_key(key): label_value(value) for key, value in labels.items()}
    return {key: value for key, value in made.items() if key and value}


def takes_attribute(name: str, key: str) -> bool:
    """Return whether a name or glob of ``--label-from`` makes a label of an attribute.

    A glob does not for a column without a title, whose values may be passwords.
    """
    return not is_secret(key) and (name == key or (fnmatchcase(key, name) and not _UNTITLED.fullmatch(key)))


def takes_group(options: ImportOptions, group: str) -> bool:
    """Return whether a group or tag becomes a label: all do unless ``--label-from`` names others."""
    chosen = options.label_from
    return chosen is None or GROUPS in chosen or any(fnmatchcase(group, glob) for glob in chosen)


def _without_password(text: str) -> str:
    return _PASSWORD.sub("", text) if "@" in text else text


def _fact(value: str) -> PropertyValue:
    return int(value) if value.isascii() and value.isdigit() and len(value) < 19 else value


def _own_state(word: str) -> State:
    try:
        return State(word.lower())
    except ValueError:
        raise bad_field("state", f"{word!r:.80} is not a state of bmhctl", hint=f"known: {', '.join(State)}") from None


def _with_port(bmc: dict[str, object]) -> tuple[dict[str, object], list[str]]:
    """Return a BMC with its port as a part of its address, and a warning if the address has another port."""
    port, address = bmc.pop("port", None), str(bmc.get("address", ""))
    server = _SERVER.match(address)
    if not port or server is None:
        return bmc, []
    if server[1] is not None:
        has_other = int(server[1]) != port
        return bmc, [f"port {port} of the BMC is ignored: {_USER.sub('', address)} has another"] if has_other else []
    # Many files have the port of IPMI beside the address of a BMC that is read as one of Redfish.
    is_usual = port == _IPMI_PORT or (
        port == _HTTPS_PORT and not address.startswith(("ipmi:", "http:", "redfish+http:"))
    )
    suffix = "" if is_usual else f":{port}"
    return bmc | {"address": f"{server[0]}{suffix}{address[server.end() :]}"}, []


def _spec(
    name: str,
    record: Record,
    mapped: Mapping[str, str],
    labels: Mapping[str, str],
    hardware: Mapping[str, PropertyValue],
    bmc: dict[str, object],
) -> HostSpec:
    note = record.note
    if isinstance(address := bmc.get("address"), str) and "@" in address:
        bmc["address"] = _USER.sub("", address)
    entry: dict[str, object] = {
        "address": without_prefix(mapped.get("address") or record.address),
        "mac": mapped.get("mac") or next(filter(known_mac, record.macs), None),
        "labels": labels,
        "bmc": bmc if bmc.get("address") else None,
        "hardware": hardware,
        "note": mapped.get("note") or (_without_password(note) if note and not _has_secret(note) else None),
    }
    return spec_of(name, entry, lambda key: key)


# functions that all readers use


def text_of(value: object) -> str | None:
    """Return a plain value as a text; None for an empty one, a list or a mapping."""
    match value:
        case str():
            return " ".join(value.split()) or None
        case bool():
            return "true" if value else "false"
        case float() if type(value) is float and value.is_integer():
            return str(int(value))  # 37.0 in JSON
        case int() | float():
            return str(value)
    return None


def client_name(name: str | None) -> str | None:
    """Return the name that a DHCP client sent; None for the words of a client that has none: ``*``, ``localhost``."""
    return None if name is None or name == "*" or name.partition(".")[0].lower() == "localhost" else name


def leased(name: str | None, address: str | None, macs: Sequence[str]) -> Record:
    """Return the host of a DHCP client; its id is its first MAC, because many clients send no name."""
    return Record(name, id=mac_id(macs[0]) if macs and ":" in macs[0] else None, address=address, macs=macs)


def mac_id(mac: str) -> str:
    """Return a MAC as the id of a host that has no other: ``52-54-00-00-00-01``."""
    return mac.lower().replace(":", "-")


def label_key(text: str) -> str | None:
    """Return a text as the key of a label, with ``-`` for characters that a key can't have; None if nothing is left."""
    return text if is_label_key(text) else _NOT_IN_LABEL.sub("-", text)[:63].strip("-_.") or None


def label_value(text: str) -> str:
    """Return a text as the value of a label, with ``-`` for characters that it can't have, cut to 63 characters."""
    return text if is_label_value(text) else _NOT_IN_LABEL.sub("-", text)[:63].strip("-_.")


def without_prefix(address: str | None) -> str | None:
    """Return an address without the length of its network: ``10.0.0.1/24`` is ``10.0.0.1``."""
    match = _PREFIX.fullmatch(address) if address and "/" in address else None
    return match[1] if match else address


def flag(fields: Fields, key: str) -> bool:
    """Return whether the boolean under a key is true, also if it is written as a text such as ``False``."""
    value = fields.data.get(key)
    if isinstance(value, str) and value.lower() in ("true", "false", ""):
        return value.lower() == "true"
    return fields.flag(key)


def nic(fields: Fields, key: str, ip: str, *, mac: str = "", pxe: bool = False) -> Nic:
    """Return a network interface; raise an error that names the field if ``ip`` is not an address."""
    bare = without_prefix(ip) or ip
    if not is_ip(bare):
        raise bad_field(fields.path_of(key), f"must be an IP address, not {ip!r:.60}")
    return Nic(mac, bare, pxe)


def whole(fields: Fields, key: str) -> int | None:
    """Return the whole number under a key, also if it is written as a text; None for an empty text."""
    value = fields.data.get(key)
    if isinstance(value, str):
        value = value.strip()
        if not value:
            return None
        if value.isascii() and value.isdigit() and len(value) < 16:
            return int(value)
        raise bad_field(fields.path_of(key), "must be a whole number from 0")
    if isinstance(value, float) and value.is_integer() and 0 <= value < 2**53:
        return int(value)
    return fields.whole(key)


def size(fields: Fields, key: str, unit: int) -> str | None:
    """Return the size under a key, a number of ``unit`` bytes or a text such as ``64Gi``; None if it is 0 or absent."""
    value = fields.data.get(key)
    if isinstance(value, str) and not value.strip().isdigit() and (number := quantity(value.strip())) is not None:
        return format_size(int(number)) if number else None
    number = whole(fields, key)
    return format_size(number * unit) if number else None


def texts(fields: Fields, key: str) -> list[str]:
    """Return the texts of the list under a key; a single text counts as a list of one."""
    value = fields.data.get(key)
    if isinstance(value, str):
        return [value] if value.strip() else []
    if value is None:
        return []
    if not isinstance(value, list):
        raise bad_field(fields.path_of(key), "must be a list")
    return [text for each in value if (text := text_of(each)) is not None]


def state_of(fields: Fields, key: str, states: Mapping[str, State | None]) -> tuple[str, State | None]:
    """Return another system's word for a state, and the state here; raise an error for an unknown word."""
    word = text_of(fields.data.get(key)) or ""
    found = states.get(word.lower(), ...)
    if found is ...:
        known = ", ".join(state for state in states if state)
        raise bad_field(fields.path_of(key), f"{word!r:.80} is not a known state", hint=f"known: {known}")
    return word, found


def port_of(text: str | None) -> int | None:
    """Return the port of a BMC in a text, which a spreadsheet may write as ``6230.0``; None for any other text."""
    text = (text or "").removesuffix(".0")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 6 else None


def bmc_url(address: str | None, scheme: str = "redfish+https") -> str | None:
    """Return the address of a BMC with a protocol; one that it already has is unchanged."""
    address = without_prefix(address)
    return with_scheme(address, scheme) if address and not address.startswith("/") else None


def bad_line(origin: str, number: int, said: str, hint: str | None = None) -> InvalidError:
    """Return the error for a line of a text; ``number`` counts from 1."""
    place = f"{origin}, line {number}"
    return InvalidError(f"{place}: {said}", hint=hint, details={"file": origin, "record": place})


def unread_bmcs(record: Record) -> list[str]:
    """Return the attributes that look like the address of a BMC, unless the record has such an address."""
    if record.bmc.get("address"):
        return []
    return [
        key
        for key, value in record.attributes.items()
        if _looks_like_bmc(key) and "{{" not in (text := str(value)) and _may_be_address(text)
    ]


def _may_be_address(text: str) -> bool:
    return text.lower() not in _NO_ADDRESSES and not text.isdigit() and normal_mac(text) is None


@lru_cache(maxsize=1000)
def _looks_like_bmc(key: str) -> bool:
    """Return whether a key has the word of a BMC, as the last one or before the word of an address."""
    *words, last = (word.rstrip("0123456789").lower() for word in _BETWEEN_WORDS.split(key))
    return (last in _BMC_WORDS or (last in _ADDRESS_WORDS and not _BMC_WORDS.isdisjoint(words))) and not is_secret(key)


# functions that find secrets

_NESTED = {dict, list}  # the types that parsers return; isinstance would take three times as long


def is_secret(key: str) -> bool:
    """Return whether the value of a key is a secret, by the words in the key: ``ipmi_password``, ``powerPass``."""
    return _SECRETS[key]


def _has_secret(text: str) -> bool:
    """Return whether a text is a list or mapping in JSON with a key that names a secret."""
    return text[:1] in ("[", "{") and any(_SECRETS[key] for key in _KEYS.findall(text))


class _Secrets(dict[str, bool]):
    """Caches for each key whether it names a secret, because the records of a file have the same few keys."""

    def __missing__(self, key: str) -> bool:
        plain = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", str(key)).lower().replace("-", "_").replace(" ", "_")
        secret = self[key] = bool(_SECRET.search(plain)) and not _NOT_SECRET.search(plain)
        return secret


_SECRETS = _Secrets()


def secrets_in(data: Mapping[str, object], keys: dict[str, int], *, vaults: bool) -> None:
    """Count the secrets of a record, by their keys: values of keys that name a secret, and passwords in URLs.

    With ``vaults``, values that Ansible Vault has encrypted count as secrets, too.
    """
    pending: list[object] = [data]
    for value in pending:
        if isinstance(value, dict):
            for key, each in value.items():
                if not each or each is True:
                    continue
                kind = type(each)
                if kind in _NESTED:
                    pending.append(each)
                elif _SECRETS[key] or (
                    kind is str
                    and (
                        ("@" in each and _PASSWORD.search(each))
                        or (vaults and each.startswith(_VAULT))
                        or _has_secret(each)
                    )
                ):
                    keys[key] = keys.get(key, 0) + 1
        elif isinstance(value, list):
            pending += [each for each in value if type(each) in _NESTED]
