"""A result that is drawn again in its place on a terminal, or printed anew in a pipe."""

from __future__ import annotations

import io
from contextlib import suppress

from rich.live import Live
from rich.text import Text

from bmhctl.domain.units import plural
from bmhctl.output.layout import console_of
from bmhctl.output.render import Display, Format, render, view_of
from bmhctl.output.sanitize import clean
from bmhctl.support.values import replace


class LiveView:
    """Draws a result again and again in the same place, as a context manager; the last picture stays.

    A result that is higher than the terminal is cut, with the number of hidden lines; the last picture is whole.
    """

    def __init__(self, display: Display, fields: tuple[str, ...] | None = None) -> None:
        self._display = display
        self._fields = fields
        self._result: object = None
        self._note = ""
        self._live = Live(
            console=console_of(display, is_live=True),
            auto_refresh=False,
            redirect_stdout=False,
            redirect_stderr=False,
            vertical_overflow="crop",
        )

    def __enter__(self) -> LiveView:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):  # the terminal is gone
            self._live.update(self._text())
            self._live.stop()

    def show(self, result: object) -> None:
        """Draw a result, and remove the note below the previous one."""
        self._result, self._note = result, ""
        self.draw()

    def note(self, text: str) -> None:
        """Show a line below the result until the next one."""
        self._note = text
        self.draw()

    def draw(self) -> None:
        """Draw again, in the width that the terminal has now."""
        self._live.update(self._cut(self._text()))
        self._live.refresh()

    def pause(self) -> None:
        """Show the cursor, because the process is about to be stopped."""
        self._live.console.show_cursor(True)

    def resume(self) -> None:
        """Hide the cursor, and draw below what the terminal shows now."""
        self._live.console.show_cursor(False)
        self._live._live_render._shape = None  # the cursor has moved since
        self.draw()

    def _cut(self, text: Text) -> Text:
        """Return the lines of a text that the terminal has room for, the number of hidden lines, and the note."""
        console = self._live.console
        note = [Text(""), *Text(clean(self._note), "yellow").wrap(console, console.width)] if self._note else []
        lines = [*text.split("\n", allow_blank=True)]
        room = console.height - len(note)
        if len(lines) > room:
            hidden = len(lines) - max(1, room - 1)
            lines = [*lines[: max(1, room - 1)], Text(f"and {plural(hidden, 'more line')}", "dim")]
        return Text("\n").join([*lines, *note])

    def _text(self) -> Text:
        width = self._live.console.width
        drawn = io.TextIOWrapper(io.BytesIO(), encoding=self._display.stdout.encoding or "utf-8", write_through=True)
        display = replace(self._display, stdout=drawn, stdout_tty=True, width=width, format=Format.TABLE, quiet=True)
        if self._result is not None:
            render(self._result, display, self._fields)
        drawn.seek(0)
        empty = view_of(type(self._result)).empty(self._result) if self._result is not None else ""
        return Text.from_ansi(drawn.read().rstrip("\n") or empty, no_wrap=True)
