"""The values that a reservation passes to its prepare steps: check against the policy, add defaults."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from bmhctl.domain.model import HostSpec
from bmhctl.domain.policy import Step
from bmhctl.domain.requirements import Requirement, Requirements
from bmhctl.domain.selector import Selector, Term
from bmhctl.errors import UsageError, nearest
from bmhctl.support.values import replace


def complete(steps: Sequence[Step], given: Mapping[str, str]) -> dict[str, str]:
    """Return the given values by name, with the defaults of parameters that were not given.

    Raises :class:`UsageError` for a parameter that no step declares, for a value that does not match its pattern, and
    for a step of which only some parameters have a value.
    """
    declared = {param.name: param for step in steps for param in step.params}
    for name in given:
        if name not in declared:
            near = nearest(name, declared)
            known = f"declared: {', '.join(declared)}" if declared else "the policy declares none: bmhctl policy show"
            raise UsageError(
                f"there is no parameter {name!r}",
                hint=f"did you mean {near!r}? {known}" if near else known,
                details={"param": name},
            )
    for step in steps:
        for param in step.params:
            refusal = param.refusal(given[param.name]) if param.name in given else None
            if refusal is not None:
                raise UsageError(f"the parameter {param.name} {refusal}", details={"param": param.name})
    values = {name: param.default for name, param in declared.items() if param.default is not None} | dict(given)
    for step in steps:
        missing = [param.name for param in step.params if param.name not in values]
        if missing and any(param.name in given for param in step.params):
            raise UsageError(
                f"the prepare step {step.name} needs the parameter {missing[0]} as well",
                hint=f"--param {missing[0]}=VALUE",
                details={"param": missing[0]},
            )
    return values


def with_values(steps: Iterable[Step], values: Mapping[str, str]) -> tuple[Step, ...]:
    """Return the steps that run: those of which every parameter has a value."""
    return tuple(step for step in steps if all(param.name in values for param in step.params))


def narrow(steps: Sequence[Step], given: Mapping[str, str], requirements: Requirements) -> Requirements:
    """Return the requirements with the selectors of the prepare steps added, so that their hosts can be prepared.

    A parameter that several steps take restricts nothing, because each of these steps may be for other hosts.
    """
    terms: list[Term] = []
    for name in given:
        takers = [step for step in steps if any(param.name == name for param in step.params)]
        terms += [term for term in takers[0].selector.terms if len(takers) == 1 and term not in terms]
    if not terms:
        return requirements
    return tuple(_narrowed(requirement, terms) for requirement in requirements)


def _narrowed(requirement: Requirement, terms: Sequence[Term]) -> Requirement:
    if requirement.name is not None:
        return requirement
    own = requirement.selector.terms
    return replace(requirement, selector=Selector((*own, *(term for term in terms if term not in own))))


def values_for(steps: Sequence[Step], given: Mapping[str, str], specs: Iterable[HostSpec]) -> dict[str, str] | None:
    """Return the values of the prepare parameters, with defaults; None when no prepare step runs on any of the hosts.

    Raises the errors of :func:`complete`, and :class:`UsageError` for a parameter that does not apply to a host.
    """
    values = complete(steps, given)
    running = with_values(steps, values)
    is_any = False
    for spec in specs:
        mine = [step for step in running if step.applies_to(spec)]
        is_any = is_any or bool(mine)
        taken = {param.name for step in mine for param in step.params}
        for name in given:
            if name not in taken:
                raise UsageError(
                    f"no prepare step with the parameter {name} applies to it",
                    host=spec.name,
                    hint="bmhctl policy check shows which steps apply to which host",
                    details={"param": name},
                )
    return values if is_any else None


def parameter_variables(params: Mapping[str, str]) -> dict[str, str]:
    """Return the environment variables that pass the prepare parameters to a step or a task."""
    prepared = " ".join(f"{name}={value}" for name, value in params.items())
    return {"BMH_PREPARED": prepared, **{f"BMH_PARAM_{name.upper()}": value for name, value in params.items()}}
