"""The whole lifecycle, row by row, as the table and as the machine that is drawn from it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bmhctl.domain.model import Guard, State, Verb
from bmhctl.errors import StateRefusedError
from bmhctl.lifecycle import table
from bmhctl.lifecycle.machine import GuardInput, ask, possible
from bmhctl.lifecycle.table import EDGES

OPEN = GuardInput(
    holder=None, setup=None, checks=None, cleanup=None, retirement=None, reason="because", reservation_valid=True
)
"""Inputs that every guard allows, except that no host came from available."""

REFUSING = {
    Guard.SETUP_COMPLETE: {"setup": "firmware failed"},
    Guard.CHECKS_PASSED: {"checks": "ssh failed"},
    Guard.NOT_UNDECLARED: {"undeclared": "it is no longer declared"},
    Guard.NOT_CORDONED: {"cordon": "it is cordoned by bob"},
    Guard.NOT_CLAIMED: {"claim": "a step runs"},
    Guard.ITS_TURN: {"earlier_ticket": "bob was first"},
    Guard.NOT_BOOKED: {"booked": "it is booked by bob"},
    Guard.MAY_BE_TAINTED: {"holder": "it is bob's"},
    Guard.CLEANUP_SUCCEEDED: {"cleanup": "wipe failed"},
    Guard.REASON_GIVEN: {"reason": " "},
    Guard.RESERVATION_VALID: {"reservation_valid": False},
    Guard.CAME_FROM_AVAILABLE: {"came_from": State.INITIAL},
    Guard.CLEAN: {"dirty": True},
    Guard.CLEAN_OR_CLEANED: {"dirty": True, "cleanup": "wipe failed"},
    Guard.RETIREMENT_SUCCEEDED: {"retirement": "erase failed"},
}
"""For each guard, the input that makes it refuse."""


def test_the_lifecycle_has_exactly_the_documented_edges() -> None:
    drawn = [(str(edge.source or "[*]"), str(edge.verb), str(edge.dest or "[*]")) for edge in EDGES if edge.drawn]

    assert drawn == [
        ("[*]", "enter", "initial"),
        ("initial", "ready", "available"),
        ("available", "reserve", "reserved"),
        ("reserved", "taint", "tainted"),
        ("tainted", "reset", "initial"),
        ("initial", "maintain", "maintenance"),
        ("available", "maintain", "maintenance"),
        ("reserved", "maintain", "maintenance"),
        ("tainted", "maintain", "maintenance"),
        ("maintenance", "resume", "reserved"),
        ("maintenance", "resume", "available"),
        ("maintenance", "resume", "initial"),
        ("initial", "retire", "[*]"),
        ("available", "retire", "[*]"),
        ("tainted", "retire", "[*]"),
        ("maintenance", "retire", "[*]"),
    ]


def test_every_state_guard_and_edge_is_explained() -> None:
    assert set(table.MEANING) == set(State)
    assert set(table.ASKS) == set(Guard)
    assert all(edge.why.endswith(".") and edge.label for edge in EDGES)


@pytest.mark.parametrize(
    "edge", [e for e in EDGES if e.source and e.dest], ids=lambda e: f"{e.source}-{e.verb}-{e.dest}"
)
def test_every_row_leads_to_its_state_when_every_guard_allows_it(edge: table.Edge) -> None:
    facts = OPEN
    if edge.verb is Verb.RESUME:
        facts = replace(
            OPEN,
            reservation_valid=edge.dest is State.RESERVED,
            came_from=State.AVAILABLE if edge.dest is State.AVAILABLE else State.INITIAL,
        )

    assert edge.source is not None
    assert ask(edge.verb, edge.source, facts).dest is edge.dest


@pytest.mark.parametrize(
    ("edge", "guard"),
    [(e, g) for e in EDGES if e.source and e.dest for g in e.guards],
    ids=lambda value: str(value) if isinstance(value, Guard) else f"{value.source}-{value.verb}-{value.dest}",
)
def test_every_guard_of_every_row_can_refuse_with_a_reason(edge: table.Edge, guard: Guard) -> None:
    facts = OPEN
    if edge.verb is Verb.RESUME and edge.dest is not State.RESERVED:  # earlier rows must not apply to the host
        facts = replace(OPEN, reservation_valid=False, came_from=State.AVAILABLE)
    answer = ask(edge.verb, edge.source, replace(facts, **REFUSING[guard]))  # type: ignore[arg-type]  # a row has a source

    assert answer.dest is not edge.dest
    assert guard in dict(answer.refusals)
    assert dict(answer.refusals)[guard]


@pytest.mark.parametrize("verb", [v for v in Verb if v not in (Verb.ENTER, Verb.RETIRE, Verb.REMOVE)])
@pytest.mark.parametrize("state", list(State))
def test_a_verb_without_a_row_is_refused_with_the_verb_and_the_state(verb: Verb, state: State) -> None:
    if (verb, state) in table.POSSIBLE:
        assert verb in possible(state)
        return

    with pytest.raises(StateRefusedError, match=f"is {table.where(state)}: {verb} is only possible from "):
        ask(verb, state, OPEN)
    assert verb not in possible(state)


def test_resume_leads_to_reserved_else_available_else_initial() -> None:
    facts = replace(OPEN, came_from=State.AVAILABLE)

    assert ask(Verb.RESUME, State.MAINTENANCE, facts).dest is State.RESERVED
    assert ask(Verb.RESUME, State.MAINTENANCE, replace(facts, reservation_valid=False)).dest is State.AVAILABLE
    unproven = replace(facts, reservation_valid=False, checks="ssh failed")
    assert ask(Verb.RESUME, State.MAINTENANCE, unproven).dest is State.INITIAL


def test_resume_keeps_a_dirty_host_whose_cleanup_failed() -> None:
    answer = ask(Verb.RESUME, State.MAINTENANCE, GuardInput(dirty=True, cleanup="wipe failed"))

    assert answer.dest is None
    assert answer.refusals[-1] == (Guard.CLEAN_OR_CLEANED, "it is dirty, and wipe failed")


@pytest.mark.parametrize("state", list(State))
def test_a_host_can_be_retired_from_every_state_except_reserved(state: State) -> None:
    if state is State.RESERVED:
        with pytest.raises(StateRefusedError):
            ask(Verb.RETIRE, state, OPEN)
        return
    answer = ask(Verb.RETIRE, state, OPEN)
    assert (answer.dest, answer.refusals) == (None, ())
    used = replace(OPEN, dirty=True, cleanup="wipe failed")
    assert [guard for guard, _ in ask(Verb.RETIRE, state, used).refusals] == [Guard.CLEAN_OR_CLEANED]
    unfinished = replace(OPEN, retirement="erase failed")
    assert [guard for guard, _ in ask(Verb.RETIRE, state, unfinished).refusals] == [Guard.RETIREMENT_SUCCEEDED]
