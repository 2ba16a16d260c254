"""Write events as they come: each batch continues the output of the one before it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from bmhctl.domain.model import Event
from bmhctl.errors import UsageError
from bmhctl.output import machine_formats
from bmhctl.output.layout import ColumnWriter
from bmhctl.output.records import cells, event_record
from bmhctl.output.render import Display, Format, render, view_of
from bmhctl.results import History


class EventStream:
    """Writes events to stdout, each batch at once.

    Raises :class:`UsageError` for a format that is one closed document, such as JSON.
    """

    def __init__(self, display: Display, fields: tuple[str, ...] | None, inventory: str, host: str | None) -> None:
        if display.format is Format.JSON:
            raise UsageError(
                "-o json is one document, which would never end", hint="-o jsonl writes one event per line"
            )
        self._display = display
        self._inventory = inventory
        self._host = host
        self._fields = fields
        self._shown = fields or view_of(History).plain
        self._columns = ColumnWriter([name.upper() for name in self._shown], display)
        self._is_first = True

    def write(self, events: Sequence[Event], now: datetime) -> None:
        """Write some events, and flush."""
        display, records = self._display, map(event_record, events)
        if display.shown is Format.CSV:
            fields = self._fields or view_of(History).fields
            machine_formats.write_csv(fields, cells(records, fields), display, header=self._is_first)
        elif display.shown is Format.PLAIN or (display.is_table and self._fields):
            self._columns.write(cells(records, self._shown))
        else:
            render(History(events, self._host, now, self._inventory), display, self._fields)
        display.stdout.flush()
        self._is_first = False
