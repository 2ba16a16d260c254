"""What BMCs do for hosts: power, indicator light, next boot, and reading the hardware."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from datetime import timedelta
from functools import partial
from threading import Event
from typing import TypeVar

from bmhctl.domain.model import BootTarget, EventKind, Host, Power, PropertyValue, State
from bmhctl.errors import BmhctlError, UsageError
from bmhctl.probes import redfish_boot
from bmhctl.probes.credentials import BmcError
from bmhctl.probes.redfish_client import Client
from bmhctl.probes.redfish_conversation import ask
from bmhctl.probes.redfish_hardware import hardware
from bmhctl.probes.redfish_power import FORCE_TIME, PowerSwitch
from bmhctl.probes.redfish_system import System
from bmhctl.probes.step_environment import StepEnvironment
from bmhctl.results import Outcome, Outcomes, already, attempt, failed, stayed
from bmhctl.support.values import replace
from bmhctl.support.worker_pool import WorkerPool
from bmhctl.usecases.shared.bulk import report_interrupted
from bmhctl.usecases.shared.context import Context
from bmhctl.usecases.shared.declare import change_each
from bmhctl.usecases.shared.host_changes import Changes, SpecChange, differences
from bmhctl.usecases.shared.host_selection import Choice, choose
from bmhctl.usecases.shared.leases import check_token, forced_reason
from bmhctl.usecases.shared.refresh import refresh, refresh_and_reap
from bmhctl.usecases.steps.execution import record_alone
from bmhctl.usecases.steps.step_verbs import JOBS

_T = TypeVar("_T")

PATIENCE = timedelta(seconds=60)
"""The default time limit for each BMC."""


def power(
    ctx: Context,
    choice: Choice,
    action: Power,
    *,
    timeout: timedelta = PATIENCE,
    jobs: int = JOBS,
    reservation: str | None = None,
    force: bool = False,
    reason: str | None = None,
    then_off: bool = False,
) -> Outcomes:
    """Switch the power of hosts and wait until BMCs report it; or read it (``STATUS``), or switch the indicator light.

    ``timeout`` is for each BMC, and ``jobs`` how many BMCs are asked at once. A host that another owner has reserved is
    switched only with ``force`` and a ``reason``, which is recorded. With ``then_off``, a host that has not shut down
    (``SOFT_OFF``) after ``timeout`` is switched off. Returns the outcomes.
    """
    forced_reason(force, reason)
    if then_off and action is not Power.SOFT_OFF:
        raise UsageError("--then is for soft-off only", hint="bmhctl power HOST soft-off --then off")
    if action.switches and ctx.confirm is not None:
        from bmhctl.usecases.shared.confirmation import confirmed

        run = partial(
            power,
            action=action,
            timeout=timeout,
            jobs=jobs,
            reservation=reservation,
            force=force,
            reason=reason,
            then_off=then_off,
        )
        return confirmed(ctx, f"power {action}", choice, run, force=force)
    if action is Power.STATUS:
        refresh(ctx)
    else:
        refresh_and_reap(ctx)
    hosts, missing = choose(ctx, choice)
    refused = _fenced(ctx, hosts, f"power {action}", reservation, force, reason) if action.switches else {}
    force_after = timeout.total_seconds() if then_off else None

    def question(client: Client) -> str:
        system = System(client)
        if action is Power.STATUS:
            return f"power {system.power()}"
        if not action.switches:
            return f"indicator light {redfish_boot.identify(system, action is Power.IDENTIFY)}"
        return f"power {PowerSwitch(system).set_power(action, force_after=force_after)}"

    def outcome(host: Host, words: str) -> Outcome:
        return Outcome(host.name, action is not Power.STATUS, words, host.state, host.state)

    longest = timeout + timedelta(seconds=FORCE_TIME) if then_off else timeout
    return _each(ctx, f"power {action}", hosts, missing, refused, question, outcome, longest, jobs)


def boot_once(
    ctx: Context,
    choice: Choice,
    target: BootTarget,
    *,
    timeout: timedelta = PATIENCE,
    jobs: int = JOBS,
    reservation: str | None = None,
    force: bool = False,
    reason: str | None = None,
) -> Outcomes:
    """Set what hosts boot from at their next start, and wait until their BMCs report it; restart nothing.

    The parameters are those of :func:`power`. Returns the outcomes.
    """
    forced_reason(force, reason)
    if ctx.confirm is not None:
        from bmhctl.usecases.shared.confirmation import confirmed

        run = partial(
            boot_once,
            target=target,
            timeout=timeout,
            jobs=jobs,
            reservation=reservation,
            force=force,
            reason=reason,
        )
        return confirmed(ctx, f"boot-once {target}", choice, run, force=force)
    refresh_and_reap(ctx)
    hosts, missing = choose(ctx, choice)
    refused = _fenced(ctx, hosts, f"boot-once {target}", reservation, force, reason)

    def outcome(host: Host, found: str) -> Outcome:
        words = "boots as usual" if found == BootTarget.NONE else f"boots once from {found}"
        return stayed(host, words)

    return _each(
        ctx,
        f"boot-once {target}",
        hosts,
        missing,
        refused,
        lambda client: redfish_boot.boot_once(System(client), target),
        outcome,
        timeout,
        jobs,
    )


def _fenced(
    ctx: Context, hosts: Sequence[Host], what: str, reservation: str | None, force: bool, reason: str | None
) -> dict[str, BmhctlError]:
    """Return a refusal for each host that another owner has reserved; with ``force``, record an event instead."""
    refused: dict[str, BmhctlError] = {}
    for host in hosts:
        if host.state is not State.RESERVED:
            continue
        try:
            check_token(ctx, host, reservation, ctx.clock())
        except BmhctlError as error:
            if force:
                record_alone(ctx, host, EventKind.SET, f"forced {what}: {reason}")
            else:
                refused[host.name] = error
    return refused


def inspect(
    ctx: Context, choice: Choice, *, timeout: timedelta = PATIENCE, jobs: int = JOBS, dry_run: bool = False
) -> Outcomes:
    """Read hardware from BMCs and save it as hardware properties: see :func:`bmhctl.probes.redfish_hardware.hardware`.

    All hosts are changed together, so that one ``undo`` takes it back. Properties that a BMC does not report stay as
    they are. With ``dry_run``, the differences are only reported. Returns the outcomes.
    """
    refresh_and_reap(ctx)
    hosts, missing = choose(ctx, choice)
    specs: dict[str, SpecChange] = {}

    def outcome(host: Host, found: dict[str, PropertyValue]) -> Outcome:
        spec = replace(host.spec, hardware={**host.spec.hardware, **found})
        changed = differences(host.spec, spec)
        if not changed:
            return already(host, "unchanged")
        specs[host.name] = SpecChange(host.name, lambda _, spec: replace(spec, hardware={**spec.hardware, **found}))
        return stayed(host, f"changed: {', '.join(changed)}")

    def save() -> list[Outcome]:
        return change_each(replace(ctx, dry_run=dry_run), Changes(specs=tuple(specs.values()), reason="inspected"))

    return _each(ctx, "inspect", hosts, missing, {}, hardware, outcome, timeout, jobs, save)


def _each(
    ctx: Context,
    verb: str,
    hosts: Sequence[Host],
    missing: Iterable[BmhctlError],
    refused: dict[str, BmhctlError],
    question: Callable[[Client], _T],
    outcome: Callable[[Host, _T], Outcome],
    timeout: timedelta,
    jobs: int,
    save: Callable[[], Iterable[Outcome]] = tuple,
) -> Outcomes:
    """Put a question to the BMCs of many hosts at once, in threads; call ``outcome`` for each answer in this thread.

    ``save`` then saves what has to be saved for all hosts; its failed outcomes replace those of ``outcome``.
    """
    not_found = [failed(error) for error in missing]
    if ctx.dry_run:
        items = [
            failed(refused[host.name], host) if host.name in refused else stayed(host, f"would send to its BMC: {verb}")
            for host in hosts
        ]
        return Outcomes(verb, (*items, *not_found))
    policy = ctx.store.policy()

    def work(host: Host, cancelled: Event) -> _T | BmhctlError:
        environment = StepEnvironment(
            ctx.environ,
            ctx.store.folder,
            cancelled=cancelled,
            proxy=policy.proxy,
            bmc_parallel=policy.bmc_parallel,
        )
        try:
            return ask(host.spec.bmc, environment, timeout, question)
        except BmcError as error:
            error.name_host(host.name)
            return error

    def handle(host: Host, answer: _T | BmhctlError) -> None:
        def one(_: Host) -> Outcome:
            if isinstance(answer, BmhctlError):
                raise answer
            return outcome(host, answer)

        answered[host.id] = attempt(host, one)

    def begin(item: tuple[int, Host]) -> None:
        position, host = item
        ctx.progress(f"{verb} {host.name}", f"{position} of {len(hosts)}")
        if host.name in refused:
            handle(host, refused[host.name])
        else:
            pool.start(host)

    def save_all() -> None:
        refusals = {refusal.host: refusal for refusal in save() if refusal.error is not None}
        outcomes.update((host.id, refusals.get(host.name, answered[host.id])) for host in hosts if host.id in answered)

    pool: WorkerPool[Host, _T | BmhctlError] = WorkerPool(work, jobs)
    answered: dict[int, Outcome] = {}
    outcomes: dict[int, Outcome] = {}
    try:
        pool.run_all(enumerate(hosts, 1), begin, handle)
        save_all()
    except BaseException:
        ended = pool.cancel()
        ctx.store.abandon()
        with suppress(BmhctlError):  # the first error was reported already
            for host, answer in ended:
                handle(host, answer)
        with suppress(BmhctlError):
            save_all()
        report_interrupted(ctx, verb, outcomes.values(), len(hosts))
        raise
    return Outcomes(verb, (*(outcomes[host.id] for host in hosts), *not_found))
