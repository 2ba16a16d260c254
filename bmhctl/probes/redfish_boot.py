"""Change the next boot or the indicator light of a system, and read until the BMC shows the change."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial

from bmhctl.domain.model import BootTarget
from bmhctl.probes.credentials import BmcError
from bmhctl.probes.redfish_client import Client, belongs_to
from bmhctl.probes.redfish_errors import CHANGE_HINT, RefusedError, combined, first_accepted
from bmhctl.probes.redfish_reply import Json, table
from bmhctl.probes.redfish_system import System, listed, texts
from bmhctl.probes.redfish_time_limit import POLL
from bmhctl.support.values import Frozen

_AGAIN = 15.0  # seconds after which a change is requested again if the BMC does not show it
_BOOT = {
    BootTarget.PXE: ("Pxe",),
    BootTarget.HDD: ("Hdd",),
    BootTarget.CD: ("UsbCd", "Cd"),  # a BMC that allows both has its virtual drive at UsbCd
    BootTarget.USB: ("Usb",),
    BootTarget.BIOS: ("BiosSetup",),
    BootTarget.HTTP: ("UefiHttp",),
    BootTarget.DIAGNOSTICS: ("Diags",),
}
_TIMES, _SOURCE = "BootSourceOverrideEnabled", "BootSourceOverrideTarget"
_MODE, _UEFI = "BootSourceOverrideMode", "UEFI"


def boot_once(system: System, target: BootTarget) -> str:
    """Set that only the next start boots from ``target``; return the target once the BMC shows it."""
    properties: Json = {_TIMES: "Disabled"}
    boot = table(system.report.get("Boot"))
    words = f"booting once from {target}"
    if target is not BootTarget.NONE:
        properties = {_TIMES: "Once", _SOURCE: _source(system, boot, target)}
    shown: Json = {key: boot[key] for key in (_SOURCE, _MODE) if isinstance(boot.get(key), str)}
    if target is BootTarget.HTTP and shown.get(_MODE, _UEFI) != _UEFI:
        properties[_MODE] = _UEFI  # only UEFI boots over HTTP
    change = _Change(system.path, properties, words, "Boot", whole=shown | properties)
    found = _apply(system, change, system.report)
    was, mode = boot.get(_MODE), table(found.get("Boot")).get(_MODE)
    if was == _UEFI and isinstance(mode, str) and mode != _UEFI and target is not BootTarget.NONE:
        # Some BMCs change the boot mode if the request does not have it.
        properties[_MODE] = _UEFI
        _apply(system, _Change(system.path, properties, f"{words} in UEFI mode", "Boot"), found)
    return target.value


def _source(system: System, boot: Json, target: BootTarget) -> str:
    """Return the BMC's name for a target; raise :class:`BmcError` if it does not allow it, or not for one boot only."""
    sources = texts(boot.get(f"{_SOURCE}@Redfish.AllowableValues"))
    known = [name for name in _BOOT[target] if name in (sources or _BOOT[target][-1:])]
    if not known:
        raise BmcError(f"{system.client.name} can't boot from {target}: it allows {listed(sources or ())}")
    times = texts(boot.get(f"{_TIMES}@Redfish.AllowableValues"))
    if times is not None and "Once" not in times:
        raise BmcError(f"{system.client.name} can't boot only once from {target}: it allows {listed(times)}")
    return known[0]


def identify(system: System, lit: bool) -> str:
    """Switch the indicator light of the system (or of its chassis, if that holds no other); ``on`` or ``off``."""
    word = "on" if lit else "off"
    name, refusals = system.client.name, list[RefusedError]()
    trouble = BmcError(f"{name} has no indicator light for this host")
    for place, read in _lights(system):
        trouble = BmcError(f"{name} can't switch the host's indicator light {word}")
        for properties, shown_as in _light(read, lit):
            try:
                _apply(system, _Change(place, properties, f"the light {word}", shown_as=shown_as), read)
            except RefusedError as error:
                refusals.append(error)  # the BMC did nothing: try the next way
            else:
                return word
    raise combined(name, refusals) if refusals else trouble


def _lights(system: System) -> Iterator[tuple[str, Json]]:
    """Yield the path and the report of each resource whose indicator light belongs only to this system."""
    if _has_light(system.report):
        yield system.path, system.report
    for path, chassis in system.linked("Chassis"):
        if _has_light(chassis) and system.is_alone_in(chassis, "ComputerSystems"):
            yield path, chassis


def _light(read: Json, lit: bool) -> Iterator[tuple[Json, Json | None]]:
    """Yield the ways to switch a light: the properties to change, and other values by which BMCs show the change."""
    if isinstance(read.get("LocationIndicatorActive"), bool):
        yield {"LocationIndicatorActive": lit}, None
    state = read.get("IndicatorLED")
    if not isinstance(state, str):
        return
    allowed = texts(read.get("IndicatorLED@Redfish.AllowableValues"))
    # Some systems have a steady light when all is well: it blinks to identify the system, and is steady again after
    # that.
    names = ("Blinking", "Lit") if lit else ("Off", "Lit") if state == "Blinking" else ("Off",)
    for name in names:
        if allowed is None or name in allowed:
            yield {"IndicatorLED": name}, {"IndicatorLED": "Lit"} if lit and state == "Off" else None


class _Change(Frozen):
    """A change of ``properties`` at ``path``, with ``words`` for messages.

    ``part`` is the place of the properties in the resource. ``shown_as`` are other values that show the change,
    ``whole`` the properties together with others that some BMCs require, and some refuse.
    """

    path: str
    properties: Json
    words: str
    part: str | None = None
    shown_as: Json | None = None
    whole: Json | None = None

    def bodies(self) -> Iterator[Json]:
        """Yield the bodies of the requests that make the change, in the order in which they are tried."""
        for each in [self.properties, *([self.whole] if self.whole not in (None, self.properties) else [])]:
            yield each if self.part is None else {self.part: each}

    def shown(self, resource: Json) -> Json:
        """Return the changed properties as a resource shows them."""
        found = resource if self.part is None else table(resource.get(self.part))
        return {key: found.get(key) for key in self.properties}


def _apply(system: System, change: _Change, found: Json) -> Json:
    """Send a change, and read the resource (or its settings, if these took the change) until it shows the change.

    Return the properties that it shows.
    """
    client = system.client
    if change.shown(found) == change.properties:
        return found
    sent: tuple[float, str] | None = None
    while True:
        if sent is None or time.monotonic() > sent[0]:
            sent = _patch(client, change, found, is_without_effect=sent is not None)
        client.limit.expect(partial(_unseen, client, change, found))
        client.limit.pause(POLL / 2)
        for path in dict.fromkeys((sent[1] if sent else change.path, change.path)):
            found = _read(system, path)
            if change.shown(found) in (change.properties, change.shown_as):
                client.limit.note_sent(None)
                return found
        client.check_task()


def _unseen(client: Client, change: _Change, found: Json) -> BmcError:
    """Return the error for a change that was sent, and which the BMC does not show."""
    shown = listed([str(value) for value in change.shown(found).values()])
    hint = client.why("check the BMC itself")
    if change.shown(found).get(_TIMES) == "Continuous" and change.properties[_TIMES] == "Once":
        hint = "it boots from there every time, until bmhctl boot-once HOST none removes it"
    return BmcError(f"{client.answer_to(change.words)} shows {shown} after {client.limit.seconds:g} s", hint=hint)


def _read(system: System, path: str) -> Json:
    if path != system.path:
        return system.client.get(path, patient=True)
    system.look()
    return system.report


def _patch(client: Client, change: _Change, found: Json, *, is_without_effect: bool) -> tuple[float, str] | None:
    """Send a change to the resource, or to its settings if the resource refuses the change or ignored it.

    Return when the change may be sent again, and where it was sent; None if the BMC did nothing.
    """
    paths = [change.path]

    def send() -> None:
        paths.append(first_accepted(client.name, _ways(client, change, found, is_without_effect=is_without_effect)))

    trouble = client.attempt(f"the change ({change.words})", send, CHANGE_HINT)
    if trouble is not None and not trouble.sent:
        return None
    pause = _AGAIN if trouble is None or trouble.after is None else trouble.after
    return time.monotonic() + pause, paths[-1]


def _ways(client: Client, change: _Change, found: Json, *, is_without_effect: bool) -> Iterator[Callable[[], str]]:
    """Yield a function for each way to send a change; it returns the path to which it sent the change."""

    def send(path: str, read: Json, body: Json) -> str:
        client.patch(path, body, read.get("@odata.etag"))
        return path

    bodies = list(change.bodies())
    if is_without_effect:
        bodies.reverse()  # some BMCs accept the properties alone, and set nothing without the others
    settings = _settings(client, change.path, found) if is_without_effect else None
    if settings is None:
        yield from (partial(send, change.path, found, body) for body in bodies)
        settings = None if is_without_effect else _settings(client, change.path, found)
    if settings is not None:
        yield from (partial(send, *settings, body) for body in bodies)


def _settings(client: Client, path: str, resource: Json) -> tuple[str, Json] | None:
    """Return the path of the settings of a resource, and what they show; None if the resource has no settings."""
    link = table(table(resource.get("@Redfish.Settings")).get("SettingsObject"))
    settings = client.link(link) if link else f"{path.rstrip('/')}/SD"  # BMCs of AMI have no link to their settings
    if settings is None or not belongs_to(settings, path):
        return None
    found = client.find(settings)
    return None if found is None else (settings, found)


def _has_light(resource: Json) -> bool:
    return isinstance(resource.get("LocationIndicatorActive"), bool) or isinstance(resource.get("IndicatorLED"), str)
