"""The short form of the nemesis, and tests that the checker finds every kind of fault."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from tests.faults.figures import Figures
from tests.nemesis.__main__ import Clients, attack, checked, overlapping


@pytest.mark.slow(seconds=20)
@pytest.mark.parametrize("backend", ["toml", "sqlite", "postgres"])
def test_random_clients_beside_a_nemesis_share_nothing_and_lose_nothing(
    backend: str, tmp_path: Path, figures: Figures
) -> None:
    wrong = attack(backend, tmp_path, 0, 5, number=4, longest=2.5, pause=0.3)  # each act of the nemesis once
    figures("nemesis, short", backend, tries=1, losses=len(wrong))
    assert wrong == []


def event(verb: str, source: str | None, dest: str, reservation: str | None = None) -> str:
    return json.dumps({"host": "node1", "verb": verb, "source": source, "dest": dest, "reservation": reservation})


START = [event("enter", None, "initial"), event("ready", "initial", "available")]
USED = [*START, event("reserve", "available", "reserved", "r-a"), event("taint", "reserved", "tainted", "r-a")]


@pytest.mark.parametrize(
    ("beats", "events", "found"),
    [
        ([("r-a 7", 1.0), ("r-a 7", 2.0)], USED, []),
        ([("r-a 7", 1.0), ("r-a 7", 2.0), ("r-a 8", 3.0)], USED, []),
        ([("r-a 7", 1.0), ("r-a 8", 1.5), ("r-a 7", 2.0)], USED, ["node1: r-a was on it until 2.000, r-a from 1.500"]),
        ([("r-a 7", 1.0), ("r-b 8", 1.5), ("r-a 7", 2.0)], USED, ["node1: r-a was on it until 2.000, r-b from 1.500"]),
        ([("r-c 7", 1.0)], USED, ["node1: r-c is not in the history"]),
        ([], [START[0], USED[2]], ["node1: reserve from available follows enter to initial"]),
        ([], [*USED, event("ready", "tainted", "available")], ["node1: available again without a cleanup"]),
    ],
)
def test_the_checker_finds_what_is_wrong(
    beats: list[tuple[str, float]], events: list[str], found: list[str], tmp_path: Path
) -> None:
    clients = Clients("lab.db", tmp_path, random.Random(1))
    clients.log.write_text("".join(f"node1 {task} {at}\n" for task, at in beats))
    assert [each for each in checked(clients, "\n".join(events)) if each in found] == found


def booked(identifier: str, begin: int, end: int, ended: int | None = None, host: str = "node1") -> str:
    times = {"starts_at": begin, "ends_at": end, "ended_at": ended, "reservation": None}
    return json.dumps({"id": identifier, "kind": "booking", "hosts": [host], **times})


@pytest.mark.parametrize(
    ("other", "found"),
    [
        (booked("b-2", 20, 30), []),
        (booked("b-2", 15, 30), ["b-1 and b-2 overlap at 15"]),
        (booked("b-2", 15, 30, ended=16), ["b-1 and b-2 overlap at 15"]),
        (booked("b-2", 15, 30, ended=12), []),
        (booked("b-2", 15, 30, host="node2"), []),
    ],
)
def test_the_checker_finds_bookings_that_overlap(other: str, found: list[str]) -> None:
    assert overlapping(f"{booked('b-1', 10, 20)}\n{other}") == found


def test_bookings_that_were_never_open_at_once_do_not_overlap() -> None:
    """The clock was set back after the first one had ended."""
    both = f"{booked('b-00000001', 10, 20, ended=18)}\n{booked('b-00000002', 15, 30)}"
    said = ["booked (b-00000001)", "b-00000001: lapsed", "booked (b-00000002)"]
    verbs = ["planned", "plan-ended", "planned"]
    events = [
        {"id": number, "at": 12, "host": "node1", "verb": verb, "reason": reason, "reservation": None}
        for number, (verb, reason) in enumerate(zip(verbs, said, strict=True), 1)
    ]
    assert overlapping(both, "\n".join(map(json.dumps, events))) == []
    events[1], events[2] = {**events[2], "id": 2}, {**events[1], "id": 3}
    assert overlapping(both, "\n".join(map(json.dumps, events))) == ["b-00000001 and b-00000002 overlap at 15"]


@pytest.mark.parametrize(("at", "found"), [(19, ["b-00000001 and b-00000002 overlap at 15"]), (20, [])])
def test_a_booking_that_gets_a_host_when_the_time_of_another_is_over_does_not_overlap(
    at: int, found: list[str]
) -> None:
    """The end of the first one is recorded later, by the same command."""
    both = f"{booked('b-00000001', 10, 20, ended=21)}\n{booked('b-00000002', 15, 30)}"
    said = [(1, "booked (b-00000001)", "planned"), (at, "b-00000002: takes the place of another host", "planned")]
    events = [
        {"id": number, "at": when, "host": "node1", "verb": verb, "reason": reason, "reservation": None}
        for number, (when, reason, verb) in enumerate([*said, (21, "b-00000001: lapsed", "plan-ended")], 1)
    ]
    assert overlapping(both, "\n".join(map(json.dumps, events))) == found
