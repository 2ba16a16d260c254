"""Hosts of other systems on every backend: they are added once, in their states, and exports are read back."""

from __future__ import annotations

import io
from datetime import UTC, datetime

import pytest

from bmhctl.domain.import_batch import ImportBatch
from bmhctl.formats.import_files import import_options, read_paths
from bmhctl.stores.host_query import HostQuery
from bmhctl.usecases import hosts
from tests.conftest import Lab
from tests.formats.importer_samples import SAMPLES
from tests.formats.texts import dump_inventory, read_inventory

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)


def batch(name: str) -> ImportBatch:
    return read_paths(["-"], io.BytesIO(SAMPLES[name].encode()), NOW, options=import_options(name="{name}"))


@pytest.mark.parametrize("name", SAMPLES)
def test_hosts_of_other_systems_are_imported_once_in_their_states_and_can_be_exported(lab: Lab, name: str) -> None:
    brought = batch(name)
    hosts.import_hosts(lab.context(), brought)
    with lab.visit() as ctx:
        found = {host.name: host for host in ctx.store.hosts.find(HostQuery())}
        words = {event.host: event.reason or "" for event in ctx.store.events.read()}
    assert {n: (host.state, host.spec) for n, host in found.items()} == {
        each.host.name: (each.host.state, each.host.spec) for each in brought.arrivals
    }
    for each in brought.arrivals:
        assert each.source_state is None or f"({each.source_state})" in words[each.host.name]

    again = hosts.import_hosts(lab.context(), batch(name))
    assert {item.message for item in again.items} == {"nothing to change"}

    written = dump_inventory(found.values(), None, NOW)
    back = {each.host.name: each.host for each in read_inventory(written, "export.toml", NOW).arrivals}
    assert {n: (host.state, host.spec, host.fault) for n, host in back.items()} == {
        n: (host.state, host.spec, host.fault) for n, host in found.items()
    }
