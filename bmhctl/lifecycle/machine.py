"""Move a host through the table with one ``transitions`` machine; the only user of that library.

One machine serves the whole process. Hosts are not bound to it, because the time to bind models grows faster than their
number. Instead, the verb is triggered on an object that has only a host's state.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from functools import cache, lru_cache, partial
from operator import attrgetter
from types import SimpleNamespace
from typing import TYPE_CHECKING

from bmhctl.domain.model import Guard, Host, Planned, State, Verb
from bmhctl.errors import StateRefusedError
from bmhctl.lifecycle.table import EDGES, POSSIBLE, sources, where
from bmhctl.support.values import Frozen

if TYPE_CHECKING:
    from transitions import Machine

NOT_SET_UP = "its setup is not complete"
NOT_CHECKED = "its readiness checks have not run"
NOT_CLEANED = "its cleanup has not run"
NOT_RETIRED = "its retire steps have not run"
"""Why the guards refuse that ask for steps, unless the caller says that these have run."""

CLAIMED = "a step is running on it"
"""Why ``not_claimed`` refuses."""

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

    @classmethod
    def of(
        cls,
        host: Host,
        now: datetime,
        *,
        is_claimed: bool,
        reason: str | None = None,
        lease_end: datetime | None = None,
    ) -> GuardInput:
        """Return the inputs for a host on which no steps have run.

        ``is_claimed`` is whether another process holds the claim on the host. ``reason`` is that of a maintenance.
        ``lease_end`` is when a lease on the host would end; None: only what is planned for now refuses the verb.
        """
        return cls(
            undeclared="it is no longer declared" if host.undeclared else None,
            cordon=None if host.cordon is None else f"it {host.cordon.cordon_words}",
            claim=CLAIMED if is_claimed else None,
            reason=reason,
            reservation_valid=host.reservation is not None and host.reservation.is_valid(now),
            came_from=host.came_from,
            dirty=host.dirty,
            booked=_booked(host.planned[0], now, lease_end) if host.planned else None,
        )


def _booked(first: Planned, now: datetime, lease_end: datetime | None) -> str | None:
    is_clear = now < first.starts_at if lease_end is None else lease_end <= first.starts_at
    return None if is_clear else f"it is {first.words}"


_WHY_NOT: dict[Guard, Callable[[GuardInput], str | None]] = {
    Guard.SETUP_COMPLETE: attrgetter("setup"),
    Guard.CHECKS_PASSED: attrgetter("checks"),
    Guard.NOT_UNDECLARED: attrgetter("undeclared"),
    Guard.NOT_CORDONED: attrgetter("cordon"),
    Guard.NOT_CLAIMED: attrgetter("claim"),
    Guard.ITS_TURN: attrgetter("earlier_ticket"),
    Guard.NOT_BOOKED: attrgetter("booked"),
    Guard.MAY_BE_TAINTED: attrgetter("holder"),
    Guard.CLEANUP_SUCCEEDED: attrgetter("cleanup"),
    Guard.REASON_GIVEN: lambda it: None if (it.reason or "").strip() else "no reason is given",
    Guard.RESERVATION_VALID: lambda it: None if it.reservation_valid else "it has no valid reservation",
    Guard.CAME_FROM_AVAILABLE: lambda it: (
        None if it.came_from is State.AVAILABLE else f"it came from {it.came_from or 'outside'}, not from available"
    ),
    Guard.CLEAN: lambda it: "it is dirty: it was reserved since its last cleanup" if it.dirty else None,
    Guard.CLEAN_OR_CLEANED: lambda it: f"it is dirty, and {it.cleanup}" if it.dirty and it.cleanup else None,
    Guard.RETIREMENT_SUCCEEDED: attrgetter("retirement"),
}
"""For each guard, why it refuses these inputs, in words; None if it allows the verb."""


def _allows(guard: Guard, inputs: GuardInput, refusals: list[tuple[Guard, str]]) -> bool:
    """Return whether a guard allows the verb; if not, add its refusal to ``refusals``."""
    words = _WHY_NOT[guard](inputs)
    if words is not None:
        refusals.append((guard, words))
    return words is None


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
    )
    for edge in EDGES:
        if edge.source is not None and (edge.dest is not None or edge.guards):
            dest = _OUTSIDE if edge.dest is None else edge.dest.value
            conditions: list[str | Callable[..., bool | None]] = [partial(_allows, guard) for guard in edge.guards]
            machine.add_transition(edge.verb.value, edge.source.value, dest, conditions=conditions)
    return machine


@lru_cache(maxsize=1000)
def ask(verb: Verb, state: State, inputs: GuardInput) -> Answer:
    """Return whether ``verb`` is possible for a host in ``state``; a refusal has the reason of each guard.

    The answer depends only on the arguments, so one call serves many hosts in the same condition. Raises
    :class:`StateRefusedError` when the table has no edge for the verb from this state.
    """
    from transitions import MachineError

    model, refusals = SimpleNamespace(state=state.value), list[tuple[Guard, str]]()
    try:
        moved = _machine().events[verb.value].trigger(model, inputs, refusals)
    except MachineError as error:
        raise StateRefusedError(_only_from(verb, state)) from error
    if moved and model.state == _OUTSIDE:
        return Answer(None, ())
    return Answer(State(model.state) if moved else None, tuple(refusals))


_ONWARD = {State.TAINTED: "recycle", State.MAINTENANCE: "resume"}
"""The commands that a user needs first on a host in a state, whatever the verb was for."""


def refuse_impossible(verb: Verb, host: Host, word: str | None = None) -> None:
    """Raise :class:`StateRefusedError` for a host in a state from which the table has no edge for the verb.

    ``word`` stands for the verb in the message, for a command with another name than its verb.
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
