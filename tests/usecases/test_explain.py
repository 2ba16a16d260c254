"""The commands that ``why`` recommends succeed for the same actor."""

from __future__ import annotations

from bmhctl.domain.model import State, Verb
from bmhctl.domain.requirements import reservation_request
from bmhctl.results.why import VerbAnswer
from bmhctl.stores.claims import host_claim
from bmhctl.usecases import explain, hosts, lifecycle_verbs
from bmhctl.usecases.reservations.reserve import reserve_or_wait
from bmhctl.usecases.shared.host_selection import Choice
from bmhctl.usecases.steps import step_verbs
from tests.conftest import Lab

NODE = Choice(("node1",))


def answer(lab: Lab, actor: str, verb: Verb) -> VerbAnswer:
    (found,) = (each for each in explain.why(lab.context(actor), "node1").answers if each.verb is verb)
    return found


def test_why_recommends_resume_only_where_it_would_help(lab: Lab) -> None:
    hosts.add(lab.context(), ["node1"], hosts.AttributeChanges())
    step_verbs.ready(lab.context(), NODE)
    lifecycle_verbs.maintain(lab.context("alice"), NODE, reason="new disk")

    assert answer(lab, "alice", Verb.RESUME).dest is State.AVAILABLE
    assert explain.why(lab.context("alice"), "node1").next == "bmhctl resume node1"
    refused = answer(lab, "carol", Verb.RESUME)
    assert (refused.open, refused.dest, refused.words) == (
        False,
        None,
        ("stays in maintenance for alice; --all closes that reason, too",),
    )
    assert explain.why(lab.context("carol"), "node1").next is None

    lifecycle_verbs.maintain(lab.context("bob"), NODE, reason="new firmware")
    assert answer(lab, "alice", Verb.RESUME).words == ("stays in maintenance for bob; --all closes that reason, too",)


def test_why_names_the_reason_of_a_maintenance_or_a_fault_once(lab: Lab) -> None:
    hosts.add(lab.context(), ["node1", "node2"], hosts.AttributeChanges())
    step_verbs.ready(lab.context(), Choice(("node1", "node2")))
    lifecycle_verbs.maintain(lab.context("alice"), NODE, reason="new disk")

    def words(name: str) -> str:
        found = explain.why(lab.context("carol"), name)
        return "\n".join((found.summary, *found.facts, *(text for each in found.answers for text in each.words)))

    assert words("node1").count("new disk") == 1
    lifecycle_verbs.maintain(lab.context("bob"), NODE, reason="new firmware")
    assert [words("node1").count(reason) for reason in ("new disk", "new firmware")] == [1, 1]
    assert "in maintenance: new disk (alice); new firmware (bob)\n" in words("node1")
    reserve_or_wait(lab.context("alice"), reservation_request(("node2",)))
    lifecycle_verbs.taint(lab.context("alice"), Choice(("node2",)), fault="dead fan")
    assert words("node2").count("dead fan") == 1
    assert "last event: fault by alice\n" in words("node2") + "\n"


def test_why_recommends_nothing_while_a_step_runs(lab: Lab) -> None:
    hosts.add(lab.context(), ["node1"], hosts.AttributeChanges())
    host = lab.context().store.hosts.named("node1")
    assert host is not None
    assert explain.why(lab.context(), "node1").next == "bmhctl ready node1"
    with lab.context().store.claims.claim(host_claim(host.id)):
        assert explain.why(lab.context("bob"), "node1").next is None


def test_why_recommends_release_to_the_holder_of_a_host_only(lab: Lab) -> None:
    hosts.add(lab.context(), ["node1"], hosts.AttributeChanges())
    step_verbs.ready(lab.context(), NODE)
    reserve_or_wait(lab.context("alice"), reservation_request(("node1",)))

    recommended = [explain.why(lab.context(actor), "node1").next for actor in ("alice", "bob")]

    assert recommended == ["bmhctl release node1", None]
