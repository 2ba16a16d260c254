"""A rule that ``doctor`` checks on an inventory's rows: the SQL for rows that break it, the words and a fix."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from datetime import datetime

from bmhctl.domain.model import State
from bmhctl.domain.units import local_time
from bmhctl.lifecycle.table import where
from bmhctl.results.diagnosis import Finding, Severity
from bmhctl.stores.integrity import Answer
from bmhctl.stores.rows import to_moment
from bmhctl.support.values import Frozen, field
from bmhctl.usecases.shared.context import Context

BROKEN, WARNING, NOTE = Severity.BROKEN, Severity.WARNING, Severity.NOTE

FIX = "bmhctl doctor --fix"

ALWAYS, NEVER = "1 = 1", "1 = 0"
"""SQL conditions that are true and false for every row."""

REMOVE_AND_ADD = (
    "restore a backup; or clean it by hand, then remove it and add it again: "
    "bmhctl remove {host} --force --reason 'broken history'; bmhctl add {host}"
)
"""The remedy for a broken history: no command can restore what happened."""

Repair = Callable[[Context], object]
"""Fixes a finding and all others like it, in the caller's transaction."""

Find = Callable[[Context], Iterator[tuple[str, *tuple[object, ...]]]]
"""Yields each row that breaks a rule: the host concerned, and the values of the rule's columns."""


class Fix(Frozen):
    """What ``doctor --fix`` does for a rule: ``words`` complete "bmhctl doctor --fix …".

    ``statement`` runs for the rows that break the rule and fit ``when``; if ``only`` is given, it runs for the rows
    that fit ``only`` instead. ``times`` are the names of the statement's parameters. ``run`` replaces the statement.
    """

    words: str
    statement: str = ""
    when: str = ALWAYS
    only: str = ""
    times: tuple[str, ...] = ()
    run: Repair | None = None


class Question(Frozen):
    """A rule: the rows of ``table`` that break it (``where``), what to report, and what to do.

    ``find`` replaces the SQL for a rule that SQL can't express; it yields the host and the ``columns``.

    ``message`` and ``remedy`` are templates over ``host`` and ``columns``; :data:`_WORDS` formats some of the values.
    ``host`` is the SQL for the name of the host concerned. If ``minor`` holds for a row, the finding is only a warning,
    with the remedy ``minor_remedy``. ``times`` are the names of the SQL parameters: ``now``; ``soon``, the latest time
    that a slightly fast clock may show; and ``latest``, after which no lease may end. A rule that needs ``latest`` is
    skipped if there is no such limit.
    """

    kind: str
    message: str
    where: str = ALWAYS
    columns: Mapping[str, str] = field(default_factory=lambda: {"state": "hosts.state"})
    table: str = "hosts"
    host: str = "hosts.name"
    severity: Severity = BROKEN
    remedy: str = REMOVE_AND_ADD
    fix: Fix | None = None
    minor: str = NEVER
    minor_remedy: str = ""
    times: tuple[str, ...] = ()
    find: Find | None = None

    def answers(self, ctx: Context, times: Mapping[str, datetime]) -> Iterator[Answer]:
        """Yield the rows that break the rule."""
        if self.find is None:
            return ctx.store.integrity.answers(self.select, [times[name] for name in self.times])
        return (Answer(host, False, False, tuple(values)) for host, *values in self.find(ctx))

    @property
    def select(self) -> str:
        """The query for all rows that break the rule, in the form for :meth:`Integrity.answers`."""
        conditions = {"fixable": self.fix.when if self.fix else NEVER, "minor": self.minor}
        flags = ", ".join(f"CASE WHEN {sql} THEN 1 ELSE 0 END AS {name}" for name, sql in conditions.items())
        named = ", ".join(f"{sql} AS {name}" for name, sql in self.columns.items())
        return f"SELECT {self.host} AS host, {flags}, {named} FROM {self.table} WHERE {self.where}"

    def finding(self, answer: Answer) -> Finding:
        """Return the finding for one row."""
        values = dict(zip(self.columns, answer.values, strict=True))
        words = {name: _WORDS[name](value) if name in _WORDS else value for name, value in values.items()}
        words["host"] = answer.host
        remedy = self.minor_remedy if answer.minor else self.remedy
        if self.fix and answer.fixable:
            remedy = f"{FIX} {self.fix.words}"
        severity = WARNING if answer.minor else self.severity
        message = self.message.format_map(words)
        return Finding(self.kind, severity, message, remedy.format_map(words), answer.host, answer.fixable)

    def repair(self, ctx: Context, times: Mapping[str, datetime]) -> None:
        """Fix all rows that can be fixed, in the caller's transaction."""
        if self.fix is None:
            return
        if self.fix.run:
            self.fix.run(ctx)
            return
        condition = self.fix.only or f"({self.where}) AND {self.fix.when}"
        given = [times[name] for name in self.fix.times]
        ctx.store.integrity.repair(f"{self.fix.statement} WHERE {condition}", given)


def _state(value: object) -> str:
    try:
        return where(State(str(value)))
    except ValueError:
        return repr(value)


def _moment(value: object, form: str = "%Y-%m-%d %H:%M:%S") -> str:
    with suppress(ArithmeticError):
        if isinstance(value, int):
            return local_time(to_moment(value), form)
    return repr(value)  # a value that bmhctl did not write


_WORDS: dict[str, Callable[[object], str]] = {
    "state": _state,
    "latest": _moment,
    "until": lambda end: "has no end" if end is None else f"lasts until {_moment(end, '%Y-%m-%d %H:%M')}",
    "others": lambda number: f" (and {number} more)" if number else "",
}
"""By column, the words for its values in messages; the values of other columns are shown as they are."""
