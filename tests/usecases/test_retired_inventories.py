"""An inventory that `copy --retire-source` has retired: it refuses changes, names its successor, and can be read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from bmhctl.domain.requirements import Requirement, ReservationRequest, dump_requirements, reservation_request
from bmhctl.domain.ticket import Ticket
from bmhctl.errors import ExitStatus, RetiredError, StateRefusedError, UsageError
from bmhctl.stores.claims import host_claim, run_claim, ticket_claim
from bmhctl.support.values import replace
from bmhctl.usecases import copies, hosts, inventories, lifecycle_verbs, policy, queries
from bmhctl.usecases.doctor.doctor import doctor
from bmhctl.usecases.reservations import holder, reserve
from bmhctl.usecases.reservations.waiting import WaitOptions
from bmhctl.usecases.shared.context import Context
from bmhctl.usecases.shared.host_selection import Choice
from bmhctl.usecases.status import status
from bmhctl.usecases.steps import step_verbs
from tests.conftest import SUFFIX, Lab

ALL = Choice(everything=True)
FREE = reservation_request((), count=1)


@pytest.fixture
def retired(lab: Lab, tmp_path: Path) -> Lab:
    """Two hosts, one of them reserved, in an inventory that is retired for lab.db beside it."""
    fill(lab)
    copies.copy(lab.context(), str(tmp_path / "new" / "lab.db"), retire_source=True)
    return lab


def fill(lab: Lab) -> None:
    (lab.path.parent / "new").mkdir()
    hosts.add(lab.context(), ["node[1-2]"], hosts.AttributeChanges())
    step_verbs.ready(lab.context(), ALL)
    reserve.reserve_or_wait(lab.context(), ReservationRequest(FREE.requirements, token="r-one"))


CHANGES: dict[str, Callable[[Context], object]] = {
    "reserve": lambda ctx: reserve.reserve_or_wait(ctx, FREE),
    "wait": lambda ctx: reserve.reserve_or_wait(ctx, FREE, WaitOptions(pause=lambda *_: None)),
    "release": lambda ctx: lifecycle_verbs.release(ctx, Choice(), reservation="r-one"),
    "extend": lambda ctx: holder.extend(ctx, "r-one"),
    "renew": lambda ctx: holder.extend(ctx, "r-one", silent=True),
    "maintain": lambda ctx: lifecycle_verbs.maintain(ctx, ALL, reason="disk"),
    "reset": lambda ctx: step_verbs.reset(ctx, ALL),
    "add": lambda ctx: hosts.add(ctx, ["node3"], hosts.AttributeChanges()),
    "set": lambda ctx: hosts.set_attributes(ctx, ALL, hosts.AttributeChanges(note="new")),
    "remove": lambda ctx: hosts.remove(ctx, Choice(("node2",))),
    "policy": lambda ctx: policy.apply_policy(ctx, '[defaults]\nttl = "2h"\n', "policy.toml"),
    "retire again": lambda ctx: copies.copy(ctx, f"{ctx.store.folder}/third.db", retire_source=True),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_retired_inventory_refuses_changes_and_names_its_successor(name: str, lab: Lab, tmp_path: Path) -> None:
    fill(lab)
    ctx = lab.context()
    before = list(queries.list_hosts(ctx, ALL).hosts)
    copies.copy(lab.context(), str(tmp_path / "new" / "lab.db"), retire_source=True)

    if name == "policy" and lab.is_toml:
        return  # an edit of the file in an editor
    with pytest.raises(RetiredError, match=r"its successor is .*lab\.db") as caught:
        CHANGES[name](ctx)  # a connection that was open before
    assert caught.value.status is ExitStatus.UNREACHABLE
    assert caught.value.details == {"successor": str(tmp_path / "new" / "lab.db")}
    assert list(queries.list_hosts(ctx, ALL).hosts) == before


def test_every_transaction_on_a_retired_inventory_is_refused(retired: Lab) -> None:
    ctx = retired.context()
    [held] = ctx.store.reservations.open()
    with pytest.raises(RetiredError), ctx.store.transaction():
        ctx.store.reservations.save(held)


def test_a_task_names_its_retired_inventory_as_other_commands_do(retired: Lab, tmp_path: Path) -> None:
    ctx = retired.context()
    with pytest.raises(RetiredError) as caught:
        holder.extend(replace(ctx, store=ctx.store.undeclared()), "r-one", silent=True)
    successor = tmp_path / "new" / "lab.db"
    assert caught.value.message == f"{ctx.store.location} is retired and can't be changed: its successor is {successor}"


def test_a_retired_inventory_is_read_and_doctor_names_the_successor(retired: Lab) -> None:
    if retired.is_toml:
        retired.path.write_text(retired.path.read_text() + "[hosts.node9]\n")

    assert [host.name for host in queries.list_hosts(retired.context(), ALL).hosts] == ["node1", "node2"]
    assert queries.show(retired.context(), "node1").host.name == "node1"
    found = [each for each in doctor(retired.context()).findings if each.kind == "retired"]
    assert [each.severity for each in found] == ["warning"]


def test_the_status_of_a_retired_inventory_names_its_successor(retired: Lab, tmp_path: Path) -> None:
    retired.said.clear()
    ctx = retired.context()
    assert status(ctx).counts["reserved"] == 1
    assert retired.said == [f"{ctx.store.location} is retired: its successor is {tmp_path / 'new' / 'lab.db'}"]


def test_the_successor_has_everything_and_may_be_changed(retired: Lab, tmp_path: Path) -> None:
    copied = Lab(tmp_path / "new" / "lab.db", clock=retired.clock)
    assert lifecycle_verbs.release(copied.context(), Choice(), reservation="r-one").status is ExitStatus.DONE


@pytest.mark.parametrize("kind", list(SUFFIX))
def test_a_copy_or_a_backup_of_a_retired_inventory_can_be_used(retired: Lab, kind: str, tmp_path: Path) -> None:
    copied = Lab(tmp_path / f"third-{SUFFIX[kind]}", clock=retired.clock)
    copies.copy(retired.context(), copied.location)
    saved = Lab(tmp_path / "saved.db", clock=retired.clock)
    copies.backup(retired.context(), saved.location)
    try:
        for each in (copied, saved):
            assert lifecycle_verbs.release(each.context(), Choice(), reservation="r-one").status is ExitStatus.DONE
    finally:
        copied.remove()


def test_a_retired_inventory_can_be_used_again(retired: Lab) -> None:
    done = inventories.reactivate(retired.context())

    assert "use only one of the two inventories" in done.notes[0]
    assert lifecycle_verbs.release(retired.context(), Choice(), reservation="r-one").status is ExitStatus.DONE
    with pytest.raises(StateRefusedError, match="is not retired"):
        inventories.reactivate(retired.context())


def test_an_inventory_in_use_is_retired_only_by_force(lab: Lab, tmp_path: Path) -> None:
    fill(lab)
    destination = str(tmp_path / "new" / "lab.db")
    ctx = lab.context()
    node = ctx.store.hosts.named("node2")
    assert node is not None
    now = ctx.clock()
    wanted = dump_requirements((Requirement(count=2),))
    ticket = ctx.store.tickets.add(Ticket(owner="bob", requirements=wanted, created_at=now, refreshed_at=now))
    with (
        ctx.store.claims.claim(run_claim("r-one")),
        ctx.store.claims.claim(host_claim(node.id)),
        ctx.store.claims.share(ticket_claim(ticket.id)),
    ):
        with pytest.raises(StateRefusedError) as caught:
            copies.copy(lab.context(), destination, retire_source=True)
        assert "a task of alice runs under r-one" in caught.value.message
        assert "a step runs on node2" in caught.value.message
        assert f"bob waits with ticket {ticket.id}" in caught.value.message
        assert not Path(destination).exists()
        copies.copy(lab.context(), destination, retire_source=True, force=True)
    with pytest.raises(UsageError):
        copies.copy(lab.context(), destination, force=True)


def test_a_copy_of_a_retired_inventory_warns_of_its_successor(retired: Lab, tmp_path: Path) -> None:
    done = copies.copy(retired.context(), str(tmp_path / "third.db"))
    location, successor = retired.context().store.location, tmp_path / "new" / "lab.db"
    assert done.notes[0] == (
        f"{location} was retired before, and its successor {successor} has the same 2 hosts: use only one of the "
        "successor and the copy, or both reserve them"
    )
