"""Properties that steps report: selectors use them, but they never replace declared properties."""

from __future__ import annotations

import pytest

from bmhctl.domain.model import EventKind, State
from bmhctl.domain.policy_parser import parse_policy
from bmhctl.domain.selector import parse_selector
from bmhctl.errors import InvalidError
from bmhctl.formats.toml_export import dump_parts, unpack_inventory
from bmhctl.stores.host_query import HostQuery
from bmhctl.support.toml_text import load
from bmhctl.usecases import hosts, queries
from bmhctl.usecases.shared.host_selection import Choice
from bmhctl.usecases.steps import step_verbs
from tests.conftest import Lab
from tests.usecases.steps.test_setup import Ran, ready
from tests.usecases.steps.test_step_verbs import host, said, saying

ALL = Choice(everything=True)


def policy(script: str, phase: str = "checks") -> str:
    return f"""
[{phase}.hw]
command = ["sh", "-c", '''{script}''']
properties = ["cpus", "memory", "firmware"]
"""


def fleet(lab: Lab, script: str, phase: str = "checks", more: str = "") -> Lab:
    lab.policy(policy(script, phase) + more)
    hosts.add(lab.context(), ["node1"], hosts.AttributeChanges(hardware={"memory": "64GiB", "disks": 2}))
    return lab


def found(lab: Lab, selector: str) -> list[str]:
    return [each.name for each in lab.context().store.hosts.find(HostQuery(selector=parse_selector(selector)))]


def replace_policy(lab: Lab, word: str, text: str) -> None:
    """Replace ``word`` in the policy by another command."""
    if lab.is_toml:
        lab.path.write_text(lab.path.read_text(encoding="utf-8").replace(f'"{word}"', f'"{word}2"'), encoding="utf-8")
    else:
        lab.policy(text)


def set_events(lab: Lab) -> list[str | None]:
    return [event.reason for event in lab.context().store.events.read("node1") if event.verb is EventKind.SET]


def test_a_property_reported_by_a_check_can_be_selected_and_is_recorded_once(lab: Lab) -> None:
    fleet(lab, "echo BMH_PROPERTY cpus=32; echo done; printf 'BMH_PROPERTY firmware = 2.1 '")
    before = lab.path.read_bytes() if lab.is_toml else b""
    outcomes = step_verbs.ready(lab.context(), ALL)

    assert said(outcomes) == {"node1": (True, "readiness check passed: hw")}
    assert found(lab, "cpus>=32,firmware=2.1,memory=64GiB") == ["node1"]
    assert set_events(lab) == ["hw observed: cpus (none) → 32, firmware (none) → 2.1"]
    assert host(lab).spec.hardware == {"memory": "64GiB", "disks": 2}
    assert lab.context().store.step_results.of(host(lab))[0].detail == "done"

    step_verbs.check(lab.context(), ALL)
    assert len(set_events(lab)) == 1
    assert not lab.is_toml or lab.path.read_bytes() == before
    hosts.set_attributes(lab.context(), ALL, hosts.AttributeChanges(note="left slot"))
    hosts.rename(lab.context(), "node1", "node2")
    assert found(lab, "cpus=32") == ["node2"]
    hosts.rename(lab.context(), "node2", "node1")
    assert not lab.is_toml or b"cpus = " not in lab.path.read_bytes()


def test_a_declared_property_wins_and_the_difference_is_reported(lab: Lab) -> None:
    fleet(lab, "echo BMH_PROPERTY memory=32GiB")
    outcomes = step_verbs.ready(lab.context(), ALL)

    words = "kept as declared: memory 64GiB (observed: 32GiB)"
    assert said(outcomes) == {"node1": (True, f"readiness check passed: hw; {words}")}
    assert set_events(lab) == [f"hw observed: memory (none) → 32GiB; {words}"]
    assert (found(lab, "memory=64GiB"), found(lab, "memory=32GiB")) == (["node1"], [])

    hosts.set_attributes(lab.context(), ALL, hosts.AttributeChanges(hardware={"memory": None}))
    assert (found(lab, "memory=64GiB"), found(lab, "memory=32GiB")) == ([], ["node1"])


def test_an_empty_value_removes_a_property_and_a_failed_step_reports_none(lab: Lab) -> None:
    fleet(lab, "echo BMH_PROPERTY cpus=$(test {hardware.disks} = 2 && echo 8); exit $(({hardware.disks} / 4))")
    step_verbs.ready(lab.context(), ALL)
    assert found(lab, "cpus=8") == ["node1"]
    hosts.set_attributes(lab.context(), ALL, hosts.AttributeChanges(hardware={"disks": 4}))
    step_verbs.check(lab.context(), ALL)
    assert found(lab, "cpus=8") == ["node1"]
    hosts.set_attributes(lab.context(), ALL, hosts.AttributeChanges(hardware={"disks": 3}))
    step_verbs.check(lab.context(), ALL)
    assert found(lab, "cpus") == []


def test_properties_reported_by_a_setup_step_are_visible_to_the_checks(lab: Lab) -> None:
    fleet(lab, "echo BMH_PROPERTY cpus=8", "setup", '[checks.many]\ncommand = ["false"]\nselector = "cpus>4"\n')
    outcomes = step_verbs.ready(lab.context(), ALL)

    assert said(outcomes) == {"node1": (False, "readiness check failed: many: exit 1")}
    assert host(lab).state is State.INITIAL
    assert found(lab, "cpus=8") == ["node1"]


def test_hostile_properties_are_limited_and_reported(lab: Lab) -> None:
    script = (
        "printf 'BMH_PROPERTY cpus=\\033[31m8\\n'; echo BMH_PROPERTY name=evil; echo BMH_PROPERTY cpus;"
        " echo BMH_PROPERTY cpus=16; yes BMH_PROPERTY rack=r9 | head -5000;"
        " printf 'BMH_PROPERTY firmware='; yes x | head -c 100000000 | tr -d '\\n'"
    )
    fleet(lab, script)
    step_verbs.ready(lab.context(), ALL)

    assert host(lab).spec.observed == {"cpus": 16}
    detail = lab.context().store.step_results.of(host(lab))[0].detail
    assert "'name' is not among the step's properties; 'cpus' is not key=value; 5001 more lines" in detail
    assert "\033[31m8" not in detail
    assert len(detail) < 1000


def test_observed_properties_are_exported_and_imported_as_observed(lab: Lab) -> None:
    fleet(lab, "echo BMH_PROPERTY memory=32GiB; echo BMH_PROPERTY cpus=8")
    step_verbs.ready(lab.context(), ALL)
    text = "".join(dump_parts([], [host(lab)], None, lab.clock.now))
    [found] = unpack_inventory(text, "export", lab.clock.now).hosts
    assert found.host.spec == host(lab).spec
    assert queries.show(lab.context(), "node1").host.spec.properties == {"memory": "64GiB", "disks": 2, "cpus": 8}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('[checks.a]\ntcp = 22\nproperties = ["cpus"]', "checks.a.properties: only a command reports properties"),
        ('[checks.a]\ncommand = ["true"]\nproperties = ["a b"]', "checks.a.properties must be a list of hardware"),
        ('[retire.a]\ncommand = ["true"]\nproperties = []', "retire.a: unknown key 'properties'"),
    ],
)
def test_the_policy_says_which_steps_report_properties(text: str, why: str) -> None:
    with pytest.raises(InvalidError, match=why):
        parse_policy(load(text, "policy"))


def test_a_changed_setup_step_repeats_those_that_need_it_and_no_other(lab: Lab) -> None:
    text = """
[setup.bmc]
command = ["./bmc"]
[setup.bios]
command = ["./bios"]
needs = ["bmc"]
[setup.none]
command = ["./none"]
selector = "absent"
needs = ["bios"]
[setup.raid]
command = ["./raid"]
needs = ["none"]
[setup.disk]
command = ["./disk"]
[checks.ssh]
command = ["./ssh"]
"""
    lab.policy(text)
    hosts.add(lab.context(), ["node1"], hosts.AttributeChanges())
    ready(lab, "ssh")
    assert ready(lab, "ssh") == ["ssh"]
    replace_policy(lab, "./bmc", text.replace("./bmc", "./bmc2"))
    assert sorted(ready(lab, "ssh")) == ["bios", "bmc", "raid", "ssh"]
    replace_policy(lab, "./none", text.replace("./bmc", "./bmc2").replace("./none", "./none2"))
    assert ready(lab, "ssh") == ["ssh"]
    ran = Ran()
    with saying(ran):
        step_verbs.ready(lab.context(), ALL)
    assert ran.steps == ["ssh"]
