"""The protocol of claims: locks on hosts and tickets that end with the process that holds them.

On one machine they are file locks. The process of a step inherits the claim on its host, so that the claim outlives a
runner that is killed. All processes that wait with a ticket share the claim on it. A process tests a claim by locking
its file for a moment, in a way that conflicts with a holder. If that fails, the other kind of lock shows whether a
holder or another test is in the way.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import TYPE_CHECKING, Protocol

from bmhctl.domain.units import SECONDS, local_time
from bmhctl.support.values import Frozen

if TYPE_CHECKING:
    from bmhctl.stores.database import Question
    from bmhctl.stores.rows import Row


def host_claim(host_id: int) -> str:
    """Return the name of the claim on a host."""
    return f"host-{host_id}"


def run_claim(reservation_id: str) -> str:
    """Return the name of the claim that the ``run`` of a reservation holds: only one task runs under it."""
    return f"run-{reservation_id}"


def ticket_claim(ticket_id: int) -> str:
    """Return the name of the claim that the processes waiting with a ticket share."""
    return f"ticket-{ticket_id}"


class Lost(Protocol):
    """Whether a claim is lost while it is held."""

    def is_set(self) -> bool:
        """Return whether it is lost."""

    def wait(self, timeout: float) -> bool:
        """Wait for the loss, ``timeout`` seconds at most; return whether it is lost."""


class Hold(Frozen):
    """A claim that is held.

    ``inherit`` are descriptors that the step's process inherits, so that the claim lasts as long as the step. Where a
    claim can't be inherited, there are none. Then the step must end with its runner, and when ``lost`` is set, and
    ``guard`` is called before the first step: it keeps the claim until the steps of a killed runner have ended.
    """

    inherit: tuple[int, ...] = ()
    lost: Lost | None = None
    guard: Callable[[], None] = lambda: None


class Holder(Frozen):
    """A process that holds a claim: in words, its command line and when it began, as far as that is known.

    ``is_runner`` is whether it is a bmhctl that is alive, not a step that outlived one; ``ends_by_itself`` says when a
    claim without a process ends. ``id`` is its id on this machine, 0 on another.
    """

    process: str
    command: str = ""
    since: datetime | None = None
    is_runner: bool = False
    ends_by_itself: str = ""
    id: int = 0

    def __str__(self) -> str:
        """In words: ``process 123 (./wipe.sh 10.0.0.11), since 2026-01-31 10:12:00 UTC``."""
        command = f" ({self.command})" if self.command else ""
        return f"{self.process}{command}" + (f", since {local_time(self.since, SECONDS)}" if self.since else "")


class LeftClaim(Frozen):
    """A claim that no process holds, of which something is left; ``cause`` is why, as a sentence about "it"."""

    name: str
    cause: str


class Claims(Protocol):
    """The claims of one inventory, each by its name."""

    standing: tuple[Question, ...]
    """The question for the claims that the inventory's database knows of; none where it knows of none."""

    def share(self, name: str) -> AbstractContextManager[Callable[[], bool]]:
        """Hold a claim together with others until the block ends; yield a test whether no other process holds it.

        Call the test only right before the end of the block, and while no other process can join: it may release the
        claim.
        """

    def claim(self, name: str) -> AbstractContextManager[Hold | None]:
        """Claim alone until the block ends; yield None when it is claimed already."""

    def claimed(self, names: Collection[str]) -> frozenset[str]:
        """Return those of the names that a process holds alone."""

    def claimed_hosts(self, hosts: Collection[int], standing: Sequence[Row] | None = None) -> frozenset[int]:
        """Return the ids of those hosts on which a process holds the claim.

        ``standing`` are the rows that answered :attr:`standing`; without them, it is asked here.
        """

    def shared(self, names: Collection[str]) -> frozenset[str]:
        """Return those of the names that any process shares, and perhaps one that several ask about at once."""

    def forget(self, name: str, *, shared: bool = False) -> None:
        """Remove what is left of a claim that no process holds: a killed process may leave something."""

    def restore(self) -> None:
        """Take held claims again whose files were removed; raise :class:`MovedError` when another process has one."""

    def holders(self, name: str) -> list[Holder]:
        """Return the processes that hold a claim alone, as far as they are seen from here; takes milliseconds."""

    def end_holders(self, name: str) -> None:
        """End the steps that hold a claim although their bmhctl is gone; raise :class:`PermissionError` for others'."""

    def left_behind(self) -> list[LeftClaim]:
        """Return the claims that no process holds, but whose files or rows still exist; :meth:`forget` removes them."""
