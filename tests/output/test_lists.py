from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import pytest

from bmhctl.domain.model import Bmc, Host, SetupProgress, State
from bmhctl.errors import NotFoundError, UsageError
from bmhctl.output import Format, render
from bmhctl.output.layout import GLYPH
from bmhctl.output.records import FIELDS
from bmhctl.output.sanitize import cell_width
from bmhctl.results import Held, Hosts, Reservations
from bmhctl.results.queue import Queue

from .samples import (
    FLEET,
    HISTORY,
    LONG,
    NIGHTLY,
    NOW,
    OVER,
    QUEUE,
    RESERVATIONS,
    display,
    fleet,
    host,
    hosts,
    spec,
    wide_fleet,
)


def shown(result: object, fields: tuple[str, ...] | None = None, **options: object) -> str:
    where = display(**options)  # type: ignore[arg-type]
    render(result, where, fields)
    return where.stdout.getvalue()  # type: ignore[attr-defined, no-any-return]


def test_a_terminal_of_80_columns_shows_what_matters_most() -> None:
    assert shown(hosts(), tty=True, width=80) == (
        "NAME    STATE          SINCE  OWNER  UNTIL   FLAGS       REASON\n"
        "node01  ◆ reserved     2h     alice  in 35m\n"
        "node02  ◆ reserved     12m    alice  in 35m\n"
        "node03  ● available    2h                    cordoned    kernel upgrade next\n"
        "node04  ○ initial      8s\n"
        "node05  ✗ tainted      3d4h                  fault       fan 3 stopped\n"
        "node06  ■ maintenance  2h            in 6h               replace the PSU (until…\n"
        "node07  ● available    2h                    undeclared  no longer declared\n"
        "left out: PURPOSE, ADDRESS, LABELS, NOTE (see -o plain)\n"
    )


def test_a_terminal_of_200_columns_shows_everything() -> None:
    assert shown(hosts(FLEET[:2]), tty=True, width=200) == (
        "NAME    STATE       SINCE  OWNER  PURPOSE        UNTIL   ADDRESS    LABELS\n"
        "node01  ◆ reserved  2h     alice  nightly tests  in 35m  10.0.0.11  arch=arm64,rack=r1,zone=b\n"
        "node02  ◆ reserved  12m    alice  nightly tests  in 35m  10.0.0.11  arch=arm64,rack=r1,zone=b\n"
    )


def test_a_narrow_column_is_shown_where_a_more_important_wide_one_does_not_fit() -> None:
    assert shown(hosts(FLEET[2:3]), tty=True, width=50) == (
        "NAME    STATE        FLAGS     REASON\n"
        "node03  ● available  cordoned  kernel upgrade next\n"
        "left out: SINCE, ADDRESS, LABELS (see -o plain)\n"
    )


@pytest.mark.parametrize("width", [80, 100, 120, 200])
@pytest.mark.parametrize("colour", [False, True])
def test_no_line_is_wider_than_the_terminal_and_no_name_is_cut(width: int, colour: bool) -> None:
    for items in (FLEET, wide_fleet(), fleet(40), fleet(2000)):
        text = shown(hosts(items), tty=True, width=width, colour=colour)
        if not colour:
            assert max(cell_width(line) for line in text.splitlines()) <= width
        assert len(text.partition("\x1b[2mleft out: " if colour else "left out: ")[0].splitlines()) == len(items) + 1
        for each in items:
            assert each.name in text


def test_the_longest_name_is_not_cut_even_when_the_terminal_is_too_narrow() -> None:
    text = shown(hosts((host(LONG),)), tty=True, width=66)
    assert LONG in text
    assert text.split()[:5] == ["NAME", "STATE", LONG, "●", "available"]
    assert text.splitlines()[-1] == "left out: SINCE, ADDRESS, LABELS (see -o plain)"


def test_a_list_shows_when_all_checks_last_passed_and_the_progress_of_a_setup() -> None:
    proven = host("proven", State.AVAILABLE, proven_at=NOW - timedelta(minutes=5))
    begun = host("begun", State.INITIAL, setup=SetupProgress(1, 3, "firmware"))

    head, first, second = shown(hosts((proven, begun)), tty=True, width=120).splitlines()

    assert "PROVEN" in head
    assert " 5m " in first
    assert "setup 1/3" in second
    assert second.endswith("setup step failed: firmware")
    assert "PROVEN" not in shown(hosts((host("new", State.AVAILABLE),)), tty=True, width=120)


def test_every_state_has_a_mark_without_colour() -> None:
    text = shown(hosts(tuple(host(f"n{state}", state) for state in State)), tty=True)
    for state in State:
        assert f"{GLYPH[state]} {state}" in text
    assert len(set(GLYPH.values())) == len(State)
    assert {cell_width(sign) for sign in GLYPH.values()} == {1}


def test_colours_change_no_character_of_the_text() -> None:
    import re

    coloured = shown(hosts(), tty=True, colour=True, width=120)
    assert "\x1b[33m◆ reserved\x1b[0m" in coloured
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured) == shown(hosts(), tty=True, width=120)


def test_a_pipe_gets_aligned_columns_with_nothing_cut() -> None:
    assert shown(hosts((*FLEET[:1], FLEET[3], host(LONG)))) == (
        f"NAME{' ' * 59}  STATE      FLAGS  SINCE                 OWNER  UNTIL                 ADDRESS    LABELS"
        "                     NOTE                      PURPOSE        REASON\n"
        f"node01{' ' * 57}  reserved   -      2026-11-23T06:00:00Z  alice  2026-11-23T08:35:00Z  10.0.0.11"
        "  arch=arm64,rack=r1,zone=b  -                         nightly tests  -\n"
        f"node04{' ' * 57}  initial    -      2026-11-23T07:59:52Z  -      -                     -          -"
        "                          große Kiste, linkes Fach  -              -\n"
        f"{LONG}  available  -      2026-11-23T06:00:00Z  -      -                     10.0.0.11"
        "  arch=arm64,rack=r1,zone=b  -                         -              -\n"
    )


def test_wide_characters_keep_the_columns_aligned() -> None:
    items = (host("a", spec=spec("a", address="サ")), host("b", spec=spec("b", address="xx")))
    assert (
        shown(Hosts(items, NOW), ("address", "name"), format=Format.PLAIN) == "ADDRESS  NAME\nサ       a\nxx       b\n"
    )


def test_fields_choose_the_columns_in_their_order() -> None:
    fields = ("state", "name", "until")
    expected = "STATE     NAME    UNTIL\nreserved  node01  2026-11-23T08:35:00Z\navailable  node03  -\n"
    assert shown(hosts((FLEET[0], FLEET[2])), fields, format=Format.PLAIN).split() == expected.split()
    assert shown(hosts(FLEET[:1]), fields, format=Format.CSV) == (
        "state,name,until\nreserved,node01,2026-11-23T08:35:00Z\n"
    )
    assert shown(hosts(FLEET[:1]), fields, format=Format.JSONL) == (
        '{"state":"reserved","name":"node01","until":"2026-11-23T08:35:00Z"}\n'
    )
    assert shown(hosts(FLEET[:1]), fields, tty=True).splitlines()[0].split() == ["STATE", "NAME", "UNTIL"]


@pytest.mark.parametrize(
    ("format", "expected"),
    [
        (
            Format.TABLE,
            "NAME  LABELS.RACK  LABELS.EXAMPLE.COM/ROLE  HARDWARE.CPUS  BMC.TYPE\n"
            "n1    r1           db                       64\n"
            "n2                                                         ipmi\n",
        ),
        (
            Format.PLAIN,
            "NAME  LABELS.RACK  LABELS.EXAMPLE.COM/ROLE  HARDWARE.CPUS  BMC.TYPE\n"
            "n1    r1           db                       64             -\n"
            "n2    -            -                        -              ipmi\n",
        ),
        (
            Format.CSV,
            "name,labels.rack,labels.example.com/role,hardware.cpus,bmc.type\nn1,r1,db,64,\nn2,,,,ipmi\n",
        ),
        (
            Format.JSONL,
            '{"name":"n1","labels.rack":"r1","labels.example.com/role":"db","hardware.cpus":64,"bmc.type":null}\n'
            '{"name":"n2","labels.rack":null,"labels.example.com/role":null,"hardware.cpus":null,"bmc.type":"ipmi"}\n',
        ),
        (
            Format.JSON,
            '{\n  "version": 1,\n  "kind": "hosts",\n  "now": "2026-11-23T08:00:00Z",\n  "hosts": [\n'
            '    {"name": "n1", "labels.rack": "r1", "labels.example.com/role": "db", "hardware.cpus": 64, '
            '"bmc.type": null},\n'
            '    {"name": "n2", "labels.rack": null, "labels.example.com/role": null, "hardware.cpus": null, '
            '"bmc.type": "ipmi"}\n  ]\n}\n',
        ),
    ],
)
def test_a_key_after_a_dot_chooses_one_value_of_an_object(format: Format, expected: str) -> None:
    labels = {"rack": "r1", "example.com/role": "db", "example.com": "x"}
    items = (
        host("n1", spec=spec("n1", labels=labels, hardware={"cpus": 64})),
        host("n2", spec=spec("n2", bmc=Bmc("ipmi://10.0.1.2", type="ipmi"))),
    )
    fields = ("name", "labels.rack", "labels.example.com/role", "hardware.cpus", "bmc.type")
    assert shown(hosts(items), fields, format=format) == expected


@pytest.mark.parametrize("name", ["name.x", "labels.", ".rack", "bmc.adress", "reason.0", "before.labels"])
def test_a_key_is_refused_after_a_field_that_has_none(name: str) -> None:
    with pytest.raises(UsageError, match=f"^there is no field '{name}'$"):
        shown(hosts(), ("name", name))


def test_tags_and_what_an_event_changed_are_chosen_by_their_keys() -> None:
    held = Held(replace(NIGHTLY, tags={"job": "4711"}), FLEET[:1])
    result = replace(RESERVATIONS, items=(held, *RESERVATIONS.items[1:2]))
    assert shown(result, ("id", "tags.job"), format=Format.CSV) == "id,tags.job\nr-7k3m,4711\nr-2xq9,\n"

    before = {"declared": {"note": "new", "labels": {"example.com/role": "db"}}}
    event = replace(HISTORY.events[0], before=before)
    fields = ("before.note", "before.labels.example.com/role", "before.labels.rack")
    assert shown(replace(HISTORY, events=(event,)), fields, format=Format.CSV) == f"{','.join(fields)}\nnew,db,\n"


def test_a_field_that_was_asked_for_by_name_is_never_cut_on_a_terminal() -> None:
    item = host("n1", spec=spec("n1", note="the fan of the second power supply rattles"))
    text = shown(hosts((item,)), ("name", "note", "since"), tty=True, width=40)
    assert text.split() == ["NAME", "NOTE", "SINCE", "n1", *str(item.spec.note).split(), "2026-11-23T06:00:00Z"]
    assert max(map(cell_width, text.splitlines())) <= 40


def test_every_field_can_be_shown_in_every_way() -> None:
    for name in FIELDS:
        for format in (Format.TABLE, Format.PLAIN, Format.CSV, Format.JSON, Format.JSONL):
            assert shown(hosts(), (name,), format=format)


def test_an_unknown_field_names_the_nearest_and_all() -> None:
    where = display(Format.PLAIN)
    with pytest.raises(UsageError) as caught:
        render(hosts(), where, ("name", "labls"))
    assert caught.value.message == "there is no field 'labls'"
    assert caught.value.hint == (
        f"did you mean labels? known: {', '.join(FIELDS)}; "
        "one key: labels.KEY, hardware.KEY, bmc.KEY, cordon.KEY, setup.KEY, observed.KEY"
    )
    assert where.stdout.getvalue() == ""  # type: ignore[attr-defined]


def test_the_format_name_prints_one_name_on_each_line() -> None:
    assert shown(hosts(FLEET[:3]), format=Format.NAME) == "node01\nnode02\nnode03\n"
    assert shown(RESERVATIONS, format=Format.NAME) == "r-7k3m\nr-2xq9\nr-9ab1\n"


def test_an_empty_list_says_so_on_stderr_of_a_terminal_only() -> None:
    terminal, pipe = display(tty=True), display()
    for where in (terminal, pipe):
        render(Hosts((), NOW), where)
    assert terminal.stdout.getvalue() == ""  # type: ignore[attr-defined]
    assert terminal.stderr.getvalue() == "no hosts: bmhctl list shows all, bmhctl add HOST declares one\n"  # type: ignore[attr-defined]
    assert pipe.stdout.getvalue() == "NAME  STATE  FLAGS  SINCE  OWNER  UNTIL  ADDRESS  LABELS  NOTE  PURPOSE  REASON\n"  # type: ignore[attr-defined]
    assert pipe.stderr.getvalue() == ""  # type: ignore[attr-defined]


def test_an_empty_list_of_names_that_no_host_has_leaves_it_to_the_errors() -> None:
    where = display(tty=True)
    render(Hosts((), NOW, (NotFoundError("there is no such host", host="node99"),)), where)
    assert where.stderr.getvalue() == ""  # type: ignore[attr-defined]


@pytest.mark.parametrize("format", [f for f in Format if f in ("table", "plain", "json", "jsonl", "csv", "name")])
def test_a_generator_of_hosts_is_streamed(format: Format) -> None:
    where = display(format, width=120)
    ahead: list[int] = []

    def generator() -> Iterator[Host]:
        for i in range(5000):
            if i % 500 == 499:
                ahead.append(i - where.stdout.getvalue().count("\n"))  # type: ignore[attr-defined]
            yield replace(FLEET[0], spec=replace(FLEET[0].spec, name="n" * (1 + i // 1000) + str(i)))

    render(Hosts(generator(), NOW), where)
    assert max(ahead) <= 1000
    assert len(where.stdout.getvalue().splitlines()) >= 5000  # type: ignore[attr-defined]
    assert "nnnnn4999" in where.stdout.getvalue()  # type: ignore[attr-defined]


def test_reservations_show_who_holds_what_until_when() -> None:
    assert shown(RESERVATIONS, tty=True) == (
        "ID      OWNER   EXPIRES_AT  HOSTS          CREATED_AT  PURPOSE        ENDED_AT\n"
        "r-7k3m  alice   in 35m      node01 node02  2h ago      nightly tests\n"
        "r-2xq9  bob     no end      node06         3d ago\n"
        "r-9ab1  ci-bot  ended                      5h ago      job 4711       1m ago\n"
        "left out: END_REASON (see -o plain)\n"
    )
    assert shown(RESERVATIONS) == (
        "ID      OWNER   HOSTS          EXPIRES_AT            PURPOSE        CREATED_AT          "
        "  ENDED_AT              END_REASON  TAGS  PREPARED_AT  SHARED_WITH\n"
        "r-7k3m  alice   node01,node02  2026-11-23T08:35:00Z  nightly tests  2026-11-23T06:00:00Z"
        "  -                     -           -     -            -\n"
        "r-2xq9  bob     node06         -                     -              2026-11-20T08:00:00Z"
        "  -                     -           -     -            -\n"
        "r-9ab1  ci-bot  -              2026-11-23T07:55:00Z  job 4711       2026-11-23T03:00:00Z"
        "  2026-11-23T07:59:00Z  expired     -     -            -\n"
    )
    many = Reservations((Held(NIGHTLY, fleet(30)),), NOW)
    assert "rack00-node0003 +26" in shown(many, tty=True, width=130)
    assert "rack01-node0029" in shown(many)
    assert "no reservations: bmhctl reserve -n 1 takes a host that is free\n" in _stderr(Reservations((), NOW))
    assert _stderr(Reservations((), NOW, "no lease has expired")) == "no lease has expired\n"


def test_an_expired_lease_that_is_not_reaped_is_shown_as_expired() -> None:
    left = host("node01", State.RESERVED, reservation=OVER)
    assert "node01  ◆ reserved  2h     ci-bot  job 4711  overdue 5m  " in shown(hosts((left,)), tty=True, width=100)
    assert "r-9ab1  ci-bot  overdue 5m  node01  5h ago      job 4711\n" in shown(
        Reservations((Held(OVER, (left,)),), NOW), tty=True
    )


def test_the_queue_shows_who_waits_for_what_and_what_is_missing() -> None:
    assert shown(QUEUE, tty=True) == (
        "POSITION  TICKET  OWNER    AGE    FITS BY  DEADLINE  PURPOSE\n"
        "1         12      ci-bot   3m20s  unknown  in 26m    nightly tests of the relea…\n"
        "     4 hosts with arch=arm64 · missing: 2 more hosts\n"
        "2         13      bob@lab  8s     unknown\n"
        "     2 hosts with arch=arm64 and 1 with role=switch · missing: 1 more host: that\n"
        "     needs an operator; switch01 is in maintenance, node06 is cordoned\n"
    )
    assert shown(Queue(QUEUE.items[:1], NOW)) == (
        "POSITION  TICKET  OWNER   AGE  WANTS                    MISSING       ETA  DEADLINE              PURPOSE\n"
        "1         12      ci-bot  200  4 hosts with arch=arm64  2 more hosts  -  "
        "  2026-11-23T08:26:40Z  nightly tests of the release branch\n"
    )
    assert shown(QUEUE, format=Format.NAME) == "12\n13\n"
    assert shown(QUEUE, ("ticket", "request_id"), format=Format.CSV) == "ticket,request_id\n12,job-4711-1\n13,\n"
    assert _stderr(Queue((), NOW)) == "no tickets: no request waits for hosts\n"


def _stderr(result: object) -> str:
    where = display(tty=True)
    render(result, where)
    return where.stderr.getvalue()  # type: ignore[attr-defined, no-any-return]
