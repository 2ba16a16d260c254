"""Read the values of parsed TOML or JSON tables: each with its type, or an error that names its key."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

from bmhctl.domain.units import parse_duration
from bmhctl.errors import InvalidError, UsageError, brief, nearest


def whole_number(value: object, least: int, most: int, where: str) -> int:
    """Return ``value`` if it is a whole number in these bounds; else raise :class:`InvalidError`."""
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise type_error(where, f"a whole number from {least} to {most}", value)
    return value


def require_table(value: object, where: str) -> Mapping[str, object]:
    """Return ``value`` if it is a TOML table; else raise :class:`InvalidError`."""
    if not isinstance(value, dict):
        raise type_error(where, "a table", value)
    return value


def optional_text(entry: Mapping[str, object], key: str, where: str) -> str | None:
    """Return the text under ``key``, None if there is none; raise :class:`InvalidError` for another type."""
    value = entry.get(key)
    if value is not None and not isinstance(value, str):
        raise type_error(f"{where}.{key}", "a text", value)
    return value


def duration(entry: Mapping[str, object], key: str, where: str, fallback: timedelta) -> timedelta:
    """Return the duration under ``key``, or the fallback; raise :class:`InvalidError` for another value."""
    value = optional_text(entry, key, where)
    if value is None:
        return fallback
    try:
        return parse_duration(value)
    except UsageError as error:
        raise InvalidError(f"{where}.{key}: {error.message}", hint=error.hint) from error


def check_keys(entry: Mapping[str, object], keys: tuple[str, ...], where: str) -> None:
    """Raise :class:`InvalidError` for a key that is not among ``keys``, naming the nearest known one."""
    for key in entry:
        if key not in keys:
            near = nearest(key, keys)
            raise InvalidError(
                f"{where}: unknown key {key!r}" if where else f"unknown key {key!r}",
                hint=f"did you mean {str(near)!r}?" if near else f"known here: {', '.join(keys)}",
                details={"key": f"{where}.{key}" if where else key},
            )


def type_error(where: str, wanted: str, got: object) -> InvalidError:
    """Return the error for a value of the wrong type."""
    return InvalidError(f"{where} must be {wanted}, not {brief(got)}", details={"key": where})
