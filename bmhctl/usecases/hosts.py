"""Add, set, rename, remove and import hosts."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import product

from bmhctl.domain.bmc_address import with_scheme
from bmhctl.domain.host_spec import dump_spec, parse_spec
from bmhctl.domain.import_batch import ImportBatch
from bmhctl.domain.model import Host, HostSpec, PropertyValue, State
from bmhctl.domain.units import plural
from bmhctl.errors import BmhctlError, InvalidError, StateRefusedError, UsageError
from bmhctl.results import Imported, Outcome, Outcomes, failed
from bmhctl.support.values import Frozen, field, replace
from bmhctl.usecases.shared.confirmation import confirm_names, confirmed
from bmhctl.usecases.shared.context import Context, once
from bmhctl.usecases.shared.declare import change
from bmhctl.usecases.shared.host_changes import (
    Changes,
    HostAddition,
    Removal,
    SpecChange,
    check_removal,
    differences,
    refuse_known_macs,
    shown,
)
from bmhctl.usecases.shared.host_selection import Choice, choose, unfold
from bmhctl.usecases.shared.import_merge import Merged, Values, merge, values_of
from bmhctl.usecases.shared.leases import forced_reason
from bmhctl.usecases.shared.refresh import refresh_and_reap

_RANGES = {  # by the base of the numbers
    10: re.compile(r"\[([0-9]{1,9}(?:-[0-9]{1,9})?(?:,[0-9]{1,9}(?:-[0-9]{1,9})?)*)\]"),
    16: re.compile(r"\[([0-9a-fA-F]{1,8}(?:-[0-9a-fA-F]{1,8})?(?:,[0-9a-fA-F]{1,8}(?:-[0-9a-fA-F]{1,8})?)*)\]"),
}
_PLACEHOLDER = re.compile(r"\{(\w+)\}")
_MOST_VALUES = 100_000  # of one range


class AttributeChanges(Frozen):
    """Changes of the declaration of hosts: None keeps an attribute, an empty text removes it.

    A range such as ``10.0.1.[11-20]`` in ``address``, ``mac`` or ``bmc`` gives each of several hosts its own value.
    ``{name}`` in ``address``, ``bmc`` and ``note`` stands for the host's name. A label or hardware property with the
    value None is removed.
    """

    address: str | None = None
    mac: str | None = None
    note: str | None = None
    bmc: str | None = None
    bmc_type: str | None = None
    bmc_system_id: str | None = None
    credentials: str | None = None
    verify_tls: bool | None = None
    tls_min_version: str | None = None
    labels: Mapping[str, str | None] = field(default_factory=dict)
    hardware: Mapping[str, str | int | None] = field(default_factory=dict)


def add(ctx: Context, names: Sequence[str], changes: AttributeChanges) -> Outcomes:
    """Add hosts, all or none, as initial; return the outcome of each. A folded range in ``names`` means several hosts.

    ``changes`` are their attributes. Raises :class:`UsageError` for attributes that are not valid,
    :class:`StateRefusedError` for a name that is taken, and :class:`InvalidError` for a MAC that a known host has.
    """
    unfolded = unfold(names)
    if not unfolded:
        raise UsageError("no host is named", hint="bmhctl add node01, or bmhctl add 'node[01-20]'")
    each = _spread(changes, len(unfolded))
    shares_address = changes.address and "{name}" not in changes.address and not _has_range(changes.address)
    if len(unfolded) > 1 and ((changes.mac and not _has_range(changes.mac, base=16)) or shares_address):
        raise UsageError(
            "several hosts can't share a MAC or an address",
            hint="give each host its own: --address '{name}.lab' or '10.0.1.[11-20]', --mac '02:00:00:00:00:[01-0a]'",
        )
    now = refresh_and_reap(ctx)
    specs = [_with_changes(own, ctx, HostSpec(name)) for name, own in zip(unfolded, each, strict=True)]
    additions = Changes(newcomers=tuple(HostAddition(Host(spec, State.INITIAL, now)) for spec in specs))
    return Outcomes("add", tuple(change(ctx, additions)))


def set_attributes(ctx: Context, choice: Choice, changes: AttributeChanges) -> Outcomes:
    """Change the declaration of hosts; return the outcome of each, which may be an error.

    A changed BMC address drops the BMC's credentials unless new ones are given, because they would be sent to another
    machine. Raises :class:`UsageError` when nothing is to be set, or one MAC for several hosts.
    """
    if changes == AttributeChanges():
        raise UsageError("nothing to set", hint="bmhctl set node01 --label rack=r1 --note 'left slot'")
    if ctx.confirm is not None:
        return confirmed(ctx, "set", choice, partial(set_attributes, changes=changes))
    refresh_and_reap(ctx)
    hosts, missing = choose(ctx, replace(choice, among=None))  # a range counts the hosts that need no change, too
    each = dict(zip((host.name for host in hosts), _spread(changes, len(hosts)), strict=True))
    hosts = [host for host in hosts if choice.among is None or host.name in choice.among]
    if len(each) > 1 and changes.mac and not _has_range(changes.mac, base=16):
        raise UsageError("several hosts can't share a MAC")
    gone = [host for host in hosts if host.undeclared and ctx.store.declaration is not None]
    errors: list[BmhctlError] = [
        StateRefusedError("is no longer declared", host=host.name, hint=f"bmhctl add {host.name} declares it again")
        for host in gone
    ]
    specs = tuple(SpecChange(host.name, partial(_with_changes, each[host.name])) for host in hosts if host not in gone)
    done = change(ctx, Changes(specs=specs)) if specs else []
    return Outcomes("set", (*done, *map(failed, (*errors, *missing))), _way_back(ctx, done))


def rename(ctx: Context, old: str, new: str) -> Outcomes:
    """Rename a host, or each host of a range, all or none; states, reservations and history stay. Return the outcomes.

    Raises :class:`bmhctl.errors.NotFoundError` when there is no host ``old``, and :class:`UsageError` when ``new`` is
    not a host name, or not a range of as many other names.
    """
    refresh_and_reap(ctx)
    olds, news = unfold([old]), unfold([new])
    for name in olds:
        ctx.host(name)
    if len(olds) != len(news):
        raise UsageError(
            f"{old} stands for {plural(len(olds), 'host')} and {new} for {plural(len(news), 'name')}",
            hint="for example: bmhctl rename 'node[01-20]' 'web[01-20]'",
        )
    if len(olds) > 1 and {*olds} & {*news}:
        raise UsageError(f"{old} and {new} overlap", hint="rename in two steps, through names that are free")
    pairs = tuple(zip(olds, (_with_usage(partial(parse_spec, name, {})).name for name in news), strict=True))
    done = change(ctx, Changes(renames=pairs))
    return Outcomes("rename", tuple(done), _way_back(ctx, done))


def remove(ctx: Context, choice: Choice, *, force: bool = False, reason: str | None = None) -> Outcomes:
    """Remove hosts; their history stays. Return the outcome of each.

    A reserved or dirty host is removed only with ``force`` and a ``reason``. A host that is removed while it is dirty
    is recorded: if it is added again, it enters tainted.
    """
    forced_reason(force, reason)
    if ctx.confirm is not None:
        run = partial(remove, force=force, reason=reason)
        return confirmed(ctx, "remove", choice, run, force=force, most=1)
    refresh_and_reap(ctx)
    hosts, missing = choose(ctx, choice)
    errors: list[BmhctlError] = list(missing)
    removals = []
    for host in hosts:
        removal = Removal(host.name, reason, force)
        try:
            check_removal(host, removal)
            removals.append(removal)
        except BmhctlError as error:
            errors.append(error)
    done = change(ctx, Changes(removals=tuple(removals))) if removals else []
    return Outcomes("remove", (*done, *map(failed, errors)), _way_back(ctx, done))


def import_hosts(
    ctx: Context, batch: ImportBatch, *, update: bool = True, with_policy: bool = False, overwrite: bool = False
) -> Imported:
    """Import the hosts of files, all or none: add those that are new, and merge the attributes of those that are known.

    Without ``update``, known hosts stay as they are. Their state and credentials never change. Values that were set
    here since the last import are kept and reported, unless ``overwrite``: see :func:`merge`. A policy names commands
    to run, so it is imported only ``with_policy``, and only into a database. Raises :class:`InvalidError` if there is
    nothing to import.
    """
    ctx = replace(ctx, report=once(ctx.report, batch.warnings))  # the change would repeat the warnings of its preview
    refresh_and_reap(ctx)
    policy = _policy(ctx, batch, with_policy=with_policy)
    newcomers: list[HostAddition] = []
    specs: list[SpecChange] = []
    items: list[Outcome] = []
    said: dict[str, Values] = {}
    kept = False
    names = [arrival.host.name for arrival in batch.arrivals]
    there = ctx.store.hosts.with_names(names)
    before = ctx.store.imported.of(there)
    for arrival in batch.arrivals:
        known, last = there.get(arrival.host.name), before.get(arrival.host.name)
        if known is not None and not update:
            items.append(Outcome(known.name, False, "is in the inventory already", known.state, known.state))
            continue
        host = _without_references(ctx, arrival.host)
        now_said = {**last, **values_of(host.spec)} if last else values_of(host.spec)
        if now_said != last:
            said[host.name] = now_said
        if known is None:
            origin = f"imported from {arrival.origin}" + (f" ({arrival.source_state})" if arrival.source_state else "")
            newcomers.append(HostAddition(host, origin))
            items.append(Outcome(host.name, True, f"new, {origin}", None, host.state))
            continue
        edit = partial(_merged, brought=host.spec, last=last, overwrite=overwrite)
        merged = edit(ctx, known.spec)
        changed = differences(known.spec, merged.spec)
        is_changed = bool(changed or known.undeclared)
        if is_changed:
            specs.append(SpecChange(known.name, partial(_merged_spec, edit)))
        kept = kept or bool(merged.kept)
        words = [f"changed: {', '.join(changed)}"] if changed else []
        words += [f"kept here: {', '.join(_kept(*each) for each in merged.kept)}"] if merged.kept else []
        message = "; ".join(words) or "nothing to change"
        items.append(Outcome(known.name, is_changed, message, known.state, known.state))
    refuse_known_macs(ctx, (newcomer.host.spec for newcomer in newcomers))
    if kept:
        ctx.report("attributes that were set here are kept where the files differ; import --overwrite replaces them")
    changed = [item.host for item in items if item.changed]
    act = "adds" if len(newcomers) == len(changed) else "adds or changes" if newcomers else "changes"
    confirm_names(ctx, "import", changed, act=act)
    if specs or newcomers or policy or said:
        change(ctx, Changes(specs=tuple(specs), newcomers=tuple(newcomers), policy=policy, imported=said))
    return Imported(tuple(items), batch.skipped, batch.warnings, ctx.dry_run)


def _policy(ctx: Context, batch: ImportBatch, *, with_policy: bool) -> str | None:
    """Return the text of the policy to save; None if none is imported."""
    if batch.policy and not with_policy:
        if not batch.arrivals:
            raise InvalidError(
                "nothing to import: the files have a policy, but no hosts", hint="--policy imports the policy"
            )
        ctx.report("the files contain a policy, which was not imported; --policy imports it")
    policy = batch.policy if with_policy else None
    if policy is not None and ctx.store.declaration is not None:
        raise UsageError(
            "the policy of a TOML inventory is in the TOML file: none is imported", hint="leave out --policy"
        )
    return policy


def _kept(key: str, here: PropertyValue | None, there: PropertyValue) -> str:
    return f"{key} {shown(here)} (in the file: {shown(there)})"


def _without_references(ctx: Context, host: Host) -> Host:
    """Return a host without references that would let the file's author read files or run commands here."""
    bmc = host.spec.bmc
    if bmc is None or bmc.credentials is None or bmc.credentials.startswith("env:"):
        return host
    ctx.report(f"{host.name}: its credentials are not imported from a file: bmhctl set {host.name} --credentials …")
    return replace(host, spec=replace(host.spec, bmc=replace(bmc, credentials=None)))


def _merged(
    ctx: Context, known: HostSpec, *, brought: HostSpec, last: Mapping[str, PropertyValue] | None, overwrite: bool
) -> Merged:
    merged = merge(known, brought, last, overwrite=overwrite)
    if merged.moved:
        ctx.report(f"{known.name}: the BMC address changed: its credentials are dropped; set them again")
    return merged


def _merged_spec(edit: Callable[[Context, HostSpec], Merged], ctx: Context, known: HostSpec) -> HostSpec:
    return edit(ctx, known).spec


def _spread(changes: AttributeChanges, count: int) -> list[AttributeChanges]:
    """Return the changes for each of ``count`` hosts; an address, a MAC or a BMC may have a range."""
    addresses = _spread_value("--address", changes.address, count)
    macs, bmcs = _spread_value("--mac", changes.mac, count, base=16), _spread_value("--bmc", changes.bmc, count)
    return [replace(changes, address=a, mac=m, bmc=b) for a, m, b in zip(addresses, macs, bmcs, strict=True)]


def _has_range(text: str | None, *, base: int = 10) -> bool:
    """Return whether a value has a range, and so stands for several values; an IPv6 address in brackets has none."""
    return text is not None and bool(_RANGES[base].search(text))


def _spread_value(option: str, text: str | None, count: int, *, base: int = 10) -> list[str | None]:
    """Return the values for ``count`` hosts, in their order: those of the range, or the same value for each.

    ``base`` is 16 for the numbers of a MAC address. Raises :class:`UsageError` for a range of another length.
    """
    if text is None:
        return [None] * count
    for name in _PLACEHOLDER.findall(text):
        if name != "name":
            raise UsageError(
                f"{option} has the placeholder {{{name}}}, which is not known",
                hint="{name} is the host's name; a range gives each host its own: --address '10.0.1.[11-20]'",
            )
    if not _has_range(text, base=base):
        return [text] * count
    groups = [list(_numbers(group, base)) for group in _RANGES[base].findall(text)]
    values: list[str | None] = [_filled(text, iter(numbers), base) for numbers in product(*groups)]
    if len(values) != count:
        hosts = "1 host is" if count == 1 else f"{count} hosts are"
        digits = ", counted in hexadecimal" if base == 16 else ""
        raise UsageError(f"{option} {text} stands for {len(values)} values{digits}, but {hosts} named")
    return values


def _filled(text: str, numbers: Iterator[str], base: int) -> str:
    """Return the text with each of its ranges replaced by the next number."""
    return _RANGES[base].sub(lambda _: next(numbers), text)


def _numbers(group: str, base: int) -> Iterator[str]:
    for span in group.split(","):
        first, _, last = span.partition("-")
        start, end = int(first, base), int(last or first, base)
        if not start <= end < start + _MOST_VALUES:
            raise UsageError(f"[{group}] is not a range", hint="write it like [11-20] or [1,3,5-7]")
        form = f"0{len(first)}{'x' if base == 16 else 'd'}"
        yield from (format(number, form) for number in range(start, end + 1))


def _with_changes(changes: AttributeChanges, ctx: Context, spec: HostSpec) -> HostSpec:
    entry = dump_spec(spec)

    def put(table: dict[str, object], key: str, value: str | None) -> None:
        if value is not None:
            table[key] = value.replace("{name}", spec.name)
        if value == "":
            del table[key]

    for attribute in ("address", "mac", "note"):
        put(entry, attribute, getattr(changes, attribute))
    for group, given in (("labels", changes.labels), ("hardware", changes.hardware)):
        merged = {**getattr(spec, group), **given}
        entry[group] = {key: value for key, value in merged.items() if value is not None}
    bmc: dict[str, object] = dict(entry.get("bmc", {}))  # type: ignore[call-overload]  # dump_spec made it a dict
    put(bmc, "type", changes.bmc_type)
    is_ipmi = bmc.get("type") == "ipmi" and "/" not in (changes.bmc or "")
    full = partial(with_scheme, scheme="ipmi" if is_ipmi else "redfish+https")
    before, is_dropped = spec.bmc and full(spec.bmc.address), False
    put(bmc, "address", changes.bmc and full(changes.bmc))
    put(bmc, "system_id", changes.bmc_system_id)
    if before is not None and full(str(bmc.get("address"))) != before and "credentials" in bmc:
        del bmc["credentials"]
        is_dropped = bool(changes.bmc) and changes.credentials is None
    put(bmc, "credentials", changes.credentials)
    if changes.verify_tls is not None:
        bmc["verify_tls"] = changes.verify_tls
    put(bmc, "tls_min_version", changes.tls_min_version)
    if changes.bmc == "":
        bmc = {}
    entry["bmc"] = bmc or None
    made = _with_usage(lambda: parse_spec(spec.name, {key: value for key, value in entry.items() if value is not None}))
    if is_dropped:
        ctx.report(f"{spec.name}: the BMC address changed: its credentials are dropped; set them again")
    return made


def _with_usage(make: Callable[[], HostSpec]) -> HostSpec:
    """Return what ``make`` returns; raise :class:`UsageError` for an invalid value, since the command line has it."""
    try:
        return make()
    except InvalidError as error:
        raise UsageError(error.message, hint=error.hint, details=error.details) from error


def _way_back(ctx: Context, done: Iterable[Outcome]) -> tuple[str, ...]:
    """Return a note on how to undo a change of several hosts."""
    is_many = not ctx.dry_run and sum(outcome.changed for outcome in done) > 1
    return ("bmhctl undo takes this back",) if is_many else ()
