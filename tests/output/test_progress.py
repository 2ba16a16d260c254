"""The line of progress: only on terminals, only after a while, and erased at the end."""

import time
from threading import Thread

import pytest

from bmhctl.output import Format
from bmhctl.output import progress as module
from bmhctl.output.progress import Progress

from .samples import HOSTILE, display


@pytest.fixture(autouse=True)
def _short_of_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE", 0.02)
    monkeypatch.setattr(module, "_TICK", 0.01)


def told(where: object) -> str:
    return where.stderr.getvalue()  # type: ignore[attr-defined, no-any-return]


def screen(text: str) -> str:
    """Return the line that a terminal shows after this output."""
    cells: list[str] = []
    at = 0
    for character in text:
        if character == "\r":
            at = 0
            continue
        cells[at : at + 1] = [character]
        at += 1
    return "".join(cells).rstrip()


def wait_for(words: str, where: object) -> None:
    deadline = time.monotonic() + 5
    while words not in screen(told(where)):
        assert time.monotonic() < deadline, told(where)
        time.sleep(0.005)


def test_progress_shows_the_action_the_host_and_the_time_and_is_erased() -> None:
    where = display(tty=True)
    with Progress(where) as shown:
        shown.progress("checking node01", "1 of 7")
        wait_for("checking node01 … 0s (1 of 7)", where)
        shown.progress("checking n2", "2 of 7")
        wait_for("checking n2 … 0s (2 of 7)", where)
        assert screen(told(where)).endswith("(2 of 7)")
    assert screen(told(where)) == ""
    assert "\n" not in told(where)
    assert where.stdout.getvalue() == ""  # type: ignore[attr-defined]


def test_progress_can_continue_after_it_was_cleared() -> None:
    where = display(tty=True)
    shown = Progress(where)
    shown.clear()
    shown.progress("one")
    wait_for("one", where)
    shown.clear()
    shown.clear()
    quiet = told(where)
    time.sleep(0.05)
    assert told(where) == quiet
    shown.progress("two")
    wait_for("two", where)
    shown.clear()
    assert screen(told(where)) == ""


def test_no_progress_is_shown_for_a_short_action(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE", 30.0)
    where = display(tty=True)
    with Progress(where) as shown:
        shown.progress("checking node01")
    assert told(where) == ""


@pytest.mark.parametrize(
    "where",
    [display(), display(tty=True, quiet=True), display(Format.JSON, tty=True), display(Format.JSONL, tty=True)],
    ids=["pipe", "quiet", "json", "jsonl"],
)
def test_progress_is_shown_only_on_a_terminal(where: object) -> None:
    with Progress(where) as shown:  # type: ignore[arg-type]
        shown.progress("checking node01")
        time.sleep(0.05)
    assert told(where) == ""


def test_progress_is_one_line_without_escape_sequences_on_a_terminal_of_any_width() -> None:
    where = display(tty=True, width=20)
    with Progress(where) as shown:
        shown.progress(f"checking {HOSTILE}")
        wait_for("checking [red]x[/", where)
        lines = told(where).split("\r")
        assert all(line.isprintable() and len(line) < 20 for line in lines)


def test_a_terminal_that_is_closed_during_progress_does_not_end_the_command() -> None:
    where = display(tty=True)
    with Progress(where) as shown:
        shown.progress("checking node01")
        wait_for("checking node01", where)
        where.stderr.close()
        time.sleep(0.05)


def test_many_threads_may_report_and_clear_at_once() -> None:
    where = display(tty=True)
    shown = Progress(where)

    def work(name: str) -> None:
        for _ in range(20):
            shown.progress(f"checking {name}")
            time.sleep(0.001)
            shown.clear()

    threads = [Thread(target=work, args=(f"node{number}",)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert not any(thread.is_alive() for thread in threads)
    shown.clear()
    assert screen(told(where)) == ""
