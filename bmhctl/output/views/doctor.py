"""The findings of ``doctor``: the worst first, and below each what to do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from bmhctl.domain.units import plural
from bmhctl.output.layout import Line, Span
from bmhctl.output.records import Record, attributes_record, iso
from bmhctl.output.render import NAMED, Display, Format, View
from bmhctl.output.sanitize import cell_width, clean, pad
from bmhctl.output.spans import inventory_line, joined, stamp
from bmhctl.results.diagnosis import Diagnosis, Finding, Severity

_MOST = 8  # how many findings of a kind are shown without --verbose

_SIGN: dict[Severity, Span] = {
    Severity.BROKEN: ("✗", "bold red"),
    Severity.WARNING: ("!", "bold yellow"),
    Severity.NOTE: ("·", "dim"),
}
_FIXED: Span = ("✓", "bold green")


def _lines(diagnosis: Diagnosis, display: Display) -> Iterator[Line]:
    """Yield the inventory, the findings (a few of each kind unless ``--verbose``) with remedies, and the verdict."""
    counts = " · ".join(plural(number, what.removesuffix("s")) for what, number in diagnosis.counts.items())
    words = [(f"{counts} · " if counts else "", ""), (stamp(diagnosis.now), "dim")]
    yield inventory_line(diagnosis.inventory, words, display.width if display.is_table else None)
    yield []
    indent = 2 + max((cell_width(clean(each.kind)) for each in diagnosis.findings), default=0) + 2
    shown = list(diagnosis.findings if display.verbose else _few(diagnosis.findings))
    for finding, after in zip(shown, (*shown[1:], None), strict=False):
        yield _finding(finding, indent)
        # A remedy that several findings in a row share is printed once.
        if after is None or (after.kind, _remedy(after)) != (finding.kind, _remedy(finding)):
            text, style = _remedy(finding)
            if text:
                yield [(f"{'':{indent}}→ ", "dim"), (text, style)]
    hidden = sum(each.number for each in diagnosis.findings) - sum(each.number for each in shown)
    if hidden:
        yield [(f"{'':{indent}}and {hidden} more: bmhctl doctor -v", "dim")]
    if diagnosis.findings:
        yield []
    yield _verdict(diagnosis)


def _notes(diagnosis: Diagnosis, display: Display) -> Iterator[str]:
    """Yield the lines for stderr: the verdict if the rows on stdout do not show it, and where the backup is.

    A broken inventory is reported as an error instead; formats for machines get no verdict.
    """
    if display.shown is Format.PLAIN and not diagnosis.broken:
        yield f"{diagnosis.inventory}: {''.join(text for text, _ in _verdict(diagnosis)).removeprefix('✓ ')}"
    if diagnosis.backup:
        yield f"backup from before the fix: {diagnosis.backup}"


def _few(findings: Iterable[Finding]) -> Iterator[Finding]:
    numbers: Counter[tuple[object, ...]] = Counter()
    for finding in findings:
        sort = (finding.kind, finding.severity, finding.fixed)
        numbers[sort] += 1
        if numbers[sort] <= _MOST:
            yield finding


def _remedy(finding: Finding) -> Span:
    return ("fixed", "green") if finding.fixed else (clean(finding.remedy), "cyan")


def _finding(finding: Finding, indent: int) -> Line:
    sign = _FIXED if finding.fixed else _SIGN[finding.severity]
    line = [sign, (f" {pad(clean(finding.kind), indent - 4)}  ", "dim")]
    if finding.host:
        line += [(clean(finding.host), "bold"), (": ", "")]
    return [*line, (clean(finding.message), "")]


def _verdict(diagnosis: Diagnosis) -> Line:
    left: Counter[Severity] = Counter()
    for each in diagnosis.findings:
        left[each.severity] += 0 if each.fixed else each.number
    fixed = sum(each.number for each in diagnosis.findings if each.fixed)
    broken = left[Severity.BROKEN]
    words: list[Span] = [(f"✗ {broken} broken", "bold red") if broken else ("✓ healthy", "bold green")]
    if fixed:
        words.append((f"{fixed} fixed", "green"))
    for severity, style in ((Severity.WARNING, "yellow"), (Severity.NOTE, "dim")):
        if left[severity]:
            words.append((plural(left[severity], severity.value), style))
    return joined(words, " · ")


def _head(result: Diagnosis) -> Record:
    return {
        "now": iso(result.now),
        "inventory": result.inventory,
        "healthy": not result.broken,
        "backup": result.backup,
        "counts": {**result.counts},
    }


_FIELDS = ("kind", "severity", "host", "message", "remedy", "fixable", "fixed", "number")

VIEWS = {
    Diagnosis: View(
        NAMED,
        _FIELDS,
        ("severity", "fixed", "kind", "host", "message", "remedy"),
        kind="diagnosis",
        key="findings",
        head=_head,
        records=lambda result: (attributes_record(each, _FIELDS) for each in result.findings),
        names=lambda result: dict.fromkeys(each.host for each in result.findings if each.host),
        lines=_lines,
        notes=_notes,
    )
}
