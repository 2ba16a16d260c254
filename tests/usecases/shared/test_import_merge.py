"""A second import keeps and reports values that were set here, and updates all others, on every backend."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bmhctl.domain.import_batch import ImportBatch, ImportedHost
from bmhctl.domain.model import Bmc, Host, HostSpec, State
from bmhctl.results import Imported
from bmhctl.support.values import replace
from bmhctl.usecases import copies, hosts, queries
from bmhctl.usecases.hosts import AttributeChanges
from bmhctl.usecases.shared.host_selection import Choice
from bmhctl.usecases.shared.import_merge import merge, values_of
from tests.conftest import SUFFIX, Lab

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ASKED = "attributes that were set here are kept where the files differ; import --overwrite replaces them"


def bring(lab: Lab, *specs: HostSpec, update: bool = True, overwrite: bool = False, dry_run: bool = False) -> Imported:
    batch = ImportBatch(tuple(ImportedHost(Host(spec, State.INITIAL, NOW), None, "x.yaml") for spec in specs))
    return hosts.import_hosts(replace(lab.context(), dry_run=dry_run), batch, update=update, overwrite=overwrite)


def spec(lab: Lab, name: str = "n1.lab") -> HostSpec:
    (host,) = queries.list_hosts(lab.context(), Choice((name,))).hosts
    return host.spec


def put(lab: Lab, **attributes: object) -> None:
    hosts.set_attributes(lab.context(), Choice(("n1.lab",)), AttributeChanges(**attributes))  # type: ignore[arg-type]  # from a test


FIRST = HostSpec(
    "n1.lab",
    mac="52:54:00:00:00:01",
    note="from the cluster",
    labels={"rack": "r1", "role": "worker", "zone": "a"},
    hardware={"cpus": 64},
)


def test_a_value_set_since_the_last_import_is_kept_and_the_difference_is_reported(lab: Lab) -> None:
    bring(lab, FIRST)
    put(lab, note="left slot", labels={"rack": "r9", "zone": None, "own": "x"})

    done = bring(lab, FIRST)

    assert [(item.changed, item.message) for item in done.items] == [
        (
            False,
            "kept here: note left slot (in the file: from the cluster), labels.rack r9 (in the file: r1), "
            "labels.zone (none) (in the file: a)",
        )
    ]
    assert lab.said[-1] == ASKED
    expected = replace(FIRST, note="left slot", labels={"rack": "r9", "role": "worker", "own": "x"})
    assert spec(lab) == expected

    newer = replace(FIRST, note="newer", labels={"rack": "r2", "role": "control", "new": "y"}, hardware={"cpus": 128})
    done = bring(lab, newer)
    assert spec(lab) == replace(
        FIRST,
        note="left slot",
        labels={"rack": "r9", "role": "control", "own": "x", "new": "y"},
        hardware={"cpus": 128},
    )
    assert done.items[0].message == (
        "changed: labels.role worker → control, labels.new (none) → y, hardware.cpus 64 → 128; "
        "kept here: note left slot (in the file: newer), labels.rack r9 (in the file: r2)"
    )


def test_overwrite_takes_the_values_of_the_file(lab: Lab) -> None:
    bring(lab, FIRST)
    put(lab, note="left slot", labels={"zone": None, "own": "x"})
    lab.said.clear()
    bring(lab, FIRST, overwrite=True)
    assert spec(lab) == replace(FIRST, labels={**FIRST.labels, "own": "x"})
    assert ASKED not in lab.said
    bring(lab, replace(FIRST, note="newer"))
    assert spec(lab).note == "newer"


def test_without_update_only_new_hosts_are_imported(lab: Lab) -> None:
    bring(lab, FIRST)
    changed = replace(FIRST, note="newer")
    done = bring(lab, changed, HostSpec("n2"), update=False)
    assert [(item.host, item.changed, item.message) for item in done.items] == [
        ("n1.lab", False, "is in the inventory already"),
        ("n2", True, "new, imported from x.yaml"),
    ]
    assert spec(lab) == FIRST
    bring(lab, changed)
    assert spec(lab) == changed


def test_values_from_before_the_first_import_are_kept(lab: Lab) -> None:
    hosts.add(lab.context(), ["n1.lab"], AttributeChanges(note="mine", labels={"rack": "r9"}))
    done = bring(lab, FIRST)
    assert (
        "kept here: note mine (in the file: from the cluster), labels.rack r9 (in the file: r1)"
        in done.items[0].message
    )
    assert spec(lab) == replace(FIRST, note="mine", labels={**FIRST.labels, "rack": "r9"})


def test_importing_again_changes_nothing_and_writes_nothing(lab: Lab) -> None:
    bring(lab, FIRST, HostSpec("n2"))
    before = lab.path.read_bytes() if lab.is_toml else b""
    events = len(list(lab.context().store.events.read()))
    done = bring(lab, FIRST, HostSpec("n2"))
    assert [(item.changed, item.message) for item in done.items] == [(False, "nothing to change")] * 2
    assert len(list(lab.context().store.events.read())) == events
    assert (lab.path.read_bytes() if lab.is_toml else b"") == before


def test_a_dry_run_of_import_reports_kept_values_and_records_nothing(lab: Lab) -> None:
    bring(lab, FIRST)
    put(lab, note="left slot")
    newer = replace(FIRST, note="newer", labels={"rack": "r2"})
    said = bring(lab, newer, dry_run=True).items[0].message
    assert said == "changed: labels.rack r1 → r2; kept here: note left slot (in the file: newer)"
    assert bring(lab, newer).items[0].message == said


def test_a_renamed_host_keeps_its_imported_values(lab: Lab) -> None:
    bring(lab, FIRST)
    hosts.rename(lab.context(), "n1.lab", "n9.lab")
    bring(lab, replace(FIRST, name="n9.lab", note="newer"))
    assert spec(lab, "n9.lab").note == "newer"


def test_a_host_removed_and_added_again_has_no_imported_values(lab: Lab) -> None:
    bring(lab, FIRST)
    hosts.remove(lab.context(), Choice(("n1.lab",)))
    assert not list(lab.context().store.database.execute("SELECT 1 FROM meta WHERE key LIKE 'imported/%'"))
    hosts.add(lab.context(), ["n1.lab"], AttributeChanges(note=FIRST.note))
    bring(lab, replace(FIRST, note="newer"))
    assert spec(lab).note == FIRST.note


@pytest.mark.parametrize("kind", SUFFIX)
def test_a_copy_keeps_the_imported_values(lab: Lab, kind: str) -> None:
    bring(lab, FIRST)
    copy = Lab(lab.path.with_name(f"copy{SUFFIX[kind].removeprefix('lab')}"))
    try:
        copies.copy(lab.context(), copy.location)
        bring(copy, replace(FIRST, note="newer"))
        assert spec(copy).note == "newer"
    finally:
        copy.remove()


def test_a_value_edited_by_hand_in_the_toml_file_is_kept(toml_lab: Lab) -> None:
    bring(toml_lab, FIRST)
    toml_lab.path.write_text(toml_lab.path.read_text().replace("from the cluster", "by hand"))
    bring(toml_lab, replace(FIRST, note="newer", labels={"rack": "r2"}))
    assert (spec(toml_lab).note, spec(toml_lab).labels["rack"]) == ("by hand", "r2")


def test_an_imported_bmc_address_replaces_one_that_was_not_set_here_and_drops_its_credentials(lab: Lab) -> None:
    imported = replace(FIRST, bmc=Bmc("https://10.0.1.1", type="a", credentials="env:THERE"))
    bring(lab, imported)
    put(lab, credentials="env:MINE", verify_tls=False)
    bring(lab, imported)
    assert spec(lab).bmc == Bmc("https://10.0.1.1", type="a", credentials="env:MINE", verify_tls=False)
    bring(lab, replace(imported, bmc=Bmc("https://10.0.1.2", type="b")))
    assert spec(lab).bmc == Bmc("https://10.0.1.2", type="b", verify_tls=False)
    put(lab, bmc="https://10.0.1.9", credentials="env:MINE")
    bring(lab, replace(imported, bmc=Bmc("https://10.0.1.3", type="c", verify_tls=True)))
    assert spec(lab).bmc == Bmc("https://10.0.1.9", type="b", credentials="env:MINE", verify_tls=False)


TEXTS = st.sampled_from(["a", "b", "c"])
FACTS = st.dictionaries(st.sampled_from(["x", "y.z", "bmc"]), TEXTS, max_size=3)
BMCS = st.none() | st.builds(
    Bmc,
    st.sampled_from(["https://10.0.0.1", "https://10.0.0.2"]),
    type=st.none() | TEXTS,
    system_id=st.none() | TEXTS,
    credentials=st.none() | st.sampled_from(["env:A", "env:B"]),
    verify_tls=st.booleans(),
)
SPECS = st.builds(
    HostSpec, st.just("n1"), note=st.none() | TEXTS, labels=FACTS, hardware=FACTS, bmc=BMCS, address=st.none() | TEXTS
)


@pytest.mark.parametrize(
    ("here", "there"),
    [
        (("https://10.0.1.1", None), ("redfish+https://10.0.1.1", None)),
        (("https://10.0.1.1:443/", "/redfish/v1/Systems/7"), ("redfish://10.0.1.1/redfish/v1/Systems/7", None)),
        (("redfish+http://bmc.lab:8000", "7"), ("http://bmc.lab:8000", "/redfish/v1/Systems/7")),
        (("ipmi://10.0.1.1:623", None), ("ipmi://10.0.1.1", None)),
        (("ipmi://[fd00::1]", None), ("ipmi://[fd00::1]:623", None)),
    ],
)
def test_another_spelling_of_the_address_of_a_bmc_keeps_its_credentials(
    here: tuple[str, str | None], there: tuple[str, str | None]
) -> None:
    bmc = Bmc(here[0], system_id=here[1], credentials="env:MINE")
    known = replace(FIRST, bmc=bmc)
    for overwrite in (False, True):
        merged = merge(
            known, replace(FIRST, bmc=Bmc(there[0], system_id=there[1])), values_of(known), overwrite=overwrite
        )
        assert (merged.spec, merged.kept, merged.moved) == (known, (), False)


@pytest.mark.parametrize(
    ("here", "there"),
    [
        ("https://10.0.1.1", "http://10.0.1.1"),
        ("https://10.0.1.1", "https://10.0.1.1:8443"),
        ("https://10.0.1.1", "https://10.0.1.1/redfish/v1/Systems/2"),
        ("ipmi://10.0.1.1", "redfish://10.0.1.1"),
        ("ipmi://10.0.1.1", "ipmi://10.0.1.1:6230"),
        ("ipmi://10.0.1.1", "ipmi://10.0.1.2"),
    ],
)
def test_another_host_transport_port_or_system_is_another_bmc(here: str, there: str) -> None:
    known = replace(FIRST, bmc=Bmc(here, credentials="env:MINE"))
    merged = merge(known, replace(FIRST, bmc=Bmc(there)), values_of(known))
    assert merged.moved
    assert merged.spec.bmc == Bmc(there)


@given(SPECS, SPECS, SPECS, st.booleans())
def test_every_merged_value_comes_from_the_file_or_the_inventory(
    last: HostSpec, here: HostSpec, there: HostSpec, knows: bool
) -> None:
    merged = merge(here, there, values_of(last) if knows else None)
    old, new, brought = values_of(here), values_of(merged.spec), values_of(there)
    for key in {*old, *new, *brought} - {f"bmc.{name}" for name in ("type", "system_id", "verify_tls")}:
        assert new.get(key) in (old.get(key), brought.get(key))
        if key not in brought:
            assert new.get(key) == old.get(key)
        if knows and old.get(key) == values_of(last).get(key) and key in values_of(last) and key in brought:
            assert new[key] == brought[key]
    assert {key for key, _, _ in merged.kept} == {
        key for key in brought if new.get(key) != brought[key] and (not key.startswith("bmc.") or key == "bmc.address")
    } | {key for key, _, _ in merged.kept if key.startswith("bmc.")}
    if here.bmc and merged.spec.bmc and here.bmc.address != merged.spec.bmc.address:
        assert merged.spec.bmc.credentials is None
    elif here.bmc and merged.spec.bmc:
        assert merged.spec.bmc.credentials == here.bmc.credentials
    forced = merge(here, there, values_of(last), overwrite=True)
    assert {**values_of(forced.spec), **brought} == values_of(forced.spec)
    assert merge(merged.spec, there, {**values_of(last), **brought}).spec == merged.spec
