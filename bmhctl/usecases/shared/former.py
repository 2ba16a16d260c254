"""What an event keeps of a host as it was before its declaration changed: for ``history`` and ``undo``."""

from __future__ import annotations

from collections.abc import Mapping

from bmhctl.domain.host_spec import dump_spec
from bmhctl.domain.model import Host, PropertyValue
from bmhctl.stores.toml.intent_hosts import host_of, host_values
from bmhctl.support.values import Frozen, field

DECLARED, BY_HAND = "declared", "by_hand"
_HOST, _IMPORTED = "host", "imported"


class Former(Frozen):
    """How to write what events keep; ``by_hand``: the TOML file was edited by something else than bmhctl.

    ``imported`` is what the last import had said before, by the hosts' names.
    """

    by_hand: bool = False
    imported: Mapping[str, Mapping[str, PropertyValue]] = field(default_factory=dict)

    def of(self, host: Host | None, *, whole: bool = False) -> dict[str, object]:
        """Return what to keep of a host, None for one that was not there; ``whole``: its state, too."""
        kept: dict[str, object] = {
            DECLARED: None if host is None else {"name": host.name, **dump_spec(host.spec)},
        }
        if host is not None and whole:
            kept[_HOST] = host_values(host)
        if host is not None and host.name in self.imported:
            kept[_IMPORTED] = dict(self.imported[host.name])
        if self.by_hand:
            kept[BY_HAND] = True
        return kept


def whole_host(kept: Mapping[str, object]) -> Host:
    """Return the host in what :meth:`Former.of` kept of a whole one."""
    return host_of(kept[_HOST])  # type: ignore[arg-type]  # as host_values wrote it


def imported_of(kept: Mapping[str, object]) -> dict[str, PropertyValue] | None:
    """Return what the last import had said of the host, None for nothing."""
    found = kept.get(_IMPORTED)
    return dict(found) if isinstance(found, Mapping) else None
