"""Metrics in Prometheus' text format."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from bmhctl.domain.model import State
from bmhctl.output.render import TEXT, View
from bmhctl.results.statistics import Metrics

_ESCAPES = str.maketrans({"\\": "\\\\", "\n": "\\n", '"': '\\"'})


def exposition(metrics: Metrics) -> Iterator[str]:
    """Yield the lines, each with its end."""
    status = metrics.status
    states = ((_labels(state=state), status.counts.get(state, 0)) for state in State)
    yield from _family("bmhctl_hosts", "gauge", "Hosts by state.", states)
    for name, number, words in (
        ("hosts_free", status.free, "Hosts that a request could get now."),
        ("hosts_cordoned", status.total("cordoned"), "Hosts that are kept from being reserved."),
        ("hosts_undeclared", status.total("undeclared"), "Hosts that the inventory's file no longer declares."),
        ("hosts_faulty", status.total("faults"), "Hosts with a known fault."),
        ("reservations_open", status.total("held"), "Open reservations."),
        ("reservations_expired", status.total("expired"), "Open reservations with an expired lease."),
        ("tickets", status.waiting, "Requests that wait in the queue."),
        ("oldest_ticket_age_seconds", metrics.oldest_ticket or 0, "How long the oldest ticket has been waiting."),
    ):
        yield from _family(f"bmhctl_{name}", "gauge", words, [("", number)])
    ends = [held.reservation.expires_at for held in status.held if held.reservation.expires_at is not None]
    ends += [ending.at for ending in status.endings if ending.what.startswith("lease ")]
    if ends:
        name, words = "bmhctl_next_lease_end_timestamp_seconds", "When the next lease ends, in Unix time."
        yield from _family(name, "gauge", words, [("", int(min(ends).timestamp()))])
    planned = ((_labels(kind=kind), status.totals.get(f"{kind}s", 0)) for kind in ("booking", "maintenance"))
    yield from _family("bmhctl_bookings_open", "gauge", "Open bookings and planned maintenances, by kind.", planned)
    starts = [item.booking.starts_at for item in status.planned if item.booking.starts_at > status.now]
    if starts:
        name, words = (
            "bmhctl_next_booking_start_timestamp_seconds",
            "When the next booking or planned maintenance begins, in Unix time.",
        )
        yield from _family(name, "gauge", words, [("", int(min(starts).timestamp()))])
    events = ((_labels(verb=verb), number) for verb, number in metrics.events.items())
    yield from _family("bmhctl_events_total", "counter", "Events in the history, by verb.", events)
    failures = ((_labels(kind=kind), number) for kind, number in metrics.failures.items())
    words = "Failed checks, cleanups and tasks, and reported faults."
    yield from _family("bmhctl_failures_total", "counter", words, failures)
    yield from _histogram(metrics)
    if metrics.hosts:
        yield from _hosts(metrics)


def _histogram(metrics: Metrics) -> Iterator[str]:
    name = "bmhctl_reservation_wait_seconds"
    yield f"# HELP {name} How long requests waited for their reservations, where that is known.\n"
    yield f"# TYPE {name} histogram\n"
    for bound, number in metrics.waits.items():
        yield f'{name}_bucket{{le="{"+Inf" if bound is None else f"{bound:g}"}"}} {number}\n'
    yield f"{name}_sum {metrics.waited:.1f}\n"
    yield f"{name}_count {metrics.waits[None]}\n"


def _hosts(metrics: Metrics) -> Iterator[str]:
    hosts = list(metrics.hosts)
    states = ((_labels(host=host.name, state=state), int(host.state is state)) for host in hosts for state in State)
    yield from _family("bmhctl_host_state", "gauge", "1 for the present state of a host.", states)
    since = ((_labels(host=host.name), int(host.since.timestamp())) for host in hosts)
    words = "When a host's state began, in Unix time."
    yield from _family("bmhctl_host_since_timestamp_seconds", "gauge", words, since)


def _family(name: str, kind: str, words: str, series: Iterable[tuple[str, float]]) -> Iterator[str]:
    yield f"# HELP {name} {words}\n"
    yield f"# TYPE {name} {kind}\n"
    for labels, value in series:
        yield f"{name}{labels} {value:.3f}\n" if isinstance(value, float) else f"{name}{labels} {value}\n"


def _labels(**labels: str) -> str:
    known: Mapping[str, str] = labels
    return "{" + ",".join(f'{key}="{str(value).translate(_ESCAPES)}"' for key, value in known.items()) + "}"


VIEWS = {Metrics: View(TEXT, writers=dict.fromkeys(TEXT, lambda result, _: exposition(result)))}
