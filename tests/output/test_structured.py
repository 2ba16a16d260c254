import csv
import io
import json
import subprocess
import sys
from dataclasses import replace
from datetime import timedelta
from importlib import import_module

import pytest

from bmhctl.domain.model import Note, SetupProgress, State
from bmhctl.errors import UsageError
from bmhctl.output import Format, check, render
from bmhctl.output.machine_formats import csv_cell
from bmhctl.output.records import FIELDS
from bmhctl.output.render import MODULES, view_of
from bmhctl.results import Hosts, Names, Reservations
from bmhctl.results.queue import Reminder, Reminders
from bmhctl.results.statistics import (
    BookingFigures,
    Figures,
    HostTimeline,
    HourlyUse,
    Metrics,
    Statistics,
    Stay,
    Timeline,
    Waits,
)
from bmhctl.results.status import Fleet, HostGroup, Reason, Reasons
from bmhctl.results.texts import Document, ManualPage, Script, Topics

from .samples import (
    BOOKINGS,
    DETAIL,
    DIAGNOSIS,
    DONE,
    FLEET,
    GRANT,
    GRAPH,
    HISTORY,
    HOST_GRAPH,
    HOSTILE,
    IMPORTED,
    NOW,
    OUTCOMES,
    PLAN,
    QUEUE,
    QUEUE_HISTORY,
    RESERVATIONS,
    STATUS,
    STEPS,
    WHY,
    display,
    host,
    hosts,
    spec,
)

HOST_KEYS = [
    "name", "state", "flags", "since", "owner", "purpose", "reservation", "until", "address", "mac", "labels",
    "hardware", "bmc", "note", "dirty", "cordoned", "cordon", "undeclared", "fault", "maintenance", "came_from",
    "failed_cleanups", "used_at", "proven_at", "setup", "failed_setups", "failed_recycles", "failed_tasks", "planned",
    "observed", "reason",
]  # fmt: skip
RESERVATION_KEYS = [
    "id", "owner", "purpose", "created_at", "expires_at", "ttl", "ended_at", "end_reason", "params",
    "prepared_at", "hosts", "asked_at", "tags",
    "shared_with",
]  # fmt: skip
TICKET_KEYS = [
    "ticket", "position", "owner", "purpose", "wants", "missing", "eta", "age", "created_at", "deadline", "request_id",
    "tags",
]  # fmt: skip
BOOKING_KEYS = [
    "id", "kind", "owner", "purpose", "starts_at", "ends_at", "hosts", "trouble", "wants", "state", "resumes",
    "reservation", "request_id", "created_at", "ended_at", "end_reason",
]  # fmt: skip
EVENT_KEYS = ["id", "at", "host", "actor", "verb", "source", "dest", "reason", "reservation", "steps", "before"]
RESULT_KEYS = [
    "host", "ok", "changed", "code", "status", "message", "hint", "source", "state", "reservation", "steps",
]  # fmt: skip
FINDING_KEYS = ["kind", "severity", "host", "message", "remedy", "fixable", "fixed", "number"]
STEP_KEYS = ["step", "verdict", "detail", "seconds", "at", "phase"]
ANSWER_KEYS = ["verb", "open", "dest", "words", "command"]
SHAPES = {
    "hosts": (hosts(), ["now", "hosts"], HOST_KEYS),
    "host": (replace(DETAIL, results=STEPS), ["now", "host", "events", "results"], STEP_KEYS),
    "outcomes": (OUTCOMES, ["verb", "notes", "results"], RESULT_KEYS),
    "plan": (PLAN, ["verb", "notes", "results"], RESULT_KEYS),
    "imported": (IMPORTED, ["dry_run", "skipped", "warnings", "results"], RESULT_KEYS),
    "grant": (GRANT, ["reservation", "notes", "hosts"], HOST_KEYS),
    "reservations": (RESERVATIONS, ["now", "reservations"], RESERVATION_KEYS),
    "queue": (QUEUE, ["now", "tickets"], TICKET_KEYS),
    "reasons": (
        Reasons((Reason("maintenance", "new disk", "alice", NOW - timedelta(days=2), ("node01", "node02")),), "l", NOW),
        ["now", "inventory", "reasons"],
        ["kind", "reason", "actor", "since", "hosts"],
    ),
    "fleet": (
        Fleet("rack", (HostGroup("r1", tuple(hosts().hosts)),), "lab.toml", NOW),
        ["now", "inventory", "by", "groups"],
        ["value", "total", "free", "counts", "hosts"],
    ),
    "bookings": (BOOKINGS, ["now", "notes", "bookings"], BOOKING_KEYS),
    "reminders": (
        Reminders((Reminder("lease", "r-7k3m", "alice", ("node01",), NOW + timedelta(minutes=5), None),), NOW),
        ["now", "reminders"],
        ["kind", "id", "owner", "hosts", "at", "about", "waiting"],
    ),
    "queue-history": (
        QUEUE_HISTORY,
        ["now", "events"],
        ["id", "at", "ticket", "verb", "owner", "requirements", "actor", "reservation", "reason"],
    ),
    "history": (HISTORY, ["now", "host", "events"], EVENT_KEYS),
    "diagnosis": (DIAGNOSIS, ["now", "inventory", "healthy", "backup", "counts", "findings"], FINDING_KEYS),
    "status": (
        STATUS,
        [
            "now", "inventory", "total", "counts", "free", "waiting", "totals", "cordoned", "undeclared", "faults",
            "expired", "limited", "obstacles", "endings", "planned", "reservations",
        ],
        RESERVATION_KEYS,
    ),
    "why": (WHY, ["now", "host", "summary", "facts", "verbs", "first", "next", "results"], None),
    "graph": (HOST_GRAPH, ["host", "state", "states", "edges", "events", "verbs"], ANSWER_KEYS),
    "done": (DONE, ["command", "message", "details", "notes"], None),
}  # fmt: skip


_USED = Figures("node01", 1, {State.RESERVED: 60.0}, 3, 2)
STATISTICS = Statistics(NOW - timedelta(days=7), NOW, NOW, "host", (_USED,), _USED)
TIMELINE = Timeline(
    NOW - timedelta(hours=2),
    NOW,
    NOW,
    (HostTimeline("node01", (Stay(NOW - timedelta(hours=1), NOW, State.AVAILABLE),)),),
    (),
    "lab.toml",
)
KINDS = [kind for name in {*MODULES.values()} for kind in import_module(f"bmhctl.output.views.{name}").VIEWS]


def shown(result: object, format: Format, fields: tuple[str, ...] | None = None) -> str:
    where = display(format)
    render(result, where, fields)
    return where.stdout.getvalue()  # type: ignore[attr-defined, no-any-return]


@pytest.mark.parametrize("kind", SHAPES)
def test_each_document_has_exactly_its_documented_keys(kind: str) -> None:
    result, keys, record_keys = SHAPES[kind]
    document = json.loads(shown(result, Format.JSON))
    assert document["version"] == 1
    assert document["kind"] == kind
    assert list(document) == ["version", "kind", *keys]
    if record_keys:
        assert [list(record) for record in document[keys[-1]]] == [record_keys] * len(document[keys[-1]])
        assert document[keys[-1]]


@pytest.mark.parametrize(
    "kind", ["hosts", "outcomes", "plan", "imported", "grant", "reservations", "queue", "history", "diagnosis"]
)
def test_json_lines_are_the_records_of_the_document(kind: str) -> None:
    result, keys, _ = SHAPES[kind]
    lines = shown(result, Format.JSONL).splitlines()
    assert [json.loads(line) for line in lines] == json.loads(shown(result, Format.JSON))[keys[-1]]


def odd_fleet(count: int) -> Hosts:
    """Return hosts with notes and properties that JSON libraries may write in different ways."""
    notes = ("große Kiste", HOSTILE, '\x7f /\b\f"\\', "日本", "", None, "\u2028", "\ud83d\ude00")
    facts = (2**63 - 1, -(2**63), 2**80, 0, "256GiB", "é")
    return hosts(
        tuple(
            replace(FLEET[i % len(FLEET)], spec=spec(f"node{i}", note=notes[i % 8], hardware={"fact": facts[i % 6]}))
            for i in range(count)
        )
    )


@pytest.mark.parametrize("library", ["there", "not there"])
def test_json_lines_of_a_long_list_look_like_those_of_a_short_one(
    library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if library == "not there":
        monkeypatch.setitem(sys.modules, "orjson", None)
    fleet = odd_fleet(1_100)
    records = json.loads(shown(fleet, Format.JSON))["hosts"]
    lines = shown(fleet, Format.JSONL)
    assert lines == "".join(json.dumps(record, separators=(",", ":")) + "\n" for record in records)
    assert lines.isascii()


def test_only_a_long_list_loads_orjson(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "orjson", raising=False)
    assert shown(odd_fleet(1_000), Format.JSONL).count("\n") == 1_000
    assert "orjson" not in sys.modules
    assert shown(odd_fleet(1_001), Format.JSONL).count("\n") == 1_001
    assert "orjson" in sys.modules


def test_json_lines_of_a_result_without_a_list_are_its_document_on_one_line() -> None:
    for result in (STATUS, WHY, DONE, GRAPH, DETAIL):
        text = shown(result, Format.JSONL)
        assert text.count("\n") == 1
        assert json.loads(text) == json.loads(shown(result, Format.JSON))


def test_an_empty_list_is_a_whole_json_document() -> None:
    assert shown(Hosts((), NOW), Format.JSON) == (
        '{\n  "version": 1,\n  "kind": "hosts",\n  "now": "2026-11-23T08:00:00Z",\n  "hosts": []\n}\n'
    )
    assert shown(Reservations((), NOW), Format.JSONL) == ""


def test_a_json_document_has_one_record_on_each_line() -> None:
    assert shown(hosts(FLEET[:2]), Format.JSON, ("name", "state")) == (
        '{\n  "version": 1,\n  "kind": "hosts",\n  "now": "2026-11-23T08:00:00Z",\n  "hosts": [\n'
        '    {"name": "node01", "state": "reserved"},\n'
        '    {"name": "node02", "state": "reserved"}\n'
        "  ]\n}\n"
    )


def test_a_failed_host_is_in_json_with_its_code() -> None:
    results = json.loads(shown(OUTCOMES, Format.JSON))["results"]
    assert [(r["host"], r["ok"], r["changed"], r["code"], r["status"]) for r in results] == [
        ("node01", True, True, "done", 0),
        ("node05", True, False, "done", 0),
        ("node02", False, False, "not-yours", 8),
        ("node04", False, False, "state-refused", 4),
    ]


def test_a_record_has_the_reasons_of_notes_and_the_credentials_reference_of_the_bmc() -> None:
    records = [json.loads(line) for line in shown(hosts(), Format.JSONL).splitlines()]
    assert records[2]["cordon"] == {
        "actor": "carol",
        "reason": "kernel upgrade next",
        "since": "2026-11-23T07:00:00Z",
        "until": None,
        "quarantine": False,
    }
    assert [mark["reason"] for mark in records[5]["maintenance"]] == ["replace the PSU", "firmware 2.1"]
    assert json.loads(shown(DETAIL, Format.JSON))["host"]["bmc"]["credentials"] == "env:LAB_BMC"


def test_structured_output_holds_the_exact_text_and_not_one_control_character() -> None:
    hostile = hosts((host(HOSTILE, spec=spec(HOSTILE, note=HOSTILE, labels={"k": HOSTILE})),))
    text = shown(hostile, Format.JSON)
    assert "".join(text.split("\n")).isprintable()
    assert json.loads(text)["hosts"][0]["note"] == HOSTILE
    assert len(shown(hostile, Format.JSONL).splitlines()) == 1


@pytest.mark.parametrize("format", [Format.TABLE, Format.PLAIN, Format.CSV, Format.NAME])
@pytest.mark.parametrize("colour", [False, True])
def test_untrusted_text_never_steers_a_terminal(format: Format, colour: bool) -> None:
    hostile = hosts((host(HOSTILE, spec=spec(HOSTILE, note=HOSTILE), fault=HOSTILE),))
    where = display(format, tty=True, width=1000, colour=colour)
    render(hostile, where)
    lines = where.stdout.getvalue().splitlines()  # type: ignore[attr-defined]
    assert len(lines) == (1 if format is Format.NAME else 2)
    shown_name = r"[red]x[/red]\x1b[31m\u202eevil\u2066\n\x9b1m\t\udc80</text>"
    assert shown_name in lines[-1]
    if not colour:
        assert lines[-1].isprintable()


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", " =1", "＝1", "－1"])
def test_no_csv_cell_begins_a_formula(text: str) -> None:
    assert csv_cell(text).startswith("'")
    table = shown(hosts((host("a", spec=spec("a", note=text)),)), Format.CSV, ("name", "note"))
    assert next(csv.reader(io.StringIO(table.splitlines()[1])))[1].startswith("'")


def test_csv_has_one_line_for_each_row_and_can_be_read_back() -> None:
    table = shown(hosts(FLEET), Format.CSV)
    rows = list(csv.DictReader(io.StringIO(table)))
    assert len(table.splitlines()) == len(FLEET) + 1
    assert list(rows[0]) == list(FIELDS)
    assert rows[0]["labels"] == "arch=arm64,rack=r1,zone=b"
    assert rows[3]["note"] == "große Kiste, linkes Fach"
    assert csv_cell("plain, text") == "plain, text"
    assert csv_cell("") == ""


def test_csv_of_a_verb_has_a_row_for_each_host_and_csv_of_history_for_each_event() -> None:
    assert shown(OUTCOMES, Format.CSV).splitlines()[:2] == [
        "host,ok,changed,code,status,message,source,state,reservation",
        "node01,yes,yes,done,0,task completed,reserved,tainted,r-7k3m",
    ]
    assert len(shown(HISTORY, Format.CSV).splitlines()) == 6


def test_a_format_that_a_result_does_not_have_is_a_usage_error_that_names_those_it_has() -> None:
    for kind in KINDS:
        formats = view_of(kind).formats
        for format in Format:
            if format in formats:
                check(kind, display(format))
                continue
            with pytest.raises(UsageError) as caught:
                check(kind, display(format))
            assert caught.value.message == f"this command has no output format {format}"
            assert caught.value.hint == f"it has: {', '.join(formats)}"


def test_every_result_can_be_rendered_in_every_format_it_has() -> None:
    results = [result for result, _, _ in SHAPES.values()] + [
        GRAPH,
        Document("[hosts]\n"),
        Script("SELECT 1;\n"),
        Names(("node01",)),
        Topics({"ci": "For CI scripts"}),
        ManualPage("ci", "# For CI scripts\n"),
        STATISTICS,
        TIMELINE,
        HourlyUse(NOW - timedelta(days=7), NOW, NOW, {(0, 9): (1800.0, 3600.0)}),
        Metrics(STATUS, 90.0, {"reserve": 2}, {"task": 1}, {1.0: 1, None: 2}, 80.5),
    ]
    for result in results:
        for format in view_of(type(result)).formats:
            assert shown(result, format)
    assert {type(result) for result in results} == set(KINDS)


def test_the_listings_know_exactly_the_keys_of_their_records() -> None:
    for kind, (result, _, record_keys) in SHAPES.items():
        fields = view_of(type(result)).fields
        if fields and kind != "host":
            assert list(fields) == record_keys


def test_the_listings_know_which_fields_are_objects_and_their_keys() -> None:
    whole = host(cordon=Note("carol", "fan", NOW), setup=SetupProgress(1, 3, None))
    waits = Waits(1, *[timedelta(seconds=5)] * 3)
    used = replace(STATISTICS, groups=(replace(_USED, waits=waits, bookings=BookingFigures(1, 1, 0, 0, 60.0, 30.0)),))
    for result in (*(result for result, _, _ in SHAPES.values()), hosts((whole,)), used):
        view = view_of(type(result))
        for record in view.records(result) if view.fields else ():
            for name, value in record.items():
                assert isinstance(value, dict) <= (name in view.objects)
                assert not isinstance(value, dict) or view.objects[name] in ((), tuple(value))


def test_fields_are_for_lists_only() -> None:
    with pytest.raises(UsageError, match="shows no list"):
        render(STATUS, display(Format.PLAIN), ("name",))
    with pytest.raises(UsageError, match="names only"):
        render(hosts(), display(Format.NAME), ("name",))


def test_a_text_document_is_printed_unchanged() -> None:
    text = '[hosts.node01]\nnote = "große Kiste"\n'
    for format in (None, Format.TOML):
        where = display(format, tty=True)
        render(Document(text), where)
        assert where.stdout.getvalue() == text  # type: ignore[attr-defined]


ALONE = """
import sys
sys.path.insert(0, {root!r})
from tests_output import samples as s
from bmhctl.output import Format, render, report
for result in (s.hosts(), s.OUTCOMES, s.GRANT, s.RESERVATIONS, s.{result}):
    where = s.display(Format({format!r}))
    render(result, where)
    report(s.BUSY, where)
for name in ("rich", "typer", "transitions", "yaml"):
    assert name not in sys.modules, name
for name in {lazy!r}:
    assert name not in sys.modules, name
"""


@pytest.mark.parametrize(
    ("format", "result", "lazy"),
    [
        ("name", "hosts()", ["csv", "json"]),
        ("plain", "GRAPH", ["csv", "json"]),
        ("csv", "HISTORY", ["json"]),
        ("json", "STATUS", ["csv"]),
        ("jsonl", "WHY", ["csv"]),
    ],
)
def test_only_a_table_ever_loads_rich(format: str, result: str, lazy: list[str], tmp_path: object) -> None:
    from pathlib import Path

    package = Path(str(tmp_path)) / "tests_output"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "samples.py").symlink_to(Path(__file__).with_name("samples.py"))
    script = ALONE.format(root=str(tmp_path), format=format, result=result, lazy=lazy)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert done.returncode == 0


@pytest.mark.parametrize("format", ["table", "plain", "json", "jsonl", "csv", "name"])
def test_output_ends_quietly_when_its_reader_closes_the_pipe(format: str) -> None:
    script = f"""
import sys
from datetime import UTC, datetime
from bmhctl.domain.model import Host, HostSpec, State
from bmhctl.output import Display, Format, silence, render
from bmhctl.results import Hosts
now = datetime.now(UTC)
hosts = (Host(HostSpec(f"node{{i}}"), State.INITIAL, now) for i in range(100_000))
try:
    render(Hosts(hosts, now), Display(sys.stdout, sys.stderr, format=Format({format!r})))
except BrokenPipeError:
    silence(sys.stdout)
    sys.exit(9)
"""
    child = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stderr is not None
    child.stdout.readline()
    child.stdout.close()
    assert child.stderr.read() == ""
    child.stderr.close()
    assert child.wait(30) == 9


# The requirements of https://github.com/cloudevents/spec for an event in the JSON format, version 1.0.2.
CLOUDEVENT = {
    "type": "object",
    "required": ["id", "source", "specversion", "type"],
    "properties": {
        "id": {"type": "string", "minLength": 1},
        "source": {"type": "string", "format": "uri-reference", "minLength": 1},
        "specversion": {"const": "1.0"},
        "type": {"type": "string", "minLength": 1},
        "datacontenttype": {"type": "string", "minLength": 1},
        "subject": {"type": "string", "minLength": 1},
        "time": {"type": "string", "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$"},
    },
    # The names of context attributes are lower-case letters and digits.
    "propertyNames": {"pattern": "^[a-z0-9]{1,20}$"},
}


@pytest.mark.parametrize(
    ("inventory", "source"),
    [
        ("/srv/labs/lab #1.toml", "file:///srv/labs/lab%20%231.toml"),
        ("postgresql://alice@db:5432/lab?schema=a b", "postgresql://alice@db:5432/lab?schema=a%20b"),
    ],
)
def test_cloudevents_conform_to_the_specification(inventory: str, source: str) -> None:
    import jsonschema  # only here: it takes long, and each worker imports every test

    history = replace(HISTORY, inventory=inventory)
    lines = [json.loads(line) for line in shown(history, Format.CLOUDEVENTS).splitlines()]
    records = [json.loads(line) for line in shown(history, Format.JSONL).splitlines()]
    assert [line["data"] for line in lines] == records
    for line in lines:
        jsonschema.validate(line, CLOUDEVENT)
        assert line["source"] == source
        assert (line["id"], line["subject"]) == (str(line["data"]["id"]), line["data"]["host"])
        assert (line["type"], line["time"]) == (f"bmhctl.host.{line['data']['verb']}", line["data"]["at"])
    assert len({line["id"] for line in lines}) == len(lines)
