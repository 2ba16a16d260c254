"""Results that are a text or one message: documents, scripts, what was done."""

from __future__ import annotations

from collections.abc import Iterable

from bmhctl.output.records import attributes_record
from bmhctl.output.render import STRUCTURED, TEXT, Display, Format, View
from bmhctl.results import Done
from bmhctl.results.texts import Document, Script

_OTHERS = (Format.METAL3, Format.ANSIBLE, Format.SSH, Format.KNOWN_HOSTS, Format.DNSMASQ, Format.NETBOX)
_EXPORTS = (*TEXT, Format.TOML, *_OTHERS)


def _parts(result: Document | Script, _: Display) -> Iterable[str]:
    return (result.text,) if isinstance(result.text, str) else result.text


VIEWS = {
    Done: View(
        STRUCTURED,
        kind="done",
        head=lambda result: attributes_record(result, ("command", "message", "details", "notes")),
        lines=lambda result, display: () if display.quiet else [[(result.message, "")]],
        notes=lambda result, _: result.notes,
    ),
    Document: View(_EXPORTS, writers=dict.fromkeys(_EXPORTS, _parts), notes=lambda result, _: result.notes),
    Script: View(TEXT, writers=dict.fromkeys(TEXT, _parts)),
}
