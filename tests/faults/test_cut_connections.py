"""A connection to a server that is cut, at any message and in the middle of any: what a command says then is the truth.

``BMHCTL_TEST_SCALE=1`` cuts at every message in every way; the default is a part of that.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from bmhctl import open_inventory
from bmhctl.api import Inventory
from bmhctl.model import State
from bmhctl.usecases import homes
from bmhctl.usecases.care import doctor
from tests.conftest import Run, environment
from tests.faults.calls import call
from tests.faults.conftest import SCALE, some
from tests.faults.figures import Figures
from tests.faults.proxy import Fate, Plan, Proxy, at
from tests.postgres import Server, drop_schema, schema_url

CUTS = (Fate.BEFORE, Fate.MIDDLE, Fate.AFTER)
NOT_KNOWN = "it is not known whether it took effect"


@dataclass
class Line:
    """An inventory on a server, by way of a proxy (``url``) and directly (``lab``)."""

    proxy: Proxy
    url: str
    lab: Inventory
    numbers: Iterator[int] = field(default_factory=itertools.count)

    def call(self, *args: str, plan: Plan | None = None) -> Run:
        if plan is not None:
            self.proxy.begin(plan)
        done = call("-i", self.url, *args)
        assert "Traceback" not in done.stderr
        assert not [word for word in ("rollback", "ignored", "cancel") if word in done.stderr], "talk of a library"
        self.lab.host("node1")
        with self.lab._context.store.transaction():  # in which whoever was cut off is done with
            pass
        return done

    @property
    def state(self) -> State:
        return self.lab.host("node1").state

    def held(self) -> list[str]:
        return [held.reservation.id for held in self.lab.reservations()]

    def names(self) -> list[str]:
        return [host.name for host in self.lab.hosts()]

    def reserve(self) -> str:
        return self.lab.reserve("node1").reservation.id

    def bring(self, state: State) -> None:
        """Brings node1 to where a verb starts from."""
        for reservation in self.held():
            self.lab.release(reservation)
        if self.state is State.MAINTENANCE:
            self.lab.resume("node1")
        if self.state is State.TAINTED and state is not State.TAINTED:
            self.lab.reset("node1")
        if self.state is State.INITIAL and state is not State.INITIAL:
            self.lab.ready("node1")
        if self.state is State.AVAILABLE and state is State.INITIAL:
            self.bring_round()
        if self.state is State.AVAILABLE and state is State.TAINTED:
            self.lab.release(self.reserve())

    def bring_round(self) -> None:
        self.lab.release(self.reserve())
        self.lab.reset("node1")

    def in_order(self) -> list[str]:
        """What the doctor finds: nothing is left over of what did not take effect."""
        return [each.message for each in doctor(self.lab._context).findings]


@pytest.fixture
def line(own_server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Line]:
    """An inventory with a host that is available; no command waits for long for a server that says nothing."""
    for name, value in environment().items():
        monkeypatch.setenv(name, value)
    url = schema_url(own_server.url, tmp_path)
    homes.init(url)
    with closing(Proxy(own_server.socket)) as proxy, open_inventory(url, actor="alice") as lab:
        lab.add("node1")
        lab.ready("node1")
        yield Line(proxy, proxy.through(url), lab)
    drop_schema(url)


@dataclass(frozen=True)
class Verb:
    """A command line made anew for each try, and whether it took effect."""

    line: Callable[[Line], tuple[str, ...]]
    start: State
    has_effect: Callable[[Line], bool]
    after: Callable[[Line], object] = lambda line: None


def becomes(state: State) -> Callable[[Line], bool]:
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
    "status": Verb(lambda _: ("status",), State.AVAILABLE, lambda _: False),
}


@pytest.mark.parametrize("name", VERBS)
def test_cut_at_any_message_a_command_took_effect_or_not_as_it_says(line: Line, name: str, figures: Figures) -> None:
    verb = VERBS[name]
    is_reserve = name.startswith("reserve")
    line.bring(verb.start)
    words = verb.line(line)
    assert line.call(*words, plan=lambda _: Fate.PASS).status == 0
    messages = len(line.proxy.passed)
    verb.after(line)
    tries = [(number, fate) for number in range(messages) for fate in CUTS]
    lies, uncertain, faults = [], 0, 0
    for number, fate in some(tries, name, SCALE * 0.3 if SCALE < 1 else 1):
        line.bring(verb.start)
        words = verb.line(line)
        done = line.call(*words, plan=at(number, fate))
        faults += len(line.proxy.passed) > number
        is_uncertain = NOT_KNOWN in done.stderr
        uncertain += is_uncertain
        has_effect = verb.has_effect(line)
        # What reads, and what reserves, needs not leave it open: nothing hangs on the one, the other can be asked for.
        if is_uncertain and (is_reserve or name == "status"):
            lies.append((number, fate, done))
        if done.status not in (0, 11) or (not is_uncertain and has_effect != (done.status == 0 and name != "status")):
            lies.append((number, fate, done))
        if is_uncertain:
            assert line.call(*words, plan=lambda _: Fate.PASS).status in (0, 4), "saying it again is safe"
            assert verb.has_effect(line)
        verb.after(line)

    figures(
        "connections cut",
        "postgres",
        tries=len(some(tries, name, SCALE * 0.3 if SCALE < 1 else 1)),
        faults=faults,
        uncertain=uncertain,
        losses=len(lies),
    )
    assert lies == []
    assert faults
    assert line.in_order() == []
    assert line.lab._context.store.claims.left_behind() == []
