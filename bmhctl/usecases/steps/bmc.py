"""Read and switch the power of hosts, and read their hardware, through their BMCs."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from functools import partial
from threading import Event
from typing import TypeVar

from bmhctl.domain.model import EventKind, Fact, Host, HostSpec, Power, State
from bmhctl.errors import BmhctlError
from bmhctl.probes import redfish_client
from bmhctl.probes.setting import StepEnvironment
from bmhctl.results import Outcome, Outcomes
from bmhctl.support.values import replace
from bmhctl.support.worker_pool import WorkerPool
from bmhctl.usecases.shared.bulk import attempt, failed
from bmhctl.usecases.shared.context import Context, retried
from bmhctl.usecases.shared.declaration_sync import change
from bmhctl.usecases.shared.host_changes import Changes, SpecChange, differences
from bmhctl.usecases.shared.host_selection import Choice, choose
from bmhctl.usecases.shared.leases import check_token, forced_reason
from bmhctl.usecases.shared.refresh import refresh, refresh_and_reap
from bmhctl.usecases.shared.transitions import record_event
from bmhctl.usecases.steps.step_verbs import JOBS

_T = TypeVar("_T")

PATIENCE = timedelta(seconds=60)
"""How long a BMC gets when nobody says."""


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
) -> Outcomes:
    """Switches the power of hosts and waits until it is so, or just tells it (``status``).

    A host that somebody else has reserved is switched only by ``force`` with a ``reason``, which is in the history.
    """
    forced_reason(force, reason)
    if action is Power.STATUS:
        refresh(ctx)
    else:
        refresh_and_reap(ctx)
    hosts, missing = choose(ctx, choice)
    refused: dict[str, BmhctlError] = {}
    for host in hosts:
        if action is not Power.STATUS and host.state is State.RESERVED:
            try:
                check_token(ctx, host, reservation, ctx.clock())
            except BmhctlError as error:
                if force:
                    _record(ctx, host, f"forced power {action}: {reason}")
                else:
                    refused[host.name] = error

    def question(controller: redfish_client.Controller) -> str:
        return controller.power() if action is Power.STATUS else controller.set_power(action)

    def outcome(host: Host, state: str) -> Outcome:
        changed = action is not Power.STATUS
        return Outcome(host.name, changed, f"power {state}", host.state, host.state)

    return _each(ctx, f"power {action}", hosts, missing, refused, question, outcome, timeout, jobs)


@retried
def _record(ctx: Context, host: Host, reason: str) -> None:
    with ctx.store.transaction(shared=True):
        record_event(ctx, ctx.store.host_with_id(host.id, lock=True) or host, EventKind.SET, ctx.clock(), reason=reason)


def inspect(
    ctx: Context, choice: Choice, *, timeout: timedelta = PATIENCE, jobs: int = JOBS, dry_run: bool = False
) -> Outcomes:
    """Asks BMCs for vendor, model, serial number, CPUs, memory and health, and keeps them as hardware facts.

    Facts that a BMC does not report stay as they are. With ``dry_run`` only says what differs.
    """
    refresh_and_reap(ctx)
    hosts, missing = choose(ctx, choice)

    def outcome(host: Host, found: dict[str, Fact]) -> Outcome:
        spec = replace(host.spec, hardware={**host.spec.hardware, **found})
        changed = differences(host.spec, spec)
        if not changed:
            return Outcome(host.name, False, "nothing differs", host.state, host.state)
        if not dry_run:
            change(ctx, Changes(specs=(SpecChange(host.name, partial(_found, found)),), reason="inspected"))
        return Outcome(host.name, True, f"changed: {', '.join(changed)}", host.state, host.state)

    return _each(ctx, "inspect", hosts, missing, {}, redfish_client.Controller.inventory, outcome, timeout, jobs)


def _found(facts: dict[str, Fact], _: Context, spec: HostSpec) -> HostSpec:
    return replace(spec, hardware={**spec.hardware, **facts})


def _each(
    ctx: Context,
    verb: str,
    hosts: Sequence[Host],
    missing: Iterable[BmhctlError],
    refused: dict[str, BmhctlError],
    question: Callable[[redfish_client.Controller], _T],
    outcome: Callable[[Host, _T], Outcome],
    timeout: timedelta,
    jobs: int,
) -> Outcomes:
    """Asks the BMCs of many hosts at once, in threads; what they say is taken into account here."""

    def work(host: Host, cancelled: Event) -> _T | BmhctlError:
        setting = StepEnvironment(ctx.environ, ctx.store.folder, cancelled=cancelled)
        try:
            return redfish_client.ask(host.spec.bmc, setting, timeout, question)
        except redfish_client.BmcError as error:
            return error

    def take(host: Host, said: _T | BmhctlError) -> None:
        def one(_: Host) -> Outcome:
            if isinstance(said, BmhctlError):
                raise said
            return outcome(host, said)

        outcomes[host.id] = attempt(host, one)

    crew: WorkerPool[Host, _T | BmhctlError] = WorkerPool(work, max(1, jobs))
    outcomes: dict[int, Outcome] = {}
    waiting = deque(hosts)
    try:
        while waiting or not crew.is_idle:
            while waiting and not crew.is_full:
                host = waiting.popleft()
                ctx.progress(f"{verb} {host.name}", f"{len(hosts) - len(waiting)} of {len(hosts)}")
                if host.name in refused:
                    take(host, refused[host.name])
                else:
                    crew.start(host)
            if not crew.is_idle:
                take(*crew.next())
    except BaseException:
        for host, said in crew.cancel():
            take(host, said)
        for told in outcomes.values():  # whoever interrupts wants to know how far it went
            ctx.tell(f"{told.host}: {told.message}")
        raise
    return Outcomes(verb, (*(outcomes[host.id] for host in hosts), *(failed(error) for error in missing)))
