"""The candidates of shell completion for selectors, ``--fields``, ``-o``, tickets and names of steps."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from bmhctl.domain.model import Phase
from bmhctl.domain.requirements import describe_requirements, load_requirements
from bmhctl.domain.selector import selectable
from bmhctl.domain.units import local_time
from bmhctl.results import History, HostDetail, Hosts, Outcomes, Reservations
from bmhctl.results.bookings import Bookings
from bmhctl.results.queue import Queue, Reminders
from bmhctl.results.statistics import HourlyUse, Metrics, Timeline
from bmhctl.results.status import Reasons
from bmhctl.results.why import Graph
from bmhctl.stores.host_query import HostQuery

if TYPE_CHECKING:
    from bmhctl.stores.store import Store

_SAMPLE = 1000  # the number of hosts whose keys and values are offered
_RESULTS_OF: dict[str, type] = {
    "list": Hosts,
    "show": HostDetail,
    "reservations": Reservations,
    "history": History,
    "queue": Queue,
    "status": Reasons,
    "wait": Hosts,
    "remind": Reminders,
    "bookings": Bookings,
    "graph": Graph,
    "metrics": Metrics,
    "stats": HourlyUse,
    "timeline": Timeline,
}


def selectors(store: Store, command: str, incomplete: str) -> Iterator[str]:
    """Yield completions of a partly typed selector: its last term gets a known key, or after ``=`` a known value.

    The known keys and values are those of hosts; for commands that select by tags, also those of open reservations.
    """
    done, comma, term = incomplete.rpartition(",")
    known: dict[str, set[str]] = {}
    for attributes in _selectable(store, command):
        for key, value in attributes.items():
            known.setdefault(key, set()).add(value)
    for sign in ("!=", "="):
        key, found, _ = term.partition(sign)
        if found:
            values = sorted(known.get(key, ()))
            yield from _beginning(incomplete, (f"{done}{comma}{key}{sign}{value}" for value in values))
            return
    absent = "!" if term.startswith("!") else ""
    ends = "" if absent else "="
    yield from _beginning(incomplete, (f"{done}{comma}{absent}{key}{ends}" for key in sorted(known)))


def _selectable(store: Store, command: str) -> Iterator[Mapping[str, str]]:
    if command in ("reservations", "release"):
        yield from (reservation.tags for reservation in store.reservations.open())
    if command != "reservations":
        yield from (selectable(host.spec) for host in store.hosts.find(HostQuery(limit=_SAMPLE)))


def tickets(store: Store, _: str, incomplete: str) -> Iterator[tuple[str, str]]:
    """Yield the tickets whose number begins with what is typed, each with who waits for what."""
    for ticket in store.tickets.all():
        if str(ticket.id).startswith(incomplete):
            requirements = describe_requirements(load_requirements(ticket.requirements))
            yield str(ticket.id), " ".join(filter(None, (ticket.owner, requirements, ticket.purpose)))


def bookings(store: Store, command: str, incomplete: str) -> Iterator[tuple[str, str]]:
    """Yield the bookings whose id begins with what is typed, each with its owner, beginning and purpose.

    For ``cancel``, these are also planned maintenances.
    """
    for booking in store.bookings.open():
        if booking.id.startswith(incomplete) and (command == "cancel" or not booking.is_maintenance):
            about = (booking.owner, local_time(booking.starts_at), booking.purpose)
            yield booking.id, " ".join(filter(None, about))


def fields(command: str, incomplete: str) -> Iterator[str]:
    """Yield completions of a typed list of fields: the list with one more field of the command's records."""
    from bmhctl.output.render import view_of

    done, comma, _ = incomplete.rpartition(",")
    chosen = done.split(",")
    names = view_of(_RESULTS_OF[command]).fields if command in _RESULTS_OF else ()
    yield from _beginning(incomplete, (f"{done}{comma}{name}" for name in names if name not in chosen))


def formats(command: str, incomplete: str) -> Iterator[str]:
    """Yield the output formats that a command has and that begin with what is typed."""
    from bmhctl.formats.exporters.table import FORMATS
    from bmhctl.output.render import view_of

    known = FORMATS if command == "export" else view_of(_RESULTS_OF.get(command, Outcomes)).formats
    yield from _beginning(incomplete, known)


def checks(store: Store, _: str, incomplete: str) -> Iterator[str]:
    """Yield the names of the setup steps and checks of the policy that begin with what is typed."""
    policy = store.policy()
    yield from _beginning(incomplete, (step.name for step in policy.of(Phase.SETUP, Phase.CHECKS)))


def _beginning(text: str, words: Iterable[str]) -> Iterator[str]:
    return (word for word in words if word.startswith(text))
