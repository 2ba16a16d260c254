"""The problems of an inventory: results of ``doctor``."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from bmhctl.errors import BmhctlError, InvalidError
from bmhctl.support.values import Frozen, Words


class Severity(Words):
    """How bad a finding is: an invariant is broken, something may go wrong, or the finding is only information."""

    BROKEN = "broken"
    WARNING = "warning"
    NOTE = "note"


class Finding(Frozen):
    """One problem that ``doctor`` found: what is wrong, the host concerned if there is one, and what to do.

    ``kind`` is a stable word. ``fixable`` is whether ``doctor --fix`` can fix the problem, ``fixed`` whether it has.
    ``number`` is how many problems of this kind the finding stands for.
    """

    kind: str
    severity: Severity
    message: str
    remedy: str
    host: str | None = None
    fixable: bool = False
    fixed: bool = False
    number: int = 1


class Diagnosis(Frozen):
    """The problems that ``doctor`` found in an inventory, the worst first.

    ``counts`` is how many hosts, events and reservations were checked; it is empty if none could be. ``backup`` is the
    copy that was made before anything was fixed.
    """

    inventory: str
    findings: tuple[Finding, ...]
    now: datetime
    counts: Mapping[str, int]
    backup: str | None = None

    @property
    def broken(self) -> tuple[Finding, ...]:
        """The findings that report something broken and were not fixed."""
        return tuple(each for each in self.findings if each.severity is Severity.BROKEN and not each.fixed)

    @property
    def error(self) -> BmhctlError | None:
        """The error that says how many findings are still broken; None if none is."""
        number = sum(each.number for each in self.broken)
        fixable = sum(each.number for each in self.broken if each.fixable)
        if not number:
            return None
        words = "1 thing is" if number == 1 else f"{number} things are"
        those = f"{fixable} of them" if fixable < number else "it" if number == 1 else "them"
        return InvalidError(
            f"{self.inventory}: {words} broken",
            hint=f"bmhctl doctor --fix repairs {those}, after a backup" if fixable else None,
            details={"broken": number, "fixable": fixable},
        )
