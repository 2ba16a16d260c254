"""NetBox devices: pages of `GET /api/dcim/devices/`, lists of devices, one device, or a CSV of devices."""

from __future__ import annotations

from collections.abc import Mapping

from bmhctl.domain.model import State
from bmhctl.formats.importers.csv_table import plain
from bmhctl.formats.importers.record import Item, Record, alone, bmc_url, state_of, text_of
from bmhctl.formats.manifest_fields import Fields, bad_field

STATES: dict[str, State | None] = {
    **dict.fromkeys(("", "planned", "staged", "inventory"), State.INITIAL),
    "active": State.RESERVED,
    "failed": State.TAINTED,
    "offline": State.MAINTENANCE,
    "decommissioning": None,
}
"""The values of a device's status, each with the state of a host with this status."""

_COLUMNS = {
    "device_role": "role",
    "rack_name": "rack",
    "position_u": "position",
    "serial_number": "serial",
    "ip_address": "primary_ip",
    "ipv4_address": "primary_ip4",
    "ipv6_address": "primary_ip6",
}
"""The columns of a CSV whose names differ from those of the API."""

_LABELS = ("site", "location", "rack", "role", "platform", "tenant", "cluster")


@alone
def reader(item: Item) -> Record:
    """Return the host of a device."""
    fields = item.fields
    if isinstance(fields.data.get("device_type"), int):
        raise bad_field("device_type", "is a number, as in a request", hint="GET /api/dcim/devices/ has whole devices")
    if all(isinstance(value, str) for value in item.data.values()):
        fields = Fields(_device({plain(key): value for key, value in item.data.items()}))
    status = fields if isinstance(fields.data.get("status"), str) else fields.fields("status")
    numbered = isinstance(status.data.get("value"), int)  # the form of NetBox before 2.7
    word, state = state_of(status, "status" if status is fields else "label" if numbered else "value", STATES)
    kind = fields.fields("device_type")
    role = "role" if fields.data.get("role") else "device_role"
    labels = {key: _name(fields, role if key == "role" else key) for key in _LABELS}
    labels |= {"position": (text_of(fields.data.get("position")) or "").removesuffix(".0")}
    return Record(
        fields.squeezed("name"),
        id=text_of(fields.data.get("id")),
        address=_address(fields, "primary_ip4") or _address(fields, "primary_ip") or _address(fields, "primary_ip6"),
        bmc={"address": bmc_url(_address(fields, "oob_ip"))},
        labels=labels,
        groups=[name for tag in _tags(fields) if (name := tag.line("slug") or tag.line("name"))],
        attributes={
            **{key: fields.data.get(key) for key in ("id", "asset_tag", "serial")},
            **(item.data if fields.data is not item.data else {}),
            **{key: _custom(value) for key, value in fields.fields("custom_fields").data.items()},
        },
        hardware={
            "vendor": kind.fields("manufacturer").squeezed("name"),
            "model": kind.squeezed("model"),
            "serial": fields.squeezed("serial"),
        },
        note=fields.squeezed("description"),
        word=word,
        state=state,
        gone="it is being decommissioned in NetBox",
        owner=_tenant(fields) if state is State.RESERVED else None,
        fault="failed in NetBox" if state is State.TAINTED else None,
        aside=("offline in NetBox",) if state is State.MAINTENANCE else (),
    )


def _device(columns: Mapping[str, object]) -> dict[str, object]:
    """Return a device in a line of NetBox's CSV, exported or for its import, in the form of NetBox's API."""
    device = {_COLUMNS.get(key, key): value for key, value in columns.items()}
    kind = {"model": columns.get("type") or columns.get("device_type")}
    device["device_type"] = {**kind, "manufacturer": {"name": columns.get("manufacturer")}}
    device["tags"] = [tag.strip() for tag in str(columns.get("tags") or "").split(",") if tag.strip()]
    return device


def _tenant(fields: Fields) -> str | None:
    tenant = fields.data.get("tenant")
    return fields.squeezed("tenant") if isinstance(tenant, str) else _display(fields.fields("tenant"))


def _name(fields: Fields, key: str) -> str | None:
    """Return the slug of the object to which a field refers, or else its name; some listings have only the name."""
    value = fields.data.get(key)
    if not isinstance(value, dict):
        return text_of(value)
    nested = fields.fields(key)
    return nested.line("slug") or _display(nested)


def _display(nested: Fields) -> str | None:
    return nested.squeezed("name") or nested.squeezed("display")


def _address(fields: Fields, key: str) -> str | None:
    value = fields.data.get(key)
    return fields.line(key) if isinstance(value, str) else fields.fields(key).line("address")


def _tags(fields: Fields) -> list[Fields]:
    value = fields.data.get("tags")
    if isinstance(value, list) and all(isinstance(each, str) for each in value):  # the key in NetBox before 2.9
        return [Fields({"name": each}) for each in value]
    return fields.rows("tags")


def _custom(value: object) -> object:
    """Return the value of a custom field; for several choices or objects, which are a list, their names in a line."""
    if not isinstance(value, list):
        return _choice(value)
    return ", ".join(text for each in value if (text := text_of(_choice(each))))


def _choice(value: object) -> object:
    """Return a value; for a choice or an object, which is a mapping, return its name."""
    if not isinstance(value, dict):
        return value
    return next((value[key] for key in ("value", "slug", "name", "display") if value.get(key)), None)
