"""What an event keeps of a host's earlier declaration, for ``history`` and ``undo``."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from bmhctl.domain.host_spec import dump_spec
from bmhctl.domain.model import Host, PropertyValue
from bmhctl.stores.declared_hosts import host_of, host_values
from bmhctl.support.values import Frozen

DECLARED, BY_HAND, COMMAND = "declared", "by_hand", "command"
_HOST, _IMPORTED = "host", "imported"


class Former(Frozen):
    """Writes what events keep of hosts.

    ``by_hand`` is whether the TOML file was edited by something other than bmhctl. ``imported`` returns the values of
    the last import before the change, by host name; it is called only for hosts that exist. ``command`` is the command
    that made the change, if it is not the one that the verb of the event names.
    """

    by_hand: bool = False
    imported: Callable[[], Mapping[str, Mapping[str, PropertyValue]]] = dict
    command: str | None = None

    def of(self, host: Host | None, *, whole: bool = False) -> dict[str, object]:
        """Return what to keep of a host; None for a new host. ``whole`` also keeps its state."""
        kept: dict[str, object] = {
            DECLARED: None if host is None else {"name": host.name, **dump_spec(host.spec)},
            COMMAND: self.command,
        }
        if host is not None and whole:
            kept[_HOST] = host_values(host)
        if host is not None and (imported := self.imported().get(host.name)) is not None:
            kept[_IMPORTED] = dict(imported)
        if self.by_hand:
            kept[BY_HAND] = True
        return kept


def whole_host(kept: Mapping[str, object]) -> Host:
    """Return the host from what :meth:`Former.of` kept with ``whole``."""
    return host_of(kept[_HOST])  # type: ignore[arg-type]  # as host_values wrote it


def imported_of(kept: Mapping[str, object]) -> dict[str, PropertyValue] | None:
    """Return the values that the last import had declared for the host; None if there were none."""
    found = kept.get(_IMPORTED)
    return dict(found) if isinstance(found, Mapping) else None
