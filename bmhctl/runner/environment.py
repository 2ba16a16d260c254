"""The ``BMH_*`` variables of a task, and the line that ``reserve --shell`` prints."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping

from bmhctl.domain.host_spec import host_variables, keyed_variables
from bmhctl.results import Held

_SHELL = ("BMH_RESERVATION", "BMH_HOSTS", "BMH_HOST", "BMH_ADDRESS", "BMH_PREPARED")  # the variables that --shell sets

_TAG = re.compile(r"BMH_TAG_[A-Z0-9_]+")

_OURS = re.compile(
    r"BMH_(RESERVATION|HOSTS|COUNT|PREPARED|PARAM_.*|TAG_.*"
    r"|(\d+_)?(HOST|ADDRESS|MAC|BMC_(ADDRESS|TYPE|SYSTEM_ID)|(LABEL|HARDWARE)_.*))",
    re.S,
)


def task_environment(outer: Mapping[str, str], held: Held, inventory: str, actor: str) -> dict[str, str]:
    """Return the environment of a task: ``outer`` without its ``BMH_*`` variables, and those of this reservation."""
    environment = {name: value for name, value in outer.items() if not _OURS.fullmatch(name)}
    environment |= {
        "BMH_RESERVATION": held.reservation.id,
        "BMH_HOSTS": " ".join(host.name for host in held.hosts),
        "BMH_COUNT": str(len(held.hosts)),
        "BMHCTL_INVENTORY": inventory,
        "BMHCTL_ACTOR": actor,
        **keyed_variables("BMH_TAG", held.reservation.tags),
    }
    if held.reservation.params is not None:
        from bmhctl.domain.parameters import parameter_variables

        environment |= parameter_variables(held.reservation.params)
    for number, host in enumerate(held.hosts, 1):
        variables = host_variables(host.spec)
        environment.update((f"BMH_{number}_{name}", value) for name, value in variables.items())
        if number == 1:
            environment.update((f"BMH_{name}", value) for name, value in variables.items())
    return environment


def export_line(held: Held, outer: Mapping[str, str]) -> str:
    """Return the line for ``eval`` in any POSIX shell that sets the variables, and unsets those of an earlier call."""
    values = task_environment({}, held, "", "")
    set_ = {name: values[name] for name in _SHELL if values.get(name)}
    set_ |= {name: values[name] for name in _tags(values)}
    stale = [name for name in (*_SHELL, *_tags(outer)) if name not in set_]
    exports = " ".join(f"{name}={shlex.quote(value)}" for name, value in set_.items())
    return (f"unset {' '.join(stale)}; " if stale else "") + f"export {exports}"


def unset_line(status: int, outer: Mapping[str, str]) -> str:
    """Return the line for ``eval`` that unsets all variables, also tags in ``outer``, and fails with a status."""
    return f"unset {' '.join((*_SHELL, *_tags(outer)))}; (exit {status})"


def _tags(environment: Mapping[str, str]) -> list[str]:
    return [name for name in environment if _TAG.fullmatch(name)]
