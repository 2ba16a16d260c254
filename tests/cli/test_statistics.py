"""``stats``, ``timeline``, ``metrics`` and ``report`` as commands."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import pytest
from icalendar import Calendar

from tests.cli.conftest import Cli, Prepared


@pytest.fixture
def used(cli: Cli, prepared: Prepared) -> Cli:
    """Two hosts: one was used for a task that failed, one is reserved."""
    prepared(one_failed_one_reserved)
    return cli


def one_failed_one_reserved(cli: Cli) -> None:
    for line in ("init", "add node[1-2] --label rack=r1", "ready node[1-2]"):
        assert cli(*line.split()).status == 0
    assert cli("run", "--host", "node1", "--", "false").status == 1
    assert cli("reserve", "node2").status == 0


def test_stats_can_be_printed_for_people_and_for_programs(used: Cli) -> None:
    document = json.loads(used("stats", "--since", "1h", "--by", "rack", "-o", "json").stdout)
    assert (document["kind"], document["by"]) == ("stats", "label:rack")
    assert [(group["name"], group["hosts"], group["failed_tasks"]) for group in document["groups"]] == [("r1", 2, 1)]
    assert document["total"]["reservations"] == 2
    assert used("stats", "--by", "host", "--fields", "name,reservations", "-o", "csv").stdout == (
        "name,reservations\nnode1,1\nnode2,1\n"
    )
    hours = used("stats", "--by", "hour", "-o", "csv").stdout.splitlines()
    assert (hours[0], len(hours)) == ("weekday,hour,reserved,present,utilisation", 1 + 7 * 24)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("stats", "--since", "soon"), "'soon' is not a time"),
        (("stats", "--since", "2999-01-01"), "2999-01-01 is not in the past"),
        (("stats", "--since", "1h", "--until", "2h"), "--since (20"),
        (("stats", "--by", "colour"), "no host has a label or property 'colour'"),
        (("stats", "--by", "host", "--sort", "beauty"), "can't sort by 'beauty'"),
        (("stats", "--sort", "hours"), "--sort needs --by: it orders the rows of groups"),
        (("stats", "--by", "hour", "--sort", "hours"), "--sort needs --by: it orders the rows of groups"),
        (("timeline", "--since", "2h", "--until", "3h"), "--since (20"),
        (("report", "--since", "never"), "'never' is not a time"),
    ],
)
def test_an_invalid_question_is_refused_in_one_line(used: Cli, arguments: tuple[str, ...], said: str) -> None:
    done = used(*arguments)
    assert (done.status, done.stdout) == (2, "")
    assert done.stderr.splitlines()[0].startswith(f"bmhctl: {said}")


def test_a_timeline_can_be_drawn_and_exported_as_a_calendar(used: Cli) -> None:
    drawn = used("timeline", "-o", "table").stdout
    assert drawn.splitlines()[1].startswith("node1  ")
    assert "│" in drawn
    assert used("timeline", "node2", "-o", "svg").stdout.startswith("<svg ")
    (event,) = Calendar.from_ical(used("timeline", "-o", "ics").stdout).walk("VEVENT")
    assert "node2" in str(event["summary"])
    rows = used("timeline", "node2", "-o", "csv").stdout.splitlines()
    assert rows[0] == "host,start,end,state,owner"
    assert rows[-1].split(",")[3] == "reserved"


@pytest.mark.parametrize("command", ["metrics", "report"])
def test_an_output_file_is_replaced_as_a_whole_or_left_unchanged(used: Cli, command: str, tmp_path: Path) -> None:
    target = tmp_path / "out" / "file"
    target.parent.mkdir()
    target.write_text("before")
    done = used(command, "--to", str(target))
    assert (done.status, done.stdout, done.stderr) == (0, "", "")
    written = target.read_text()
    assert ("bmhctl_hosts{" in written) if command == "metrics" else written.startswith("<!doctype html>")
    assert os.stat(target).st_mode & 0o777 == 0o644
    refused = used(command, "--to", str(tmp_path / "nowhere" / "file"))
    assert refused.status == 11
    assert "can't be written: No such file or directory" in refused.stderr
    assert [path.name for path in target.parent.iterdir()] == ["file"]


@pytest.mark.parametrize("command", ["metrics", "report"])
def test_an_output_pipe_is_written_to_and_never_replaced(used: Cli, command: str, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    received: list[str] = []
    reader = threading.Thread(target=lambda: received.append(pipe.read_text()), daemon=True)
    reader.start()
    done = used(command, "--to", str(pipe))
    reader.join(30)
    printed = used(command, "--to", "-")
    assert (done.status, done.stdout, printed.status, printed.stderr) == (0, "", 0, "")
    assert received[0][:100] == printed.stdout[:100]
    assert pipe.is_fifo()
    assert not [path.name for path in tmp_path.iterdir() if path.name == "-"]
