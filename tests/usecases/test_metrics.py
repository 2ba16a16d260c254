"""Metrics: Prometheus reads them, counters never go back, and no event is read twice."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

import pytest
from prometheus_client.parser import text_string_to_metric_families

from bmhctl.domain.requirements import reservation_request
from bmhctl.output.views.metrics import exposition
from bmhctl.results.statistics import Metrics
from bmhctl.usecases import hosts, lifecycle_verbs
from bmhctl.usecases.metrics import metrics
from bmhctl.usecases.planned_maintenance import plan_maintenance
from bmhctl.usecases.reservations import bookings, reserve
from bmhctl.usecases.shared.host_selection import Choice
from bmhctl.usecases.steps import step_verbs
from tests.conftest import Lab, copied

Samples = Mapping[tuple[str, tuple[tuple[str, str], ...]], float]


def samples(found: Metrics) -> Samples:
    """Each sample as Prometheus' own parser reads it."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families("".join(exposition(found)))
        for sample in family.samples
    }


@pytest.fixture
@copied
def used(lab: Lab) -> Lab:
    """Three hosts: node1 is reserved, node2 came back from a failed task, node3 is cordoned."""
    hosts.add(lab.context(), ["node[1-3]"], hosts.AttributeChanges())
    step_verbs.ready(lab.context(), Choice(everything=True))
    for name in ("node1", "node2"):
        grant = reserve.reserve_or_wait(lab.context(), reservation_request((name,)))
    token = grant.held.reservation.id
    lifecycle_verbs.release(lab.context(), Choice(), reservation=token, reason="task failed: exit 1")
    lifecycle_verbs.cordon(lab.context(), Choice(("node3",)), reason="kernel")
    return lab


def test_prometheus_reads_the_present_states_of_the_fleet(used: Lab) -> None:
    read = samples(metrics(used.context()))
    states = {"initial": 0, "available": 1, "reserved": 1, "tainted": 1, "maintenance": 0}
    for state, number in states.items():
        assert read["bmhctl_hosts", (("state", state),)] == number
    assert read["bmhctl_hosts_free", ()] == 0
    assert read["bmhctl_hosts_cordoned", ()] == 1
    assert read["bmhctl_reservations_open", ()] == 1
    assert read["bmhctl_tickets", ()] == 0
    assert read["bmhctl_events_total", (("verb", "reserve"),)] == 2
    assert read["bmhctl_failures_total", (("kind", "task"),)] == 1
    assert ("bmhctl_next_lease_end_timestamp_seconds", ()) in read
    assert not any("host" in dict(labels) for _, labels in read)


def test_metrics_count_bookings_and_plans_and_show_when_the_next_begins(used: Lab) -> None:
    read = samples(metrics(used.context()))
    of = {kind: ("bmhctl_bookings_open", (("kind", kind),)) for kind in ("booking", "maintenance")}
    assert [read[each] for each in of.values()] == [0, 0]
    assert ("bmhctl_next_booking_start_timestamp_seconds", ()) not in read
    wanted, starts = reservation_request(("node2",)), used.clock.now + timedelta(days=1)
    bookings.book(used.context(), wanted, starts, starts + timedelta(hours=1), weekly=2)
    maintained = starts + timedelta(days=2), starts + timedelta(days=3)
    plan_maintenance(used.context(), Choice(("node3",)), *maintained, reason="power work")
    read = samples(metrics(used.context()))
    assert [read[each] for each in of.values()] == [2, 1]
    assert read["bmhctl_next_booking_start_timestamp_seconds", ()] == int(starts.timestamp())


def test_metrics_for_each_host_are_written_only_on_request(used: Lab) -> None:
    read = samples(metrics(used.context(), per_host=True))
    assert read["bmhctl_host_state", (("host", "node1"), ("state", "reserved"))] == 1
    assert read["bmhctl_host_state", (("host", "node1"), ("state", "available"))] == 0
    assert sum(name == "bmhctl_host_since_timestamp_seconds" for name, _ in read) == 3


def test_counters_never_decrease_and_count_each_event_once(used: Lab) -> None:
    before = samples(metrics(used.context()))
    assert used.context().store.meta.get("metrics") is None, "an event that is minutes old may still be followed"
    used.clock.move(minutes=30)
    assert samples(metrics(used.context())) == before
    assert used.context().store.meta.get("metrics") is not None
    lifecycle_verbs.uncordon(used.context(), Choice(("node3",)))
    hosts.remove(used.context(), Choice(("node2",)), reason="sold", force=True)
    used.clock.move(minutes=30)
    for _ in range(2):
        after = samples(metrics(used.context()))
        assert after["bmhctl_events_total", (("verb", "reserve"),)] == 2
        assert after["bmhctl_events_total", (("verb", "uncordon"),)] == 1
        assert after["bmhctl_failures_total", (("kind", "task"),)] == 1
    counters = [key for key in before if key[0].endswith("_total")]
    assert all(after[key] >= before[key] for key in counters)


def test_waits_fill_a_histogram(used: Lab) -> None:
    store = used.context().store
    with store.transaction():
        store.database.execute("UPDATE reservations SET asked_at = created_at - 90000000")
    for pause in (timedelta(0), timedelta(minutes=30)):
        used.clock.now += pause
        read = samples(metrics(used.context()))
        bucket = {
            float(dict(labels)["le"]): value for (name, labels), value in read.items() if name.endswith("_bucket")
        }
        assert (bucket[60.0], bucket[300.0], bucket[float("inf")]) == (0, 2, 2)
        assert read["bmhctl_reservation_wait_seconds_sum", ()] == 180
        assert read["bmhctl_reservation_wait_seconds_count", ()] == 2
