"""Runs an inventory's checks and cleanup steps on a host, under a claim and outside every transaction."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from bmhctl import probes
from bmhctl.errors import StateRefusedError
from bmhctl.model import CheckResult, Host, Verdict
from bmhctl.policy import Policy, Step
from bmhctl.stores.claims import of_host
from bmhctl.usecases.context import Context
from bmhctl.usecases.moving import CLAIMED


@dataclass(frozen=True, slots=True)
class StepsRun:
    """What the steps that apply to a host said; ``refusal`` is None when all passed, else why not, in words."""

    results: tuple[CheckResult, ...]
    refusal: str | None
    summary: str


class Claimed:
    """A host under the caller's claim: its steps may run; nobody else's can meanwhile."""

    def __init__(self, ctx: Context, host: Host, policy: Policy, handle: int) -> None:
        self.host = host
        self._ctx = ctx
        self._policy = policy
        self._handle = handle

    def run_checks(self) -> StepsRun:
        """Runs the readiness checks that apply, all of them."""
        return self._run(self._policy.checks, "readiness check", stop_at_failure=False)

    def run_cleanup(self) -> StepsRun:
        """Runs the cleanup steps that apply, in order, up to the first that fails."""
        return self._run(self._policy.cleanup, "cleanup step", stop_at_failure=True)

    def _run(self, steps: tuple[Step, ...], kind: str, *, stop_at_failure: bool) -> StepsRun:
        if not steps:
            return StepsRun((), None, f"no {kind}s are declared")
        mine = [step for step in steps if step.applies_to(self.host.spec)]
        if not mine:
            return StepsRun((), None, f"no {kind} applies to it")
        setting = probes.Setting(self._ctx.environ, self._ctx.store.folder, self._handle)
        results: list[CheckResult] = []
        for step in mine:
            results.append(probes.run(step, self.host.spec, setting))
            if stop_at_failure and results[-1].verdict is not Verdict.PASS:
                break
        bad = [result for result in results if result.verdict is not Verdict.PASS]
        if bad:
            words = "; ".join(f"{r.step}: {r.detail or r.verdict}" for r in bad)
            return StepsRun(tuple(results), f"{kind} failed: {words}", f"{len(bad)} of {len(mine)} {kind}s failed")
        names = ", ".join(result.step for result in results)
        return StepsRun(tuple(results), None, f"{kind}{'s' if len(mine) > 1 else ''} passed: {names}")

    def unchanged(self) -> Host:
        """The host as it is now, in the caller's transaction; refuses if anything happened to it since the claim."""
        now = self._ctx.store.host_with_id(self.host.id)
        if now is None:
            raise StateRefusedError("was removed while its steps ran", host=self.host.name)
        if now.last_event != self.host.last_event:
            raise StateRefusedError(
                f"changed while its steps ran: it is {now.state} now",
                host=now.name,
                hint=f"see bmhctl history {now.name}, then try again",
            )
        return now


@contextmanager
def claimed(ctx: Context, host: Host) -> Iterator[Claimed]:
    """Claims a host for the block, and reads it anew; raises :class:`StateRefusedError` when a step runs on it."""
    with ctx.store.claims.claim(of_host(host.id)) as handle:
        if handle is None:
            raise StateRefusedError(CLAIMED, host=host.name, hint="wait until it ends")
        fresh = ctx.store.host_with_id(host.id)
        if fresh is None:
            raise StateRefusedError("was removed meanwhile", host=host.name)
        yield Claimed(ctx, fresh, ctx.policy(), handle)
