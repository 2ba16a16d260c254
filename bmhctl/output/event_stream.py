"""Write events as they come: each batch continues the output of the one before it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from bmhctl.domain.model import Event
from bmhctl.errors import UsageError
from bmhctl.output import machine_formats
from bmhctl.output.cloudevents import write_cloudevents
from bmhctl.output.layout import ColumnWriter, paint
from bmhctl.output.records import Envelope, cells, event_record, picked
from bmhctl.output.render import Display, Format, check, view_of
from bmhctl.output.views.history import history_lines
from bmhctl.results import History


class EventStream:
    """Writes events to stdout, each batch at once.

    Raises :class:`UsageError` for a format that is one closed document, such as JSON.
    """

    def __init__(self, display: Display, fields: tuple[str, ...] | None, inventory: str, *, one_host: bool) -> None:
        check(History, display, fields)
        if display.format is Format.JSON:
            raise UsageError(
                "-o json is one document, which would never end", hint="-o jsonl writes one event per line"
            )
        self._display = display
        self._inventory = inventory
        self._one_host = one_host
        self._fields = fields
        self._shown = fields or view_of(History).plain
        self._columns = ColumnWriter([name.upper() for name in self._shown], display)
        self._is_first = True

    def write(self, events: Sequence[Event], now: datetime) -> None:
        """Write some events, and flush."""
        display, records = self._display, map(event_record, events)
        match display.shown:
            case Format.CLOUDEVENTS:
                write_cloudevents(events, self._inventory, display)
            case Format.JSONL:
                machine_formats.write_jsonl(Envelope({}, "events", picked(records, self._fields)), display)
            case Format.CSV:
                fields = self._fields or view_of(History).fields
                machine_formats.write_csv(fields, cells(records, fields), display, header=self._is_first)
            case Format.TABLE if not self._fields:
                paint(history_lines(events, now, self._one_host, display.width), display)
            case _:
                self._columns.write(cells(records, self._shown))
        display.stdout.flush()
        self._is_first = False
