"""A connection to a server that is cut, or becomes silent, at any message: the report of a command is true.

``BMHCTL_TEST_SCALE=1`` cuts at every message in every way; by default only some cuts are tried.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

import pytest

from bmhctl.domain.model import State
from bmhctl.stores.postgres import connection
from tests.conftest import SCALE
from tests.faults.conftest import some
from tests.faults.figures import Figures
from tests.faults.proxy import Fate, at
from tests.faults.server_link import ServerLink

CUTS = (Fate.BEFORE, Fate.MIDDLE, Fate.AFTER)
NOT_KNOWN = "it is not known whether the change was made"


@dataclass(frozen=True)
class Verb:
    """A command, with functions that make its command line for each try and test whether it took effect."""

    line: Callable[[ServerLink], tuple[str, ...]]
    start: State
    has_effect: Callable[[ServerLink], bool]
    after: Callable[[ServerLink], object] = lambda line: None


def booked(link: ServerLink) -> str:
    """Books the host from tomorrow on, for the command's owner; returns the id."""
    unbook(link)
    return link.lab.book("node1", begins="1d", ttl="1h")[0].booking.id


def unbook(link: ServerLink) -> None:
    for each in link.lab.bookings():
        link.lab.cancel_booking(each.booking.id)


def is_booked(link: ServerLink) -> bool:
    return bool(link.lab.bookings())


def is_moved(link: ServerLink) -> bool:
    [one] = link.lab.bookings()
    return one.booking.starts_at - one.booking.created_at > timedelta(days=2)


def becomes(state: State) -> Callable[[ServerLink], bool]:
    return lambda line: line.state is state


VERBS = {
    "reserve": Verb(lambda _: ("reserve", "node1"), State.AVAILABLE, becomes(State.RESERVED)),
    "reserve with an id": Verb(
        lambda line: ("reserve", "node1", "--request-id", f"job{next(line.numbers)}"),
        State.AVAILABLE,
        becomes(State.RESERVED),
    ),
    "release": Verb(lambda line: ("release", "-R", line.reserve()), State.AVAILABLE, becomes(State.TAINTED)),
    "reset": Verb(lambda _: ("reset", "node1"), State.TAINTED, becomes(State.INITIAL)),
    "ready": Verb(lambda _: ("ready", "node1"), State.INITIAL, becomes(State.AVAILABLE)),
    "maintain": Verb(lambda _: ("maintain", "node1", "--reason", "disk"), State.AVAILABLE, becomes(State.MAINTENANCE)),
    "add": Verb(
        lambda _: ("add", "node2"),
        State.AVAILABLE,
        lambda line: "node2" in line.names(),
        lambda line: line.lab.remove("node2") if "node2" in line.names() else None,
    ),
    "book": Verb(
        lambda link: ("reserve", "node1", "--from", "1d", "--ttl", "1h", "--request-id", f"job{next(link.numbers)}"),
        State.AVAILABLE,
        is_booked,
        unbook,
    ),
    "cancel a booking": Verb(
        lambda link: ("bookings", "cancel", booked(link), "--as", "alice"),
        State.AVAILABLE,
        lambda link: not is_booked(link),
        unbook,
    ),
    "move a booking": Verb(
        lambda link: ("bookings", "move", booked(link), "--from", "3d", "--as", "alice"),
        State.AVAILABLE,
        is_moved,
        unbook,
    ),
    "plan a maintenance": Verb(
        lambda _: ("maintain", "node1", "--from", "1d", "--until", "+1h", "--reason", "power", "--as", "alice"),
        State.AVAILABLE,
        is_booked,
        unbook,
    ),
    "status": Verb(lambda _: ("status",), State.AVAILABLE, lambda _: False),
}


@pytest.mark.parametrize("name", VERBS)
def test_a_command_cut_off_at_any_message_reports_whether_it_took_effect(
    link: ServerLink, name: str, figures: Figures, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "SILENCE", 0.2)
    verb = VERBS[name]
    is_reserve = name.startswith("reserve")
    link.bring(verb.start)
    words = verb.line(link)
    assert link.call(*words, plan=lambda _: Fate.PASS).status == 0
    messages = len(link.proxy.passed)
    first = next(n for n, message in enumerate(link.proxy.passed) if message.is_clients and message.kind in b"QP")
    verb.after(link)
    cuts = [(number, fate) for number in range(messages) for fate in CUTS]
    silences = [(number, Fate.FREEZE) for number in range(first, messages)]  # each of them takes seconds
    tries = some(cuts, name, SCALE * 0.2 if SCALE < 1 else 1) + some(silences, name, SCALE * 0.05 if SCALE < 1 else 1)
    lies, uncertain, faults = [], 0, 0
    for number, fate in tries:
        link.bring(verb.start)
        words = verb.line(link)
        done = link.call(*words, plan=at(number, fate))
        faults += len(link.proxy.passed) > number
        is_uncertain = NOT_KNOWN in done.stderr
        uncertain += is_uncertain
        has_effect = verb.has_effect(link)
        # Reads and reservations must not be uncertain: a read changes nothing, and a reservation can be looked up.
        if is_uncertain and (is_reserve or name == "status"):
            lies.append((number, fate, done))
        if done.status not in (0, 11) or (not is_uncertain and has_effect != (done.status == 0 and name != "status")):
            lies.append((number, fate, done))
        if is_uncertain:
            assert link.call(*words, plan=lambda _: Fate.PASS).status in (0, 4, 5), "saying it again is safe"
            assert verb.has_effect(link)
        verb.after(link)

    figures(
        "connections cut",
        "postgres",
        tries=len(tries),
        faults=faults,
        uncertain=uncertain,
        losses=len(lies),
    )
    assert lies == []
    assert faults
    assert link.in_order() == []
    assert link.lab._context.store.claims.left_behind() == []
