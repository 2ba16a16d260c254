"""Where a step runs: environment, folder, cancellation."""

from __future__ import annotations

from collections.abc import Mapping
from threading import Event
from typing import TYPE_CHECKING

from bmhctl.support.values import Frozen, field

if TYPE_CHECKING:
    from bmhctl.probes.cancellation import Cancelled
    from bmhctl.support.watchdog import Deadline


class StepEnvironment(Frozen):
    """Where a step runs: its environment, its working folder, and the descriptors that its process inherits.

    When ``cancelled`` is set, a running step ends as soon as possible. A step that ``is_guarded`` also ends when this
    process is killed, and before the ``deadline`` when this process is stopped. ``params`` are the values of the step's
    parameters, ``variables`` are set in its environment. ``proxy`` and ``bmc_parallel`` are settings of the policy, see
    :class:`bmhctl.domain.policy.Policy`.
    """

    environ: Mapping[str, str]
    folder: str
    inherit: tuple[int, ...] = ()
    cancelled: Cancelled = field(default_factory=Event)
    is_guarded: bool = False
    proxy: str | None = None
    bmc_parallel: int = 1
    params: Mapping[str, str] = field(default_factory=dict)
    variables: Mapping[str, str] = field(default_factory=dict)
    deadline: Deadline | None = None
