"""What completion offers for a selector, for ``--fields`` and for the names of steps."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from bmhctl import results
from bmhctl.domain.model import Phase
from bmhctl.domain.selector import selectable
from bmhctl.stores.host_query import HostQuery
from bmhctl.usecases.shared.context import Context

if TYPE_CHECKING:
    from bmhctl.stores.store import Store

_SAMPLE = 1000  # hosts whose keys and values are offered
_FIELDS_OF: dict[str, type] = {
    "list": results.Hosts,
    "show": results.HostDetail,
    "reservations": results.Reservations,
    "history": results.History,
    "queue": results.Queue,
}


def selectors(store: Store, incomplete: str) -> Iterator[str]:
    """Yield the selectors that go on from what is typed: by a key that hosts have, or behind ``=`` by its values."""
    done, comma, term = incomplete.rpartition(",")
    known: dict[str, set[str]] = {}
    for host in store.hosts.find(HostQuery(limit=_SAMPLE)):
        for key, value in selectable(host.spec).items():
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


def fields(command: str, incomplete: str) -> Iterator[str]:
    """Yield the lists of fields that go on from what is typed, with the next field of a command's records."""
    from bmhctl.output.render import view_of

    done, comma, _ = incomplete.rpartition(",")
    chosen = done.split(",")
    names = view_of(_FIELDS_OF[command]).fields if command in _FIELDS_OF else ()
    yield from _beginning(incomplete, (f"{done}{comma}{name}" for name in names if name not in chosen))


def checks(store: Store, incomplete: str) -> Iterator[str]:
    """Yield the names of the setup steps and checks of the policy that begin with what is typed."""
    policy = Context(store, "completion").policy()
    yield from _beginning(incomplete, (step.name for step in policy.of(Phase.SETUP, Phase.CHECKS)))


def _beginning(text: str, words: Iterable[str]) -> Iterator[str]:
    return (word for word in words if word.startswith(text))
