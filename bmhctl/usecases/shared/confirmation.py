"""Ask the user before a command changes many hosts, or hosts that others have reserved."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bmhctl.domain.model import Host, Reservation
from bmhctl.domain.units import plural
from bmhctl.support.folding import folded
from bmhctl.usecases.shared.context import Context

MANY = 10
"""The most hosts, chosen by a pattern, a selector or a state, that are changed without a question."""

_UNDOABLE = ("set", "remove", "import", "cordon", "uncordon")
_SHOWN = 8  # the most folded names, and the most holders, in one question


def confirm_names(ctx: Context, what: str, names: Sequence[str], most: int = MANY, act: str = "changes") -> None:
    """Ask for confirmation if ``what`` is about to change more than ``most`` hosts; ``act`` says what it does."""
    if ctx.confirm is not None and len(names) > most:
        ctx.confirm(_summary(what, names, act))


def confirm_owner(ctx: Context, held: Reservation, act: str) -> None:
    """Ask for confirmation if a reservation belongs to another owner; in ``act``, ``{hosts}`` stands for its hosts."""
    if ctx.confirm is not None and held.owner != ctx.actor:
        names = " ".join(folded(host.name for host in ctx.store.hosts.held_by(held.id)))
        ctx.confirm(f"{act.replace('{hosts}', names)}: held by {held.words}")


def _summary(what: str, hosts: Sequence[str], act: str = "changes") -> str:
    names = folded(hosts)
    more = " …" if len(names) > _SHOWN else ""
    count = plural(len(hosts), "host")
    back = "\nbmhctl undo takes this back" if what in _UNDOABLE else ""
    return f"{what} {'deletes' if what == 'remove' else act} {count}: {' '.join(names[:_SHOWN])}{more}{back}"


def question(verb: str, hosts: Sequence[Host], others: Sequence[Host]) -> Iterator[str]:
    """Yield the parts of the question whether ``verb`` may change ``hosts``; other users hold ``others`` of them."""
    yield _summary(verb, [host.name for host in hosts])
    for host in others[:_SHOWN]:
        if host.reservation is not None:
            yield f"\n  {host.name} is held by {host.reservation.words}"
    if len(others) > _SHOWN:
        yield f"\n  and {len(others) - _SHOWN} more are held by others"
