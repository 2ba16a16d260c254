"""Read the fields of a manifest: each with its type, or an error that names its path."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import TypeVar

from bmhctl.errors import InvalidError

_T = TypeVar("_T")
_MAX_LINE = 1000
_NOT_IN_LINE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


class Fields:
    """A mapping of a manifest, with its path for messages; null counts as absent."""

    __slots__ = ("_key", "_parent", "data")

    def __init__(self, data: Mapping[str, object], parent: Fields | None = None, key: str = "") -> None:
        self.data = data
        self._parent = parent
        self._key = key

    def __bool__(self) -> bool:
        return bool(self.data)

    def path_of(self, key: str) -> str:
        """Return the path of a field of this mapping."""
        # Built only on demand: most manifests have no error to report.
        within = self._parent.path_of(self._key) if self._parent is not None else self._key
        return f"{within}.{key}" if within else key

    def _typed(self, key: str, kind: type[_T], wanted: str) -> _T | None:
        value = self.data.get(key)
        if value is not None and not isinstance(value, kind):
            raise wrong_kind(self.path_of(key), wanted, value)
        return value

    def fields(self, key: str) -> Fields:
        """Return the mapping under a key, an empty one if the key is absent; raise an error for any other value."""
        value = self.data.get(key)
        if value is None:
            return _NOTHING
        if not isinstance(value, dict):
            raise wrong_kind(self.path_of(key), "a mapping", value)
        return Fields(value, self, key)

    def rows(self, key: str) -> list[Fields]:
        """Return the mappings of the list under a key."""
        rows: list[Fields] = []
        for number, row in enumerate(self._typed(key, list, "a list") or ()):
            if not isinstance(row, dict):
                raise wrong_kind(f"{self.path_of(key)}[{number}]", "a mapping", row)
            rows.append(Fields(row, self, f"{key}[{number}]"))
        return rows

    def line(self, key: str) -> str | None:
        """Return the text under a key; raise an error unless it is one clean line.

        Return None for an empty text, which Go programs write for "unset".
        """
        value = self.data.get(key)
        if value is None:
            return None
        if not isinstance(value, str):
            raise wrong_kind(self.path_of(key), "a text", value)
        if len(value) > _MAX_LINE or (not value.isprintable() and _NOT_IN_LINE.search(value)):
            raise bad_field(
                self.path_of(key), f"must be one line of at most {_MAX_LINE} characters without control characters"
            )
        return value.strip() or None

    def squeezed(self, key: str) -> str | None:
        """Return the text under a key as one line, shortened if it is too long for one."""
        value = self._typed(key, str, "a text")
        if value is None:
            return None
        line = " ".join((value if value.isprintable() else _NOT_IN_LINE.sub(" ", value)).split())
        return (line if len(line) <= _MAX_LINE else f"{line[: _MAX_LINE - 1]}…") or None

    def whole(self, key: str) -> int | None:
        """Return the whole number under a key, from 0 to the largest exact number of JSON."""
        value = self.data.get(key)
        if value is None:
            return None
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**53:
            raise bad_field(self.path_of(key), "must be a whole number from 0")
        return value

    def flag(self, key: str) -> bool:
        """Return whether the boolean under a key is true."""
        return bool(self._typed(key, bool, "true or false"))

    def texts(self, key: str) -> dict[str, str]:
        """Return the mapping under a key if all its values are texts; null counts as absent."""
        entry = self.fields(key)
        texts = {}
        for name, value in entry.data.items():
            if value is None:
                continue
            if not isinstance(value, str):
                raise wrong_kind(entry.path_of(f"{name:.80}"), "a text", value)
            texts[name] = value
        return texts

    def json(self, key: str) -> Fields:
        """Return the mapping in the JSON text under a key; an empty one if there is none."""
        value = self._typed(key, str, "a text")
        if not value:
            return _NOTHING
        try:
            parsed = json.loads(value)
        except ValueError as error:
            raise bad_field(self.path_of(key), "is not valid JSON") from error
        if not isinstance(parsed, dict):
            raise wrong_kind(self.path_of(key), "a JSON object", parsed)
        return Fields(parsed, self, key)


_NOTHING = Fields({})


def wrong_kind(path: str, wanted: str, got: object) -> InvalidError:
    """Return the error for a value of the wrong type."""
    # The message never has the value itself, which may be a password under the wrong key.
    said, hint = "nothing", None
    match got:
        case bool():
            said, hint = "a boolean", "YAML reads a bare yes, no, on or off as a boolean: a text needs quotes"
        case int() | float():
            said, hint = "a number", "YAML reads bare digits as a number: a text needs quotes"
        case str():
            said = "a text"
        case list():
            said = "a list"
        case dict():
            said = "a mapping"
    return bad_field(path, f"must be {wanted}, not {said}", hint=hint if wanted == "a text" else None)


def bad_field(path: str, said: str, hint: str | None = None) -> InvalidError:
    """Return the error for a field, without the position of its document; its details have the path as ``field``."""
    return InvalidError(f"{path}: {said}" if path else said, hint=hint, details={"field": path})


def bad_document(origin: str, number: int, said: str) -> InvalidError:
    """Return the error for a document of a text; ``number`` counts from 1."""
    return InvalidError(f"{origin}, document {number}: {said}", details={"file": origin, "document": number})


def key_twice(key: object) -> str:
    """Return the message for a key that a mapping has twice."""
    return f"the key {key!r:.80} occurs twice in one mapping"
