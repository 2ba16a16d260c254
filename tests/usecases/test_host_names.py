"""Host names are DNS names: the same everywhere, and equal in upper and lower case."""

from __future__ import annotations

import json
import tomllib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bmhctl.domain.host_spec import host_variables
from bmhctl.domain.model import HostSpec, Reservation
from bmhctl.domain.requirements import reservation_request
from bmhctl.errors import InvalidError, NotFoundError, StateRefusedError, UsageError
from bmhctl.results import Held
from bmhctl.runner.environment import export_line
from bmhctl.stores.claims import host_claim
from bmhctl.stores.toml.declaration import parse_declaration
from bmhctl.usecases import hosts, lifecycle_verbs, queries
from bmhctl.usecases.hosts import AttributeChanges
from bmhctl.usecases.reservations import reserve
from bmhctl.usecases.shared.host_selection import Choice, unfold
from bmhctl.usecases.steps import step_verbs
from tests.conftest import Lab
from tests.formats.texts import dump_inventory, read_inventory

LETTERS = "abcxyzABCXYZ0189"
LABELS = st.from_regex(rf"\A[{LETTERS}]([{LETTERS}-]{{0,6}}[{LETTERS}])?\Z") | st.just("n" * 63)
NAMES = st.lists(LABELS, min_size=1, max_size=4).map(".".join).filter(lambda name: len(name) <= 253)


def names(lab: Lab, *choice: str) -> list[str]:
    chosen = Choice(choice, everything=not choice)
    return [host.name for host in queries.list_hosts(lab.context(), chosen).hosts]


def add(lab: Lab, *new: str) -> list[str]:
    return [item.host for item in hosts.add(lab.context(), new, AttributeChanges(note="x")).items]


@pytest.mark.slow
def test_a_host_name_is_stored_unchanged_in_lower_case(lab: Lab) -> None:
    @settings(max_examples=8)
    @given(st.lists(NAMES, min_size=1, max_size=3, unique_by=str.lower))
    def lives(given_names: list[str]) -> None:
        stored = [name.lower() for name in given_names]
        assert add(lab, *given_names) == stored
        assert names(lab) == sorted(stored)
        assert names(lab, *(name.upper() for name in given_names)) == stored
        assert stored[0] in names(lab, f"{stored[0][:1].upper()}*")
        ctx = lab.context()
        host = queries.show(ctx, given_names[0].swapcase()).host
        assert host_variables(host.spec)["HOST"] == stored[0]
        mine = Reservation("r-1", "alice", None, host.since, None, None)
        assert export_line(Held(mine, (host,)), {}).endswith(f"BMH_HOSTS={stored[0]} BMH_HOST={stored[0]}")
        with ctx.store.claims.claim(host_claim(host.id)) as held:
            assert held is not None
            (refused,) = lifecycle_verbs.maintain(lab.context(), Choice((given_names[0],)), reason="check").items
            assert isinstance(refused.error, StateRefusedError)
        assert lifecycle_verbs.maintain(lab.context(), Choice((given_names[0],)), reason="check").items[0].error is None
        hosts.rename(lab.context(), given_names[0], f"{'m' * 63}.renamed".title())
        assert f"{'m' * 63}.renamed" in names(lab)
        hosts.rename(lab.context(), f"{'m' * 63}.RENAMED", given_names[0])
        text = dump_inventory(queries.list_hosts(lab.context(), Choice(everything=True)).hosts, None, lab.clock())
        assert [each.host.name for each in read_inventory(text, "x.toml", lab.clock()).arrivals] == sorted(stored)
        hosts.remove(lab.context(), Choice(tuple(name.swapcase() for name in given_names)))
        assert names(lab) == []
        lab.close()

    lives()


def test_names_that_differ_in_case_only_are_one_name(lab: Lab) -> None:
    add(lab, "Node1.lab")
    for taken in ("node1.LAB", "node1.lab"):
        with pytest.raises((StateRefusedError, InvalidError)):
            add(lab, taken)
    add(lab, "node2")
    with pytest.raises((StateRefusedError, InvalidError)):
        hosts.rename(lab.context(), "node2", "NODE1.lab")
    assert names(lab) == ["node1.lab", "node2"]
    assert [item.host for item in hosts.add(lab.context(), ["N3", "n3"], AttributeChanges()).items] == ["n3"]


def test_a_dot_in_a_pattern_is_a_dot(lab: Lab) -> None:
    add(lab, "node1.lab", "node1xlab", "node1-lab", "node10.lab")
    assert names(lab, "node1.*") == ["node1.lab"]
    assert names(lab, "*.LAB") == ["node1.lab", "node10.lab"]
    assert names(lab, "node1?lab") == ["node1-lab", "node1.lab", "node1xlab"]


def test_a_range_may_end_with_a_domain(lab: Lab) -> None:
    assert add(lab, "Node[09-11].lab.example") == ["node09.lab.example", "node10.lab.example", "node11.lab.example"]
    assert names(lab, "node[10-11].lab.example") == ["node10.lab.example", "node11.lab.example"]
    assert unfold(["rack[1-2].node[1,3].r4.lab"])[1::2] == ["rack1.node3.r4.lab", "rack2.node3.r4.lab"]
    with pytest.raises(UsageError, match="253"):
        unfold([f"{'n' * 250}[1-1000].lab"])


def test_a_host_with_dots_is_reserved_by_its_name_in_any_case(lab: Lab) -> None:
    add(lab, "gpu-1.lab.example")
    step_verbs.ready(lab.context(), Choice(("GPU-1.lab.example",)))
    grant = reserve.reserve_or_wait(lab.context(), reservation_request(["gpu-1.LAB.example"]))
    assert [host.name for host in grant.held.hosts] == ["gpu-1.lab.example"]


def test_the_history_of_a_removed_name_is_found_in_any_case(lab: Lab) -> None:
    add(lab, "old.lab")
    hosts.remove(lab.context(), Choice(("old.lab",)))
    assert [str(event.verb) for event in queries.history(lab.context(), "OLD.lab").events] == ["enter", "remove"]
    with pytest.raises(NotFoundError, match="was removed"):
        queries.show(lab.context(), "Old.Lab")


def test_a_toml_file_keeps_its_spelling_and_quotes_new_names_with_dots(toml_lab: Lab) -> None:
    toml_lab.path.write_text('[hosts."Node1.Lab"] # mine\nnote = "a"\n\n[hosts]\nB.note = "b"\n')
    assert names(toml_lab) == ["b", "node1.lab"]
    hosts.set_attributes(toml_lab.context(), Choice(("NODE1.lab", "b")), AttributeChanges(note="c"))
    add(toml_lab, "C.lab")
    assert toml_lab.path.read_text() == (
        '[hosts."Node1.Lab"] # mine\nnote = "c"\n\n[hosts]\nB.note = "c"\n\n[hosts."c.lab"]\nnote = "x"\n'
    )
    hosts.rename(toml_lab.context(), "node1.lab", "D.lab")
    hosts.remove(toml_lab.context(), Choice(("c.LAB",)))
    hosts.rename(toml_lab.context(), "B", "e.f")
    assert toml_lab.path.read_text() == '[hosts."d.lab"] # mine\nnote = "c"\n\n[hosts]\n"e.f".note = "c"\n'
    assert names(toml_lab) == ["d.lab", "e.f"]


@pytest.mark.slow
@given(st.lists(NAMES, min_size=1, max_size=5, unique_by=str.lower), NAMES, st.booleans())
def test_edits_of_a_toml_file_change_only_the_named_host(present: list[str], new: str, inline: bool) -> None:
    from bmhctl.stores.toml.editor import Change, edited

    taken = [name.lower() for name in present]
    if new.lower() in taken:
        return
    keys = [json.dumps(name) for name in present]
    text = "".join(f"{key} = {{ note = 'x' }}\n" if inline else f"[hosts.{key}]\n" for key in keys)
    text = f"[hosts]\n{text}" if inline else text
    changes = [
        Change.replace(HostSpec(taken[0], note="y")),
        Change.rename(present[0], new),
        Change.add(HostSpec(taken[0])),
    ]
    result = edited(text.encode(), [*changes, *(Change.remove(name.swapcase()) for name in present[1:])], "lab.toml")
    assert {spec.name: spec.note for spec in parse_declaration(result, "lab.toml").hosts} == {
        new.lower(): "y",
        taken[0]: None,
    }
    assert set(tomllib.loads(result.decode())["hosts"]) == {new.lower(), taken[0]}


@pytest.mark.parametrize(
    ("text", "said", "hint"),
    [
        (
            "[hosts.node1]\n[hosts.Node1]\n",
            "lab.toml:1: hosts.Node1: node1 is the same name: names are compared without case",
            "rename one of them",
        ),
        (
            "[hosts.node1.lab]\naddress = '10.0.0.1'\n",
            "lab.toml:1: hosts.node1: unknown key 'lab'",
            'a name with dots needs quotes: [hosts."node1.lab"]',
        ),
        ('[hosts."A.b"]\nmac = "x"\n', "lab.toml:2: hosts.a.b.mac must be a MAC address", None),
    ],
)
def test_an_error_about_names_in_a_toml_file_is_reported_with_its_line(text: str, said: str, hint: str | None) -> None:
    with pytest.raises(InvalidError) as caught:
        parse_declaration(text.encode(), "lab.toml")
    assert caught.value.message.startswith(said)
    assert caught.value.hint == hint


@pytest.mark.parametrize(
    "name",
    ["", ".", "a.", ".a", "a..b", "-a", "a-.b", "a.-b", "a_b", "a b", "é", "\u212a", "n" * 64, f"{'n' * 63}." * 4],
)
def test_what_is_not_a_dns_name_is_not_a_host_name(lab: Lab, name: str) -> None:
    with pytest.raises(UsageError):
        add(lab, name)
    assert names(lab) == []


def test_labels_whose_variables_would_have_the_same_name_get_different_ones() -> None:
    spec = HostSpec("a", labels={"a.b": "2", "A-B": "1", "a_b": "3", "a_b_2": "4"}, hardware={"a.b": 5})
    assert host_variables(spec) == {
        "HOST": "a",
        "LABEL_A_B": "1",
        "LABEL_A_B_2": "2",
        "LABEL_A_B_3": "3",
        "LABEL_A_B_2_2": "4",
        "HARDWARE_A_B": "5",
    }
