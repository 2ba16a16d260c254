"""Add hosts, change their declaration, rename and remove them, in the caller's transaction; for every backend."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import cache, partial

from bmhctl.domain.host_spec import duplicates
from bmhctl.domain.model import End, Event, EventKind, Host, HostSpec, Planned, PropertyValue, Reservation, State, Verb
from bmhctl.errors import InvalidError, StateRefusedError
from bmhctl.lifecycle.table import where
from bmhctl.results import Outcome, already, stayed
from bmhctl.support.values import Frozen, field, replace
from bmhctl.usecases.shared.context import Context
from bmhctl.usecases.shared.former import Former
from bmhctl.usecases.shared.leases import give_back
from bmhctl.usecases.shared.transitions import changed_meanwhile, event_of, exchange, record_event


class Removal(Frozen):
    """A host to remove; ``force`` is needed for a reserved or dirty host.

    ``retires`` is whether the host was cleaned and its retire steps succeeded; this counts only if ``last_event`` is
    still the host's last event.
    """

    name: str
    reason: str | None = None
    force: bool = False
    retires: bool = False
    last_event: int | None = None


class HostAddition(Frozen):
    """A host to add, in its state, and the reason; ``since`` is set when the host is added.

    A host that comes back has the id that it had, so that its history and its bookings continue.
    """

    host: Host
    reason: str | None = None


class SpecChange(Frozen):
    """A change of a host's declaration; ``edit`` computes it from the declaration at that time."""

    name: str
    edit: Callable[[Context, HostSpec], HostSpec]

    @classmethod
    def to(cls, name: str, spec: HostSpec) -> SpecChange:
        """Return the change of a host's declaration to ``spec``, whatever it was before."""
        return cls(name, lambda _, __: spec)


class Changes(Frozen):
    """Changes of the hosts of an inventory; renames are made first, additions last.

    ``specs`` are changes of declarations, and ``reason`` is why they and the renames are made. ``policy`` is the text
    of a valid policy to save, for a database. ``imported`` are the values that an import declares, by host name; None
    removes the saved ones. ``by_hand`` is whether the TOML file was edited by something other than bmhctl. ``command``
    is the command that makes the changes, if it is not the one that the verbs of their events name.
    """

    renames: tuple[tuple[str, str], ...] = ()
    removals: tuple[Removal, ...] = ()
    specs: tuple[SpecChange, ...] = ()
    newcomers: tuple[HostAddition, ...] = ()
    reason: str | None = None
    policy: str | None = None
    imported: Mapping[str, Mapping[str, PropertyValue] | None] = field(default_factory=dict)
    by_hand: bool = False
    command: str | None = None


def apply(ctx: Context, changes: Changes, now: datetime) -> list[Outcome]:
    """Make all the changes, and return an outcome for each; raise the error of the first one that is refused."""
    if changes.policy is not None:
        save_policy(ctx, changes.policy, now)
    names = [*changes.imported, *(removal.name for removal in changes.removals)]
    former = Former(changes.by_hand, cache(partial(ctx.store.imported.of, names)), changes.command)
    outcomes = [rename(ctx, old, new, now, former, changes.reason) for old, new in changes.renames]
    outcomes += [remove(ctx, removal, now, former) for removal in changes.removals]
    hosts = [ctx.host(each.name) for each in changes.specs]
    edited = [(host, each.edit(ctx, host.spec)) for each, host in zip(changes.specs, hosts, strict=True)]
    _refuse_used_macs(ctx, edited)
    _report_duplicates(ctx, [spec for host, spec in edited if _identity(host.spec) != _identity(spec)])
    outcomes += [_change_spec(ctx, host, spec, now, changes.reason, former) for host, spec in edited]
    outcomes += _enter_all(ctx, changes.newcomers, now, former)
    _forget_returned(ctx, [*(spec for _, spec in edited), *(newcomer.host.spec for newcomer in changes.newcomers)])
    ctx.store.imported.save(changes.imported)
    return outcomes


def save_policy(ctx: Context, text: str, now: datetime) -> None:
    """Replace the policy of a database, and keep the former text."""
    before = ctx.store.meta.policy_text() or ""
    if text != before:
        ctx.store.meta.keep_policy(now, ctx.actor, before)
        replace_policy(ctx, text)


def replace_policy(ctx: Context, text: str) -> None:
    """Save the policy, and count again how far the setup of hosts is under the new policy."""
    if ctx.store.meta.save_policy(text):
        from bmhctl.usecases.shared.setup_progress import count_again

        count_again(ctx)


def _forget_returned(ctx: Context, specs: Sequence[HostSpec]) -> None:
    """Remove the records of departed machines that came back: a dirty host now has their MAC.

    Call this after all changes, because hosts may swap their MACs.
    """
    if ctx.store.departed.is_any():
        for host in ctx.store.declared.having(macs=[spec.mac for spec in specs if spec.mac is not None]):
            if host.dirty and host.spec.mac is not None:
                ctx.store.departed.remove("", host.spec.mac)


def _enter_all(ctx: Context, newcomers: Sequence[HostAddition], now: datetime, former: Former) -> list[Outcome]:
    """Add hosts; what is known about them is read before the first is added, so that the rows are written together."""
    arriving = [newcomer.host.spec for newcomer in newcomers]
    known = ctx.store.hosts.with_names(spec.name for spec in arriving)
    refuse_known_macs(ctx, arriving)
    # An undeclared host that is declared again may have another MAC now.
    _refuse_used_macs(ctx, [(known[spec.name], spec) for spec in arriving if spec.name in known])
    _report_duplicates(ctx, arriving)
    outcomes = []
    some_left = ctx.store.departed.is_any()
    for newcomer in _with_reservations(ctx, _still_planned(ctx, newcomers), known):
        there = known.get(newcomer.host.name)
        departed = ctx.store.departed.reason(newcomer.host.name, newcomer.host.spec.mac) if some_left else None
        retired = ctx.store.departed.retired(newcomer.host.spec.mac) if some_left and there is None else None
        if retired is not None:
            name, at, reason = retired
            words = f"its machine was retired as {name} at {at:%Y-%m-%d %H:%M} UTC: {reason}"
            ctx.report(f"{newcomer.host.name}: {words}")
            newcomer = replace(newcomer, reason="; ".join(filter(None, (newcomer.reason, words))))
        outcomes.append(_enter(ctx, newcomer, now, there, departed, former))
    return outcomes


def _enter(
    ctx: Context,
    newcomer: HostAddition,
    now: datetime,
    known: Host | None,
    departed: str | None,
    former: Former,
) -> Outcome:
    """Add a host in its state; if an undeclared host has this name, declare it again.

    A host that was removed while dirty enters tainted.
    """
    host, reason = newcomer.host, newcomer.reason
    if known is not None:
        if not known.undeclared:
            refuse_taken(ctx, host.name, "is in the inventory already", host.name)
        return _change_spec(ctx, known, host.spec, now, reason, former)
    if departed is not None:
        clean = host.state in (State.INITIAL, State.AVAILABLE)
        host = replace(host, state=State.TAINTED if clean else host.state, dirty=True, failed_recycles=None)
        reason = f"it was removed while dirty: {departed}"
        ctx.store.departed.remove(host.name, host.spec.mac)
    reservation = None if host.reservation is None else host.reservation.id
    before = former.of(None)
    event = Event(host.name, now, ctx.actor, Verb.ENTER, None, host.state, reason, reservation, before=before)
    exchange(ctx, host, now)
    ctx.store.declared.add(host, event)
    words = "added" if host.state is State.INITIAL else f"added as {host.state}"
    return Outcome(host.name, True, words if departed is None else f"{words}: {reason}", None, host.state)


def _still_planned(ctx: Context, newcomers: Sequence[HostAddition]) -> Sequence[HostAddition]:
    """Return the additions; a host that comes back has the times of open bookings for which no other host was found."""
    spans: dict[int, list[Planned]] = {}
    for booking in ctx.store.bookings.open() if any(each.host.id for each in newcomers) else ():
        for host_id in booking.hosts:
            spans.setdefault(host_id, []).append(booking.span)
    return [
        replace(each, host=replace(each.host, planned=tuple(spans[each.host.id]))) if each.host.id in spans else each
        for each in newcomers
    ]


def _with_reservations(
    ctx: Context, newcomers: Sequence[HostAddition], known: Mapping[str, Host]
) -> list[HostAddition]:
    """Save the reservations of hosts that are new, and return the additions with them.

    Hosts that bring the same reservation share it; a host never joins one that exists already.
    """
    held = [each.host.reservation for each in newcomers if each.host.name not in known]
    brought = [each.id for each in held if each is not None]
    taken = ctx.store.reservations.known(filter(None, brought))
    ids = iter(ctx.store.reservations.new_ids(sum(not each or each in taken for each in brought)))
    granted: dict[str, Reservation] = {}
    additions = []
    for newcomer in newcomers:
        host = newcomer.host
        if host.reservation is not None and host.name not in known:
            made = granted.get(host.reservation.id)
            if made is None:
                is_free = host.reservation.id and host.reservation.id not in taken
                made = host.reservation if is_free else replace(host.reservation, id=next(ids))
                ctx.store.reservations.add(made)
                if host.reservation.id:
                    granted[host.reservation.id] = made
            newcomer = replace(newcomer, host=replace(host, reservation=made))
        additions.append(newcomer)
    return additions


def _change_spec(
    ctx: Context, host: Host, spec: HostSpec, now: datetime, reason: str | None, former: Former
) -> Outcome:
    """Save a host's new declaration; the outcome lists the differences. Observed properties stay."""
    spec = replace(spec, observed=host.spec.observed)
    changed = differences(host.spec, spec)
    if not changed and not host.undeclared:
        return already(host, "nothing to change")
    if host.dirty and host.spec.mac is not None and spec.mac != host.spec.mac:
        # The machine with the old MAC was used, so it is not clean if it comes back under another name.
        ctx.store.departed.add(None, host.spec.mac, now, f"{host.name} had this MAC")
    fresh = replace(host, spec=spec, undeclared=False)
    words = f"changed: {', '.join(changed)}" if changed else ""
    if host.undeclared:
        words = f"declared again{'; ' + words if words else ''}"
    exchange(ctx, host, now)
    kind = EventKind.DECLARE if host.undeclared else EventKind.SET
    event = event_of(ctx, fresh, kind, now, reason or words, before=former.of(host))
    ctx.store.declared.save_spec(fresh, event)
    return stayed(host, words)


def rename(ctx: Context, old: str, new: str, now: datetime, former: Former, reason: str | None = None) -> Outcome:
    """Rename a host; everything else about it stays. Return the outcome. The ``reason`` is recorded, if there is one.

    Raises :class:`StateRefusedError` for a name that is taken, and :class:`InvalidError` for the name of a used machine
    that was removed.
    """
    host = ctx.host(old)
    refuse_taken(ctx, new, f"can't be renamed: there is a host {new} already", old)
    departed = None if host.dirty else ctx.store.departed.reason(new, host.spec.mac)
    if departed is not None:
        raise InvalidError(
            f"can't be renamed: a used machine of the name {new} was removed ({departed})",
            host=old,
            hint=f"bmhctl add {new}, which enters tainted, and reset it",
        )
    if host.planned:
        from bmhctl.usecases.shared.planned import rename_in_bookings

        rename_in_bookings(ctx, host, new)
    renamed = replace(host, spec=replace(host.spec, name=new))
    event = event_of(ctx, renamed, EventKind.RENAME, now, reason or f"was {old}", before=former.of(host))
    ctx.store.declared.save_spec(renamed, event)
    return Outcome(new, True, f"was {old}", host.state, host.state)


def remove(ctx: Context, removal: Removal, now: datetime, former: Former) -> Outcome:
    """Remove a host; its history stays. Return the outcome.

    A dirty host is recorded as departed. Raises :class:`StateRefusedError` for a reserved or dirty host without
    ``force``, and for a host that has an event after ``removal.last_event``.
    """
    host = ctx.host(removal.name)
    check_removal(host, removal)
    source = host.state
    if host.reservation is not None:
        host = give_back(
            ctx, host, now, reason=f"{host.name} was removed by {ctx.actor}: {removal.reason}", end=End.REMOVED
        )
    if removal.retires:
        ctx.store.departed.add_retired(host.name, host.spec.mac, now, removal.reason or "retired")
    elif host.dirty:
        ctx.store.departed.add(host.name, host.spec.mac, now, removal.reason or f"{host.state}")
    verb = Verb.RETIRE if removal.retires else Verb.REMOVE
    before = former.of(host, whole=not removal.retires)
    event = replace(event_of(ctx, host, verb, now, removal.reason, before=before), dest=None)
    exchange(ctx, host, now)
    ctx.store.declared.remove(host, event)
    return Outcome(host.name, True, "retired" if removal.retires else "removed", source, None)


def refuse_taken(ctx: Context, name: str, words: str, host: str) -> None:
    """Raise :class:`StateRefusedError` with these words, about ``host``, if a host already has the name."""
    if ctx.store.hosts.named(name) is not None:
        raise StateRefusedError(words, host=host, hint=f"look at it: bmhctl show {name}")


def _refuse_used_macs(ctx: Context, edited: Iterable[tuple[Host, HostSpec]]) -> None:
    """Raise :class:`InvalidError` for a clean host whose new declaration has the MAC of a dirty one.

    Otherwise the used machine would count as clean under another name.
    """
    for host, spec in edited:
        if spec.mac is None or host.dirty or host.spec.mac == spec.mac:
            continue
        departed = ctx.store.departed.reason("", spec.mac)
        if departed is not None:
            raise InvalidError(
                f"has the MAC {spec.mac} of a used machine that left ({departed})",
                host=spec.name,
                hint=f"correct the MAC, or bmhctl remove {spec.name} and add it again: it enters tainted",
                details={"mac": spec.mac},
            )
        for other in ctx.store.declared.having(macs=[spec.mac]):
            if other.dirty:
                raise InvalidError(
                    f"has the MAC {spec.mac} of {other.name}, which is {where(other.state)} and dirty",
                    host=spec.name,
                    hint=f"correct the MAC, or have {other.name} reset first",
                    details={"mac": spec.mac, "known": other.name},
                )


def check_removal(host: Host, removal: Removal) -> None:
    """Raise the errors of :func:`remove` for a removal that is refused; remove nothing."""
    if (host.reservation is not None or host.dirty) and not removal.force:
        why = f"is held by {host.reservation.words}" if host.reservation else f"is {host.state} and dirty"
        before = "release" if host.reservation else "resume" if host.state is State.MAINTENANCE else "reset"
        raise StateRefusedError(
            f"{why}: not removed",
            host=host.name,
            hint=f"bmhctl {before} {host.name} first, or use --force --reason TEXT",
            details={"state": host.state.value},
        )
    if removal.last_event is not None and host.last_event != removal.last_event:
        raise changed_meanwhile(host)


def undeclare(ctx: Context, host: Host, now: datetime, reason: str) -> None:
    """Record that a host is no longer declared; it keeps its whole state and can't be reserved."""
    left = replace(host, undeclared=True)
    record_event(ctx, left, EventKind.UNDECLARE, now, reason=reason, before=Former(by_hand=True).of(host))


def refuse_known_macs(ctx: Context, specs: Iterable[HostSpec]) -> None:
    """Raise :class:`InvalidError` for a new host with the MAC of a known host: it may be that host, renamed by hand."""
    arriving: dict[str, list[HostSpec]] = {}
    for spec in specs:
        if spec.mac is not None:
            arriving.setdefault(spec.mac, []).append(spec)
    for known in ctx.store.declared.having(macs=arriving):
        for spec in arriving[str(known.spec.mac)]:
            if ctx.store.hosts.named(spec.name) is None:
                raise InvalidError(
                    f"has the MAC {spec.mac} of {known.name}: is it the same machine?",
                    host=spec.name,
                    hint=f"bmhctl rename {known.name} {spec.name}, or correct the MAC of one of them",
                    details={"mac": spec.mac, "known": known.name},
                )


def differences(old: HostSpec, new: HostSpec) -> list[str]:
    """Return the differences between two declarations in words, such as ``labels.rack r1 → r2``."""
    return [f"{key} {shown(a)} → {shown(b)}" for key, a, b in _pairs(old, new) if a != b]


def _pairs(old: HostSpec, new: HostSpec) -> Iterator[tuple[str, object, object]]:
    for key in ("address", "mac", "note"):
        yield key, getattr(old, key), getattr(new, key)
    for key in ("address", "type", "system_id", "credentials", "tls_min_version"):
        yield f"bmc.{key}", getattr(old.bmc, key, None), getattr(new.bmc, key, None)
    yield "bmc.verify_tls", getattr(old.bmc, "verify_tls", True), getattr(new.bmc, "verify_tls", True)
    for group in ("labels", "hardware"):
        before, after = getattr(old, group), getattr(new, group)
        for key in dict.fromkeys((*before, *after)):
            yield f"{group}.{key}", before.get(key), after.get(key)


def shown(value: object) -> str:
    """Return a declared value as messages show it."""
    if isinstance(value, bool):
        return str(value).lower()  # as in TOML
    return "(none)" if value is None else str(value) or '""'


def _identity(spec: HostSpec) -> tuple[object, ...]:
    return spec.mac, spec.address, spec.bmc


def _report_duplicates(ctx: Context, specs: Sequence[HostSpec]) -> None:
    """Report each MAC, address and BMC system that one of these hosts shares with another host."""
    changed = {spec.name: spec for spec in specs}
    macs = [spec.mac for spec in specs if spec.mac is not None]
    addresses = [spec.address for spec in specs if spec.address is not None]
    bmcs = [spec.bmc for spec in specs if spec.bmc is not None]
    found = ctx.store.declared.having(macs=macs, addresses=addresses, bmcs=bmcs)
    others = [host.spec for host in found if host.name not in changed]
    for warning in duplicates([*others, *changed.values()]):
        ctx.report(warning)
