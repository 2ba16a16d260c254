"""Run the steps of one host in the order of their needs; independent steps run at the same time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from graphlib import TopologicalSorter
from queue import SimpleQueue
from threading import Thread

from bmhctl.domain.model import CheckResult, HostSpec, Verdict
from bmhctl.domain.policy import Step, predecessors

Before = Mapping[str, frozenset[str]]
"""By step, the steps that have to end before it starts."""

_Ended = tuple[Step, CheckResult | None, BaseException | None]


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
    ended: SimpleQueue[_Ended] = SimpleQueue()
    running = 0
    while True:
        for step in map(by_name.__getitem__, sorter.get_ready() if goes_on() else ()):
            missing = _missing(step, results)
            work = run if not missing else _skipped(missing)
            Thread(target=_run, args=(ended, step, work), daemon=True).start()
            running += 1
        if not running:
            return [results[step.name] for step in steps if step.name in results]
        step, result, error = ended.get()
        running -= 1
        if result is None:
            raise error or AssertionError("a step returned nothing")
        results[step.name] = result
        sorter.done(step.name)


def _missing(step: Step, results: Mapping[str, CheckResult]) -> list[str]:
    """Return the steps that a step needs and that did not pass."""
    return [name for name in step.needs or () if name in results and results[name].verdict is not Verdict.PASS]


def _skipped(missing: Sequence[str]) -> Callable[[Step], CheckResult]:
    words = f"not run: it needs {', '.join(missing)}"
    return lambda step: CheckResult(step.name, Verdict.UNKNOWN, words, 0.0, phase=step.phase)


def _run(ended: SimpleQueue[_Ended], step: Step, work: Callable[[Step], CheckResult]) -> None:
    try:
        ended.put((step, work(step), None))
    except BaseException as error:  # noqa: BLE001 - raised again where the result is awaited
        ended.put((step, None, error))
