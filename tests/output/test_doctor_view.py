from dataclasses import replace

from bmhctl.errors import ExitStatus, InvalidError
from bmhctl.output import Format, render
from bmhctl.output.sanitize import cell_width
from bmhctl.results.diagnosis import Finding, Severity

from .samples import DIAGNOSIS, HOSTILE, REPAIRED, display


def shown(result: object, **options: object) -> str:
    where = display(**options)  # type: ignore[arg-type]
    render(result, where)
    return where.stdout.getvalue()  # type: ignore[attr-defined, no-any-return]


def told(result: object, **options: object) -> str:
    where = display(**options)  # type: ignore[arg-type]
    render(result, where)
    return where.stderr.getvalue()  # type: ignore[attr-defined, no-any-return]


def test_a_terminal_shows_the_worst_first_and_below_each_what_to_do() -> None:
    assert shown(DIAGNOSIS, tty=True, width=80) == (
        "lab.db  12 hosts · 1 event · 3 reservations · 2026-11-23 08:00:00 UTC\n"
        "\n"
        "✗ history  node02: a gap in its history: event 12 begins at available\n"
        "✗ history  node02: is available, but its history ends at tainted\n"
        "           → restore a backup; or remove it and add it again: bmhctl remove\n"
        "           node02 --force\n"
        "✗ facts    node01: selectors see other values\n"
        "           → bmhctl doctor --fix\n"
        "! lease    reservation r-2xq9 of bob has no end\n"
        "           → ask bob whether it is still used\n"
        "· claim    and 7 more like these\n"
        "\n"
        "✗ 3 broken · 1 warning · 7 notes\n"
    )


def test_fixed_findings_say_so_and_where_the_backup_is() -> None:
    assert shown(REPAIRED, tty=True, width=80) == (
        "lab.db  12 hosts · 1 event · 3 reservations · 2026-11-23 08:00:00 UTC\n"
        "\n"
        "! lease  reservation r-2xq9 of bob has no end\n"
        "         → ask bob whether it is still used\n"
        "✓ facts  node01: selectors see other values\n"
        "         → fixed\n"
        "✓ claim  and 7 more like these\n"
        "         → fixed\n"
        "\n"
        "✓ healthy · 8 fixed · 1 warning\n"
    )
    assert told(REPAIRED, tty=True) == ("backup from before the fix: lab.db.before-doctor-20261123T080000Z.db\n")
    assert told(REPAIRED) == (
        "lab.db: healthy · 8 fixed · 1 warning\nbackup from before the fix: lab.db.before-doctor-20261123T080000Z.db\n"
    )
    assert told(REPAIRED, quiet=True) == told(DIAGNOSIS) == ""


def test_a_healthy_inventory_is_reported_in_one_line() -> None:
    healthy = replace(DIAGNOSIS, findings=())
    assert shown(healthy, tty=True) == (
        "lab.db  12 hosts · 1 event · 3 reservations · 2026-11-23 08:00:00 UTC\n\n✓ healthy\n"
    )
    assert shown(healthy) == "SEVERITY  FIXED  KIND  HOST  MESSAGE  REMEDY\n"
    assert told(healthy) == "lab.db: healthy\n"
    assert told(healthy, tty=True) == told(healthy, quiet=True) == told(healthy, format=Format.CSV) == ""
    assert shown(healthy, format=Format.NAME) == ""


def test_a_pipe_gets_one_uncut_row_for_each_finding() -> None:
    assert shown(DIAGNOSIS).splitlines()[3:5] == [
        "broken    no     facts    node01  selectors see other values                          bmhctl doctor --fix",
        "warning   no     lease    -       reservation r-2xq9 of bob has no end                "
        "ask bob whether it is still used",
    ]
    assert shown(DIAGNOSIS, format=Format.CSV).splitlines()[-1] == "claim,note,,and 7 more like these,,yes,no,7"
    assert shown(DIAGNOSIS, format=Format.NAME) == "node02\nnode01\n"


def test_an_inventory_that_could_not_be_examined_shows_no_counts() -> None:
    assert shown(replace(DIAGNOSIS, findings=(), counts={}), tty=True).splitlines()[0] == (
        "lab.db  2026-11-23 08:00:00 UTC"
    )


def test_few_findings_of_a_kind_are_shown_unless_verbose() -> None:
    many = tuple(Finding("facts", Severity.BROKEN, "are wrong", "repair it", f"node{n:02}", True) for n in range(20))
    rest = Finding("facts", Severity.BROKEN, "and 80 more like these", "", fixable=True, number=80)
    result = replace(DIAGNOSIS, findings=(*many, rest))
    text = shown(result, tty=True)
    assert (text.count("node"), "         and 92 more: bmhctl doctor -v\n" in text) == (8, True)
    assert text.count("repair it") == 1
    assert text.endswith("✗ 100 broken\n")
    assert shown(result, tty=True, verbose=True).count("node") == 20


def test_the_error_counts_what_is_still_broken_and_what_can_be_fixed() -> None:
    error = DIAGNOSIS.error
    assert isinstance(error, InvalidError)
    assert (error.status, error.message, error.hint, error.details) == (
        ExitStatus.INVALID,
        "lab.db: 3 things are broken",
        "bmhctl doctor --fix repairs 1 of them, after a backup",
        {"broken": 3, "fixable": 1},
    )
    assert REPAIRED.error is None
    one = replace(DIAGNOSIS, findings=DIAGNOSIS.findings[2:3]).error
    assert one is not None
    assert (one.message, one.hint) == ("lab.db: 1 thing is broken", "bmhctl doctor --fix repairs it, after a backup")
    two = replace(DIAGNOSIS, findings=DIAGNOSIS.findings[2:3] * 2).error
    assert two is not None
    assert two.hint == "bmhctl doctor --fix repairs them, after a backup"
    none = replace(DIAGNOSIS, findings=DIAGNOSIS.findings[:1]).error
    assert none is not None
    assert none.hint is None


def test_untrusted_text_never_steers_a_terminal_and_no_line_is_too_wide() -> None:
    hostile = Finding(HOSTILE, Severity.BROKEN, HOSTILE, HOSTILE, HOSTILE)
    result = replace(DIAGNOSIS, inventory=HOSTILE, findings=(hostile,))
    for format in (Format.TABLE, Format.PLAIN, Format.CSV, Format.NAME):
        text = shown(result, format=format, tty=True, width=1000)
        assert "".join(text.splitlines()).isprintable()
    long = replace(DIAGNOSIS.findings[0], message="word " * 60, remedy="do " * 60)
    text = shown(replace(DIAGNOSIS, findings=(long,)), tty=True, width=80)
    assert max(map(cell_width, text.splitlines())) <= 80
