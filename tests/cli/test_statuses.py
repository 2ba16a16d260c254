"""Every published exit status, reached by a command, in words and as one JSON object."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bmhctl.errors import BmhctlError, ExitStatus
from tests.cli.conftest import Cli, error_of, json_of
from tests.conftest import Bmhctl

CASES: dict[str, tuple[int, list[str], dict[str, str], str]] = {
    "usage: an unknown option": (2, ["list", "--bogus"], {}, "no such option: --bogus"),
    "usage: an unknown command": (2, ["lst"], {}, "no such command 'lst'"),
    "usage: a missing argument": (2, ["show"], {}, "missing argument 'HOST'"),
    "usage: a surplus argument": (2, ["show", "node01", "node02"], {}, "unexpected argument: node02"),
    "usage: a count that is not a number": (2, ["reserve", "-n", "x"], {}, "invalid value for '-n' / '--count'"),
    "usage: an unknown state": (2, ["list", "--state", "x"], {}, "invalid value for '--state'"),
    "usage: an invalid selector": (2, ["list", "-l", "="], {}, "can't read the selector '='"),
    "usage: no host is named": (2, ["ready"], {}, "no host is named"),
    "usage: a missing reason": (2, ["maintain", "node02"], {}, "maintain needs a reason"),
    "usage: force without a reason": (2, ["taint", "node01", "--force"], {}, "--force needs --reason"),
    "usage: an invalid time": (2, ["maintain", "node02", "--reason", "x", "--until", "x"], {}, "'x' is not a time"),
    "usage: a time that is over": (
        2,
        ["maintain", "node02", "--reason", "x", "--until", "2020-01-01"],
        {},
        "2020-01-01 is not in the future",
    ),
    "usage: a duration of zero": (
        2,
        ["maintain", "node02", "--reason", "x", "--until", "0s"],
        {},
        "0s is not in the future",
    ),
    "usage: a time out of range": (
        2,
        ["maintain", "node02", "--reason", "x", "--until", "0001-01-01"],
        {},
        "0001-01-01T00:00 is too far away",
    ),
    "usage: a count out of range": (2, ["reserve", "-n", "9" * 30], {}, "invalid value for '-n' / '--count'"),
    "usage: a length out of range": (2, ["history", "-n", "9" * 30], {}, "invalid value for '-n' / '--last'"),
    "usage: an argument that is not UTF-8": (
        2,
        ["cordon", "node02", "--reason", "\udcff"],
        {},
        "the argument '\\udcff' is not UTF-8",
    ),
    "usage: a variable that is not UTF-8": (
        2,
        ["cordon", "node02"],
        {"BMHCTL_ACTOR": "\udcff"},
        "$BMHCTL_ACTOR '\\udcff' is not UTF-8",
    ),
    "usage: two values of a tag": (
        2,
        ["reserve", "node02", "--tag", "job=1", "--tag", "ci=a", "--tag", "job=2"],
        {},
        "--tag job=1 and --tag job=2 contradict each other",
    ),
    "usage: two values of a parameter": (
        2,
        ["reserve", "-n", "1", "--param", "image=a", "--param", "image=b"],
        {},
        "--param image=a and --param image=b contradict each other",
    ),
    "usage: two values of a label": (
        2,
        ["set", "node02", "--label", "rack=r1", "--label", "rack=r2"],
        {},
        "--label rack=r1 and --label rack=r2 contradict each other",
    ),
    "usage: a property that is set and removed": (
        2,
        ["add", "node09", "--hardware", "cpus=8", "--hardware", "cpus-"],
        {},
        "--hardware cpus=8 and --hardware cpus- contradict each other",
    ),
    "usage: an unknown field": (2, ["list", "--fields", "nam"], {}, "there is no field 'nam'"),
    "usage: an unknown key to sort by": (2, ["list", "--sort", "x"], {}, "can't sort by 'x'"),
    "not found: a host": (3, ["show", "node09"], {}, "node09: there is no such host"),
    "not found: a glob": (3, ["ready", "rack*"], {}, "rack*: matches no host"),
    "not found: a reservation": (3, ["release", "-R", "r-none"], {}, "there is no reservation r-none"),
    "refused: by the lifecycle": (
        4,
        ["taint", "node02"],
        {},
        "node02: is available: taint is only possible from reserved",
    ),
    "refused: to remove a reserved host": (4, ["remove", "node01"], {}, "node01: "),
    "busy: a named host": (5, ["reserve", "node01"], {}, "node01: is reserved by alice"),
    "busy: as many": (5, ["reserve", "-n", "2"], {}, "2 hosts: 1 free now, nothing was reserved"),
    "unsatisfiable": (
        6,
        ["reserve", "-l", "arch=riscv"],
        {},
        "not possible in this inventory: 1 host with arch=riscv; of 3 declared hosts none would fit",
    ),
    "timed out": (7, ["reserve", "node01", "--wait", "1s", "-q"], {}, "timed out after 1s waiting for node01"),
    "not found: a ticket": (3, ["queue", "cancel", "1"], {}, "there is no ticket 1"),
    "not yours: by name": (8, ["taint", "node01", "--as", "bob"], {}, "node01: is held by alice"),
    "not yours: by token": (8, ["taint", "node01", "-R", "r-0"], {}, "node01: is held by alice"),
    "not yours: by variable": (8, ["taint", "node01"], {"BMH_RESERVATION": "r-0"}, "node01: is held by alice"),
    "unreachable": (11, ["-i", "nowhere.db", "list"], {}, "there is no inventory at"),
    "mixed": (12, ["taint", "node02", "node09"], {}, "node02: is available"),
}


@pytest.mark.parametrize(("status", "args", "env", "words"), CASES.values(), ids=CASES)
def test_a_failure_has_its_exit_status_and_a_message_on_stderr(
    status: int, args: list[str], env: dict[str, str], words: str, cli: Cli, fleet: str
) -> None:
    done = cli(*args, **env)
    assert (done.status, done.stdout) == (status, "")
    assert done.stderr.startswith(f"bmhctl: {words}")
    assert done.stderr.endswith("\n")


@pytest.mark.parametrize(("status", "args", "env", "words"), CASES.values(), ids=CASES)
def test_a_failure_in_json_mode_is_one_object_with_a_stable_code(
    status: int, args: list[str], env: dict[str, str], words: str, cli: Cli, fleet: str
) -> None:
    codes = {int(kind.status): kind.code for kind in BmhctlError.__subclasses__() if kind.__module__ == "bmhctl.errors"}
    for mode in ("json", "jsonl"):
        done = cli(*args, "-o", mode, **env)
        assert done.status == status
        assert len(done.stderr.splitlines()) == 1
        error = error_of(done)
        assert set(error) == {"code", "status", "message", "host", "hint", "details"}
        assert error["code"] == codes[status]
        said = f"{error['host']}: {error['message']}" if error["host"] else error["message"]
        assert status == 12 or said.startswith(words)


def test_every_error_has_a_different_code_of_one_word() -> None:
    kinds = [kind for kind in BmhctlError.__subclasses__() if kind.__module__ == "bmhctl.errors"]
    assert len({kind.code for kind in kinds}) == len({kind.status for kind in kinds}) == len(kinds)
    assert {int(kind.status) for kind in kinds} == {int(status) for status in ExitStatus} - {0, 1}


def test_a_broken_inventory_is_status_10(cli: Cli, lab: Path) -> None:
    lab.write_text("[hosts")
    done = cli("list")
    assert (done.status, done.stdout) == (10, "")
    assert error_of(cli("list", "-o", "json"))["code"] == "invalid"


def test_a_failed_step_is_status_9(cli: Cli, lab: Path) -> None:
    lab.write_text('[checks.disk]\ncommand = ["sh", "-c", "echo sick; exit 3"]\n' + lab.read_text())
    done = cli("ready", "node01")
    assert (done.status, done.stdout, done.stderr) == (
        9,
        "",
        "bmhctl: node01: readiness check failed: disk: exit 3: sick\nhint: fix it and try again; bmhctl why node01\n",
    )
    error = error_of(cli("ready", "node01", "-o", "json"))
    assert (error["code"], error["host"]) == ("step-failed", "node01")
    assert error["details"] == {"steps": [{"step": "disk", "verdict": "fail", "detail": "exit 3: sick"}]}


def test_a_removed_working_folder_is_status_11(cli: Cli, lab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = lab.parent / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    named, done = cli("list", "-i", str(lab), "-q"), cli("list")
    monkeypatch.chdir("/")
    assert named.status == 0
    assert (done.status, done.stdout, done.stderr) == (
        11,
        "",
        "bmhctl: the current folder no longer exists\nhint: cd to an existing folder\n",
    )


def test_a_defect_is_status_1_with_a_traceback(bmhctl: Bmhctl, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import bmhctl.usecases.queries as looking\n"
        "def broken(*_):\n    raise RuntimeError('a defect')\n"
        "looking.list_hosts = broken\n"
    )
    assert bmhctl("-i", "lab.db", "init").status == 0
    done = bmhctl("-i", "lab.db", "list", PYTHONPATH=str(tmp_path))
    assert (done.status, done.stdout) == (1, "")
    assert done.stderr.endswith("RuntimeError: a defect\n")


@pytest.mark.parametrize(
    ("verb", "host"), [("ready", "node02"), ("reset", "node03"), ("resume", "node02"), ("uncordon", "node02")]
)
def test_a_command_on_a_host_already_in_its_end_state_succeeds_with_a_note(
    verb: str, host: str, cli: Cli, fleet: str
) -> None:
    done = cli(verb, host)
    assert (done.status, done.stderr) == (0, "")
    assert done.stdout.startswith(f"{host}  ")
    assert json_of(cli(verb, host, "-o", "json"))["results"][0]["changed"] is False


def test_tainting_a_tainted_host_succeeds(cli: Cli, fleet: str) -> None:
    assert cli("taint", "node01").stdout == "node01  reserved → tainted  task completed\n"
    assert cli("taint", "node01").stdout == "node01  tainted  already tainted\n"
    assert cli("release", "-R", fleet).status == 0


def test_a_command_tries_all_its_hosts_and_names_each_in_the_result(cli: Cli, fleet: str) -> None:
    done = cli("taint", "node02", "node01", "node09", "node03")
    assert (done.status, done.stdout, done.stderr) == (
        12,
        "node01  reserved → tainted  task completed\n",
        "bmhctl: node02: is available: taint is only possible from reserved\n"
        "bmhctl: node03: is initial: taint is only possible from reserved\n"
        "bmhctl: node09: there is no such host\n"
        "hint: bmhctl why node02\n"
        "hint: bmhctl why node03\n"
        "hint: did you mean node03?\n",
    )


def test_hosts_that_fail_for_the_same_cause_give_its_exit_status(cli: Cli, fleet: str) -> None:
    done = cli("taint", "node02", "node03")
    assert (done.status, done.stdout) == (4, "")
    assert [line.split(": ")[1] for line in done.stderr.splitlines() if line.startswith("bmhctl")] == [
        "node02",
        "node03",
    ]


def test_the_json_of_a_command_has_a_result_for_every_host(cli: Cli, fleet: str) -> None:
    done = cli("taint", "node02", "node01", "node09", "-o", "json")
    results = json.loads(done.stdout)["results"]
    assert [(each["host"], each["ok"], each["code"], each["status"]) for each in results] == [
        ("node02", False, "state-refused", 4),
        ("node01", True, "done", 0),
        ("node09", False, "not-found", 3),
    ]
    error = error_of(done)
    assert (error["code"], error["message"]) == ("mixed", "2 hosts failed: node02, node09")
    assert [each["host"] for each in error["details"]["errors"]] == ["node02", "node09"]
    done = cli("ready", "node03", "node01", "-o", "jsonl")
    assert [json.loads(line)["ok"] for line in done.stdout.splitlines()] == [True, False]
    done = cli("ready", "node03", "node01", "-o", "name")
    assert (done.status, done.stdout) == (4, "node03\n")


def test_list_shows_the_hosts_it_finds_and_fails_for_missing_ones(cli: Cli, fleet: str) -> None:
    done = cli("list", "node01", "node09", "-o", "name")
    assert (done.status, done.stdout, done.stderr) == (
        3,
        "node01\n",
        "bmhctl: node09: there is no such host\nhint: did you mean node03?\n",
    )
    assert cli("list", "-l", "arch=riscv", "-o", "name").status == 0


def test_a_reservation_that_only_the_environment_names_is_named_in_the_hint(cli: Cli) -> None:
    assert cli("init").status == 0
    assert cli("add", "node1").status == 0
    assert cli("ready", "node1").status == 0
    token = cli("reserve", "node1", "-o", "plain").stdout.split()[4]
    assert cli("release", "-R", token).status == 0
    word = f"{token} is in $BMH_RESERVATION: unset BMH_RESERVATION to act without it"
    assert word in cli("extend", BMH_RESERVATION=token).stderr
    assert cli("recycle").status == 0
    assert cli("reserve", "node1").status == 0
    assert word in cli("release", "node1", BMH_RESERVATION=token).stderr
    assert cli("add", "node2").status == 0
    assert word in cli("taint", "node1", "node2", BMH_RESERVATION=token).stderr
    combined = error_of(cli("taint", "node1", "node2", "-o", "json", BMH_RESERVATION=token))
    hints = [combined["hint"], *(each["hint"] for each in combined["details"]["errors"])]
    assert [word in hint for hint in hints] == [True] * 3
    assert word not in cli("extend", "-R", token, BMH_RESERVATION=token).stderr
    assert "$BMH_RESERVATION" not in cli("extend", "-R", "r-22222222").stderr
