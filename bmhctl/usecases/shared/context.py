"""What every use case needs: the open inventory, the actor, the clock, and where to report."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from bmhctl.support.values import Frozen, field

if TYPE_CHECKING:
    from bmhctl.domain.model import Host
    from bmhctl.stores.store import Store


def utc_now() -> datetime:
    """Return the time of the local clock, in UTC."""
    return datetime.now(UTC)


class Context(Frozen):
    """An open inventory, a clock, an actor, and how to report.

    ``environ`` is the environment from which checks and cleanup steps start. ``report`` is called with one line for the
    user, such as a warning. ``progress`` is called with what is in progress, and a position such as ``3 of 8``. Both
    must not fail. ``show_part`` is called with the result so far of a command that is interrupted; if it is None, each
    outcome is reported in a line. With ``dry_run``, a use case changes nothing and returns what would happen to each
    host. ``confirm`` asks a person a question, and raises :class:`UsageError` unless the answer is yes; None if no
    person is to be asked, as in a dry run.
    """

    store: Store
    actor: str
    clock: Callable[[], datetime] = utc_now
    environ: Mapping[str, str] = field(default_factory=dict)
    report: Callable[[str], None] = lambda _: None
    progress: Callable[[str, str], None] = lambda _, __: None
    show_part: Callable[[object], None] | None = None
    dry_run: bool = False
    confirm: Callable[[str], None] | None = None

    def transaction(self, *, shared: bool = False) -> AbstractContextManager[object]:
        """Open a writing transaction, as :meth:`Store.transaction` does, for what the user asked for.

        If it changes something and the command is interrupted before its output, :func:`report_saved` reports it. With
        ``dry_run``, it is undone at the end.
        """
        if self.dry_run:
            return undone(self.store.transaction())
        return self.store.transaction(shared=shared, reports=True)

    def host(self, name: str) -> Host:
        """Return the host with this name; for an unknown name, raise :class:`NotFoundError`, which suggests another."""
        host = self.store.hosts.named(name)
        if host is None:
            from bmhctl.usecases.shared.unmatched import not_found

            raise not_found(self, name)
        return host


def once(report: Callable[[str], None], known: Iterable[str] = ()) -> Callable[[str], None]:
    """Return a report function that passes on each line only once, and none of the ``known`` lines."""
    said = set(known)

    def report_new(line: str) -> None:
        if line not in said:
            said.add(line)
            report(line)

    return report_new


@contextmanager
def undone(part: AbstractContextManager[object]) -> Iterator[None]:
    """Open a transaction or a savepoint for a rehearsal, and undo it at the end."""
    with suppress(_UndoneError), part:
        yield
        raise _UndoneError


class _UndoneError(Exception):
    """Ends a rehearsal, so that its transaction or savepoint is undone."""
