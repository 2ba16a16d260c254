"""What a system boots from next, and its indicator light: changed, and then read until the BMC shows it."""

from __future__ import annotations

import time

from bmhctl.domain.bmc_commands import BootTarget
from bmhctl.probes.credentials import BmcError
from bmhctl.probes.redfish_client import POLL, Client, PassingError, RefusedError, belongs_to
from bmhctl.probes.redfish_reply import Json
from bmhctl.probes.redfish_system import System, listed, table, texts
from bmhctl.support.values import Frozen

_AGAIN = 15.0  # seconds after which a change is requested again if the BMC does not show it
_BOOT = {
    BootTarget.PXE: "Pxe",
    BootTarget.HDD: "Hdd",
    BootTarget.CD: "Cd",
    BootTarget.USB: "Usb",
    BootTarget.BIOS: "BiosSetup",
    BootTarget.HTTP: "UefiHttp",
    BootTarget.DIAGNOSTICS: "Diags",
    BootTarget.NONE: "None",
}


def boot_once(system: System, target: BootTarget) -> str:
    """Have the next start, and only that, boot from ``target``; return it once the BMC shows it."""
    wanted = _BOOT[target]
    boot = table(system.report.get("Boot"))
    allowed = texts(boot.get("BootSourceOverrideTarget@Redfish.AllowableValues"))
    if allowed is not None and wanted not in allowed and target is not BootTarget.NONE:
        raise BmcError(f"{system.client.name} can't boot from {target}: it allows {listed(allowed)}")
    if target is BootTarget.NONE:
        properties: Json = {"BootSourceOverrideEnabled": "Disabled"}
    else:
        properties = {"BootSourceOverrideEnabled": "Once", "BootSourceOverrideTarget": wanted}
    _apply(system, _Change(system.path, properties, f"booting once from {target}", "Boot"), system.report)
    return target.value


def identify(system: System, lit: bool) -> str:
    """Switch the indicator light of the system (or of its chassis, if that holds no other); ``on`` or ``off``."""
    client = system.client
    place, read = system.path, system.report
    if not _has_light(read):
        chassis = _own_chassis(system)
        if chassis is None:
            raise BmcError(f"{client.name} has no indicator light for it")
        place, read = chassis
    ways: list[Json] = []
    if isinstance(read.get("LocationIndicatorActive"), bool):
        ways.append({"LocationIndicatorActive": lit})
    if isinstance(read.get("IndicatorLED"), str):
        allowed = texts(read.get("IndicatorLED@Redfish.AllowableValues"))
        names = ("Blinking", "Lit") if lit else ("Off",)
        ways += [{"IndicatorLED": name} for name in names if allowed is None or name in allowed]
    if not ways:
        raise BmcError(f"{client.name} can't switch its indicator light {'on' if lit else 'off'}")
    word = "on" if lit else "off"
    for way in ways[:-1]:
        try:
            _apply(system, _Change(place, way, f"the light {word}"), read)
        except RefusedError:
            continue
        return word
    _apply(system, _Change(place, ways[-1], f"the light {word}"), read)
    return word


def _own_chassis(system: System) -> tuple[str, Json] | None:
    client = system.client
    links = table(system.report.get("Links")).get("Chassis")
    for value in links if isinstance(links, list) else ():
        path = client.link(value)
        chassis = client.find(path) if path is not None else None
        if path is None or chassis is None or not _has_light(chassis):
            continue
        systems = table(chassis.get("Links")).get("ComputerSystems")
        paths = [client.link(each) for each in systems] if isinstance(systems, list) else []
        if len(paths) == 1 and paths[0] is not None and belongs_to(paths[0], system.path):
            return path, chassis
    return None


class _Change(Frozen):
    """Properties to change (``body``) at ``path``, in words; ``part`` is where they are in the resource."""

    path: str
    properties: Json
    words: str
    part: str | None = None

    @property
    def body(self) -> Json:
        return self.properties if self.part is None else {self.part: self.properties}

    def shown(self, resource: Json) -> Json:
        """Return the changed properties as a resource shows them."""
        found = resource if self.part is None else table(resource.get(self.part))
        return {key: found.get(key) for key in self.properties}


def _apply(system: System, change: _Change, found: Json) -> None:
    """Send a change, and read the resource (or its settings, if they took it) until it is shown."""
    client = system.client
    if change.shown(found) == change.properties:
        return
    sent: tuple[float, str] | None = None
    while True:
        if sent is None or time.monotonic() - sent[0] > _AGAIN:
            sent = _patch(client, change, found)
        if client.left <= POLL:
            shown = listed([str(value) for value in change.shown(found).values()])
            raise BmcError(
                f"{client.name} accepted {change.words}, but shows {shown} after {client.seconds:g} s",
                hint="check the BMC itself",
            )
        client.pause(POLL / 2)
        for path in dict.fromkeys((change.path, sent[1] if sent else change.path)):
            found = _read(system, path)
            if change.shown(found) == change.properties:
                client.note_sent(None)
                return
        client.check_task()


def _read(system: System, path: str) -> Json:
    if path != system.path:
        return system.client.get(path, patient=True)
    system.look()
    return system.report


def _patch(client: Client, change: _Change, found: Json) -> tuple[float, str] | None:
    """Send a change, to the settings of the resource if it takes none itself.

    Returns when and where it was sent; None if it was not received.
    """
    path = change.path
    try:
        try:
            client.patch(path, change.body, found.get("@odata.etag"))
        except RefusedError:
            settings = client.link(table(found.get("@Redfish.Settings")).get("SettingsObject"))
            if settings is None or not belongs_to(settings, path):
                raise
            path = settings
            client.patch(path, change.body, table(client.find(path)).get("@odata.etag"))
    except PassingError as passing:
        if not passing.sent:
            client.retry_later(passing)
            return None
    return time.monotonic(), path


def _has_light(resource: Json) -> bool:
    return isinstance(resource.get("LocationIndicatorActive"), bool) or isinstance(resource.get("IndicatorLED"), str)
