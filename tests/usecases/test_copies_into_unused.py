"""`copy` into an inventory on a server that `init` has created: it is filled only if nothing was recorded in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bmhctl.errors import StateRefusedError
from bmhctl.stores.schema import INVENTORY_KEY, TABLES
from bmhctl.usecases import hosts, inventories, policy
from bmhctl.usecases.shared.context import Context
from bmhctl.usecases.shared.host_selection import Choice
from bmhctl.usecases.steps import step_verbs
from tests.conftest import SUFFIX, Lab

POLICY = '[defaults]\nttl = "2h"\n'


@pytest.fixture
def made(lab: Lab, tmp_path: Path) -> Iterator[Lab]:
    """An inventory on a server, as `init` creates it."""
    made = Lab(tmp_path / f"made-{SUFFIX['postgres']}", clock=lab.clock)
    inventories.init(made.location)
    yield made
    made.remove()


def rows(lab: Lab) -> dict[str, list[str]]:
    """Return the rows of each table, without the word that differs in each inventory."""
    admin = lab.context().store.admin
    return {table: sorted(repr(row) for row in admin.rows(table) if row[0] != INVENTORY_KEY) for table in TABLES}


def test_a_copy_fills_an_inventory_that_was_never_used(lab: Lab, made: Lab, tmp_path: Path) -> None:
    lab.policy(POLICY)
    hosts.add(lab.context(), ["node[1-3]"], hosts.AttributeChanges(labels={"rack": "r1"}))
    step_verbs.ready(lab.context(), Choice(("node1",)))
    new = Lab(tmp_path / f"new-{SUFFIX['postgres']}", clock=lab.clock)
    inventories.copy(lab.context(), new.location)

    inventories.copy(lab.context(), made.location)

    assert rows(made) == rows(new)
    new.remove()


USES: dict[str, Callable[[Context], object]] = {
    "a host": lambda ctx: hosts.add(ctx, ["node9"], hosts.AttributeChanges()),
    "a host that was removed": lambda ctx: (
        hosts.add(ctx, ["node9"], hosts.AttributeChanges()),
        hosts.remove(ctx, Choice(("node9",))),
    ),
    "a policy": lambda ctx: policy.apply_policy(ctx, POLICY, "policy.toml"),
}


@pytest.mark.parametrize("use", USES)
def test_a_copy_leaves_an_inventory_alone_in_which_something_was_recorded(lab: Lab, made: Lab, use: str) -> None:
    hosts.add(lab.context(), ["node1"], hosts.AttributeChanges())
    USES[use](made.context())
    before = rows(made)

    with pytest.raises(StateRefusedError, match="already: nothing was changed"):
        inventories.copy(lab.context(), made.location)

    assert rows(made) == before


def test_a_copy_leaves_an_unused_inventory_alone_that_was_retired(lab: Lab, made: Lab, tmp_path: Path) -> None:
    inventories.copy(made.context(), str(tmp_path / "successor.db"), retire_source=True)

    with pytest.raises(StateRefusedError, match="already: nothing was changed"):
        inventories.copy(lab.context(), made.location)

    assert made.context().store.retirement.successor() == str(tmp_path / "successor.db")


def test_init_refuses_an_inventory_that_was_never_used(made: Lab) -> None:
    with pytest.raises(StateRefusedError, match="already: nothing was changed"):
        inventories.init(made.location)
