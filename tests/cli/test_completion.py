"""Completion, as bash, zsh and fish ask for it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Cli
from tests.conftest import Run, environment

BIN = str(Path(sys.executable).parent)


def in_bash(line: str, cwd: Path) -> list[str]:
    """What a bash that has loaded the script offers at the end of a line."""
    script = """
        eval "$(bmhctl completion bash)"
        COMP_LINE=$1; COMP_POINT=${#1}
        read -r -a COMP_WORDS <<< "${1//=/ = }"  # as bash does by COMP_WORDBREAKS
        [[ $1 == *' ' ]] && COMP_WORDS+=('')
        COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
        compopt() { :; }  # there is none outside a completion
        $(complete -p bmhctl | sed 's/.*-F \\([^ ]*\\).*/\\1/') bmhctl
        printf '%s\\n' "${COMPREPLY[@]}"
    """
    env = environment(PATH=f"{BIN}:/usr/bin:/bin")
    done = subprocess.run(["bash", "-c", script, "bash", line], cwd=cwd, env=env, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.split()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_of_each_shell_is_valid(shell: str, cli: Cli) -> None:
    done = cli("completion", shell)
    assert (done.status, done.stderr) == (0, "")
    assert "_BMHCTL_COMPLETE" in done.stdout
    if shutil.which(shell):
        checked = subprocess.run([shell, "-n"], input=done.stdout, capture_output=True, text=True)
        assert (checked.returncode, checked.stderr) == (0, "")


def test_an_unknown_shell_is_refused(cli: Cli) -> None:
    assert cli("completion", "tcsh") == Run(
        2,
        "",
        "bmhctl: invalid value for 'SHELL': 'tcsh' is not one of 'bash', 'zsh', 'fish'\n"
        "hint: bmhctl completion --help\n",
    )


STATES = ["initial", "available", "reserved", "tainted", "maintenance", "free"]
HOSTS = ["node01", "node02", "node03"]


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash here")
def test_a_real_bash_completes(lab: Path, fleet: str) -> None:
    assert in_bash("bmhctl tai", lab.parent) == ["taint"]
    assert in_bash("bmhctl taint node0", lab.parent) == HOSTS
    assert in_bash("bmhctl taint NODE0", lab.parent) == ["NODE01", "NODE02", "NODE03"]
    assert in_bash("bmhctl list --state ", lab.parent) == STATES
    assert in_bash("bmhctl taint -R ", lab.parent) == [fleet]
    assert in_bash("bmhctl list -o j", lab.parent) == ["json", "jsonl"]


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash here")
def test_a_real_bash_completes_selectors_fields_and_names_of_steps(lab: Path, cli: Cli) -> None:
    folder = lab.parent
    lab.write_text(lab.read_text() + "[checks.ssh]\ntcp = 22\n[checks.bmc]\ntcp = 443\n[cleanup.wipe]\ntcp = 22\n")
    assert cli("list", "-q").status == 0
    assert in_bash("bmhctl list -l ra", folder) == ["rack="]
    assert in_bash("bmhctl list -l rack=", folder) == ["r1", "r2"]
    assert in_bash("bmhctl list -l arch=arm64,rack!=r", folder) == ["r1", "r2"]
    assert in_bash("bmhctl list -l !ra", folder) == ["!rack"]
    assert in_bash("bmhctl list --fields name,st", folder) == ["name,state"]
    assert in_bash("bmhctl reservations --fields expi", folder) == ["expires_at"]
    assert in_bash("bmhctl ready --override ", folder) == ["ssh", "bmc"]
    assert in_bash("bmhctl check --check b", folder) == ["bmc"]
    assert in_bash("bmhctl run --host node01 --host node0", folder) == HOSTS
    assert in_bash("bmhctl reserve --want arch=a", folder) == ["arm64"]
    assert in_bash("bmhctl list --sort s", folder) == ["state", "since"]


def asked(cli: Cli, line: str, shell: str = "bash") -> list[str]:
    words = line.split() + ([""] if line.endswith(" ") else [])
    protocol = {"COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)}
    with pytest.raises(SystemExit) as end:
        cli(_BMHCTL_COMPLETE=f"complete_{shell}", **protocol)
    assert end.value.code == 0
    return words


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        (
            "bmhctl re",
            [
                *("rename", "remove", "ready", "reserve", "release", "reset", "resume", "retire"),
                *("reservations", "replace", "reap", "recycle", "report"),
            ],
        ),
        ("bmhctl queue c", ["cancel"]),
        ("bmhctl policy ", ["show", "check", "apply", "grants"]),
        ("bmhctl help po", ["postgresql", "policy", "power"]),
        ("bmhctl show node0", HOSTS),
        ("bmhctl why node0", HOSTS),
        ("bmhctl graph node0", HOSTS),
        ("bmhctl history node0", HOSTS),
        ("bmhctl rename node0", HOSTS),
        ("bmhctl ready node01 node0", HOSTS),
        ("bmhctl -i bmh.toml taint node0", HOSTS),
        ("bmhctl taint -i bmh.toml node0", HOSTS),
        ("bmhctl reset --state t", ["tainted"]),
        ("bmhctl list --s", ["--selector", "--state", "--sort"]),
        ("bmhctl completion ", ["bash", "zsh", "fish"]),
        ("bmhctl -o js", ["json", "jsonl"]),
        ("bmhctl -i nowhere.db taint node0", []),
        ("bmhctl -i / taint node0", []),
    ],
)
def test_commands_options_hosts_and_states_are_completed(
    line: str, offered: list[str], cli: Cli, lab: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    asked(cli, line)
    assert capfd.readouterr() == ("".join(f"{word}\n" for word in offered) or "\n", "")


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("bmhctl release ", ["node01"]),
        ("bmhctl uncordon ", ["node02"]),
        ("bmhctl resume ", ["node03"]),
        ("bmhctl power node01 o", ["on", "off"]),
    ],
)
def test_only_hosts_and_actions_that_fit_the_command_are_offered(
    line: str, offered: list[str], cli: Cli, lab: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for args in (["ready", "node01"], ["reserve", "node01"], ["cordon", "node02"]):
        assert cli(*args).status == 0
    assert cli("maintain", "node03", "--reason", "new disk").status == 0
    asked(cli, line)
    assert sorted(capfd.readouterr().out.split()) == sorted(offered)


def test_what_is_wrong_with_an_inventory_is_not_said_at_the_touch_of_a_key(
    cli: Cli, lab: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (lab.parent / "torn.db").write_bytes(b"SQLite format 3\0" + bytes(200))
    asked(cli, "bmhctl -i torn.db taint ")
    assert capfd.readouterr() == ("\n", "")


@pytest.mark.parametrize(
    ("shell", "line", "expected"),
    [
        ("zsh", "bmhctl tai", '_arguments \'*: :(("taint":"Give hosts back as used, or as broken"))\'\n'),
        ("zsh", "bmhctl taint -R ", '_arguments \'*: :(("{id}":"alice nightly"))\'\n'),
        ("fish", "bmhctl tai", "taint\tGive hosts back as used, or as broken\n"),
        ("fish", "bmhctl taint -R ", "{id}\talice nightly\n"),
        ("fish", "bmhctl show node0", "node01\nnode02\nnode03\n"),
    ],
)
def test_zsh_and_fish_get_words_and_what_they_mean(
    shell: str, line: str, expected: str, cli: Cli, fleet: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        cli(
            _BMHCTL_COMPLETE=f"complete_{shell}",
            _TYPER_COMPLETE_ARGS=line,
            _TYPER_COMPLETE_FISH_ACTION="get-args",
        )
    assert capfd.readouterr() == (expected.replace("{id}", fleet), "")
