"""Add, set, rename, remove and import on every backend: refusals, and the records of removed hosts."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from bmhctl.domain.model import Bmc, HostSpec, State
from bmhctl.domain.requirements import reservation_request
from bmhctl.domain.selector import parse_selector
from bmhctl.errors import BmhctlError, ExitStatus, InvalidError, NotFoundError, StateRefusedError, UsageError
from bmhctl.support.values import replace
from bmhctl.usecases import hosts, inventories, lifecycle_verbs, queries, undo
from bmhctl.usecases.hosts import AttributeChanges
from bmhctl.usecases.reservations import reserve
from bmhctl.usecases.shared.host_selection import Choice
from bmhctl.usecases.steps import step_verbs
from tests.conftest import SUFFIX, Lab
from tests.formats.texts import dump_inventory, read_inventory, read_manifests

ALL = Choice(everything=True)


def specs(lab: Lab) -> dict[str, HostSpec]:
    return {host.name: host.spec for host in queries.list_hosts(lab.context(), ALL).hosts}


def states(lab: Lab) -> dict[str, str]:
    return {host.name: str(host.state) for host in queries.list_hosts(lab.context(), ALL).hosts}


def use(lab: Lab, *names: str, actor: str = "alice") -> None:
    step_verbs.ready(lab.context(), Choice(names))
    reserve.reserve_or_wait(lab.context(actor), reservation_request(names))


def test_added_hosts_are_initial_and_have_the_declared_values(lab: Lab) -> None:
    done = hosts.add(
        lab.context(),
        ["node[01-02]"],
        AttributeChanges(
            address="{name}.lab",
            labels={"rack": "r1"},
            hardware={"cpus": 64, "memory": "256GiB"},
            bmc="redfish+https://{name}-bmc.lab/redfish/v1/Systems/1",
            credentials="env:LAB_BMC",
            note="left",
        ),
    )

    assert [(item.host, str(item.state), item.message) for item in done.items] == [
        ("node01", "initial", "added"),
        ("node02", "initial", "added"),
    ]
    assert specs(lab)["node02"] == HostSpec(
        name="node02",
        address="node02.lab",
        labels={"rack": "r1"},
        hardware={"cpus": 64, "memory": "256GiB"},
        bmc=Bmc("redfish+https://node02-bmc.lab/redfish/v1/Systems/1", credentials="env:LAB_BMC"),
        note="left",
    )


def test_adding_is_all_or_nothing(lab: Lab) -> None:
    hosts.add(lab.context(), ["node2"], AttributeChanges())

    with pytest.raises((StateRefusedError, InvalidError)):
        hosts.add(lab.context(), ["node1", "node2"], AttributeChanges())

    assert states(lab) == {"node2": "initial"}


@pytest.mark.parametrize(
    ("names", "facts"),
    [
        (["-node"], AttributeChanges()),
        (["n" * 64], AttributeChanges()),
        ([f"{'n' * 63}." * 4], AttributeChanges()),
        (["node1."], AttributeChanges()),
        (["node\u212a"], AttributeChanges()),
        (["node1"], AttributeChanges(mac="no mac")),
        (["node1"], AttributeChanges(address="not an address")),
        (["node1"], AttributeChanges(labels={"bad key!": "x"})),
        (["node1"], AttributeChanges(labels={"key": "bad value!"})),
        (["node1"], AttributeChanges(bmc="https://user:secret@10.0.0.1")),
        (["node1"], AttributeChanges(bmc="https://10.0.0.1", credentials="hunter2")),
        (["node1"], AttributeChanges(note="two\nlines")),
        (["node[1-2]"], AttributeChanges(mac="52:54:00:00:00:01")),
        (["node[1-2]"], AttributeChanges(address="10.0.0.1")),
        (["node[1-"], AttributeChanges()),
        (["node[1-99999999]"], AttributeChanges()),
        ([], AttributeChanges()),
    ],
)
def test_an_invalid_host_is_refused_and_no_host_is_added(lab: Lab, names: list[str], facts: AttributeChanges) -> None:
    with pytest.raises(UsageError) as refused:
        hosts.add(lab.context(), names, facts)

    assert "hunter2" not in f"{refused.value.message}{refused.value.hint}{refused.value.details}"
    assert states(lab) == {}


def test_a_mac_of_a_known_host_is_refused_with_the_hint_to_rename(lab: Lab) -> None:
    hosts.add(lab.context(), ["node1"], AttributeChanges(mac="52:54:00:00:00:01"))

    with pytest.raises(InvalidError) as refused:
        hosts.add(lab.context(), ["node9"], AttributeChanges(mac="52-54-00-00-00-01"))

    assert refused.value.message == "has the MAC 52:54:00:00:00:01 of node1: is it the same machine?"
    assert refused.value.hint is not None
    assert "bmhctl rename node1 node9" in refused.value.hint
    assert states(lab) == {"node1": "initial"}


def test_the_same_address_is_a_warning_that_names_both(lab: Lab) -> None:
    hosts.add(lab.context(), ["node1"], AttributeChanges(address="10.0.0.1"))
    hosts.add(lab.context(), ["node2"], AttributeChanges(address="10.0.0.1"))

    assert any("node1 and node2 have the same address 10.0.0.1" in line for line in lab.said)


def test_set_changes_only_the_given_values(lab: Lab) -> None:
    hosts.add(lab.context(), ["node1"], AttributeChanges(labels={"rack": "r1", "gpu": ""}, note="old"))

    done = hosts.set_attributes(
        lab.context(),
        Choice(("node1",)),
        AttributeChanges(labels={"rack": "r2", "gpu": None}, note="", hardware={"cpus": 8}),
    )

    assert specs(lab)["node1"] == HostSpec("node1", labels={"rack": "r2"}, hardware={"cpus": 8})
    assert [(item.changed, item.message) for item in done.items] == [
        (True, 'changed: note old → (none), labels.rack r1 → r2, labels.gpu "" → (none), hardware.cpus (none) → 8')
    ]


def test_the_verification_of_tls_is_named_only_if_it_changes(lab: Lab) -> None:
    hosts.add(lab.context(), ["node1"], AttributeChanges())
    said = []
    for changes in (AttributeChanges(bmc="https://10.0.1.1"), AttributeChanges(verify_tls=False)):
        said += [item.message for item in hosts.set_attributes(lab.context(), Choice(("node1",)), changes).items]
    assert said == ["changed: bmc.address (none) → https://10.0.1.1", "changed: bmc.verify_tls true → false"]


def test_selectors_use_values_that_were_set(lab: Lab) -> None:
    hosts.add(lab.context(), ["node[1-2]"], AttributeChanges(hardware={"memory": "64GiB"}))
    hosts.set_attributes(
        lab.context(), Choice(("node2",)), AttributeChanges(labels={"rack": "r2"}, hardware={"memory": "1TiB"})
    )

    def found(text: str) -> list[str]:
        return [h.name for h in queries.list_hosts(lab.context(), Choice(selector=parse_selector(text))).hosts]

    assert found("rack") == ["node2"]
    assert found("memory>=65GiB") == ["node2"]
    assert found("memory=65536MiB") == ["node1"]
    assert found("rack!=r2") == ["node1"]


def test_two_hosts_with_the_same_system_of_a_bmc_give_a_warning(lab: Lab) -> None:
    bmc = "https://10.0.0.1"
    hosts.add(lab.context(), ["node1"], AttributeChanges(bmc=bmc))
    hosts.add(lab.context(), ["node2"], AttributeChanges(bmc=bmc, bmc_system_id="2"))
    hosts.add(lab.context(), ["node[3-4]"], AttributeChanges(bmc="ipmi://10.0.0.1"))
    assert lab.said == []
    said = f"have the same system of a BMC, {bmc}: one machine under two names can be reserved twice"
    hosts.add(lab.context(), ["node5"], AttributeChanges(bmc=bmc))
    assert lab.said == [f"node1 and node5 {said}"]
    lab.said.clear()
    hosts.set_attributes(lab.context(), Choice(("node2",)), AttributeChanges(bmc_system_id=""))
    assert lab.said == [f"node1, node5 and node2 {said}"]


def test_one_system_of_a_bmc_is_recognized_in_each_spelling_and_with_other_credentials(lab: Lab) -> None:
    bmc = "redfish+https://BMC.lab.example:443/redfish/v1/Systems/1/"
    hosts.add(lab.context(), ["node1"], AttributeChanges(bmc=bmc, credentials="env:LAB"))
    hosts.add(lab.context(), ["node2"], AttributeChanges(bmc="https://bmc.lab.example", bmc_system_id="1"))
    said = f"have the same system of a BMC, {bmc}: one machine under two names can be reserved twice"
    assert lab.said == [f"node1 and node2 {said}"]
    lab.said.clear()
    hosts.add(lab.context(), ["node3"], AttributeChanges())
    hosts.set_attributes(
        lab.context(), Choice(("node3",)), AttributeChanges(bmc="idrac-redfish://bmc.lab.example/redfish/v1/Systems/1")
    )
    assert lab.said == [f"node1, node2 and node3 {said}"]


def test_the_address_of_a_bmc_may_have_no_slashes_after_its_scheme_as_in_manifests(lab: Lab) -> None:
    written = ["ipmi:10.0.0.1", "ipmi:[fd00::1]:623", "IPMI:bmc.lab", "redfish+http:bmc.lab/redfish/v1/Systems/1"]
    read = ["ipmi://10.0.0.1", "ipmi://[fd00::1]:623", "IPMI://bmc.lab", "redfish+http://bmc.lab/redfish/v1/Systems/1"]

    for number, bmc in enumerate(written):
        hosts.add(lab.context(), [f"node{number}"], AttributeChanges(bmc=bmc))

    assert [spec.bmc and spec.bmc.address for spec in specs(lab).values()] == read
    for wrong in "bmc01:abc", "ipmi:", "ipmi:/bmc.lab", "redfish:bmc.lab/x":
        with pytest.raises(UsageError, match="address"):
            hosts.add(lab.context(), ["node9"], AttributeChanges(bmc=wrong))


def test_a_bmc_that_is_given_without_a_scheme_is_one_of_redfish_unless_its_type_is_ipmi(lab: Lab) -> None:
    written = ["10.0.0.1", "bmc.lab/redfish/v1/Systems/1", "fd00::1", "[fd00::2]:8443", "ipmi:623", "bmc-{name}.lab"]

    for number, bmc in enumerate(written):
        changes = AttributeChanges(bmc=bmc, credentials="env:LAB")
        hosts.add(lab.context(), [f"node{number}"], changes)
        again = hosts.set_attributes(lab.context(), Choice((f"node{number}",)), AttributeChanges(bmc=bmc))
        assert [item.message for item in again.items] == ["nothing to change"]

    hosts.add(lab.context(), ["old"], AttributeChanges(bmc="10.0.0.9", bmc_type="ipmi"))

    *others, old = (spec.bmc for spec in specs(lab).values())
    assert old == Bmc("ipmi://10.0.0.9", type="ipmi")
    assert others == [
        Bmc(f"redfish+https://{address}", credentials="env:LAB")
        for address in (
            *("10.0.0.1", "bmc.lab/redfish/v1/Systems/1", "[fd00::1]", "[fd00::2]:8443"),
            *("ipmi:623", "bmc-node5.lab"),  # a BMC whose name is ipmi
        )
    ]


def test_a_declared_bmc_address_without_a_scheme_stays_as_it_is_until_it_is_set(toml_lab: Lab) -> None:
    toml_lab.path.write_text('[hosts.node1.bmc]\naddress = "10.0.0.1"\ncredentials = "env:LAB"\n')
    said = []
    for changes in (AttributeChanges(note="spare"), AttributeChanges(bmc="10.0.0.1"), AttributeChanges(bmc="")):
        said.append(specs(toml_lab)["node1"].bmc)
        hosts.set_attributes(toml_lab.context(), Choice(("node1",)), changes)
    as_written = Bmc("10.0.0.1", credentials="env:LAB")
    assert said == [as_written, as_written, replace(as_written, address="redfish+https://10.0.0.1")]


def test_hosts_that_swap_what_identifies_them_are_not_warned_of(lab: Lab) -> None:
    hosts.add(lab.context(), ["node[1-2]"], AttributeChanges(bmc="https://10.0.0.[1-2]", address="10.0.1.[1-2]"))
    hosts.set_attributes(
        lab.context(), Choice(("node[1-2]",)), AttributeChanges(bmc="https://10.0.0.[2-3]", address="10.0.1.[2-3]")
    )
    assert lab.said == []
    hosts.set_attributes(lab.context(), Choice(("node2",)), AttributeChanges(address="10.0.1.2"))
    assert lab.said == [
        "node1 and node2 have the same address 10.0.1.2: one machine under two names can be reserved twice"
    ]


def test_a_changed_bmc_address_drops_the_credentials(lab: Lab) -> None:
    hosts.add(lab.context(), ["node1"], AttributeChanges(bmc="https://10.0.0.1", credentials="env:LAB"))

    for wrong in "https://fd00::1", "10.6.6.6/rest/v1":
        with pytest.raises(UsageError):
            hosts.set_attributes(lab.context(), Choice(("node1",)), AttributeChanges(bmc=wrong))
    assert lab.said == [], "nothing changed"

    hosts.set_attributes(lab.context(), Choice(("node1",)), AttributeChanges(bmc="https://10.6.6.6"))

    assert specs(lab)["node1"].bmc == Bmc("https://10.6.6.6")
    assert any("its credentials are dropped" in line for line in lab.said)


def test_a_range_of_hosts_is_renamed_at_once_and_by_one_undo_back(lab: Lab) -> None:
    hosts.add(lab.context(), ["node[1-3]"], AttributeChanges(labels={"rack": "r1"}))
    step_verbs.ready(lab.context(), Choice(("node2",)))

    done = hosts.rename(lab.context(), "node[1-3]", "web[08-10].lab")

    assert [(item.host, item.message) for item in done.items] == [
        ("web08.lab", "was node1"), ("web09.lab", "was node2"), ("web10.lab", "was node3"),
    ]  # fmt: skip
    assert states(lab) == {"web08.lab": "initial", "web09.lab": "available", "web10.lab": "initial"}
    assert done.notes == ("bmhctl undo takes this back",)
    undo.undo(lab.context())
    assert states(lab) == {"node1": "initial", "node2": "available", "node3": "initial"}


def test_every_name_of_a_removed_host_says_so_however_many_are_named(lab: Lab) -> None:
    hosts.add(lab.context(), ["node[1-7]"], AttributeChanges())
    hosts.remove(lab.context(), Choice(("node[1-3]", "node[5-6]")))
    hosts.rename(lab.context(), "node7", "web7")
    done = lifecycle_verbs.cordon(lab.context(), Choice(("node[1-9]",)))
    left, never = "was removed, or has another name now", "there is no such host"
    assert {item.host: item.message for item in done.items} == {
        "node4": "cordoned",
        **dict.fromkeys(("node1", "node2", "node3", "node5", "node6", "node7"), left),
        **dict.fromkeys(("node8", "node9"), never),
    }


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("node[1-3]", "web[1-2]", r"node\[1-3\] stands for 3 hosts and web\[1-2\] for 2 names"),
        ("node[1-3]", "web", r"node\[1-3\] stands for 3 hosts and web for 1 name"),
        ("node[1-3]", "node[2-4]", r"node\[1-3\] and node\[2-4\] overlap"),
        ("node[1-2]", "web_[1-2]", "is not a range of hosts"),
        ("node[1-2]", "web[1-2]-", "is not a host name"),
        ("node[1-4]", "web[1-4]", "there is no such host"),
        ("node[1-2]", "spare[1-2]", "can't be renamed: there is a host spare2 already"),
    ],
)
def test_a_range_of_hosts_is_renamed_wholly_or_not_at_all(lab: Lab, old: str, new: str, words: str) -> None:
    hosts.add(lab.context(), ["node[1-3]", "spare2"], AttributeChanges())
    before = states(lab)
    with pytest.raises(BmhctlError, match=words):
        hosts.rename(lab.context(), old, new)
    assert states(lab) == before


def test_a_renamed_host_keeps_its_state_reservation_and_history(lab: Lab) -> None:
    hosts.add(lab.context(), ["node1"], AttributeChanges(mac="52:54:00:00:00:01"))
    use(lab, "node1")

    hosts.rename(lab.context(), "node1", "db1")

    host = lab.context().store.hosts.named("db1")
    assert host is not None
    assert (host.state, host.reservation and host.reservation.owner) == (State.RESERVED, "alice")
    assert [str(e.verb) for e in lab.context().store.events.read(host)] == ["enter", "ready", "reserve", "rename"]
    assert states(lab) == {"db1": "reserved"}


def test_renaming_to_a_taken_or_bad_name_is_refused(lab: Lab) -> None:
    hosts.add(lab.context(), ["node[1-2]"], AttributeChanges())

    with pytest.raises((StateRefusedError, InvalidError)):
        hosts.rename(lab.context(), "node1", "node2")
    with pytest.raises(UsageError):
        hosts.rename(lab.context(), "node1", "node_3")
    with pytest.raises(NotFoundError):
        hosts.rename(lab.context(), "nope", "node3")
    assert states(lab) == {"node1": "initial", "node2": "initial"}


def test_a_used_host_is_removed_only_by_force(lab: Lab) -> None:
    hosts.add(lab.context(), ["node[1-3]"], AttributeChanges())
    use(lab, "node1", "node2")
    lifecycle_verbs.taint(lab.context(), Choice(("node2",)))

    done = hosts.remove(lab.context(), Choice(("node[1-3]",)))

    assert [(item.host, item.error is None) for item in done.items] == [
        ("node3", True),
        ("node1", False),
        ("node2", False),
    ]
    assert done.status is ExitStatus.REFUSED
    assert states(lab) == {"node1": "reserved", "node2": "tainted"}
    with pytest.raises(UsageError):
        hosts.remove(lab.context(), Choice(("node1",)), force=True)
    hosts.remove(lab.context(), Choice(("node1",)), force=True, reason="scrapped")
    assert states(lab) == {"node2": "tainted"}
    assert lab.context().store.reservations.open() == []


def test_a_host_removed_while_dirty_comes_back_tainted(lab: Lab) -> None:
    hosts.add(lab.context(), ["node1"], AttributeChanges(mac="52:54:00:00:00:01"))
    use(lab, "node1")
    hosts.remove(lab.context(), Choice(("node1",)), force=True, reason="scrapped")

    hosts.add(lab.context(), ["newname"], AttributeChanges(mac="52:54:00:00:00:01"))

    assert states(lab) == {"newname": "tainted"}


def test_the_history_of_a_removed_host_can_be_read(lab: Lab) -> None:
    from bmhctl.usecases.queries import history

    hosts.add(lab.context(), ["node1"], AttributeChanges())
    hosts.remove(lab.context(), Choice(("node1",)))

    assert [str(e.verb) for e in history(lab.context(), "node1").events] == ["enter", "remove"]
    with pytest.raises(NotFoundError):
        history(lab.context(), "nope")


def test_the_history_of_a_name_includes_the_hosts_that_left_under_it(lab: Lab) -> None:
    """Not those that were renamed: their history is that of their present name."""
    from bmhctl.usecases.history import HistoryRequest, find_history
    from bmhctl.usecases.queries import history
    from bmhctl.usecases.undo import undo

    hosts.add(lab.context(), ["node1"], AttributeChanges())
    hosts.rename(lab.context(), "node1", "node2")
    hosts.add(lab.context(), ["node1"], AttributeChanges())
    hosts.remove(lab.context(), Choice(("node1",)))
    undo(lab.context())
    step_verbs.ready(lab.context(), Choice(("node1",)))

    lives = ["enter", "remove", "enter", "ready"]
    assert [str(e.verb) for e in history(lab.context(), "NODE1").events] == lives
    assert [str(e.verb) for e in history(lab.context(), "node1", last=3).events] == lives[1:]
    found = find_history(lab.context(), HistoryRequest(Choice(("node1",))))
    assert [str(e.verb) for e in found.events] == lives
    assert [str(e.verb) for e in history(lab.context(), "node2").events] == ["enter", "rename"]


def test_the_history_of_a_name_includes_a_host_that_had_it_between_two_times_of_another(lab: Lab) -> None:
    from bmhctl.usecases.queries import history

    hosts.add(lab.context(), ["node1"], AttributeChanges())
    hosts.rename(lab.context(), "node1", "node2")
    hosts.add(lab.context(), ["node1"], AttributeChanges())
    hosts.remove(lab.context(), Choice(("node1",)))
    hosts.rename(lab.context(), "node2", "node1")

    verbs = [str(each.verb) for each in history(lab.context(), "node1").events]
    assert verbs == ["enter", "rename", "enter", "remove", "rename"]


def test_hosts_are_sorted_by_a_label_or_a_property_with_numbers_by_value(lab: Lab) -> None:
    for name, rack, memory in (("a", "r10", "64GiB"), ("b", "r2", "1TiB"), ("c", None, None), ("d", "r2", "128GiB")):
        labels, hardware = {"rack": rack} if rack else {}, {"memory": memory} if memory else {}
        hosts.add(lab.context(), [name], AttributeChanges(labels=labels, hardware=hardware))

    def listed(sort: str) -> list[str]:
        return [host.name for host in queries.list_hosts(lab.context(), Choice(everything=True), sort).hosts]

    assert listed("labels.rack") == ["b", "d", "a", "c"]
    assert listed("-labels.rack") == ["c", "a", "d", "b"]
    assert listed("hardware.memory") == ["a", "d", "b", "c"]
    for key in ("labels", "labels.", "rack", "note.x"):
        with pytest.raises(UsageError, match="can't sort by"):
            listed(key)


def test_globs_ranges_states_and_selectors_choose_hosts(lab: Lab) -> None:
    hosts.add(lab.context(), ["rack1-node[1-3]", "rack2-node[1-2]"], AttributeChanges())
    step_verbs.ready(lab.context(), Choice(("rack1-node1", "rack2-node1")))

    def listed(*names: str, **more: object) -> tuple[list[str], list[str | None]]:
        found = queries.list_hosts(lab.context(), Choice(names, **more))  # type: ignore[arg-type]  # a shorthand
        return [host.name for host in found.hosts], [error.host for error in found.missing]

    assert listed("rack1-*") == (["rack1-node1", "rack1-node2", "rack1-node3"], [])
    assert listed("rack[1-2]-node1") == (["rack1-node1", "rack2-node1"], [])
    assert listed("*-node?", states=frozenset({State.AVAILABLE})) == (["rack1-node1", "rack2-node1"], [])
    assert listed("node1", "nope*", "rack2-node2") == (["rack2-node2"], ["node1", "nope*"])


def test_an_import_adds_hosts_in_their_states_and_a_second_one_changes_nothing(lab: Lab) -> None:
    manifest = """
apiVersion: metal3.io/v1alpha1
kind: BareMetalHost
metadata: {name: free, labels: {rack: r1}}
spec: {bootMACAddress: "52:54:00:00:00:01", bmc: {address: "redfish://10.0.0.1/redfish/v1", credentialsName: "pw"}}
status: {provisioning: {state: available}}
---
apiVersion: metal3.io/v1alpha1
kind: BareMetalHost
metadata: {name: busy}
spec: {consumerRef: {kind: Machine, name: worker-0, namespace: prod}}
status: {provisioning: {state: provisioned}}
---
apiVersion: metal.afritzler.github.io/v1alpha1
kind: BareMetalHost
metadata: {name: fresh}
spec:
  systemId: "System-1"
  bootMACAddress: "52:54:00:00:00:03"
  bmc: {address: "http://127.0.0.1:8000", type: RedfishLocal, secretRef: {name: foo}}
"""
    batch = read_manifests(manifest, "fleet.yaml", datetime(2026, 1, 1, tzinfo=UTC))

    plan = hosts.import_hosts(replace(lab.context(), dry_run=True), batch)
    assert (plan.dry_run, states(lab)) == (True, {})
    hosts.import_hosts(lab.context(), batch)
    assert states(lab) == {"busy": "reserved", "free": "available", "fresh": "initial"}
    busy = lab.context().store.hosts.named("busy")
    assert busy is not None
    assert busy.reservation is not None
    assert (busy.reservation.owner, busy.reservation.expires_at) == ("Machine/prod/worker-0", None)
    before = list(lab.context().store.events.read())

    again = hosts.import_hosts(lab.context(), batch)

    assert [(item.host, item.changed) for item in again.items] == [("free", False), ("busy", False), ("fresh", False)]
    assert list(lab.context().store.events.read()) == before


def test_an_import_updates_properties_but_never_a_state_or_credentials(lab: Lab) -> None:
    hosts.add(
        lab.context(),
        ["node1"],
        AttributeChanges(bmc="http://10.0.0.1", credentials="file:/etc/bmc", labels={"a": "b"}),
    )
    use(lab, "node1")
    manifest = """
apiVersion: metal3.io/v1alpha1
kind: BareMetalHost
metadata: {name: node1, labels: {rack: r9}}
spec: {bmc: {address: "http://10.0.0.1", credentialsName: stolen}}
status: {provisioning: {state: available}}
"""

    hosts.import_hosts(lab.context(), read_manifests(manifest, "x.yaml", datetime(2026, 1, 1, tzinfo=UTC)))

    assert states(lab) == {"node1": "reserved"}
    assert specs(lab)["node1"].labels == {"a": "b", "rack": "r9"}
    assert specs(lab)["node1"].bmc == Bmc("http://10.0.0.1", credentials="file:/etc/bmc")
    moved = manifest.replace("10.0.0.1", "10.6.6.6")
    hosts.import_hosts(lab.context(), read_manifests(moved, "x.yaml", datetime(2026, 1, 1, tzinfo=UTC)))
    assert specs(lab)["node1"].bmc == Bmc("http://10.6.6.6")


def test_an_import_makes_no_reference_to_files_or_commands(lab: Lab) -> None:
    text = '[hosts.node1.bmc]\naddress = "http://10.0.0.1"\ncredentials = "command:cat /etc/shadow"\n'

    hosts.import_hosts(lab.context(), read_inventory(text, "x.toml", datetime(2026, 1, 1, tzinfo=UTC)))

    assert specs(lab)["node1"].bmc == Bmc("http://10.0.0.1")


def test_an_export_is_imported_with_its_states(lab: Lab, tmp_path: Path) -> None:
    hosts.add(lab.context(), ["node[1-3]"], AttributeChanges(labels={"rack": "r1"}))
    use(lab, "node1", "node2")
    lifecycle_verbs.taint(lab.context(), Choice(("node2",)))
    lifecycle_verbs.maintain(lab.context("bob"), Choice(("node3",)), reason="fan")
    found = queries.list_hosts(lab.context(), ALL)
    text = dump_inventory(found.hosts, None, found.now)

    for suffix in SUFFIX.values():
        other = Lab(tmp_path / f"other-{suffix}", clock=lab.clock)
        inventories.init(other.location)
        hosts.import_hosts(other.context(), read_inventory(text, "export.toml", lab.clock()))
        assert states(other) == {"node1": "reserved", "node2": "tainted", "node3": "maintenance"}
        assert lifecycle_verbs.taint(other.context("alice"), Choice(("node1",))).status is ExitStatus.DONE
        other.remove()


def test_a_removed_used_machine_is_recognized_by_its_mac_under_any_name(lab: Lab) -> None:
    hosts.add(lab.context(), ["b"], AttributeChanges(mac="52:54:00:00:00:02"))
    use(lab, "b")
    hosts.remove(lab.context(), Choice(("b",)), force=True, reason="scrapped")

    hosts.add(lab.context(), ["b"], AttributeChanges(mac="52:54:00:00:00:03"))  # another machine, as the MACs differ
    hosts.add(lab.context(), ["c"], AttributeChanges(mac="52:54:00:00:00:02"))

    assert states(lab) == {"b": "initial", "c": "tainted"}


def test_a_used_machine_can_not_come_back_clean_by_changing_macs_or_names(lab: Lab) -> None:
    hosts.add(lab.context(), ["a"], AttributeChanges(mac="52:54:00:00:00:01"))
    hosts.add(lab.context(), ["b", "x"], AttributeChanges())
    use(lab, "a")
    hosts.set_attributes(lab.context(), Choice(("a",)), AttributeChanges(mac=""))

    with pytest.raises(InvalidError, match="of a used machine that left"):
        hosts.set_attributes(lab.context(), Choice(("b",)), AttributeChanges(mac="52:54:00:00:00:01"))
    use(lab, "b")
    hosts.remove(lab.context(), Choice(("b",)), force=True, reason="scrapped")
    with pytest.raises(InvalidError, match="a used machine of the name b was removed"):
        hosts.rename(lab.context(), "x", "b")
    assert states(lab) == {"a": "reserved", "x": "initial"}


def test_a_mac_set_back_on_its_used_host_is_not_kept_as_removed(lab: Lab) -> None:
    hosts.add(lab.context(), ["a"], AttributeChanges(mac="52:54:00:00:00:01"))
    use(lab, "a")
    for mac in ("", "52:54:00:00:00:01", "52:54:00:00:00:02", "52:54:00:00:00:01"):
        hosts.set_attributes(lab.context(), Choice(("a",)), AttributeChanges(mac=mac))

    kept = [row[0] for row in lab.context().store.database.execute("SELECT key FROM departed")]
    assert kept == ["52:54:00:00:00:02"]


def test_used_hosts_that_swap_their_macs_are_not_kept_as_removed(toml_lab: Lab) -> None:
    macs = ["52:54:00:00:00:01", "52:54:00:00:00:02"]
    for name, mac in zip("ab", macs, strict=True):
        hosts.add(toml_lab.context(), [name], AttributeChanges(mac=mac))
    use(toml_lab, "a", "b")
    text = toml_lab.path.read_text()
    toml_lab.path.write_text(text.replace(macs[0], "one").replace(macs[1], macs[0]).replace("one", macs[1]))

    assert [spec.mac for spec in specs(toml_lab).values()] == macs[::-1]
    assert list(toml_lab.context().store.database.execute("SELECT key FROM departed")) == []


def test_an_imported_host_never_joins_an_existing_reservation(lab: Lab) -> None:
    hosts.add(lab.context(), ["n1"], AttributeChanges())
    use(lab, "n1")
    found = queries.list_hosts(lab.context(), ALL)
    text = dump_inventory(found.hosts, None, found.now)
    lifecycle_verbs.taint(lab.context(), Choice(("n1",)))
    step_verbs.reset(lab.context(), Choice(("n1",)))
    hosts.remove(lab.context(), Choice(("n1",)))

    hosts.import_hosts(lab.context(), read_inventory(text, "x.toml", lab.clock()))
    other = text.replace("[hosts.n1", "[hosts.n2").replace("alice", "mallory")
    hosts.import_hosts(lab.context(), read_inventory(other, "y.toml", lab.clock()))

    held = {h.reservation.owner: [x.name for x in h.hosts] for h in queries.reservations(lab.context()).items}
    assert held == {"alice": ["n1"], "mallory": ["n2"]}
    assert lifecycle_verbs.taint(lab.context(), Choice(("n1",))).status is ExitStatus.DONE


def test_the_policy_of_a_refused_import_is_not_stored(tmp_path: Path) -> None:
    lab = Lab(tmp_path / "lab.db")
    inventories.init(lab.location)
    hosts.add(lab.context(), ["n1"], AttributeChanges(mac="52:54:00:00:00:01"))
    text = '[checks.evil]\ncommand = ["true"]\n[hosts.n2]\nmac = "52:54:00:00:00:01"\n'

    with pytest.raises(InvalidError):
        hosts.import_hosts(lab.context(), read_inventory(text, "x.toml", lab.clock()), with_policy=True)

    assert lab.context().store.meta.policy_text() is None
    lab.close()


def test_values_of_an_undeclared_host_cannot_be_set(toml_lab: Lab) -> None:
    hosts.add(toml_lab.context(), ["n1", "n2"], AttributeChanges())
    toml_lab.path.write_text("[hosts.n2]\n")

    done = hosts.set_attributes(toml_lab.context(), Choice(("n1", "n2")), AttributeChanges(note="x"))

    assert [(item.host, item.changed, item.error is None) for item in done.items] == [
        ("n2", True, True),
        ("n1", False, False),
    ]
