"""Following the history, on every backend: each event once, in order, whatever happens to the inventory meanwhile."""

from __future__ import annotations

import os
import random
import select
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from pathlib import Path

import pytest

from bmhctl.domain.model import Event, EventKind, State
from bmhctl.domain.selector import parse_selector
from bmhctl.errors import AwayError, InvalidError, NotFoundError, UsageError
from bmhctl.stores.store import Store
from bmhctl.usecases import copies, hosts, lifecycle_verbs
from bmhctl.usecases.follow import follow
from bmhctl.usecases.history import HistoryRequest
from bmhctl.usecases.shared.absence import Absence
from bmhctl.usecases.shared.context import Context
from bmhctl.usecases.shared.host_selection import Choice
from bmhctl.usecases.steps import step_verbs
from tests.conftest import Lab, made_in
from tests.processes import until

ALL = Choice(everything=True)


class EndError(Exception):
    """Ends a test's follower."""


def followed(ctx: Context, *acts: Callable[[], object], **request: object) -> list[str]:
    """Return the events that a follower yields while the ``acts`` happen, one each time the follower is idle."""
    told: list[str] = []
    left = list(acts)

    def pause(_: float, wakes: int | None) -> None:
        if not left:
            raise EndError
        left.pop(0)()
        if wakes is not None:
            select.select([wakes], [], [], 0.2)  # until the server's notification arrives

    def hand_on(events: Sequence[Event], _: datetime) -> None:
        told.extend(f"{event.host} {event.verb}" for event in events)

    with pytest.raises(EndError):
        follow(ctx, HistoryRequest(**{"choice": ALL, **request}), pause, hand_on)  # type: ignore[arg-type]
    return told


def add(lab: Lab, name: str, rack: str = "r1") -> None:
    with lab.visit() as ctx:
        hosts.add(ctx, [name], hosts.AttributeChanges(labels={"rack": rack}))


def test_a_follower_gets_each_event_once_in_order(lab: Lab) -> None:
    add(lab, "node1")
    told = followed(
        lab.context(),
        lambda: add(lab, "node2"),
        lambda: step_verbs.ready(lab.context(), ALL, jobs=1),
        lambda: hosts.remove(lab.context(), Choice(("node1",))),
    )
    assert told == ["node1 enter", "node2 enter", "node1 ready", "node2 ready", "node1 remove"]
    assert followed(lab.context(), lambda: add(lab, "node3"), after=5) == ["node3 enter"]
    assert followed(lab.context(), lambda: add(lab, "node4"), last=1) == ["node3 enter", "node4 enter"]
    assert followed(lab.context(), lambda: add(lab, "node5"), last=0) == ["node5 enter"]


def test_filters_of_history_apply_to_followed_events(lab: Lab) -> None:
    add(lab, "node1")
    acts = [
        lambda: add(lab, "node2", "r2"),
        lambda: lifecycle_verbs.cordon(lab.context("olga"), Choice(("node2",)), reason="drill"),
        lambda: step_verbs.ready(lab.context("ci-1"), Choice(("node1",)), jobs=1),
    ]
    context, rack = lab.context(), Choice(selector=parse_selector("rack=r2"))
    assert followed(context, *acts, choice=rack) == ["node2 enter", "node2 cordon"]
    again = [
        lambda: lifecycle_verbs.uncordon(lab.context("olga"), Choice(("node2",))),
        lambda: add(lab, "new1"),
        lambda: lifecycle_verbs.maintain(lab.context("ci-2"), Choice(("node1",)), reason="drill"),
    ]
    newest = context.store.database.settled_event()
    assert followed(context, *again, after=newest, actor="ci*", verbs=("maintain",)) == ["node1 maintain"]
    assert followed(context, after=newest, choice=Choice(("n*1",))) == ["new1 enter", "node1 maintain"]


def test_follow_with_an_end_or_an_unknown_host_is_refused(lab: Lab) -> None:
    add(lab, "node1")
    for more in ({"newest_first": True}, {"until": lab.clock.now}):
        with pytest.raises(UsageError, match="--follow can't be combined"):
            follow(lab.context(), HistoryRequest(ALL, **more), lambda *_: None, lambda *_: None)  # type: ignore[arg-type]
    with pytest.raises(NotFoundError):
        follow(lab.context(), HistoryRequest(Choice(("node9",))), lambda *_: None, lambda *_: None)


@pytest.mark.parametrize("lab", ["sqlite"], indirect=True)
def test_a_follower_continues_in_an_inventory_that_replaces_its_own(lab: Lab, tmp_path: Path) -> None:
    add(lab, "node1")
    copies.backup(lab.context(), str(tmp_path / "copy.db"))
    add(lab, "node2")
    lab.close()

    def restore() -> None:
        for suffix in ("-wal", "-shm"):
            Path(f"{lab.path}{suffix}").unlink(missing_ok=True)
        os.replace(tmp_path / "copy.db", lab.path)

    told = followed(lab.context(), restore, lambda: add(lab, "node3"))
    assert told == ["node1 enter", "node2 enter", "node3 enter"]
    assert any("the inventory was restored or replaced: continuing after its event 1" in said for said in lab.said)


def test_a_follower_syncs_an_edited_toml_file_and_waits_for_a_broken_one(
    toml_lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bmhctl.usecases.shared.changes._LOOK_AT_FILE", 0)
    add(toml_lab, "node1")
    good = toml_lab.path.read_text()
    told = followed(
        toml_lab.context(),
        lambda: toml_lab.path.write_text("[hosts"),
        lambda: toml_lab.path.write_text(good + '\n[hosts.node2]\nnote = "x"\n'),
    )
    assert told == ["node1 enter", "node2 enter"]
    assert sum("waiting until that is fixed" in said for said in toml_lab.said) == 1
    assert sum("lab.toml is valid again" in said for said in toml_lab.said) == 1
    toml_lab.path.write_text("[hosts")
    with pytest.raises(InvalidError):
        followed(toml_lab.context())


@pytest.mark.parametrize("broken", ["[hosts", None], ids=["broken", "missing"])
def test_a_file_that_stays_unusable_is_reported_once_whatever_is_committed_meanwhile(
    toml_lab: Lab, monkeypatch: pytest.MonkeyPatch, broken: str | None
) -> None:
    monkeypatch.setattr("bmhctl.usecases.shared.changes._LOOK_AT_FILE", 0.05)
    add(toml_lab, "node1")

    def spoil() -> None:
        if broken is None:
            toml_lab.path.unlink()
        else:
            toml_lab.path.write_text(broken)

    def commit() -> None:
        store = toml_lab.context().store
        with store.transaction():
            store.meta.put("touched", str(len(toml_lab.said)))
        time.sleep(0.03)

    assert followed(toml_lab.context(), spoil, *[commit] * 20) == ["node1 enter"]
    assert sum("; waiting until" in said for said in toml_lab.said) == 1, toml_lab.said


def test_reasons_that_alternate_while_an_inventory_is_unavailable_are_reported_once_each() -> None:
    said: list[str] = []
    absence = Absence(said.append, "lab.db")
    for _ in range(2):
        for reason in ("refused", "reset") * 3:
            absence.record(AwayError(reason))
        assert absence.reason == "reset"
        absence.ends()
    assert said == ["refused; waiting until it is back", "reset; waiting until it is back", "lab.db is back"] * 2


# tests: ids that are not committed in their order


@pytest.fixture
def server_lab(tmp_path: Path) -> Iterator[Lab]:
    """Six hosts on a server."""
    for lab in made_in("postgres", tmp_path):
        hosts.add(lab.context(), ["node[1-6]"], hosts.AttributeChanges())
        yield lab


class Writer:
    """A transaction that writes one event, a step at a time."""

    def __init__(self, lab: Lab, number: int) -> None:
        self.store: Store = lab.context().store
        self.name = f"node{number}"
        self.open: AbstractContextManager[object] | None = None
        self.is_written = False

    def begin(self) -> None:
        """Take the id of an event before the transaction has an id, like a grant that has not locked a row yet."""
        self.open = self.store.database.transaction(("SELECT 1", ()), write=True, shared=True)
        self.open.__enter__()
        self.is_written = False

    def write(self) -> None:
        host = self.store.hosts.named(self.name)
        assert host is not None
        event = Event(self.name, datetime.now().astimezone(), "x", EventKind.SET, State.INITIAL, State.INITIAL)
        self.store.hosts.save(host, event)
        self.is_written = True

    def end(self, *, commit: bool) -> None:
        assert self.open is not None
        if commit:
            self.open.__exit__(None, None, None)
        else:
            self.open.__exit__(EndError, EndError(), None)
        self.open = None

    def step(self, choice: random.Random) -> None:
        if self.open is None:
            self.begin()
        elif not self.is_written:
            self.write()
        else:
            self.end(commit=choice.random() < 0.7)


def test_an_event_is_delivered_after_older_ones_that_are_not_yet_committed(server_lab: Lab) -> None:
    first, second = Writer(server_lab, 1), Writer(server_lab, 2)

    def overtake() -> None:
        first.begin()
        second.begin()
        second.write()
        second.end(commit=True)

    def settled() -> None:  # transactions of other tests hold the server's newest events back, too
        until(lambda: ctx.store.database.settled_event() == ctx.store.events.newest())

    told: list[str] = []
    ctx = server_lab.context()
    request = HistoryRequest(ALL, after=ctx.store.database.settled_event())
    acts: list[Callable[[], object]] = [lambda: told.append("began"), overtake, lambda: told.append("overtaken")]
    acts += [first.write, lambda: first.end(commit=True), settled, lambda: told.append("committed")]

    def pause(_: float, __: int | None) -> None:
        if not acts:
            raise EndError
        acts.pop(0)()

    def hand_on(events: Sequence[Event], _: datetime) -> None:
        told.extend(event.host for event in events)

    with pytest.raises(EndError):
        follow(ctx, request, pause, hand_on)
    assert told == ["began", "overtaken", "node1", "node2", "committed"]


@pytest.mark.parametrize("seed", range(6))
def test_overlapping_transactions_lose_or_repeat_no_event_of_a_follower(seed: int, server_lab: Lab) -> None:
    choice = random.Random(seed)
    writers = [Writer(server_lab, number) for number in range(1, 7)]
    ctx = server_lab.context()
    before = ctx.store.database.settled_event()
    told: list[int] = []
    steps = iter(range(150))

    def pause(_: float, __: int | None) -> None:
        if next(steps, None) is not None:
            for _ in range(choice.randrange(4)):
                choice.choice(writers).step(choice)
            return
        for writer in writers:
            if writer.open is not None:
                writer.end(commit=writer.is_written)
        if not ctx.store.database.is_settling and told[-1:] == [newest()]:
            raise EndError

    def newest() -> int:
        return max(event.id for event in ctx.store.events.read())

    with pytest.raises(EndError):
        follow(
            ctx, HistoryRequest(ALL, after=before), pause, lambda events, _: told.extend(event.id for event in events)
        )
    committed = [event.id for event in ctx.store.events.read() if event.id > before]
    assert told == committed
    assert len(told) > 20
