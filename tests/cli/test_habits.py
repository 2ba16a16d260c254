"""Command lines that people type out of habit: each is answered with the command line that they meant."""

from __future__ import annotations

import os
import re
import shlex
from typing import Any

import pytest

from bmhctl.cli import habits, suggestions
from bmhctl.cli.app import application, build_command
from bmhctl.cli.commands import ENTRIES, PROGRAM
from bmhctl.stores import default_actor
from tests.cli.conftest import Cli, json_of
from tests.conftest import Run

VALUES = {
    "HOST": ["node01"],
    "NEW": ["node02"],
    "SRC": ["a.db"],
    "DST": ["b.db"],
    "COMMAND": ["true"],
    "ID": ["r-f7qsaf7y"],
    "FILE": ["a.toml"],
}


def _parsed(line: list[str]) -> None:
    """Parse a command line with the live commands, without running it; raises as the command would."""
    root: Any = application()
    ctx: Any = root.make_context(PROGRAM, line)
    name, command, rest = root.resolve_command(ctx, [*ctx._protected_args, *ctx.args])
    command.make_context(name, rest, parent=ctx)


def _required(command: Any) -> list[str]:
    """The arguments and options that a command requires."""
    found: list[object] = []
    for param in command.params:
        value = next(iter(getattr(param.type, "choices", ())), "node01")
        if param.required and param.param_type_name == "option":
            found += [param.opts[0], next(iter(getattr(param.type, "choices", ())), "node01")]
        elif param.required:
            found.append(value)
    return [str(getattr(value, "value", value)) for value in found]


@pytest.mark.parametrize(("word", "meant"), [*habits.COMMANDS.items(), *habits.GROUP_COMMANDS.items()])
def test_the_command_suggested_for_a_word_of_another_tool_parses(word: str, meant: str, cli: Cli) -> None:
    assert word not in ENTRIES
    *group, last = word.split()
    shown = meant.replace(" ME", f" {default_actor(os.environ)}")
    assert cli(*word.split()) == Run(
        2,
        "",
        f"bmhctl: no such command '{last}'\n"
        f"hint: did you mean bmhctl {shown}? See {' '.join(['bmhctl', *group])} --help\n",
    )
    if meant == "--version":
        assert cli(meant).status == 0
        return
    line = [value for part in meant.split() for value in VALUES.get(part, [part])]
    _parsed(line)
    if "-o" in line:
        assert "no output format" not in cli(*line).stderr  # a requirement that is checked only when the command runs


@pytest.mark.parametrize(
    "name", [name for name in ENTRIES if " " not in name and name not in ("policy", "queue", "bookings")]
)
def test_the_option_suggested_for_one_of_another_tool_parses(name: str) -> None:
    command: Any = build_command(name, ENTRIES[name])
    known = suggestions.option_names(command)
    for option in habits.OPTIONS:
        meant = None if option in known else suggestions.meant_option(option, known)
        if meant is None or meant in known:  # an option of a similar name, with the value that the user typed
            continue
        _parsed([name, *meant.split(), *_required(command)])


@pytest.mark.parametrize(
    ("line", "meant"),
    [
        ("resrve", "bmhctl reserve"),
        ("lst", "bmhctl list"),
        ("get hosts", "bmhctl list"),
        ("get hosts -o wide", "bmhctl list -o plain"),
        ("get node01 --output yaml", "bmhctl list node01 -o json"),
        ("get nodes -l rack=r1 -o jsonpath={.name}", "bmhctl list -l rack=r1 -o jsonl"),
        ("get node01", "bmhctl list node01"),
        ("describe node node01", "bmhctl show node01"),
        ("node list", "bmhctl list"),
        ("nodes", "bmhctl list"),
        ("baremetal node show node01", "bmhctl show node01"),
        ("host delete node01", "bmhctl remove node01"),
        ("delete node01 node02", "bmhctl remove node01 node02"),
        ("lock node01", "bmhctl reserve node01"),
        ("start node01", "bmhctl power node01 on"),
        ("stop node01", "bmhctl power node01 off"),
        ("commission node01", "bmhctl add node01"),
        ("label node01 rack=r7", "bmhctl set node01 --label rack=r7"),
        ("search rack=r7", "bmhctl list -l rack=r7"),
        ("dump node01", "bmhctl export node01"),
        ("revert node01", "bmhctl undo node01"),
        ("mv node01 node02", "bmhctl rename node01 node02"),
        ("drain node01 --wait 2s", "bmhctl maintain node01 --when-free --reason TEXT"),
        ("drain node01 --reason fan", "bmhctl maintain node01 --when-free --reason fan"),
        ("srun -n 1 hostname", "bmhctl run -n 1 -- hostname"),
        ("srun -N2 hostname -f", "bmhctl run -n 2 -- hostname -f"),
        ("sbatch --nodes=2 --time 30m job.sh", "bmhctl run -n 2 --ttl 30m -- job.sh"),
        ("salloc -N 2", "bmhctl reserve -n 2"),
        ("alloc -n 2 -l rack=r1 --duration 2h", "bmhctl reserve -n 2 -l rack=r1 --ttl 2h"),
        ("scancel 3", "bmhctl queue cancel 3"),
        ("scancel r-f7qsaf7y", "bmhctl release -R r-f7qsaf7y"),
        ("bookings b-f7qsaf7y", "bmhctl bookings --ended"),
        ("cancel b-f7qsaf7y", "bmhctl bookings cancel b-f7qsaf7y"),
        ("restore /srv/b.db", "bmhctl copy /srv/b.db DST"),
        ("mv a.toml b.db", "bmhctl copy --retire-source a.toml b.db"),
        ("label node01 rack=r1 team=ci", "bmhctl set node01 --label rack=r1 --label team=ci"),
        ("exec node01 uname -a", "bmhctl run --host node01 -- uname -a"),
        ("ps -a", "bmhctl reservations --ended"),
        ("exec node01 -- ls -l", "bmhctl run --host node01 -- ls -l"),
        ("reserve --hosts node01", "bmhctl reserve node01"),
        ("reserve --comment hi", "--for hi"),
        ("reserve --comment", "--for PURPOSE"),
        ("reserve -t 2h", "--ttl 2h"),
        ("reserve --time=2h", "--ttl 2h"),
        ("reserve --at thu", "--from thu"),
        ("reserve -N2", "-n 2"),
        ("reserve --hours 3", "--ttl 3h"),
        ("reserve -n 2 --gpu", "-l gpu"),
        ("stats --last 7d", "--since 7d"),
        ("stats --month", "--since 30d"),
        ("list --group-by rack", "bmhctl status --by rack"),
        ("get events", "bmhctl history"),
        ("get reservations --all", "bmhctl reservations --ended"),
        ("places", "bmhctl list"),
        ("node add node09 --label a=b", "bmhctl add node09 --label a=b"),
        ("apply -f policy.toml", "bmhctl policy apply policy.toml"),
        ("load hosts.csv", "bmhctl import hosts.csv"),
        ("lease node01 for 2h", "bmhctl reserve node01"),
        ("squeue -u me", "bmhctl queue"),
        ("queue move 3 1", "--before 1"),
        ("completion --install", 'eval "$(bmhctl completion bash)" in ~/.bashrc'),
        ("reserve --every week", "--weekly 4"),
        ("list -f lab.toml", "-i lab.toml"),
        ("-f lab.toml list", "-i lab.toml"),
        ("list -s free", "--state free"),
        ("list --free", "--state free"),
        ("queue rm 3", "bmhctl queue cancel 3"),
        ("policy edit", "bmhctl policy apply FILE"),
        ("delte", "bmhctl remove HOST"),
        ("policy shw", "bmhctl policy show"),
        ("list --label rack=r1", "-l rack=r1"),
        ("list --lable rack=r1", "-l rack=r1"),
        ("set --lable rack=r1", "--label"),
        ("list --json", "-o json"),
        ("list --owner bob", "bmhctl reservations --owner bob"),
        ("reservations -u bob", "--owner bob"),
        ("list --format yaml", "-o json"),
        ("list --columns name,state", "--fields name,state"),
        ("list --label-columns rack", "--fields name,labels.rack"),
        ("reservations --all", "--ended"),
        ("list --rack r2", "-l rack=r2"),
        ("add node01 --rack=r2", "--label rack=r2"),
        ("add node01 --arch", "--label arch=VALUE"),
        ("maintain --for 2h", "--until 2h"),
        ("maintain --duration 2h", "--until 2h"),
        ("maintain node01 --for fan", "--reason fan"),
        ("maintain node01 -m fan", "--reason fan"),
        ("set node01 --labels rack=r9", "--label rack=r9"),
        ("add node01 -l rack=r1,team=ci", "--label rack=r1 --label team=ci"),
        ("history --for 2h", "--since 2h"),
        ("list --available", "--state available"),
        ("reserve -c 2", "-n 2"),
        ("history --tail 2", "-n 2"),
        ("ready --parallel 3", "-j 3"),
        ("reserve --dryrun", "--dry-run"),
        ("ready --all", "bmhctl ready '*'"),
        ("list --all", "bmhctl list"),
        ("init lab.toml", "bmhctl -i lab.toml init"),
        ("status postgresql://u@h/db", "bmhctl -i postgresql://u@h/db status"),
        ("status node01", "bmhctl show node01"),
        ("extend --for 2h", "--ttl 2h"),
        ("extend node01 2h", "--ttl 2h"),
        ("extend --until 18:00", "--ttl 4h"),
        ("extend --by 2h", "--ttl 2h"),
        ("reserve -p nightly", "--for nightly"),
        ("reserve -w node01", "--wait 30m"),
        ("reserve -w 5m node01", "--wait 5m"),
        ("reserve --prio 5 node01", "bmhctl queue move ID --first"),
        ("status -w", "--watch"),
        ("history --watch", "--follow"),
        ("history -w", "--follow"),
        ("wait node01 --state free", "--for free"),
        ("undo --list", "bmhctl history"),
        ("add node9 --property cpus=4", "--hardware cpus=4"),
        ("set node01 --prop cpus-", "--hardware cpus-"),
        ("add node9 --property cpus", "--hardware KEY=VALUE"),
        ("maintain node01 --reason fan --to 17:00", "--until 17:00"),
        ("list --cordoned", "bmhctl status --reasons"),
        ("set node01 --unlabel rack", "--label rack-"),
        ("add node01 --ip 10.0.0.4", "--address 10.0.0.4"),
        ("drain -l rack=r1", "bmhctl maintain --when-free --reason TEXT -l rack=r1"),
        ("disable --state available", "bmhctl cordon --state available"),
        ("note node01 fan is noisy", "bmhctl set node01 --note 'fan is noisy'"),
        ("note node node01 out for a NEW ID of the HOST", "bmhctl set node01 --note 'out for a NEW ID of the HOST'"),
        ("get all", "bmhctl list"),
        ("unlock all", "bmhctl release '*'"),
        ("tag node01 flaky", "bmhctl set node01 --label flaky=yes"),
        ("label node01 node02", "bmhctl set node01 node02 --label rack=r1"),
        ("book node01 tomorrow", "bmhctl reserve node01 --from tomorrow --until 12:00"),
        ("reschedule b-f7qsaf7y 14:00", "bmhctl bookings move b-f7qsaf7y --from 14:00"),
        ("list --all-namespaces", "bmhctl list"),
        ("list --no-headers", "-o name"),
        ("cat node01", "bmhctl show node01"),
        ("deploy node01", "bmhctl reserve node01"),
        ("label node01 rack-", "bmhctl set node01 --label rack-"),
        ("machine mark-fixed node01", "bmhctl resume node01"),
        ("machines read", "bmhctl list"),
        ("virsh list --all", "bmhctl list"),
        ("openstack baremetal node list", "bmhctl list"),
        ("openstack baremetal node show node01", "bmhctl show node01"),
        ("labgrid-client places", "bmhctl list"),
        ("scontrol show node node01", "bmhctl show node01"),
        ("scontrol update node01 state=drain", "bmhctl set node01"),
        ("baremetal node power off node01", "bmhctl power node01 off"),
        ("virsh start node01", "bmhctl power node01 on"),
        ("domstate node01", "bmhctl show node01"),
        ("list -f json", "-o json"),
        ("release -f node01", "--force"),
        ("list --yaml", "-o json"),
        ("history -3", "-n 3"),
        ("allow r-f7qsaf7y bob", "bmhctl share r-f7qsaf7y --with OWNER"),
    ],
)
def test_a_misspelt_command_is_answered_with_the_nearest_command(line: str, meant: str, cli: Cli) -> None:
    done = cli(*line.split())
    assert done.status == (125 if line.startswith("run ") else 2)
    assert f"hint: did you mean {meant}? See bmhctl" in done.stderr


def test_the_option_mine_is_answered_with_the_command_for_own_reservations(cli: Cli) -> None:
    meant = f"--owner {default_actor(os.environ)}"
    assert f"hint: did you mean {meant}? " in cli("reservations", "--mine").stderr
    assert f"hint: did you mean bmhctl reservations {meant}? " in cli("list", "--mine").stderr
    assert f"hint: did you mean bmhctl reservations {meant} --ended? " in cli("me", "--ended").stderr


@pytest.mark.parametrize(
    "line",
    [
        "list --bogus",
        "xyzzy",
        "policy lst",
        "list -c 2",
        "postgresql://u@h/db",
        "list --helm",
        "login",
        "reserve --force",
        "add -a",
        "maintain --wait 2s",
        "sudo",
        "status 2h",
        "status -- node01",
        "why node01 2h",
        "-i a.toml doctor lab.toml",
        "unlease",
        "unready",
    ],
)
def test_nothing_unlikely_is_suggested(line: str, cli: Cli) -> None:
    done = cli(*line.split())
    assert done.status == 2
    assert "did you mean" not in done.stderr
    assert "Possible options" not in done.stderr


@pytest.mark.parametrize(
    ("line", "meant"),
    [
        ("reserve 2", "-n 2"),
        ("reserve any", "-n 1"),
        ("release all", "bmhctl release '*'"),
        ("list all", "bmhctl list"),
        ("list help", "bmhctl list --help"),
        ("reserve node02,node03", "bmhctl reserve node02 node03"),
        ("list rack{7,8}", "bmhctl list 'rack[7,8]'"),
        ("ready rack1-3", "bmhctl ready 'rack[1-3]'"),
        ("ready rack01..03", "bmhctl ready 'rack[01-03]'"),
        ("ready rack01..rack03", "bmhctl ready 'rack[01-03]'"),
        ("list rack=r1", "-l rack=r1"),
        ("taint rack=r1", "-l rack=r1"),
        ("taint Rack!=R1", "-l 'Rack!=R1'"),
        ("list !gpu", "-l '!gpu'"),
        ("reserve mem>=64G", "-l 'mem>=64G'"),
        ("list state=tainted", "--state tainted"),
        ("list free", "--state free"),
        ("reserve 2h", "--ttl 2h"),
        ("set node01 rack=r1 --note x", "--label rack=r1"),
        ("list lab.toml", "bmhctl -i lab.toml list"),
        ("release r-f7qsaf7y", "-R r-f7qsaf7y"),
        ("extend r-f7qsaf7y", "-R r-f7qsaf7y"),
        ("extend -R r-f7qsaf7y 4h", "--ttl 4h"),
        ("show r-f7qsaf7y", "bmhctl reservations r-f7qsaf7y"),
        ("policy check all", "bmhctl policy check '*'"),
        ("-q policy check rack=r1", "-l rack=r1"),
        ("list node01 --fields name, state", "--fields name,state"),
        ("run --host 2 -- true", "-n 2"),
        ("run --host node01,node02 -- true", "--host node01 --host node02"),
        ("run --host node0{1,2} -- true", "--host 'node0[1,2]'"),
    ],
)
def test_a_count_selector_file_or_reservation_given_as_a_host_name_is_answered_with_the_right_option(
    line: str, meant: str, cli: Cli, lab: Any
) -> None:
    done = cli(*line.split())
    assert done.status == (125 if line.startswith("run") else 3)
    assert done.stderr.endswith(f"there is no such host\nhint: did you mean {meant}?\n")


@pytest.mark.parametrize(
    ("line", "meant"),
    [
        ("set node01 --label a=1,b=2", "--label a=1 --label b=2"),
        ("set node01 --label=a=1,b-", "--label a=1 --label b-"),
        ("add node9 --hardware cpus=1,ram=2GiB", "--hardware cpus=1 --hardware ram=2GiB"),
        ("reserve -n 1 --tag job=1,ci=2", "--tag job=1 --tag ci=2"),
        ("run -n 1 --tag job=1,ci=2 -- true", "--tag job=1 --tag ci=2"),
        ("list --state initial,tainted", "--state initial --state tainted"),
        ("history --verb taint,reset", "--verb taint --verb reset"),
        ("check node01 --check up,down", "--check up --check down"),
    ],
)
def test_a_list_of_values_in_one_option_is_answered_with_the_repeated_option(
    line: str, meant: str, cli: Cli, lab: Any
) -> None:
    done = cli(*line.split())
    assert done.status == (125 if line.startswith("run") else 2)
    assert done.stderr.splitlines()[-1].split(" See ")[0] == f"hint: did you mean {meant}?"


def test_several_labels_in_one_option_are_refused_without_a_word_about_quotes(cli: Cli, lab: Any) -> None:
    wanted = "bmhctl: can't read the label 'x=a,b=2'\nhint: did you mean --label x=a --label b=2?\n"
    assert cli("set", "node01", "--label", "x=a,b=2") == cli("add", "node09", "--label", "x=a,b=2")
    assert cli("set", "node01", "--label", "x=a,b=2") == Run(2, "", wanted)


def test_a_value_in_double_quotes_is_a_text_that_may_have_commas(cli: Cli, lab: Any) -> None:
    refused = cli("set", "node01", "--hardware", "boot=ro,uid=7")
    assert refused.status == 2
    assert "'boot=ro,uid=7': a value with ',KEY=' needs double quotes" in refused.stderr
    more = [
        "--hardware",
        'boot="ro,uid=7"',
        "--hardware",
        'serial="007"',
        "--hardware",
        "cpus=8",
        "--label",
        'rack="r7"',
    ]
    assert cli("set", "node01", *more).status == 0
    [host] = json_of(cli("list", "node01", "-o", "json"))["hosts"]
    wanted = {"boot": "ro,uid=7", "serial": "007", "cpus": 8}
    assert {key: host["hardware"][key] for key in wanted} == wanted
    assert host["labels"]["rack"] == "r7"


@pytest.mark.parametrize(
    ("line", "meant"),
    [
        ("queue cancel 1,2", "bmhctl queue cancel 1; bmhctl queue cancel 2"),
        ("queue cancel 1 2 3", "bmhctl queue cancel 1; bmhctl queue cancel 2; bmhctl queue cancel 3"),
        (
            "queue move 1,2 --first --reason x",
            "bmhctl queue move 1 --first --reason x; bmhctl queue move 2 --first --reason x",
        ),
        ("bookings cancel b-1,b-2", "bmhctl bookings cancel b-1; bmhctl bookings cancel b-2"),
        ("bookings cancel b-1 b-2", "bmhctl bookings cancel b-1; bmhctl bookings cancel b-2"),
        ("extend -R r-1,r-2", "bmhctl extend -R r-1; bmhctl extend -R r-2"),
        ("release -R r-1,r-2", "bmhctl release -R r-1; bmhctl release -R r-2"),
        ("handover r-1,r-2 --to bob", "bmhctl handover r-1 --to bob; bmhctl handover r-2 --to bob"),
        ("reservations r-1,r-2", "bmhctl reservations r-1 r-2"),
    ],
)
def test_several_ids_are_answered_with_a_call_for_each_unless_one_takes_all(
    line: str, meant: str, cli: Cli, lab: Any
) -> None:
    done = cli(*line.split())
    assert done.status in (2, 3)
    assert f"\nhint: did you mean {meant}?" in done.stderr


@pytest.mark.parametrize(
    ("line", "meant"),
    [
        ("list --state availabel", "--state available"),
        ("list --state initial --state Maint", "--state maintenance"),
        ("wait node01 --for avail", "--for available"),
        ("list --state nothing", None),
        ("list --state e", None),
    ],
)
def test_a_misspelt_or_shortened_value_is_answered_with_the_value(
    line: str, meant: str | None, cli: Cli, lab: Any
) -> None:
    hint = cli(*line.split()).stderr.splitlines()[-1]
    assert hint.startswith(f"hint: did you mean {meant}? See " if meant else "hint: bmhctl list --help")


@pytest.mark.parametrize("line", ["reserve --want arch=arm64,rack=r1*0", "set node01 --label note=a,b"])
def test_commas_that_separate_no_values_are_not_answered_with_the_repeated_option(
    line: str, cli: Cli, lab: Any
) -> None:
    done = cli(*line.split())
    assert (done.status, "did you mean" in done.stderr) == (2, False)


def test_a_property_may_have_commas_in_its_value(cli: Cli, lab: Any) -> None:
    assert cli("set", "node01", "--hardware", "nics=eth0,eth1").stdout.endswith("hardware.nics (none) → eth0,eth1\n")


@pytest.mark.parametrize(
    ("line", "meant"),
    [
        ("add node01 rack=r1", "--label rack=r1"),
        ("set node01 rack=r1", "--label rack=r1"),
        ("add node09 --label rack=r1 --hardware cpus=64 memory=256GiB", "--hardware memory=256GiB"),
        ("add node09 rack=r1 --hardware cpus=64", "--label rack=r1"),
    ],
)
def test_a_label_or_property_without_its_option_is_answered_with_the_option(
    line: str, meant: str, cli: Cli, lab: Any
) -> None:
    done = cli(*line.split())
    assert (done.status, done.stderr.splitlines()[-1]) == (2, f"hint: did you mean {meant}?")


def test_power_with_the_action_before_the_hosts_is_answered_with_the_right_order(cli: Cli, lab: Any) -> None:
    for line, right in (
        (["off", "node01", "node02"], "node01 node02 off"),
        (["node01", "node02", "poweroff"], "node01 node02 off"),
        (["node01", "node02", "reset"], "node01 node02 cycle"),
        (["off", "node*"], "'node*' off"),
    ):
        done = cli("power", *line)
        assert done.status == 2
        assert done.stderr.splitlines()[1].startswith(f"hint: did you mean bmhctl power {right}? ")


def test_boot_targets_of_ipmitool_are_answered_with_those_of_boot_once(cli: Cli, lab: Any) -> None:
    for word, target in (("disk", "hdd"), ("cdrom", "cd"), ("network", "pxe")):
        done = cli("boot-once", "node01", "node[2-3]", word)
        assert done.status == 2
        assert done.stderr.splitlines()[1].startswith(
            f"hint: did you mean bmhctl boot-once node01 'node[2-3]' {target}? "
        )
    assert "did you mean" not in cli("boot-once", "disk").stderr


def test_run_with_a_host_as_its_first_word_is_answered_with_the_option_host(cli: Cli, lab: Any) -> None:
    done = cli("run", "node01", "--", "make", "test all")
    assert (done.status, done.stderr) == (
        125,
        "bmhctl: no host is requested\nhint: did you mean bmhctl run --host node01 -- make 'test all'?\n",
    )


@pytest.mark.parametrize(
    ("line", "hint"),
    [
        ("copy lab.db", "bmhctl copy [OPTIONS] SRC DST"),
        ("why", "bmhctl why [OPTIONS] HOST"),
        ("completion", "bmhctl completion [OPTIONS] SHELL"),
        ("handover node01 bob", "bmhctl handover [OPTIONS] --to OWNER RESERVATION"),
        ("wait node01", "bmhctl wait [OPTIONS] --for initial|available|… [HOST…]"),
        ("policy", "bmhctl policy show|check|apply|grants"),
    ],
)
def test_a_missing_argument_is_reported_with_the_usage_of_the_command(line: str, hint: str, cli: Cli) -> None:
    done = cli(*line.split())
    assert done.status == 2
    assert done.stderr.splitlines()[1] == f"hint: {hint}; see bmhctl {line.split()[0]} --help"


def test_a_host_name_without_leading_zeros_is_answered_with_the_host_of_that_number(cli: Cli, lab: Any) -> None:
    assert cli("add", "r1-node[01-12]").status == 0
    assert cli("why", "r1-node1").stderr == "bmhctl: r1-node1: there is no such host\nhint: did you mean r1-node01?\n"


def test_many_names_that_no_host_has_get_one_hint(cli: Cli, lab: Any) -> None:
    assert cli("list", "node[1-7]").stderr == (
        "bmhctl: node[1-7]: there is no such host\nhint: did you mean 'node[01-03]'?\n"
    )
    assert cli("list", "x[1-7]").stderr == "bmhctl: x[1-7]: there is no such host\nhint: bmhctl list shows all hosts\n"


@pytest.mark.parametrize("names", ["node[1-7]", "node1"])
def test_a_name_in_an_empty_inventory_is_answered_with_the_commands_that_add_hosts(names: str, cli: Cli) -> None:
    cli("init")
    assert cli("list", names).stderr == (
        f"bmhctl: {names}: there is no such host\n"
        "hint: there are no hosts yet: bmhctl add HOST adds one, bmhctl import FILE many\n"
    )


def test_a_range_in_shell_notation_is_answered_with_the_right_notation(cli: Cli, lab: Any) -> None:
    done = cli("list", "node0[12]")
    assert (done.status, done.stderr) == (
        3,
        "bmhctl: node012: there is no such host\nhint: [12] is the number 12; for one of its digits each: node0[1,2]\n",
    )
    assert cli("list", "node0[1,2]", "-o", "name").stdout.split() == ["node01", "node02"]


@pytest.mark.parametrize("command", ["list", "list -o name", "cordon", "history", "timeline"])
@pytest.mark.parametrize(
    ("selector", "note"),
    [
        ("rak=r1", "no host has the key rak; did you mean rack?\n"),
        ("owner=bob", "no host has the key owner; bmhctl reservations --owner bob lists what it holds\n"),
        ("state=tainted", "no host has the key state; states are chosen with --state tainted\n"),
        ("rack=r9", "no host fits rack=r9; rack is r1, r2\n"),
        ("rack=r1,rack!=r1", "no host fits rack=r1,rack!=r1\n"),
        ("rack=r1,rack=r2", "no host fits rack=r1,rack=r2; for either: -l 'rack in (r1,r2)'\n"),
    ],
)
def test_a_selector_that_fits_nothing_says_which_key_or_value_no_host_has(
    command: str, selector: str, note: str, cli: Cli, lab: Any
) -> None:
    done = cli(*command.split(), "-l", selector)
    assert (done.status, done.stderr) == (0, note)


def test_an_owner_in_a_selector_of_hosts_is_answered_with_the_command_for_reservations(cli: Cli, lab: Any) -> None:
    done = cli("list", "-l", "owner=bob@lab")
    assert (done.status, done.stderr.splitlines()[-1]) == (
        2,
        "hint: did you mean bmhctl reservations --owner bob@lab?",
    )


def test_an_owner_in_a_selector_changes_the_hint_of_no_other_error(cli: Cli, lab: Any) -> None:
    done = cli("list", "-l", "owner=bob", "--fields", "nam")
    assert done.stderr.splitlines()[-1].startswith("hint: did you mean name?")


def test_a_shell_command_line_given_to_run_is_answered_with_a_call_of_the_shell(cli: Cli, lab: Any) -> None:
    done = cli("run", "-n", "1", "--", "echo $BMH_HOST; true")
    assert (done.status, done.stderr) == (
        127,
        "bmhctl: echo $BMH_HOST; true: command not found\n"
        "hint: it runs without a shell; for a line of a shell: -- sh -c 'echo $BMH_HOST; true'; nothing was reserved\n",
    )


def test_a_key_above_its_table_is_answered_with_the_name_of_the_table(cli: Cli, lab: Any) -> None:
    lab.write_text('ttl = "2h"\n' + lab.read_text())
    assert cli("list").stderr == "bmhctl: bmh.toml:1: unknown key 'ttl'\nhint: it belongs below [defaults]\n"


def test_taint_with_a_fault_on_a_free_host_is_answered_with_maintain(cli: Cli, lab: Any) -> None:
    assert cli("ready", "node02").status == 0
    done = cli("taint", "node02", "--fault", "no fan")
    assert done.status == 4
    assert done.stderr.endswith("hint: for a host that is not reserved: bmhctl maintain node02 --reason TEXT\n")


@pytest.mark.parametrize(
    ("verb", "hint"),
    [
        ("ready", "bmhctl recycle node01"),
        ("remove", "bmhctl reset node01 first, or use --force --reason TEXT"),
    ],
)
def test_a_verb_on_a_tainted_host_is_answered_with_the_command_to_run_first(
    verb: str, hint: str, cli: Cli, lab: Any
) -> None:
    for line in ("ready", "reserve", "release"):
        assert cli(line, "node01").status == 0
    done = cli(verb, "node01")
    assert (done.status, done.stderr.splitlines()[-1]) == (4, f"hint: {hint}")


def test_why_keeps_the_failure_after_other_changes(cli: Cli, lab: Any) -> None:
    lab.write_text(lab.read_text() + '[checks.disk]\ncommand = ["false"]\n')
    assert cli("ready", "node02").status == 9
    before = cli("why", "node02", "-o", "plain").stdout
    for number in range(25):
        assert cli("set", "node02", "--label", f"try=n{number}").status == 0
    assert "disk" in before
    assert [line for line in before.splitlines() if "last" in line] == [
        line for line in cli("why", "node02", "-o", "plain").stdout.splitlines() if "last" in line
    ]


def test_a_copy_warns_that_both_inventories_have_the_hosts(cli: Cli, lab: Any) -> None:
    done = cli("copy", "bmh.toml", "copy.db")
    assert done.status == 0
    assert (
        "bmh.toml still has the same 3 hosts: use only one of the two inventories, or both reserve them" in done.stderr
    )


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("taint node01 --fault --reason broken", "--fault has no value: --reason is an option itself"),
        ("reserve -qn -l rack=r1", "-n has no value: -l is an option itself"),
        ("history --since", "--since has no value"),
        ("run --for -n 2 -- true", "--for has no value: -n is an option itself"),
    ],
)
def test_an_option_is_not_read_as_the_value_of_the_option_before_it(line: str, said: str, cli: Cli) -> None:
    done = cli(*line.split())
    assert (done.status, done.stdout, done.stderr.splitlines()[0]) == (
        125 if "run" in line else 2,
        "",
        f"bmhctl: {said}",
    )


@pytest.mark.parametrize(
    "line", ["taint node01 --fault=--reason", "reserve --wait -n 2", "run -l gpu -- make --for -n", "list -l -- node01"]
)
def test_an_option_right_after_another_one_parses_where_that_is_valid(line: str) -> None:
    _parsed(line.split())


@pytest.mark.parametrize(
    "line", ["remove -l rack=r1 --selector=gpu", "list -lrack=r1 -l gpu", "run -l rack=r1 -l gpu -- true"]
)
def test_a_second_selector_is_refused_instead_of_replacing_the_first(line: str, cli: Cli, lab: Any) -> None:
    done = cli(*line.split())
    assert (done.status, done.stdout, done.stderr.splitlines()) == (
        125 if "run" in line else 2,
        "",
        [
            "bmhctl: -l is given more than once",
            "hint: hosts that fit all terms: -l rack=r1,gpu; one of several values: -l 'rack in (r1,r2)'",
        ],
    )
    assert len(cli("list", "-o", "name").stdout.split()) == 3


def test_an_address_beside_a_name_is_not_added_as_a_host(cli: Cli) -> None:
    cli("init")
    assert cli("add", "node01", "10.0.0.21") == Run(
        2, "", "bmhctl: 10.0.0.21 is an address, not a name\nhint: did you mean --address 10.0.0.21?\n"
    )
    assert cli("add", "10.0.0.21", "10.0.0.22").status == 0


def test_a_sentence_among_the_hosts_of_maintain_is_answered_with_the_option_reason(cli: Cli, lab: Any) -> None:
    assert cli("maintain", "node01", "psu is dead").stderr == (
        "bmhctl: maintain needs a reason\nhint: did you mean --reason 'psu is dead'?\n"
    )
    assert cli("maintain", "node01", "--until=tomorrow 09:00").stderr == (
        "bmhctl: maintain needs a reason\nhint: bmhctl maintain HOST --reason 'new disk'\n"
    )


def test_the_beginning_of_a_name_is_answered_with_the_first_host_that_begins_like_it(cli: Cli, lab: Any) -> None:
    assert cli("add", "rack2-node07", "rack20").status == 0
    assert cli("show", "rack2").stderr == "bmhctl: rack2: there is no such host\nhint: did you mean rack2-node07?\n"


def test_a_host_in_place_of_its_reservation_is_answered_with_the_reservation(cli: Cli, lab: Any) -> None:
    assert cli("ready", "node01").status == 0
    key = cli("reserve", "node01", "-o", "json").stdout.partition('"id": "')[2].partition('"')[0]
    done = cli("handover", "node01", "--to", "bob")
    assert done.stderr.splitlines()[-1] == f"hint: did you mean {key}, which holds node01?"


def test_a_label_without_a_value_is_reported_with_the_right_form(cli: Cli) -> None:
    cli("init")
    assert cli("add", "node01", "--label", "gpu").stderr == (
        "bmhctl: can't read the label 'gpu'\nhint: --label gpu= sets a label without a value\n"
    )


@pytest.mark.parametrize("command", ["reserve -n 1", "run -n 1"])
def test_a_duration_given_as_the_purpose_is_answered_with_the_option_ttl(command: str, cli: Cli, lab: Any) -> None:
    line = [*command.split(), "--for", "2h", *(["--", "true"] if "run" in command else [])]
    done = cli(*line)
    assert (done.status, done.stderr) == (
        125 if "run" in command else 2,
        "bmhctl: --for says what the hosts are for, and 2h is a length\n"
        "hint: --ttl 2h sets the length of the lease; for a purpose, write more words\n",
    )
    assert cli("ready", "node02").status == 0
    assert cli("reserve", "node02", "--for", "2h", "--ttl", "1h").status == 0


@pytest.mark.parametrize(
    ("line", "meant"),
    [
        ("queue list", "queue"),
        ("bookings ls", "bookings"),
        ("show node01 node02", "list node01 node02"),
        ("-i lab.toml show node01 -o csv node0*", "list node01 'node0*' -i lab.toml -o csv"),
        ("status node01 node02", "list node01 node02"),
        ("why a b", "why a; bmhctl why b"),
        ("graph a b -o dot", "graph a -o dot; bmhctl graph b -o dot"),
        ("doctor node01", "why node01"),
        ("stats node01 --since 7d", "timeline node01 --since 7d"),
        ("status --by rack node01 -q", "show node01 -q"),
        ("status --by=rack node01 node02 --reasons", "list node01 node02"),
        ("stats --by host node01 --sort held --until 1d", "timeline node01 --until 1d"),
        ("status r-abc", "reservations r-abc"),
        ("show r-abc r-def -o csv", "reservations r-abc r-def -o csv"),
        ("doctor lab.toml --fix", "-i lab.toml doctor --fix"),
        ("stats inv.db", "-i inv.db stats"),
        ("status lab.db", "-i lab.db status"),
        ("graph node01 lab.db", "-i lab.db graph node01"),
        ("share r-1 r-2 --with bob", "share r-1 --with bob; bmhctl share r-2 --with bob"),
    ],
)
def test_an_extra_word_is_answered_with_the_command_that_was_meant(line: str, meant: str, cli: Cli) -> None:
    assert f"hint: did you mean bmhctl {meant}? " in cli(*line.split()).stderr
    for call in meant.split("; bmhctl "):
        _parsed(shlex.split(call))


def test_a_name_after_a_reservation_to_share_is_answered_with_the_option_with(cli: Cli) -> None:
    assert "hint: did you mean --with bob? " in cli("share", "r-1", "bob").stderr


@pytest.mark.parametrize("word", [*habits.FORMATS, "custom-columns=NAME:.metadata.name", "jsn"])
def test_a_format_of_another_tool_is_answered_with_a_format_of_list(word: str, cli: Cli, lab: Any) -> None:
    done = cli("list", "-o", word)
    meant = re.search(r"^hint: did you mean ([^?]*)\? known: ", done.stderr, re.MULTILINE)
    assert done.status == 2
    assert meant is not None
    assert cli("list", *meant[1].split()).status == 0


@pytest.mark.parametrize("name", ["node[3-1]", "node[01-3]"])
def test_a_range_that_goes_down_or_changes_its_digits_is_refused_with_an_example(name: str, cli: Cli, lab: Any) -> None:
    assert cli("add", name) == Run(
        2,
        "",
        f"bmhctl: '{name}' is not a range of hosts\n"
        "hint: a range goes up, and its ends have the same number of digits or no leading zeros: node[01-20]\n",
    )
