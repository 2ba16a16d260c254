"""Steps of kind command: programs that pass, fail, hang, print much or leave children."""

from __future__ import annotations

import os
import resource
import threading
import time
from pathlib import Path

import pytest

from bmhctl.domain.model import Bmc, HostSpec
from tests.probes.conftest import Probe
from tests.processes import ended

SPEC = HostSpec(
    "node01",
    "10.0.0.11",
    "bc:55:85:92:de:01",
    labels={"rack": "r1", "my/key": "x"},
    bmc=Bmc("redfish+https://10.0.1.11", "redfish", "1"),
    hardware={"cpus": 64, "flag": "--rm"},
)


def sh(script: str, **more: object) -> dict[str, object]:
    return {"command": ["sh", "-c", script], **more}


def test_a_command_passes_with_exit_status_0_and_its_last_lines_are_the_detail(probe: Probe) -> None:
    assert probe({"command": ["true"]}) == ("pass", "")
    assert probe(sh("for n in 1 2 3 4 5; do echo line $n; done")) == ("pass", "line 3 / line 4 / line 5")
    assert probe(sh("echo out; echo err >&2; exit 3")) == ("fail", "exit 3: out / err")


@pytest.mark.parametrize(
    ("part", "becomes"),
    [
        ("{name}", "node01"),
        ("{address}", "10.0.0.11"),
        ("{mac}", "bc:55:85:92:de:01"),
        ("{labels.rack}", "r1"),
        ("{labels.my/key}", "x"),
        ("{hardware.cpus}", "64"),
        ("{bmc.address}", "redfish+https://10.0.1.11"),
        ("{bmc.type}/{bmc.system_id}", "redfish/1"),
        ("{{name}} {name}.{labels.rack}", "{name} node01.r1"),
        ("$(id) `id` ; rm -rf *", "$(id) `id` ; rm -rf *"),
    ],
)
def test_placeholders_are_filled_in_and_no_shell_reads_them(part: str, becomes: str, probe: Probe) -> None:
    assert probe({"command": ["echo", part]}, SPEC) == ("pass", becomes)


@pytest.mark.parametrize(
    ("part", "why"),
    [
        ("{labels.zone}", "it has no labels.zone to put into '{labels.zone}'"),
        ("x{hardware.flag}", "its hardware.flag '--rm' begins with '-': a program could take it for an option"),
    ],
)
def test_a_placeholder_with_an_unsafe_value_fails(part: str, why: str, probe: Probe) -> None:
    assert probe({"command": ["echo", part]}, SPEC) == ("fail", why)
    assert probe({"command": ["echo", "{address}"]}, HostSpec("node02")) == (
        "fail",
        "it has no address to put into '{address}'",
    )


def test_the_environment_of_a_command_describes_only_its_own_host(probe: Probe) -> None:
    # A task of `run` has the variables of its own hosts: a step on a host without an address must not get theirs.
    others = {"BMH_HOST": "other", "BMH_ADDRESS": "10.9.9.9", "BMH_RESERVATION": "r-1", "BMH_LABEL_X": "y"}
    told = sh("env | grep ^BMH_ | sort | tr '\\n' ' '; echo $KEPT")
    assert probe(told, HostSpec("node02"), KEPT="kept", **others) == ("pass", "BMH_HOST=node02 kept")
    assert probe(told, SPEC, **others) == (
        "pass",
        "BMH_ADDRESS=10.0.0.11 BMH_BMC_ADDRESS=redfish+https://10.0.1.11 BMH_BMC_SYSTEM_ID=1 BMH_BMC_TYPE=redfish "
        "BMH_HARDWARE_CPUS=64 BMH_HARDWARE_FLAG=--rm BMH_HOST=node01 BMH_LABEL_MY_KEY=x BMH_LABEL_RACK=r1 "
        "BMH_MAC=bc:55:85:92:de:01",
    )


@pytest.mark.parametrize(
    ("command", "verdict", "why"),
    [
        (["./nowhere.sh"], "unknown", "./nowhere.sh: No such file or directory"),
        (["nowhere-to-be-found"], "unknown", "nowhere-to-be-found: No such file or directory"),
        (["/"], "unknown", "/: Permission denied"),
        (["echo", "\0"], "unknown", "echo: embedded null byte"),
        (["sh", "-c", "kill -9 $$"], "fail", "ended by SIGKILL"),
        (["python3", "-c", "import os; os.kill(os.getpid(), 40)"], "fail", "ended by signal 40"),
    ],
)
def test_a_killed_command_fails_and_a_command_that_cannot_start_has_no_verdict(
    command: list[str], verdict: str, why: str, probe: Probe
) -> None:
    found, detail = probe({"command": command})
    assert (found, detail.partition(" (relative paths")[0]) == (verdict, why)


@pytest.mark.slow
def test_a_command_past_its_timeout_gets_sigterm_and_may_still_print(probe: Probe, tmp_path: Path) -> None:
    script = "trap 'echo gave up; exit 0' TERM; echo $$ > pid; echo begun; sleep 60 & wait"
    assert probe(sh(script, timeout="1s")) == ("fail", "took longer than 1 s: begun / gave up")
    assert ended(int((tmp_path / "pid").read_text()))


@pytest.mark.slow
def test_a_command_that_ignores_sigterm_is_killed_with_its_children(probe: Probe, tmp_path: Path) -> None:
    script = "trap '' TERM; sleep 60 & echo $$ $! > pids; echo begun; wait; sleep 60"
    assert probe(sh(script, timeout="1s"), most=4) == ("fail", "took longer than 1 s: begun")
    assert all(ended(int(pid)) for pid in (tmp_path / "pids").read_text().split())


def test_a_background_process_of_a_command_is_ended_at_once(probe: Probe, tmp_path: Path) -> None:
    started = time.monotonic()
    assert probe(sh("sleep 60 & echo $! > pid; echo done")) == ("pass", "done")
    assert probe(sh("yes & echo $! > pid2; sleep 0.1"))[0] == "pass"  # the child writes to the pipe without end
    assert time.monotonic() - started < 5
    assert ended(int((tmp_path / "pid").read_text()))
    assert ended(int((tmp_path / "pid2").read_text()))


def test_100_megabytes_of_output_take_bounded_memory_and_time(probe: Probe) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.monotonic()
    verdict, said = probe(sh("head -c 100000000 /dev/zero | tr '\\0' x; echo; echo end; exit 3", timeout="30s"))
    more = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    print(f"100 MB in {time.monotonic() - started:.2f} s with {more} KiB more")
    assert (verdict, said.endswith("x / end"), len(said) < 500, more < 20_000) == ("fail", True, True, True)


def test_output_that_is_not_text_does_not_fail_a_command(probe: Probe) -> None:
    assert probe(sh(r"printf '\033[31mred\377\r\n\0end'; exit 1")) == ("fail", "exit 1: \x1b[31mred\ufffd / \ufffdend")


@pytest.mark.slow
def test_a_step_is_retried_until_it_passes_or_no_retry_is_left(probe: Probe, tmp_path: Path) -> None:
    assert probe(sh("echo x >> tries; test $(wc -l < tries) -ge 2", retries=3)) == ("pass", "")
    assert (tmp_path / "tries").read_text() == "x\n" * 2
    assert probe(sh("exit 4", retries=1)) == ("fail", "exit 4 (tried 2 times)")


def test_a_step_that_is_cancelled_ends_at_once(probe: Probe, tmp_path: Path) -> None:
    cancelled = threading.Event()
    os.mkfifo(tmp_path / "begun")

    def cancel() -> None:
        (tmp_path / "begun").read_text()
        cancelled.set()

    thread = threading.Thread(target=cancel)
    thread.start()
    started = time.monotonic()
    assert probe(sh("echo > begun; sleep 60", timeout="50s", retries=3), cancelled=cancelled)[0] != "pass"
    thread.join()
    assert time.monotonic() - started < 5
