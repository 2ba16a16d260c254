"""The virtual media of a system: insert or eject an image, and read until the BMC shows the change."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from bmhctl.probes.credentials import BmcError
from bmhctl.probes.redfish_client import Client, belongs_to
from bmhctl.probes.redfish_errors import CHANGE_HINT, PassingError, first_accepted
from bmhctl.probes.redfish_reply import Json, table
from bmhctl.probes.redfish_system import System, texts
from bmhctl.probes.redfish_time_limit import POLL

_DISCS = ("CD", "DVD")


def insert(system: System, image: str) -> str:
    """Insert the image at this URL into the system's virtual drive, and return the URL once the BMC shows it.

    Another image is ejected first. Raises :class:`BmcError` if no virtual drive belongs only to this system.
    """
    drive = _drive(system)
    if _holds(drive[1], image):
        return image
    if _is_loaded(drive[1]):
        _eject(system, drive)
    whole: Json = {"Image": image, "Inserted": True, "WriteProtected": True}
    how: Json = {"TransferMethod": "Stream", "TransferProtocolType": image.partition(":")[0].upper()}
    bare: Json = {"Image": image}  # some BMCs accept only the image, others also require the protocol of its URL
    _change(system, drive, "InsertMedia", (whole, bare, bare | how), whole, lambda shown: _holds(shown, image))
    return image


def eject(system: System) -> str:
    """Eject the image in the system's virtual drive; return what was done once the BMC shows it."""
    drive = _drive(system)
    if not _is_loaded(drive[1]):
        return "nothing to eject"
    _eject(system, drive)
    return "ejected"


def _eject(system: System, drive: tuple[str, Json]) -> None:
    empty: Json = {"Image": None, "Inserted": False}
    _change(system, drive, "EjectMedia", ({},), empty, lambda shown: not _is_loaded(shown))


def _drive(system: System) -> tuple[str, Json]:
    """Return the path and the report of the first virtual drive for discs."""
    for path in _devices(system):
        found = system.client.find(path)
        kinds = texts(found.get("MediaTypes")) if found is not None else None
        if found is not None and kinds is not None and any(kind in kinds for kind in _DISCS):
            return path, found
    raise BmcError(
        f"{system.client.name} has no virtual CD drive for {system.path}",
        hint='insert and eject need one; boot_once = "pxe" needs none',
    )


def _devices(system: System) -> Iterator[str]:
    client = system.client
    collection = client.link(system.report.get("VirtualMedia"))
    if collection is not None and belongs_to(collection, system.path):
        yield from client.members(collection, needed=False) or ()
    for _, manager in system.linked("ManagedBy"):
        collection = client.link(manager.get("VirtualMedia"))
        # No other system may get the image, so the manager of the drives must manage only this system.
        if collection is not None and system.is_alone_in(manager, "ManagerForServers"):
            yield from client.members(collection, needed=False) or ()


def _change(
    system: System,
    drive: tuple[str, Json],
    action: str,
    bodies: tuple[Json, ...],
    properties: Json,
    is_done: Callable[[Json], bool],
) -> None:
    """Send an action, or change the properties if the drive has no such action, and read until ``is_done``."""
    client, (path, found) = system.client, drive
    target = client.where.path_of(table(table(found.get("Actions")).get(f"#VirtualMedia.{action}")).get("target"))
    if target is not None and not belongs_to(target, path):
        raise BmcError(f"{client.name} would change another drive, {target}, when asked for {path}")
    is_sent = False
    while True:
        if not is_sent:
            try:
                _send(client, path, target, bodies, properties, found)
                client.limit.note_sent(action, hint=CHANGE_HINT)
                is_sent = True
            except PassingError as passing:
                if not passing.sent:
                    client.limit.retry_later(passing)
                else:
                    client.limit.note_sent(action, passing.error, CHANGE_HINT)
                    is_sent = True  # the reads below show whether the BMC received it
        client.limit.expect(
            lambda: BmcError(
                f"{client.answer_to(action)} does not show it after {client.limit.seconds:g} s",
                hint=client.why("look at the BMC itself: can it reach the image?"),
            )
        )
        client.limit.pause(POLL / 2)
        found = client.get(path, missing="has lost its virtual drive", patient=True)
        if is_done(found):
            client.limit.note_sent(None)
            return
        client.check_task()


def _send(
    client: Client, path: str, target: str | None, bodies: tuple[Json, ...], properties: Json, found: Json
) -> None:
    if target is None:
        client.patch(path, properties, found.get("@odata.etag"))
        return
    first_accepted(client.name, (partial(client.post, target, body, found.get("@odata.etag")) for body in bodies))


def _is_loaded(drive: Json) -> bool:
    return drive.get("Inserted") is True or (drive.get("Inserted") is None and bool(drive.get("Image")))


def _holds(drive: Json, image: str) -> bool:
    """Return whether a drive shows the image; some BMCs show only the last part of its URL, as image or as its name."""
    shown = drive.get("Image") or drive.get("ImageName")
    return _is_loaded(drive) and shown in (image, image.rsplit("/", 1)[-1])
