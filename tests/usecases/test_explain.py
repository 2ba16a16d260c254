"""What ``why`` recommends is what the command would do for the same actor."""

from __future__ import annotations

from bmhctl.domain.model import State, Verb
from bmhctl.results.why import VerbAnswer
from bmhctl.stores.claims import host_claim
from bmhctl.usecases import explain, hosts, lifecycle_verbs
from bmhctl.usecases.shared.host_selection import Choice
from bmhctl.usecases.steps import step_verbs
from tests.conftest import Lab

NODE = Choice(("node1",))


def answer(lab: Lab, actor: str, verb: Verb) -> VerbAnswer:
    (found,) = (each for each in explain.why(lab.context(actor), "node1").answers if each.verb is verb)
    return found


def test_a_resume_is_recommended_to_whom_it_would_help(lab: Lab) -> None:
    hosts.add(lab.context(), ["node1"], hosts.AttributeChanges())
    step_verbs.ready(lab.context(), NODE)
    lifecycle_verbs.maintain(lab.context("alice"), NODE, reason="new disk")

    assert answer(lab, "alice", Verb.RESUME).dest is State.AVAILABLE
    assert explain.why(lab.context("alice"), "node1").next == "bmhctl resume node1"
    refused = answer(lab, "carol", Verb.RESUME)
    assert (refused.open, refused.dest, refused.words) == (
        False,
        None,
        ("stays in maintenance for alice: new disk; --all closes these, too",),
    )
    assert explain.why(lab.context("carol"), "node1").next is None

    lifecycle_verbs.maintain(lab.context("bob"), NODE, reason="new firmware")
    assert answer(lab, "alice", Verb.RESUME).words == (
        "stays in maintenance for bob: new firmware; --all closes these, too",
    )


def test_nothing_is_recommended_while_a_step_runs(lab: Lab) -> None:
    hosts.add(lab.context(), ["node1"], hosts.AttributeChanges())
    host = lab.context().store.hosts.named("node1")
    assert host is not None
    assert explain.why(lab.context(), "node1").next == "bmhctl ready node1"
    with lab.context().store.claims.claim(host_claim(host.id)):
        assert explain.why(lab.context("bob"), "node1").next is None
