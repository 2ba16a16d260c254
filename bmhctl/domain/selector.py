"""Label selectors as in Kubernetes, with numbers: parse, match, explain.

``arch=arm64,rack!=r3,gpu,!flaky,zone in (a,b),cpus>=32,memory>=64GiB``: every term must hold. Keys are labels, then
hardware properties. ``!=`` and ``notin`` also hold for hosts without the key, as in Kubernetes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from operator import ge, gt, le, lt

from bmhctl.domain.model import HostSpec, PropertyValue
from bmhctl.domain.units import format_size, quantity
from bmhctl.errors import UsageError
from bmhctl.support.lazy_regex import pattern
from bmhctl.support.values import Frozen, Words

_LABEL_KEY = pattern(r"(?:[a-z0-9](?:[-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
_LABEL_VALUE = pattern(r"(?:[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")

MOST_TERMS = 100
"""The most terms of a selector."""

MOST_VALUES = 1000
"""The most values of all terms of a selector: databases limit the parameters of a statement."""

_HINT = "write it like arch=arm64,rack!=r3,gpu,!flaky,zone in (a,b),cpus>=32,memory>=64GiB"
# Possessive repetitions make matching take linear time for any text.
_TERM = pattern(
    r"\s*+(?:"
    r"(?P<absent>!)\s*+(?P<absent_key>[^\s!=<>,()]++)"
    r"|(?P<key>[^\s!=<>,()]++)(?:"
    r"\s*+(?P<compare>==|=|!=|>=|<=|>|<)\s*+(?P<value>[^\s=<>!,()]*+)"
    r"|\s++(?P<set>in|notin)\s*+\((?P<values>[^()]*+)\)"
    r")?"
    r")\s*+(?:,|\Z)"
)
_REST = pattern(r"\s*+\Z")
_SIZE = pattern(r"\d{1,15}(?:\.\d{1,9})?[KMGTPE]i?B?", re.ASCII)


class Operator(Words):
    """The operator of a term."""

    EQUAL = "="
    NOT_EQUAL = "!="
    IN = "in"
    NOT_IN = "notin"
    PRESENT = "present"
    ABSENT = "absent"
    AT_LEAST = ">="
    AT_MOST = "<="
    MORE = ">"
    LESS = "<"


NUMERIC = {Operator.AT_LEAST: ge, Operator.AT_MOST: le, Operator.MORE: gt, Operator.LESS: lt}
"""The operators that compare numbers, and how each compares."""

NEGATIVE = {Operator.NOT_EQUAL, Operator.NOT_IN, Operator.ABSENT}
"""The operators that also hold for hosts without the key; an index on keys does not find these hosts."""


class Term(Frozen):
    """One term of a selector: a key, an operator, and values."""

    key: str
    operator: Operator
    values: tuple[str, ...] = ()

    def __str__(self) -> str:
        match self.operator:
            case Operator.PRESENT:
                return self.key
            case Operator.ABSENT:
                return f"!{self.key}"
            case Operator.IN | Operator.NOT_IN:
                return f"{self.key} {self.operator} ({','.join(self.values)})"
            case _:
                return f"{self.key}{self.operator}{self.values[0]}"

    def holds(self, attributes: Mapping[str, str]) -> bool:
        """Return whether a host with these selectable attributes (see :func:`selectable`) fits the term."""
        value = attributes.get(self.key)
        if self.operator is Operator.ABSENT:
            return value is None
        if value is None:
            return self.operator in NEGATIVE
        if self.operator in NUMERIC:
            number, limit = quantity(value), quantity(self.values[0])
            return number is not None and limit is not None and NUMERIC[self.operator](number, limit)
        if self.operator is Operator.PRESENT:
            return True
        return (value in {canonical(v) for v in self.values}) is (self.operator not in NEGATIVE)

    @property
    def is_negative(self) -> bool:
        """Whether the term also holds for hosts without the key."""
        return self.operator in NEGATIVE


class Selector(Frozen):
    """Terms that must all hold. A selector without terms fits every host, and is false in a condition."""

    terms: tuple[Term, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.terms)

    def __str__(self) -> str:
        return ",".join(str(term) for term in self.terms)

    def fits(self, spec: HostSpec, tags: Mapping[str, str] | None = None) -> bool:
        """Return whether every term holds for what is declared about a host, and for the tags of its reservation."""
        return self.holds({**selectable(spec), **(tags or {})})

    def holds(self, values: Mapping[str, str]) -> bool:
        """Return whether every term holds for these values, such as the tags of a reservation."""
        known = {key: canonical(value) for key, value in values.items()}
        return all(term.holds(known) for term in self.terms)


EVERY_HOST = Selector()
"""The selector without terms."""


def parse_selector(text: str) -> Selector:
    """Return the selector in a text; the empty text fits every host.

    Raises :class:`UsageError` for a text that can't be read, and for one with too many terms or values.
    """
    terms: list[Term] = []
    position, end = 0, len(text)
    values = 0
    while not _REST.match(text, position):
        match = _TERM.match(text, position)
        if not match:
            where = f" at {text[position:].strip()!r}" if terms else ""
            raise UsageError(f"can't read the selector {text!r}{where}", hint=_HINT)
        terms.append(term := _term(match, text))
        position = match.end()
        if position == end and text[position - 1] == ",":
            raise UsageError(f"the selector {text!r} ends with a comma", hint=_HINT)
        values += len(term.values)
        if len(terms) > MOST_TERMS or values > MOST_VALUES:
            raise UsageError(
                f"the selector {text!r} is too long",
                hint=f"at most {MOST_TERMS} terms with {MOST_VALUES} values in all",
            )
    return Selector(tuple(terms))


def _term(match: re.Match[str], text: str) -> Term:
    key = match["absent_key"] or match["key"]
    if not is_label_key(key):
        raise UsageError(f"{key!r} in the selector {text!r} is not a label key", hint=_HINT)
    if match["absent"]:
        return Term(key, Operator.ABSENT)
    if match["set"]:
        values = tuple(value.strip() for value in match["values"].split(","))
        return Term(key, Operator(match["set"]), tuple(_value(value, text) for value in values))
    if not match["compare"]:
        return Term(key, Operator.PRESENT)
    operator = Operator("=" if match["compare"] == "==" else match["compare"])
    value = match["value"]
    if operator in NUMERIC and quantity(value) is None:
        raise UsageError(f"{key}{operator}{value} compares with {value!r}, which is not a number", hint=_HINT)
    return Term(key, operator, (_value(value, text),))


def _value(value: str, text: str) -> str:
    if not is_label_value(value):
        raise UsageError(f"{value!r} in the selector {text!r} is not a label value", hint=_HINT)
    return value


@lru_cache(maxsize=1000)  # cached: the hosts of a fleet have the same few keys
def is_label_key(key: str) -> bool:
    """Return whether a text is a label key: up to 63 letters, digits, ``-_.``, after an optional DNS name and slash."""
    return _LABEL_KEY.fullmatch(key) is not None


@lru_cache(maxsize=1000)
def is_label_value(value: str) -> bool:
    """Return whether a text is the value of a label: empty, or at most 63 letters, digits, ``-``, ``_``, ``.``."""
    return _LABEL_VALUE.fullmatch(value) is not None


@lru_cache(maxsize=1000)
def canonical(value: PropertyValue) -> str:
    """Return a value in one spelling for equal sizes, so that ``memory=262144MiB`` finds ``256GiB``."""
    text = str(value)
    if not _SIZE.fullmatch(text):
        return text
    number = quantity(text)
    return text if number is None or number != int(number) else format_size(int(number))


def selectable(spec: HostSpec) -> dict[str, str]:
    """Return what selectors match of a host: its labels, and the hardware properties under keys that no label has."""
    return {key: canonical(value) for key, value in {**spec.properties, **spec.labels}.items()}
