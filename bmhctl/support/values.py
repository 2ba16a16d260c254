"""Base classes for frozen values and for sets of words, which cost less at start-up than dataclasses and enums.

``@dataclass(frozen=True, slots=True)`` writes and compiles six methods for each class when its module is loaded, and
makes the class twice. That takes half a millisecond, and the modules of one command have fifty such classes. A class
derived from this base takes a fiftieth of that time: the methods are shared, except ``__init__``, which is compiled
only for a class that makes many values. Type checkers and :mod:`dataclasses` treat these classes as dataclasses.

An enum of ten words takes a tenth of a millisecond, and a command loads a dozen. The words of this module are strings
and single instances, too; their class can be iterated, called with a word, and indexed with a name. Type checkers treat
it as a ``StrEnum``. Code that tests for an ``enum.Enum``, such as Typer in annotations, still needs a real one.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from functools import cache
from operator import attrgetter
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeVar, dataclass_transform

if TYPE_CHECKING:
    from dataclasses import Field
    from dataclasses import replace as replace
    from enum import StrEnum as Words

__all__ = ["Frozen", "Words", "field", "replace"]

_T = TypeVar("_T")

_become = object.__dict__["__class__"].__set__  # makes an object an instance of another class
_FEW = 20  # after this many values, compiling __init__ saves time


class _Factory:
    """Marks a default that is made anew for each value."""

    __slots__ = ("make",)

    def __init__(self, make: Callable[[], object]) -> None:
        self.make = make


def field(*, default_factory: Callable[[], _T]) -> _T:
    """Return the mark for a default that is made anew for each value."""
    return _Factory(default_factory)  # type: ignore[return-value]  # the class replaces it by what it makes


def _annotations(body: dict[str, Any]) -> dict[str, object]:
    """Return the names that a class's body annotates, each with its annotation as a text or a value.

    ``from __future__ import annotations`` leaves texts in ``__annotations__``, on Python 3.14 too. Without that import,
    3.14 leaves only a function that makes them (PEP 649); it is asked for texts, which also work for names that are not
    defined yet.
    """
    if sys.version_info >= (3, 14) and "__annotations__" not in body:
        from annotationlib import Format, call_annotate_function, get_annotate_from_class_namespace

        annotate = get_annotate_from_class_namespace(body)
        return {} if annotate is None else dict(call_annotate_function(annotate, Format.STRING))
    return dict(body.get("__annotations__", {}))


def _getter(names: tuple[str, ...]) -> Callable[[object], tuple[object, ...]]:
    """Return a function that reads all fields of a value at once."""
    if len(names) > 1:
        return attrgetter(*names)
    return lambda value: tuple(getattr(value, name) for name in names)


def _first_init(self: Any, *args: object, **given: object) -> None:
    """Set the fields of the first few values of a class; compile ``__init__`` after that, or to refuse arguments."""
    kind: Any = type(self)
    if kind._uncompiled:
        kind._uncompiled -= 1
        if (values := _bound(kind, args, given)) is not None:
            for name, value in values.items():
                object.__setattr__(self, name, value)
            return
    kind.__init__ = _init_of(kind)
    kind.__init__(self, *args, **given)


def _bound(kind: Any, args: tuple[object, ...], given: dict[str, object]) -> dict[str, object] | None:
    """Return the value of each field; None if the arguments do not fit the class."""
    names = kind.__match_args__
    values = dict(zip(names, args, strict=False)) | given
    if len(values) != len(args) + len(given) or not kind._names.issuperset(given):
        return None
    if len(values) < len(names):
        for name, default in kind._defaults.items():
            if name not in values:
                values[name] = default.make() if isinstance(default, _Factory) else default
    return values if len(values) == len(names) else None


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
class _FrozenType(type):
    """Makes a slot of every annotated name of a class, and keeps the name's default outside the class."""

    __match_args__: tuple[str, ...]
    _names: frozenset[str]
    _defaults: dict[str, object]
    _uncompiled: int
    _values: Callable[[object], tuple[object, ...]]

    def __new__(mcs, name: str, bases: tuple[type, ...], body: dict[str, Any]) -> _FrozenType:
        kinds = {key: str(kind).removeprefix("typing.") for key, kind in _annotations(body).items()}
        own = [key for key, kind in kinds.items() if not kind.startswith("ClassVar")]
        defaults = {key: body.pop(key) for key in own if key in body}
        above = [base for base in bases if isinstance(base, _FrozenType)]
        names = (*(name for base in above for name in base.__match_args__), *own)
        body |= {"__slots__": tuple(own), "__match_args__": names, "__init__": _first_init}
        made = super().__new__(mcs, name, bases, body)
        made._defaults = {key: value for base in above for key, value in base._defaults.items()} | defaults
        made._names = frozenset(names)
        made._uncompiled = _FEW
        made._values = _getter(names)
        return made


@cache
def _fields_of(kind: _FrozenType) -> dict[str, Field[Any]]:
    import dataclasses

    fields: list[Any] = []
    for name in kind.__match_args__:
        default = kind._defaults.get(name, dataclasses.MISSING)
        made = {"default_factory": default.make} if isinstance(default, _Factory) else {"default": default}
        fields.append((name, Any, dataclasses.field(**made)))
    twin: Any = dataclasses.make_dataclass(kind.__name__, fields)
    return dict(twin.__dataclass_fields__)


class _Fields:
    """The attribute that :mod:`dataclasses` looks for in a class; it is computed when read."""

    def __get__(self, _: object, owner: _FrozenType) -> dict[str, Field[Any]]:
        return _fields_of(owner)


class Frozen(metaclass=_FrozenType):
    """The base of every value: a subclass declares its fields as a dataclass does.

    Two values are equal when their classes are the same and all their fields are equal. A value can be hashed when its
    fields can. :func:`replace` makes a copy with some fields changed.
    """

    if TYPE_CHECKING:
        __dataclass_fields__: ClassVar[dict[str, Field[Any]]]
    else:
        __dataclass_fields__ = _Fields()

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__}.{name} can't be set: a value never changes")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"{type(self).__name__}.{name} can't be deleted: a value never changes")

    def __eq__(self, other: object) -> bool:
        kind = type(self)
        return kind._values(self) == kind._values(other) if kind is type(other) else NotImplemented

    def __hash__(self) -> int:
        return hash(type(self)._values(self))

    def __repr__(self) -> str:
        shown: Iterable[tuple[str, object]] = zip(self.__match_args__, type(self)._values(self), strict=True)
        return f"{type(self).__qualname__}({', '.join(f'{name}={value!r}' for name, value in shown)})"

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), type(self)._values(self)

    def __replace__(self, /, **changes: object) -> Self:
        kind = type(self)
        if not changes.keys() <= kind._names:
            return kind(**changes)  # the call raises the error for wrong arguments
        made = kind(*kind._values(self))
        for name, value in changes.items():
            getattr(kind, name).__set__(made, value)
        return made


if not TYPE_CHECKING:

    def replace(value: Frozen, /, **changes: object) -> Frozen:
        """Return a copy of a value with these fields changed."""
        return value.__replace__(**changes)


def _init_of(kind: _FrozenType) -> Callable[..., None]:
    """Compile ``__init__`` for a class, with a parameter for each field.

    While it runs, the value belongs to a subclass whose fields can be set: an assignment there takes a quarter of the
    time of a call of the setter in a class that refuses assignments.
    """
    unlocked = {"__slots__": (), "__setattr__": object.__setattr__, "__delattr__": object.__delattr__}
    open_kind = type.__new__(_FrozenType, kind.__name__, (kind,), unlocked)
    known: dict[str, Any] = {"_become": _become, "_open": open_kind, "_kind": kind}
    parameters, lines = ["self"], [" _become(self, _open)\n"]
    for name in kind.__match_args__:
        parameter = made = name
        if name in kind._defaults:
            default = known[f"_default_{name}"] = kind._defaults[name]
            parameter = f"{name}=_default_{name}"
            if isinstance(default, _Factory):
                made = f"_default_{name}.make() if {name} is _default_{name} else {name}"
        parameters.append(parameter)
        lines.append(f" self.{name} = {made}\n")
    lines.append(" self.__class__ = _kind\n")
    exec(f"def __init__({', '.join(parameters)}):\n{''.join(lines)}", known)  # noqa: S102 - only names from this package
    made_init: Callable[..., None] = known["__init__"]
    made_init.__qualname__ = f"{kind.__qualname__}.__init__"
    return made_init


if not TYPE_CHECKING:

    class _WordsType(type):
        """Makes a word of every text that the body of a class assigns to a public name."""

        def __new__(mcs, name, bases, body):
            members = {key: text for key, text in body.items() if type(text) is str and key[0] != "_"}
            made = super().__new__(mcs, name, bases, body)
            made._words = {}
            for key, text in members.items():
                word = made._words[text] = str.__new__(made, text)
                word.name, word.value = key, text
                setattr(made, key, word)
            return made

        def __call__(cls, text):
            try:
                return cls._words[text]
            except (KeyError, TypeError):
                raise ValueError(f"{text!r} is not a valid {cls.__qualname__}") from None

        def __getitem__(cls, name):
            return cls.__members__[name]

        def __iter__(cls):
            return iter(cls._words.values())

        def __len__(cls):
            return len(cls._words)

        def __contains__(cls, text):
            return text in cls._words

        @property
        def __members__(cls):
            return {word.name: word for word in cls._words.values()}

    class Words(str, metaclass=_WordsType):
        """The base of a set of words: a subclass assigns each word to its name."""

        def __repr__(self):
            return f"<{type(self).__name__}.{self.name}: {self.value!r}>"

        def __str__(self):
            return self.value

        def __reduce_ex__(self, _):
            return type(self), (self.value,)
