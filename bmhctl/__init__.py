"""bmhctl: take turns on bare-metal hosts, from a shell or from Python.

``open_inventory`` and the model's types are here; each is imported when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bmhctl.api import Inventory as Inventory
    from bmhctl.api import open_inventory as open_inventory
    from bmhctl.errors import BmhctlError as BmhctlError
    from bmhctl.errors import ExitStatus as ExitStatus
    from bmhctl.model import Bmc as Bmc
    from bmhctl.model import Event as Event
    from bmhctl.model import Host as Host
    from bmhctl.model import HostSpec as HostSpec
    from bmhctl.model import Reservation as Reservation
    from bmhctl.model import State as State

_HOMES = {
    "Inventory": "bmhctl.api",
    "open_inventory": "bmhctl.api",
    "BmhctlError": "bmhctl.errors",
    "ExitStatus": "bmhctl.errors",
    "Bmc": "bmhctl.model",
    "Event": "bmhctl.model",
    "Host": "bmhctl.model",
    "HostSpec": "bmhctl.model",
    "Reservation": "bmhctl.model",
    "State": "bmhctl.model",
}

__all__ = list(_HOMES)


def __getattr__(name: str) -> object:
    if name in _HOMES:
        from importlib import import_module

        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
