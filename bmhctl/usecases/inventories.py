"""Create an inventory; use a retired one again, or a state file with another TOML file."""

from __future__ import annotations

from bmhctl.errors import StateRefusedError, UnreachableError, UsageError
from bmhctl.results import Done
from bmhctl.stores.locations import is_on_server, resolve
from bmhctl.stores.meta import FINGERPRINT, OWNER
from bmhctl.stores.os_files import unreachable
from bmhctl.stores.sqlite.files import building, create_database
from bmhctl.stores.state_files import state_file
from bmhctl.usecases.shared.context import Context

TEMPLATE = """\
#:schema bmh.schema.json
# The line above is for editors with taplo or tombi:
# bmhctl schema >bmh.schema.json writes that file.

# An inventory of bmhctl: what is declared about hosts.
# Their states are in the state file beside it.

# [defaults]
# ttl = "4h"                # how long a reservation lasts by default
# max_ttl = "3d"            # the longest that a lease may last
# quarantine_after = 3      # failed cleanups in a row before maintenance

# [checks.ssh]              # all must pass before a host is available
# tcp = 22
# timeout = "5s"

# [cleanup.wipe]            # all must succeed before a used host is clean
# command = ["./wipe.sh", "{address}"]
# timeout = "2h"

# [hosts.node01]
# address = "10.0.0.11"
# mac = "bc:55:85:92:de:b7"
# labels = { arch = "x86_64", rack = "r1" }
"""
"""The text of a new TOML inventory: nothing is declared, examples are commented out."""


def init(location: str, *, group: str | None = None) -> Done:
    """Create an empty inventory at ``location``, a path or a URL; return what was created, and the next command.

    ``group`` is a group of this machine whose members may write the inventory. Raises :class:`StateRefusedError` if
    there is an inventory already, :class:`UnreachableError` if it can't be written, and :class:`UsageError` for an
    unknown group.
    """
    if is_on_server(location):
        return _init_on_server(location, group)
    path, is_declared = resolve(location)
    group_id = None if group is None else _group_id(group)
    state = state_file(path) if is_declared else path
    try:
        if not path.parent.is_dir():
            raise UnreachableError(f"there is no folder {path.parent}", hint=f"mkdir -p {path.parent}")
        for there in (path, state):
            if there.exists():
                from bmhctl.stores.toml.file import make_again

                hint = f"look at it: bmhctl -i {path} status" if path.exists() else make_again(state)
                raise StateRefusedError(f"there is {there} already: nothing was changed", hint=hint)
        if is_declared:
            with building(path, group_id) as partial:
                partial.write_text(TEMPLATE, encoding="utf-8")
        create_database(state, group=group_id)
    except FileExistsError as error:
        raise StateRefusedError(
            f"{path} was created by another command at the same time", hint=f"look at it: bmhctl -i {path} status"
        ) from error
    except OSError as error:
        raise unreachable(f"can't create {path}", error) from error
    return Done("init", f"created {path}", {"inventory": str(path)}, (f"next: bmhctl -i {location} add node01",))


def _init_on_server(location: str, group: str | None) -> Done:
    from bmhctl.stores.postgres.open import creating
    from bmhctl.stores.postgres.url import Address

    if group is not None:
        raise UsageError("--group is for files", hint="bmhctl policy grants prints the SQL that gives others access")
    with creating(location) as store:
        store.meta.renew_identity()
    address = Address.parse(location)
    next_step = f"next: bmhctl -i {address.typed} add node01"
    return Done("init", f"created {address.shown}", {"inventory": address.shown}, (next_step,))


def adopt(ctx: Context) -> Done:
    """Tie the state file of a TOML inventory to this TOML file, if it belonged to another one.

    Nothing else changes. Raises :class:`UsageError` for an inventory without a TOML file.
    """
    if ctx.store.declaration is None:
        raise UsageError("--adopt is for a TOML inventory", hint="-i lab.toml")
    with ctx.transaction():
        ctx.store.meta.put(OWNER, ctx.store.declaration.identity)
        ctx.store.meta.put(FINGERPRINT, None)
    state = str(ctx.store.declaration.state_path)
    return Done("init", f"{state} belongs to {ctx.store.location} now", {"inventory": ctx.store.location})


def _group_id(group: str) -> int:
    import grp

    try:
        return grp.getgrnam(group).gr_gid
    except KeyError:
        raise UsageError(f"there is no group {group!r} on this machine", hint="getent group lists them") from None


def reactivate(ctx: Context) -> Done:
    """Allow changes in a retired inventory again; return a note on its successor.

    Raises :class:`StateRefusedError` if the inventory is not retired.
    """
    successor = ctx.store.meta.successor()
    if successor is None:
        raise StateRefusedError(f"{ctx.store.location} is not retired", hint="bmhctl status")
    with ctx.transaction():
        ctx.store.meta.reactivate()
    return Done(
        "init",
        f"{ctx.store.location} is in use again",
        {"inventory": ctx.store.location, "successor": successor},
        (f"{successor} may have changed since and has the same hosts: use only one of the two inventories",),
    )
