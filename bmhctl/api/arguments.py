"""Check the arguments of the public functions against their annotations, before anything is read or changed."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from functools import cache, wraps
from os import PathLike
from types import GenericAlias, NoneType, SimpleNamespace
from typing import ParamSpec, TypeVar, get_args, get_origin, get_type_hints

from bmhctl.domain.model import State, StateName
from bmhctl.domain.units import MAX_DURATION
from bmhctl.errors import UsageError
from bmhctl.support.lazy_regex import pattern

_Parameters = ParamSpec("_Parameters")
_Result = TypeVar("_Result")

_BOUNDS: Mapping[type, tuple[object, object]] = {
    int: (0, 2**63 - 1),  # the largest number that a database represents
    timedelta: (timedelta(), MAX_DURATION),
}

_WORDS: Mapping[object, str] = {
    str: "a text",
    int: "a whole number",
    bool: "True or False",
    timedelta: "a timedelta",
    datetime: "a datetime",
    NoneType: "None",
}

_NEVER_STORED = pattern(r"[\0\ud800-\udfff]")  # PostgreSQL stores no NUL, and UTF-8 has no surrogates

_PLURALS: Mapping[type, str] = {str: "texts", int: "whole numbers"}


def checked(function: Callable[_Parameters, _Result]) -> Callable[_Parameters, _Result]:
    """Return the function with a check of its arguments.

    It raises :class:`~bmhctl.errors.UsageError` for a value of a type that the annotation of its parameter excludes,
    such as a text in the place of a list of texts, for a number or a duration out of bounds, and for a text that not
    every inventory can store.
    """
    signature = inspect.signature(function)

    @wraps(function)
    def call(*args: _Parameters.args, **kwargs: _Parameters.kwargs) -> _Result:
        try:
            given = signature.bind(*args, **kwargs)
        except TypeError:
            return function(*args, **kwargs)  # its TypeError also names the function
        for name, kind in _kinds(function).items():
            if name in given.arguments:
                given.arguments[name] = _accepted(name, given.arguments[name], kind)
        return function(*given.args, **given.kwargs)

    return call


@cache
def _kinds(function: Callable[..., object]) -> dict[str, object]:
    """Return the type of each parameter; that of ``*names`` is the type of all names together."""
    own = inspect.unwrap(function)
    annotations = {name: kind for name, kind in own.__annotations__.items() if name != "return"}
    kinds = get_type_hints(SimpleNamespace(__annotations__=annotations), own.__globals__)
    several = (each.name for each in inspect.signature(own).parameters.values() if each.kind is each.VAR_POSITIONAL)
    return {**kinds, **{name: GenericAlias(Iterable, (kinds[name],)) for name in several}}


def _accepted(name: str, value: object, kind: object) -> object:
    """Return the value, a list as a tuple; raise :class:`UsageError` for a wrong type or a value out of bounds."""
    if _is_list(kind) and isinstance(value, Iterable) and not isinstance(value, str | bytes | Mapping):
        value = tuple(value)
    if not _fits(value, kind):
        hint = "give each as an argument of its own: *names" if name == "names" else None
        misfits = [each for each in value if not _fits(each, get_args(kind)[0])] if isinstance(value, tuple) else []
        found = f"has {misfits[0]!r}" if misfits else f"is {value!r}"
        raise UsageError(f"{name} must be {_words(kind)}, but {found}", hint=hint, details={"parameter": name})
    for bounded, (least, most) in _BOUNDS.items():
        if isinstance(value, bounded) and not least <= value <= most:  # type: ignore[operator]  # of the same type
            raise UsageError(f"{name} must be from {least} to {most}, not {value}", details={"parameter": name})
    for text in _texts(value):
        refused = _NEVER_STORED.search(text)
        if refused:  # the text is not shown, because it may have a password
            words = f"{name} has a character that can't be stored: U+{ord(refused[0]):04X}"
            raise UsageError(words, details={"parameter": name})
    return value


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        yield from _texts((*value, *value.values()))
    elif isinstance(value, tuple):
        for each in value:
            yield from _texts(each)


def _is_list(kind: object) -> bool:
    origin = get_origin(kind)
    return isinstance(origin, type) and issubclass(origin, Iterable) and not issubclass(origin, Mapping)


def _fits(value: object, kind: object) -> bool:
    origin, inner = get_origin(kind), get_args(kind)
    if _is_list(kind):
        return isinstance(value, tuple) and all(_fits(each, inner[0]) for each in value)
    if origin is Mapping:
        return isinstance(value, Mapping) and all(
            _fits(key, inner[0]) and _fits(each, inner[1]) for key, each in value.items()
        )
    if origin is Callable:
        return callable(value)
    if origin is PathLike:
        return isinstance(value, PathLike)
    if inner:
        return any(_fits(value, each) for each in inner)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if kind is State:
        return value in [*StateName]
    return isinstance(kind, type) and isinstance(value, kind)


def _words(kind: object) -> str:
    origin, inner = get_origin(kind), get_args(kind)
    if _is_list(kind):
        return "a list of states" if inner[0] is State else "a list of texts"
    if origin is Mapping:
        values = get_args(inner[1]) or (inner[1],)
        return f"a mapping of {' or '.join(words for kind, words in _PLURALS.items() if kind in values)}"
    if origin is Callable:
        return "a function"
    if origin is PathLike:
        return "a path"
    return " or ".join(_words(each) for each in inner if each in _WORDS or get_args(each)) or _WORDS.get(kind, "a text")
