"""What every use case is given, and what each one does first."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from bmhctl.policy import Policy
from bmhctl.stores.engine import Store


def utc_now() -> datetime:
    """The local clock, in UTC."""
    return datetime.now(UTC)


def _silent(_: str) -> None:
    """Tells nobody."""


@dataclass(frozen=True, slots=True)
class Context:
    """An open inventory, a clock, and on whose behalf.

    ``environ`` is the environment that checks and cleanup steps start from; ``tell`` takes one line for the
    person at work (a warning, what was taken over) and must not fail.
    """

    store: Store
    actor: str
    clock: Callable[[], datetime] = utc_now
    environ: Mapping[str, str] = field(default_factory=dict)
    tell: Callable[[str], None] = _silent

    def policy(self) -> Policy:
        """The inventory's policy."""
        import json

        from bmhctl.policy import parse_policy

        parsed = self.store.get("policy_parsed")
        return parse_policy(json.loads(parsed)) if parsed else Policy()


def look(ctx: Context) -> datetime:
    """What a reading use case does first: takes over a changed declaration. Returns the time to judge by."""
    if ctx.store.declaration is not None:
        from bmhctl.usecases.declaring import take_over

        take_over(ctx)
    return ctx.clock()


def begin(ctx: Context) -> datetime:
    """What a writing use case does first: what :func:`look` does, and reaps every lease that is over."""
    now = look(ctx)
    if ctx.store.expired_reservations(now):
        from bmhctl.usecases.leases import reap

        reap(ctx)
    return now
