"""Leave out the results of steps that the policy no longer declares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bmhctl.domain.model import CheckResult
from bmhctl.usecases.shared.context import Context

_ByHost = Mapping[int, Sequence[CheckResult]]


def declared(ctx: Context, results: Sequence[CheckResult]) -> tuple[CheckResult, ...]:
    """Return the results whose steps the policy declares."""
    return tuple(filter(ctx.store.policy().declares, results))


def declared_by_host(ctx: Context, results: _ByHost) -> _ByHost:
    """Return the results whose steps the policy declares, by host id; hosts without any are left out."""
    found = {host_id: declared(ctx, each) for host_id, each in results.items()}
    return {host_id: each for host_id, each in found.items() if each}
