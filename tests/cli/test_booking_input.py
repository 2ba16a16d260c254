"""Bookings that can't be made: each is refused with its exit status and its reason, and nothing changes."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

import pytest

from bmhctl.stores import open_store
from tests.conftest import run_bmhctl

ZONE = {"TZ": "Europe/Berlin"}

INTERNS = '[defaults]\nmax_ttl = "3d"\n[limits.interns]\nowner = "intern-*"\nmax_ahead = "14d"\nmax_ttl = "6h"\n'

SPANS: dict[str, tuple[list[str], int, str, str]] = {
    "past": (["--from", "2020-01-01T09:00"], 2, "2020-01-01T09:00 is not in the future", "write a duration such as 2h"),
    "a day that is over": (["--from", "yesterday"], 2, "yesterday is not in the future", "write a duration such as 2h"),
    "no time": (["--from", "soon"], 2, "'soon' is not a time", "write a duration such as 2h or 3d"),
    "a time that does not exist": (
        ["--from", "2099-03-29T02:30"],
        2,
        "2099-03-29T02:30 does not exist here: the clocks change then",
        "write 2099-03-29T01:30+01:00 or 2099-03-29T03:30+02:00",
    ),
    "a time that exists twice": (
        ["--from", "2099-10-25T02:30"],
        2,
        "2099-10-25T02:30 exists twice here: the clocks change then",
        "write 2099-10-25T02:30+02:00 or 2099-10-25T02:30+01:00",
    ),
    "an end that exists twice": (
        ["--from", "2h", "--until", "2099-10-25T02:30"],
        2,
        "2099-10-25T02:30 exists twice here: the clocks change then",
        "write 2099-10-25T02:30+02:00 or 2099-10-25T02:30+01:00",
    ),
    "reversed": (
        ["--from", "tomorrow 09:00", "--until", "tomorrow 08:00"],
        2,
        "the end, tomorrow 08:00, is not after the beginning",
        "write a duration such as 2h, or a later time",
    ),
    "two ends": (["--from", "2h", "--ttl", "1h", "--until", "+1h"], 2, "give one end: --until or --ttl", "--until"),
    "an end and none": (
        ["--from", "tomorrow", "--until", "12:00", "--ttl", "none"],
        2,
        "give one end: --until or --ttl",
        "--until 12:00, or --ttl 3h",
    ),
    "endless": (["--from", "2h", "--ttl", "none"], 2, "a booking needs an end", "--until 12:00, or --ttl 3h"),
    "longer than allowed": (
        ["--from", "2h", "--ttl", "4d"],
        2,
        "a booking of 4d is too long",
        "at most 3d: the max_ttl",
    ),
    "overlapping": (["--from", "12h", "--ttl", "1h"], 5, "node1 is booked by bob from", "free for that long: --from"),
}
"""Times that are refused for new bookings and for moved ones."""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three hosts; node1 is booked by bob, ten hours from now for eight hours; node2 by alice as ``mine``."""
    folder = tmp_path_factory.mktemp("lab")
    run_bmhctl("init", cwd=folder)
    with (folder / "bmh.toml").open("a") as file:
        file.write(INTERNS)
    run_bmhctl("add", "node[1-3]", cwd=folder)
    run_bmhctl("ready", "--state", "initial", cwd=folder)
    run_bmhctl("reserve", "node1", "--from", "10h", "--ttl", "8h", "--as", "bob", cwd=folder)
    made = run_bmhctl("reserve", "node1", "--from", "30h", "--ttl", "1h", "-o", "name", cwd=folder)
    (folder / "mine").write_text(made.stdout.strip())
    return folder


def everything(folder: Path) -> tuple[object, object]:
    with closing(open_store(str(folder / "bmh.toml"))) as store:
        return list(store.bookings.all()), list(store.events.read())


def refused(folder: Path, *args: str) -> tuple[int, str]:
    """Run a command that is refused, check that it changed nothing, and return its status and its message."""
    before = everything(folder)
    done = run_bmhctl(*args, cwd=folder, **ZONE)
    assert everything(folder) == before
    assert done.stdout == ""
    return done.status, done.stderr


def with_end(span: list[str]) -> list[str]:
    return span if {"--ttl", "--until"} & set(span) else [*span, "--ttl", "1h"]


@pytest.mark.parametrize("name", SPANS)
def test_a_booking_for_an_invalid_or_taken_time_is_refused(name: str, lab: Path) -> None:
    span, status, message, hint = SPANS[name]
    ended, said = refused(lab, "reserve", "node1", *with_end(span))
    assert ended == status, said
    assert message in said
    assert f"hint: {hint}" in said


@pytest.mark.parametrize("name", SPANS)
def test_moving_a_booking_to_such_a_time_is_refused_and_the_booking_is_unchanged(name: str, lab: Path) -> None:
    span, status, message, _ = SPANS[name]
    ended, said = refused(lab, "bookings", "move", (lab / "mine").read_text(), *with_end(span))
    assert ended == status, said
    assert message in said


@pytest.mark.parametrize(
    ("args", "status", "message"),
    [
        (
            ["-n", "9", "--from", "2h", "--ttl", "1h"],
            6,
            "not possible in this inventory: 9 hosts; of 3 declared hosts 3",
        ),
        (["-l", "gpu", "--from", "2h", "--ttl", "1h"], 6, "not possible in this inventory"),
        (["node9", "--from", "2h", "--ttl", "1h"], 3, "node9: there is no such host"),
        (
            ["-n", "3", "--from", "12h", "--ttl", "1h"],
            5,
            "2 of 3 free then, nothing was booked: node1 is booked by bob",
        ),
        (["node2", "--from", "2h", "--ttl", "1h", "--weekly", "0"], 2, "can't repeat a booking 0 times"),
        (["node2", "--from", "15d", "--ttl", "1h", "--as", "intern-1"], 6, "is too far ahead: limit interns"),
        (["node2", "--from", "2h", "--ttl", "8h", "--as", "intern-1"], 6, "it is too long: limit interns allows"),
    ],
)
def test_an_impossible_booking_and_an_overlapping_one_get_different_messages(
    args: list[str], status: int, message: str, lab: Path
) -> None:
    ended, said = refused(lab, "reserve", *args)
    assert (ended, message in said) == (status, True), said


@pytest.mark.parametrize(
    ("args", "option"),
    [
        (["--from", "now", "--ttl", "90m"], "--ttl 1h30m"),
        (["--from", "now", "--until", "+2h"], "--ttl 2h"),
        (["--from", "Now"], "--ttl 2h"),
        (["--until", "3h"], "--ttl 3h"),
    ],
)
def test_a_booking_from_now_is_answered_with_the_lease_that_begins_now(args: list[str], option: str, lab: Path) -> None:
    ended, said = refused(lab, "reserve", "node2", *args)
    assert (ended, said.splitlines()[-1]) == (
        2,
        f"hint: for a lease that begins now: {option}; for a booking: --from 'tomorrow 09:00'",
    )
    assert run_bmhctl("reserve", "node2", *option.split(), "--dry-run", cwd=lab).status == 0


def test_an_endless_booking_from_now_is_answered_with_the_endless_lease(lab: Path, tmp_path: Path) -> None:
    ended, said = refused(lab, "reserve", "node2", "--from", "now", "--ttl", "none")
    assert (ended, said.splitlines()[-1]) == (
        2,
        "hint: for a lease that begins now: --ttl none; for a booking: --from 'tomorrow 09:00'",
    )
    (tmp_path / "bmh.toml").write_text('[defaults]\nmax_ttl = "none"\n')
    for line in ("add node2", "ready node2", "reserve node2 --ttl none"):
        assert run_bmhctl(*line.split(), cwd=tmp_path).status == 0


def test_a_maintenance_from_now_is_answered_with_the_one_that_begins_now(lab: Path) -> None:
    ended, said = refused(lab, "maintain", "node2", "--reason", "fan", "--from", "now", "--until", "2h")
    assert (ended, said.splitlines()[-1]) == (2, "hint: leave out --from: a maintenance begins now")


def test_the_time_that_a_refusal_names_is_free(lab: Path) -> None:
    done = run_bmhctl("reserve", "node1", "--from", "12h", "--ttl", "1h", "-o", "json", cwd=lab)
    error = json.loads(done.stderr)["error"]
    assert error["code"] == "busy"
    begins = error["hint"].removeprefix("free for that long: --from ").strip("'")
    free = run_bmhctl("reserve", "node1", "--from", begins, "--ttl", "1h", "--dry-run", "-o", "json", cwd=lab)
    assert free.status == 0, free.stderr
