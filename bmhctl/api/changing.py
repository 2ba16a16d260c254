"""The methods of an inventory that change hosts."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from bmhctl.api.opened import Opened, done
from bmhctl.domain.times import in_utc, parse_moment
from bmhctl.results import Outcomes
from bmhctl.usecases import hosts, lifecycle_verbs, undo
from bmhctl.usecases.shared.host_selection import choice
from bmhctl.usecases.steps import resume, retire, step_verbs


class Changing(Opened):
    """Add and remove hosts, and move them through the lifecycle."""

    def add(
        self,
        *names: str,
        address: str | None = None,
        mac: str | None = None,
        labels: Mapping[str, str] | None = None,
        hardware: Mapping[str, str | int] | None = None,
        bmc: str | None = None,
        credentials: str | None = None,
        note: str | None = None,
        dry_run: bool = False,
    ) -> Outcomes:
        """Add hosts, all or none, in the state ``initial``; return the outcome of each.

        The parameters after ``names`` are attributes that all these hosts get: ``bmc`` is the address of the BMC, and
        ``credentials`` a reference to the user and password for it, such as ``env:LAB_BMC``. A machine that was removed
        while it was dirty enters as ``tainted``. Raises :class:`~bmhctl.errors.StateRefusedError` for a name that is
        taken, :class:`~bmhctl.errors.InvalidError` for a MAC that another host has, and
        :class:`~bmhctl.errors.UsageError` for an attribute that is not valid.
        """
        changes = hosts.AttributeChanges(
            address=address,
            mac=mac,
            note=note,
            bmc=bmc,
            credentials=credentials,
            labels=labels or {},
            hardware=hardware or {},
        )
        return done(hosts.add(self._with(dry_run), names, changes))

    def set(
        self,
        *names: str,
        selector: str | None = None,
        address: str | None = None,
        mac: str | None = None,
        labels: Mapping[str, str | None] | None = None,
        hardware: Mapping[str, str | int | None] | None = None,
        bmc: str | None = None,
        credentials: str | None = None,
        note: str | None = None,
        dry_run: bool = False,
    ) -> Outcomes:
        """Change what is declared about hosts; return the outcome of each.

        The parameters after ``selector`` are attributes as for :meth:`add`: None keeps an attribute, and ``""`` removes
        it. A label or a hardware property with the value None is removed; others stay. A changed ``bmc`` removes the
        host's ``credentials`` unless they are given, too. Raises :class:`~bmhctl.errors.UsageError` for an attribute
        that is not valid.
        """
        changes = hosts.AttributeChanges(
            address=address,
            mac=mac,
            note=note,
            bmc=bmc,
            credentials=credentials,
            labels=labels or {},
            hardware=hardware or {},
        )
        return done(hosts.set_attributes(self._with(dry_run), choice(names, selector), changes))

    def rename(self, old: str, new: str, *, dry_run: bool = False) -> Outcomes:
        """Rename a host, or the hosts of a range such as ``"node[01-20]"``, all or none; return the outcome of each.

        States, reservations and history stay. Raises :class:`~bmhctl.errors.NotFoundError` for an unknown host, and
        :class:`~bmhctl.errors.StateRefusedError` for a name that is taken.
        """
        return done(hosts.rename(self._with(dry_run), old, new))

    def remove(
        self,
        *names: str,
        selector: str | None = None,
        force: bool = False,
        reason: str | None = None,
        dry_run: bool = False,
    ) -> Outcomes:
        """Remove hosts; their history stays. Return the outcome of each.

        A reserved or dirty host is refused (:class:`~bmhctl.errors.StateRefusedError`) unless ``force`` is given with a
        ``reason``.
        """
        return done(hosts.remove(self._with(dry_run), choice(names, selector), force=force, reason=reason))

    def undo(self, *names: str, event: int | None = None, dry_run: bool = False) -> Outcomes:
        """Undo the last change of the declaration of hosts; return the outcome of each host.

        ``event`` is the id of an event of an earlier change to undo instead. With ``names``, the change is undone only
        for these of its hosts. A second call makes the change again. Raises :class:`~bmhctl.errors.StateRefusedError`
        when there is no change, or when a later change of its hosts depends on it.
        """
        return done(undo.undo(self._with(dry_run), names, event=event))

    def ready(self, *names: str, selector: str | None = None, dry_run: bool = False) -> Outcomes:
        """Run the setup steps and readiness checks of initial hosts, and make those that pass available.

        Returns the outcome of each host. A host that is available already is not checked, and counts as done. Raises
        :class:`~bmhctl.errors.StepFailedError` if a step failed.
        """
        return done(step_verbs.ready(self._with(dry_run), choice(names, selector)))

    def check(self, *names: str, selector: str | None = None, force: bool = False) -> Outcomes:
        """Run the readiness checks of hosts and record their results; no host moves. Return the outcome of each.

        A host that another owner has reserved is checked only with ``force``. Raises
        :class:`~bmhctl.errors.StepFailedError` if a check failed, and :class:`~bmhctl.errors.NotYoursError` for a host
        of another owner.
        """
        return done(step_verbs.check(self._context, choice(names, selector), force=force))

    def taint(
        self,
        *names: str,
        selector: str | None = None,
        reason: str | None = None,
        fault: str | None = None,
        reservation: str | None = None,
        force: bool = False,
        dry_run: bool = False,
    ) -> Outcomes:
        """Give hosts back as used; return the outcome of each.

        ``reservation`` is the id of the hosts' reservation; without it, this actor must be the owner. ``fault`` records
        what is broken. Raises :class:`~bmhctl.errors.NotYoursError` if another owner holds a host or the lease has
        ended, unless ``force`` is given with a ``reason``.
        """
        chosen = choice(names, selector)
        return done(
            lifecycle_verbs.taint(
                self._with(dry_run), chosen, reason=reason, fault=fault, reservation=reservation, force=force
            )
        )

    def reset(self, *names: str, selector: str | None = None, dry_run: bool = False) -> Outcomes:
        """Run the cleanup steps of tainted hosts, and make those that pass initial; return the outcome of each.

        A host that is initial already counts as done. A host with a fault is cleaned only if its exact name is given.
        Raises :class:`~bmhctl.errors.StepFailedError` if a step failed.
        """
        return done(step_verbs.reset(self._with(dry_run), choice(names, selector)))

    def recycle(self, *names: str, selector: str | None = None, dry_run: bool = False) -> Outcomes:
        """Make used hosts available again, with :meth:`reset` and :meth:`ready`; return the outcome of each.

        Without names and ``selector``, these are all tainted hosts. A host with a fault is skipped unless its exact
        name is given. Raises :class:`~bmhctl.errors.StepFailedError` if a step failed.
        """
        return done(step_verbs.recycle(self._with(dry_run), choice(names, selector)))

    def retire(
        self, *names: str, selector: str | None = None, reason: str, when_free: bool = False, dry_run: bool = False
    ) -> Outcomes:
        """Clean hosts, run their retire steps and remove them, with a ``reason``; return the outcome of each.

        The hosts can't be reserved from now on. With ``when_free``, a held host stays with its holder, and ``recycle``
        retires it after it was given back; otherwise a held host raises :class:`~bmhctl.errors.StateRefusedError`. If a
        step fails, the host goes to maintenance, and :class:`~bmhctl.errors.StepFailedError` is raised.
        """
        return done(retire.retire(self._with(dry_run), choice(names, selector), reason=reason, when_free=when_free))

    def undo_retire(self, *names: str, selector: str | None = None, dry_run: bool = False) -> Outcomes:
        """Cancel the retirement of hosts that are still in the inventory; return the outcome of each."""
        return done(retire.undo_retire(self._with(dry_run), choice(names, selector)))

    def maintain(
        self,
        *names: str,
        reason: str,
        selector: str | None = None,
        until: datetime | str | None = None,
        when_free: bool = False,
        dry_run: bool = False,
    ) -> Outcomes:
        """Put hosts into maintenance with a ``reason``; return the outcome of each.

        ``until`` is when they are expected back, for information: a datetime or a text, in local time if it has no
        offset. With ``when_free``, a held host goes to maintenance when it is given back, and can't be reserved until
        then. Raises :class:`~bmhctl.errors.UsageError` for an empty reason and for a text that is not a time in the
        future.
        """
        if isinstance(until, str):
            until = parse_moment(until, self._context.clock())
        elif until is not None:
            until = in_utc(until)
        return done(
            lifecycle_verbs.maintain(
                self._with(dry_run), choice(names, selector), reason=reason, until=until, when_free=when_free
            )
        )

    def resume(
        self, *names: str, selector: str | None = None, everyones: bool = False, dry_run: bool = False
    ) -> Outcomes:
        """Close the actor's reasons for maintenance (``everyones``: those of all actors), and move hosts without
        another reason.

        Returns the outcome of each host. Raises :class:`~bmhctl.errors.StepFailedError` if a step failed.
        """
        return done(resume.resume(self._with(dry_run), choice(names, selector), everyones=everyones))

    def cordon(
        self, *names: str, selector: str | None = None, reason: str | None = None, dry_run: bool = False
    ) -> Outcomes:
        """Keep hosts from being reserved, and record the ``reason``; return the outcome of each.

        A reserved host stays with its holder. A host that is cordoned already counts as done; a new reason replaces the
        earlier one.
        """
        return done(lifecycle_verbs.cordon(self._with(dry_run), choice(names, selector), reason=reason))

    def uncordon(self, *names: str, selector: str | None = None, dry_run: bool = False) -> Outcomes:
        """Allow hosts to be reserved again; return the outcome of each.

        A host that is not cordoned counts as done. Raises :class:`~bmhctl.errors.StateRefusedError` for a host that is
        being retired.
        """
        return done(lifecycle_verbs.uncordon(self._with(dry_run), choice(names, selector)))
