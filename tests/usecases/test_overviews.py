"""The fleet by reasons and by labels, on every backend."""

from __future__ import annotations

import io
import re
from datetime import timedelta

import pytest

from bmhctl.domain.requirements import Requirement, dump_requirements, reservation_request
from bmhctl.domain.ticket import Ticket
from bmhctl.errors import UsageError
from bmhctl.output import Display, Format, render
from bmhctl.stores.claims import ticket_claim
from bmhctl.usecases import hosts, lifecycle_verbs
from bmhctl.usecases.overviews import fleet, reasons
from bmhctl.usecases.reservations.reserve import reserve_or_wait
from bmhctl.usecases.shared.host_selection import Choice
from bmhctl.usecases.status import status
from bmhctl.usecases.steps import step_verbs
from tests.conftest import Lab, copied

POLICY = """
[checks.burn-in]
command = ["false"]
selector = "rack=r10"
"""


@pytest.fixture
@copied
def fleet_of_seven(lab: Lab) -> Lab:
    """Hosts that are not free, one for each kind of reason; the reasons are hours apart."""
    lab.policy(POLICY)
    for name, rack in (("node[01-05]", "r2"), ("bad[1-2]", "r10")):
        hosts.add(lab.context(), [name], hosts.AttributeChanges(labels={"rack": rack}))
    hosts.add(lab.context(), ["spare"], hosts.AttributeChanges())
    step_verbs.ready(lab.context(), Choice(("node*",)), jobs=1)
    step_verbs.ready(lab.context("ci"), Choice(("bad*",)), jobs=1)
    for act in (
        lambda: lifecycle_verbs.maintain(lab.context("alice"), Choice(("node01", "node03")), reason="new [red]disk"),
        lambda: lifecycle_verbs.maintain(lab.context("bob"), Choice(("node03",)), reason="cabling"),
        lambda: lifecycle_verbs.maintain(lab.context("alice"), Choice(("node02",)), reason="new [red]disk"),
        lambda: lifecycle_verbs.cordon(lab.context("bob"), Choice(("node04",)), reason="power\x1b[31m"),
    ):
        lab.clock.move(hours=1)
        act()
    return lab


def test_reasons_are_listed_oldest_first_with_their_hosts(fleet_of_seven: Lab) -> None:
    found = reasons(fleet_of_seven.context())
    shown = [(each.kind, each.reason, each.actor, each.hosts) for each in found.items if each.kind != "failed check"]
    assert shown == [
        ("maintenance", "new [red]disk", "alice", ("node01", "node02", "node03")),
        ("maintenance", "cabling", "bob", ("node03",)),
        ("cordoned", "power\x1b[31m", "bob", ("node04",)),
    ]
    ages = [timedelta(hours=round((found.now - each.since).total_seconds() / 3600)) for each in found.items[-3:]]
    assert ages == [timedelta(hours=3), timedelta(hours=2), timedelta(0)]
    [failed] = [each for each in found.items if each.kind == "failed check"]
    assert (failed.reason.split(":")[0], failed.actor, failed.hosts) == ("burn-in", "ci", ("bad1", "bad2"))


def test_a_fault_and_an_undeclared_host_have_the_actor_and_the_time_of_their_event(fleet_of_seven: Lab) -> None:
    lab = fleet_of_seven
    reserve_or_wait(lab.context("ci"), reservation_request(("node05",)))
    lab.clock.move(hours=1)
    lifecycle_verbs.taint(lab.context("ci"), Choice(("node05",)), fault="fan 3 is dead")
    lab.clock.move(hours=3)
    found = reasons(lab.context())
    [fault] = [each for each in found.items if each.kind == "fault"]
    assert (fault.reason, fault.actor, fault.hosts) == ("fan 3 is dead", "ci", ("node05",))
    assert round((found.now - fault.since).total_seconds() / 3600) == 3
    if lab.is_toml:
        lab.path.write_text(re.sub(r"(?ms)^\[hosts\.spare\].*?(?=^\[|\Z)", "", lab.path.read_text()))
        [gone] = [each for each in reasons(lab.context("bob")).items if each.kind == "undeclared"]
        assert (gone.reason, gone.actor, gone.hosts) == ("no longer declared", "bob", ("spare",))


def test_hosts_are_grouped_by_the_values_of_a_label_in_their_natural_order(fleet_of_seven: Lab) -> None:
    found = fleet(fleet_of_seven.context(), "rack")
    assert [(group.value, [host.name for host in group.hosts]) for group in found.groups] == [
        ("r2", ["node01", "node02", "node03", "node04", "node05"]),
        ("r10", ["bad1", "bad2"]),
        (None, ["spare"]),
    ]
    assert fleet(fleet_of_seven.context(), "label:rack").groups == found.groups
    out = io.StringIO()
    render(found, Display(out, out, format=Format.PLAIN))
    assert [line for line in out.getvalue().splitlines() if "/" in line][-4:-1] == [
        "r2      1/5  ■■■◐●",
        "r10     0/2  ○○",
        "(none)  0/1  ○",
    ]
    with pytest.raises(UsageError, match="no host has the label 'rak'") as refused:
        fleet(fleet_of_seven.context(), "rak")
    assert "did you mean rack?" in str(refused.value.hint)


def test_a_host_that_is_set_aside_for_a_ticket_is_free_in_neither_view(fleet_of_seven: Lab) -> None:
    ctx = fleet_of_seven.context("carol")
    wants = dump_requirements((Requirement(name="node05"),))
    with ctx.store.transaction():
        ticket = ctx.store.tickets.add(Ticket("carol", wants, ctx.clock(), ctx.clock()))
    with ctx.store.claims.share(ticket_claim(ticket.id)):
        found = fleet(fleet_of_seven.context(), "rack")
        assert status(fleet_of_seven.context()).free == 0
    out = io.StringIO()
    render(found, Display(out, out, format=Format.PLAIN))
    assert " · 0 free · " in out.getvalue()
    assert "r2      0/5  ■■■◐◐\n" in out.getvalue()


def test_on_a_terminal_nothing_is_wider_than_it_and_hostile_text_is_harmless(fleet_of_seven: Lab) -> None:
    for result in (reasons(fleet_of_seven.context()), fleet(fleet_of_seven.context(), "rack")):
        for width in (40, 80, 120):
            out = io.StringIO()
            render(result, Display(out, out, stdout_tty=True, width=width, format=Format.TABLE))
            lines = out.getvalue().splitlines()
            assert max(map(len, lines[1:])) <= width
            assert "\x1b" not in out.getvalue()
