"""``history --follow`` as a real command on every backend: what it prints, how soon, and what ends it."""

from __future__ import annotations

import csv
import json
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Timer

import pytest

from bmhctl.usecases import hosts
from tests.conftest import BACKENDS, Bmhctl, Lab, made_in
from tests.processes import spawn

pytestmark = pytest.mark.slow


@pytest.fixture(params=BACKENDS)
def lab(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Lab]:
    """An empty inventory, once on each backend."""
    yield from made_in(request.param, tmp_path)


def add(lab: Lab, name: str) -> None:
    with lab.visit() as ctx:
        hosts.add(ctx, [name], hosts.AttributeChanges(note="[red]x"))


@pytest.fixture
def started() -> Iterator[list[subprocess.Popen[str]]]:
    """The followers that a test starts. They are killed after a time limit, which ends their output."""
    processes: list[subprocess.Popen[str]] = []
    limit = Timer(40, lambda: [process.kill() for process in processes])
    limit.start()
    yield processes
    limit.cancel()
    for process in processes:
        process.kill()
        process.communicate()


def follow(lab: Lab, started: list[subprocess.Popen[str]], *args: str) -> subprocess.Popen[str]:
    process = spawn("-m", "bmhctl", "-i", lab.location, "history", "--follow", *args)
    started.append(process)
    return process


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def test_a_new_event_is_shown_soon_and_a_signal_ends_the_follower_quietly(
    lab: Lab, started: list[subprocess.Popen[str]]
) -> None:
    add(lab, "node1")
    follower = follow(lab, started, "-o", "jsonl")
    assert json.loads(line(follower))["host"] == "node1"
    for number in range(2, 5):
        began = time.monotonic()
        add(lab, f"node{number}")
        event = json.loads(line(follower))
        assert (event["id"], event["host"], event["verb"]) == (number, f"node{number}", "enter")
        assert time.monotonic() - began < 2  # tests/benchmarks has the figure
    follower.send_signal(signal.SIGINT)
    assert follower.communicate(timeout=10) == ("", "")
    assert follower.returncode == 130


def test_a_closed_pipe_ends_the_follower_at_once(lab: Lab, started: list[subprocess.Popen[str]]) -> None:
    add(lab, "node1")
    follower = follow(lab, started)
    assert line(follower).startswith("AT ")
    assert "node1" in line(follower)
    assert follower.stdout is not None
    follower.stdout.close()
    assert follower.wait(5) == 128 + signal.SIGPIPE
    assert follower.stderr is not None
    assert follower.stderr.read() == ""


def test_a_follower_begins_with_the_last_ten_events_unless_it_is_told_otherwise(
    lab: Lab, started: list[subprocess.Popen[str]]
) -> None:
    with lab.visit() as ctx:
        hosts.add(ctx, ["node[1-12]"], hosts.AttributeChanges())
    for args, first in (((), 3), (("-n", "1"), 12), (("--since", "2025-01-01"), 1), (("--since-id", "0"), 1)):
        follower = follow(lab, started, "-o", "csv", "--fields", "host", *args)
        shown = [line(follower) for _ in range(14 - first)]
        assert shown == ["host\n", *(f"node{number}\n" for number in range(first, 13))]


def test_each_format_prints_its_heading_once_and_then_only_events(
    lab: Lab, started: list[subprocess.Popen[str]]
) -> None:
    add(lab, "node1")
    shown = {output: follow(lab, started, "-o", output) for output in ("plain", "csv", "jsonl", "cloudevents", "table")}
    first = {output: [line(each)] for output, each in shown.items()}
    for output in ("plain", "csv"):
        first[output].append(line(shown[output]))  # the rows below the heading
    add(lab, "a-host-with-a-longer-name")
    for output, each in shown.items():
        first[output].append(line(each))
    rows = list(csv.reader(first["csv"]))
    assert [row[2] for row in rows] == ["host", "node1", "a-host-with-a-longer-name"]
    assert [words.split()[1] for words in first["plain"]] == ["HOST", "node1", "a-host-with-a-longer-name"]
    assert [json.loads(each)["id"] for each in first["jsonl"]] == [1, 2]
    assert [json.loads(each)["id"] for each in first["cloudevents"]] == ["1", "2"]
    assert all("enter" in each and "\x1b" not in each for each in first["table"])


def test_follow_is_refused_with_a_document_or_an_end(bmhctl: Bmhctl, lab: Lab) -> None:
    combined = "can't be combined with --until or --newest-first"
    for args, why in ((["-o", "json"], "never end"), (["--newest-first"], combined), (["--until", "1h"], combined)):
        done = bmhctl("-i", lab.location, "history", "--follow", *args)
        assert (done.status, done.stdout) == (2, "")
        assert why in done.stderr


def test_an_empty_inventory_can_be_followed(lab: Lab, started: list[subprocess.Popen[str]]) -> None:
    follower = follow(lab, started, "--fields", "id,host", "-o", "jsonl")
    add(lab, "node1")
    assert json.loads(line(follower)) == {"id": 1, "host": "node1"}
