"""The times at which a host is free for long enough, compared with a check of every minute."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from bmhctl.domain.booking import free_starts
from bmhctl.domain.model import Host, HostSpec, Note, Planned, Reservation, State
from bmhctl.domain.room import Demand

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def at(minutes: int) -> datetime:
    return NOW + timedelta(minutes=minutes)


@given(
    st.lists(st.tuples(st.integers(0, 6), st.integers(1, 6)), max_size=3),
    st.one_of(st.just(-1), st.integers(1, 12)),
    st.lists(st.one_of(st.none(), st.integers(1, 12).map(at)), max_size=2),
    st.booleans(),
    st.integers(1, 8),
    st.integers(0, 2),
)
def test_the_reported_free_starts_are_exactly_the_times_from_which_a_host_can_be_booked(
    rows: list[tuple[int, int]],
    leased: int,
    backs: list[datetime | None],
    is_endless: bool,
    length: int,
    turnaround: int,
) -> None:
    planned, begin = [], 0
    for number, (wait, lasts) in enumerate(rows):
        begin += wait
        planned.append(Planned(f"b-{number}", "o", at(begin), at(begin + lasts)))
        begin += lasts
    lease = Reservation("r-1", "o", None, NOW, None if is_endless else at(leased), None) if leased > 0 else None
    host = Host(
        HostSpec("node1"), State.RESERVED, NOW, reservation=lease, planned=tuple(planned),
        maintenance=tuple(Note("o", "fan", NOW, back) for back in backs),
    )  # fmt: skip
    gap, lasting = timedelta(minutes=turnaround), timedelta(minutes=length)

    named = [*free_starts(host, at(2), lasting, gap)]

    for minute in range(2, 50):
        is_named = any(first <= at(minute) <= last for first, last in named)
        assert is_named == Demand((), at(minute), at(minute) + lasting, gap).is_met_by(host)
    assert named == sorted(named)
