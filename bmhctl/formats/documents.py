"""Read YAML or JSON text as plain values; the text is not trusted."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator

from bmhctl.errors import InvalidError
from bmhctl.formats.manifest_fields import bad_document, key_twice

_SPACE = re.compile(r"[ \t\r\n]*")


def parse_documents(text: str, origin: str) -> Iterator[tuple[int, object]]:
    """Return every document of a YAML or JSON text with its number from 1; mappings are dicts with texts as keys.

    Raises :class:`InvalidError` that begins with "ORIGIN, document N" and names the line: for text that is not valid,
    for a key that occurs twice in a mapping, for nesting deeper than 100, and for aliases that multiply the text.
    """
    start = _skip_space(text, 0)
    if text[start : start + 1] in ("{", "[") or origin.endswith(".json"):
        try:
            return iter(tuple(_json(text, origin)))
        except InvalidError as broken:
            if origin.endswith(".json"):
                raise
            try:
                return iter(tuple(_yaml(text, origin)))  # YAML in flow style begins in the same way: {kind: Secret}
            except InvalidError:
                raise broken from None
    return _yaml(text, origin)


def _yaml(text: str, origin: str) -> Iterator[tuple[int, object]]:
    from bmhctl.formats.yaml_reader import read_yaml

    return read_yaml(text, origin)


def _json(text: str, origin: str) -> Iterator[tuple[int, object]]:
    decoder = json.JSONDecoder(object_pairs_hook=_unique)
    number, position = 0, _skip_space(text, 0)
    while position < len(text):
        number += 1
        try:
            document, position = decoder.raw_decode(text, position)
        except json.JSONDecodeError as error:
            raise bad_document(origin, number, f"line {error.lineno}, column {error.colno}: {error.msg}") from error
        except RecursionError as error:
            raise bad_document(origin, number, "nested too deep") from error
        except ValueError as error:  # a key twice, or a number of thousands of digits
            raise bad_document(origin, number, str(error)) from error
        yield number, document
        position = _skip_space(text, position)


def _skip_space(text: str, position: int) -> int:
    match = _SPACE.match(text, position)
    return match.end() if match else position


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    entry = dict(pairs)
    if len(entry) < len(pairs):
        ((key, _),) = Counter(key for key, _ in pairs).most_common(1)
        raise ValueError(key_twice(key))
    return entry
