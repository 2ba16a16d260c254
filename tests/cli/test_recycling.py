"""Checks and recycling by real processes: many at once, interrupted, killed."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import Cli, json_of
from tests.conftest import Run, environment
from tests.forked import Process
from tests.probes.servers import filtered, silence
from tests.processes import ended, until

pytestmark = pytest.mark.slow

BMHCTL = [sys.executable, "-W", "error", "-m", "bmhctl"]
Start = Callable[..., Process]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts the real command; commands that still run at the end of the test are killed."""
    started: list[Process] = []

    def call(*args: str) -> Process:
        process = Process(args, tmp_path, environment())
        started.append(process)
        return process

    yield call
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


@pytest.fixture
def fleet(tmp_path: Path, cli: Cli) -> Callable[[int, str], None]:
    """Makes an inventory with a number of hosts and a policy."""

    def make(count: int, policy: str) -> None:
        hosts = "".join(f'[hosts.node{n:03}]\naddress = "127.0.0.1"\n' for n in range(1, count + 1))
        (tmp_path / "bmh.toml").write_text(f"{policy}\n{hosts}")
        assert cli("list", "-o", "name").status == 0

    return make


def states(cli: Cli) -> dict[str, str]:
    return {host["name"]: host["state"] for host in json_of(cli("list", "-o", "json"))["hosts"]}


def use(cli: Cli, count: int) -> None:
    """Lets hosts be reserved and tainted."""
    assert cli("ready", "node*").status == 0
    assert cli("reserve", "-n", str(count)).status == 0
    assert cli("taint", "node*").status in (0, 4, 12)


def test_200_hosts_are_checked_in_parallel(
    fleet: Callable[[int, str], None], start: Start, cli: Cli, capfd: pytest.CaptureFixture[str]
) -> None:
    fleet(200, '[checks.slow]\ncommand = ["sleep", "1"]\n')
    begun = time.monotonic()
    process = start("ready", "node*", "-j", "64")
    out, err = process.communicate(timeout=60)
    took, ideal = time.monotonic() - begun, 200 / 64
    with capfd.disabled():
        print(f"200 hosts at 64 at once: {took:.1f} s, ideal {ideal:.1f} s, {took / ideal:.1f} times as long")
    assert (process.returncode, err, len(out.splitlines())) == (0, "ready: 200 changed\n", 200)
    assert out.splitlines()[0] == "node001  initial → available  readiness check passed: slow"
    assert took < 6 * ideal
    assert set(states(cli).values()) == {"available"}


HANGING = """
[checks.quick]
command = ["true"]
selector = "quick"
[checks.command]
command = ["sh", "-c", "trap '' TERM; sleep 60 & echo $$ $! > $BMH_HOST.new; mv $BMH_HOST.new pid-$BMH_HOST; wait"]
selector = "command"
[checks.tcp]
tcp = {filtered}
selector = "tcp"
[checks.http]
http = "http://127.0.0.1:{silent}/"
selector = "http"
[checks.redfish]
redfish = {{ power = "on" }}
selector = "redfish"
"""


@pytest.mark.parametrize(("number", "times"), [(signal.SIGINT, 1), (signal.SIGINT, 2), (signal.SIGTERM, 1)])
def test_a_signal_during_many_steps_ends_them_and_keeps_finished_results(
    number: signal.Signals, times: int, tmp_path: Path, start: Start, cli: Cli, capfd: pytest.CaptureFixture[str]
) -> None:
    with filtered() as dead, silence() as silent:
        kinds = ["quick", "command", "tcp", "http", "redfish"]
        bmc = f'bmc = {{ address = "http://127.0.0.1:{silent}", system_id = "1" }}'
        hosts = "".join(
            f'[hosts.{kind}{n}]\naddress = "127.0.0.1"\nlabels = {{ {kind} = "yes" }}\n{bmc}\n'
            for kind in kinds
            for n in (1, 2, 3)
        )
        (tmp_path / "bmh.toml").write_text(HANGING.format(filtered=dead, silent=silent) + hosts)
        assert cli("list").status == 0  # warns that all hosts have the same address
        process = start("ready", "*", "-j", "20")
        until(lambda: len(list(tmp_path.glob("pid-command[123]"))) == 3)
        until(lambda: list(states(cli).values()).count("available") == 3)
        begun = time.monotonic()
        for _ in range(times):
            process.send_signal(number)
            time.sleep(0.2)
        out, err = process.communicate(timeout=20)
        took = time.monotonic() - begun
    passed = [f"quick{n}  initial → available  readiness check passed: quick" for n in (1, 2, 3)]
    assert (process.returncode, sorted(out.splitlines())) == (128 + number, passed)
    with capfd.disabled():
        print(f"{times} {number.name}: ended after {took:.1f} s")
    assert took < 6
    assert err == "interrupted: ready was not finished on 12 of 15 hosts\n"
    for path in tmp_path.glob("pid-command[123]"):
        assert all(ended(int(pid)) for pid in path.read_text().split())
    assert {name: state for name, state in states(cli).items() if state != "initial"} == {
        f"quick{n}": "available" for n in (1, 2, 3)
    }
    assert cli("maintain", "*", "--reason", "no claim is left").status == 0


MARKED = """
[defaults]
quarantine_after = 2
[checks.up]
command = ["true"]
[cleanup.wipe]
command = ["sh", "-c", "mkdir running-$BMH_HOST && echo x >> wiped-$BMH_HOST && sleep 0.2 && rmdir running-$BMH_HOST"]
"""


def wiped(folder: Path) -> list[int]:
    return [len(path.read_text().split()) for path in sorted(folder.glob("wiped-*"))]


def test_two_recyclers_at_the_same_time_clean_each_host_once(
    fleet: Callable[[int, str], None], tmp_path: Path, start: Start, cli: Cli
) -> None:
    fleet(12, MARKED)
    two = [start("recycle", "--watch", "1s", "-j", "4") for _ in range(2)]
    for taints in (1, 2):
        assert cli("ready", "--state", "initial").status == 0
        assert cli("reserve", "-n", "12").status == 0
        assert cli("taint", "node*").status == 0
        until(lambda: set(states(cli).values()) == {"available"})
        assert wiped(tmp_path) == [taints] * 12
    time.sleep(0.5)  # the last outcome is printed directly after it is recorded
    outputs = []
    for process in two:
        process.terminate()
        outputs.append(process.communicate(timeout=10))
        assert process.returncode == 128 + signal.SIGTERM
    lines = [line for out, _ in outputs for line in out.splitlines()]
    words = "tainted → available  cleanup step passed: wipe; readiness check passed: up"
    assert sorted(lines) == sorted([f"node{n:03}  {words}" for n in range(1, 13)] * 2)
    assert [err for _, err in outputs] == ["", ""]


def test_a_host_whose_recycler_is_killed_stays_tainted_until_another_recycler_cleans_it(
    fleet: Callable[[int, str], None], tmp_path: Path, start: Start, cli: Cli
) -> None:
    wipe = "echo $$ > pid.new; mv pid.new pid-$(ls | grep -c ^pid-); read go < fifo"
    fleet(1, f'[cleanup.wipe]\ncommand = ["sh", "-c", "{wipe}"]\n')
    os.mkfifo(tmp_path / "fifo")
    use(cli, 1)
    first = start("recycle")
    until((tmp_path / "pid-0").exists)
    first.kill()
    assert first.wait(10) == -signal.SIGKILL
    assert states(cli) == {"node001": "tainted"}
    done = cli("recycle")
    assert (done.status, "skipped: a step is running on it" in done.stdout, done.stderr) == (0, True, "")
    assert cli("recycle", "node001").status == 4
    assert cli("maintain", "node001", "--reason", "x").status == 4
    second = start("recycle", "--watch", "1s")
    assert not (tmp_path / "pid-1").exists()
    (tmp_path / "fifo").write_text("go\n")  # only when the first step has ended, the next may begin
    assert ended(int((tmp_path / "pid-0").read_text()))
    until((tmp_path / "pid-1").exists)
    assert states(cli) == {"node001": "tainted"}
    (tmp_path / "fifo").write_text("go\n")
    until(lambda: states(cli) == {"node001": "available"})
    second.send_signal(signal.SIGINT)
    second.communicate(timeout=10)
    assert second.returncode == 130


def test_a_watch_needs_no_interval(fleet: Callable[[int, str], None], start: Start, cli: Cli) -> None:
    fleet(1, "")
    use(cli, 1)
    watch = start("recycle", "--watch", "node*")
    until(lambda: states(cli) == {"node001": "available"})
    watch.send_signal(signal.SIGINT)
    assert (watch.communicate(timeout=10)[1], watch.returncode) == ("", 130)


def test_a_watch_survives_a_file_that_is_broken_for_a_while_and_reports_it_once(
    fleet: Callable[[int, str], None], tmp_path: Path, start: Start, cli: Cli
) -> None:
    fleet(1, "")
    use(cli, 1)
    good = (tmp_path / "bmh.toml").read_text()
    watch = start("recycle", "--watch", "1s")
    until(lambda: states(cli) == {"node001": "available"})
    (tmp_path / "bmh.toml").write_text(good + "[hosts.node001\n")
    assert watch.stderr is not None
    assert select.select([watch.stderr], [], [], 20)[0]
    time.sleep(2.5)  # time for several tries while the host is still broken
    (tmp_path / "bmh.toml").write_text(good)
    use(cli, 1)
    until(lambda: states(cli) == {"node001": "available"})
    watch.terminate()
    out, err = watch.communicate(timeout=10)
    assert out == 2 * (
        "node001  tainted → available  no cleanup steps are declared; no readiness checks are declared\n"
    )
    said = err.splitlines()
    assert len(said) == 2, said
    assert said[0].endswith("; waiting until that is fixed")
    assert said[1].endswith("bmh.toml is valid again")


def test_a_watch_of_a_file_that_is_broken_at_the_beginning_ends_at_once(
    fleet: Callable[[int, str], None], tmp_path: Path, cli: Cli
) -> None:
    fleet(1, "")
    (tmp_path / "bmh.toml").write_text("[hosts.node001\n")
    assert cli("recycle", "--watch").status == 10


def test_a_watch_interval_that_is_too_short_is_refused(fleet: Callable[[int, str], None], cli: Cli) -> None:
    fleet(1, "")
    done = cli("recycle", "--watch", "0s")
    assert (done.status, done.stdout) == (2, "")


def test_show_and_why_show_the_last_result_of_each_step(fleet: Callable[[int, str], None], cli: Cli) -> None:
    fleet(1, '[checks.disk]\ncommand = ["sh", "-c", "echo sda is worn; exit 3"]\n')
    assert cli("check", "node001").status == 9
    for command in ("show", "why"):
        assert "exit 3: sda is worn" in cli(command, "node001", "-o", "table").stdout
        (result,) = json_of(cli(command, "node001", "-o", "json"))["results"]
        assert (result["step"], result["verdict"], result["detail"]) == ("disk", "fail", "exit 3: sda is worn")
        assert result["at"]
        assert 0 < result["seconds"] < 10


def test_a_policy_says_which_steps_apply_to_which_host(tmp_path: Path, cli: Cli) -> None:
    policy = """
[checks.page]
http = { url = "http://{address}:8080/health", status = 204, text = "ok" }
selector = "web"
[checks.bmc]
redfish = { health = "OK" }
[cleanup.off]
redfish = { power = "off" }
retries = 2
"""
    db = str(tmp_path / "lab.db")
    assert cli("-i", db, "init").status == 0
    assert cli("-i", db, "add", "node001", "--label", "web=yes").status == 0
    assert cli("-i", db, "add", "node002").status == 0
    (tmp_path / "policy.toml").write_text(policy)
    done = cli("-i", db, "policy", "check", "--file", "policy.toml", "-o", "json")
    assert [(item["host"], item["message"]) for item in json.loads(done.stdout)["results"]] == [
        ("node001", "checks: page, bmc; cleanup: off"),
        ("node002", "checks: bmc; cleanup: off"),
    ]
    assert cli("-i", db, "policy", "apply", "policy.toml").status == 0
    assert cli("-i", db, "policy", "show").stdout.strip() == policy.strip()
    for wrong, words in (
        ('[checks.a]\nredfish = { helth = "OK" }', "'health'"),
        ('[checks.a]\nhttp = { url = "http://x/", txt = "y" }', "'text'"),
        ("[checks.a]\ntcp = 22\nretry = 1", "'retries'"),
        ("[check.a]\ntcp = 22", "'checks'"),
    ):
        (tmp_path / "policy.toml").write_text(wrong)
        done = cli("-i", db, "policy", "apply", "policy.toml")
        assert (done.status, f"did you mean {words}" in done.stderr) == (10, True), done
    assert cli("-i", db, "policy", "show").stdout.strip() == policy.strip()


@pytest.mark.parametrize("args", [["power", "node001", "status"], ["inspect", "node001"]])
def test_commands_that_contact_bmcs_obey_their_timeout(
    args: list[str], fleet: Callable[[int, str], None], cli: Cli
) -> None:
    fleet(1, "")
    assert cli(*args, "--timeout", "0s").status == 2
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert cli("set", "node001", "--bmc", f"http://127.0.0.1:{port}", "--bmc-system", "1").status == 0
        assert cli(*args, "--timeout", "1s") == Run(
            9,
            "",
            f"bmhctl: node001: its BMC at http://127.0.0.1:{port} did not answer in 1 s\n"
            "hint: a longer timeout waits for a BMC that is restarting or busy\n",
        )
