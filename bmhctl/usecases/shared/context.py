"""What every use case works with: the open inventory, the actor, the clock."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from bmhctl.support.values import Frozen, field

if TYPE_CHECKING:
    from bmhctl.domain.model import Host
    from bmhctl.stores.store import Store


ACTOR_VARIABLE = "BMHCTL_ACTOR"


def default_actor(environ: Mapping[str, str]) -> str:
    """Return ``$BMHCTL_ACTOR``, or user@hostname."""
    if environ.get(ACTOR_VARIABLE):
        return environ[ACTOR_VARIABLE]
    import pwd

    try:
        user = pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:  # the user of a container may have no name
        user = f"uid{os.geteuid()}"
    return f"{user}@{os.uname().nodename}"


def utc_now() -> datetime:
    """Return the time of the local clock, in UTC."""
    return datetime.now(UTC)


def _silent(_: str) -> None:
    """Ignore a notice."""


def _no_progress(_: str, __: str) -> None:
    """Ignore progress."""


class Context(Frozen):
    """An open inventory, a clock, and the actor.

    ``environ`` is the environment that checks and cleanup steps start from. ``report`` takes one line for the user,
    such as a warning; ``progress`` takes what is in progress, and its position such as ``3 of 8``. Neither may fail.
    ``show_part`` takes the result of a command that is being interrupted: what it has done so far (None: each
    outcome is reported in a line).
    With ``dry_run`` a use case returns what would become of each host, and changes nothing. ``confirm`` puts a question
    to a person, and raises :class:`UsageError` unless the answer is yes; None where no person is to be asked.
    """

    store: Store
    actor: str
    clock: Callable[[], datetime] = utc_now
    environ: Mapping[str, str] = field(default_factory=dict)
    report: Callable[[str], None] = _silent
    progress: Callable[[str, str], None] = _no_progress
    show_part: Callable[[object], None] | None = None
    dry_run: bool = False
    confirm: Callable[[str], None] | None = None

    def transaction(self, *, shared: bool = False) -> AbstractContextManager[object]:
        """Open a writing transaction, as :meth:`Store.transaction`; with ``dry_run`` it is undone at the end."""
        return _undone(self.store) if self.dry_run else self.store.transaction(shared=shared)

    def host(self, name: str) -> Host:
        """Return the host with this name; raise :class:`NotFoundError`, which suggests one, if there is none."""
        host = self.store.hosts.named(name)
        if host is None:
            from bmhctl.usecases.shared.named_host import not_found

            raise not_found(self, name)
        return host


def once(report: Callable[[str], None], known: Iterable[str] = ()) -> Callable[[str], None]:
    """Return a report function that passes on each line once, and skips lines that are known already."""
    said = set(known)

    def report_new(line: str) -> None:
        if line not in said:
            said.add(line)
            report(line)

    return report_new


@contextmanager
def _undone(store: Store) -> Iterator[None]:
    with suppress(_UndoneError), store.transaction():
        yield
        raise _UndoneError


class _UndoneError(Exception):
    """Ends a transaction of a dry run."""


CLOCK_SLACK = timedelta(minutes=1)
"""How far a clock may be set back, as time servers do now and then, before leases are corrected for it."""
