import json

import pytest

from bmhctl.errors import NotYoursError, StateRefusedError, UsageError, combine
from bmhctl.output import Format, note, render, report
from bmhctl.results import Outcome, Outcomes

from .samples import BUSY, DONE, GRANT, IMPORTED, OUTCOMES, PLAN, READY, display


def both(result: object, **options: object) -> tuple[str, str]:
    where = display(**options)  # type: ignore[arg-type]
    render(result, where)
    return where.stdout.getvalue(), where.stderr.getvalue()  # type: ignore[attr-defined]


def told(error: object, **options: object) -> str:
    where = display(**options)  # type: ignore[arg-type]
    report(error, where)  # type: ignore[arg-type]
    assert where.stdout.getvalue() == ""  # type: ignore[attr-defined]
    return where.stderr.getvalue()  # type: ignore[attr-defined, no-any-return]


def test_a_verb_prints_a_line_for_each_host_and_failures_on_stderr() -> None:
    expected = "node01  reserved → tainted  task completed\nnode05  tainted             already tainted\n"
    notes = "2 reservations had expired and were reaped\n"
    assert both(OUTCOMES, tty=True) == (expected, notes)
    assert both(OUTCOMES) == (expected, notes)
    assert both(OUTCOMES, quiet=True) == ("", "")


def test_a_failure_of_several_hosts_has_a_line_for_each() -> None:
    assert OUTCOMES.error
    assert told(OUTCOMES.error) == (
        "bmhctl: node02: is reserved by alice (r-7k3m)\n"
        "bmhctl: node04: is initial: taint is only possible from reserved\n"
        "hint: give -R ID\n"
    )


def test_one_error_says_what_happened_to_which_host_and_what_to_do() -> None:
    error = NotYoursError("is reserved by alice (r-7k3m) until 14:05", host="node01", hint="wait: bmhctl why node01")
    assert told(error) == "bmhctl: node01: is reserved by alice (r-7k3m) until 14:05\nhint: wait: bmhctl why node01\n"
    assert told(BUSY) == "bmhctl: 3 hosts match and none is free\nhint: wait for one with --wait 30m\n"
    assert told(BUSY, colour=True) == (
        "\x1b[1;31mbmhctl:\x1b[0m 3 hosts match and none is free\n\x1b[1;36mhint:\x1b[0m wait for one with --wait 30m\n"
    )


def test_the_later_lines_of_an_error_are_indented() -> None:
    error = StateRefusedError("two lines\nbmhctl: forged", hint="edit these:\n  a = 1")
    assert told(error) == "bmhctl: two lines\n  bmhctl: forged\nhint: edit these:\n    a = 1\n"


def test_a_terminal_wraps_a_long_message_and_its_hint() -> None:
    hint = "its holder acts with -R r-7k3m; others need --force --reason TEXT, which is recorded in the history"
    message = "is held by alice (r-7k3m, nightly tests of the release branch) until 2026-11-23 08:35 UTC, not by bob"
    error = NotYoursError(message, host="node01", hint=hint)
    assert told(error, tty=True) == (
        "bmhctl: node01: is held by alice (r-7k3m, nightly tests of the release branch)\n"
        "  until 2026-11-23 08:35 UTC, not by bob\n"
        "hint: its holder acts with -R r-7k3m; others need --force --reason TEXT, which\n"
        "  is recorded in the history\n"
    )
    assert told(error) == f"bmhctl: node01: {message}\nhint: {hint}\n"
    where = display(tty=True)
    note(message, where)
    assert where.stderr.getvalue() == (  # type: ignore[attr-defined]
        "is held by alice (r-7k3m, nightly tests of the release branch) until 2026-11-23\n  08:35 UTC, not by bob\n"
    )


def test_in_json_mode_an_error_is_one_object() -> None:
    for format in (Format.JSON, Format.JSONL):
        text = told(BUSY, format=format, colour=True)
        assert text.count("\n") == 1
        assert json.loads(text) == {
            "version": 1,
            "error": {
                "code": "busy",
                "status": 5,
                "message": "3 hosts match and none is free",
                "host": None,
                "hint": "wait for one with --wait 30m",
                "details": {"matching": 3},
            },
        }
    assert OUTCOMES.error
    document = json.loads(told(OUTCOMES.error, format=Format.JSON))
    assert [each["code"] for each in document["error"]["details"]["errors"]] == ["not-yours", "state-refused"]
    assert document["error"]["code"] == "mixed"


@pytest.mark.parametrize(
    ("hint", "lines"),
    [
        (
            "create one: bmhctl -i bmh.toml init, or name one with -i FILE or with the variable $BMHCTL_INVENTORY",
            [
                "create one: bmhctl -i bmh.toml init, or name one with -i FILE or with the",
                "  variable $BMHCTL_INVENTORY",
            ],
        ),
        (
            "give it back and clean it before it is removed, or take the risk: "
            "bmhctl remove node01 --force --reason 'it burnt'",
            [
                "give it back and clean it before it is removed, or take the risk:",
                "  bmhctl remove node01 --force --reason 'it burnt'",
            ],
        ),
        (
            "m-vxgr4kq2 is from 2026-12-03 08:00 UTC to 2026-12-03 12:00 UTC: "
            "bmhctl bookings cancel m-vxgr4kq2 cancels it",
            [
                "m-vxgr4kq2 is from 2026-12-03 08:00 UTC to 2026-12-03 12:00 UTC:",
                "  bmhctl bookings cancel m-vxgr4kq2 cancels it",
            ],
        ),
        (
            "look at it: bmhctl -i 'postgresql://postgres@/postgres?host=/dev/shm/a-folder-with-a-long-name' status",
            [
                "look at it:",
                "  bmhctl -i 'postgresql://postgres@/postgres?host=/dev/shm/a-folder-with-a-long-name' status",
            ],
        ),
    ],
)
def test_a_terminal_breaks_no_line_within_a_command(hint: str, lines: list[str]) -> None:
    said = told(UsageError("no", hint=hint), tty=True)
    assert said == "bmhctl: no\nhint: " + "\n".join(lines) + "\n"


def test_a_hint_shared_by_several_errors_is_printed_once() -> None:
    errors = [NotYoursError("is not yours", host=name, hint="give -R ID") for name in ("a", "b")]
    error = combine(errors)
    assert error
    assert told(error) == "bmhctl: a: is not yours\nbmhctl: b: is not yours\nhint: give -R ID\n"


def test_verbose_shows_the_output_of_each_step() -> None:
    expected = "node04  initial → available  all checks passed\n"
    assert both(READY)[0] == expected
    assert both(READY, verbose=True)[0] == (
        expected + "  ✓ ssh 0.2s 10.0.0.11:22 answers\n  ? bmc 1.5s no health reported\n"
    )


def test_a_plan_is_shown_even_when_quiet() -> None:
    assert both(PLAN, quiet=True)[0] == "node04  initial → available  would run ssh, bmc\n"


def test_a_grant_names_its_hosts_and_on_a_terminal_the_command_to_give_them_back() -> None:
    assert both(GRANT, tty=True) == (
        "RESERVATION  NAME    ADDRESS    UNTIL\n"
        "r-7k3m       node01  10.0.0.11  2026-11-23 08:35:00 UTC\n"
        "r-7k3m       node02  10.0.0.11  2026-11-23 08:35:00 UTC\n"
        "\n"
        "give back  bmhctl release -R r-7k3m\n"
        "keep       bmhctl extend -R r-7k3m\n",
        "the ttl was cut to 3d by the policy\n",
    )
    assert both(GRANT)[0] == (
        "RESERVATION  NAME    ADDRESS    UNTIL\n"
        "r-7k3m       node01  10.0.0.11  2026-11-23T08:35:00Z\n"
        "r-7k3m       node02  10.0.0.11  2026-11-23T08:35:00Z\n"
    )
    assert both(GRANT, format=Format.NAME)[0] == "node01\nnode02\n"


def test_the_format_name_of_a_verb_prints_the_hosts_in_the_requested_state() -> None:
    assert both(OUTCOMES, format=Format.NAME)[0] == "node01\nnode05\n"


def test_an_import_reports_skipped_records_and_warnings() -> None:
    assert both(IMPORTED) == (
        "node08  [*] → reserved  provisioned there\nnode09  initial         known already\n",
        "node08 and node09 have the same MAC\nskipped Secret bmc-1: secrets are never stored\n",
    )


def test_a_message_is_printed_with_its_hint_on_stderr() -> None:
    assert both(DONE) == ("lab.toml is a new inventory\n", "add a host with: bmhctl add NAME\n")
    assert both(DONE, quiet=True) == ("", "")


def test_notes_are_in_the_document_of_json_and_objects_beside_json_lines() -> None:
    stdout, stderr = both(OUTCOMES, format=Format.JSON)
    assert json.loads(stdout)["notes"] == ["2 reservations had expired and were reaped"]
    assert stderr == ""
    assert json.loads(both(OUTCOMES, format=Format.JSONL)[1]) == {
        "version": 1,
        "note": "2 reservations had expired and were reaped",
    }
    for where in (display(quiet=True), display(Format.JSON)):
        note("never mind", where)
        assert where.stderr.getvalue() == ""  # type: ignore[attr-defined]
    where = display()
    note("mind \x1b[31m", where)
    assert where.stderr.getvalue() == "mind \\x1b[31m\n"  # type: ignore[attr-defined]


def test_a_verb_on_no_host_prints_nothing() -> None:
    assert both(Outcomes("taint", ())) == ("", "")
    assert both(Outcomes("taint", (Outcome("a", False, "", error=BUSY),))) == ("", "")


def test_many_hosts_that_fail_for_the_same_reason_share_a_line_and_a_hint() -> None:
    errors = [StateRefusedError("is available", host=f"n{n}", hint=f"bmhctl why n{n}") for n in range(5)]
    other = StateRefusedError("is reserved", host="n9", hint="release it first")

    assert told(combine([*errors[:2], other, *errors[2:]])).splitlines() == [
        "bmhctl: n[0-4]: is available",
        "bmhctl: n9: is reserved",
        "hint: bmhctl why n0 (likewise for 4 more)",
        "hint: release it first",
    ]


def test_a_few_hosts_that_fail_for_the_same_reason_have_a_line_and_a_hint_each() -> None:
    errors = [StateRefusedError("is available", host=f"n{n}", hint=f"bmhctl why n{n}") for n in range(2)]

    assert told(combine(errors)).splitlines() == [
        "bmhctl: n0: is available",
        "bmhctl: n1: is available",
        "hint: bmhctl why n0",
        "hint: bmhctl why n1",
    ]
