"""Every parser of the package as a function that returns a value, or an error with its exit status.

Each reading also checks what it can of the value: what is written from it must read back as the same.
"""

from __future__ import annotations

import atexit
import io
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock
from urllib.parse import urlsplit

import yaml

from bmhctl.cli.options import pairs
from bmhctl.cli.session import field_list
from bmhctl.domain.host_spec import dump_spec, parse_spec
from bmhctl.domain.import_batch import ImportBatch
from bmhctl.domain.model import HostSpec
from bmhctl.domain.requirements import dump_requirements, load_requirements, parse_requirement
from bmhctl.domain.selector import canonical, parse_selector
from bmhctl.domain.times import parse_moment
from bmhctl.domain.units import format_duration, parse_duration, quantity
from bmhctl.errors import BmhctlError, ExitStatus, InvalidError, UsageError
from bmhctl.formats.import_files import import_options, read_paths
from bmhctl.probes.credentials import BmcError
from bmhctl.probes.redfish_conversation import endpoint
from bmhctl.stores import open_store
from bmhctl.stores.host_query import HostQuery, condition
from bmhctl.stores.toml.declaration import Fingerprint, parse_declaration
from bmhctl.stores.toml.editor import Change, edited
from bmhctl.usecases import inventories
from bmhctl.usecases.policy import check_policy
from bmhctl.usecases.shared.context import Context
from bmhctl.usecases.shared.host_selection import MOST_NAMES, Choice, unfold
from tests.formats.importer_samples import SAMPLES
from tests.formats.texts import dump_inventory, read_inventory, read_manifests

NOW = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
SPEC = HostSpec("fuzz", address="10.0.0.9", labels={"a": "b"}, hardware={"cpus": 1}, note="x")


@dataclass(frozen=True)
class Parser:
    """One parser: its function, and the statuses of its errors; with ``of_files`` it takes bytes."""

    read: Callable[[Any], object]
    refusals: tuple[type[BmhctlError], ...]
    of_files: bool = False


@dataclass
class Tally:
    """The number of texts that a parser has read and refused."""

    tries: int = 0
    refusals: int = 0
    faults: int = 0

    def judge(self, parser: Parser, text: str | bytes) -> None:
        """Lets a parser read a text; raises an exception that no parser may raise."""
        self.tries += 1
        refused = None
        try:
            value = parser.read(text)
        except parser.refusals as error:
            refused, value = error, None
        self.refusals += value is None
        if refused is not None:
            assert refused.status in (ExitStatus.USAGE, ExitStatus.INVALID)
            assert 0 < len(refused.message) < 2000


# texts that a person types


def _duration(text: str) -> object:
    value = parse_duration(text)
    assert parse_duration(format_duration(value)) == value
    return value


def _size(text: str) -> object:
    number, same = quantity(text), canonical(text)
    assert canonical(same) == same
    assert quantity(same) == number
    return number


def _selector(text: str) -> object:
    selector = parse_selector(text)
    assert parse_selector(str(selector)) == selector
    selector.fits(SPEC)
    sql, parameters = condition(HostQuery(selector=selector), None)
    assert sql.count("?") == len(parameters)
    return selector


def _want(text: str) -> object:
    want = parse_requirement(text)
    assert parse_requirement(f"{want.selector}*{want.count}") == want
    assert load_requirements(dump_requirements([want]))[0].count == want.count
    assert dump_requirements(load_requirements(dump_requirements([want]))) == dump_requirements([want])
    return want


def _kept_wants(text: str) -> object:
    wants = load_requirements(text)
    assert load_requirements(dump_requirements(load_requirements(dump_requirements(wants)))) == load_requirements(
        dump_requirements(wants)
    )
    return wants


def _range(text: str) -> object:
    names = unfold(text.split())
    assert len(names) <= MOST_NAMES
    assert unfold(names) == names
    return names


def _time(text: str) -> object:
    at = parse_moment(text, NOW)
    assert at > NOW
    return at.isoformat()


def _options(text: str) -> object:
    return field_list(text), pairs(text.split(), "label")


def _bmc(text: str) -> object:
    spec = parse_spec("node01", {"bmc": {"address": text}, "address": "10.0.0.1"})
    assert parse_spec("node01", dump_spec(spec)) == spec
    assert spec.bmc is not None
    try:
        parts = urlsplit(endpoint(spec.bmc).url)
    except BmcError:  # an address without Redfish
        return spec
    assert parts.scheme in ("http", "https")
    assert parts.hostname
    assert parts.port is None or parts.port > 0
    assert parts.username is None
    assert parts.password is None
    return spec


def _host(text: str) -> object:
    spec = parse_spec(
        "node01",
        {"address": text or None, "mac": None, "labels": {"a": "b"}, "hardware": {"a": text}, "note": text},
    )
    assert parse_spec("node01", dump_spec(spec)) == spec
    return spec


def _fingerprint(text: str) -> object:
    found = Fingerprint.from_text(text)
    if found is not None:
        assert Fingerprint.from_text(found.to_text()) == found
    return found


# parsers of files


def _declaration(text: bytes) -> object:
    said = parse_declaration(text, "lab.toml")
    again = parse_declaration(said.policy_text.encode(), "policy.toml")
    assert (again.policy, again.policy_text) == (said.policy, said.policy_text)
    for spec in said.hosts:
        assert parse_spec(spec.name, dump_spec(spec)) == spec
    return said


def _edit(text: bytes) -> object:
    hosts = parse_declaration(text, "lab.toml").hosts
    changes: list[Change] = [Change.add(SPEC)]
    if hosts:
        changes += [
            Change.replace(HostSpec(hosts[0].name, note="new", labels={"k": "v"})),
            Change.remove(hosts[-1].name),
        ]
    if len(hosts) > 1:
        changes.append(Change.rename(hosts[0].name, "another"))
    result = edited(text, changes, "lab.toml")
    after = parse_declaration(result, "lab.toml").hosts
    assert SPEC in after
    assert len(after) == len(hosts) + (not hosts)
    return result


@cache
def lab_folder() -> Path:
    """The folder of the inventory that parsers use; the process that calls this first removes it when it ends."""
    folder = tempfile.TemporaryDirectory(prefix="bmhctl-fuzz-")
    atexit.register(folder.cleanup)
    return Path(folder.name)


@cache
def _lab() -> Context:
    path = lab_folder() / "lab.db"
    inventories.init(str(path))
    store = open_store(str(path))
    atexit.register(store.close)
    return Context(store, "alice")


def _policy(text: bytes) -> object:
    return check_policy(_lab(), Choice(everything=True), text.decode("utf-8", "replace"), "policy.toml")


def _inventory(text: bytes) -> object:
    batch = read_inventory(text, "export.toml", NOW)
    again = read_inventory(dump_inventory((a.host for a in batch.arrivals), batch.policy, NOW), "again.toml", NOW)
    assert [a.host for a in again.arrivals] == [a.host for a in batch.arrivals]
    assert again.policy == batch.policy
    return batch


def _manifests(text: bytes) -> object:
    return _checked(read_manifests(text, "manifests.yaml", NOW))


def _slow_manifests(text: bytes) -> object:
    with mock.patch.object(yaml, "__with_libyaml__", False):
        return _manifests(text)


def _json(text: bytes) -> object:
    return _checked(read_manifests(text, "manifests.json", NOW))


def _checked(batch: ImportBatch) -> object:
    hosts = [arrival.host for arrival in batch.arrivals]
    for host in hosts:
        assert parse_spec(host.name, dump_spec(host.spec)) == host.spec
    for said in (*batch.skipped, *batch.warnings):
        assert len(said) < 1000
    return batch


def _anything(text: bytes) -> object:
    return read_paths(["-"], io.BytesIO(text), NOW)


def _import_of(kind: str) -> Callable[[bytes], object]:
    options = import_options(kind, "{name}", label_from=["groups", "*"])

    def read(text: bytes) -> object:
        return _checked(read_paths(["-"], io.BytesIO(text), NOW, options=options))

    return read


PARSERS: dict[str, Parser] = {
    "durations": Parser(_duration, (UsageError,)),
    "sizes": Parser(_size, ()),
    "selectors": Parser(_selector, (UsageError,)),
    "wants": Parser(_want, (UsageError,)),
    "wants that are kept": Parser(_kept_wants, (InvalidError,)),
    "ranges": Parser(_range, (UsageError,)),
    "times": Parser(_time, (UsageError,)),
    "lists of options": Parser(_options, (UsageError,)),
    "BMC addresses": Parser(_bmc, (InvalidError,)),
    "facts of a host": Parser(_host, (InvalidError,)),
    "fingerprints": Parser(_fingerprint, ()),
    "declarations": Parser(_declaration, (InvalidError,), of_files=True),
    "edits of declarations": Parser(_edit, (InvalidError,), of_files=True),
    "policies": Parser(_policy, (InvalidError,), of_files=True),
    "exports": Parser(_inventory, (InvalidError,), of_files=True),
    "manifests in YAML": Parser(_manifests, (InvalidError,), of_files=True),
    "manifests in YAML without libyaml": Parser(_slow_manifests, (InvalidError,), of_files=True),
    "manifests in JSON": Parser(_json, (InvalidError,), of_files=True),
    "imports of any kind": Parser(_anything, (InvalidError,), of_files=True),
    **{
        f"imports from {name}": Parser(_import_of(name.partition("'")[0]), (InvalidError,), of_files=True)
        for name in SAMPLES
    },
}
