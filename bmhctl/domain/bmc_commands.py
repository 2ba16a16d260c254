"""What a BMC can do with a host: its power, its indicator light, its next boot."""

from __future__ import annotations

from bmhctl.support.values import Words


class Power(Words):
    """The commands for a host's power and its indicator light."""

    ON = "on"
    OFF = "off"
    SOFT_OFF = "soft-off"
    CYCLE = "cycle"
    STATUS = "status"
    IDENTIFY = "identify"
    IDENTIFY_OFF = "identify-off"

    @property
    def switches(self) -> bool:
        """Whether this command changes the power, not only the indicator light or nothing."""
        return self in (Power.ON, Power.OFF, Power.SOFT_OFF, Power.CYCLE)


class BootTarget(Words):
    """What a host can boot from at its next start; ``NONE`` cancels an earlier choice."""

    PXE = "pxe"
    HDD = "hdd"
    CD = "cd"
    USB = "usb"
    BIOS = "bios"
    HTTP = "http"
    DIAGNOSTICS = "diagnostics"
    NONE = "none"
