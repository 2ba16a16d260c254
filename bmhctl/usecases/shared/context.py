"""What every use case works with: the open inventory, the actor, the clock, and retries."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from functools import wraps
from typing import TYPE_CHECKING, Concatenate, ParamSpec, TypeVar

from bmhctl.errors import FASTER, ConflictError
from bmhctl.support.values import Frozen, field

if TYPE_CHECKING:
    from bmhctl.domain.policy import Policy
    from bmhctl.stores.store import Store


def utc_now() -> datetime:
    """The local clock, in UTC."""
    return datetime.now(UTC)


def _silent(_: str) -> None:
    """Tells nobody."""


def _no_progress(_: str, __: str) -> None:
    """Shows nobody."""


class Context(Frozen):
    """An open inventory, a clock, and on whose behalf.

    ``environ`` is the environment that checks and cleanup steps start from; ``tell`` takes one line for the
    person at work (a warning, what was taken over), ``progress`` what is being done and at which place of how
    many, for one who waits;
    neither may fail.
    """

    store: Store
    actor: str
    clock: Callable[[], datetime] = utc_now
    environ: Mapping[str, str] = field(default_factory=dict)
    tell: Callable[[str], None] = _silent
    progress: Callable[[str, str], None] = _no_progress

    def policy(self) -> Policy:
        """The inventory's policy."""
        from bmhctl.domain.policy import parse_policy

        return parse_policy(self.store.parsed_policy())


CLOCK_SLACK = timedelta(minutes=1)
"""How far a clock may be set back, as time servers do now and then, before the leases are looked at."""


TRIES = 6
"""How often something is tried in all."""

_PAUSE = 0.02  # seconds at most before the second try; each further pause may be twice as long

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


def retried(
    act: Callable[Concatenate[Context, _Arguments], _Result],
) -> Callable[Concatenate[Context, _Arguments], _Result]:
    """Does again what a :class:`ConflictError` undid: a deadlock, a failed serialisation, the same request at once.

    For what commits once, at its end: then nothing of a try that failed is left.
    """

    @wraps(act)
    def again(ctx: Context, /, *args: _Arguments.args, **kwargs: _Arguments.kwargs) -> _Result:
        for number in range(TRIES - 1):
            try:
                return act(ctx, *args, **kwargs)
            except ConflictError:
                import random

                time.sleep(random.uniform(0, _PAUSE * 2**number))
        try:
            return act(ctx, *args, **kwargs)
        except ConflictError as error:
            error.message = error.message.replace(FASTER, f"{FASTER}, {TRIES} times in a row", 1)
            error.hint = "try again: what was not told as done was not done"
            raise

    return again
