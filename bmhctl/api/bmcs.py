"""The methods of an inventory that use the BMCs of hosts."""

from __future__ import annotations

from datetime import timedelta
from typing import TypeVar

from bmhctl.api.opened import Opened, done
from bmhctl.domain.model import BootTarget, Power
from bmhctl.domain.units import parse_duration
from bmhctl.errors import UsageError
from bmhctl.results import Outcomes
from bmhctl.usecases.shared.host_selection import choice

_Command = TypeVar("_Command", Power, BootTarget)


class Bmcs(Opened):
    """Switch the power of hosts, choose what they boot from, and read their hardware, through their BMCs."""

    def power(
        self,
        *names: str,
        selector: str | None = None,
        to: Power | str,
        timeout: timedelta | str = "60s",
        reservation: str | None = None,
        force: bool = False,
        reason: str | None = None,
        dry_run: bool = False,
    ) -> Outcomes:
        """Switch the power of hosts ``to`` an action, and wait until their BMCs report it; return the outcome of each.

        ``to`` is ``"on"``, ``"off"``, ``"soft-off"`` (the operating system shuts down), ``"cycle"``, ``"status"``,
        ``"identify"`` or ``"identify-off"`` (the indicator light). ``timeout`` is for each BMC. A host that another
        owner has reserved is switched only with ``force`` and a ``reason``. Raises
        :class:`~bmhctl.errors.NotYoursError` for a host of another owner, and a
        :class:`~bmhctl.errors.BmhctlError` with the code ``"bmc"`` if a BMC refused, or did not report the new state
        in time.
        """
        from bmhctl.usecases.steps.bmc import power

        return done(
            power(
                self._with(dry_run),
                choice(names, selector),
                _command(Power, to),
                timeout=_seconds(timeout),
                reservation=reservation,
                force=force,
                reason=reason,
            )
        )

    def boot_once(
        self,
        *names: str,
        selector: str | None = None,
        target: BootTarget | str,
        timeout: timedelta | str = "60s",
        reservation: str | None = None,
        force: bool = False,
        reason: str | None = None,
        dry_run: bool = False,
    ) -> Outcomes:
        """Set what hosts boot from at their next start only; return the outcome of each. No host is restarted.

        ``target`` is ``"pxe"``, ``"hdd"``, ``"cd"``, ``"usb"``, ``"bios"`` (the setup), ``"http"``, ``"diagnostics"``,
        or ``"none"`` to remove the setting. The other parameters and the errors are those of :meth:`power`.
        """
        from bmhctl.usecases.steps.bmc import boot_once

        return done(
            boot_once(
                self._with(dry_run),
                choice(names, selector),
                _command(BootTarget, target),
                timeout=_seconds(timeout),
                reservation=reservation,
                force=force,
                reason=reason,
            )
        )

    def inspect(
        self,
        *names: str,
        selector: str | None = None,
        timeout: timedelta | str = "60s",
        dry_run: bool = False,
    ) -> Outcomes:
        """Read the hardware of hosts, and store it as properties that selectors can use; return the outcome of each.

        ``timeout`` is for each BMC. Raises a :class:`~bmhctl.errors.BmhctlError` with the code ``"bmc"`` if a BMC
        can't be read.
        """
        from bmhctl.usecases.steps.bmc import inspect

        return done(inspect(self._context, choice(names, selector), timeout=_seconds(timeout), dry_run=dry_run))


def _command(kind: type[_Command], value: _Command | str) -> _Command:
    try:
        return kind(value)
    except ValueError as error:
        raise UsageError(f"{value!r} is not a command for a BMC", hint=", ".join(kind)) from error


def _seconds(timeout: timedelta | str) -> timedelta:
    found = parse_duration(timeout) if isinstance(timeout, str) else timeout
    if not found:
        raise UsageError("timeout is zero", hint="give the BMC some time, such as 30s")
    return found
