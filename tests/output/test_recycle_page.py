"""The page of ``recycle --watch``: the hosts in progress, their steps and times, and the hosts that are due."""

from __future__ import annotations

import re

from ClusterShell.NodeSet import NodeSet

from bmhctl.output.recycle_page import RecyclePage
from bmhctl.results.recycling import Activity, Backlog

from .samples import display

WIPE = Activity("node01", "recycle", 730.0, (("wipe", 725.0),), ("verify", "ssh"))
EVIL = Activity("n", "recycle", 3.0, (("[red]\x1b[31mx", 1.0),), ())


def shown(*pages: Backlog) -> tuple[str, str]:
    """Return the output for some pages, and the screen after the last of them."""
    where = display(tty=True)
    with RecyclePage(where, "xterm") as page:
        assert page.is_shown
        for backlog in pages:
            page._next = 0
            page.show(backlog)
        written: str = where.stderr.getvalue()  # type: ignore[attr-defined]
    after: str = where.stderr.getvalue()  # type: ignore[attr-defined]
    assert where.stdout.getvalue() == ""  # type: ignore[attr-defined]
    assert after.startswith(written)
    assert after.endswith("A\r\x1b[J")
    return after, re.sub(r"\x1b\[[0-9;]*m", "", written.rpartition("\x1b[J")[2] or written)


def test_the_recycle_page_shows_hosts_steps_and_retries_in_80_columns() -> None:
    backlog = Backlog((WIPE,), ("node02", "node03"), (("node09", 25.0),), ("node04",))
    _, text = shown(Backlog((), (), (), ()), backlog)
    lines = text.splitlines()
    assert re.fullmatch(r"1 in progress · 2 waiting · 1 to be tried again  [0-9:]{8} UTC", lines[0])
    assert lines[1].split() == ["HOST", "VERB", "STEP", "SINCE", "IN", "ALL", "THEN"]
    assert lines[2].split() == ["node01", "recycle", "wipe", "12m", "12m", "verify,", "ssh"]
    assert lines[3:] == [
        "due                     node[02-03]",
        "again, first in 25s     node09",
        "run by other processes  node04",
    ]


def test_hosts_without_room_on_the_recycle_page_are_counted() -> None:
    names = tuple(f"rack{n}-node" for n in range(0, 99, 2))
    _, text = shown(Backlog((), names, (), ()))
    *_, due = text.splitlines()
    folded, _, more = due.removeprefix("due  ").partition(" +")
    assert len(due) <= 80
    assert len(NodeSet(folded)) + int(more) == len(names)


def test_many_hosts_and_hostile_texts_fit_on_the_recycle_page() -> None:
    many = tuple(Activity(f"node{n:03}", "recycle", 1.0, (("wipe", 1.0),), ("x" * 50,) * 9) for n in range(200))
    text, _ = shown(Backlog((EVIL, *many), tuple(f"{n:x}-host" for n in range(500)), (), ()))
    assert "\x1b[31mx" not in text
    assert "[red]" in text
    plain = re.sub(r"\x1b\[[0-9;]*[mAJ]", "", text)
    assert max(map(len, plain.splitlines())) <= 80
    assert plain.count("\n") <= 24
    assert re.search(r"and \d+ more", plain)


def test_no_recycle_page_is_shown_in_a_pipe_or_on_a_dumb_terminal() -> None:
    assert not RecyclePage(display(tty=True), "dumb").is_shown
    assert not RecyclePage(display(tty=True), None).is_shown
    assert not RecyclePage(display(), "xterm").is_shown
