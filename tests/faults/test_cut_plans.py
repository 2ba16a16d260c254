"""Commands of bookings, of planned maintenance, of the queue and of sharing, cut off from their server at any message.

A command takes effect as a whole or not at all, its report is true, and when it is run again, the result is right.
``BMHCTL_TEST_SCALE=1`` cuts before, in or after every message; by default only some cuts are tried, and always the one
before the server's answer to a commit arrives.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest

from bmhctl.domain.requirements import dump_requirements, reservation_request
from bmhctl.domain.ticket import Ticket
from bmhctl.stores.postgres import connection
from bmhctl.stores.postgres.url import Address
from bmhctl.usecases.reservations import bookings
from tests.conftest import SCALE, Lab
from tests.faults.conftest import some
from tests.faults.figures import Figures
from tests.faults.proxy import Fate, at, everything_passes
from tests.faults.scenarios import (
    BOOKING,
    POLICY,
    TEN_MINUTES,
    TOKEN,
    block_a_booked_host,
    book,
    break_a_booked_host,
    hold,
    of,
    plan_power_work,
)
from tests.faults.server_link import ServerLink
from tests.faults.snapshots import Snapshot, check, state_of
from tests.postgres import Contents

pytestmark = pytest.mark.slow(seconds=20)

SHARE = 1 if SCALE >= 1 else SCALE / 2
CUTS = (Fate.BEFORE, Fate.MIDDLE, Fate.AFTER)
NOT_KNOWN = "it is not known whether the change was made"
HOUR = timedelta(hours=1)


@dataclass
class LinkedLab(Lab):
    """The inventory behind a link, accessed directly, with a clock that the test moves."""

    url: str = ""

    @property
    def location(self) -> str:
        return self.url


@pytest.fixture
def direct(link: ServerLink) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    """A connection to the server behind the link."""
    with psycopg.connect(Address.parse(link.direct).url, autocommit=True) as server:
        yield server


@dataclass(frozen=True)
class Case:
    """A command line and its preparation."""

    line: tuple[str, ...]
    before: Callable[[Lab], object] = lambda lab: None
    again: tuple[int, ...] = (0,)
    """The end of the command if it has already taken effect."""


def of_bob(lab: Lab) -> None:
    """Book any host for bob; he gets the first host, which alice books by name later."""
    starts = lab.clock.now + 2 * HOUR
    bookings.book(lab.context("bob"), reservation_request(count=1), starts, starts + 3 * HOUR)


def near_a_line(lab: Lab) -> None:
    hold(1)(lab)
    starts = lab.clock.now + 2 * HOUR
    bookings.book(lab.context("bob"), reservation_request(("node1",)), starts, starts + 3 * HOUR)


def two_tickets(lab: Lab) -> None:
    """Add tickets like those of waiting commands, and keep them alive until the end of the test."""
    store, now = lab.context().store, lab.clock.now
    wanted = dump_requirements(reservation_request(count=3).requirements)
    with store.transaction():
        for owner in ("alice", "bob"):
            store.tickets.add(Ticket(owner, wanted, now, now + HOUR))


def share(lab: Lab) -> None:
    hold(2)(lab)
    of(lab).share(TOKEN, add=["bob"])


def begin_power_work(lab: Lab) -> None:
    """Put the hosts into a maintenance that ends automatically."""
    plan_power_work(lab)
    of(lab).reap()


CASES = {
    "book": Case(("reserve", "-n", "2", "--from", "2h", "--ttl", "3h", "--request-id", "job")),
    "book weekly": Case(
        ("reserve", "node1", "--from", "2h", "--ttl", "3h", "--weekly", "3", "--request-id", "job"),
    ),
    "book where another booking makes room": Case(
        ("reserve", "node1", "--from", "3h", "--ttl", "1h", "--request-id", "job"), of_bob
    ),
    "take a booking": Case(("reserve", "--booking", BOOKING, "--request-id", "job"), book(2, -TEN_MINUTES)),
    "take a booking by asking": Case(("reserve", "-n", "2", "--request-id", "job"), book(2, -TEN_MINUTES)),
    "cancel a booking": Case(("bookings", "cancel", BOOKING), book(2), again=(4,)),
    "move a booking": Case(("bookings", "move", BOOKING, "--from", "3h"), book(2)),
    "move a booking to another host": Case(("bookings", "move", BOOKING, "--from", "6h"), block_a_booked_host),
    "exchange a broken host": Case(("reap",), break_a_booked_host),
    "let a booking lapse": Case(("reap",), book(2, -HOUR)),
    "plan a maintenance": Case(
        ("maintain", "node[1-2]", "--from", "2h", "--until", "+3h", "--reason", "power", "--resume"), again=(5,)
    ),
    "begin a planned maintenance": Case(("reap",), plan_power_work),
    "maintain when free": Case(("maintain", "node1", "--when-free", "--reason", "disk"), hold(2)),
    "extend into a line": Case(("extend", "-R", TOKEN, "--ttl", "5h"), near_a_line),
    "move a ticket": Case(("queue", "move", "2", "--first", "--reason", "release"), two_tickets),
    "share": Case(("share", TOKEN, "--with", "bob"), hold(2)),
    "share no longer": Case(("share", TOKEN, "--without", "bob"), share, again=(2,)),
}


@pytest.fixture
def linked(link: ServerLink, tmp_path: Path) -> Iterator[LinkedLab]:
    """Three hosts that are available, on an inventory behind a proxy."""
    lab = LinkedLab(tmp_path / "lab.schema", url=link.direct)
    lab.clock.now = datetime.now(UTC)
    lab.policy(POLICY)
    for number in (2, 3):
        of(lab).add(f"node{number}")
    of(lab).ready("node2", "node3")
    lab.close()
    yield lab
    lab.close()


def at_last(state: Snapshot) -> Snapshot:
    """Returns the state without the history, because a command that is run again may record its event twice."""
    return replace(state, hosts=tuple(host for host, _ in state.hosts), queue=state.queue[:1])  # type: ignore[misc]


@pytest.mark.parametrize("name", CASES)
def test_a_plan_cut_off_at_any_message_took_effect_as_a_whole_or_not_at_all(
    link: ServerLink,
    direct: psycopg.Connection[tuple[object, ...]],
    linked: LinkedLab,
    name: str,
    figures: Figures,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connection, "SILENCE", 0.2)
    case = CASES[name]
    case.before(linked)
    linked.close()
    schema = Address.parse(link.direct).schema
    contents = Contents.of(direct, schema)
    store = link.lab._context.store

    def found() -> Snapshot:
        check(store)
        return state_of(store)

    before = found()
    assert link.call(*case.line, plan=everything_passes).status == 0
    passed = link.proxy.passed
    messages = len(passed)
    whole = found()
    assert whole != before

    cuts = [(number, CUTS[number % len(CUTS)]) for number in range(messages)]
    silences = [(number, Fate.FREEZE) for number in range(messages // 2, messages)]  # each takes its time
    answers = [(number, Fate.BEFORE) for number, message in enumerate(passed) if message.is_committed]
    tries = dict.fromkeys([*some(silences, name, SCALE * 0.2), *answers, *some(cuts, name, SHARE)])
    lies, uncertain, faults, is_unchanged_known = [], 0, 0, False
    for number, fate in reversed(tries):  # the first one without effect has already advanced sequences
        contents.put(direct, schema)
        done = link.call(*case.line, plan=at(number, fate))
        faults += len(link.proxy.passed) > number
        is_uncertain = NOT_KNOWN in done.stderr
        uncertain += is_uncertain
        is_unchanged = Contents.of(direct, schema).rows == contents.rows
        if is_unchanged and is_unchanged_known and done.status == 11:
            continue  # to run it again would be the same try again
        is_unchanged_known |= is_unchanged
        state = found()
        is_true = state == whole if done.status == 0 else is_uncertain or state == before
        again = link.call(*case.line, plan=everything_passes)
        is_right = at_last(found()) == at_last(whole) and again.status in (case.again if state == whole else (0,))
        if state not in (before, whole) or not is_true or not is_right or done.status not in (0, 11):
            lies.append((number, fate, done, again))

    figures("plans cut off", "postgres", tries=len(tries), faults=faults, uncertain=uncertain, losses=len(lies))
    assert lies == []
    assert faults
    link.call(*case.line, plan=everything_passes)
    assert [each for each in link.in_order() if not each.startswith("ticket ")] == []  # the tickets have no process
