"""YAML and JSON text as plain values, fit for text that nobody has looked at.

YAML is put together from the parser's events: PyYAML's composers recurse in C, so that deep nesting ends the
process; aliases and merge keys can multiply a text without end; and ``yaml.load`` lets the second of two equal
keys win. Plain scalars are read as Kubernetes reads them: a date, or a MAC of digits only, is a text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from bmhctl.errors import InvalidError

if TYPE_CHECKING:
    import yaml

_MAX_DEPTH = 100
_FREE_ALIASES = 20_000_000  # characters

_WORDS: dict[str, bool | None] = {
    form: value
    for words, value in ((("null",), None), (("true", "yes", "on"), True), (("false", "no", "off"), False))
    for word in words
    for form in (word, word.capitalize(), word.upper())
} | {"": None, "~": None}
_STARTS = frozenset("-+.0123456789~" + "".join({word[0] for word in _WORDS if word}))
_WHOLE = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,39})", re.ASCII)
_OTHER_NUMBER = re.compile(
    r"[-+]?(?:0b[01_]+|0o?[0-7_]+|0x[0-9a-fA-F_]+|[0-9][0-9_]*|(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?"
    r"|\.(?:inf|Inf|INF))|\.(?:nan|NaN|NAN)",
    re.ASCII,
)
_SOME_NUMBER = float("nan")  # which number matters for whole ones only: no field that is read holds another
_YAML = "tag:yaml.org,2002:"
_TEXT_TAGS = frozenset(("!", f"{_YAML}str", f"{_YAML}binary", f"{_YAML}timestamp"))
_PLAIN_TAGS = frozenset(f"{_YAML}{kind}" for kind in ("int", "float", "bool", "null"))
_TREE_TAGS = frozenset(("!", f"{_YAML}map", f"{_YAML}seq"))
_MERGE = object()
_SPACE = re.compile(r"[ \t\r\n]*")


def parse_documents(text: str, origin: str) -> Iterator[tuple[int, object]]:
    """Every document of a YAML or JSON text with its number from 1; mappings are dicts with texts as keys.

    Raises :class:`InvalidError` that begins with "ORIGIN, document N" and names the line, for broken text and
    for what no manifest needs: a key twice in a mapping, nesting deeper than 100, aliases that multiply the text.
    """
    start = _skip_space(text, 0)
    if text[start : start + 1] in ("{", "[") or origin.endswith(".json"):
        try:
            return iter(tuple(_json(text, origin)))
        except InvalidError as broken:
            if origin.endswith(".json"):
                raise
            try:
                return iter(tuple(_yaml(text, origin)))  # flow style looks the same: {kind: Secret}
            except InvalidError:
                raise broken from None
    return _yaml(text, origin)


def _json(text: str, origin: str) -> Iterator[tuple[int, object]]:
    import json

    decoder = json.JSONDecoder(object_pairs_hook=_unique)
    number, position = 0, _skip_space(text, 0)
    while position < len(text):
        number += 1
        try:
            document, position = decoder.raw_decode(text, position)
        except json.JSONDecodeError as error:
            raise _invalid(origin, number, f"line {error.lineno}, column {error.colno}: {error.msg}") from error
        except RecursionError as error:
            raise _invalid(origin, number, "nested too deep") from error
        except ValueError as error:  # a key twice, or a number of thousands of digits
            raise _invalid(origin, number, str(error)) from error
        yield number, document
        position = _skip_space(text, position)


def _skip_space(text: str, position: int) -> int:
    match = _SPACE.match(text, position)
    return match.end() if match else position


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    entry: dict[str, object] = {}
    for key, value in pairs:
        if key in entry:
            raise ValueError(_twice(key))
        entry[key] = value
    return entry


def _yaml(text: str, origin: str) -> Iterator[tuple[int, object]]:
    import yaml

    reader = _Reader()
    loader = yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader
    try:
        yield from reader.documents(iter(loader(text).get_event, None))
    except _RefusedError as refused:
        line = refused.event.start_mark.line + 1 if refused.event.start_mark else 0
        raise _invalid(origin, reader.number, f"line {line}: {refused}") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise _invalid(origin, reader.number or 1, f"{where}{error.problem or error.context}") from error
    except yaml.YAMLError as error:
        raise _invalid(origin, reader.number or 1, " ".join(str(error).split())) from error
    except UnicodeError as error:
        raise _invalid(origin, reader.number or 1, "half of a surrogate pair is no text") from error
    except (OverflowError, ValueError) as error:  # from PyYAML's own parser, which stands in where there is no libyaml
        raise _invalid(origin, reader.number or 1, "a number or an escape is out of range") from error


class _RefusedError(Exception):
    def __init__(self, event: yaml.Event, said: str) -> None:
        super().__init__(said)
        self.event = event


class _Reader:
    """Turns parser events into values, without recursion; ``number`` is the document it is at."""

    def __init__(self) -> None:
        self.number = 0

    def documents(self, events: Iterable[yaml.Event]) -> Iterator[tuple[int, object]]:
        from yaml import (
            AliasEvent,
            DocumentEndEvent,
            DocumentStartEvent,
            MappingEndEvent,
            MappingStartEvent,
            ScalarEvent,
            SequenceEndEvent,
            SequenceStartEvent,
        )

        # A mapping is filled in `entry`, anything else in `items`. What comes next in a mapping is a key if one is due,
        # else the value of `key`. A node weighs as much as it is long in the text, with what its aliases repeat.
        entry: dict[object, object] = {}
        items: list[object] = []
        mapping = key_is_due = False
        key: object = None
        stack: list[tuple[dict[object, object], list[object], bool, object, yaml.CollectionStartEvent, int]] = []
        anchors: dict[str, tuple[object, int]] = {}
        repeated = 0
        for event in events:  # of the parser's own classes: to ask with isinstance takes twice as long
            if type(event) is ScalarEvent:
                text = event.value
                value: object = text
                if key_is_due:
                    if text == "<<" and event.implicit[0]:
                        if event.anchor is not None:
                            raise _RefusedError(event, "the key << takes no anchor")
                        value = _MERGE
                elif event.tag is not None:
                    value = _tagged(event)
                elif event.implicit[0] and (not text or text[0] in _STARTS):
                    value = _plain(text)
                if event.anchor is not None:
                    anchors[event.anchor] = (value, 1 + _end(event) - _begin(event))
            elif type(event) is MappingStartEvent or type(event) is SequenceStartEvent:
                if key_is_due:
                    raise _RefusedError(event, "a key of a mapping must be a text")
                if len(stack) == _MAX_DEPTH:
                    raise _RefusedError(event, f"nested deeper than {_MAX_DEPTH} levels")
                if event.tag is not None and event.tag not in _TREE_TAGS:
                    raise _RefusedError(event, f"the tag {event.tag!r:.80} is not known here")
                stack.append((entry, items, mapping, key, event, repeated))
                mapping = key_is_due = type(event) is MappingStartEvent
                entry, items = {}, []
                continue
            elif type(event) is MappingEndEvent or type(event) is SequenceEndEvent:
                ended = entry if mapping else items
                entry, items, mapping, key, start, before = stack.pop()
                value = _merged(start, ended) if isinstance(ended, dict) else ended
                key_is_due = False
                if start.anchor is not None:
                    anchors[start.anchor] = (value, 1 + _end(event) - _begin(start) + repeated - before)
            elif type(event) is AliasEvent:
                if event.anchor not in anchors:
                    raise _RefusedError(event, f"the alias *{event.anchor!s:.80} has no anchor before it")
                value, length = anchors[event.anchor]
                if key_is_due and not isinstance(value, str):
                    raise _RefusedError(event, "a key of a mapping must be a text")
                repeated += length
                if repeated > _FREE_ALIASES + 10 * _end(event):
                    raise _RefusedError(event, "aliases multiply this text more than tenfold")
            else:
                if type(event) is DocumentStartEvent:
                    self.number += 1
                    items, mapping, key_is_due, anchors = [], False, False, {}
                elif type(event) is DocumentEndEvent:
                    yield self.number, items[0]
                continue
            if not mapping:
                items.append(value)
            elif key_is_due:
                if value in entry:
                    raise _RefusedError(event, _twice("<<" if value is _MERGE else value))
                key = value
                key_is_due = False
            else:
                entry[key] = value
                key_is_due = True


def _begin(event: yaml.Event) -> int:
    return event.start_mark.index if event.start_mark else 0


def _end(event: yaml.Event) -> int:
    return event.end_mark.index if event.end_mark else 0


def _merged(start: yaml.Event, entry: dict[object, object]) -> dict[object, object]:
    if _MERGE not in entry:
        return entry
    merged = entry.pop(_MERGE)
    base: dict[object, object] = {}
    for source in reversed(merged if isinstance(merged, list) else [merged]):
        if not isinstance(source, dict):
            raise _RefusedError(start, "<< merges mappings only")
        base.update(source)
    return base | entry


def _tagged(event: yaml.ScalarEvent) -> object:
    if event.tag in _TEXT_TAGS:
        return event.value
    if event.tag in _PLAIN_TAGS:
        return _plain(event.value)
    raise _RefusedError(event, f"the tag {event.tag!r:.80} is not known here")


def _plain(text: str) -> object:
    if text in _WORDS:
        return _WORDS[text]
    if _WHOLE.fullmatch(text):
        return int(text)
    return _SOME_NUMBER if _OTHER_NUMBER.fullmatch(text) else text


def _twice(key: object) -> str:
    return f"the key {key!r:.80} stands twice in one mapping"


def _invalid(origin: str, number: int, said: str) -> InvalidError:
    return InvalidError(f"{origin}, document {number}: {said}", details={"file": origin, "document": number})
