"""What every use case is given."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from bmhctl.frozen import Frozen, field

if TYPE_CHECKING:
    from bmhctl.policy import Policy
    from bmhctl.stores.engine import Store


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
        from bmhctl.policy import parse_policy

        return parse_policy(self.store.parsed_policy())
