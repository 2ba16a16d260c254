"""Convert the JSON in the columns of a host: its notes, the times that are set aside on it, failed tasks."""

from __future__ import annotations

from collections.abc import Sequence

from bmhctl.domain.model import Note, Planned, SetupProgress, StepTiming
from bmhctl.stores.rows import Value, from_time, to_moment, to_time
from bmhctl.support.values import replace


def planned_values(planned: Planned) -> list[object]:
    """Return a time that is set aside as a list that :func:`to_planned` reads back."""
    return [planned.id, planned.owner, from_time(planned.starts_at), from_time(planned.ends_at)]


def to_planned(value: Sequence[Value]) -> Planned:
    """Return the time that :func:`planned_values` wrote."""
    identifier, owner, starts_at, ends_at = value
    return Planned(str(identifier), str(owner), to_moment(starts_at), to_moment(ends_at))


def note_values(note: Note) -> list[object]:
    """Return a cordon or a reason for maintenance as a list that :func:`to_note` reads back."""
    values: list[object] = [note.actor, note.reason, from_time(note.since), from_time(note.until), note.quarantine]
    if note.maintains:
        return [*values, note.under, True]
    return [*values, note.under] if note.retires else values  # short if possible, as in older versions


def to_note(value: Sequence[Value]) -> Note:
    """Return the cordon or the reason in a list that :func:`note_values` wrote, in this or an older version."""
    actor, reason, since, until, quarantine, *more = value
    note = Note(str(actor), str(reason), to_moment(since), to_time(until), bool(quarantine))
    if not more:
        return note
    maintains = len(more) > 1
    return replace(note, retires=not maintains, maintains=maintains, under=_to_pair(more[0]))


def _to_pair(value: object) -> tuple[str, str] | None:
    """Return the actor and the reason in a list; None for None."""
    return (str(value[0]), str(value[1])) if isinstance(value, list) else None


def setup_values(setup: SetupProgress) -> list[object]:
    """Return the progress of a setup as a list: the arguments of :class:`SetupProgress`."""
    return [setup.done, setup.total, setup.failed]


def timing_values(timing: StepTiming) -> list[object]:
    """Return how a step ended as a list for the row of an event."""
    return [timing.phase and timing.phase.value, timing.step, timing.verdict.value, round(timing.seconds, 6)]
