"""Whole inventories: make one, copy one into another home."""

from __future__ import annotations

import os
from pathlib import Path

from bmhctl.errors import StateRefusedError, UnreachableError, UsageError
from bmhctl.results import Done
from bmhctl.stores import resolve, state_file
from bmhctl.stores.engine import HostQuery, Store, closing
from bmhctl.stores.schema import TABLES
from bmhctl.stores.sqlite import building, create_database, new_database
from bmhctl.units import plural
from bmhctl.usecases.context import Context
from bmhctl.usecases.entry import look

TEMPLATE = """\
# An inventory of bmhctl. This file declares; what happens to the hosts is remembered beside it.

# [defaults]
# ttl = "4h"                # how long a reservation lasts when nobody says
# max_ttl = "3d"            # the longest that a lease may last
# quarantine_after = 3      # failed cleanups in a row before a host goes to maintenance by itself

# [checks.ssh]              # readiness: all that apply must pass before a host is available
# tcp = 22
# timeout = "5s"

# [cleanup.wipe]            # recycling: all that apply must succeed before a used host is clean
# command = ["./wipe.sh", "{address}"]
# timeout = "2h"

# [hosts.node01]
# address = "10.0.0.11"
# mac = "bc:55:85:92:de:b7"
# labels = { arch = "x86_64", rack = "r1" }
"""
"""What a new TOML inventory says: nothing yet, and what it could."""


def init(location: str, *, group: str | None = None) -> Done:
    """Creates an empty inventory; raises :class:`StateRefusedError` when there is one.

    ``group`` names a group of this machine that shall share it: its members may write it.
    """
    path, is_declared = resolve(location)
    group_id = None if group is None else _group_id(group)
    if not path.parent.is_dir():
        raise UnreachableError(f"there is no folder {path.parent}", hint=f"mkdir -p {path.parent}")
    mode = None if group_id is None else 0o660
    state = state_file(path) if is_declared else path
    for there in (path, state):
        if there.exists():
            raise StateRefusedError(
                f"there is {there} already: nothing was changed", hint=f"look at it: bmhctl -i {path} status"
            )
    try:
        if is_declared:
            with building(path) as partial:
                partial.write_text(TEMPLATE, encoding="utf-8")
                if group_id is not None:
                    os.chown(partial, -1, group_id)
                    partial.chmod(0o660)
            create_database(state, mode=mode, group=group_id)
        else:
            create_database(path, mode=mode, group=group_id)
    except FileExistsError as error:
        raise StateRefusedError(
            f"{path} appeared in this very moment", hint=f"look at it: bmhctl -i {path} status"
        ) from error
    return Done("init", f"created {path}", {"inventory": str(path)}, (f"next: bmhctl -i {location} add node01",))


def adopt(ctx: Context) -> Done:
    """Makes the state file beside a TOML file that file's own, whichever it belonged to; nothing else changes."""
    if ctx.store.declaration is None:
        raise UsageError("--adopt is for a TOML inventory", hint="-i lab.toml")
    from bmhctl.usecases.declaring import adopt as take

    take(ctx)
    state = str(ctx.store.declaration.state_path)
    return Done("init", f"{state} belongs to {ctx.store.location} now", {"inventory": ctx.store.location})


def _group_id(group: str) -> int:
    import grp

    try:
        return grp.getgrnam(group).gr_gid
    except KeyError:
        raise UsageError(f"there is no group {group!r} on this machine", hint="getent group lists them") from None


def copy(ctx: Context, destination: str) -> Done:
    """Copies the whole inventory to a home that is not there yet, row by row: nothing is lost or judged.

    Reserved stays reserved and dirty stays dirty. The destination appears whole, or not at all.
    """
    look(ctx)
    path, is_declared = resolve(destination)
    target = state_file(path) if is_declared else path
    for place in dict.fromkeys((path, target)):
        if place.exists():
            raise StateRefusedError(f"there is {place} already: nothing was copied", hint="choose another name")
    if not path.parent.is_dir():
        raise UnreachableError(f"there is no folder {path.parent}", hint=f"mkdir -p {path.parent}")
    with building(target) as partial:
        counts, declaration = _fill(ctx, partial, path if is_declared else None)
    # The state comes first: a TOML file without its state would make every host initial, used ones too.
    if is_declared:
        with building(path) as partial:
            partial.write_bytes(declaration)
    return Done(
        "copy",
        f"copied {ctx.store.location} to {path}: {plural(counts['hosts'], 'host')}, "
        f"{plural(counts['reservations'], 'reservation')}, {plural(counts['events'], 'event')}",
        {"source": ctx.store.location, "destination": str(path), "rows": counts},
    )


def _fill(ctx: Context, partial: Path, declared_by: Path | None) -> tuple[dict[str, int], bytes]:
    from bmhctl.usecases.declaring import FINGERPRINT, INTENT, OWNER

    database = new_database(partial)
    filled = Store(database, claims=ctx.store.claims, folder=str(partial.parent))
    with closing(filled) as target, ctx.store.snapshot(), target.transaction():
        for table in TABLES:
            target.load(table, ctx.store.dump(table))
        for key in (FINGERPRINT, INTENT):
            target.put(key, None)
        target.put(OWNER, str(declared_by) if declared_by else None)
        return target.loaded(), _declaration(ctx) if declared_by else b""


def _declaration(ctx: Context) -> bytes:
    from bmhctl.stores.edit import Add, edited

    hosts = [host for host in ctx.store.hosts(HostQuery()) if not host.undeclared]
    policy = (ctx.store.policy_text() or "").encode()
    return edited(policy, [Add(host.spec) for host in hosts], "the copy")
