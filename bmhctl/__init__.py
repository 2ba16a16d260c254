"""Lifecycle, reservations and history for shared bare-metal hosts, from a shell or from Python.

Exports ``open_inventory`` and the types of the model; each is imported at its first use.
"""

from __future__ import annotations

TYPE_CHECKING = False  # typing itself takes milliseconds, in which Ctrl-C would print a traceback
if TYPE_CHECKING:
    from bmhctl.api import Inventory as Inventory
    from bmhctl.api import open_inventory as open_inventory
    from bmhctl.domain.model import Bmc as Bmc
    from bmhctl.domain.model import Event as Event
    from bmhctl.domain.model import Host as Host
    from bmhctl.domain.model import HostSpec as HostSpec
    from bmhctl.domain.model import Reservation as Reservation
    from bmhctl.domain.model import State as State
    from bmhctl.errors import BmhctlError as BmhctlError
    from bmhctl.errors import ExitStatus as ExitStatus

_MODULES = {
    "Inventory": "bmhctl.api",
    "open_inventory": "bmhctl.api",
    "BmhctlError": "bmhctl.errors",
    "ExitStatus": "bmhctl.errors",
    "Bmc": "bmhctl.domain.model",
    "Event": "bmhctl.domain.model",
    "Host": "bmhctl.domain.model",
    "HostSpec": "bmhctl.domain.model",
    "Reservation": "bmhctl.domain.model",
    "State": "bmhctl.domain.model",
}

__all__ = list(_MODULES)


def __getattr__(name: str) -> object:
    if name in _MODULES:
        from importlib import import_module

        return getattr(import_module(_MODULES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
