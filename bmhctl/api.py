"""The Python API: an inventory as an object whose methods are the commands.

Methods raise the errors of :mod:`bmhctl.errors` that the commands report, and return the results of
:mod:`bmhctl.results`. Durations are :class:`~datetime.timedelta` or text such as ``"20m"``.
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from bmhctl.domain.model import Event, Host, State
from bmhctl.domain.selector import EVERY_HOST, Selector, parse_selector
from bmhctl.domain.units import parse_duration
from bmhctl.errors import BmhctlError, StateRefusedError
from bmhctl.results import Held, Outcomes, Status, Why
from bmhctl.support.actor import default_actor
from bmhctl.usecases.shared.context import Context
from bmhctl.usecases.shared.host_selection import Choice, choice

if TYPE_CHECKING:
    from typing import Self


def open_inventory(
    location: str | Path,
    *,
    actor: str | None = None,
    clock: Callable[[], datetime] | None = None,
    tell: Callable[[str], None] | None = None,
    create: bool = False,
) -> Inventory:
    """Opens an inventory: a ``.toml`` or a ``.db`` file, or ``postgresql://…``. Use it as a context manager.

    It is for one thread.

    ``actor`` acts (default: ``$BMHCTL_ACTOR``, or user@hostname), ``tell`` is given warnings as they come up,
    and ``create`` makes an empty inventory when there is none. Raises
    :class:`~bmhctl.errors.UnreachableError` and :class:`~bmhctl.errors.InvalidError`.

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
    from bmhctl.stores import open_store, state_files

    state_files.shared_folder = os.environ.get(state_files.VARIABLE)
    if create:
        from bmhctl.usecases.inventories import init

        with suppress(StateRefusedError):  # it is there
            init(str(location))
    actor = actor or default_actor(os.environ)  # nothing may fail once the store is open
    store = open_store(str(location))
    context = Context(
        store=store,
        actor=actor,
        clock=clock or store.now,
        environ=dict(os.environ),
        report=tell or (lambda _: None),
    )
    return Inventory(context)


class Inventory:
    """An open inventory; see :func:`open_inventory`.

    Methods that take ``names`` and ``selector`` mean hosts as the command line does: exact names, globs, folded
    ranges, narrowed by the selector. Where one host fails, the others are treated all the same, and then the
    error is raised.
    """

    def __init__(self, context: Context) -> None:
        self._context = context

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the inventory."""
        self._context.store.close()

    # looking

    def hosts(self, *names: str, selector: str | None = None, states: Iterable[State] = ()) -> list[Host]:
        """The hosts that are meant, all if nothing is named; raises ``NotFoundError`` for a name that is not there."""
        from bmhctl.errors import combine
        from bmhctl.usecases.queries import list_hosts

        found = list_hosts(self._context, choice(names, selector, states))
        error = combine(found.missing)
        if error is not None:
            raise error
        return list(found.hosts)

    def host(self, name: str) -> Host:
        """One host; raises ``NotFoundError``."""
        from bmhctl.usecases.queries import show

        return show(self._context, name).host

    def reservations(self) -> tuple[Held, ...]:
        """The open reservations with their hosts, the oldest first."""
        from bmhctl.usecases.queries import reservations

        return reservations(self._context).items

    def status(self) -> Status:
        """The fleet at a glance."""
        from bmhctl.usecases.queries import status

        return status(self._context)

    def why(self, name: str) -> Why:
        """Why a host is where it is, and what is open to it."""
        from bmhctl.usecases.explain import why

        return why(self._context, name)

    def history(self, name: str | None = None, last: int | None = None) -> list[Event]:
        """What happened to a host, or to all; ``last`` keeps the newest so many."""
        from bmhctl.usecases.queries import history

        return list(history(self._context, name, last).events)

    # hosts as entries

    def add(
        self,
        *names: str,
        address: str | None = None,
        mac: str | None = None,
        labels: dict[str, str] | None = None,
        hardware: dict[str, str | int] | None = None,
        bmc: str | None = None,
        credentials: str | None = None,
        note: str | None = None,
    ) -> Outcomes:
        """Lets new hosts in, all or none; they enter at initial."""
        from bmhctl.usecases.hosts import AttributeChanges, add

        facts = AttributeChanges(
            address=address,
            mac=mac,
            note=note,
            bmc=bmc,
            credentials=credentials,
            labels=labels or {},
            hardware=hardware or {},
        )
        return _done(add(self._context, names, facts))

    def remove(
        self, *names: str, selector: str | None = None, force: bool = False, reason: str | None = None
    ) -> Outcomes:
        """Lets hosts go; reserved or dirty ones only by ``force`` with a ``reason``."""
        from bmhctl.usecases.hosts import remove

        return _done(remove(self._context, choice(names, selector), force=force, reason=reason))

    # the lifecycle

    def ready(self, *names: str, selector: str | None = None) -> Outcomes:
        """Runs the readiness checks, and makes hosts that pass available."""
        from bmhctl.usecases.steps.step_verbs import ready

        return _done(ready(self._context, choice(names, selector)))

    def reserve(
        self,
        *names: str,
        selector: str | None = None,
        count: int | None = None,
        wants: Sequence[str] = (),
        purpose: str | None = None,
        ttl: timedelta | str | None = None,
        wait: timedelta | str | bool | None = None,
        request_id: str | None = None,
        check: bool = False,
    ) -> Held:
        """Takes hosts, all or none: these, or ``count`` that fit, or several ``wants`` such as ``"arch=arm64*2"``.

        ``ttl="none"`` asks for a lease without end; ``wait`` is how long to wait for what is busy (True: for ever);
        ``request_id`` makes asking again safe; ``check`` runs the readiness checks first. Raises ``BusyError``,
        ``UnsatisfiableError``, ``WaitTimeoutError`` or ``NotFoundError``.
        """
        from bmhctl.domain.requirements import parse_requirement
        from bmhctl.usecases.reservations.request import reservation_request
        from bmhctl.usecases.reservations.reserve import reserve_or_wait
        from bmhctl.usecases.reservations.waiting import WaitOptions

        request = reservation_request(
            names,
            None if selector is None else parse_selector(selector),
            count,
            [parse_requirement(text) for text in wants],
            purpose=purpose,
            ttl=None if ttl == "none" else _length(ttl),
            endless=ttl == "none",
            request_id=request_id,
        )
        patience = None
        if wait is not None and wait is not False:
            patience = WaitOptions(_pause, None if wait is True else _length(wait))
        return reserve_or_wait(self._context, request, patience, check=check).held

    def extend(self, reservation: str, ttl: timedelta | str | None = None) -> Held:
        """Makes a lease last so long from now. Raises ``NotYoursError`` when it is over."""
        from bmhctl.usecases.reservations.holder import extend

        return extend(self._context, reservation, _length(ttl)).held

    def handover(self, reservation: str, to: str) -> Held:
        """Gives a reservation to another owner, under a new id."""
        from bmhctl.usecases.reservations.holder import handover

        return handover(self._context, reservation, to).held

    def replace(self, name: str, reservation: str, *, reason: str) -> Held:
        """Swaps a bad host of a reservation for another that fits. Raises ``BusyError`` when there is none."""
        from bmhctl.usecases.reservations.holder import replace_host

        return replace_host(self._context, name, reservation, reason).held

    def reap(self) -> tuple[Held, ...]:
        """Ends the leases that are over; returns them with the hosts that they held."""
        from bmhctl.usecases.reservations.holder import reap_expired

        return reap_expired(self._context).items

    @contextmanager
    def reserved(
        self,
        *names: str,
        selector: str | None = None,
        count: int | None = None,
        wants: Sequence[str] = (),
        purpose: str | None = None,
        ttl: timedelta | str | None = None,
        wait: timedelta | str | bool | None = None,
    ) -> Iterator[Held]:
        """Holds hosts for the block, and gives them back whatever happens in it. The lease is not renewed."""
        held = self.reserve(*names, selector=selector, count=count, wants=wants, purpose=purpose, ttl=ttl, wait=wait)
        try:
            yield held
        except BaseException as error:
            try:
                self.release(held.reservation.id, reason=f"task failed: {type(error).__name__}")
            except BmhctlError as lost:
                error.add_note(f"and its hosts could not be given back: {lost.message}")
            raise
        self.release(held.reservation.id, reason="task completed")

    def taint(
        self,
        *names: str,
        selector: str | None = None,
        reason: str | None = None,
        fault: str | None = None,
        reservation: str | None = None,
        force: bool = False,
    ) -> Outcomes:
        """Gives hosts back as used; ``reservation`` is the fencing token. Raises ``NotYoursError``."""
        from bmhctl.usecases.lifecycle_verbs import taint

        chosen = choice(names, selector)
        return _done(taint(self._context, chosen, reason=reason, fault=fault, reservation=reservation, force=force))

    def release(self, reservation: str, *, reason: str | None = None) -> Outcomes:
        """Gives back all that a reservation still holds. Raises ``NotYoursError`` when its lease was lost."""
        from bmhctl.usecases.lifecycle_verbs import release

        return _done(release(self._context, Choice(), reservation=reservation, reason=reason))

    def reset(self, *names: str, selector: str | None = None) -> Outcomes:
        """Runs the cleanup, and makes hosts that it cleaned initial."""
        from bmhctl.usecases.steps.step_verbs import reset

        return _done(reset(self._context, choice(names, selector)))

    def maintain(
        self, *names: str, reason: str, selector: str | None = None, until: datetime | str | None = None
    ) -> Outcomes:
        """Set hosts aside with a reason; ``until`` is when they should be back, local where it has no offset."""
        from bmhctl.domain.times import in_utc, parse_moment
        from bmhctl.usecases.lifecycle_verbs import maintain

        if isinstance(until, str):
            until = parse_moment(until, self._context.clock())
        elif until is not None:
            until = in_utc(until)
        return _done(maintain(self._context, choice(names, selector), reason=reason, until=until))

    def resume(self, *names: str, selector: str | None = None, everyones: bool = False) -> Outcomes:
        """Closes the actor's reasons, or everybody's, and moves hosts that have none left."""
        from bmhctl.usecases.steps.resume import resume

        return _done(resume(self._context, choice(names, selector), everyones=everyones))

    def cordon(self, *names: str, selector: str | None = None, reason: str | None = None) -> Outcomes:
        """Keeps hosts from being reserved."""
        from bmhctl.usecases.lifecycle_verbs import cordon

        return _done(cordon(self._context, choice(names, selector), reason=reason))

    def uncordon(self, *names: str, selector: str | None = None) -> Outcomes:
        """Lets hosts be reserved again."""
        from bmhctl.usecases.lifecycle_verbs import uncordon

        return _done(uncordon(self._context, choice(names, selector)))


def _pause(seconds: float, wakes: int | None) -> None:
    if wakes is None:
        time.sleep(seconds)
    else:
        select.select([wakes], [], [], seconds)


def _length(value: timedelta | str | bool | None) -> timedelta | None:
    if isinstance(value, bool):
        return None
    return parse_duration(value) if isinstance(value, str) else value


def _selector(text: str | None) -> Selector:
    return EVERY_HOST if text is None else parse_selector(text)


def _done(outcomes: Outcomes) -> Outcomes:
    if outcomes.error is not None:
        raise outcomes.error
    return outcomes
