"""What a system boots from next, and its indicator light: changed, and then read until the BMC shows it."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

from bmhctl.domain.model import BootTarget
from bmhctl.probes.credentials import BmcError
from bmhctl.probes.redfish_client import POLL, Client, Json, PassingError, RefusedError, belongs_to
from bmhctl.probes.redfish_system import System, listed, table, texts

_AGAIN = 15.0  # seconds after which a change that is not shown is asked for again
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
        change: Json = {"BootSourceOverrideEnabled": "Disabled"}
    else:
        change = {"BootSourceOverrideEnabled": "Once", "BootSourceOverrideTarget": wanted}

    def is_seen(read: Json) -> bool:
        found = table(read.get("Boot"))
        return all(found.get(key) == value for key, value in change.items())

    _change(system, {"Boot": change}, is_seen, f"booting once from {target}")
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
    for position, change in enumerate(ways):
        (key, value) = next(iter(change.items()))
        try:
            _change(system, change, partial(_has, key, value), f"the light {word}", place, read)
        except RefusedError:
            if position == len(ways) - 1:
                raise
        else:
            break
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


def _change(
    system: System,
    change: Json,
    is_seen: Callable[[Json], bool],
    words: str,
    place: str | None = None,
    read: Json | None = None,
) -> None:
    """Change properties of the system (or of ``place``) and read them until they are as they were asked for."""
    client = system.client
    path, found = place or system.path, read or system.report
    if is_seen(found):
        return
    sent_at: float | None = None
    while True:
        if sent_at is None or time.monotonic() - sent_at > _AGAIN:
            sent_at = _patch(client, path, change, found)
        if client.left <= POLL:
            raise BmcError(
                f"{client.name} accepted {words}, but does not show it after {client.seconds:g} s",
                hint="look at the BMC itself",
            )
        client.pause(POLL / 2)
        found = client.get(path, patient=True)
        if is_seen(found):
            client.note_sent(None)
            return


def _patch(client: Client, path: str, change: Json, found: Json) -> float | None:
    """Send a change, to the settings of the resource if it takes none itself; None if it was not received."""
    try:
        try:
            client.patch(path, change, found.get("@odata.etag"))
        except RefusedError:
            settings = client.link(table(found.get("@Redfish.Settings")).get("SettingsObject"))
            if settings is None or not belongs_to(settings, path):
                raise
            client.patch(settings, change, table(client.find(settings)).get("@odata.etag"))
    except PassingError as passing:
        if not passing.sent:
            client.retry_later(passing)
            return None
    return time.monotonic()


def _has(key: str, value: object, resource: Json) -> bool:
    return resource.get(key) == value


def _has_light(resource: Json) -> bool:
    return isinstance(resource.get("LocationIndicatorActive"), bool) or isinstance(resource.get("IndicatorLED"), str)
