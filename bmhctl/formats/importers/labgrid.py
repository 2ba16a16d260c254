"""Places of labgrid's coordinator: its `places.yaml`."""

from __future__ import annotations

from bmhctl.domain.model import State
from bmhctl.formats.importers.record import Item, Record, alone, text_of, texts


@alone
def reader(item: Item) -> Record:
    """Return the host of a place: reserved for the user who acquired it, else initial, as labgrid does not clean."""
    fields = item.fields
    acquired, reservation = fields.line("acquired"), fields.line("reservation")
    word = "acquired" if acquired else "reserved" if reservation else "free"
    aliases = [text for text in texts(fields, "aliases") if text]
    exporters = (text_of(match.data.get("exporter")) for match in fields.rows("matches"))
    return Record(
        fields.line("name") or item.name,
        labels={
            "exporter": next((each for each in exporters if each and each != "*"), None),
            **{key: text_of(value) for key, value in fields.fields("tags").data.items()},
        },
        attributes={"aliases": " ".join(aliases) or None, "allowed": " ".join(texts(fields, "allowed")) or None},
        note=fields.squeezed("comment"),
        word=word,
        state=State.INITIAL if word == "free" else State.RESERVED,
        owner=acquired or (f"labgrid reservation {reservation}" if reservation else None),
    )
