"""The last result of each check and cleanup step for each host."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import TYPE_CHECKING

from bmhctl.domain.model import CheckResult, Host, Verdict
from bmhctl.stores.rows import from_time, to_time
from bmhctl.support.values import Frozen

if TYPE_CHECKING:
    from bmhctl.stores.database import Database

_SAVE = (
    "INSERT INTO results (host_id, step, verdict, detail, seconds, at) VALUES (?, ?, ?, ?, ?, ?) "
    "ON CONFLICT (host_id, step) DO UPDATE SET verdict = excluded.verdict, detail = excluded.detail, "
    "seconds = excluded.seconds, at = excluded.at"
)


class StepResults(Frozen):
    """The results, of each step for a host only the last one."""

    _database: Database

    def save(self, host: Host, results: Iterable[CheckResult], now: datetime) -> None:
        """Save the last result of each step for a host; one without a time counts as of ``now``."""
        rows = [(host.id, r.step, r.verdict.value, r.detail, r.seconds, from_time(r.at or now)) for r in results]
        self._database.enqueue(_SAVE, *rows)

    def of(self, host: Host) -> tuple[CheckResult, ...]:
        """Return the last result of each step for a host, the oldest first."""
        rows = self._database.execute(
            "SELECT step, verdict, detail, seconds, at FROM results WHERE host_id = ? ORDER BY at, step", [host.id]
        )
        return tuple(
            CheckResult(str(step), Verdict(str(verdict)), str(detail), float(seconds or 0), to_time(at))
            for step, verdict, detail, seconds, at in rows
        )
