"""The lifecycle as data: states, edges and guards, each with the words that explain it.

The machine, the explanations of the guards, the graphs and the diagram in the README are made from this table. The
lifecycle is that of ``BareMetalHost``: initial, available, reserved, tainted, and maintenance from any state.
"""

from __future__ import annotations

from bmhctl.domain.model import Edge, Guard, State, Verb

MEANING: dict[State, str] = {
    State.INITIAL: "clean and known, not yet checked",
    State.AVAILABLE: "clean, checked, free to be reserved",
    State.RESERVED: "held by one reservation",
    State.TAINTED: "used and given back, dirty until a cleanup succeeds",
    State.MAINTENANCE: "in maintenance, with a reason",
}
"""What holds for a host in each state, in one line for an operator."""


ASKS: dict[Guard, str] = {
    Guard.SETUP_COMPLETE: "its setup is complete",
    Guard.CHECKS_PASSED: "every readiness check that applies passed just now",
    Guard.NOT_UNDECLARED: "it is declared in the inventory",
    Guard.NOT_CORDONED: "it is not cordoned",
    Guard.NOT_CLAIMED: "no step is running on it",
    Guard.ITS_TURN: "no earlier ticket has a right to it",
    Guard.NOT_BOOKED: "the lease ends before a booking or a planned maintenance of it begins",
    Guard.MAY_BE_TAINTED: "the caller holds the reservation, or it expired, or force is used with a reason",
    Guard.CLEANUP_SUCCEEDED: "every cleanup step that applies succeeded just now",
    Guard.REASON_GIVEN: "a reason is given",
    Guard.RESERVATION_VALID: "its reservation is still valid",
    Guard.CAME_FROM_AVAILABLE: "it came from available",
    Guard.CLEAN: "it is clean",
    Guard.CLEAN_OR_CLEANED: "it is clean, or its cleanup succeeded just now",
    Guard.RETIREMENT_SUCCEEDED: "every retire step that applies succeeded just now",
}
"""What each guard asks for, as the end of the sentence "only if …"."""


_S, _V, _G = State, Verb, Guard

_IMPORTED = "A host that is already in use elsewhere must not look free or clean here."
_REMOVED = "A host that left the lab can no longer be used."

EDGES: tuple[Edge, ...] = (
    Edge(
        _V.ENTER,
        None,
        _S.INITIAL,
        (),
        "Host enters",
        "A new host has not been checked, so it is not free at once.",
    ),
    *(
        Edge(_V.ENTER, None, state, (), "Host is imported", _IMPORTED, drawn=False)
        for state in (_S.AVAILABLE, _S.RESERVED, _S.TAINTED, _S.MAINTENANCE)
    ),
    Edge(
        _V.READY,
        _S.INITIAL,
        _S.AVAILABLE,
        (_G.NOT_CLAIMED, _G.SETUP_COMPLETE, _G.CHECKS_PASSED),
        "Host is ready",
        "Only a host that is set up and has just passed its checks may be handed to anyone.",
    ),
    Edge(
        _V.RESERVE,
        _S.AVAILABLE,
        _S.RESERVED,
        (_G.NOT_UNDECLARED, _G.NOT_CORDONED, _G.NOT_CLAIMED, _G.ITS_TURN, _G.NOT_BOOKED),
        "Host is allocated",
        "A host has one holder at a time; owners get it in the order in which they asked.",
    ),
    Edge(
        _V.TAINT,
        _S.RESERVED,
        _S.TAINTED,
        (_G.MAY_BE_TAINTED,),
        "Host is tainted",
        "Every task leaves traces on its host, whether it succeeded or not.",
    ),
    Edge(
        _V.RESET,
        _S.TAINTED,
        _S.INITIAL,
        (_G.NOT_CLAIMED, _G.CLEANUP_SUCCEEDED),
        "Host is reset/recycled",
        "Only a cleanup that succeeded makes a used host clean.",
    ),
    *(
        Edge(
            _V.MAINTAIN,
            state,
            _S.MAINTENANCE,
            (_G.NOT_CLAIMED, _G.REASON_GIVEN),
            "Maintenance required",
            "An operator needs to take a host out of use at any time, and others need to know why.",
        )
        for state in (_S.INITIAL, _S.AVAILABLE, _S.RESERVED, _S.TAINTED)
    ),
    Edge(
        _V.RESUME,
        _S.MAINTENANCE,
        _S.RESERVED,
        (_G.NOT_CLAIMED, _G.RESERVATION_VALID),
        "Maintenance complete",
        "The reservation from before the maintenance is still valid.",
    ),
    Edge(
        _V.RESUME,
        _S.MAINTENANCE,
        _S.AVAILABLE,
        (_G.NOT_CLAIMED, _G.CAME_FROM_AVAILABLE, _G.CLEAN, _G.CHECKS_PASSED),
        "Maintenance complete",
        "A host that was free is free again once its checks pass after the repair.",
    ),
    Edge(
        _V.RESUME,
        _S.MAINTENANCE,
        _S.INITIAL,
        (_G.NOT_CLAIMED, _G.CLEAN_OR_CLEANED),
        "Maintenance complete",
        "A repaired host that is clean starts over; a dirty one is cleaned first or stays.",
    ),
    *(
        Edge(
            _V.RETIRE,
            state,
            None,
            (_G.NOT_CLAIMED, _G.CLEAN_OR_CLEANED, _G.RETIREMENT_SUCCEEDED),
            "Host is retired",
            "A host that leaves for good takes no data and no secrets of the lab with it.",
        )
        for state in (_S.INITIAL, _S.AVAILABLE, _S.TAINTED, _S.MAINTENANCE)
    ),
    *(Edge(_V.REMOVE, state, None, (), "Host is removed", _REMOVED, drawn=False) for state in State),
)
"""Every edge of the lifecycle, in the order in which edges are tried and drawn."""


POSSIBLE: dict[tuple[Verb, State | None], tuple[Edge, ...]] = {}
"""The edges of each verb from each state in which it is possible, in the order of the table."""

for _edge in EDGES:
    POSSIBLE[_edge.verb, _edge.source] = (*POSSIBLE.get((_edge.verb, _edge.source), ()), _edge)


def where(state: State) -> str:
    """Return a state as the end of "it is …": ``available``, ``in maintenance``."""
    return f"in {state}" if state is State.MAINTENANCE else str(state)


def sources(verb: Verb) -> tuple[State, ...]:
    """Return the states from which a verb is possible, in the order of :class:`State`."""
    return tuple(s for s in State if (verb, s) in POSSIBLE)
