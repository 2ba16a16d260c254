"""Commands that change many hosts: their dry run, the question before the change, and the summary after it."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.cli.conftest import Cli, Prepared, Run, files, json_of, spawn
from tests.faults.snapshots import settle


@pytest.fixture
def dozen(tmp_path: Path, cli: Cli, prepared: Prepared) -> Path:
    """Twelve hosts in two racks: node01 reserved by alice, node02 tainted, node03 available, the others initial."""
    prepared(twelve_hosts)
    settle(tmp_path)
    assert cli("list", "-o", "name").status == 0
    return tmp_path


def twelve_hosts(cli: Cli) -> None:
    Path("bmh.toml").write_text(
        '[checks.up]\ncommand = ["touch", "{name}-checked"]\n[cleanup.wipe]\ncommand = ["touch", "{name}-wiped"]\n'
    )
    for name, rack in (("node[01-06]", "r1"), ("node[07-12]", "r2")):
        assert cli("add", name, "--label", f"rack={rack}").status == 0
    assert cli("ready", "node[01-03]").status == 0
    assert cli("reserve", "node01", "node02", "--as", "alice").status == 0
    assert cli("release", "node02", "--as", "alice").status == 0
    for made in Path().glob("*-checked"):
        made.unlink()


DRY_RUNS = {
    "add new[1-3]": "new3  [*] → initial  added",
    "set * --label rack=r9": "node12  initial  changed: labels.rack r2 → r9",
    "remove -l rack=r2": "node12  initial → [*]  removed",
    "ready node04": "node04  initial → available  if these pass: up",
    "reset node02": "node02  tainted → initial  if these pass: wipe",
    "recycle": "node02  tainted → available  if these pass: wipe, up",
    "taint node01 --as alice": "node01  reserved → tainted  task completed",
    "release node01 --as alice": "node01  reserved → tainted  released",
    "maintain node03 --reason fan": "node03  available → maintenance  fan",
    "cordon node03": "node03  available  cordoned",
    "uncordon node03": "node03  available  is not cordoned",
    "power node03 off": "node03  available  would send to its BMC: power off",
    "boot-once node03 pxe": "node03  available  would send to its BMC: boot-once pxe",
    "rename node03 node99": "node99  available  was node03",
}


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("ready --state maintenance", "no host is in maintenance"),
        ("check --state maintenance --state tainted -l gpu", "no host has the key gpu"),
        ("cordon --state free -l rack=r2", "no host that fits rack=r2 is free"),
        ("set node01 node03 --state tainted --note x", "none of the named hosts is tainted"),
        ("power node01 on -l rack=r2", "none of the named hosts fits rack=r2"),
        ("recycle -l rack=r2", "none of the chosen hosts is tainted"),
        ("release -l rack=r9", "no host fits rack=r9, by its labels or by the tags of its reservation"),
        ("reset -l rack=r9", "no host fits rack=r9; rack is r1, r2"),
    ],
)
def test_a_command_that_finds_no_host_to_act_on_says_so(line: str, said: str, cli: Cli, dozen: Path) -> None:
    done = [cli(*line.split(), *more) for more in ([], ["-q"])]
    assert done == [Run(0, "", f"{said}\n"), Run(0, "", "")]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("reap", "no lease has expired: bmhctl reservations shows when each ends"),
        ("reservations -l job=1", "no reservation fits: bmhctl reservations lists the open ones"),
        ("bookings --owner bob", "no booking fits: bmhctl bookings lists the open ones"),
        ("history --verb reset", "no event fits: bmhctl history shows all"),
    ],
)
def test_an_empty_table_says_why_it_is_empty(line: str, said: str, cli: Cli, dozen: Path) -> None:
    assert cli(*line.split(), "-o", "table") == Run(0, "", f"{said}\n")


def test_recycle_says_that_no_host_is_tainted(cli: Cli, dozen: Path) -> None:
    assert cli("recycle", "-q").status == 0
    assert cli("recycle") == Run(0, "", "no host is tainted\n")


@pytest.mark.parametrize("backend", ["bmh.toml", "bmh.db"])
@pytest.mark.parametrize("line", DRY_RUNS)
def test_a_dry_run_shows_what_a_command_would_do_and_changes_nothing(
    line: str, backend: str, cli: Cli, dozen: Path
) -> None:
    if backend == "bmh.db":
        assert cli("copy", "bmh.toml", "bmh.db").status == 0
    before, hosts = files(dozen), json_of(cli("-i", backend, "list", "-o", "json"))["hosts"]
    events = cli("-i", backend, "history", "-o", "csv").stdout
    done = cli("-i", backend, *line.split(), "--dry-run")
    assert (done.status, done.stderr.splitlines()[-1]) == (0, "dry run: nothing was changed")
    shown = [" ".join(row.split()) for row in done.stdout.splitlines()]
    assert " ".join(DRY_RUNS[line].split()) in shown
    assert json_of(cli("-i", backend, "list", "-o", "json"))["hosts"] == hosts
    assert cli("-i", backend, "history", "-o", "csv").stdout == events
    assert files(dozen) == before


def test_a_dry_run_fails_as_the_command_would(cli: Cli, dozen: Path) -> None:
    for line in ("remove node01", "remove nowhere", "taint node01 --as bob", "reset node03", "add node01"):
        planned, done = cli(*line.split(), "--dry-run"), cli(*line.split())
        assert (planned.status, planned.stderr.splitlines()[-2:]) == (done.status, done.stderr.splitlines()[-2:]), line
        assert done.status


def test_a_summary_follows_the_lines_of_many_hosts(cli: Cli, dozen: Path) -> None:
    assert cli("cordon", "node[01-12]").stderr == "cordon: 12 changed\n"
    assert cli("cordon", "node[01-12]").stderr == "cordon: 12 unchanged\n"
    assert cli("uncordon", "node[01-03]").stderr == ""
    mixed = cli("reset", "node[01-12]")
    assert mixed.stderr.splitlines()[0] == "reset: 1 changed, 9 unchanged, 2 failed"
    assert "summary" not in cli("cordon", "node[01-12]", "-o", "json").stdout


def test_a_misspelt_key_that_excludes_no_host_is_refused_before_anything_changes(cli: Cli, dozen: Path) -> None:
    for line in ("remove -l rak!=r1", "set -l !rak --note x", "ready -l rak_notin_(r1)"):
        done = cli(*(word.replace("_", " ") for word in line.split()))
        assert done.status == 2
        assert "no host has the key rak" in done.stderr
        assert "did you mean " in done.stderr
        assert "rack" in done.stderr
    assert len(cli("list", "-o", "name").stdout.split()) == 12
    assert cli("cordon", "-l", "!flaky,rack=r2").status == 0  # there is no similar key, so the selector is accepted
    assert cli("list", "-l", "rak!=r1").status == 0


def answered(answer: str, *args: str, cwd: Path, **env: str) -> tuple[str, int]:
    child = spawn(*args, cwd=cwd, **env)
    child.expect_exact("go on? [y/N] ")
    asked = child.before
    child.send(answer)
    rest = child.read()
    child.close()
    return (asked + rest).replace("\r\n", "\n"), child.exitstatus


def test_a_person_is_asked_before_many_unnamed_hosts_change(cli: Cli, dozen: Path) -> None:
    text, status = answered("n\n", "set", "*", "--label", "rack=r9", cwd=dozen)
    assert text.startswith(
        "set changes 12 hosts: node[01-12]\nbmhctl undo takes this back\n--yes skips this question\n"
    )
    assert "not confirmed: nothing was changed" in text
    assert status == 2
    text, status = answered("\x04", "cordon", "-l", "rack", cwd=dozen)
    assert (status, "question\n\n" in text) == (2, True)
    assert answered("n\n", "remove", "*", cwd=dozen)[0].startswith("remove deletes 10 hosts: node[03-12]\n")
    text, status = answered("n\n", "maintain", "*", "--reason", "fan", cwd=dozen)
    assert text.startswith("maintain changes 12 hosts: node[01-12]\n--yes skips this question\n")
    assert cli("list", "-l", "rack=r9", "-o", "name").stdout == ""
    text, status = answered("y\n", "set", "*", "--label", "rack=r9", cwd=dozen)
    assert (status, "set: 12 changed" in text) == (0, True)
    assert len(cli("list", "-l", "rack=r9", "-o", "name").stdout.split()) == 12


def test_a_person_is_asked_about_each_holder_that_force_overrides(cli: Cli, dozen: Path) -> None:
    text, status = answered("n\n", "remove", "node01", "--force", "--reason", "old", "--as", "bob", cwd=dozen)
    assert "node01 is held by alice (r-" in text
    assert status == 2
    text, status = answered("yes\n", "taint", "node01", "--force", "--reason", "needed", "--as", "bob", cwd=dozen)
    assert "taint changes 1 host: node01\n" in text
    assert status == 0


def test_a_person_is_asked_before_the_hosts_of_another_owner_are_given_back(cli: Cli, dozen: Path) -> None:
    held = json_of(cli("reservations", "-o", "json"))["reservations"][0]["id"]
    text, status = answered("n\n", "release", "-R", held, "--as", "bob", cwd=dozen)
    assert (status, f"release gives back node01: held by alice ({held}" in text) == (2, True)
    assert json_of(cli("show", "node01", "-o", "json"))["host"]["owner"] == "alice"
    child = spawn("release", "--as", "bob", cwd=dozen, BMH_RESERVATION=held)
    assert "node01" in child.read()
    child.close()
    assert child.exitstatus == 0


@pytest.mark.slow
def test_a_person_is_asked_before_a_large_resume_or_import_and_before_a_reservation_is_taken_away(
    cli: Cli, dozen: Path
) -> None:
    assert cli("maintain", "*", "--reason", "power").status == 0
    assert "resume changes 12 hosts: node[01-12]\n" in answered("n\n", "resume", "*", cwd=dozen)[0]
    assert len(cli("list", "--state", "maintenance", "-o", "name").stdout.split()) == 12

    (dozen / "more.toml").write_text("".join(f"[hosts.new{number:02}]\n" for number in range(1, 13)))
    text, status = answered("n\n", "import", "more.toml", cwd=dozen)
    assert (status, "import adds 12 hosts: new[01-12]\n" in text) == (2, True)
    assert cli("list", "new*").status == 3
    assert answered("y\n", "import", "more.toml", cwd=dozen)[1] == 0
    assert answered("y\n", "undo", cwd=dozen)[1] == 0
    assert cli("list", "new*").status == 3

    held = json_of(cli("reservations", "-o", "json"))["reservations"][0]["id"]
    forced = ("handover", held, "--to", "bob", "--force", "--reason", "urgent", "--as", "carol")
    text, status = answered("n\n", *forced, cwd=dozen)
    assert (status, f"handover gives node01 to bob: held by alice ({held}" in text) == (2, True)
    assert json_of(cli("reservations", "-o", "json"))["reservations"][0]["owner"] == "alice"
    assert cli(*forced).status == 0


@pytest.mark.parametrize(
    ("line", "env"),
    [
        ("set node[01-12] --note x", {}),
        ("set * --note x --yes", {}),
        ("set * --note x -o json", {}),
        ("-i bmh.toml set * --note x", {"CI": "true"}),
        ("cordon -l rack=r1", {}),
    ],
)
def test_no_question_is_asked_for_named_or_few_hosts_or_without_a_terminal(
    line: str, env: dict[str, str], dozen: Path
) -> None:
    child = spawn(*line.split(), cwd=dozen, **env)
    text = child.read()
    child.close()
    assert child.exitstatus == 0
    assert "go on?" not in text


def test_the_answer_yes_covers_only_the_hosts_that_were_counted_in_the_question(cli: Cli, dozen: Path) -> None:
    child = spawn("cordon", "-l", "rack", cwd=dozen)
    child.expect_exact("go on? [y/N] ")
    assert cli("add", "node13", "--label", "rack=r1").status == 0
    child.send("y\n")
    child.read()
    child.close()
    assert child.exitstatus == 0
    assert cli("list", "node13", "--fields", "flags", "-o", "json").stdout.count("cordoned") == 0


def test_ctrl_c_shows_what_was_done_and_how_many_hosts_are_left(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "bmh.toml").write_text(
        '[checks.up]\ncommand = ["sh", "-c", "case $0 in n3 | n4) sleep 60 ;; n2) exit 3 ;; esac", "{name}"]\n'
    )
    assert cli("add", "n[1-4]").status == 0
    child = spawn("ready", "n[1-4]", cwd=tmp_path, NO_COLOR="1")
    deadline = time.monotonic() + 20
    while len(cli("history", "-o", "jsonl").stdout.splitlines()) < 6 and time.monotonic() < deadline:
        time.sleep(0.1)
    child.sendintr()
    text = child.read().replace("\r\n", "\n")
    child.close()
    assert child.exitstatus == 130
    assert "n1  initial → available  readiness check passed: up\n" in text
    assert "bmhctl: n2: readiness check failed: up: exit 3\n" in text
    assert text.endswith("interrupted: ready was not finished on 2 of 4 hosts\n")


def test_a_selector_without_a_count_takes_one_host_as_the_help_says(cli: Cli, dozen: Path) -> None:
    for command in ("reserve", "run"):
        assert "[default: 1 with -l]" in " ".join(cli(command, "--help").stdout.split())
    assert cli("run", "--", "true").status == 125
    assert cli("run", "-l", "rack", "--", "true").status == 0
