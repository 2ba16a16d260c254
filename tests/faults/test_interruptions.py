"""A signal between a command's commit and its output: the command reports what it has saved."""

from __future__ import annotations

import os
import signal
from datetime import timedelta
from pathlib import Path

import pytest

from bmhctl.cli import session
from bmhctl.domain.requirements import reservation_request
from bmhctl.errors import StateRefusedError
from bmhctl.usecases.reservations import reserve
from bmhctl.usecases.reservations.waiting import WaitOptions
from tests.conftest import Lab, Run
from tests.faults.in_process import call
from tests.faults.scenarios import CASES, FILES, SCENARIOS, of, start_of
from tests.faults.snapshots import write_folder

SAVED = "interrupted, but saved before: "


@pytest.fixture(autouse=True)
def signal_before_output(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BMHCTL_ACTOR", "alice")
    monkeypatch.setattr(session, "render", lambda *_: os.kill(os.getpid(), signal.SIGTERM))


@pytest.mark.parametrize(("name", "backend"), CASES)
def test_every_command_reports_what_it_saved_before_a_signal(
    name: str, backend: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_folder(start_of(name, backend), folder)
    monkeypatch.chdir(folder)

    done = call("-i", FILES[backend], *SCENARIOS[name].line)

    assert (done.status, done.stdout) == (143, "")
    # reap does only what the next command that writes would do in any case.
    assert (SAVED in done.stderr) == (SCENARIOS[name].line != ("reap",)), done.stderr


def test_changes_of_the_queue_are_reported_and_no_changes_are_not(lab: Lab) -> None:
    of(lab).add("node1")
    of(lab).ready("node1")
    of(lab).reserve("node1")
    done: list[Run] = []

    def pause(seconds: float, wakes: int | None) -> None:
        [ticket] = lab.context().store.tickets.all()
        for words in (
            "queue",
            f"queue move {ticket.id} --first --reason x",
            f"queue cancel {ticket.id} --force --reason x",
        ):
            done.append(call("-i", lab.location, *words.split()))

    waits = WaitOptions(pause, timedelta(seconds=60))
    with pytest.raises(StateRefusedError, match="the ticket was cancelled"):
        reserve.reserve_or_wait(lab.context("bob"), reservation_request(count=1), waits)

    assert done == [Run(143, "", ""), Run(143, "", ""), Run(143, "", f"{SAVED}queue cancel\n")]
