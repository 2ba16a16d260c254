"""Errors: every class can be combined with others, sent to another process, and reported together with others."""

from __future__ import annotations

import importlib
import pickle
import pkgutil
from collections.abc import Iterator
from typing import cast

import pytest

import bmhctl
from bmhctl.errors import BmhctlError, MixedError, NotFoundError, StateRefusedError, combine
from tests.conftest import Lab


def classes(of: type[BmhctlError] = BmhctlError) -> Iterator[type[BmhctlError]]:
    for kind in of.__subclasses__():
        yield kind
        yield from classes(kind)


for module in pkgutil.walk_packages(bmhctl.__path__, "bmhctl."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
KINDS = sorted(set(classes()), key=lambda kind: kind.__name__)


def made(kind: type[BmhctlError], host: str) -> BmhctlError:
    """Return an error of a class, without calling the class's constructor."""
    error = cast("BmhctlError", kind.__new__(kind))
    BmhctlError.__init__(error, f"{host} failed", host=host, hint=f"look at {host}", details={"number": 7})
    return error


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_error_can_be_combined_with_others_of_its_status(kind: type[BmhctlError]) -> None:
    first, second = made(kind, "node1"), made(kind, "node2")
    error = combine([first, second])
    assert error is not None
    assert error.status == kind.status
    assert error.message == "2 hosts failed: node1, node2"
    assert [each["message"] for each in cast("list[dict[str, str]]", error.details["errors"])] == [
        "node1 failed",
        "node2 failed",
    ]
    again = pickle.loads(pickle.dumps(first))  # the test pickled it itself
    assert (type(again), again.message, again.host, again.hint, again.details) == (
        kind,
        first.message,
        "node1",
        "look at node1",
        {"number": 7},
    )


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_errors_with_different_statuses_combine_to_status_12(kind: type[BmhctlError]) -> None:
    other = made(NotFoundError if kind.status != NotFoundError.status else StateRefusedError, "node2")
    assert isinstance(combine([made(kind, "node1"), other]), MixedError)


def test_hosts_that_fail_for_different_causes_are_all_reported(lab: Lab) -> None:
    from bmhctl import Inventory
    from bmhctl.usecases import hosts
    from bmhctl.usecases.lifecycle_verbs import maintain
    from bmhctl.usecases.shared.host_selection import Choice
    from bmhctl.usecases.steps.execution import claimed

    other = lab.context("bob")
    hosts.add(other, ["node[1-3]"], hosts.AttributeChanges())
    maintain(other, Choice(("node3",)), reason="fan")
    known = other.store.hosts.with_names(["node1", "node2"])
    with claimed(other, known["node1"]), claimed(other, known["node2"]):
        with pytest.raises(StateRefusedError) as caught:
            Inventory(lab.context()).ready("node1", "node2")
        assert caught.value.message == "2 hosts failed: node1, node2"
        with pytest.raises(StateRefusedError) as caught:
            Inventory(lab.context()).ready("node1", "node3")
        errors = cast("list[dict[str, str]]", caught.value.details["errors"])
        assert [each["host"] for each in errors] == ["node1", "node3"]
        assert len({each["message"] for each in errors}) == 2
