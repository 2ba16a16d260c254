"""Run the steps of one host in the order of their needs; independent steps run at the same time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from graphlib import TopologicalSorter
from threading import Event

from bmhctl.domain.model import CheckResult, HostSpec, Verdict
from bmhctl.domain.policy import Step, predecessors
from bmhctl.support.worker_pool import WorkerPool

Before = Mapping[str, frozenset[str]]
"""By step, the steps that have to end before it starts."""


def order(declared: Sequence[Step], spec: HostSpec) -> Before:
    """Return, by name, the steps that apply to a host, each with the steps for which it waits.

    A needed step that does not apply is replaced by the steps that it needs itself.
    """
    direct = predecessors(declared)
    applying = {step.name for step in declared if step.applies_to(spec)}

    def resolved(name: str) -> frozenset[str]:
        found: set[str] = set()
        for other in direct[name]:
            found |= {other} if other in applying else resolved(other)
        return frozenset(found)

    return {name: resolved(name) for name in applying}


def run_in_order(
    steps: Sequence[Step], before: Before, run: Callable[[Step], CheckResult], goes_on: Callable[[], bool]
) -> list[CheckResult]:
    """Run steps in threads, each after the steps ``before`` it; return their results in the order of ``steps``.

    A step in ``before`` that is not in ``steps`` counts as passed. A step that needs one that did not pass is not run,
    and its verdict is unknown. Once ``goes_on`` returns false, no further step starts.
    """
    by_name = {step.name: step for step in steps}
    sorter = TopologicalSorter({name: before[name] & by_name.keys() for name in by_name})
    sorter.prepare()
    results: dict[str, CheckResult] = {}

    def work(step: Step, _: Event) -> CheckResult:
        missing = [n for n in step.needs or () if n in results and results[n].verdict is not Verdict.PASS]
        if missing:
            words = f"not run: it needs {', '.join(missing)}"
            return CheckResult(step.name, Verdict.UNKNOWN, words, 0.0, phase=step.phase)
        return run(step)

    pool = WorkerPool(work, len(steps))

    def begin(_: object = None) -> None:
        for name in sorter.get_ready() if goes_on() else ():
            pool.start(by_name[name])

    def ended(step: Step, result: CheckResult) -> None:
        results[step.name] = result
        sorter.done(step.name)
        begin()

    pool.run_all([None], begin, ended)
    return [results[step.name] for step in steps if step.name in results]
