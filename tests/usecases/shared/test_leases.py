"""Leases and their tokens on every backend: who may act for a lease, how it ends, and what replaces it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest

from bmhctl.api import Inventory
from bmhctl.domain.model import Event, State
from bmhctl.errors import BusyError, NotFoundError, NotYoursError, UnsatisfiableError, UsageError
from bmhctl.results import Held
from bmhctl.stores.host_query import HostQuery
from bmhctl.support.values import replace
from bmhctl.usecases import hosts
from bmhctl.usecases.reservations import holder, queue
from bmhctl.usecases.shared.host_selection import Choice
from bmhctl.usecases.steps import step_verbs
from tests.conftest import Lab, copied

HOUR = timedelta(hours=1)


@pytest.fixture
@copied
def fleet(lab: Lab) -> Lab:
    """Two hosts in each of two racks, available; leases of an hour, two at most."""
    lab.policy('[defaults]\nttl = "1h"\nmax_ttl = "2h"\n')
    hosts.add(lab.context(), ["node[1-2]"], hosts.AttributeChanges(labels={"rack": "r1"}))
    hosts.add(lab.context(), ["node[3-4]"], hosts.AttributeChanges(labels={"rack": "r2"}))
    step_verbs.ready(lab.context(), Choice(everything=True))
    return lab


def as_(lab: Lab, actor: str) -> Inventory:
    """Return the inventory as a Python object, for this actor."""
    return Inventory(lab.context(actor))


def states(lab: Lab) -> list[State]:
    return [host.state for host in lab.context().store.hosts.find(HostQuery())]


def ids(held: Held) -> tuple[str, list[str]]:
    return held.reservation.id, [host.name for host in held.hosts]


def last_events(lab: Lab, name: str, number: int) -> list[tuple[str, str, str | None]]:
    return [(e.actor, e.verb.value, e.reason) for e in as_(lab, "alice").history(name, number)]


# tests: who may act


def recycle(lab: Lab, *names: str) -> None:
    as_(lab, "operator").reset(*names)
    as_(lab, "operator").ready(*names)


@pytest.mark.parametrize("given_back", [True, False], ids=["given back", "expired"])
def test_a_command_with_an_ended_reservation_changes_nothing_and_names_the_present_holder(
    fleet: Lab, given_back: bool
) -> None:
    alice, bob = as_(fleet, "alice"), as_(fleet, "bob")
    old, _ = ids(alice.reserve("node1"))
    if given_back:
        alice.release(old)
    else:
        fleet.clock.move(hours=1)
        alice.reap()
    recycle(fleet, "node1")
    new = bob.reserve("node1", purpose="nightly")
    before = list(fleet.context().store.events.read())

    acts: list[Callable[[], object]] = [
        lambda: alice.taint("node1", reservation=old),
        lambda: alice.taint("node1"),
        lambda: alice.extend(old),
        lambda: alice.handover(old, "carol"),
        lambda: alice.replace("node1", old, reason="dead fan"),
    ]
    if given_back:
        alice.release(old)  # the host is already in the end state
    else:
        acts.append(lambda: alice.release(old))
    said = []
    for act in acts:
        with pytest.raises(NotYoursError) as refused:
            act()
        said.append(str(refused.value))

    assert list(fleet.context().store.events.read()) == before
    assert alice.host("node1").reservation == new.reservation
    assert f"is held by bob ({new.reservation.id}, nightly) until 20" in said[0]
    assert f"is held by bob ({new.reservation.id}, nightly) until 20" in said[1]
    why = "released" if given_back else "lease expired"
    assert all(f"reservation {old} has ended: {why} at 2026-01-01 1" in words for words in said[2:])


def test_force_needs_a_reason_and_is_in_the_history(fleet: Lab) -> None:
    as_(fleet, "alice").reserve("node1")
    bob = as_(fleet, "bob")

    with pytest.raises(UsageError):
        bob.taint("node1", force=True)
    bob.taint("node1", force=True, reason="fire")

    ((actor, verb, reason),) = last_events(fleet, "node1", 1)
    assert (actor, verb) == ("bob", "taint")
    assert "fire" in str(reason)


def test_an_unknown_reservation_id_is_not_found(fleet: Lab) -> None:
    with pytest.raises(NotFoundError):
        as_(fleet, "alice").extend("r-00000000")


# tests: how long


def test_extend_counts_from_now_and_never_shortens_a_lease_or_exceeds_max_ttl(fleet: Lab) -> None:
    alice = as_(fleet, "alice")
    held = alice.reserve("node1")
    begun = held.reservation.created_at

    def left(ttl: str | None) -> timedelta:
        expires = alice.extend(held.reservation.id, ttl).reservation.expires_at
        assert expires is not None
        return timedelta(seconds=round((expires - begun).total_seconds()))

    assert left("10m") == HOUR, "never sooner than it would"
    fleet.clock.move(minutes=30)
    assert left(None) == timedelta(minutes=90), "its own length, from now"
    assert left("9h") == timedelta(minutes=150), "the most that the policy allows, from now"
    fleet.clock.move(minutes=120)
    with pytest.raises(NotYoursError):
        left("1h")
    assert states(fleet) == ["tainted", "available", "available", "available"], "asking has reaped it"


def test_a_lease_that_the_policy_shortens_is_reported(fleet: Lab) -> None:
    held = as_(fleet, "alice").reserve("node1")
    granted = holder.extend(fleet.context(), held.reservation.id, timedelta(hours=9))

    assert granted.notes == ("capped at 2h from now, the longest that this inventory allows",)


@pytest.mark.parametrize("is_reaped", [True, False])
def test_an_expired_lease_cannot_be_extended(fleet: Lab, is_reaped: bool) -> None:
    alice = as_(fleet, "alice")
    held = alice.reserve("node1")
    fleet.clock.move(hours=1)
    if is_reaped:
        as_(fleet, "operator").reap()

    with pytest.raises(NotYoursError) as refused:
        alice.extend(held.reservation.id)
    said = f"reservation {held.reservation.id} has ended: lease expired at 2026-01-01 13:00:00 UTC"
    assert said in str(refused.value)


WRITERS: dict[str, Callable[[Inventory], object]] = {
    "add": lambda lab: lab.add("node9"),
    "cordon": lambda lab: lab.cordon("node4"),
    "maintain": lambda lab: lab.maintain("node4", reason="x"),
    "ready": lambda lab: lab.ready("node4"),
    "reset": lambda lab: lab.reset("node1"),
    "reserve": lambda lab: lab.reserve("node4"),
    "taint": lambda lab: lab.taint("node1"),
    "reap": lambda lab: lab.reap(),
    "remove": lambda lab: lab.remove("node4"),
    "handover": lambda lab: lab.handover(lab.reservations()[-1].reservation.id, "carol"),
}


@pytest.mark.parametrize("name", WRITERS)
def test_every_writing_command_ends_expired_leases(fleet: Lab, name: str) -> None:
    over = as_(fleet, "alice").reserve("node1", "node2")
    as_(fleet, "bob").reserve("node3", ttl="2h")
    fleet.clock.move(hours=1)
    assert states(fleet)[:2] == ["reserved"] * 2, "time alone writes nothing"

    WRITERS[name](as_(fleet, "bob"))

    first = as_(fleet, "bob").history("node2")[-1]
    assert (first.actor, first.verb, first.reason) == ("bmhctl", "taint", "lease expired")
    assert states(fleet)[1] == "tainted"
    assert over.reservation.id not in [one.id for one in fleet.context().store.reservations.open()]


def test_reap_names_the_leases_that_it_ends_and_a_dry_run_ends_none(fleet: Lab) -> None:
    held = as_(fleet, "alice").reserve("node1", "node2")
    fleet.clock.move(hours=1)

    planned = holder.reap_expired(replace(fleet.context(), dry_run=True))
    assert states(fleet)[0] == "reserved"
    done = holder.reap_expired(fleet.context())

    assert [ids(one) for one in planned.items] == [ids(one) for one in done.items] == [ids(held)]
    assert holder.reap_expired(fleet.context()).items == ()


def test_resume_returns_a_host_to_its_valid_lease(fleet: Lab) -> None:
    alice = as_(fleet, "alice")
    held = alice.reserve("node1")
    alice.maintain("node1", reason="dead fan")
    assert alice.host("node1").reservation == held.reservation

    alice.resume("node1")
    assert (alice.host("node1").state, alice.host("node1").reservation) == ("reserved", held.reservation)


def test_a_lease_that_expires_during_maintenance_is_not_restored(fleet: Lab) -> None:
    alice = as_(fleet, "alice")
    alice.reserve("node1", "node2", "node3")
    alice.maintain("node2", reason="dead fan")
    fleet.clock.move(hours=1)
    alice.reap()

    assert states(fleet) == ["tainted", "maintenance", "tainted", "available"]
    host = alice.host("node2")
    assert (host.reservation, host.dirty) == (None, True)
    assert last_events(fleet, "node2", 1) == [("bmhctl", "reservation-lost", "lease expired")]
    alice.resume("node2")
    assert alice.host("node2").state == "initial", "cleaned first, as it was used"


def test_a_reservation_ends_with_its_last_host(fleet: Lab) -> None:
    alice = as_(fleet, "alice")
    held = alice.reserve("node1", "node2")
    alice.taint("node1", reservation=held.reservation.id)
    assert [ids(one) for one in alice.reservations()] == [(held.reservation.id, ["node2"])]
    alice.taint("node2", reservation=held.reservation.id)
    assert alice.reservations() == ()


# tests: another owner, another host


def test_a_handover_gives_a_new_id_and_ends_the_old_one(fleet: Lab) -> None:
    alice, bob = as_(fleet, "alice"), as_(fleet, "bob")
    old = alice.reserve("node1", "node2")
    with pytest.raises(NotYoursError):
        as_(fleet, "carol").handover(old.reservation.id, "carol")

    new = alice.handover(old.reservation.id, "bob")

    assert new.reservation.id != old.reservation.id
    assert (new.reservation.owner, new.reservation.expires_at) == ("bob", old.reservation.expires_at)
    assert [host.name for host in new.hosts] == ["node1", "node2"]
    assert last_events(fleet, "node1", 1) == [("alice", "handover", "from alice to bob")]
    with pytest.raises(NotYoursError) as refused:
        alice.release(old.reservation.id)
    assert "has ended: handed over to bob" in str(refused.value)
    bob.release(new.reservation.id)
    assert states(fleet)[:2] == ["tainted", "tainted"]


def test_replace_takes_a_fitting_host_and_taints_the_bad_one_with_its_fault(fleet: Lab) -> None:
    alice = as_(fleet, "alice")
    held = alice.reserve(selector="rack=r1")

    granted = alice.replace("node1", held.reservation.id, reason="dead fan")

    assert ids(granted) == (held.reservation.id, ["node2"])
    bad = alice.host("node1")
    assert (bad.state, bad.fault, bad.reservation) == ("tainted", "dead fan", None)
    assert last_events(fleet, "node1", 2) == [
        ("alice", "taint", "replaced by node2: dead fan"),
        ("alice", "fault", "dead fan"),
    ]
    assert last_events(fleet, "node2", 1) == [("alice", "reserve", "replaces node1")]


def test_replace_changes_nothing_when_no_other_host_fits(fleet: Lab) -> None:
    alice = as_(fleet, "alice")
    held = alice.reserve(selector="rack=r1", count=2)
    before: list[Event] = list(fleet.context().store.events.read())

    with pytest.raises(BusyError):
        alice.replace("node1", held.reservation.id, reason="dead fan")  # only hosts of the other rack are free

    assert list(fleet.context().store.events.read()) == before
    with pytest.raises(UsageError):
        alice.replace("node1", held.reservation.id, reason=" ")


def test_replace_keeps_the_requirements_of_a_reservation_met(fleet: Lab) -> None:
    alice = as_(fleet, "alice")
    held = alice.reserve(wants=["rack=r1", "rack=r2"])
    assert [host.name for host in held.hosts] == ["node1", "node3"]

    assert ids(alice.replace("node3", held.reservation.id, reason="dead"))[1] == ["node1", "node4"]


# tests: unsatisfiable requests


def test_overlapping_requirements_get_hosts_that_meet_them_all_or_none(fleet: Lab) -> None:
    alice = as_(fleet, "alice")
    hosts.set_attributes(fleet.context(), Choice(("node1",)), hosts.AttributeChanges(labels={"role": "switch"}))

    held = alice.reserve(wants=["rack=r1", "role=switch"])
    assert sorted(host.name for host in held.hosts) == ["node1", "node2"]

    with pytest.raises(UnsatisfiableError):
        alice.reserve(wants=["rack=r1*2", "role=switch"])


def test_an_unsatisfiable_request_names_what_each_term_excludes_and_the_nearest_value(fleet: Lab) -> None:
    alice = as_(fleet, "alice")
    with pytest.raises(UnsatisfiableError) as refused:
        alice.reserve(selector="rack=r1,gpu", count=2)
    assert (refused.value.details, refused.value.hint) == (
        {"fitting": 0, "hosts": 4, "excluded": {"rack=r1": 2, "gpu": 4}},
        "without gpu there are 2: -l 'rack=r1'",
    )
    with pytest.raises(UnsatisfiableError) as refused:
        alice.reserve(selector="rack in (r8,r9)")
    assert refused.value.hint == "without rack in (r8,r9) there are 4; rack is r1, r2"
    with pytest.raises(UnsatisfiableError) as refused:
        alice.reserve(selector="rak=r1")
    assert refused.value.hint == "without rak=r1 there are 4; did you mean rack?"

    with pytest.raises(UnsatisfiableError) as refused:
        alice.reserve(selector="rack=r1", count=3)
    assert refused.value.message == (
        "not possible in this inventory: 3 hosts with rack=r1; of 4 declared hosts 2 would fit (rack=r1 excludes 2)"
    )
    assert refused.value.hint == "2 at once would be possible; bmhctl list -l SELECTOR shows what fits"


def test_a_busy_refusal_names_the_holders_and_the_first_expiry(fleet: Lab) -> None:
    bob, again = (as_(fleet, "bob").reserve(name, ttl="30m").reservation.id for name in ("node1", "node2"))
    carol = as_(fleet, "carol").reserve("node3").reservation.id

    with pytest.raises(BusyError) as refused:
        as_(fleet, "alice").reserve(count=2)

    assert refused.value.message == (
        "2 hosts: 1 free now, nothing was reserved: 1 available, 3 reserved, "
        f"held by bob ({bob}, {again}), carol ({carol}); the first lease ends at 2026-01-01 12:30 UTC; "
        "it fits by 2026-01-01 12:31 UTC at the latest, if no lease is extended"
    )
    assert str(refused.value.details.pop("eta")).startswith("2026-01-01T12:30:00")
    assert refused.value.details == {
        "free": 1,
        "wanted": 2,
        "states": {"reserved": 3, "available": 1},
        "holders": [f"bob ({bob})", f"bob ({again})", f"carol ({carol})"],
    }


# tests: repeated requests


def test_a_request_id_gives_the_same_reservation_until_it_ends(fleet: Lab) -> None:
    alice = as_(fleet, "alice")
    first = alice.reserve(selector="rack=r1", request_id="job-1")

    assert alice.reserve(selector="rack=r1", request_id="job-1") == first
    assert as_(fleet, "bob").reserve(selector="rack=r1", request_id="job-1") != first, "ids are an owner's own"
    with pytest.raises(UsageError):
        alice.reserve(selector="rack=r2", request_id="job-1")
    fleet.clock.move(hours=1)
    with pytest.raises(NotYoursError):
        alice.reserve(selector="rack=r1", request_id="job-1")
    assert queue.queue(fleet.context()).items == ()


def test_other_owners_of_a_shared_reservation_can_extend_and_release_it(fleet: Lab) -> None:
    token = as_(fleet, "alice").reserve("node1", "node2").reservation.id
    with pytest.raises(NotYoursError):
        holder.share(fleet.context("bob"), token, add=["bob"])

    shared = holder.share(fleet.context("alice"), token, add=["bob", "carol", "alice"]).held

    assert (shared.reservation.id, shared.reservation.shared_with) == (token, ("bob", "carol"))
    assert fleet.context().store.reservations.get(token) == shared.reservation
    fleet.clock.move(minutes=5)
    as_(fleet, "bob").extend(token, "2h")
    as_(fleet, "bob").taint("node1")
    with pytest.raises(NotYoursError):
        holder.handover(fleet.context("bob"), token, "bob")
    as_(fleet, "alice").share(token, remove=["bob"])
    with pytest.raises(NotYoursError, match="shared with carol"):
        as_(fleet, "bob").taint("node2")
    kept = [(event.verb, event.reason) for event in as_(fleet, "bob").history("node2")]
    assert ("share", "with bob, carol") in kept
    assert kept[-1] == ("unshare", "without bob")
    with pytest.raises(UsageError, match="is not shared with bob"):
        holder.share(fleet.context("alice"), token, remove=["bob"])
    assert as_(fleet, "alice").handover(token, "dave").reservation.shared_with == ()
