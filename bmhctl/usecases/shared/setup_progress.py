"""How far the setup of a host is: the steps of the policy that have passed since the host became initial."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from functools import cache
from hashlib import sha256

from bmhctl.domain.model import NEVER, CheckResult, Host, Phase, SetupProgress, State, Verdict
from bmhctl.domain.policy import HttpStep, Policy, RedfishStep, Step
from bmhctl.stores.host_query import HostQuery
from bmhctl.support.values import Frozen, replace
from bmhctl.usecases.shared.context import Context


class SetupState(Frozen):
    """The setup steps that apply to an initial host, and the last valid result of each step that ran.

    A result is valid if the step has not been declared differently since, and if it ran after the host became initial.
    So the setup starts over for a host that was reset or came back from maintenance.
    """

    steps: tuple[Step, ...]
    results: tuple[CheckResult, ...]
    digests: Mapping[str, str]

    @property
    def done(self) -> tuple[str, ...]:
        """The names of the steps that passed, which are not repeated."""
        return tuple(result.step for result in self.results if result.verdict is Verdict.PASS)

    @property
    def left(self) -> tuple[Step, ...]:
        """The steps that still have to run."""
        return tuple(step for step in self.steps if step.name not in self.done)

    @property
    def failed(self) -> CheckResult | None:
        """The newest result that did not pass."""
        bad = (result for result in self.results if result.verdict is not Verdict.PASS)
        return max(bad, key=lambda result: result.at or NEVER, default=None)

    @property
    def progress(self) -> SetupProgress:
        """The number of steps that are done, in the form in which the host keeps it."""
        return SetupProgress(len(self.done), len(self.steps), self.failed.step if self.failed else None)

    def and_then(self, results: Iterable[CheckResult]) -> SetupState:
        """Return the state after more valid results."""
        newer = {result.step: result for result in results}
        kept = tuple(result for result in self.results if result.step not in newer)
        return replace(self, results=(*kept, *newer.values()))

    def marked(self, results: Iterable[CheckResult]) -> Iterable[CheckResult]:
        """Yield results with the digests that make them valid for this setup."""
        return (replace(result, digest=self.digests[result.step]) for result in results)


def setup_state(policy: Policy, host: Host, results: Iterable[CheckResult]) -> SetupState:
    """Return the setup state of a host, from the last result of each step."""
    steps = policy.applying(Phase.SETUP, host.spec)
    words = _digests(policy.of(Phase.SETUP), host)
    valid = (r for r in results if r.phase is Phase.SETUP and r.digest is not None and r.digest == words.get(r.step))
    return SetupState(steps, tuple(valid), words)


def count_again(ctx: Context) -> None:
    """Save again how far the setup of each initial host is, after the policy changed, in the caller's transaction."""
    results = ctx.store.step_results.of_hosts_in(State.INITIAL, Phase.SETUP)
    if not results:
        return
    policy = ctx.store.policy()
    for host in ctx.store.hosts.find(HostQuery(states=frozenset({State.INITIAL}))):
        if host.id in results:
            state = setup_state(policy, host, results[host.id])
            ctx.store.hosts.save_setup(host, state.progress if state.results else None)


def _digests(declared: Sequence[Step], host: Host) -> Mapping[str, str]:
    """Return, by step, a digest of what the step does and of the steps that it needs; a change repeats the step.

    A step that does not apply to the host is replaced by the steps that it needs.
    """
    by_name = {step.name: step for step in declared}

    @cache
    def digest(name: str) -> str:
        return _digest(by_name[name], host.since, needed(by_name[name]))

    def needed(step: Step) -> list[str]:
        found: list[str] = []
        for name in step.needs or ():
            found += [digest(name)] if by_name[name].applies_to(host.spec) else needed(by_name[name])
        return sorted(set(found))

    return {name: digest(name) for name in by_name}


def _digest(step: Step, since: datetime, needed: Sequence[str]) -> str:
    """Return a digest of what a step does, and of when the host's present state began (``since``).

    Time limit, retries, selector and order are not included, so that their change repeats no step.
    """
    what = [step.kind, step.command, step.port, _settings(step.page), _settings(step.demand), since.isoformat()]
    # Empty parts are left out, so that the digest is the same as in older versions of bmhctl.
    what += [part for part in (step.properties, needed) if part]
    return sha256(json.dumps(what).encode()).hexdigest()[:16]


def _settings(value: HttpStep | RedfishStep | None) -> dict[str, object]:
    """Return the settings that have a value: a setting of a later version changes no digest unless it is used."""
    return {name: found for name in value.__match_args__ if (found := getattr(value, name))} if value else {}
