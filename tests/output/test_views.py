import re
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from xml.etree.ElementTree import fromstring

import pytest
from ClusterShell.NodeSet import NodeSet

from bmhctl.domain.model import Planned, State
from bmhctl.lifecycle.table import EDGES
from bmhctl.output import render
from bmhctl.output.graph.timeline_svg import svg
from bmhctl.output.live import LiveView
from bmhctl.output.sanitize import cell_width
from bmhctl.output.spans import heat_level, heat_step
from bmhctl.output.time_axis import ticks
from bmhctl.output.views.reservations import COLUMNS
from bmhctl.results import Held, History, Outcome, Plan, Reservations
from bmhctl.results.bookings import Bookings
from bmhctl.results.diagnosis import Diagnosis
from bmhctl.results.statistics import BookingFigures, Figures, HostTimeline, HourlyUse, Statistics, Stay, Timeline
from bmhctl.results.status import Ending, Fleet, HostGroup, Obstacle, Reason, Reasons, Status
from bmhctl.results.why import Graph

from .samples import (
    BOOKINGS,
    COUNTS,
    DETAIL,
    EVENTS,
    FLEET,
    GRAPH,
    HISTORY,
    HOST_GRAPH,
    LONG,
    NIGHTLY,
    NOW,
    QUEUE,
    STATUS,
    WHY,
    display,
    host,
)


def shown(result: object, **options: object) -> str:
    where = display(**options)  # type: ignore[arg-type]
    render(result, where)
    return where.stdout.getvalue()  # type: ignore[attr-defined, no-any-return]


def test_the_status_shows_the_fleet_at_a_glance() -> None:
    assert shown(STATUS, tty=True, width=60) == (
        "lab.toml  40 hosts · 11 free · 2026-11-23 08:00:00 UTC\n"
        "\n"
        "○○○○○○●●●●●●●●●●●●●●●●●●◆◆◆◆◆◆◆◆◆◆◆◆◆◆◆◆◆◆◆◆◆◆◆◆◆◆◆◆◆◆✗✗✗■■■\n"
        "\n"
        "○ 4 initial   ● 12 available (11 free)   ◆ 20 reserved\n"
        "✗ 2 tainted   ■ 2 maintenance\n"
        "\n"
        "Held\n"
        "  alice  r-7k3m  in 35m  node01 node02  nightly tests\n"
        "  bob    r-2xq9  no end  node12\n"
        "\n"
        "Ends next\n"
        "  in 35m  alice's lease r-7k3m  node01 node02\n"
        "  in 6h   maintenance: replace the PSU  node06\n"
        "\n"
        "Look at\n"
        "  cordoned    node03\n"
        "  undeclared  node07\n"
        "  fault       node05\n"
        "  expired     r-9ab1\n"
        "  the next command that writes ends an expired lease; to end\n"
        "  it now: bmhctl reap\n"
    )


@pytest.mark.parametrize("width", [66, 70, 80, 100])
@pytest.mark.parametrize("name", [LONG, "rack-17-a-long-name-of-a-machine-in-the-lab-0042"])
def test_status_wraps_lines_between_names_and_never_within_one(name: str, width: int) -> None:
    endings = (
        Ending(NOW + timedelta(hours=3), "lease r-89z3bz0y of bob@lab", (name,)),
        Ending(NOW + timedelta(hours=6), "maintenance: replace the PSU of it", (name, "node02")),
    )
    held = (Held(NIGHTLY, (replace(FLEET[0], spec=replace(FLEET[0].spec, name=name)),)),)
    text = shown(replace(STATUS, endings=endings, held=held), tty=True, width=width)
    assert text.count(name) == 3
    assert max(map(cell_width, text.splitlines())) <= width


@pytest.mark.parametrize("width", [60, 80, 200])
def test_many_numbered_hosts_of_one_reservation_are_shown_as_ranges(width: int) -> None:
    hosts = tuple(
        replace(FLEET[0], spec=replace(FLEET[0].spec, name=f"rack1-node{number:02}")) for number in (1, 2, 3, 4, 7)
    )
    names = tuple(host.name for host in hosts)
    endings = (Ending(NOW + timedelta(hours=3), "lease r-7k3m of alice", names),)
    text = shown(replace(STATUS, held=(Held(NIGHTLY, hosts),), endings=endings), tty=True, width=width)
    assert text.count("rack1-node[01-04,07]") == 2
    assert "rack1-node[01-04,07]" in shown(Reservations((Held(NIGHTLY, hosts),), NOW), tty=True, width=width)
    assert "rack1-node01 rack1-node02" in shown(Reservations((Held(NIGHTLY, hosts[:2]),), NOW), tty=True, width=width)


@pytest.mark.parametrize("width", [40, 60, 80])
def test_hosts_that_do_not_fit_their_column_are_shown_below_the_row(width: int) -> None:
    hosts = tuple(host(f"rack-with-a-name-{'abcdefgh'[n]}-node{n}", State.AVAILABLE) for n in range(8))
    held = Held(NIGHTLY, hosts)
    for view in (Reservations((held,), NOW), replace(STATUS, held=(held,))):
        text = shown(view, tty=True, width=width)
        assert [name in text for name in (each.name for each in hosts)] == [True] * 4 + [False] * 4
        assert "-node3 +4\n" in text
        assert "\n    rack-with-a-name-a-node0 " in text.replace(
            "\n    rack-with-a-name-a-node0\n", "\n    rack-with-a-name-a-node0 "
        )


def test_a_column_whose_values_are_all_below_the_rows_leaves_its_room_to_the_others() -> None:
    hosts = (host(f"node-{'x' * 70}", State.AVAILABLE),)
    held = Held(replace(NIGHTLY, owner="team-acceptance@lab", purpose="bisect a kernel regression"), hosts)
    for view in (Reservations((held,), NOW), replace(STATUS, held=(held,))):
        text = shown(view, tty=True, width=80)
        assert "team-acceptance@lab " in text
        assert "bisect a kernel regression" in text


@pytest.mark.parametrize("width", [62, 64, 80])
def test_an_inventory_in_a_deep_folder_is_shown_by_its_last_folders(width: int) -> None:
    place = "/srv/machines/of/the/whole/company/lab.toml"
    fleet = Fleet("rack", (HostGroup("r1", (FLEET[0],)),), place, NOW)
    diagnosis = Diagnosis(place, (), NOW, {"hosts": 1200})
    for result in (replace(STATUS, inventory=place), fleet, diagnosis):
        first, second, *_ = shown(result, tty=True, width=width).splitlines()
        assert second == ""
        assert "/lab.toml  1" in first or "/lab.toml  40 hosts" in first
        assert place in shown(result, tty=True, width=200)
        assert result is diagnosis or place in shown(result)


def test_the_marks_of_groups_begin_in_one_column_whatever_the_script_of_their_names() -> None:
    fleet = Fleet("rack", tuple(HostGroup(name, (FLEET[0],)) for name in ("r1", "機架十")), "lab.toml", NOW)
    rows = shown(fleet, tty=True, width=80).splitlines()[2:4]
    assert len({cell_width(row) for row in rows}) == 1


def test_a_reason_with_more_ranges_of_hosts_than_fit_a_line_names_them_all() -> None:
    names = tuple(f"node{n:02}" for n in range(1, 60, 2))
    reasons = Reasons((Reason("fault", "dust", None, NOW, names),), "lab.toml", NOW)
    text = shown(reasons, tty=True, width=80)
    assert "…" not in text
    assert [*NodeSet(",".join(re.findall(r"node\S+", text)))] == [*names]


def test_the_plan_of_policy_check_is_shown_without_a_count_of_changes() -> None:
    hosts = tuple(Outcome(f"node{n}", False, "checks: ssh", State.INITIAL, State.INITIAL) for n in range(40))
    where = display(tty=True)
    render(Plan("policy check", hosts, ("1 check",)), where)
    assert where.stderr.getvalue() == "1 check\n"  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("day", "hours"),
    [
        ("2026-03-29", ["29 Mar", "06:00", "12:00", "18:00"]),  # summer time begins at 02:00
        ("2026-10-25", ["25 Oct", "06:00", "12:00", "18:00"]),
    ],
)
def test_the_axis_of_a_chart_has_round_hours_on_both_sides_of_summer_time(
    day: str, hours: list[str], zone: Callable[[str], None]
) -> None:
    zone("Europe/Berlin")
    since = datetime.fromisoformat(day).astimezone()
    found = ticks(since, since + timedelta(hours=20), 5)
    assert [label for _, label in found] == hours
    assert [f"{at.astimezone():%H:%M}" for at, _ in found][1:] == hours[1:]
    days = ticks(since - timedelta(days=2), since + timedelta(days=3), 6)
    assert {f"{at.astimezone():%H:%M}" for at, _ in days} == {"00:00"}


def test_numbers_of_a_table_are_aligned() -> None:
    groups = (Figures("r1", 9, {State.RESERVED: 3.6e6}, 1200, 0), Figures("r2", 10, {State.RESERVED: 36.0}, 7, 12))
    statistics = Statistics(NOW - timedelta(days=7), NOW, NOW, "label:rack", groups, groups[0])
    head, first, second = shown(statistics, tty=True, width=200).splitlines()[-3:]
    for title, one, other in (("HOSTS", "9", "10"), ("HOURS", "1,000.0", "0.0"), ("RESERVATIONS", "1,200", "7")):
        end = head.index(title) + len(title)
        assert first[:end].endswith(one)
        assert second[:end].endswith(other)


@pytest.mark.parametrize(
    ("sort", "title"),
    [("failures", "FAILURES"), ("tasks", "FAILED"), ("repair", "MTTR"), ("hours", "HOURS"), ("name", "HOST")],
)
def test_the_column_by_which_figures_are_sorted_is_always_shown(sort: str, title: str) -> None:
    each = Figures("a" * 40, 1, {State.RESERVED: 3600.0}, 3, 1, None, 2, 2, 5, 4, timedelta(days=3), timedelta(hours=2))
    text = shown(Statistics(NOW - timedelta(days=7), NOW, NOW, "host", (each,), each, sort), tty=True, width=80)
    assert title in text.splitlines()[-3].split()


@pytest.mark.parametrize("width", [70, 80, 120, 200])
def test_hours_of_the_day_are_shown_above_their_columns(width: int) -> None:
    noon = HourlyUse(NOW - timedelta(days=7), NOW, NOW, {(0, 12): (3600.0, 3600.0)})
    _, _, head, monday, *_ = shown(noon, tty=True, width=width).splitlines()
    assert head.split() in ([*map(str, range(24))], [*map(str, range(0, 24, 2))])
    assert head.index("12") in range(monday.index("█"), monday.rindex("█") + 1)


@pytest.mark.parametrize("width", [40, 52])
def test_a_narrow_terminal_has_a_heat_map_and_a_summary_with_a_line_each(width: int) -> None:
    text = shown(HourlyUse(NOW, NOW, NOW, {(0, 9): (1.0, 2.0)}), tty=True, width=width).splitlines()
    assert [line[:3] for line in text if line[:3] in ("Mon", "Tue")] == ["Mon", "Tue"]
    head = next(line for line in text if line.endswith("18"))
    [monday] = [line for line in text if line.startswith("Mon")]
    assert monday[head.index("6") + 3] == "█"
    total = Figures("all", 1, dict.fromkeys(State, 3600.0), 0, 0)
    lines = shown(Statistics(NOW, NOW, NOW, None, (), total), tty=True, width=width).splitlines()
    assert lines[0].startswith(f"{NOW.astimezone():%Y-%m-%d %H:%M} – ")
    assert len([line for line in lines if "20.0%" in line and line.rstrip().endswith(("h", "host-hours"))]) == 5


def test_a_wide_terminal_shows_long_names_of_hosts_in_a_timeline() -> None:
    name = LONG[:50]
    row = HostTimeline(name, (Stay(NOW - timedelta(hours=2), NOW, State.RESERVED),), None, None)
    lab = Timeline(NOW - timedelta(hours=2), NOW, NOW, (row,), (), "lab.toml")
    assert name not in shown(lab, tty=True, width=80)
    assert name in shown(lab, tty=True, width=200)


def test_an_inventory_without_hosts_has_no_marks_to_explain() -> None:
    assert shown(Fleet("rack", (), "lab.toml", NOW), tty=True).count("\n") == 1


def test_the_shades_of_hours_are_scaled_to_the_busiest_one() -> None:
    use = {(0, 8): 36.0, (0, 9): 180.0, (0, 10): 720.0, (1, 0): 0.0}
    week = HourlyUse(NOW - timedelta(days=7), NOW, NOW, {hour: (seconds, 3600.0) for hour, seconds in use.items()})
    lines = shown(week, tty=True, width=120).splitlines()
    assert lines[3:6] == [
        "Mon  " + "   ·" * 8 + "░" * 8 + "█" * 4 + "   ·" * 13,
        " " * 5 + " " * 32 + "   1   5  20",
        "Tue" + " " * 6 + "   ·" * 23,
    ]
    assert lines[-1] == "░░ to 5 %   ▒▒ to 10 %   ▓▓ to 15 %   ██ to 20 %   · not known"


@pytest.mark.parametrize(("most", "step"), [(0.0, 1), (0.04, 1), (0.041, 2), (0.2, 5), (0.9, 25), (1.0, 25)])
def test_the_busiest_hour_of_a_heat_map_is_in_the_highest_levels(most: float, step: int) -> None:
    assert heat_step([None, most / 2, most]) == step
    assert heat_level(most, step) == (0 if not most else 4 if most != 0.041 else 3)
    assert (heat_level(None, step), heat_level(1e-9, step)) == (0, 1)


def test_names_of_hosts_are_whole_in_figures_and_those_of_an_ended_reservation_are_ranges() -> None:
    names = [f"arm64-devboard-0{number}.rack5.fra2.lab.example.com" for number in range(1, 7)]
    groups = tuple(Figures(name, 1, {State.RESERVED: 3600.0}, 3, 1) for name in names)
    text = shown(Statistics(NOW - timedelta(days=7), NOW, NOW, "host", groups, groups[0]), tty=True, width=80)
    assert all(name in text for name in names)
    ended = Held(replace(NIGHTLY, ended_at=NOW), (), tuple(names))
    assert "arm64-devboard-[01-06].rack5.fra2.lab.example.com\n" in shown(
        Reservations((ended,), NOW), tty=True, width=80
    )


def test_a_long_value_is_cut_before_other_columns_lose_room() -> None:
    held = Held(replace(NIGHTLY, owner="a" * 90, purpose="soak test of the release"), (host("node01", State.RESERVED),))
    assert shown(Reservations((held,), NOW), tty=True, width=100).splitlines()[1] == (
        f"r-7k3m  {'a' * 33}…  in 35m      node01  2h ago      soak test of the release"
    )


def test_a_timeline_without_hosts_is_a_note() -> None:
    where = display(tty=True)
    render(Timeline(NOW - timedelta(hours=1), NOW, NOW, (), (), "lab.toml"), where)
    assert (where.stdout.getvalue(), where.stderr.getvalue()) == ("", "no hosts: bmhctl list shows all\n")  # type: ignore[attr-defined]


def test_hosts_that_end_at_one_time_for_one_reason_share_a_line_of_status() -> None:
    ends = tuple(Ending(NOW + timedelta(hours=1), "maintenance: new disks", (f"node0{n}",)) for n in range(1, 5))
    text = shown(replace(STATUS, endings=ends), tty=True, width=80)
    assert "Ends next\n  in 1h  maintenance: new disks  node[01-04]\n\n" in text


def test_hosts_without_room_on_a_line_are_counted() -> None:
    names = tuple(f"r{rack}-n{slot}" for rack in range(1, 13) for slot in (1, 2, 3))
    late = replace(STATUS, obstacles=(Obstacle("maintenance", "new disks", names),))
    assert "r8-n[1-3] and 12 more  new disks\n" in shown(late, tty=True, width=150)


def test_a_wrapped_line_of_history_is_indented_below_its_text() -> None:
    event = replace(EVENTS[1], reason="a reason of many words " * 5)
    lines = shown(History((event,), event.host, NOW), tty=True, width=80).splitlines()
    assert [line[:6] for line in lines[1:]] == ["│   a ", "│   re"]


@pytest.mark.parametrize(("width", "aged"), [(80, False), (90, True), (120, True)])
def test_the_age_of_an_event_is_omitted_where_it_does_not_fit(width: int, aged: bool) -> None:
    event = replace(EVENTS[1], host="rack1-node01", reason=None)
    lines = shown(History((event,), None, NOW), tty=True, width=width).splitlines()
    assert len(lines) == 1
    assert lines[0].endswith(" ago") is aged
    assert "initial → available  ops@lab" in lines[0]


def test_a_maintenance_past_its_end_is_called_overdue() -> None:
    late = Ending(NOW - timedelta(minutes=5), "maintenance: replace the PSU", ("node06",))
    text = shown(replace(STATUS, endings=(late,)), tty=True, width=80)
    assert "Ends next\n  overdue 5m  maintenance: replace the PSU  node06\n" in text


def test_the_status_of_an_empty_inventory_suggests_the_next_command() -> None:
    empty = Status("lab.db", {}, 0, (), (), (), (), (), (), NOW)
    assert shown(empty, tty=True) == (
        "lab.db  0 hosts · 0 free · 2026-11-23 08:00:00 UTC\n\n"
        "○ 0 initial   ● 0 available   ◆ 0 reserved   ✗ 0 tainted   ■ 0 maintenance\n\n"
        "no hosts yet: bmhctl add 'node[01-03]' --label rack=r1\n"
    )


@pytest.mark.parametrize(
    "counts", [(1, 0, 0, 0, 999), (1, 1, 1, 1, 1), (3, 0, 0, 0, 0), (1, 1, 1, 1, 10**6), (7, 5, 3, 2, 1)]
)
@pytest.mark.parametrize("width", [40, 80, 200])
def test_the_bar_of_status_has_its_exact_width_and_shows_every_state(counts: tuple[int, ...], width: int) -> None:
    status = replace(STATUS, counts=dict(zip(State, counts, strict=True)))
    bar = shown(status, tty=True, width=width).split("\n\n")[1]
    assert cell_width(bar) == min(width, 100)
    assert len(set(bar)) == sum(count > 0 for count in counts)


def test_the_status_of_a_large_fleet_fits_on_one_screen() -> None:
    names = tuple(f"node{i:04}" for i in range(900))
    large = replace(
        STATUS,
        cordoned=names,
        held=tuple(Held(NIGHTLY, FLEET[:2]) for _ in names),
        endings=tuple(Ending(NOW, "a lease", names) for _ in names),
    )
    lines = shown(large, tty=True, width=100).splitlines()
    assert len(lines) < 45
    assert "  and 892 more: bmhctl reservations" in lines
    assert "node0899" in shown(large)


def test_status_shows_the_total_of_every_shortened_list() -> None:
    totals = {"held": 33_424, "endings": 3_002, "cordoned": 10_036, "faults": 1, "undeclared": 1, "expired": 1}
    counts = dict.fromkeys(State, 0) | {State.AVAILABLE: 1_234_567}
    large = replace(STATUS, counts=counts, free=1_000_000, waiting=3, totals=totals)
    for lines in (shown(large, tty=True, width=80).splitlines(), shown(large).splitlines()):
        assert lines[0] == "lab.toml  1,234,567 hosts · 1,000,000 free · 3 waiting · 2026-11-23 08:00:00 UTC"
        assert any("● 1,234,567 available" in line for line in lines)
        assert "  and 33,422 more: bmhctl reservations" in lines
        assert "  and 3,000 more: bmhctl list --sort until" in lines
        assert "  cordoned    node03 and 10,035 more" in lines
        assert "  fault       node05" in lines


def test_status_counts_the_hosts_that_its_reasons_do_not_name() -> None:
    read = (
        Obstacle("cordoned", "recabling", ("node01",), "cordoned"),
        Obstacle("cordoned", "new disk", ("node02",), "draining"),
        Obstacle("fault", "fan 3", ("node05",)),
    )
    large = replace(STATUS, obstacles=read, totals={"cordoned": 19, "faults": 1})
    for text in (shown(large, tty=True), shown(large)):
        assert "  cordoned    and 17 more hosts: bmhctl status --reasons\n" in text
        assert "  draining    node02  new disk\n" in text
        assert text.count("more host") == 1


def test_status_shows_the_next_plans_and_their_unusable_hosts() -> None:
    assert "Planned" not in shown(STATUS)
    item = BOOKINGS.items[0]
    longer = replace(item, hosts=tuple(f"node{number:02}" for number in range(1, 11)))
    planned = replace(
        STATUS, planned=(*BOOKINGS.items, longer), totals={"planned": 5, "bookings": 4, "maintenances": 1}
    )
    text = shown(planned, tty=True, width=80)
    assert text.index("Look at\n") < text.index("Planned\n")  # a low terminal cuts the end of what it watches
    section = text.partition("Planned\n")[2].partition("\n\n")[0].rstrip()
    assert section.splitlines() == [
        "  in 2h  alice        node02! node01          demo        b-7k3m9q2x",
        "  now    maintenance  node01                  power work  m-2c5x8w1n",
        "  in 2h  alice        node02! node[01,03-10]  demo        b-7k3m9q2x",
        "  and 2 more: bmhctl bookings",
    ]


def test_why_shows_possible_commands_before_impossible_ones() -> None:
    assert shown(WHY, tty=True) == (
        "node01  ◆ reserved  2h ago\n"
        "\n"
        "  It is reserved by alice (r-7k3m) for nightly tests, for another 35m.\n"
        "  · it was last clean 2h ago\n"
        "  · 2 tickets wait for a host like this\n"
        "\n"
        "  ✓ taint    → tainted      bmhctl taint node01 -R r-7k3m\n"
        "  ✓ maintain → maintenance  bmhctl maintain node01 --reason …\n"
        "             the reservation is kept\n"
        "  ✗ ready    is reserved: ready is only possible from initial\n"
        "  ✗ reserve  is held by alice (r-7k3m) until 08:35\n"
        "  ✗ reset    is reserved: reset is only possible from tainted\n"
        "  ✗ resume   is reserved: resume is only possible from maintenance\n"
        "\n"
        "next  bmhctl taint node01 -R r-7k3m\n"
    )


def test_history_is_a_timeline() -> None:
    assert shown(HISTORY, tty=True) == (
        "○ 2026-11-20 08:00:00 UTC  enter  [*] → initial  ops@lab  3d ago\n"
        "● 2026-11-20 08:09:00 UTC  ready  initial → available  ops@lab  2d23h ago\n"
        "│ 2026-11-23 00:00:00 UTC  cordon  carol  8h ago\n"
        "│   kernel upgrade\n"
        "│ 2026-11-23 01:00:00 UTC  uncordon  carol  7h ago\n"
        "◆ 2026-11-23 06:00:00 UTC  reserve  available → reserved  alice  2h ago\n"
        "│   nightly tests · r-7k3m\n"
    )
    assert "  node01  ready  " in shown(History(EVENTS, None, NOW), tty=True)


def test_history_in_a_pipe_is_a_table() -> None:
    assert shown(History(EVENTS[-1:], "node01", NOW)) == (
        "AT                    HOST    ACTOR  VERB     SOURCE     DEST      REASON         RESERVATION\n"
        "2026-11-23T06:00:00Z  node01  alice  reserve  available  reserved  nightly tests  r-7k3m\n"
    )


def test_show_prints_everything_known_about_a_host() -> None:
    assert shown(DETAIL, tty=True).startswith(
        "node01  ◆ reserved  2h ago\n"
        "\n"
        "  held by    alice · r-7k3m · nightly tests\n"
        "  until      in 35m · 2026-11-23 08:35:00 UTC\n"
        "  address    10.0.0.11\n"
        "  mac        bc:55:85:92:de:b7\n"
        "  labels     arch=arm64,rack=r1,zone=b\n"
        "  hardware   cpus=64,memory=256GiB\n"
        "  bmc        redfish+https://10.0.1.11/redfish/v1/Systems/1 · env:LAB_BMC\n"
        "  note       left slot, top\n"
        "  last used  2h ago\n"
        "\n"
        "○ 2026-11-20"
    )
    assert "\nuntil            2026-11-23T08:35:00Z\n" in shown(DETAIL)


def test_the_lifecycle_is_drawn_with_its_counts() -> None:
    assert shown(GRAPH, tty=True) == (
        "   [*]      ╭────────────────────────── reset ──────────────────────────╮\n"
        "  enter     │                                                           │\n"
        "    ▼       ▼                                                           │\n"
        "  ╭───────────╮        ╭───────────╮         ╭───────────╮        ╭─────┴─────╮\n"
        "  │  initial  │  ready │ available │ reserve │ reserved  │  taint │  tainted  │\n"
        "  │    ○ 4    ├───────▶│   ● 12    ├────────▶│   ◆ 20    ├───────▶│    ✗ 2    │\n"
        "  ╰─┬─────────╯        ╰─┬─────────╯         ╰─┬─────────╯        ╰─────┬─────╯\n"
        "    │       ▲            │       ▲             │       ▲                │\n"
        "maintain resume      maintain resume       maintain resume          maintain\n"
        "    │       │            │       │             │       │                │\n"
        "    ▼       │            ▼       │             ▼       │                ▼\n"
        "  ╭─────────┴────────────────────┴─────────────────────┴──────────────────────╮\n"
        "  │                             maintenance  ■ 2                              │\n"
        "  ╰───────────────────────────────────────────────────────────────────────────╯\n"
        "  retire: initial, available, tainted, maintenance → [*]\n"
    )


def test_the_graph_of_a_host_marks_its_past_and_possible_transitions() -> None:
    assert shown(HOST_GRAPH, tty=True).startswith(
        "node01  ◆ reserved  2h ago\n"
        "\n"
        "   [*]      ╭────────────────────────── reset ──────────────────────────╮\n"
        "  enter     │                                                           │\n"
        "    ▽       ▽                                                           │\n"
        "  ╭───────────╮        ╭───────────╮         ╔═══════════╗        ╭─────┴─────╮\n"
        "  │  initial  │  ready │ available │ reserve ║ reserved  ║  taint │  tainted  │\n"
        "  │     ○     ├━━━━━━━▷│     ●     ├━━━━━━━━▷║  ◆ here   ╟───────▶│     ✗     │\n"
        "  ╰─┬─────────╯        ╰─┬─────────╯         ╚═╤═════════╝        ╰─────┬─────╯\n"
        "    │       △            │       △             │       △                │\n"
        "maintain resume      maintain resume       maintain resume          maintain\n"
        "    │       │            │       │             │       │                │\n"
        "    ▽       │            ▽       │             ▼       │                ▽\n"
        "  ╭─────────┴────────────────────┴─────────────────────┴──────────────────────╮\n"
        "  │                              maintenance  ■                               │\n"
        "  ╰───────────────────────────────────────────────────────────────────────────╯\n"
        "  retire: initial, available, tainted, maintenance → [*]\n"
        "\n"
        "  ━━ came this way   ▶ possible now   ▷ not possible now\n"
        "\n"
        "  It is reserved by alice (r-7k3m) for nightly tests, for another 35m.\n"
        "\n"
        "  [*] → initial → available → reserved\n"
        "\n"
        "  ✓ taint    → tainted      bmhctl taint node01 -R r-7k3m\n"
    )


def test_a_terminal_too_narrow_for_the_graph_gets_a_list_of_transitions() -> None:
    text = shown(Graph(COUNTS), tty=True, width=60)
    assert "◆ reserved  20\n" in text
    for edge in EDGES:
        if edge.drawn:
            assert f"  {edge.verb:<9}{edge.source or '[*]'} → {edge.dest or '[*]'}\n" in text
    assert "━▷ reserve  available → reserved\n" in shown(HOST_GRAPH, tty=True, width=60)
    assert " ▶ taint    reserved → tainted\n" in shown(HOST_GRAPH, tty=True, width=60)


@pytest.mark.parametrize("width", [40, 60, 80, 110, 200])
def test_no_view_is_wider_than_the_terminal(width: int) -> None:
    for result in (STATUS, WHY, DETAIL, HISTORY, GRAPH, HOST_GRAPH, QUEUE):
        assert max(map(cell_width, shown(result, tty=True, width=width).splitlines())) <= width


def test_bookings_and_planned_maintenances_have_different_marks_even_without_colours() -> None:
    planned = tuple(
        Planned(name, "alice", NOW + timedelta(hours=start), NOW + timedelta(hours=end))
        for name, start, end in (("b-1", 1, 2), ("m-2", 2, 4))
    )
    row = HostTimeline(
        "node01",
        (Stay(NOW - timedelta(hours=4), NOW, State.RESERVED, "bob"),),
        "bob",
        NOW + timedelta(hours=3),
        planned,
    )
    other = HostTimeline("node02", (Stay(NOW - timedelta(hours=4), NOW, State.AVAILABLE),))
    chart = Timeline(NOW - timedelta(hours=4), NOW + timedelta(hours=4), NOW, (row, other), (), "lab.toml")
    assert shown(chart, tty=True, width=48).splitlines()[1:] == [
        "node01  ████████████████████│░░░░◇◇◇◇◇□□□□□□□□□□",
        "node02  ····················│",
        "",
        "○ initial  · available  █ reserved  ✗ tainted",
        "■ maintenance  ░ leased  ◇ booked",
        "□ planned maintenance  │ now",
    ]
    without = replace(chart, hosts=(other,))
    assert "booked" not in shown(without, tty=True)
    assert "planned" not in shown(without, tty=True)


def test_a_timeline_shows_only_the_plans_within_its_span() -> None:
    planned = Planned("b-1", "<alice>", NOW + timedelta(hours=1), NOW + timedelta(days=1))
    far = Planned("m-2", "bob", NOW + timedelta(days=2), NOW + timedelta(days=3))
    row = HostTimeline("node01", (), None, None, (planned, far))
    drawing = svg(Timeline(NOW - timedelta(hours=2), NOW + timedelta(hours=2), NOW, (row,), (), "lab.toml"))
    titles = [each.text for each in fromstring(drawing).iter("{http://www.w3.org/2000/svg}title")]
    assert [title for title in titles if title and "m-2" in title] == []
    assert "node01: booked by <alice> (b-1), 2026-11-23 09:00:00 UTC to 2026-11-24 08:00:00 UTC" in titles


def test_reservations_in_a_pipe_have_all_columns_of_the_table() -> None:
    held = Held(replace(NIGHTLY, shared_with=("bob", "carol")), FLEET[:1])
    head, row = shown(Reservations((held,), NOW)).splitlines()
    assert len(head.split()) == len(COLUMNS)
    assert head.split()[-1] == "SHARED_WITH"
    assert row.split()[-1] == "bob,carol"


def test_stats_show_bookings_if_there_are_any() -> None:
    found = BookingFigures(made=4, taken=2, lapsed=1, cancelled=1, booked=36_000.0, used=27_000.0)
    figures = Figures("all", 2, {State.AVAILABLE: 60.0}, 3, 0)
    stats = Statistics(NOW - timedelta(days=7), NOW, NOW, None, (), replace(figures, bookings=found))
    none = replace(stats, total=replace(figures, bookings=BookingFigures()))
    assert "bookings" not in shown(none, tty=True)
    line = "bookings      4 made, 2 taken, 1 lapsed, 1 cancelled; 10.0 host-hours booked, 75.0% of it used"
    assert line in shown(stats, tty=True, width=120).splitlines()


def test_the_second_day_of_a_booking_is_shown_only_where_it_differs() -> None:
    item = BOOKINGS.items[0]
    night = replace(item, booking=replace(item.booking, ends_at=NOW + timedelta(days=1)), trouble=())
    listed = Bookings((replace(item, trouble=()), night), NOW)
    assert shown(listed, tty=True, width=100).splitlines() == [
        "BOOKING     OWNER  FROM              UNTIL                 STARTS  HOSTS          PURPOSE  STATE",
        "b-7k3m9q2x  alice  2026-11-23 10:00  13:00 UTC             in 2h   node01 node02  demo     ahead",
        "b-7k3m9q2x  alice  2026-11-23 10:00  2026-11-24 08:00 UTC  in 2h   node01 node02  demo     ahead",
    ]


def test_a_booking_whose_end_has_passed_is_overdue_until_a_command_ends_it() -> None:
    item = replace(BOOKINGS.items[0], trouble=())
    for after, state, when in ((-1, "now", "now"), (3600, "overdue", "overdue 1h")):
        now = item.booking.ends_at + timedelta(seconds=after)
        assert shown(Bookings((item,), now), tty=True, width=100).splitlines()[1].split()[-1] == state
        planned = replace(STATUS, planned=(item,), now=now)
        assert f"  {when}  alice  node[01-02]  demo" in shown(planned, tty=True, width=100)


def test_a_narrow_terminal_shows_what_a_booking_is_for_before_when_it_starts() -> None:
    item = replace(BOOKINGS.items[0], trouble=())
    heading = shown(Bookings((item,), NOW), tty=True, width=80).splitlines()[0]
    assert heading.split() == ["BOOKING", "OWNER", "FROM", "UNTIL", "HOSTS", "PURPOSE", "STATE"]


def test_the_queue_shows_owners_whole_on_a_narrow_terminal() -> None:
    owner = "gitlab-runner-arm64/group/project"
    items = tuple(replace(item, ticket=replace(item.ticket, owner=owner)) for item in QUEUE.items)
    lines = shown(replace(QUEUE, items=items), tty=True, width=80).splitlines()
    assert owner in lines[1]
    assert max(map(len, lines[:2])) <= 80


def test_a_long_note_below_what_is_watched_is_shown_whole() -> None:
    screen = display(tty=True)
    with LiveView(screen) as live:
        live.show(replace(STATUS, planned=BOOKINGS.items * 5))  # higher than the terminal
        live.note("can't reach postgresql://lab@db.example/lab: connection refused; waiting until it is back")
        shown_note = screen.stdout.getvalue()[-400:]  # type: ignore[attr-defined]
    assert "waiting until it is back" in " ".join(shown_note.split())
