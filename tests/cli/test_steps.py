"""Checks and cleanup steps that pass, fail, hang or misbehave, run by ``ready``, ``reset`` and ``resume``."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import Cli, json_of
from tests.conftest import Run
from tests.processes import ended

Policy = Callable[[str], None]
HINT = "hint: fix it and try again; bmhctl why node01\n"

BEFORE_AVAILABLE = pytest.mark.parametrize(
    ("table", "noun", "counted"), [("checks", "readiness check", ""), ("setup", "setup step", "; 0 of 1 done")]
)
"""The tables whose steps ``ready`` runs: the word for a step, and the text after the only step has failed."""


@pytest.fixture
def policy(lab: Path) -> Policy:
    """Puts checks and cleanup steps into the inventory."""
    hosts = lab.read_text()

    def write(text: str) -> None:
        lab.write_text(text + "\n" + hosts)

    return write


@pytest.fixture
def tainted(cli: Cli, lab: Path) -> None:
    """node01 is tainted."""
    for verb in ("ready", "reserve", "taint"):
        assert cli(verb, "node01").status == 0


def test_steps_that_pass_move_the_host_and_are_named(cli: Cli, policy: Policy) -> None:
    policy('[checks.a]\ncommand = ["true"]\n[checks.b]\ncommand = ["echo", "{name} {address} {labels.rack}"]')
    assert cli("ready", "node01") == Run(0, "node01  initial → available  readiness checks passed: a, b\n", "")
    steps = json_of(cli("history", "node01", "-n", "1", "-o", "json"))["events"]
    assert [(event["verb"], event["reason"]) for event in steps] == [("ready", "readiness checks passed: a, b")]


def test_a_step_with_a_missing_program_is_reported_before_it_runs(cli: Cli, policy: Policy, lab: Path) -> None:
    there = lab.parent / "there.sh"
    there.write_text("#!/bin/sh\n")
    there.chmod(0o755)
    (lab.parent / "no-program.sh").write_text("#!/bin/sh\n")
    names = ("./there.sh", "./no-program.sh", "/nowhere/at-all", "sh", "no-such-program", "{name}.sh")
    steps = [f'[checks.step{number}]\ncommand = ["{name}"]' for number, name in enumerate(names)]
    policy("\n".join([*steps, '[cleanup.wipe]\ncommand = ["./wipe.sh"]']))
    told = [
        f"check step1: there is no program ./no-program.sh here that can be run (relative paths start at {lab.parent})",
        "check step2: there is no program /nowhere/at-all here that can be run",
        "check step4: there is no program no-such-program here that can be run",
        f"cleanup step wipe: there is no program ./wipe.sh here that can be run (relative paths start at {lab.parent})",
    ]
    checked = cli("policy", "check", "node01")
    assert (checked.status, checked.stderr.splitlines()) == (0, ["6 checks, 1 cleanup step", *told])

    (lab.parent / "policy.toml").write_text(cli("policy", "show").stdout)
    assert cli("-i", "p.db", "init", "-q").status == 0
    applied = cli("-i", "p.db", "policy", "apply", "policy.toml")
    assert (applied.status, applied.stderr.splitlines()) == (0, told)


def test_an_inventory_is_refused_as_a_policy_with_the_command_that_prints_its_policy(cli: Cli, lab: Path) -> None:
    assert cli("-i", "p.db", "init", "-q").status == 0
    assert cli("-i", "p.db", "policy", "apply", "bmh.toml") == Run(
        10,
        "",
        "bmhctl: bmh.toml declares hosts: it is an inventory, not a policy\n"
        "hint: take only its policy: bmhctl -i bmh.toml policy show >policy.toml\n",
    )


def test_a_program_that_is_not_found_is_reported_with_the_folder_or_with_its_path(
    cli: Cli, policy: Policy, lab: Path
) -> None:
    (lab.parent / "there.sh").write_text("#!/bin/sh\n")
    (lab.parent / "there.sh").chmod(0o755)
    policy('[checks.a]\ncommand = ["there.sh"]\n[checks.b]\ncommand = ["./gone.sh"]')
    why = ("; did you mean ./there.sh?", f" (relative paths start at {lab.parent})")
    failed = cli("ready", "node01").stderr
    assert f"a: there.sh: No such file or directory{why[0]}" in failed
    assert f"b: ./gone.sh: No such file or directory{why[1]}" in failed
    checked = cli("policy", "check", "node01").stderr
    assert f"check a: there is no program there.sh here that can be run{why[0]}" in checked


def test_a_copy_warns_of_programs_that_its_steps_do_not_find_in_another_folder(
    cli: Cli, policy: Policy, lab: Path
) -> None:
    (lab.parent / "there.sh").write_text("#!/bin/sh\n")
    (lab.parent / "there.sh").chmod(0o755)
    policy('[checks.a]\ncommand = ["./there.sh"]\n[cleanup.b]\ncommand = ["./gone.sh"]')
    (lab.parent / "elsewhere").mkdir()
    folder = lab.parent / "elsewhere"
    warning = (
        f"the steps of the copy are started in {folder}, where these programs do not exist: ./there.sh; "
        "name them by absolute paths in its policy, or the steps fail"
    )
    assert cli("copy", "bmh.toml", "elsewhere/copy.db").stderr.splitlines()[-1] == warning
    assert "do not exist" not in cli("copy", "bmh.toml", "beside.db").stderr


def test_a_step_that_fails_keeps_the_host_where_it_is_and_says_why(cli: Cli, policy: Policy) -> None:
    policy('[checks.disk]\ncommand = ["sh", "-c", "echo one; echo two >&2; exit 3"]\n[checks.ok]\ncommand = ["true"]')
    assert cli("ready", "node01") == Run(
        9, "", f"bmhctl: node01: readiness check failed: disk: exit 3: one / two\n{HINT}"
    )
    assert cli("list", "node01", "--fields", "state") == Run(0, "STATE\ninitial\n", "")


@pytest.mark.parametrize(
    ("step", "why"),
    [
        ('command = ["/no/where.sh"]', "/no/where.sh: No such file or directory"),
        ('command = ["nowhere-to-be-found"]', "nowhere-to-be-found: No such file or directory"),
        ('command = ["/"]', "/: Permission denied"),
        ('command = ["sh", "-c", "kill -9 $$"]', "ended by SIGKILL"),
        ('command = ["echo", "{labels.zone}"]', "it has no labels.zone to put into '{labels.zone}'"),
        ("tcp = 1", "it has no address, so port 1 can't be reached"),
    ],
)
@BEFORE_AVAILABLE
def test_a_step_that_cannot_run_counts_as_failed(
    table: str, noun: str, counted: str, step: str, why: str, cli: Cli, policy: Policy
) -> None:
    policy(f"[{table}.odd]\n{step}\n")
    assert cli("ready", "node03") == Run(
        9,
        "",
        f"bmhctl: node03: {noun} failed: odd: {why}{counted}\nhint: fix it and try again; bmhctl why node03\n",
    )


@pytest.mark.parametrize(("option", "ran"), [((), "raid"), (("--again",), "bios, raid")])
def test_a_setup_continues_at_the_failed_step_and_the_again_option_repeats_all(
    option: tuple[str, ...], ran: str, cli: Cli, policy: Policy, lab: Path
) -> None:
    policy('[setup.bios]\ncommand = ["true"]\n[setup.raid]\ncommand = ["test", "-e", "disks"]\n')
    assert cli("ready", "node01") == Run(9, "", f"bmhctl: node01: setup step failed: raid: exit 1; 1 of 2 done\n{HINT}")
    assert json_of(cli("list", "node01", "-o", "json"))["hosts"][0]["setup"] == {"done": 1, "of": 2, "failed": "raid"}
    (lab.parent / "disks").touch()
    steps = "steps" if "," in ran else "step"
    assert cli("ready", "node01", *option).stdout == (
        f"node01  initial → available  setup {steps} passed: {ran}; no readiness checks are declared\n"
    )


def test_a_value_that_a_program_could_take_for_an_option_is_refused(cli: Cli, policy: Policy, lab: Path) -> None:
    policy('[checks.odd]\ncommand = ["echo", "{hardware.flag}"]')
    lab.write_text(lab.read_text() + '\n[hosts.node09]\nhardware = { flag = "--rm" }\n')
    done = cli("ready", "node09")
    assert (done.status, done.stdout) == (9, "")
    assert "its hardware.flag '--rm' begins with '-': a program could take it for an option" in done.stderr


@pytest.mark.slow
@BEFORE_AVAILABLE
def test_a_step_that_ignores_sigterm_is_killed(
    table: str, noun: str, counted: str, cli: Cli, policy: Policy, lab: Path
) -> None:
    policy(
        f"[{table}.stubborn]\n"
        'command = ["sh", "-c", "trap \'\' TERM; echo $$ > pid; echo begun; sleep 60; sleep 60"]\n'
        'timeout = "1s"'
    )
    assert cli("ready", "node01") == Run(
        9, "", f"bmhctl: node01: {noun} failed: stubborn: took longer than 1 s: begun{counted}\n{HINT}"
    )
    assert ended(int((lab.parent / "pid").read_text()))
    assert cli("maintain", "node01", "--reason", "stubborn").status == 0


def test_a_background_process_of_a_step_is_ended_with_the_step(cli: Cli, policy: Policy, lab: Path) -> None:
    policy('[checks.forks]\ncommand = ["sh", "-c", "sleep 60 & echo $! > pid; echo done"]')
    assert cli("ready", "node01") == Run(0, "node01  initial → available  readiness check passed: forks\n", "")
    assert ended(int((lab.parent / "pid").read_text()))
    assert cli("reserve", "node01").status == 0


@BEFORE_AVAILABLE
def test_the_last_lines_of_ten_megabytes_of_output_are_kept(
    table: str, noun: str, counted: str, cli: Cli, policy: Policy
) -> None:
    policy(
        f'[{table}.loud]\ncommand = ["sh", "-c", "head -c 10000000 /dev/zero | tr \'\\\\0\' x; echo; echo end; exit 3"]'
    )
    done = cli("ready", "node01")
    assert (done.status, done.stdout) == (9, "")
    assert done.stderr.endswith(f"x / end{counted}\n{HINT}")
    assert len(done.stderr) < 1000


@BEFORE_AVAILABLE
def test_what_a_step_prints_never_steers_a_terminal(
    table: str, noun: str, counted: str, cli: Cli, policy: Policy
) -> None:
    policy(
        """[checks.odd]\ncommand = ["printf", '\\033[31mred\\033]0;t\\007 [bold] \\342\\200\\256 \\377\\n']
[checks.bad]\ncommand = ["sh", "-c", "printf '\\\\033[31mred\\\\377\\\\n'; exit 1"]""".replace("[checks.", f"[{table}.")
    )
    done = cli("ready", "node01")
    assert done == Run(
        9,
        "",
        f"bmhctl: node01: {noun} failed: bad: exit 1: \\x1b[31mred\ufffd{counted.replace('0 of 1', '1 of 2')}\n{HINT}",
    )
    for args in (["history"], ["why", "node01"], ["show", "node01"], ["graph", "node01"]):
        for output in ("table", "plain", "json"):
            assert "\x1b" not in cli(*args, "-o", output).stdout


def test_a_tcp_step_opens_a_connection(cli: Cli, policy: Policy, lab: Path) -> None:
    lab.write_text(lab.read_text().replace("10.0.0.11", "127.0.0.1"))
    hosts = lab.read_text()
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        lab.write_text(f"[checks.ssh]\ntcp = {port}\n{hosts}")
        assert cli("ready", "node01") == Run(0, "node01  initial → available  readiness check passed: ssh\n", "")
    cli("maintain", "node01", "--reason", "a look")
    done = cli("resume", "node01")
    assert done == Run(
        0,
        f"node01  maintenance → initial  readiness check failed: ssh: 127.0.0.1 port {port}: Connection refused\n",
        "",
    )


@pytest.mark.slow
def test_a_tcp_step_obeys_its_timeout(cli: Cli, policy: Policy, lab: Path) -> None:
    hosts = lab.read_text().replace("10.0.0.11", "127.0.0.1")
    with socket.create_server(("127.0.0.1", 0), backlog=0) as server, socket.create_connection(server.getsockname()):
        port = server.getsockname()[1]  # one connection waits in the queue, which has no room for another
        lab.write_text(f'[checks.ssh]\ntcp = {port}\ntimeout = "1s"\n{hosts}')
        assert cli("ready", "node01") == Run(
            9, "", f"bmhctl: node01: readiness check failed: ssh: 127.0.0.1 port {port}: no answer in 1 s\n{HINT}"
        )


def test_the_environment_of_a_step_has_the_host_and_no_credentials(cli: Cli, policy: Policy, lab: Path) -> None:
    policy('[checks.env]\ncommand = ["sh", "-c", "env | grep ^BMH_ | sort > env.txt"]')
    assert cli("ready", "node01").status == 0
    assert (lab.parent / "env.txt").read_text() == (
        "BMH_ADDRESS=10.0.0.11\n"
        "BMH_BMC_ADDRESS=redfish+https://10.0.1.11/redfish/v1/Systems/1\n"
        "BMH_HARDWARE_CPUS=64\n"
        "BMH_HARDWARE_MEMORY=256GiB\n"
        "BMH_HOST=node01\n"
        "BMH_LABEL_ARCH=x86_64\n"
        "BMH_LABEL_RACK=r1\n"
        "BMH_MAC=bc:55:85:92:de:01\n"
    )


def test_cleanup_stops_at_the_first_step_that_fails(cli: Cli, policy: Policy, tainted: None, lab: Path) -> None:
    policy('[cleanup.a]\ncommand = ["true"]\n[cleanup.b]\ncommand = ["false"]\n[cleanup.c]\ncommand = ["touch", "c"]')
    assert cli("reset", "node01") == Run(9, "", f"bmhctl: node01: cleanup step failed: b: exit 1\n{HINT}")
    assert not (lab.parent / "c").exists()


def test_several_failed_cleanups_in_a_row_put_a_host_into_maintenance(
    cli: Cli, policy: Policy, tainted: None, lab: Path
) -> None:
    healthy = lab.read_text()
    policy('[cleanup.wipe]\ncommand = ["false"]')
    assert cli("reset", "node01").stderr == f"bmhctl: node01: cleanup step failed: wipe: exit 1\n{HINT}"
    assert cli("reset", "node01") == Run(
        9,
        "",
        "bmhctl: node01: cleanup step failed: wipe: exit 1; quarantined after 2 failed cleanups in a row\n"
        "hint: fix it, then: bmhctl resume node01\n",
    )
    host = json_of(cli("show", "node01", "-o", "json"))["host"]
    assert (host["state"], host["dirty"], host["failed_cleanups"]) == ("maintenance", True, 2)
    assert (host["maintenance"][0]["actor"], host["maintenance"][0]["quarantine"]) == ("bmhctl", True)
    assert cli("resume", "node01").status == 9
    lab.write_text(healthy)
    assert cli("resume", "node01", "--as", "bob") == Run(
        0, "node01  maintenance → initial  no cleanup steps are declared\n", ""
    )
    assert json_of(cli("show", "node01", "-o", "json"))["host"]["failed_cleanups"] == 0


def test_steps_run_on_all_hosts_and_each_host_has_its_result(cli: Cli, policy: Policy) -> None:
    policy('[checks.even]\ncommand = ["sh", "-c", "test {name} != node02"]\n[checks.net]\ncommand = ["true"]')
    cli("maintain", "node03", "--reason", "disk")
    done = cli("ready", "node0*", "node09")
    assert (done.status, done.stdout) == (12, "node01  initial → available  readiness checks passed: even, net\n")
    assert [line for line in done.stderr.splitlines() if line.startswith("bmhctl: ")] == [
        "bmhctl: node02: readiness check failed: even: exit 1",
        "bmhctl: node03: is in maintenance: ready is only possible from initial",
        "bmhctl: node09: there is no such host",
    ]
    done = cli("ready", "node02", "node01", "-o", "json")
    assert [(each["host"], each["code"]) for each in json.loads(done.stdout)["results"]] == [
        ("node02", "step-failed"),
        ("node01", "done"),
    ]


def test_steps_apply_to_the_hosts_that_their_selector_fits(cli: Cli, policy: Policy) -> None:
    policy('[checks.never]\ncommand = ["false"]\nselector = "arch=arm64"')
    assert cli("ready", "node01", "node03") == Run(
        9,
        "node01  initial → available  no readiness check applies to it\n",
        "bmhctl: node03: readiness check failed: never: exit 1\nhint: fix it and try again; bmhctl why node03\n",
    )
