"""Completion, as bash, zsh and fish ask for it."""

from __future__ import annotations

import re
import shutil
import subprocess
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pexpect
import pytest

from bmhctl.cli.app import build_command
from bmhctl.cli.commands import ENTRIES
from bmhctl.cli.completion_candidates import STORED, WORDS
from bmhctl.domain.requirements import dump_requirements, parse_requirement
from bmhctl.domain.ticket import Ticket
from bmhctl.stores import open_store
from tests.cli.conftest import Cli
from tests.conftest import Run, environment
from tests.programs import needs

SHELLS = [pytest.param(name, marks=needs(name)) for name in ("bash", "zsh", "fish")]

START = {
    "bash": (["bash", "--norc", "--noprofile"], 'eval "$(bmhctl completion bash)"'),
    "zsh": (["zsh", "-f"], 'eval "$(bmhctl completion zsh)"'),
    "fish": (["fish", "--no-config"], "bmhctl completion fish | source"),
}
SHOW = {
    "bash": r"""bind -x '"\C-xs": printf "LINE<%s>\n" "$READLINE_LINE"'""",
    "zsh": r"show() { print -r -- 'LINE<'$BUFFER'>' }; zle -N show; bindkey '^Xs' show",
    "fish": r"bind \cxs 'echo LINE\<(commandline)\>'",
}
"""The shell code that makes ^Xs print the line that is being typed."""


class Shell:
    """A shell on a terminal that has loaded its completion script."""

    def __init__(self, name: str, cwd: Path, programs: Path) -> None:
        command, load = START[name]
        env = environment(PATH=f"{programs}:/usr/bin:/bin", HOME=str(cwd), TERM="xterm", LC_ALL="C.UTF-8")
        self.process = pexpect.spawn(
            command[0], command[1:], cwd=str(cwd), env=env, dimensions=(60, 200), encoding="utf-8", timeout=30
        )
        self.process.sendline(f"{load}; {SHOW[name]}; echo lo''aded")
        self.process.expect("loaded")

    def complete(self, line: str, tabs: int = 1) -> tuple[str, str]:
        """Type a line with a tab at its end; return the completed line and the output of the shell."""
        self.process.send(line + "\t" * tabs + "\x18s")
        self.process.expect("LINE<(.*?)>")
        found = self.process.match[1], re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", self.process.before)
        self.process.send("\x15")  # this clears the line; ^C would also discard the next input
        return found

    def __enter__(self) -> Shell:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.close(force=True)


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


HOSTS = ["node01", "node02", "node03"]


@pytest.mark.slow
@pytest.mark.parametrize("shell", SHELLS)
def test_a_real_shell_completes(shell: str, lab: Path, fleet: str, cli: Cli, forking: Path) -> None:
    lab.write_text(lab.read_text() + "[checks.ssh]\ntcp = 22\n[checks.bmc]\ntcp = 443\n[cleanup.wipe]\ntcp = 22\n")
    assert cli("set", "node01", "--hardware", "model=PowerEdge 6").status == 0
    assert cli("reserve", "-n", "1", "--from", "2h", "--ttl", "1h", "--as", "bob@lab").status == 0
    (lab.parent / "notes.txt").touch()
    with Shell(shell, lab.parent, forking) as real:

        def completed(line: str) -> str:
            return real.complete(line)[0].replace("\\!", "!")  # bash and zsh quote characters of history expansion

        assert completed("bmhctl tai") == "bmhctl taint "
        assert completed("bmhctl taint nod") == "bmhctl taint node0"
        assert completed("bmhctl list --state m") == "bmhctl list --state maintenance "
        assert completed("bmhctl taint -R r-") == f"bmhctl taint -R {fleet} "
        assert completed("bmhctl list -l ra") == "bmhctl list -l rack="
        assert completed("bmhctl list -l arch=arm64,rack!=") == "bmhctl list -l arch=arm64,rack!=r"
        assert completed("bmhctl list --selector=arch=a") == "bmhctl list --selector=arch=arm64 "
        assert completed("bmhctl list -l 'ra").startswith("bmhctl list -l 'rack=")
        assert completed("bmhctl list --fields name,sta") == "bmhctl list --fields name,state "
        assert completed("bmhctl list --sort la") == "bmhctl list --sort labels."
        assert completed("bmhctl check --check s") == "bmhctl check --check ssh "
        assert completed("bmhctl stats --by label:ra") == "bmhctl stats --by label:rack "
        assert completed("bmhctl bookings --owner bob@l") == "bmhctl bookings --owner bob@lab "
        assert completed("bmhctl reserve --want arch=a") == "bmhctl reserve --want arch=arm64 "
        assert completed("bmhctl list -l model=P").replace("'", "") in (
            "bmhctl list -l model=PowerEdge\\ 6 ",
            "bmhctl list -l model=PowerEdge 6 ",
        )
        if shell == "bash":
            real.process.sendline("COMP_WORDBREAKS=${COMP_WORDBREAKS//[:=@]}; echo un''broken")
            real.process.expect("unbroken")
            assert completed("bmhctl stats --by=label:ra") == "bmhctl stats --by=label:rack "
            assert completed("bmhctl reservations --owner=bob@l") == "bmhctl reservations --owner=bob@lab "
        line, printed = real.complete("bmhctl show node01", tabs=3)
        assert (line, "notes.txt" in printed) == ("bmhctl show node01 ", False)
        assert completed("bmhctl import no") == "bmhctl import notes.txt "
        assert completed("bmhctl run -l gpu -- no") == "bmhctl run -l gpu -- notes.txt "


@pytest.mark.slow
@pytest.mark.parametrize("shell", [each for each in SHELLS if each.values[0] != "bash"])
def test_a_real_shell_shows_descriptions_and_executes_nothing_in_them(
    shell: str, lab: Path, cli: Cli, forking: Path
) -> None:
    assert cli("ready", "--state", "initial", "-q").status == 0
    hostile = "[/red] \\$(touch pwned) '$(touch pwned)' `touch pwned` \";touch pwned;\" :a \x1b[31m \t \\"
    for host, purpose in (("node01", hostile), ("node02", "nightly")):
        assert cli("reserve", host, "--for", purpose, "--as", "bob").status == 0
    with Shell(shell, lab.parent, forking) as real:
        line, printed = real.complete("bmhctl release -R r-", tabs=2)
        assert line.startswith("bmhctl release -R r-")
        assert re.search(r"r-\w{8}.*bob nightly", printed)
        assert r"[/red] \$(touch pwned) '$(touch pwned)' `touch pwned`" in printed
        assert r"\x1b[31m" in printed
        assert real.complete("bmhctl cord")[0] == "bmhctl cordon "
    assert not (lab.parent / "pwned").exists()


def test_tickets_and_tags_are_completed(cli: Cli, lab: Path) -> None:
    assert cli("ready", "node01", "-q").status == 0
    assert cli("reserve", "node01", "--tag", "job=4711").status == 0
    at = datetime.now(UTC)
    with closing(open_store(str(lab))) as store, store.transaction():
        wanted = dump_requirements([parse_requirement("arch=arm64*2")])
        store.tickets.add(Ticket("bob", wanted, at, at, purpose="e2e"))
    for line, offered in (
        ("bmhctl queue cancel ", ["1\tbob 2 hosts with arch=arm64 e2e"]),
        ("bmhctl release -l jo", ["job="]),
        ("bmhctl release -l ra", ["rack="]),
        ("bmhctl reservations -l job=", ["job=4711"]),
        ("bmhctl reservations -l ra", []),
    ):
        assert offered_for(cli, line) == offered


def test_bookings_are_completed(cli: Cli, lab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    when = ("--from", "2030-01-02T09:00", "--until", "2030-01-02T12:00")
    booked = cli("reserve", "node01", *when, "--for", "demo", "--as", "bob", "-o", "name").stdout.strip()
    assert cli("maintain", "node02", *when, "--reason", "power work", "--as", "ann").status == 0
    booking = f"{booked}\tbob 2030-01-02 09:00 UTC demo"
    for line in ("bmhctl bookings move ", "bmhctl reserve --booking b-", f"bmhctl run --booking {booked}"):
        assert offered_for(cli, line) == [booking]
    assert offered_for(cli, "bmhctl bookings cancel m-")[0].endswith("\tann 2030-01-02 09:00 UTC power work")
    assert booking in offered_for(cli, "bmhctl bookings cancel ")


def offered_for(cli: Cli, line: str) -> list[str]:
    """Return the lines of bmhctl's answer to a shell: a word, a tab and its meaning."""
    done = cli(_BMHCTL_COMPLETE=line)
    assert (done.status, done.stderr) == (0, "")
    return done.stdout.splitlines()


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("bmhctl re", [name for name in ENTRIES if name.startswith("re")]),
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
        ("bmhctl list -o m", []),
        ("bmhctl export -o m", ["metal3"]),
        ("bmhctl graph -o m", ["mermaid"]),
        ("bmhctl import --from metal", ["metal3", "metal-operator"]),
        ("bmhctl -i nowhere.db taint node0", []),
        ("bmhctl -i / taint node0", []),
    ],
)
def test_commands_options_hosts_and_states_are_completed(line: str, offered: list[str], cli: Cli, lab: Path) -> None:
    assert [answer.partition("\t")[0] for answer in offered_for(cli, line)] == offered


FREE = {
    *("--inventory", "--as", "--to", "--file"),  # files, and any name
    *("--reason", "--note", "--fault", "--for", "--exec", "--request-id", "--group", "--prefix"),  # any text
    *("--address", "--mac", "--bmc", "--bmc-type", "--bmc-system", "--credentials"),
    *("--ttl", "--wait", "--timeout", "--keep-on-fail", "--watch", "--before"),  # durations
    *("--from", "--until", "--since"),  # times
    *("--count", "--weekly", "--jobs", "--last", "--since-id", "--infra-status"),  # numbers
    *("--name", "--only", "--label-from", "--map"),  # what only the imported files have
}
"""Options whose values bmhctl can't know; in another command, an option of this name may still be completed."""


@pytest.mark.parametrize("name", ENTRIES)
def test_every_option_with_known_values_is_completed(name: str) -> None:
    missing = []
    for param in build_command(name, ENTRIES[name]).params:
        option = param.opts[-1]
        by_typer = getattr(param, "is_flag", False) or hasattr(param.type, "choices")
        known = {option, f"{name} {option}"} & {*WORDS, *STORED}
        if option.startswith("--") and not (by_typer or known or option in FREE):
            missing.append(option)
    assert missing == []


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("stats --by ", ["host", "owner", "hour", "label:arch", "label:cpus", "label:rack", "tag:job"]),
        ("stats --by l", ["label:arch", "label:cpus", "label:rack"]),
        ("stats --sort c", ["checks", "cleanups"]),
        ("status --by r", ["rack"]),
        ("history --verb step", ["step-failed"]),
        ("history --actor a", ["alice"]),
        ("reservations --owner ", ["alice"]),
        ("share r-1 --without ", ["alice"]),
        ("run --on-exit r", ["recycle"]),
        ("power --to c", ["cycle"]),
        ("boot-once --from p", ["pxe"]),
        ("set --label ra", ["rack="]),
        ("add --label=rack=", ["rack=r1"]),
        ("add --hardware c", ["cpus="]),
        ("run --tag ", ["job="]),
        ("reserve --tag job=", ["job=7"]),
        ("reserve --param ", ["image="]),
        ("reserve --param image=", ["image=noble"]),
        ("undo --event ", ["2"]),
        ("list --fields l", ["labels"]),
        ("list --fields name,labels.", ["name,labels.rack"]),
        ("show node01 --fields hardware.c", ["hardware.cpus"]),
        ("list --fields setup.", ["setup.done", "setup.of", "setup.failed"]),
        ("reservations --fields tags.", ["tags.job"]),
        ("stats --fields waits.m", ["waits.median"]),
        ("stats --by hour --fields w", ["weekday"]),
        ("history --queue --fields t", ["ticket"]),
        ("status --reasons --fields k", ["kind"]),
        ("status --reasons -o c", ["csv"]),
        ("status -o c", []),
        ("list --sort s", ["state", "since"]),
        ("list --sort l", ["labels."]),
        ("list --sort labels.", ["labels.rack"]),
        ("list --sort hardware.c", ["hardware.cpus"]),
        ("list --fields name.", []),
        ("bookings --owner bob cancel --rea", ["--reason"]),
    ],
)
def test_the_values_of_options_are_completed(line: str, offered: list[str], cli: Cli, tmp_path: Path) -> None:
    prepare = '[prepare.os]\ncommand = ["true"]\nparams.image = { pattern = "[a-z]+", default = "noble" }\n'
    (tmp_path / "bmh.toml").write_text(prepare)
    for args in (
        ["add", "node01", "node02", "--label", "rack=r1", "--hardware", "arch=arm64", "--hardware", "cpus=8"],
        ["ready", "node01"],
        ["reserve", "node01", "--as", "alice", "--tag", "job=7"],
    ):
        assert cli(*args).status == 0
    assert [answer.partition("\t")[0] for answer in offered_for(cli, f"bmhctl {line}")] == offered


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        *((f"bmhctl {command} ", ["node01"]) for command in ("release", "extend", "replace")),
        ("bmhctl uncordon ", ["node02"]),
        ("bmhctl resume ", ["node03"]),
        ("bmhctl power node01 o", ["on", "off"]),
    ],
)
def test_only_hosts_and_actions_that_fit_the_command_are_offered(
    line: str, offered: list[str], cli: Cli, lab: Path
) -> None:
    for args in (["ready", "node01"], ["reserve", "node01"], ["cordon", "node02"]):
        assert cli(*args).status == 0
    assert cli("maintain", "node03", "--reason", "new disk").status == 0
    assert sorted(offered_for(cli, line)) == sorted(offered)


def test_resume_is_offered_for_a_host_that_goes_to_maintenance_when_it_is_free(cli: Cli, lab: Path) -> None:
    for args in (["ready", "node01"], ["reserve", "node01"], ["maintain", "node01", "--when-free", "--reason", "fan"]):
        assert cli(*args).status == 0
    assert offered_for(cli, "bmhctl resume ") == ["node01"]


@pytest.mark.parametrize(
    "line",
    ["import ", "-i ", "copy a.db ", "backup x", "report --to ", "policy check --file ", "run make ", "remind --exec "],
)
def test_file_names_are_offered_where_a_file_is_expected(line: str, cli: Cli, lab: Path) -> None:
    assert offered_for(cli, f"bmhctl {line}") == ["<files>"]


@pytest.mark.parametrize(
    "line", ["add node0", "show node01 ", "queue cancel ", "maintain node01 --reason ", "list -l no=", "release -R "]
)
def test_nothing_is_offered_where_no_candidate_fits(line: str, cli: Cli, lab: Path) -> None:
    assert offered_for(cli, f"bmhctl {line}") == []


def test_completion_never_prints_an_error_about_the_inventory(cli: Cli, lab: Path) -> None:
    (lab.parent / "torn.db").write_bytes(b"SQLite format 3\0" + bytes(200))
    assert offered_for(cli, "bmhctl -i torn.db taint ") == []


def test_candidates_are_offered_with_descriptions(cli: Cli, fleet: str) -> None:
    assert offered_for(cli, "bmhctl tai") == ["taint\tGive hosts back as used, or as broken"]
    for name, entry in ENTRIES.items():  # policy show is not show
        if " " in name:
            assert f"{name.split()[1]}\t{entry.help}" in offered_for(cli, f"bmhctl {name[:-1]}")
    assert offered_for(cli, "bmhctl taint -R ") == [f"{fleet}\talice nightly"]


@pytest.mark.parametrize("line", ["", "bmhctl", "bm", "complete_fish", "bmhctl 'taint", 'bmhctl list -l "ra'])
def test_completion_does_not_fail_on_any_line(line: str, cli: Cli, lab: Path) -> None:
    assert len(offered_for(cli, line)) <= 1
