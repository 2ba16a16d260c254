"""Events in the CloudEvents 1.0 JSON format, one per line: for webhooks, event buses and log shippers."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from urllib.parse import quote

from bmhctl.domain.model import Event
from bmhctl.output.machine_formats import jsonl
from bmhctl.output.records import Record, event_record, iso

TYPE = "bmhctl.host."
"""The beginning of the type of every event, before its verb."""


def cloudevents(events: Iterable[Event], inventory: str) -> Iterator[str]:
    """Yield events as CloudEvents; ``source`` and ``id`` together are unique, so that receivers recognise a repeat."""
    source = _source(inventory)
    return jsonl(_record(event, source) for event in events)


def _record(event: Event, source: str) -> Record:
    return {
        "specversion": "1.0",
        "id": str(event.id),
        "source": source,
        "type": f"{TYPE}{event.verb.value}",
        "subject": event.host,
        "time": iso(event.at),
        "datacontenttype": "application/json",
        "data": event_record(event),
    }


def _source(inventory: str) -> str:
    """Return the location of an inventory as a URI without its password."""
    if "://" in inventory:
        return quote(inventory, safe=":/?#[]@!$&'()*+,;=%~")
    return Path(os.path.abspath(inventory)).as_uri()
