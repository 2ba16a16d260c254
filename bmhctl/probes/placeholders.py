"""Fill the placeholders of a step's arguments with the values of a host."""

from __future__ import annotations

import re
from collections.abc import Mapping

from bmhctl.domain.model import HostSpec
from bmhctl.domain.policy import PLACEHOLDER


class UnfillableError(Exception):
    """A placeholder without a value, or with one that a program could take for an option."""


def fill(part: str, spec: HostSpec, params: Mapping[str, str] | None = None) -> str:
    """Return a text with a host's values in place of placeholders; raise :class:`UnfillableError` if one is missing.

    ``params`` are the values of ``{param.NAME}``.
    """

    def value(match: re.Match[str]) -> str:
        if match[0] in ("{{", "}}"):
            return match[0][0]
        group, _, key = match[1].partition(".")
        found = (params or {}).get(key) if group == "param" else _value(match[1], spec)
        if found is None:
            raise UnfillableError(f"it has no {match[1]} to put into {part!r}")
        if found.startswith("-"):
            raise UnfillableError(f"its {match[1]} {found!r} begins with '-': a program could take it for an option")
        return found

    return PLACEHOLDER.sub(value, part)


def _value(name: str, spec: HostSpec) -> str | None:
    group, _, key = name.partition(".")
    match group:
        case "labels":
            return spec.labels.get(key)
        case "hardware":
            value = spec.properties.get(key)
            return None if value is None else str(value)
        case "bmc":
            known = ("address", "type", "system_id")
            return str(getattr(spec.bmc, key)) if key in known and getattr(spec.bmc, key, None) is not None else None
        case _:
            return {"name": spec.name, "address": spec.address, "mac": spec.mac}.get(name)
