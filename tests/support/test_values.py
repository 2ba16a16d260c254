"""Values have the fields that their class declares, are compared by them, and never change."""

from __future__ import annotations

import copy
import dataclasses
import pickle
import subprocess
import sys
from typing import Any, ClassVar

import pytest

from bmhctl.domain.model import Bmc, Host, HostSpec
from bmhctl.support.values import Frozen, field, replace


class Point(Frozen):
    """A point with two coordinates."""

    KIND: ClassVar[str] = "point"

    x: int
    y: int = 0
    marks: dict[str, int] = field(default_factory=dict)

    @property
    def sum(self) -> int:
        return self.x + self.y


class Spot(Point):
    """A point with a colour."""

    colour: str = "red"


class Nothing(Frozen):
    """A value without fields."""


class Alone(Frozen):
    """A value of one field."""

    x: int


def test_a_value_can_be_constructed_by_position_and_by_name_with_defaults() -> None:
    assert Point(1).y == 0
    assert Point(1, y=2) == Point(1, 2, {}) == Point(x=1, y=2, marks={})
    assert (Point(1, 2).sum, Point.KIND, Point(1).KIND) == (3, "point", "point")
    assert Spot(1, colour="blue") == Spot(1, 0, {}, "blue")


@pytest.mark.parametrize("first_line", ["from __future__ import annotations", "# annotations as this Python has them"])
def test_fields_are_read_from_annotations_of_both_kinds(first_line: str) -> None:
    """Annotations are texts (PEP 563), or values; on Python 3.14 a function that makes the values (PEP 649)."""
    code = f"""{first_line}
import typing
from typing import ClassVar
from bmhctl.support.values import Frozen, field

class Made(Frozen):
    KIND: ClassVar[str] = "made"
    PLACE: typing.ClassVar = "here"
    x: int
    marks: dict[str, "Made"] = field(default_factory=dict)

class Plain(Frozen):
    def method(self) -> int:
        return 1
"""
    known: dict[str, Any] = {"__name__": "known"}
    exec(compile(code, "<test>", "exec", dont_inherit=True), known)
    made, plain = known["Made"], known["Plain"]
    assert (repr(made(1)), made.KIND, made.PLACE) == ("Made(x=1, marks={})", "made", "here")
    assert [each.name for each in dataclasses.fields(made)] == ["x", "marks"]
    assert (repr(plain()), plain().method()) == ("Plain()", 1)


@pytest.mark.parametrize(
    ("args", "given", "words"),
    [((), {}, "missing"), ((1, 2, {}, 4), {}, "positional"), ((1,), {"x": 1}, "multiple"), ((1,), {"z": 1}, "'z'")],
)
def test_wrong_arguments_of_a_value_are_a_type_error(
    args: tuple[object, ...], given: dict[str, object], words: str
) -> None:
    for _ in range(2):  # the first call is the one that compiles
        with pytest.raises(TypeError, match=words):
            Point(*args, **given)  # type: ignore[arg-type]


def test_the_first_value_of_a_class_is_constructed_like_later_ones() -> None:
    class Late(Frozen):
        name: str
        labels: dict[str, str] = field(default_factory=dict)
        size: int = 3

    made = [Late("a", size=4) for _ in range(50)]
    assert (set(map(repr, made)), len({id(each.labels) for each in made})) == (
        {f"{Late.__qualname__}(name='a', labels={{}}, size=4)"},
        50,
    )
    with pytest.raises(TypeError, match="size"):
        Late("a", {}, 4, size=4)  # type: ignore[misc]  # what is refused


def test_a_default_factory_is_called_for_each_value() -> None:
    assert Point(1).marks is not Point(1).marks


def test_a_value_cannot_be_changed() -> None:
    point = Point(1)
    for name in ("x", "new"):
        with pytest.raises(AttributeError, match=f"Point.{name} can't be set"):
            setattr(point, name, 2)
    with pytest.raises(AttributeError, match="can't be deleted"):
        del point.x
    assert not hasattr(point, "__dict__")
    assert point == Point(1)


def test_values_are_equal_by_class_and_fields() -> None:
    assert Point(1) != Point(2)
    assert Point(1) != Spot(1)
    assert Point(1) != (1, 0, {})
    assert Nothing() == Nothing()
    assert Alone(1) == Alone(1) != Alone(2)
    assert hash(Alone(1)) == hash(Alone(1))
    with pytest.raises(TypeError, match="unhashable"):
        hash(Point(1))


def test_replacing_makes_another_value() -> None:
    spot = Spot(1)
    assert replace(spot, x=2, colour="blue") == Spot(2, colour="blue")
    assert spot == Spot(1)
    with pytest.raises(TypeError, match="z"):
        replace(spot, z=1)  # type: ignore[call-arg]


def test_a_value_shows_its_fields() -> None:
    assert repr(Spot(1)) == "Spot(x=1, y=0, marks={}, colour='red')"
    assert (repr(Nothing()), repr(Alone(1))) == ("Nothing()", "Alone(x=1)")


def test_values_can_be_copied_and_pickled() -> None:
    host = HostSpec("node01", labels={"a": "b"}, bmc=Bmc("10.0.0.1"))
    for other in (copy.copy(host), copy.deepcopy(host), pickle.loads(pickle.dumps(host))):
        assert other == host


def test_a_match_statement_binds_the_fields_in_their_order() -> None:
    match Spot(1, 2):
        case Spot(x, y, _, colour):
            assert (x, y, colour) == (1, 2, "red")


def test_the_dataclasses_module_accepts_a_value() -> None:
    spot = Spot(1)
    assert dataclasses.is_dataclass(spot)
    assert [each.name for each in dataclasses.fields(Spot)] == ["x", "y", "marks", "colour"]
    assert dataclasses.asdict(spot) == {"x": 1, "y": 0, "marks": {}, "colour": "red"}
    assert dataclasses.replace(spot, y=3) == Spot(1, 3)
    assert [each.default for each in dataclasses.fields(Host)][:1] == [dataclasses.MISSING]


def test_declaring_values_needs_no_dataclasses() -> None:
    code = (
        "import sys; from bmhctl import results; from bmhctl.domain import model\n"
        "model.Bmc('x'); assert 'dataclasses' not in sys.modules"
    )
    assert subprocess.run([sys.executable, "-I", "-c", code]).returncode == 0
