"""Ask the user before a command changes many hosts, or hosts that others have reserved."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from bmhctl.domain.model import Host, Reservation
from bmhctl.domain.units import plural
from bmhctl.results import Outcomes
from bmhctl.support.folding import folded, folded_within
from bmhctl.support.values import replace
from bmhctl.usecases.shared.context import Context
from bmhctl.usecases.shared.host_selection import Choice, choose
from bmhctl.usecases.shared.refresh import refresh_and_reap

MANY = 10
"""The most hosts, chosen by a pattern, a selector or a state, that are changed without a question."""

_UNDOABLE = ("set", "remove", "import", "cordon", "uncordon")
_ROOM = 160  # characters for the names of the hosts in a question
_SHOWN = 8  # the most holders in one question
_REHEARSED = 500  # the most chosen hosts for which a dry run comes before the question: it keeps other writers waiting


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
    count = plural(len(hosts), "host")
    back = "\nbmhctl undo takes this back" if what in _UNDOABLE else ""
    return f"{what} {'deletes' if what == 'remove' else act} {count}: {folded_within(hosts, _ROOM)}{back}"


def confirmed(
    ctx: Context,
    verb: str,
    choice: Choice,
    run: Callable[[Context, Choice], Outcomes],
    *,
    force: bool = False,
    most: int = MANY,
) -> Outcomes:
    """Run a verb after asking for confirmation if necessary; return its outcomes.

    The user is asked about more than ``most`` hosts that were not named one by one, and with ``force`` about hosts that
    another owner has reserved. If at most :data:`_REHEARSED` hosts are chosen, a dry run finds those that the verb
    would change: only these count, and only they may change; for the others, the outcomes of the dry run are returned.
    Raises :class:`UsageError` when the answer is no.
    """
    refresh_and_reap(ctx)
    unasked = replace(ctx, confirm=None)
    silent = replace(unasked, report=lambda _: None, progress=lambda _, __: None, dry_run=True)
    hosts, _ = choose(silent, choice)
    are_named = bool(choice.names) and not any(sign in name for name in choice.names for sign in "*?")
    others = [host for host in hosts if force and host.reservation and host.reservation.owner != ctx.actor]
    if ctx.confirm is None or (not others and (are_named or len(hosts) <= most)):
        return run(unasked, choice)
    if len(hosts) > _REHEARSED:
        ctx.confirm("".join(_question(verb, hosts, others)))
        return run(unasked, replace(choice, among=frozenset(host.name for host in hosts)))
    planned = run(silent, choice)
    changing = frozenset(item.host for item in planned.items if item.changed)
    hosts = [host for host in hosts if host.name in changing]
    others = [host for host in others if host.name in changing]
    if others or (not are_named and len(hosts) > most):
        ctx.confirm("".join(_question(verb, hosts, others)))
    done = run(unasked, replace(choice, among=changing))
    outcomes = {item.host: item for item in done.items}
    return replace(done, items=tuple(outcomes.get(item.host, item) for item in planned.items))


def _question(verb: str, hosts: Sequence[Host], others: Sequence[Host]) -> Iterator[str]:
    """Yield the parts of the question whether ``verb`` may change ``hosts``; other users hold ``others`` of them."""
    yield _summary(verb, [host.name for host in hosts])
    for host in others[:_SHOWN]:
        if host.reservation is not None:
            yield f"\n  {host.name} is held by {host.reservation.words}"
    if len(others) > _SHOWN:
        yield f"\n  and {len(others) - _SHOWN} more are held by others"
