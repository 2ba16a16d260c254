"""Move a host through the table with one ``transitions`` machine; the only user of that library.

One machine serves the whole process. Hosts are not bound to it, because the time to bind models grows faster than their
number. Instead, a :class:`Passage` holds a host's state and the inputs of the guards, and the verb is triggered on it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, lru_cache
from typing import TYPE_CHECKING

from bmhctl.domain.model import Guard, Host, State, Verb
from bmhctl.errors import StateRefusedError
from bmhctl.lifecycle.table import EDGES, POSSIBLE, sources, where
from bmhctl.support.values import Frozen

if TYPE_CHECKING:
    from transitions import EventData, Machine

NOT_CHECKED = "its readiness checks have not run"
"""Why ``checks_passed`` refuses by default."""

NOT_CLEANED = "its cleanup has not run"
"""Why ``cleanup_succeeded`` refuses by default."""


NOT_SET_UP = "its setup is not complete"
"""Why ``setup_complete`` refuses by default."""


NOT_RETIRED = "its retire steps have not run"
"""Why ``retirement_succeeded`` refuses by default."""

_OUTSIDE = "[*]"  # the machine's state for a host outside the inventory


class GuardInput(Frozen):
    """The values that the guards check. The caller reads them first, because guards do no I/O.

    A text says why its guard refuses; None means that the guard allows the verb. ``checks``, ``cleanup``, ``setup`` and
    ``retirement`` default to "has not run", so their guards refuse. ``holder`` is None when the caller may act for the
    reservation.
    """

    undeclared: str | None = None
    cordon: str | None = None
    claim: str | None = None
    earlier_ticket: str | None = None
    booked: str | None = None
    holder: str | None = None
    checks: str | None = NOT_CHECKED
    cleanup: str | None = NOT_CLEANED
    setup: str | None = NOT_SET_UP
    reason: str | None = None
    reservation_valid: bool = False
    came_from: State | None = None
    dirty: bool = False
    retirement: str | None = NOT_RETIRED


class Passage:
    """One host during one verb: its state, the inputs of the guards, and the guards' refusals."""

    __slots__ = ("inputs", "refusals", "state")

    def __init__(self, state: State, inputs: GuardInput) -> None:
        self.state: str = state.value
        self.inputs = inputs
        self.refusals: list[tuple[Guard, str]] = []

    def _refuse(self, guard: Guard, words: str | None) -> bool:
        if words is None:
            return True
        self.refusals.append((guard, words))
        return False

    def setup_complete(self, _: EventData) -> bool:
        """Allow ``ready`` if the setup of the host is complete."""
        return self._refuse(Guard.SETUP_COMPLETE, self.inputs.setup)

    def checks_passed(self, _: EventData) -> bool:
        """Allow ``ready``, and ``resume`` to available, if the readiness checks passed."""
        return self._refuse(Guard.CHECKS_PASSED, self.inputs.checks)

    def not_undeclared(self, _: EventData) -> bool:
        """Allow ``reserve`` if the host is declared."""
        return self._refuse(Guard.NOT_UNDECLARED, self.inputs.undeclared)

    def not_cordoned(self, _: EventData) -> bool:
        """Allow ``reserve`` if the host is not cordoned."""
        return self._refuse(Guard.NOT_CORDONED, self.inputs.cordon)

    def not_claimed(self, _: EventData) -> bool:
        """Allow a verb that would collide with a running step if no step is running on the host."""
        return self._refuse(Guard.NOT_CLAIMED, self.inputs.claim)

    def its_turn(self, _: EventData) -> bool:
        """Allow ``reserve`` if no earlier ticket has a right to the host."""
        return self._refuse(Guard.ITS_TURN, self.inputs.earlier_ticket)

    def not_booked(self, _: EventData) -> bool:
        """Allow ``reserve`` if the lease ends before anything that is planned on the host."""
        return self._refuse(Guard.NOT_BOOKED, self.inputs.booked)

    def may_be_tainted(self, _: EventData) -> bool:
        """Allow ``taint`` if the caller may act for the reservation."""
        return self._refuse(Guard.MAY_BE_TAINTED, self.inputs.holder)

    def cleanup_succeeded(self, _: EventData) -> bool:
        """Allow ``reset`` if the cleanup succeeded."""
        return self._refuse(Guard.CLEANUP_SUCCEEDED, self.inputs.cleanup)

    def reason_given(self, _: EventData) -> bool:
        """Allow ``maintain`` if a reason is given."""
        given = bool(self.inputs.reason and self.inputs.reason.strip())
        return self._refuse(Guard.REASON_GIVEN, None if given else "no reason is given")

    def reservation_valid(self, _: EventData) -> bool:
        """Allow ``resume`` to reserved if the host has a valid reservation."""
        words = None if self.inputs.reservation_valid else "it has no valid reservation"
        return self._refuse(Guard.RESERVATION_VALID, words)

    def came_from_available(self, _: EventData) -> bool:
        """Allow ``resume`` to available if the host came from there."""
        origin = self.inputs.came_from
        words = None if origin is State.AVAILABLE else f"it came from {origin or 'outside'}, not from available"
        return self._refuse(Guard.CAME_FROM_AVAILABLE, words)

    def clean(self, _: EventData) -> bool:
        """Allow ``resume`` to available if the host is clean."""
        return self._refuse(
            Guard.CLEAN, "it is dirty: it was reserved since its last cleanup" if self.inputs.dirty else None
        )

    def clean_or_cleaned(self, _: EventData) -> bool:
        """Allow ``resume`` to initial if the host is clean, or its cleanup succeeded."""
        words = f"it is dirty, and {self.inputs.cleanup}" if self.inputs.dirty and self.inputs.cleanup else None
        return self._refuse(Guard.CLEAN_OR_CLEANED, words)

    def retirement_succeeded(self, _: EventData) -> bool:
        """Allow ``retire`` if the retire steps succeeded."""
        return self._refuse(Guard.RETIREMENT_SUCCEEDED, self.inputs.retirement)


class Answer(Frozen):
    """The answer of the machine: the state to which the verb leads, or None and the guards that refused, in words.

    If the verb removes the host, and no guard refuses, there is neither a state nor a refusal.
    """

    dest: State | None
    refusals: tuple[tuple[Guard, str], ...]


@cache
def _machine() -> Machine:
    from transitions import Machine

    machine = Machine(
        model=None,
        states=[*(state.value for state in State), _OUTSIDE],
        initial=State.INITIAL.value,
        auto_transitions=False,
        send_event=True,
    )
    for edge in EDGES:
        if edge.source is not None and (edge.dest is not None or edge.guards):
            dest = _OUTSIDE if edge.dest is None else edge.dest.value
            conditions: list[str | Callable[..., bool | None]] = [guard.value for guard in edge.guards]
            machine.add_transition(edge.verb.value, edge.source.value, dest, conditions=conditions)
    return machine


@lru_cache(maxsize=1000)
def ask(verb: Verb, state: State, inputs: GuardInput) -> Answer:
    """Trigger ``verb`` for a host in ``state``, and return the answer; a refusal has the words of each guard.

    The answer depends only on the arguments, so one call serves many hosts in the same condition. Raises
    :class:`StateRefusedError` when the table has no edge for the verb from this state.
    """
    from transitions import MachineError

    passage = Passage(state, inputs)
    try:
        moved = _machine().events[verb.value].trigger(passage)
    except MachineError as error:
        raise StateRefusedError(_only_from(verb, state)) from error
    if moved and passage.state == _OUTSIDE:
        return Answer(None, ())
    return Answer(State(passage.state) if moved else None, tuple(passage.refusals))


_ONWARD = {State.TAINTED: "recycle", State.MAINTENANCE: "resume"}
"""The commands that a user needs first on a host in a state, whatever the verb was for."""


def refuse_impossible(verb: Verb, host: Host, word: str | None = None) -> None:
    """Raise :class:`StateRefusedError` for a host in a state from which the table has no edge for the verb.

    ``word`` is the verb in messages, if a command has another name.
    """
    if (verb, host.state) not in POSSIBLE:
        onward = _ONWARD.get(host.state, "why")
        raise StateRefusedError(_only_from(verb, host.state, word), host=host.name, hint=f"bmhctl {onward} {host.name}")


def _only_from(verb: Verb, state: State, word: str | None = None) -> str:
    return f"is {where(state)}: {word or verb} is only possible from {', '.join(sources(verb))}"


_OUT_AND_IN = (Verb.ENTER, Verb.RETIRE, Verb.REMOVE)


def possible(state: State) -> tuple[Verb, ...]:
    """Return the verbs that have an edge from ``state``, in the order of the table."""
    return tuple(verb for verb in Verb if verb not in _OUT_AND_IN and (verb, state) in POSSIBLE)
