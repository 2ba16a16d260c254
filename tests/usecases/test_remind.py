"""What ends or begins soon is reported once, on every backend, with the owners that wait for it."""

from __future__ import annotations

from datetime import timedelta

import pytest

from bmhctl.domain.requirements import dump_requirements, parse_requirement, reservation_request
from bmhctl.domain.ticket import Ticket
from bmhctl.errors import UsageError
from bmhctl.results.queue import Reminder, Reminders
from bmhctl.stores.claims import ticket_claim
from bmhctl.usecases import hosts, lifecycle_verbs
from bmhctl.usecases.planned_maintenance import plan_maintenance
from bmhctl.usecases.remind import remind
from bmhctl.usecases.reservations import bookings, holder
from bmhctl.usecases.reservations.reserve import reserve_or_wait
from bmhctl.usecases.shared.host_selection import Choice
from bmhctl.usecases.steps import step_verbs
from tests.conftest import Bmhctl, Lab, copied

HOUR = timedelta(hours=1)


def told(lab: Lab, before: timedelta = HOUR) -> list[Reminder]:
    found: list[Reminder] = []
    remind(lab.context(), before, lambda each: found.extend(each.items))
    return found


@pytest.fixture
@copied
def fleet(lab: Lab) -> Lab:
    """node1 is reserved for two hours, node2 for two days, node3 in maintenance for three hours."""
    hosts.add(lab.context(), ["node[1-3]"], hosts.AttributeChanges(labels={"rack": "r1"}))
    step_verbs.ready(lab.context(), Choice(("node[1-3]",)), jobs=1)
    reserve_or_wait(lab.context("bob"), reservation_request(("node1",), ttl=2 * HOUR, purpose="[red]x"))
    reserve_or_wait(lab.context("bob"), reservation_request(("node2",), ttl=48 * HOUR))
    until = lab.clock.now + 3 * HOUR
    lifecycle_verbs.maintain(lab.context("olga"), Choice(("node3",)), reason="new disk", until=until)
    return lab


def test_each_approaching_end_is_reported_once(fleet: Lab) -> None:
    assert told(fleet) == []
    fleet.clock.move(hours=1.5)
    [lease] = told(fleet)
    assert (lease.kind, lease.owner, lease.hosts, lease.about) == ("lease", "bob", ("node1",), "[red]x")
    assert told(fleet) == []
    assert [each.kind for each in told(fleet, 2 * HOUR)] == ["lease", "maintenance"]  # each length is tried alone
    holder.extend(fleet.context("bob"), lease.id or "", 2 * HOUR)
    assert told(fleet) == []
    fleet.clock.move(hours=1.6)
    assert [(each.kind, each.hosts) for each in told(fleet)] == [("maintenance", ("node3",)), ("lease", ("node1",))]
    assert told(fleet) == told(fleet, 2 * HOUR) == []


def test_a_reminder_that_could_not_be_sent_is_sent_again(fleet: Lab) -> None:
    fleet.clock.move(hours=1.5)

    def fail(_: Reminders) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        remind(fleet.context(), HOUR, fail)
    assert len(told(fleet)) == 1


def test_a_reminder_names_the_owners_that_wait_for_the_hosts(fleet: Lab) -> None:
    fleet.clock.move(hours=1.5)
    ctx = fleet.context("carol")
    wants = dump_requirements([parse_requirement("rack=r1")])
    now = ctx.clock()
    with ctx.store.transaction():
        ticket = ctx.store.tickets.add(Ticket("carol", wants, now, now))
    with ctx.store.claims.share(ticket_claim(ticket.id)):
        assert [each.waiting for each in told(fleet)] == [("carol",)]


def test_remind_without_a_duration_is_refused(fleet: Lab) -> None:
    with pytest.raises(UsageError, match="--before is zero"):
        told(fleet, timedelta())


def test_the_command_of_remind_gets_json_lines_and_a_failure_counts_none_as_sent(bmhctl: Bmhctl, toml_lab: Lab) -> None:
    where = ("-i", toml_lab.location)
    assert bmhctl(*where, "add", "node1").status == bmhctl(*where, "ready", "node1").status == 0
    assert bmhctl(*where, "reserve", "node1", "--ttl", "30m").status == 0
    done = bmhctl(*where, "remind", "--exec", "sh -c 'cat; exit 3'")
    assert (done.status, '"hosts":["node1"]' in done.stdout) == (9, True)
    assert "the command of --exec ended with status 3" in done.stderr
    assert bmhctl(*where, "remind", "--exec", "/nowhere").status == 2
    assert '"owner":"alice"' in bmhctl(*where, "remind", "--exec", "cat").stdout
    done = bmhctl(*where, "remind", "--exec", "sh -c 'echo told; cat'")
    assert (done.status, done.stdout, done.stderr) == (0, "", "")


def test_plans_that_begin_and_bookings_without_enough_hosts_are_reported_once(lab: Lab) -> None:
    hosts.add(lab.context(), ["node[1-2]"], hosts.AttributeChanges())
    step_verbs.ready(lab.context(), Choice(("node[1-2]",)), jobs=1)
    begin = lab.clock.now + 3 * HOUR
    asked = reservation_request(("node1",), purpose="demo")
    [booked] = bookings.book(lab.context("bob"), asked, begin, begin + HOUR).items
    plan_maintenance(lab.context("olga"), Choice(("node2",)), begin, begin + HOUR, reason="power work")
    assert told(lab) == []
    lifecycle_verbs.cordon(lab.context("olga"), Choice(("node1",)), reason="fan")
    of_booking = (booked.booking.id, "bob", ("node1",), begin, "demo")
    assert told(lab) == [Reminder("short-booking", *of_booking)]
    assert told(lab) == []
    lab.clock.move(hours=2.5)
    [planned, started] = sorted(told(lab), key=lambda each: each.kind, reverse=True)
    assert (planned.kind, planned.owner, planned.hosts) == ("planned-maintenance", "olga", ("node2",))
    assert started == Reminder("booking", *of_booking)
    assert told(lab) == []
