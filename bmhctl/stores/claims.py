"""The protocol of claims: locks on hosts and tickets that end with the process that holds them.

On one machine, claims are file locks. The process of a step inherits the claim on its host, so the claim outlives a
runner that is killed. All processes that wait with a ticket share the claim on the ticket. A process tests a claim by
locking its file for a moment, in a way that conflicts with a holder. If that fails, a lock of the other kind shows
whether a holder or another test is in the way.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import TYPE_CHECKING, Protocol

from bmhctl.domain.units import SECONDS, local_time
from bmhctl.stores.database import Question
from bmhctl.stores.rows import Row
from bmhctl.support.values import Frozen

if TYPE_CHECKING:
    from bmhctl.probes.cancellation import Cancelled


def host_claim(host_id: int) -> str:
    """Return the name of the claim on a host."""
    return f"host-{host_id}"


def run_claim(reservation_id: str) -> str:
    """Return the name of the claim that ``run`` holds for its reservation, so that only one task runs under it."""
    return f"run-{reservation_id}"


def ticket_claim(ticket_id: int) -> str:
    """Return the name of the claim that the processes waiting with a ticket share."""
    return f"ticket-{ticket_id}"


class Hold(Frozen):
    """A claim that this process holds.

    ``inherit`` are descriptors that the step's process inherits, so that the claim lasts as long as the step. It is
    empty for claims that can't be inherited. Then the step must end when its runner ends and when ``lost`` is set, and
    the caller calls ``guard`` before the first step: after a kill of the runner, the claim lasts until its deadline, by
    which the steps have ended.
    """

    inherit: tuple[int, ...] = ()
    lost: Cancelled | None = None
    guard: Callable[[], None] = lambda: None


class Holder(Frozen):
    """A process that holds a claim: what it is, its command line and when it began, as far as these are known.

    ``is_runner`` is whether the process is a living bmhctl, not a step that outlived its bmhctl. ``ends_by_itself``
    says when the claim ends if its process has ended; it is empty otherwise. ``id`` is the process id on this machine;
    0 for a process on another machine.
    """

    process: str
    command: str = ""
    since: datetime | None = None
    is_runner: bool = False
    ends_by_itself: str = ""
    id: int = 0

    def __str__(self) -> str:
        """The process in words: ``process 123 (./wipe.sh 10.0.0.11), since 2026-01-31 10:12:00 UTC``."""
        command = f" ({self.command})" if self.command else ""
        return f"{self.process}{command}" + (f", since {local_time(self.since, SECONDS)}" if self.since else "")


class LeftClaim(Frozen):
    """A claim that no process holds, but whose file or row still exists; ``cause`` says why, calling the claim "it"."""

    name: str
    cause: str


class Claims(Protocol):
    """The claims of one inventory, each by its name."""

    standing: tuple[Question, ...] = ()
    """The query for the claims that the inventory's database holds; empty where claims are files."""

    def share(self, name: str) -> AbstractContextManager[Callable[[], bool]]:
        """Hold a claim together with other processes until the block ends.

        Yields a test that returns whether this process is the only holder. Call the test only right before the end of
        the block, and while no other process can join, because it may release the claim.
        """

    def claim(self, name: str) -> AbstractContextManager[Hold | None]:
        """Hold a claim alone until the block ends; yield None when another process holds it."""

    def claimed(self, names: Collection[str], standing: Sequence[Row] | None = None) -> frozenset[str]:
        """Return the names of the claims that some process holds alone.

        ``standing`` are the rows that answered :attr:`standing`; without them, this method runs the query.
        """

    def claimed_hosts(self, hosts: Collection[int], standing: Sequence[Row] | None = None) -> frozenset[int]:
        """Return the ids of the hosts that some process has claimed; ``standing`` as for :meth:`claimed`."""
        names = {host_claim(host): host for host in hosts}
        return frozenset(names[name] for name in self.claimed(names, standing))

    def shared(self, names: Collection[str]) -> frozenset[str]:
        """Return the names of the claims that some process shares, and perhaps of some that several processes test."""

    def forget(self, name: str, *, shared: bool = False) -> None:
        """Remove the file or row of a claim that no process holds; a killed process may leave one.

        ``shared`` is whether processes share the claim, as with tickets.
        """

    def is_there(self, name: str) -> bool:
        """Return whether there is a file or row of a claim: a process holds it, or was killed while it held it."""
        return name in self.names()

    def names(self) -> list[str]:
        """Return the names of the claims for which :meth:`is_there` is true."""

    def restore(self) -> None:
        """Lock the claims of this process again whose files were removed from outside; do nothing if claims are rows.

        Raises :class:`MovedError` when another process has taken one of them.
        """
        return

    def holders(self, name: str) -> list[Holder]:
        """Return the processes that hold a claim alone, as far as this machine can see them; takes milliseconds."""

    def end_holders(self, name: str) -> None:
        """End the steps that hold a claim although their bmhctl has ended.

        Does nothing where claims are rows: there, a step always ends with its bmhctl.
        Raises :class:`PermissionError` when a step belongs to another user.
        """
        return

    def left_behind(self) -> list[LeftClaim]:
        """Return the claims that no process holds, but whose files or rows still exist; :meth:`forget` removes them."""
