"""Read YAML text as plain values, safe for untrusted text.

Values are built from the parser's events, in one pass. ``yaml.load`` can't be used for untrusted text: its composer
recurses without a limit, so that deep nesting ends the process; aliases and merge keys multiply a text without limit;
and of two equal keys the second replaces the first. Checking the events before ``yaml.load`` would take twice as long.
Plain scalars are read as Kubernetes reads them: a date, or a MAC address of digits only, is a text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import cast

import yaml
from yaml import AliasEvent, DocumentStartEvent, MappingEndEvent, MappingStartEvent, ScalarEvent, SequenceEndEvent

from bmhctl.formats.manifest_fields import bad_document, key_twice

_MAX_DEPTH = 100
_FREE_ALIASES = 20_000_000  # the most characters that aliases may repeat, in a text of any length

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
_YAML = "tag:yaml.org,2002:"
_TEXT_TAGS = frozenset(("!", f"{_YAML}str", f"{_YAML}binary", f"{_YAML}timestamp", "!vault", "!unsafe"))
_PLAIN_TAGS = frozenset(f"{_YAML}{kind}" for kind in ("int", "float", "bool", "null"))
_MERGE = object()
_COLLECTION_TAGS = frozenset((None, "!", f"{_YAML}map", f"{_YAML}seq"))


class WrittenNumber(float):
    """A number that is not a whole decimal number, kept as it is written: the version 1.10 is not 1.1.

    Its numeric value is not needed, because every field that is read is a text or a whole number.
    """

    __slots__ = ("_text",)
    _text: str

    def __new__(cls, text: str) -> WrittenNumber:
        """Return a number with this text; its numeric value is NaN."""
        number = super().__new__(cls, "nan")
        number._text = text
        return number

    def __str__(self) -> str:
        return self._text


def read_yaml(text: str, origin: str) -> Iterator[tuple[int, object]]:
    """Yield every document of a YAML text with its number from 1; mappings are dicts with texts as keys.

    Raises `InvalidError` that begins with "ORIGIN, document N": for text that is not valid, for a key that occurs twice
    in a mapping, for nesting deeper than 100, for tags, and for aliases that multiply the text.
    """
    reader = _Reader()
    loader = yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader
    try:
        yield from reader.documents(loader(text).get_event)
    except _RefusedError as refused:
        raise bad_document(origin, reader.number, str(refused)) from None
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        raise bad_document(origin, reader.number or 1, _said(error)) from error


def _said(error: Exception) -> str:
    match error:
        case yaml.MarkedYAMLError(problem_mark=mark, problem=problem, context=context):
            where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
            return f"{where}{problem or context}"
        case yaml.YAMLError():
            return " ".join(str(error).split())
        case UnicodeError():
            return "a lone surrogate is not a text"
    return "a number or an escape is out of range"  # only PyYAML's own parser raises these errors, not libyaml


class _RefusedError(Exception):
    """The text is valid YAML, but with something that is refused, such as a tag."""

    def __init__(self, event: yaml.Event, said: str) -> None:
        super().__init__(f"line {event.start_mark.line + 1 if event.start_mark else 0}: {said}")


class _Reader:
    """Builds values from parser events; ``number`` is the document that is being read, from 1."""

    _next: Callable[[], yaml.Event]

    def __init__(self) -> None:
        self.number = 0
        self._anchors: dict[str, tuple[object, int]] = {}  # values with an anchor, with their lengths in characters
        self._repeated = 0

    def documents(self, get_event: Callable[[], yaml.Event | None]) -> Iterator[tuple[int, object]]:
        """Yield every document with its number."""
        self._next = cast("Callable[[], yaml.Event]", get_event)  # None only after the last document
        while event := self._next():
            if type(event) is DocumentStartEvent:
                self.number += 1
                self._anchors.clear()
                yield self.number, self._value(self._next(), 0)

    # The parser makes no subclasses of its events, and isinstance takes twice as long as comparing the type.

    def _value(self, event: yaml.Event, depth: int) -> object:
        if type(event) is AliasEvent:
            return self._repeat(event)
        node: yaml.NodeEvent = event  # type: ignore[assignment]  # what is not an alias has an anchor, or None
        last, before = event, self._repeated
        if type(event) is ScalarEvent:
            value = _scalar(event)
        else:
            value, last = self._collection(event, depth + 1)  # type: ignore[arg-type]  # all else begins a collection
        if node.anchor is not None:
            self._anchors[node.anchor] = value, 1 + _end(last) - _begin(node) + self._repeated - before
        return value

    def _collection(self, start: yaml.CollectionStartEvent, depth: int) -> tuple[object, yaml.Event]:
        """Return a mapping or a sequence, and the event that ends it."""
        if depth > _MAX_DEPTH:
            raise _RefusedError(start, f"nested deeper than {_MAX_DEPTH} levels")
        if start.tag not in _COLLECTION_TAGS:
            raise _RefusedError(start, f"the tag {start.tag!r:.80} is not known here")
        if type(start) is not MappingStartEvent:
            items = []
            while type(event := self._next()) is not SequenceEndEvent:
                items.append(self._value(event, depth))
            return items, event
        entry: dict[object, object] = {}
        following = self._next
        while type(event := following()) is not MappingEndEvent:
            # A shortcut that saves a call, as below: most keys are scalars without an anchor, and few are <<.
            key: object
            if type(event) is ScalarEvent and event.anchor is None and event.value != "<<":
                key = event.value
            else:
                key = self._key(event)
            if key in entry:
                raise _RefusedError(event, key_twice("<<" if key is _MERGE else key))
            value = following()
            # This saves a call for most values, which are scalars without an anchor.
            if type(value) is ScalarEvent and value.anchor is None:
                entry[key] = _scalar(value)
            else:
                entry[key] = self._value(value, depth)
        return _merged(start, entry) if _MERGE in entry else entry, event

    def _key(self, event: yaml.Event) -> object:
        """Return the text of a key as it is written, or `_MERGE`."""
        key: object = None
        if type(event) is ScalarEvent:
            key = event.value
            if key == "<<" and event.implicit[0]:
                key = _MERGE
            if event.anchor is not None:
                if key is _MERGE:
                    raise _RefusedError(event, "the key << takes no anchor")
                self._anchors[event.anchor] = key, 1 + _end(event) - _begin(event)
            return key
        if type(event) is AliasEvent:
            key = self._repeat(event)
        if not isinstance(key, str):
            raise _RefusedError(event, "a key of a mapping must be a text")
        return key

    def _repeat(self, alias: yaml.AliasEvent) -> object:
        if alias.anchor not in self._anchors:
            raise _RefusedError(alias, f"the alias *{alias.anchor!s:.80} has no anchor before it")
        value, length = self._anchors[alias.anchor]
        self._repeated += length
        if self._repeated > _FREE_ALIASES + 10 * _end(alias):
            raise _RefusedError(alias, "aliases multiply this text more than tenfold")
        return value


def _begin(event: yaml.Event) -> int:
    return event.start_mark.index if event.start_mark else 0


def _end(event: yaml.Event) -> int:
    return event.end_mark.index if event.end_mark else 0


def _merged(start: yaml.Event, entry: dict[object, object]) -> dict[object, object]:
    merged = entry.pop(_MERGE)
    base: dict[object, object] = {}
    for source in reversed(merged if isinstance(merged, list) else [merged]):
        if not isinstance(source, dict):
            raise _RefusedError(start, "<< merges mappings only")
        base.update(source)
    return base | entry


def _scalar(event: yaml.ScalarEvent) -> object:
    text = event.value
    if event.tag is None:
        return _plain(text) if event.implicit[0] and (not text or text[0] in _STARTS) else text
    if event.tag in _TEXT_TAGS:
        return text
    if event.tag in _PLAIN_TAGS:
        return _plain(text)
    raise _RefusedError(event, f"the tag {event.tag!r:.80} is not known here")


def needs_quotes(text: str) -> bool:
    """Return whether bmhctl or a cluster reads an unquoted text, such as ``0E0`` or ``yes``, as another value."""
    return _plain(text) is not text


def _plain(text: str) -> object:
    if text in _WORDS:
        return _WORDS[text]
    if _WHOLE.fullmatch(text):
        return int(text)
    return WrittenNumber(text) if _OTHER_NUMBER.fullmatch(text) else text
