"""The Python API: an inventory as an object whose methods are the commands.

Methods raise the errors of :mod:`bmhctl.errors` that the commands report, and return the results of
:mod:`bmhctl.results`. Durations are :class:`~datetime.timedelta` or text such as ``"20m"``.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Self

from bmhctl.api.arguments import checked
from bmhctl.api.bmcs import Bmcs
from bmhctl.api.changing import Changing
from bmhctl.api.reading import Reading
from bmhctl.api.reserving import Reserving
from bmhctl.errors import StateRefusedError, UsageError
from bmhctl.stores import default_actor, open_store, state_files
from bmhctl.usecases.inventories import init
from bmhctl.usecases.shared.context import Context


@checked
def open_inventory(
    location: str | os.PathLike[str],
    *,
    actor: str | None = None,
    clock: Callable[[], datetime] | None = None,
    tell: Callable[[str], None] | None = None,
    create: bool = False,
) -> Inventory:
    """Open an inventory: a ``.toml`` or a ``.db`` file, or ``postgresql://…``. Use it as a context manager.

    Only the thread that opened an inventory may use it, and no fork of its process. ``actor`` is the name under which
    this program acts (default: ``$BMHCTL_ACTOR``, or user@hostname). ``clock`` returns the time by which leases are
    judged, with its zone (default: the store's clock). ``tell`` is called with each warning, a line of text. ``create``
    makes an empty inventory if there is none.

    Raises :class:`~bmhctl.errors.UnreachableError` if the inventory can't be opened, and
    :class:`~bmhctl.errors.InvalidError` if it is damaged or written by a newer bmhctl.

    >>> import tempfile
    >>> from bmhctl import open_inventory
    >>> folder = tempfile.TemporaryDirectory()
    >>> with open_inventory(f"{folder.name}/lab.db", actor="ci", create=True) as lab:
    ...     added = lab.add("node01", "node02", labels={"arch": "arm64"})
    ...     checked = lab.ready("node01", "node02")
    ...     with lab.reserved(selector="arch=arm64", count=2, purpose="nightly", ttl="20m") as held:
    ...         names = [host.name for host in held.hosts]
    ...     print(names, [str(host.state) for host in lab.hosts()])
    ['node01', 'node02'] ['tainted', 'tainted']
    >>> folder.cleanup()
    """
    now = None if clock is None else _in_utc(clock)
    path = os.fsdecode(location)
    state_files.shared_folder = os.environ.get(state_files.VARIABLE)
    if create:
        with suppress(StateRefusedError):  # the inventory exists already
            init(path)
    actor = actor or default_actor(os.environ)  # before the store is opened, because a failure here would leave it open
    store = open_store(path)
    context = Context(
        store=store,
        actor=actor,
        clock=now or store.now,
        environ=dict(os.environ),
        report=tell or (lambda _: None),
    )
    return Inventory(context)


def _in_utc(clock: Callable[[], datetime]) -> Callable[[], datetime]:
    """Return the clock in UTC, after a first look at it; it raises :class:`UsageError` for a time without a zone."""

    def now() -> datetime:
        at: object = clock()
        if not isinstance(at, datetime) or at.utcoffset() is None:
            raise UsageError(f"clock returned {at!r}, not a datetime with a zone", hint="such as datetime.now(UTC)")
        return at.astimezone(UTC)

    now()
    return now


class Inventory(Reading, Changing, Bmcs, Reserving):
    """An open inventory; see :func:`open_inventory`.

    Methods that take ``names`` and ``selector`` choose hosts as the command line does: exact names, globs and folded
    ranges, narrowed by the selector. If a verb fails for one host, the others are still processed. Then one
    :class:`~bmhctl.errors.BmhctlError` for all failures is raised. Every method that writes first ends expired leases.
    With ``dry_run=True`` a method changes nothing: it returns what would happen to each host, and raises the errors
    that would occur.

    Any method raises :class:`~bmhctl.errors.UsageError` before it does anything: for an argument of a wrong type, in
    another thread or process than the one that opened the inventory, and after :meth:`close`. Any method may raise
    :class:`~bmhctl.errors.UnreachableError` if the inventory can't be read or written.
    """

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the inventory; in a fork of the process that opened it, leave the connection to that process."""
        if not self._is_closed and not self._is_in_fork():
            self._context.store.close()
        self._is_closed = True
