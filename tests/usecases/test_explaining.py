"""What ``why`` recommends is what the command would do for whoever asks."""

from __future__ import annotations

from bmhctl.model import State, Verb
from bmhctl.results import VerbAnswer
from bmhctl.stores.claims import of_host
from bmhctl.usecases import explaining, hosts, verbs
from bmhctl.usecases.choosing import Choice
from tests.conftest import Lab

NODE = Choice(("node1",))


def answer(lab: Lab, actor: str, verb: Verb) -> VerbAnswer:
    (found,) = (each for each in explaining.why(lab.context(actor), "node1").answers if each.verb is verb)
    return found


def test_a_resume_is_recommended_to_whom_it_would_help(lab: Lab) -> None:
    hosts.add(lab.context(), ["node1"], hosts.FactChanges())
    verbs.ready(lab.context(), NODE)
    verbs.maintain(lab.context("alice"), NODE, reason="new disk")

    assert answer(lab, "alice", Verb.RESUME).dest is State.AVAILABLE
    assert explaining.why(lab.context("alice"), "node1").next == "bmhctl resume node1"
    refused = answer(lab, "carol", Verb.RESUME)
    assert (refused.open, refused.dest, refused.words) == (
        False,
        None,
        ("stays in maintenance for alice: new disk; --all closes these, too",),
    )
    assert explaining.why(lab.context("carol"), "node1").next is None

    verbs.maintain(lab.context("bob"), NODE, reason="new firmware")
    assert answer(lab, "alice", Verb.RESUME).words == (
        "stays in maintenance for bob: new firmware; --all closes these, too",
    )


def test_nothing_is_recommended_while_a_step_runs(lab: Lab) -> None:
    hosts.add(lab.context(), ["node1"], hosts.FactChanges())
    host = lab.context().store.host("node1")
    assert host is not None
    assert explaining.why(lab.context(), "node1").next == "bmhctl ready node1"
    with lab.context().store.claims.claim(of_host(host.id)):
        assert explaining.why(lab.context("bob"), "node1").next is None
