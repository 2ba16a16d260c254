"""Sets of words behave as ``enum.StrEnum`` does."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Callable
from enum import StrEnum

import orjson
import pytest

from bmhctl.support.values import Words


class Light(Words):
    """Colours."""

    RED = "red"
    DARK_BLUE = "dark-blue"

    @property
    def is_red(self) -> bool:
        return self is Light.RED

    @classmethod
    def first(cls) -> Light:
        return next(iter(cls))


class Usual(StrEnum):
    """Colours."""

    RED = "red"
    DARK_BLUE = "dark-blue"


SEEN: dict[str, Callable[[type[StrEnum]], object]] = {
    "its words": lambda kind: [str(word) for word in kind],
    "names": lambda kind: [word.name for word in kind],
    "values": lambda kind: [(word.value, type(word.value)) for word in kind],
    "members": lambda kind: {name: str(word) for name, word in kind.__members__.items()},
    "how many": len,
    "by value": lambda kind: kind("dark-blue") is kind["DARK_BLUE"],
    "by itself": lambda kind: kind(kind["RED"]) is kind["RED"],
    "contains": lambda kind: ["red" in list(kind), kind["RED"] in kind],
    "equal": lambda kind: (kind["RED"] == "red", kind["RED"] != kind["DARK_BLUE"], {"red": 1}[kind["RED"]]),
    "shown": lambda kind: (str(kind["RED"]), f"{kind['RED']:>5}", "%s" % kind["RED"], ",".join(kind)),  # noqa: UP031
    "represented": lambda kind: repr(kind["RED"]).replace(kind.__name__, ""),
    "pickled": lambda kind: [pickle.loads(pickle.dumps(word)) is word for word in kind],
    "copied": lambda kind: [copy.deepcopy(word) is word for word in kind],
    "JSON": lambda kind: (json.dumps([*kind]), orjson.dumps([*kind])),
    "a key of JSON": lambda kind: json.dumps(dict.fromkeys(kind, 1)),
}


@pytest.mark.parametrize("seen", SEEN)
def test_a_words_class_behaves_like_a_str_enum(seen: str) -> None:
    assert SEEN[seen](Light) == SEEN[seen](Usual)


@pytest.mark.parametrize("kind", [Light, Usual])
@pytest.mark.parametrize("wrong", ["", "RED", "green", 1, None, []])
def test_an_unknown_word_is_a_value_error(kind: type[StrEnum], wrong: object) -> None:
    with pytest.raises(ValueError, match=f"^{wrong!r} is not a valid {kind.__name__}$".replace("[", "\\[")):
        kind(wrong)


def test_words_have_the_methods_of_their_class() -> None:
    assert [word.is_red for word in Light] == [True, False]
    assert Light.first() is Light.RED
