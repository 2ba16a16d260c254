"""The last result of each step for each host."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from bmhctl.domain.model import HOLDS_BACK, CheckResult, Host, Phase, State, Verdict
from bmhctl.stores.database import Database
from bmhctl.stores.rows import UNREADABLE, Row, from_time, to_time, unreadable
from bmhctl.support.values import Frozen

_COLUMNS = "phase, step, verdict, detail, seconds, at, digest"
_SAVE = (
    f"INSERT INTO results (host_id, {_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?) "
    "ON CONFLICT (host_id, phase, step) DO UPDATE SET verdict = excluded.verdict, detail = excluded.detail, "
    "seconds = excluded.seconds, at = excluded.at, digest = excluded.digest"
)
_HELD_BACK = " OR ".join(
    "(hosts.state = '{}' AND r.phase IN ('', '{}'))".format(state, "', '".join(phases))
    for state, phases in HOLDS_BACK.items()
)
_FAILED = (
    f"SELECT r.{_COLUMNS.replace(', ', ', r.')}, r.host_id FROM hosts JOIN results r ON r.host_id = hosts.id "
    f"WHERE r.verdict <> 'pass' AND r.at >= hosts.since AND ({_HELD_BACK}) ORDER BY r.at, r.step"
)


class StepResults(Frozen):
    """The results of steps: for each step and host only the last one."""

    _database: Database

    def save(self, host: Host, results: Iterable[CheckResult], now: datetime) -> None:
        """Save the last result of each step for a host; ``now`` is the time of a result that has none."""
        rows = [
            (host.id, r.phase or "", r.step, r.verdict.value, r.detail, r.seconds, from_time(r.at or now), r.digest)
            for r in results
        ]
        self._database.enqueue(_SAVE, *rows)

    def of(self, host: Host) -> tuple[CheckResult, ...]:
        """Return the last result of each step for a host, the oldest first."""
        rows = self._database.execute(
            f"SELECT {_COLUMNS} FROM results WHERE host_id = ? ORDER BY at, phase, step", [host.id]
        )
        found = [_result(row) for row in rows]
        known = {result.step for result in found if result.phase is not None}
        return tuple(result for result in found if result.phase is not None or result.step not in known)

    def of_hosts_in(self, state: State, phase: Phase) -> Mapping[int, list[CheckResult]]:
        """Return the results of one phase for the hosts in a state, by host id; hosts without results are left out."""
        found: dict[int, list[CheckResult]] = {}
        rows = self._database.execute(
            f"SELECT {_COLUMNS}, host_id FROM results WHERE phase = ? AND host_id IN "
            "(SELECT id FROM hosts WHERE state = ?) ORDER BY at, step",
            [phase.value, state.value],
        )
        for *row, host_id in rows:
            found.setdefault(int(host_id or 0), []).append(_result(row))
        return found

    def failed(self) -> Mapping[int, Sequence[CheckResult]]:
        """Return the results that hold each host back, by host id: see :func:`bmhctl.domain.model.holding_back`."""
        found: dict[int, list[CheckResult]] = {}
        for *row, host_id in self._database.execute(_FAILED):
            found.setdefault(int(host_id or 0), []).append(_result(row))
        return found

    def forget(self, host: Host, phase: Phase) -> None:
        """Keep the results of a phase for display, but no longer count its steps as done."""
        self._database.execute("UPDATE results SET digest = NULL WHERE host_id = ? AND phase = ?", [host.id, phase])


def _result(row: Row) -> CheckResult:
    phase, step, verdict, detail, seconds, at, digest = row
    try:
        return CheckResult(
            str(step),
            Verdict(str(verdict)),
            str(detail),
            float(seconds or 0),
            to_time(at),
            Phase(str(phase)) if phase else None,
            None if digest is None else str(digest),
        )
    except UNREADABLE as error:
        raise unreadable("step result", step) from error
