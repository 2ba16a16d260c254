"""Save the hardware properties that steps reported; declared values win over observed ones."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from bmhctl.domain.model import CheckResult, EventKind, Host, HostSpec, PropertyValue
from bmhctl.support.values import replace
from bmhctl.usecases.shared.context import Context
from bmhctl.usecases.shared.host_changes import shown
from bmhctl.usecases.shared.transitions import event_of, exchange


def save_observed(ctx: Context, host: Host, results: Sequence[CheckResult], now: datetime) -> Host:
    """Save the observed properties that changed, with an event, in the caller's transaction; return the host."""
    before, after = host.spec.observed, _merged(host.spec, results)
    changed = [
        f"{key} {shown(before.get(key))} → {shown(after.get(key))}"
        for key in dict.fromkeys((*before, *after))
        if before.get(key) != after.get(key)
    ]
    if not changed:
        return host
    names = ", ".join(result.step for result in results)
    words = "; ".join(filter(None, (f"{names} observed: {', '.join(changed)}", kept_words(host.spec, results))))
    fresh = replace(host, spec=replace(host.spec, observed=after))
    exchange(ctx, host, now)
    return ctx.store.declared.save_observed(fresh, event_of(ctx, fresh, EventKind.SET, now, words))


def kept_words(spec: HostSpec, results: Iterable[CheckResult]) -> str:
    """Return in words which declared properties differ from the observed ones; empty if none does."""
    kept = [
        f"{key} {shown(spec.hardware[key])} (observed: {shown(value)})"
        for result in results
        for key, value in result.observed.items()
        if key in spec.hardware and str(spec.hardware[key]) != str(value)
    ]
    return f"kept as declared: {', '.join(kept)}" if kept else ""


def _merged(spec: HostSpec, results: Iterable[CheckResult]) -> Mapping[str, PropertyValue]:
    found: dict[str, PropertyValue | None] = dict(spec.observed)
    for result in results:
        found |= result.observed
    return {key: value for key, value in found.items() if value is not None}
