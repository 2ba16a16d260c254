"""The virtual media of a system: insert or eject an image, and read until the BMC shows the change."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial

from bmhctl.probes.credentials import BmcError
from bmhctl.probes.redfish_client import Client, belongs_to
from bmhctl.probes.redfish_errors import CHANGE_HINT, RefusedError, combined, first_accepted
from bmhctl.probes.redfish_reply import Json, table
from bmhctl.probes.redfish_system import System, texts
from bmhctl.probes.redfish_time_limit import POLL

_DISCS = ("CD", "DVD")
_LOGIN: Json = {"UserName": "none", "Password": "none"}  # for BMCs that require a login, also where none is needed


def insert(system: System, image: str) -> str:
    """Insert the image at this URL into a virtual drive of the system, and return the URL once the BMC shows it.

    The drives are tried in turn, those with an action for this first, because BMCs have drives that only a person at
    their console can use. Another image in the drive is ejected first. Raises :class:`BmcError` if no virtual drive
    belongs only to this system.
    """
    drives = list(_drives(system))
    if not any(_holds(found, image) for _, found in drives):
        drives.sort(key=lambda drive: _target(system, drive, "InsertMedia") is None)
        first_accepted(system.client.name, (partial(_insert, system, drive, image) for drive in drives))
    return image


def _insert(system: System, drive: tuple[str, Json], image: str) -> None:
    if _is_loaded(drive[1]):
        _eject(system, drive)
    elif drive[1].get("Image"):  # some BMCs refuse an image while the drive still names an earlier one
        with suppress(RefusedError):
            _eject(system, drive)
    whole: Json = {"Image": image, "Inserted": True, "WriteProtected": True}
    how: Json = {"TransferMethod": "Stream", "TransferProtocolType": image.partition(":")[0].upper()}
    bare: Json = {"Image": image}  # some BMCs accept only the image, others also require the protocol of its URL

    def is_done(shown: Json) -> bool:
        # The drive was empty, so an image of this name is this image: some BMCs show its URL in another form.
        return _is_loaded(shown) and _name(shown) == _name(whole)

    _change(system, drive, "InsertMedia", (whole, bare, bare | how), whole, is_done)


def eject(system: System) -> str:
    """Eject the images in all virtual drives of the system; return what was done once the BMC shows it.

    Raises :class:`RefusedError`, after the other drives were ejected, for those whose images the BMC does not eject.
    """
    done, refusals = "nothing to eject", list[RefusedError]()
    for drive in _drives(system):
        if _is_loaded(drive[1]):
            try:
                _eject(system, drive)
            except RefusedError as error:
                refusals.append(error)
            done = "ejected"
    if refusals:
        raise combined(system.client.name, refusals)
    return done


def _eject(system: System, drive: tuple[str, Json]) -> None:
    empty: Json = {"Image": None, "Inserted": False}
    _change(system, drive, "EjectMedia", ({},), empty, lambda shown: not _is_loaded(shown))


def _drives(system: System) -> Iterator[tuple[str, Json]]:
    """Yield the path and the report of each virtual drive for discs; raise :class:`BmcError` if there is none."""
    has_drive = False
    for path in _devices(system):
        found = system.client.find(path)
        kinds = texts(found.get("MediaTypes")) if found is not None else None
        if found is not None and kinds is not None and any(kind in kinds for kind in _DISCS):
            has_drive = True
            yield path, found
    if not has_drive:
        raise BmcError(
            f"{system.client.name} has no virtual CD drive for {system.path}",
            hint=system.client.unread or 'insert and eject need one; boot_once = "pxe" needs none',
        )


def _devices(system: System) -> Iterator[str]:
    client = system.client
    collection = client.link(system.report.get("VirtualMedia"))
    if collection is not None and belongs_to(collection, system.path):
        yield from client.members(collection, needed=False) or ()
    for _, manager, is_own in system.managers():
        collection = client.link(manager.get("VirtualMedia"))
        if collection is not None and (is_own or system.is_only_one()):  # no other system may get the image
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
    target = _target(system, drive, action)
    if target is not None and not _is_of(system, path, target):
        raise BmcError(f"{client.name} would change another drive, {target}, when asked for {path}")
    is_sent = False
    while True:
        if not is_sent:
            send = partial(_send, client, path, target, bodies, properties, found)
            trouble = client.attempt(action, send, CHANGE_HINT)
            is_sent = trouble is None or trouble.sent  # the reads below show whether the BMC received it
        client.limit.expect(
            lambda: BmcError(
                f"{client.answer_to(action)} does not show the change after {client.limit.seconds:g} s",
                hint=client.why("check the BMC itself, and whether it can reach the image"),
            )
        )
        client.limit.pause(POLL / 2)
        found = client.get(path, missing="has lost its virtual drive", patient=True)
        if is_done(found):
            client.limit.note_sent(None)
            return
        client.check_task()


def _target(system: System, drive: tuple[str, Json], action: str) -> str | None:
    """Return the path of an action of a drive, the usual one if the drive names none; None if it has no such action."""
    path, found = drive
    actions, name = table(found.get("Actions")), f"#VirtualMedia.{action}"
    named = system.client.where.path_of(table(actions.get(name)).get("target"))
    return named or (f"{path}/Actions/VirtualMedia.{action}" if name in actions else None)


def _is_of(system: System, path: str, target: str) -> bool:
    """Return whether an action belongs to the drive at this path.

    A BMC may list a drive below the system, and have its actions below the manager, if that names no other system.
    """
    if belongs_to(target, path):
        return True
    name = path.rstrip("/").rpartition("/")[2]
    return any(belongs_to(target, f"{place}/VirtualMedia/{name}") for place, *_ in system.managers())


def _send(
    client: Client, path: str, target: str | None, bodies: tuple[Json, ...], properties: Json, found: Json
) -> None:
    tag = found.get("@odata.etag")
    if target is None:
        client.patch(path, properties, tag)
        return
    try:
        first_accepted(client.name, (partial(client.post, target, body, tag) for body in bodies))
    except RefusedError as error:
        if not any(name in error.message for name in _LOGIN):
            raise
        client.post(target, bodies[-1] | _LOGIN, tag)


def _is_loaded(drive: Json) -> bool:
    if drive.get("Inserted") is not None:
        return drive.get("Inserted") is True
    return bool(drive.get("Image")) and drive.get("ConnectedVia") != "NotConnected"


def _holds(drive: Json, image: str) -> bool:
    """Return whether a drive shows the image; some BMCs show only the last part of its URL, as image or as its name."""
    shown = drive.get("Image") or drive.get("ImageName")
    return _is_loaded(drive) and shown in (image, _name({"Image": image}))


def _name(drive: Json) -> str:
    """Return the last part of the image's URL that a drive shows, "" if it shows none."""
    shown = drive.get("Image") or drive.get("ImageName")
    return shown.rsplit("/", 1)[-1] if isinstance(shown, str) else ""
