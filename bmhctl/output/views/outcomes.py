"""The outcome of a verb, a plan or an import for each host."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from bmhctl.output.layout import UNLIMITED, VERDICT, Column, Line, columns, place_span, transition_spans
from bmhctl.output.render import NAMED, TEXT, Display, View
from bmhctl.results import Imported, Outcome, Outcomes, Plan
from bmhctl.support.values import replace

if TYPE_CHECKING:
    from bmhctl.output.records import Record

_MANY = 8  # the number of hosts up to which no summary is printed


def _outcome_lines(items: Iterable[Outcome], display: Display) -> Iterator[Line]:
    """Yield a line for each host without an error, and with ``--verbose`` a line for each of its steps below it."""
    done = [item for item in items if item.error is None]
    heads = (Column(""), Column(""), Column(""))
    rows = ([[(item.host, "bold")], _change(item), [(item.message, "")]] for item in done)
    for item, line in zip(done, columns(heads, rows, UNLIMITED), strict=False):
        yield line
        for step in item.steps if display.verbose else ():
            yield [("  ", ""), VERDICT[step.verdict], (f" {step.step} {step.seconds:.1f}s ", ""), (step.detail, "dim")]


def _change(item: Outcome) -> Line:
    if item.changed and item.source is not item.state:
        return transition_spans(item.source, item.state)
    return [place_span(item.state)] if item.state else []


def _records(result: Outcomes | Plan | Imported) -> Iterable[Record]:
    from bmhctl.output.records import outcome_record

    return map(outcome_record, result.items)


def _summary(result: Outcomes, display: Display) -> Iterable[str]:
    """Yield the number of hosts that a verb changed, did not change, or failed on: ``set: 38 changed, 2 failed``.

    Yield nothing for a plan that would change no host, such as that of ``policy check``.
    """
    if display.shown not in TEXT:
        return
    failed = sum(1 for item in result.items if item.error is not None)
    changed = sum(1 for item in result.items if item.error is None and item.changed)
    if isinstance(result, Plan) and not changed and not failed:
        return
    word = "would change" if isinstance(result, Plan) else "changed"
    counts = {word: changed, "unchanged": len(result.items) - changed - failed, "failed": failed}
    yield f"{result.verb}: {', '.join(f'{count} {word}' for word, count in counts.items() if count)}"


def _import_summary(result: Imported, display: Display) -> Iterable[str]:
    """Yield the number of hosts that an import of many added, changed and left: ``import: 20 new, 4 unchanged``."""
    if display.shown not in TEXT or len(result.items) <= _MANY:
        return
    changed = [item for item in result.items if item.changed]
    new = sum(1 for item in changed if item.source is None)
    counts = {"new": new, "changed": len(changed) - new, "unchanged": len(result.items) - len(changed)}
    words = ", ".join(f"{count} {word}" for word, count in counts.items() if count)
    yield f"dry run: {words}; nothing was changed" if result.dry_run else f"import: {words}"
    if changed and not result.dry_run:
        yield "bmhctl undo takes this back"


_FIELDS = ("host", "ok", "changed", "code", "status", "message", "hint", "source", "state", "reservation", "steps")
_CSV = ("host", "ok", "changed", "code", "status", "message", "source", "state", "reservation")
_OUTCOMES = View(
    NAMED,
    _FIELDS,
    csv=_CSV,
    kind="outcomes",
    key="results",
    head=lambda result: {"verb": result.verb, "notes": [*result.notes]},
    records=_records,
    names=lambda result: (item.host for item in result.items if item.error is None),
    lines=lambda result, display: () if display.quiet else _outcome_lines(result.items, display),
    notes=lambda result, display: (*(_summary(result, display) if len(result.items) > _MANY else ()), *result.notes),
)

VIEWS = {
    Outcomes: _OUTCOMES,
    Plan: replace(_OUTCOMES, kind="plan", lines=lambda result, display: _outcome_lines(result.items, display)),
    Imported: replace(
        _OUTCOMES,
        kind="imported",
        head=lambda result: {
            "dry_run": result.dry_run,
            "skipped": [*result.skipped],
            "warnings": [*result.warnings],
        },
        notes=lambda result, display: (
            *result.warnings,
            *(f"skipped {text}" for text in result.skipped),
            *_import_summary(result, display),
        ),
    ),
}
