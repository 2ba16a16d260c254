"""``run`` has the exit status of its command, and the history records it; failures of ``run`` have other statuses."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.conftest import Lab, Run
from tests.runner.conftest import Fleet, make_fleet

ENDS = {
    "exit 0": (0, "task completed"),
    "exit 3": (3, "task failed: exit 3"),
    "exit 137": (137, "task failed: exit 137"),
    "kill -KILL $$": (137, "task failed: SIGKILL"),
    "kill -TERM $$": (143, "task failed: SIGTERM"),
    "kill -SEGV $$": (139, "task failed: SIGSEGV"),
}


def test_run_exits_with_the_status_of_the_task_and_the_history_has_it(fleet: Fleet) -> None:
    for script, (status, reason) in ENDS.items():
        assert fleet.bmhctl("run", "--host", "node1", "--", "sh", "-c", script) == Run(status, "", "")
        assert fleet.history() == [("node1", "reserve", None), ("node1", "taint", reason)]
        assert fleet.states() == {"node1": "tainted", "node2": "available", "node3": "available"}
        assert fleet.open_reservations() == []
        fleet.recycle()


def test_a_task_on_three_hosts_gives_all_of_them_back(fleet: Fleet) -> None:
    assert fleet.bmhctl("run", "-l", "arch=arm64", "-n", "3", "--for", "nightly", "true") == Run(0, "", "")
    names = ("node1", "node2", "node3")
    assert fleet.history() == [
        *((name, "reserve", "nightly") for name in names),
        *((name, "taint", "task completed") for name in names),
    ]


def test_on_exit_recycle_brings_the_hosts_back_to_available(fleet: Fleet) -> None:
    done = fleet.bmhctl("run", "-n", "3", "--on-exit", "recycle", "sh", "-c", "exit 3")
    assert done == Run(3, "", "")
    assert fleet.states() == dict.fromkeys(("node1", "node2", "node3"), "available")
    store = fleet.lab.context().store
    verbs = [(event.verb, event.reason) for event in store.events.read() if event.host == "node2"][-4:]
    assert [verb for verb, _ in verbs] == ["reserve", "taint", "reset", "ready"]
    assert verbs[1][1] == "task failed: exit 3"


def test_a_failed_cleanup_is_reported_and_does_not_change_the_status(fleet: Fleet) -> None:
    fleet.lab.policy('[cleanup.wipe]\ncommand = ["false"]\n')
    done = fleet.bmhctl("run", "--host", "node1", "--on-exit", "recycle", "true")
    assert done == Run(0, "", "node1: cleanup step failed: wipe: exit 1\n")
    assert fleet.states()["node1"] == "tainted"


def test_keep_on_fail_leaves_the_hosts_reserved_and_says_how_to_give_them_back(fleet: Fleet) -> None:
    options = ["run", "-n", "2", "--ttl", "1m", "--keep-on-fail", "6h", "--on-exit", "recycle"]
    done = fleet.bmhctl(*options, "sh", "-c", "exit 3")

    (kept,) = fleet.lab.context().store.reservations.open()
    until = kept.expires_at
    assert until is not None
    assert timedelta(hours=5, minutes=59) < until - datetime.now(UTC) <= timedelta(hours=6)
    assert done == Run(
        3,
        "",
        f"task failed: exit 3: kept for debugging until {until:%Y-%m-%d %H:%M} UTC (requested: 6h): node1, node2; "
        f"give back: bmhctl release -R {kept.id}\n",
    )
    assert fleet.states() == {"node1": "reserved", "node2": "reserved", "node3": "available"}

    assert fleet.bmhctl("release", "-R", kept.id).status == 0
    assert fleet.states() == {"node1": "tainted", "node2": "tainted", "node3": "available"}


def test_keep_on_fail_gives_the_hosts_back_after_a_success(fleet: Fleet) -> None:
    assert fleet.bmhctl("run", "--host", "node1", "--keep-on-fail", "6h", "true") == Run(0, "", "")
    assert fleet.history()[-1] == ("node1", "taint", "task completed")
    assert fleet.open_reservations() == []


OWN = {
    "timed out": (["--host", "node1", "--wait", "1s", "true"], 124, "timed-out"),
    "busy": (["--host", "node1", "true"], 125, "busy"),
    "unsatisfiable": (["-l", "arch=vax", "true"], 125, "unsatisfiable"),
    "no such host": (["--host", "absent", "true"], 125, "not-found"),
    "no inventory": (["-i", "gone.db", "-n", "1", "true"], 125, "unreachable"),
    "no selection": (["true"], 125, "usage"),
    "bad ttl": (["-n", "1", "--ttl", "soon", "true"], 125, "usage"),
    "bad on-exit": (["-n", "1", "--on-exit", "burn", "true"], 125, "usage"),
    "bad option": (["-n", "1", "--bogus", "--", "true"], 125, "usage"),
    "no command": (["-n", "1"], 125, "usage"),
    "not found": (["-n", "1", "no-such-command"], 127, "not-runnable"),
    "an empty command": (["-n", "1", "--", ""], 127, "not-runnable"),
    "no such file": (["-n", "1", "./no-such-file"], 127, "not-runnable"),
    "no interpreter": (["-n", "1", "./lost.sh"], 127, "not-runnable"),
    "not executable": (["-n", "1", "./plain.sh"], 126, "not-runnable"),
    "a folder": (["-n", "1", "./folder"], 126, "not-runnable"),
    "no #! line": (["-n", "1", "./naked.sh"], 126, "not-runnable"),
}


@pytest.fixture(scope="module")
def used(tmp_path_factory: pytest.TempPathFactory) -> Fleet:
    """node1 is held by bob."""
    from bmhctl.usecases import inventories
    from tests.conftest import Lab
    from tests.runner.conftest import make_fleet

    folder = tmp_path_factory.mktemp("used")
    inventories.init(str(folder / "lab.db"))
    fleet = make_fleet(Lab(folder / "lab.db"))
    assert fleet.bmhctl("reserve", "node1", "--as", "bob").status == 0
    (folder / "folder").mkdir()
    for name, text, mode in (
        ("plain.sh", "#!/bin/sh\n", 0o644),
        ("lost.sh", "#!/no/such/shell -e\n", 0o755),
        ("naked.sh", "echo hello\n", 0o755),
    ):
        (folder / name).write_text(text)
        (folder / name).chmod(mode)
    return fleet


@pytest.mark.parametrize("case", OWN)
def test_a_failure_of_run_itself_has_its_own_status_and_reserves_nothing(case: str, used: Fleet) -> None:
    args, status, code = OWN[case]
    before = used.history()
    done = used.bmhctl("run", "-o", "json", *args)
    assert (done.status, done.stdout) == (status, "")
    assert json.loads(done.stderr)["error"]["code"] == code
    assert used.history() == before
    assert used.lab.context().store.tickets.all() == []


def test_a_failure_of_run_itself_is_reported_in_words(used: Fleet) -> None:
    assert used.bmhctl("run", "-n", "1", "./naked.sh") == Run(
        126,
        "",
        "bmhctl: ./naked.sh: neither a program nor a script that begins with #!\n"
        "hint: check the command after --; nothing was reserved\n",
    )


@pytest.mark.parametrize("separator", [[], ["--"]], ids=["plain", "separated"])
def test_options_after_the_name_of_the_command_belong_to_the_command(
    separator: list[str], toml_fleet: Fleet, tmp_path: Path
) -> None:
    tool = tmp_path / "tool"
    tool.write_text('#!/bin/sh\nprintf "<%s>" "$@"\n')
    tool.chmod(0o755)
    given = ["-v", "-o", "json", "--wait", "--ttl", "x", "-n", "9", "--help", "--", "-h"]
    done = toml_fleet.bmhctl("run", "-n", "1", "--wait", *separator, "./tool", *given)
    assert done == Run(0, "".join(f"<{arg}>" for arg in given), "")


def test_a_lease_that_the_policy_caps_is_reported(toml_fleet: Fleet) -> None:
    toml_fleet.lab.policy('[defaults]\nttl = "30m"\nmax_ttl = "1h"\n')
    done = toml_fleet.bmhctl("run", "-n", "1", "--ttl", "4h", "true")
    assert done == Run(0, "", "the lease is 1h, the longest that this inventory allows\n")


SUSPICIOUS = "[defaults]\nquarantine_after_task_failures = 3\n"


def run_failing(fleet: Fleet, owner: str, purpose: str, script: str = "exit 3") -> Run:
    done = fleet.bmhctl("run", "--host", "node1", "--as", owner, "--for", purpose, "--", "sh", "-c", script)
    fleet.recycle()
    return done


def test_tasks_of_several_owners_or_purposes_that_fail_in_a_row_quarantine_the_host(fleet: Fleet) -> None:
    fleet.lab.policy(SUSPICIOUS)
    assert run_failing(fleet, "alice", "nightly") == Run(3, "", "")
    assert run_failing(fleet, "alice", "smoke") == Run(3, "", "")
    assert fleet.states()["node1"] == "available"
    assert "2 tasks failed in a row: alice (nightly), alice (smoke)" in fleet.bmhctl("why", "node1").stdout
    words = "quarantined after 3 tasks failed in a row: alice (nightly), alice (smoke), bob (nightly)"
    assert run_failing(fleet, "bob", "nightly") == Run(3, "", f"node1: task failed: exit 3; {words}\n")
    assert fleet.states()["node1"] == "maintenance"
    assert fleet.bmhctl("resume", "node1", "--as", "carol").status == 0  # every actor may end a quarantine
    shown = json.loads(fleet.bmhctl("show", "node1", "-o", "json").stdout)["host"]
    assert (shown["state"], shown["failed_tasks"]) == ("initial", [])


def test_failures_of_one_owner_quarantine_no_host_and_a_success_resets_the_count(toml_fleet: Fleet) -> None:
    toml_fleet.lab.policy(SUSPICIOUS)
    for purpose in ("build", "build", "build", "smoke"):
        run_failing(toml_fleet, "alice", purpose)
    assert toml_fleet.states()["node1"] == "available"
    run_failing(toml_fleet, "carol", "nightly", "exit 0")
    for owner in ("alice", "bob"):
        run_failing(toml_fleet, owner, "nightly")
    assert toml_fleet.states()["node1"] == "available"
    shown = json.loads(toml_fleet.bmhctl("show", "node1", "-o", "json").stdout)["host"]
    assert [task["owner"] for task in shown["failed_tasks"]] == ["alice", "bob"]


def test_failing_tasks_quarantine_no_host_without_the_setting(toml_fleet: Fleet) -> None:
    for number in range(4):
        assert run_failing(toml_fleet, "alice", f"job {number}") == Run(3, "", "")
    assert toml_fleet.states()["node1"] == "available"


def test_a_cancelled_task_does_not_count_as_a_failure_of_the_host(toml_fleet: Fleet) -> None:
    task = toml_fleet.start("run", "--host", "node1", "--", "sh", "-c", "echo on; exec sleep 60")
    assert task.line() == "on"
    task.send(15)
    assert task.end().status == 143
    shown = json.loads(toml_fleet.bmhctl("show", "node1", "-o", "json").stdout)["host"]
    assert (shown["state"], shown["failed_tasks"]) == ("tainted", [])


def test_an_exit_status_for_broken_hosts_taints_them_with_a_fault(fleet: Fleet) -> None:
    command = ("run", "--host", "node1", "--infra-status", "75", "--on-exit", "recycle", "--", "sh", "-c")
    done = fleet.bmhctl(*command, "exit 75")
    assert done == Run(75, "", "node1: fault recorded: reported by a task: exit 75\n")
    shown = json.loads(fleet.bmhctl("show", "node1", "-o", "json").stdout)["host"]
    assert (shown["state"], shown["fault"]) == ("tainted", "reported by a task: exit 75")
    assert fleet.bmhctl("recycle").status == 0
    assert fleet.states()["node1"] == "tainted"
    assert fleet.bmhctl("recycle", "node1").status == 0  # a person who has repaired the host names it
    assert fleet.bmhctl(*command, "exit 3").stderr == ""
    assert fleet.states()["node1"] == "available"


def test_a_task_that_takes_too_long_is_ended_with_the_status_of_timeout(fleet: Fleet) -> None:
    done = fleet.bmhctl("run", "--host", "node1", "--timeout", "1s", "--", "sh", "-c", "sleep 99 & sleep 99; exit 3")
    assert done == Run(124, "", "the task was ended: it timed out after 1s\n")
    assert fleet.history() == [("node1", "reserve", None), ("node1", "taint", "task failed: timed out after 1s")]
    assert fleet.open_reservations() == []


def test_a_task_that_ends_in_time_keeps_its_status(fleet: Fleet) -> None:
    assert fleet.bmhctl("run", "--host", "node1", "--timeout", "1h", "--", "sh", "-c", "exit 3") == Run(3, "", "")


def test_a_task_that_ignores_term_is_killed_after_its_timeout(toml_fleet: Fleet) -> None:
    script = 'trap "" TERM; while :; do sleep 0.1; done'
    done = toml_fleet.bmhctl("run", "--host", "node1", "--ttl", "8s", "--timeout", "1s", "--", "sh", "-c", script)
    assert done == Run(124, "", "the task was ended: it timed out after 1s\n")
    assert toml_fleet.states()["node1"] == "tainted"


def test_a_host_whose_task_timed_out_is_kept_for_debugging_or_gets_a_fault(toml_fleet: Fleet) -> None:
    options = ("run", "--host", "node1", "--timeout", "1s", "--infra-status", "124")
    done = toml_fleet.bmhctl(*options, "sleep", "99")
    assert (done.status, done.stderr.splitlines()[1]) == (
        124,
        "node1: fault recorded: reported by a task: timed out after 1s",
    )
    done = toml_fleet.bmhctl("run", "--host", "node2", "--timeout", "1s", "--keep-on-fail", "1h", "sleep", "99")
    assert (done.status, toml_fleet.states()["node2"]) == (124, "reserved")


def test_a_timeout_of_nothing_is_refused_before_anything_is_reserved(toml_fleet: Fleet) -> None:
    done = toml_fleet.bmhctl("run", "--host", "node1", "--timeout", "0s", "true")
    assert (done.status, toml_fleet.states()["node1"]) == (125, "available")
    assert "--timeout is zero" in done.stderr


def test_recycle_goes_on_with_a_host_that_on_exit_recycle_could_not_make_available(fleet: Fleet) -> None:
    sign = fleet.lab.path.parent / "up"
    fleet.lab.policy(f'[checks.up]\ncommand = ["test", "-e", "{sign}"]\n')
    done = fleet.bmhctl("run", "--host", "node1", "--on-exit", "recycle", "true")
    assert done == Run(0, "", "node1: readiness check failed: up: exit 1\n")
    assert fleet.states()["node1"] == "initial"
    sign.touch()
    assert fleet.bmhctl("recycle").status == 0
    assert fleet.states()["node1"] == "available"


def test_variables_that_are_too_long_for_the_system_are_reported_and_the_hosts_given_back(toml_lab: Lab) -> None:
    fleet = make_fleet(toml_lab, f"{'a' * 63}.{'b' * 63}.{'c' * 63}.d[001-700]")
    done = fleet.bmhctl("run", "-n", "700", "true")
    assert done == Run(
        126,
        "",
        "true: the BMH_* variables of 700 hosts are too long for this system; give each run fewer hosts, or reserve "
        "and release them yourself: bmhctl help ci\n",
    )
    assert {*fleet.states().values()} == {"tainted"}
    assert fleet.open_reservations() == []
