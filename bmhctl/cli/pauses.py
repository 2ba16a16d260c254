"""Pauses of commands that wait or watch: a change of the inventory or the end of stdout's reader ends them."""

from __future__ import annotations

import os
import select
import stat
from collections.abc import Callable

from bmhctl.output import Display


def polled(poll: select.poll, wakes: int | None, seconds: float) -> list[tuple[int, int]]:
    """Poll for some time at most, also until ``wakes`` can be read; return the descriptors that are ready."""
    if wakes is not None:
        poll.register(wakes, select.POLLIN)
    try:
        return poll.poll(seconds * 1000)
    finally:
        if wakes is not None:  # a descriptor that was closed before the next pause would end that pause at once
            poll.unregister(wakes)


def pause_on(display: Display) -> Callable[[float, int | None], None]:
    """Return a sleep that ends early when a descriptor can be read, and raises when the reader of stdout has ended."""
    poll, output = select.poll(), _pipe_of(display)
    if output is not None:
        poll.register(output, 0)  # poll always reports errors and hang-ups

    def pause(seconds: float, wakes: int | None) -> None:
        if any(descriptor == output for descriptor, _ in polled(poll, wakes, seconds)):
            raise BrokenPipeError("the program that reads the output has ended")

    return pause


def _pipe_of(display: Display) -> int | None:
    """Return the descriptor of stdout if it is a pipe or a socket."""
    try:
        descriptor = display.stdout.fileno()
        mode = os.fstat(descriptor).st_mode
    except (OSError, ValueError):
        return None
    return descriptor if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) else None
