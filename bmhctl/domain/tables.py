"""Read the values of parsed TOML or JSON tables: each with its type, or an error that names its key."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from datetime import timedelta
from typing import Any

from bmhctl.domain.selector import Selector, parse_selector
from bmhctl.domain.units import parse_duration
from bmhctl.errors import InvalidError, UsageError, brief, nearest

Kind = Callable[[object, str], Any]
"""Reads and converts a value; the second argument says where it is. Raises :class:`InvalidError` for a wrong type."""


def read_table(
    value: object, kinds: Mapping[str, Kind], where: str, within: Mapping[str, Collection[str]] | None = None
) -> dict[str, Any]:
    """Return the values of a TOML table under their keys, each converted by its kind.

    Raises :class:`InvalidError` for a value that is not a table, and as :func:`check_keys` does for a key that is not
    in ``kinds``.
    """
    table = require_table(value, where)
    check_keys(table, tuple(kinds), where, within)
    return {key: kinds[key](each, f"{where}.{key}") for key, each in table.items()}


def anything(value: object, where: str) -> object:
    """Return a value of any type unchanged; another function checks it."""
    return value


def text(value: object, where: str) -> str:
    """Return ``value`` if it is a text; else raise :class:`InvalidError`."""
    if not isinstance(value, str):
        raise type_error(where, "a text", value)
    return value


def flag(value: object, where: str) -> bool:
    """Return ``value`` if it is true or false; else raise :class:`InvalidError`."""
    if not isinstance(value, bool):
        raise type_error(where, "true or false", value)
    return value


def one_of(*words: str) -> Kind:
    """Return a kind that accepts one of these words."""

    def word(value: object, where: str) -> str:
        if value not in words:
            raise type_error(where, f"one of {', '.join(words)}", value)
        return str(value)

    return word


def texts(wanted: str, is_valid: Callable[[str], bool] = lambda _: True) -> Kind:
    """Return a kind that accepts a list of valid texts and makes it a tuple; ``wanted`` describes it in errors."""

    def read(value: object, where: str) -> tuple[str, ...]:
        if not isinstance(value, list) or not all(isinstance(each, str) and is_valid(each) for each in value):
            raise type_error(where, wanted, value)
        return tuple(value)

    return read


def selector(value: object, where: str) -> Selector:
    """Return the selector in a text."""
    try:
        return parse_selector(text(value, where))
    except UsageError as error:
        raise InvalidError(f"{where}: {error.message}", hint=error.hint) from error


def duration(value: object, where: str) -> timedelta:
    """Return the duration in a text."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        raise type_error(where, 'a duration in quotes, such as "90s" or "2h"', value)
    try:
        return parse_duration(text(value, where))
    except UsageError as error:
        raise InvalidError(f"{where}: {error.message}", hint=error.hint, details={"key": where}) from error


def duration_or_none(value: object, where: str) -> timedelta | None:
    """Return the duration in a text; None for the word ``none``."""
    return None if value == "none" else duration(value, where)


def whole_number(least: int, most: int) -> Kind:
    """Return a kind that accepts a whole number from ``least`` to ``most``."""

    def number(value: object, where: str) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise type_error(where, f"a whole number from {least} to {most}", value)
        return value

    return number


def require_table(value: object, where: str) -> Mapping[str, object]:
    """Return ``value`` if it is a TOML table; else raise :class:`InvalidError`."""
    if not isinstance(value, dict):
        from bmhctl.domain.right_forms import table_form

        error = type_error(where, "a table", value)
        error.hint = table_form(where)
        raise error
    return value


def optional_text(entry: Mapping[str, object], key: str, where: str) -> str | None:
    """Return the text under ``key``; None if there is none. Raise :class:`InvalidError` for a value of another type."""
    value = entry.get(key)
    return value if value is None or isinstance(value, str) else text(value, f"{where}.{key}")


def check_keys(
    entry: Mapping[str, object], keys: tuple[str, ...], where: str, within: Mapping[str, Collection[str]] | None = None
) -> None:
    """Raise :class:`InvalidError` for a key that is not among ``keys``; suggest the nearest known key.

    ``within`` are the keys of other tables; if one of them stands in the entry itself, the hint names its table.
    """
    for key in entry:
        if key not in keys:
            near = nearest(key, keys)
            table = next((table for table, known in (within or {}).items() if key in known), None)
            raise InvalidError(
                f"{where}: unknown key {key!r}" if where else f"unknown key {key!r}",
                hint=f"it belongs below [{table}]"
                if table
                else f"did you mean {str(near)!r}?"
                if near
                else f"known here: {', '.join(keys)}",
                details={"key": f"{where}.{key}" if where else key},
            )


def type_error(where: str, wanted: str, got: object) -> InvalidError:
    """Return the error for a value of the wrong type."""
    return InvalidError(f"{where} must be {wanted}, not {brief(got)}", details={"key": where})
