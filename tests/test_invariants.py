"""The invariants of the lifecycle and of bookings are checked after every random command, on every backend."""

from __future__ import annotations

import shutil
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from unittest import mock

import pytest
import tomli_w
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from bmhctl.domain.booking import Booking
from bmhctl.domain.host_spec import dump_spec
from bmhctl.domain.model import CheckResult, Event, EventKind, Host, HostSpec, State, Verb, Verdict
from bmhctl.domain.policy import Step
from bmhctl.domain.requirements import ReservationRequest, load_requirements, reservation_request
from bmhctl.errors import BmhctlError, InvalidError
from bmhctl.lifecycle.table import EDGES
from bmhctl.probes import run as probe
from bmhctl.probes.step_environment import StepEnvironment
from bmhctl.results import Held
from bmhctl.results.diagnosis import Severity
from bmhctl.stores import open_store
from bmhctl.stores.events import EventQuery
from bmhctl.stores.host_query import HostQuery
from bmhctl.usecases import copies, hosts, inventories, lifecycle_verbs, queries, undo
from bmhctl.usecases.doctor import doctor, examine
from bmhctl.usecases.planned_maintenance import plan_maintenance
from bmhctl.usecases.reservations import bookings, holder, reserve, waiting
from bmhctl.usecases.reservations.replacement import replace_host
from bmhctl.usecases.shared import expiry
from bmhctl.usecases.shared.context import Context
from bmhctl.usecases.shared.host_selection import Choice
from bmhctl.usecases.steps import resume, retire, step_verbs
from tests.conftest import BACKENDS, SUFFIX, Lab, location
from tests.formats.texts import dump_inventory, read_inventory

pytestmark = pytest.mark.slow

POLICY = """
[defaults]
ttl = "1h"
max_ttl = "5h"
quarantine_after = 2

[checks.ping]
command = ["true"]

[setup.firmware]
command = ["true"]
properties = ["firmware"]

[prepare.image]
command = ["true"]

[cleanup.wipe]
command = ["true"]

[retire.erase]
command = ["true"]
"""

MACHINES = {f"52:54:00:00:00:0{number}": number for number in range(1, 6)}
NAMES = [f"node{number}" for number in range(1, 6)]
ACTORS = ["alice", "bob", "carol"]

names = st.sampled_from(NAMES)
actors = st.sampled_from(ACTORS)


class Waiter:
    """A waiting command in a thread, which looks at the queue only when the test calls :meth:`look`."""

    def __init__(self, lab: Lab, actor: str, asked: ReservationRequest, timeout: timedelta | None) -> None:
        self.actor = actor
        self.ended = False
        self.granted: Held | None = None
        self.failed: BaseException | None = None
        self._go, self._paused = threading.Semaphore(0), threading.Semaphore(0)
        self._stop = False
        self._thread = threading.Thread(target=self._wait, args=(lab, asked, timeout), daemon=True)
        self._thread.start()
        self._paused.acquire()

    def _wait(self, lab: Lab, asked: ReservationRequest, timeout: timedelta | None) -> None:
        store = open_store(lab.location)
        ctx = Context(store=store, actor=self.actor, clock=lab.clock)
        try:
            self.granted = reserve.reserve_or_wait(ctx, asked, waiting.WaitOptions(self._pause, timeout)).held
        except BaseException as error:  # noqa: BLE001 - to be looked at by the test's own thread
            self.failed = error
        finally:
            store.close()
            self.ended = True
            self._paused.release()

    def _pause(self, _: float, wakes: int | None) -> None:
        self._paused.release()
        self._go.acquire()
        if self._stop:
            raise KeyboardInterrupt

    def look(self) -> None:
        """Lets the command look at the queue once; returns when it waits again or has ended."""
        if not self.ended:
            self._go.release()
            self._paused.acquire()

    def stop(self) -> None:
        """Ends the wait like a signal."""
        self._stop = True
        while not self.ended:
            self.look()
        self._thread.join()


class Lives(RuleBasedStateMachine):
    """Random verbs. ``used`` is true for each machine (by its MAC) that was used since its last cleanup.

    ``longer`` are leases that reach into a maintenance that was planned after they were granted.
    """

    kind = "sqlite"

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.lab = Lab(self.folder / SUFFIX[self.kind])
        # The connection of the checks stays open, because to open an inventory takes as long as to read it.
        self.checks = Lab(self.lab.path, self.lab.clock)
        self.used: dict[str, bool] = {}
        self.names_of: dict[str, str] = {}
        self.seen = 0
        self.steps_pass = True
        self.copies = 0
        self.started = False
        self.tokens = ["r-unknown"]
        self.waiters: list[Waiter] = []
        self.booked = ["b-unknown"]
        self.longer: set[tuple[str, str]] = set()

    def teardown(self) -> None:
        for waiter in self.waiters:
            waiter.stop()
        if self.started:
            tickets = self.ctx("alice").store.tickets.all()
            assert tickets == [], "who does not wait any more leaves no ticket"
        self.checks.close()
        self.lab.remove()
        shutil.rmtree(self.folder)

    @initialize(
        kind_of_start=st.sampled_from(["crowd", "two", "five"]),
        who=st.permutations(ACTORS),
        begin=st.integers(2, 300),
        length=st.integers(2, 200),
        count=st.integers(1, 3),
    )
    def start(self, kind_of_start: str, who: list[str], begin: int, length: int, count: int) -> None:
        inventories.init(self.lab.location)
        self.started = True
        self.lab.policy(POLICY)
        machines = 2 if kind_of_start == "two" else 5
        for mac, number in list(MACHINES.items())[:machines]:
            hosts.add(self.ctx("alice"), [f"node{number}"], hosts.AttributeChanges(mac=mac, labels={"arch": "arm64"}))
        if machines == 5:
            step_verbs.ready(self.ctx("alice"), Choice(states=frozenset({State.INITIAL})))
        if kind_of_start == "crowd":  # the first of the kinds, because by default only a few examples are tried
            self.crowd(who, begin, length, count)

    # the world

    def ctx(self, actor: str) -> Context:
        self.lab.close()
        return self.lab.context(actor)

    @contextmanager
    def attempt(self, actor: str) -> Iterator[Context]:
        """Run a command of an actor; the invariants must hold after it, even if it is refused."""

        def step(step: Step, spec: HostSpec, setting: StepEnvironment) -> CheckResult:
            verdict = Verdict.PASS if self.steps_pass else Verdict.FAIL
            observed = dict.fromkeys(step.properties, self.seen) if self.steps_pass else {}
            return CheckResult(step.name, verdict, "said so", 0.0, phase=step.phase, observed=observed)

        try:
            with mock.patch.object(probe, "run", step):
                yield self.ctx(actor)
        except BmhctlError:
            pass

    # verbs

    @rule(name=names, actor=actors, passes=st.sampled_from([True, True, False]))
    def ready(self, name: str, actor: str, passes: bool) -> None:
        self.steps_pass = passes
        with self.attempt(actor) as ctx:
            step_verbs.ready(ctx, Choice((name,)))
        self.steps_pass = True

    @rule(
        count=st.integers(1, 3), actor=actors, minutes=st.integers(1, 400), passes=st.sampled_from([True, True, False])
    )
    def reserve_some(self, count: int, actor: str, minutes: int, passes: bool) -> None:
        """If a prepare step fails, the hosts are tainted and others are tried."""
        self.steps_pass = passes
        with self.attempt(actor) as ctx:
            asked = reservation_request(count=count, ttl=timedelta(minutes=minutes))
            self.tokens.append(reserve.reserve_or_wait(ctx, asked).held.reservation.id)
        self.steps_pass = True

    @rule(actor=actors, passes=st.booleans())
    def recycle(self, actor: str, passes: bool) -> None:
        self.steps_pass = passes
        with self.attempt(actor) as ctx:
            step_verbs.recycle(ctx, Choice())
        self.steps_pass = True

    @rule(name=names, actor=actors, when_free=st.booleans(), passes=st.booleans())
    def retire(self, name: str, actor: str, when_free: bool, passes: bool) -> None:
        self.steps_pass = passes
        with self.attempt(actor) as ctx:
            retire.retire(ctx, Choice((name,)), reason="old", when_free=when_free)
        self.steps_pass = True

    @rule(name=names, actor=actors)
    def keep_after_all(self, name: str, actor: str) -> None:
        with self.attempt(actor) as ctx:
            retire.undo_retire(ctx, Choice((name,)))

    @rule(name=names, actor=actors)
    def reserve_named(self, name: str, actor: str) -> None:
        with self.attempt(actor) as ctx:
            self.tokens.append(reserve.reserve_or_wait(ctx, reservation_request((name,))).held.reservation.id)

    @rule(name=names, actor=actors, fault=st.sampled_from([None, "fan"]), force=st.booleans())
    def taint(self, name: str, actor: str, fault: str | None, force: bool) -> None:
        with self.attempt(actor) as ctx:
            lifecycle_verbs.taint(ctx, Choice((name,)), fault=fault, force=force, reason="because" if force else None)

    @rule(name=names, actor=actors, pick=st.integers(0, 9))
    def taint_with_token(self, name: str, actor: str, pick: int) -> None:
        with self.attempt(actor) as ctx:
            lifecycle_verbs.taint(ctx, Choice((name,)), reservation=self.tokens[pick % len(self.tokens)])

    @rule(actor=actors, pick=st.integers(0, 9))
    def release(self, actor: str, pick: int) -> None:
        with self.attempt(actor) as ctx:
            lifecycle_verbs.release(ctx, Choice(), reservation=self.tokens[pick % len(self.tokens)])

    @rule(name=names, actor=actors, passes=st.booleans())
    def reset(self, name: str, actor: str, passes: bool) -> None:
        self.steps_pass = passes
        with self.attempt(actor) as ctx:
            step_verbs.reset(ctx, Choice((name,)))
        self.steps_pass = True

    @rule(name=names, actor=actors, reason=st.sampled_from(["disk", "fan"]))
    def maintain(self, name: str, actor: str, reason: str) -> None:
        with self.attempt(actor) as ctx:
            lifecycle_verbs.maintain(ctx, Choice((name,)), reason=reason)

    @rule(name=names, actor=actors, everyones=st.booleans(), passes=st.booleans())
    def resume(self, name: str, actor: str, everyones: bool, passes: bool) -> None:
        self.steps_pass = passes
        with self.attempt(actor) as ctx:
            resume.resume(ctx, Choice((name,)), everyones=everyones)
        self.steps_pass = True

    @rule(name=names, actor=actors, on=st.booleans())
    def cordon(self, name: str, actor: str, on: bool) -> None:
        with self.attempt(actor) as ctx:
            (lifecycle_verbs.cordon if on else lifecycle_verbs.uncordon)(ctx, Choice((name,)))

    @rule(minutes=st.sampled_from([1, 59, 61, 600]))
    def time_goes_by(self, minutes: int) -> None:
        self.lab.clock.move(minutes=minutes)

    @rule(minutes=st.sampled_from([-1, -61, -600, 10_000]))
    def the_clock_is_set(self, minutes: int) -> None:
        self.lab.clock.move(minutes=minutes)

    @rule(actor=actors)
    def reap(self, actor: str) -> None:
        with self.attempt(actor) as ctx:
            expiry.reap(ctx)

    @rule(actor=actors, pick=st.integers(0, 9), minutes=st.integers(1, 600))
    def extend(self, actor: str, pick: int, minutes: int) -> None:
        with self.attempt(actor) as ctx:
            holder.extend(ctx, self.tokens[pick % len(self.tokens)], timedelta(minutes=minutes))

    @rule(actor=actors, pick=st.integers(0, 9), to=actors)
    def handover(self, actor: str, pick: int, to: str) -> None:
        with self.attempt(actor) as ctx:
            old = self.tokens[pick % len(self.tokens)]
            new = holder.handover(ctx, old, to).held.reservation.id
            self.tokens.append(new)
            self.longer |= {(new, planned) for lease, planned in self.longer if lease == old}  # it keeps its end

    @rule(name=names, pick=st.integers(0, 9))
    def replace_a_bad_host(self, name: str, pick: int) -> None:
        with self.attempt("alice") as ctx:
            replace_host(ctx, name, self.tokens[pick % len(self.tokens)], "smells burnt")

    @rule(actor=actors, count=st.integers(1, 3), request_id=st.sampled_from(["a", "b"]))
    def reserve_by_request(self, actor: str, count: int, request_id: str) -> None:
        with self.attempt(actor) as ctx:
            asked = reservation_request(count=count, request_id=request_id)
            held = reserve.reserve_or_wait(ctx, asked, None).held
            again = reserve.reserve_or_wait(ctx, asked, None).held
            assert again.reservation == held.reservation
            self.tokens.append(held.reservation.id)

    # bookings and planned maintenances

    def span(self, begin: int, length: int) -> tuple[datetime, datetime]:
        starts = self.lab.clock.now + timedelta(minutes=begin)
        return starts, starts + timedelta(minutes=length)

    @rule(actor=actors, count=st.integers(1, 3), begin=st.integers(1, 300), length=st.integers(1, 200))
    def book(self, actor: str, count: int, begin: int, length: int) -> None:
        with self.attempt(actor) as ctx:
            made = bookings.book(ctx, reservation_request(count=count), *self.span(begin, length))
            self.booked += [item.booking.id for item in made.items]

    @rule(actor=actors, pick=st.integers(0, 9))
    def cancel_a_booking(self, actor: str, pick: int) -> None:
        with self.attempt(actor) as ctx:
            bookings.cancel(ctx, self.booked[-1 - pick % len(self.booked)])

    @rule(actor=actors, pick=st.integers(0, 9), begin=st.integers(1, 300))
    def move_a_booking(self, actor: str, pick: int, begin: int) -> None:
        with self.attempt(actor) as ctx:
            bookings.reschedule(ctx, self.booked[-1 - pick % len(self.booked)], self.span(begin, 0)[0])

    @rule(actor=actors, pick=st.integers(0, 9), is_named=st.booleans())
    def take_a_booking(self, actor: str, pick: int, is_named: bool) -> None:
        """8: if the hosts of a booking are usable, its owner gets them at its beginning, until its end."""
        wanted = self.booked[-1 - pick % len(self.booked)]
        known = self.ctx(actor).store.bookings.get(wanted)
        if known is not None and known.ended_at is None:
            self.lab.clock.now = max(self.lab.clock.now, known.starts_at)
            actor = known.owner
        with self.attempt(actor) as ctx:
            expiry.reap(ctx)
            queries.list_hosts(ctx, Choice(everything=True))  # sync the edits of the file
            promised = self.honoured(ctx, wanted)
            asked = reservation_request(booking=wanted)
            if promised is not None and not is_named:  # the same request takes it as well
                asked = replace(asked, requirements=load_requirements(promised.requirements), booking=None)
            if promised is None:
                self.tokens.append(reserve.reserve_or_wait(ctx, asked).held.reservation.id)
                return
            with self.is_honoured(wanted):
                held = reserve.reserve_or_wait(ctx, asked).held
            self.tokens.append(held.reservation.id)
            assert {host.id for host in held.hosts} == set(promised.hosts)
            assert held.reservation.expires_at == promised.ends_at

    @rule(
        actor=actors,
        count=st.integers(1, 3),
        begin=st.integers(1, 300),
        length=st.integers(20, 200),
        is_named=st.booleans(),
    )
    def book_and_take(self, actor: str, count: int, begin: int, length: int, is_named: bool) -> None:
        """Book hosts and take the booking, so that many bookings are taken."""
        known = len(self.booked)
        self.book(actor, count, begin, length)
        if len(self.booked) > known:
            self.take_a_booking(actor, 0, is_named)

    @rule(who=st.permutations(ACTORS), begin=st.integers(2, 300), length=st.integers(2, 200), count=st.integers(1, 3))
    def crowd(self, who: list[str], begin: int, length: int, count: int) -> None:
        """With all hosts free, request bookings and a lease of the same hosts at the same time (6 and 7)."""
        actor, other = who[:2]
        self.time_goes_by(600)
        self.recycle(actor, True)
        self.book(actor, count, begin, length)
        self.book(other, count, begin + length // 2, length)
        known = len(self.tokens)
        self.reserve_some(1, other, begin - 1, True)
        if len(self.tokens) > known:
            self.extend(other, known, 600)
            self.book(actor, count, 1, length)

    @contextmanager
    def is_honoured(self, wanted: str) -> Iterator[None]:
        """Fail if the block, which takes a booking, is refused."""
        try:
            yield
        except BmhctlError as refused:
            pytest.fail(f"{wanted} was not honoured: {refused}")

    def honoured(self, ctx: Context, wanted: str) -> Booking | None:
        """Return the booking if it can be taken now: its hosts are usable, and the request takes no other booking."""
        booking = ctx.store.bookings.get(wanted)
        if booking is None or not booking.has_begun(self.lab.clock.now):
            return None
        mine = [ctx.store.hosts.with_id(each) for each in booking.hosts]
        if any(h is None or h.state is not State.AVAILABLE or h.cordon or h.undeclared for h in mine):
            return None
        begun = [each for each in ctx.store.bookings.open() if each.has_begun(self.lab.clock.now)]
        return booking if [each.id for each in begun if each.owner == booking.owner] == [wanted] else None

    @rule(name=names, begin=st.integers(1, 300), length=st.integers(1, 200), resumes=st.booleans())
    def plan_a_maintenance(self, name: str, begin: int, length: int, resumes: bool) -> None:
        with self.attempt("bob") as ctx:
            plan_maintenance(ctx, Choice((name,)), *self.span(begin, length), reason="power", resumes=resumes)
        for host in self.ctx("bob").store.hosts.find(HostQuery()):  # an older lease stays as it is
            if host.reservation is not None:
                ends = host.reservation.expires_at
                self.longer |= {
                    (host.reservation.id, each.id)
                    for each in host.planned
                    if each.id.startswith("m-") and (ends is None or ends > each.starts_at)
                }

    # waiting

    @precondition(lambda self: len(self.waiters) < 4)
    @rule(actor=actors, count=st.integers(1, 3), minutes=st.sampled_from([None, 30, 90]))
    def wait(self, actor: str, count: int, minutes: int | None) -> None:
        timeout = None if minutes is None else timedelta(minutes=minutes)
        self.waiters.append(Waiter(self.lab, actor, reservation_request(count=count), timeout))
        self.settle()

    @precondition(lambda self: self.waiters)
    @rule(order=st.permutations(range(4)))
    def everyone_looks(self, order: list[int]) -> None:
        for place in order:
            if place < len(self.waiters):
                self.waiters[place].look()
        self.settle()

    @precondition(lambda self: self.waiters)
    @rule(pick=st.integers(0, 3))
    def a_waiter_gives_up(self, pick: int) -> None:
        self.waiters[pick % len(self.waiters)].stop()
        self.settle()

    def settle(self) -> None:
        """Every waiting command that has ended has hosts, or a reason."""
        for waiter in self.waiters:
            if waiter.granted is not None:
                self.tokens.append(waiter.granted.reservation.id)
            elif waiter.ended:
                assert isinstance(waiter.failed, BmhctlError | KeyboardInterrupt), waiter.failed
        self.waiters = [waiter for waiter in self.waiters if not waiter.ended]

    # entries

    @rule(mac=st.sampled_from(list(MACHINES)), name=names)
    def add(self, mac: str, name: str) -> None:
        known = self.ctx("alice").store.hosts.named(name)
        if known is not None and known.spec.mac != mac:
            return  # an undeclared host was declared again as another machine: a person is only warned
        with self.attempt("alice") as ctx:
            hosts.add(ctx, [name], hosts.AttributeChanges(mac=mac))

    @rule(old=names, new=names)
    def rename(self, old: str, new: str) -> None:
        with self.attempt("bob") as ctx:
            hosts.rename(ctx, old, new)

    @rule(name=names, force=st.booleans(), is_undone=st.booleans())
    def remove(self, name: str, force: bool, is_undone: bool) -> None:
        with self.attempt("bob") as ctx:
            hosts.remove(ctx, Choice((name,)), force=force, reason="scrapped")
            if is_undone:
                undo.undo(ctx, (name,))

    @rule(name=names, rack=st.sampled_from(["r1", "r2"]))
    def set_label(self, name: str, rack: str) -> None:
        with self.attempt("bob") as ctx:
            hosts.set_attributes(ctx, Choice((name,)), hosts.AttributeChanges(labels={"rack": rack}))

    # the TOML file in another user's editor

    def is_toml(self) -> bool:
        return self.lab.is_toml

    def edit(self, change: Callable[[dict[str, dict[str, object]]], None]) -> None:
        import tomllib

        document = tomllib.loads(self.lab.path.read_text(encoding="utf-8"))
        declared = document.setdefault("hosts", {})
        change(declared)
        self.lab.path.write_text(tomli_w.dumps(document), encoding="utf-8")

    @precondition(is_toml)
    @rule(name=names)
    def undeclare_by_hand(self, name: str) -> None:
        self.edit(lambda declared: declared.pop(name, None) and None)

    @precondition(is_toml)
    @rule(name=names)
    def declare_again_by_hand(self, name: str) -> None:
        known = self.ctx("alice").store.hosts.named(name)
        if known is not None:
            self.edit(lambda declared: declared.setdefault(name, dump_spec(known.spec)) and None)

    @precondition(is_toml)
    @rule(old=names, new=names)
    def rename_by_hand(self, old: str, new: str) -> None:
        before = self.lab.path.read_bytes()

        def change(declared: dict[str, dict[str, object]]) -> None:
            if old in declared and new not in declared:
                declared[new] = declared.pop(old)

        self.edit(change)
        try:
            queries.list_hosts(self.ctx("alice"), Choice(everything=True))
        except InvalidError:  # the person reads the hint, and undoes the edit
            self.lab.path.write_bytes(before)

    @precondition(is_toml)
    @rule()
    def break_and_mend_by_hand(self) -> None:
        before = self.lab.path.read_bytes()
        self.lab.path.write_bytes(before + b"\n[hosts.node1\n")
        with pytest.raises(InvalidError):
            queries.list_hosts(self.ctx("alice"), Choice(everything=True))
        self.lab.path.write_bytes(before)

    # whole inventories

    @rule(kind=st.sampled_from(BACKENDS))
    def move_to_another_home(self, kind: str) -> None:
        for waiter in self.waiters:  # a copy does not contain the queue
            waiter.stop()
        self.settle()
        self.copies += 1
        folder = self.folder / f"copy{self.copies}"
        folder.mkdir()
        before = self.everything()
        copies.copy(self.ctx("alice"), location(folder / SUFFIX[kind]))
        self.checks.close()
        self.lab.remove()
        self.checks.path = self.lab.path = folder / SUFFIX[kind]
        assert self.everything() == before

    @rule()
    def import_an_export_again(self) -> None:
        with self.attempt("alice") as ctx:
            found = queries.list_hosts(ctx, Choice(everything=True))
            expiry.reap(ctx)  # otherwise the import would end expired leases, which is not an effect of the import
            before = self.states(ctx)
            text = dump_inventory(found.hosts, None, found.now)
            hosts.import_hosts(ctx, read_inventory(text, "export.toml", found.now))
            assert self.states(ctx) == before

    # the invariants

    def states(self, ctx: Context) -> dict[str, tuple[State, bool]]:
        return {host.name: (host.state, host.dirty) for host in ctx.store.hosts.find(HostQuery())}

    def everything(self) -> tuple[list[Host], list[Event], list[object]]:
        ctx = self.ctx("alice")
        queries.list_hosts(ctx, Choice(everything=True))  # sync the edits of the file
        found = [replace(h, last_event=0) for h in ctx.store.hosts.find(HostQuery())]
        return found, list(ctx.store.events.read()), [*ctx.store.reservations.all(), *ctx.store.bookings.all()]

    @invariant()
    def all_five_hold(self) -> None:
        ctx = self.checks.context("alice")
        store = ctx.store
        known = list(store.hosts.find(HostQuery()))
        chains = {host.name: list(store.events.read(host)) for host in known}
        edges = {(edge.verb, edge.source, edge.dest) for edge in EDGES}
        held: dict[str, list[str]] = {}
        for host in known:
            chain = chains[host.name]
            # 1: each change of state is an edge; the other events have the same source and destination
            for event in chain:
                if isinstance(event.verb, Verb):
                    assert (event.verb, event.source, event.dest) in edges, event
                else:
                    assert isinstance(event.verb, EventKind)
                    assert event.source == event.dest, event
            # 4: events form a gapless chain from outside the inventory to the host's state
            assert [chain[0].source, *(e.dest for e in chain)] == [None, *(e.source for e in chain[1:]), host.state]
            assert chain[-1].id == host.last_event
            # 3: a reserved host has one reservation, a host in maintenance may keep one, other hosts have none
            if host.state is State.RESERVED:
                assert host.reservation is not None
            if host.reservation is not None:
                assert host.state in (State.RESERVED, State.MAINTENANCE)
                assert host.reservation.is_open()
                held.setdefault(host.reservation.id, []).append(host.name)
            if host.state in (State.INITIAL, State.AVAILABLE):
                assert not host.dirty
            assert bool(host.maintenance) == (host.state is State.MAINTENANCE)
        assert sorted(held) == sorted(r.id for r in store.reservations.open())
        assert +Counter(store.hosts.counts()) == Counter(host.state for host in known)
        assert len(store.tickets.all()) == len(self.waiters)
        self.no_laundering(known, chains, list(store.events.find(EventQuery(after=self.seen))))
        self.the_plan_holds(known, {each.id: each for each in store.bookings.open()})
        # doctor agrees: nothing is broken, and nothing is left behind
        findings = doctor.doctor(ctx).findings
        assert [each for each in findings if each.severity is Severity.BROKEN or each.fixable] == []

    def the_plan_holds(self, known: list[Host], open_ones: dict[str, Booking]) -> None:
        """6 and 7: no lease reaches into a booking of another owner, and the planned times of a host never overlap."""
        for host in known:
            spans = list(host.planned)
            assert spans == sorted(spans, key=lambda each: each.starts_at)
            for one, following in pairwise(spans):
                assert one.ends_at <= following.starts_at, f"{host.name}: {one} and {following} overlap"
            lease = host.reservation
            for each in spans:
                booking = open_ones[each.id]
                assert host.id in booking.hosts
                assert (each.owner, each.starts_at, each.ends_at) == (
                    booking.owner, booking.starts_at, booking.ends_at,
                )  # fmt: skip
                if lease is None or (lease.id, each.id) in self.longer:
                    continue
                if booking.is_maintenance or each.owner != lease.owner:
                    assert lease.expires_at is not None, f"{host.name}: endless lease {lease.id} into {each}"
                    assert lease.expires_at <= each.starts_at, f"{host.name}: lease {lease.id} reaches into {each}"
        for booking in open_ones.values():
            if booking.is_maintenance and booking.due_at != booking.starts_at:
                continue  # the maintenance has begun on its hosts; the clock may have been set back since
            here = {host.id for host in known if any(each.id == booking.id for each in host.planned)}
            assert here == set(booking.hosts) & {host.id for host in known}

    def no_laundering(self, known: list[Host], chains: dict[str, list[Event]], news: list[Event]) -> None:
        """2: a machine that was reserved is clean only after a cleanup, by the whole history of each machine."""
        used = {}
        for host in known:
            dirty = False
            for event in chains[host.name]:
                if event.verb is Verb.RESERVE:
                    assert not dirty, f"{host.name} was handed on before a cleanup"
                    dirty = True
                elif event.verb is Verb.ENTER:
                    dirty = event.dest in (State.RESERVED, State.TAINTED)
                elif event.dest is State.INITIAL and event.source in (State.TAINTED, State.MAINTENANCE):
                    # From tainted, only a cleanup leads here; from maintenance, a cleanup, or a host that was clean.
                    assert not dirty or "cleanup step passed: wipe" in (event.reason or ""), event
                    dirty = False
            used[host.name] = dirty
            if host.state in (State.INITIAL, State.AVAILABLE):
                assert not dirty, f"{host.name} is {host.state} and was not cleaned"
        # Machines, not names: removing and adding again must not clean one either.
        truth: dict[str, bool] = {}
        machines = {host.spec.mac: host for host in known if host.spec.mac}
        retired = {e.host for e in news if e.verb is Verb.RETIRE}
        for mac, was_used in self.used.items():
            if self.names_of.get(mac) in retired:
                was_used = False  # the machine was cleaned before it was removed
            machine = machines.get(mac)
            if machine is not None:
                cleaned = any(
                    "cleanup step passed: wipe" in (e.reason or "") for e in chains[machine.name] if e.id > self.seen
                )
                if was_used and not cleaned:
                    assert machine.dirty, f"{machine.name} ({mac}) was used, never cleaned, and counts as clean"
                truth[mac] = machine.dirty
            else:
                truth[mac] = was_used
        for mac, host in machines.items():
            truth.setdefault(mac, used[host.name])
        self.used, self.names_of = truth, {mac: host.name for mac, host in machines.items()}
        self.seen = max((event.id for event in news), default=self.seen)


@pytest.mark.slow(seconds=30)
@pytest.mark.parametrize("backend", BACKENDS)
def test_the_invariants_hold_after_every_step(backend: str) -> None:
    machine = type(f"{backend.title()}Lives", (Lives,), {"kind": backend})
    share = 14 if backend == "postgres" else 9  # a server takes longer for each step
    chosen = settings(max_examples=settings().max_examples // share, stateful_step_count=40)
    # No rule starts a task, and to look for one, the doctor reads the environment of every process of the machine.
    with mock.patch.object(examine, "left_tasks", dict):
        run_state_machine_as_test(machine, settings=chosen)
