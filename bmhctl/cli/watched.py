"""Show a result once, or with ``--watch`` again after each change of the inventory."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bmhctl.cli.session import Session
    from bmhctl.cli.watch import Look


def show_watched(lab: Session, look: Look, interval: str | None) -> None:
    """Show what ``look`` returns; with an ``interval``, again when it changed, no more often than that."""
    if interval is None:
        lab.show(look(lab.context))
        return
    from bmhctl.cli.watch import watch_result

    watch_result(lab, look, interval)
