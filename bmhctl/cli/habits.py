"""Words and options of other tools that users type out of habit, and the command line that each stands for."""

from __future__ import annotations

_WORDS: dict[str, str] = {
    "add HOST": "commission create define enlist enroll manage new register",
    "backup FILE": "archive save snapshot",
    "bookings": "calendar maintenances plan planned schedule",
    "bookings cancel ID": "cancel unbook",
    "bookings move ID --from 09:00": "reschedule",
    "boot-once HOST pxe": "boot bootdev netboot pxe",
    "check HOST": "healthcheck ping probe prove recheck test",
    "copy SRC DST": "clone cp migrate restore",
    "cordon HOST": "ban block disable exclude freeze pause",
    "doctor": "fsck health lint validate verify",
    "doctor --fix": "fix repair",
    "export": "dump",
    "export HOST -o ssh": "ssh",
    "extend -R ID": "prolong renew",
    "handover ID --to OWNER": "delegate handoff transfer",
    "help": "doc docs man manual",
    "help operators": "tutorial",
    "history": "audit diff events log logs sacct",
    "history --follow": "follow tail",
    "history HOST": "blame sel",
    "import FILE": "load",
    "inspect HOST": "discover gather introspect sensor",
    "list": "get inventory ls read",
    "list --state free": "available idle",
    "list --state initial": "initial",
    "list --state reserved": "busy held leased reserved taken",
    "list --state tainted": "dirty tainted",
    "list -l rack=r1": "find search",
    "maintain HOST --reason TEXT": "break broken maint maintenance mark mark-broken offline quarantine",
    "maintain HOST --when-free --reason TEXT": "drain",
    "metrics": "prometheus",
    "policy apply FILE": "apply",
    "policy show": "conf config limits quota settings",
    "power HOST cycle": "cycle power-cycle reboot restart",
    "power HOST identify": "blink identify led locate",
    "power HOST off": "down off power-off poweroff stop",
    "power HOST on": "on power-on poweron start up",
    "power HOST soft-off": "halt shutdown",
    "power HOST status": "bmc chassis ipmitool power-status pwr",
    "queue": "squeue waitlist",
    "queue cancel ID": "dequeue",
    "queue move ID --first": "bump promote",
    "ready HOST": "prepare provide provision setup",
    "reap": "expire gc",
    "release -R ID": "kill scancel",
    "release HOST": (
        "abandon back checkin dealloc deallocate deprovision done drop finish free give give-back "
        "giveback return unassign undeploy unlock unreserve yield"
    ),
    "remove HOST": "del delete deregister destroy rm rmi undefine unregister",
    "rename HOST NEW": "mv",
    "replace HOST": "exchange swap",
    "report --to lab.html": "dashboard serve web",
    "reservations": "jobs leases owners ps users who",
    "reservations --owner ME": "me mine my whoami",
    "reserve": "acquire allocate assign borrow checkout claim deploy grab lease lock need request salloc take use want",
    "reserve HOST --from 09:00 --until 12:00": "book",
    "reset HOST": "clean cleanup erase rebuild reimage reinstall sanitize scrub wipe",
    "resume HOST": "mark-fixed online undrain unmaintain",
    "retire HOST": "decom decommission dispose purge",
    "run --host HOST -- COMMAND": "exec",
    "run -n 1 -- COMMAND": "sbatch srun",
    "set HOST": "edit patch unset update",
    "set HOST --label rack-": "unlabel",
    "set HOST --label rack=r1": "annotate label tag",
    "set HOST --note TEXT": "comment note",
    "share ID --with OWNER": "allow",
    "show HOST": "cat console describe details dominfo domstate dumpxml facts info state",
    "stats": "sreport statistics usage utilization",
    "status": "cluster-info count sinfo summary",
    "status --watch": "monitor top watch",
    "taint HOST --force --reason TEXT": "kick steal",
    "timeline": "availability forecast gantt slots",
    "uncordon HOST": "enable include unblock unfreeze unpause",
    "undo": "revert rollback",
    "why HOST": "explain",
    "--version": "version",
}
"""Command lines, each with the commands of other tools that do the same."""

COMMANDS: dict[str, str] = {word: meant for meant, words in _WORDS.items() for word in words.split()}
"""Commands of other tools, each with the command line that does the same here."""

_NOUNS = "baremetal device devices host hosts machine machines node nodes place places server servers system"
_PROGRAMS = "kubectl labgrid-client maas openstack scontrol virsh"
NOUNS = frozenset((*_NOUNS.split(), *_PROGRAMS.split()))
"""Words for hosts in other tools, which may stand before or after a command, and the names of such tools."""

_IN_GROUPS: dict[str, str] = {
    "bookings cancel ID": "bookings del|delete|remove|rm",
    "bookings move ID --from 09:00": "bookings change|edit|reschedule|set",
    "policy apply FILE": "policy edit|import|load|replace|set|update",
    "policy check": "policy lint|test|validate|verify",
    "policy show": "policy cat|export|get|print|view",
    "queue cancel ID": "queue del|delete|drop|remove|rm",
    "queue move ID --first": "queue bump|first|promote|top|up",
    "reserve --from 09:00 --until 12:00": "bookings add|create|make|new",
}
GROUP_COMMANDS: dict[str, str] = {
    f"{group} {word}": meant
    for meant, (group, _, words) in ((meant, text.partition(" ")) for meant, text in _IN_GROUPS.items())
    for word in words.split("|")
}
"""Commands below a group that do not exist, each with the command line that does the same."""

LABELS = ("arch", "env", "gpu", "group", "model", "pool", "rack", "region", "role", "row", "site", "team", "zone")
"""Keys of labels that are typed as options: ``--rack r1``."""

_OPTIONS: dict[tuple[str, ...], str] = {
    ("--address {10.0.0.11}",): "--ip",
    ("--as {NAME}",): "--actor --owner",
    ("--dry-run",): "--noop",
    ("--fields name,labels",): "--show-labels",
    ("--fields name,labels.{KEY}",): "--label-columns",
    ("--fields {name,state}",): "--columns",
    ("--follow",): "--watch",
    ("--for {PURPOSE}",): "-p",
    ("--for {PURPOSE}", "--reason {TEXT}", "--note {TEXT}"): "--purpose",
    ("--from {09:00}",): "--at --begin --date --start",
    ("--hardware {KEY=VALUE}",): "--hw --prop --property",
    ("--label {rack=r1}", "--only {rack=r1}"): "-l",
    ("--label {rack=r1}", "-l {rack=r1}"): "--labels",
    ("--newest-first",): "--reverse",
    ("--note {TEXT}", "--for {PURPOSE}"): "--reason",
    ("--owner ME",): "--me --mine",
    ("--owner {NAME}",): "-u",
    ("--owner {NAME}", "--as {NAME}"): "--user",
    ("--reason {TEXT}", "--note {TEXT}", "--for {PURPOSE}"): "--comment --description --message --note -m",
    ("--since 30d",): "--month",
    ("--since 7d",): "--week",
    ("--since {2h}", "--until {2h}", "--reason {TEXT}", "--ttl {4h}"): "--for",
    ("--since {7d}", "-n {2}"): "--last",
    ("--sort {name}",): "--order --sort-by",
    ("--state free",): "--free",
    ("--state {available}",): "--status -s",
    ("--timeout {60s}", "--wait {10m}"): "--timeout",
    ("--ttl {3}d", "--until {3}d", "--since {3}d"): "--days",
    ("--ttl {4}h", "--until {4}h", "--since {4}h"): "--hours",
    ("--ttl {30}m", "--until {30}m", "--since {30}m"): "--minutes",
    ("--ttl {4h}",): "--by --until",
    ("--ttl {4h}", "--timeout {60s}"): "-t",
    ("--ttl {4h}", "--until {4h}"): "--duration --lease --time --ttl",
    ("--until {12:00}",): "--end --to",
    ("--version",): "-V",
    ("--wait {30m}", "--watch", "--follow"): "-w",
    ("--weekly {4}",): "--every --recurring --repeat",
    ("--yes",): "--force",
    ("-R {ID}",): "--id -r",
    ("-i {FILE}",): "--config --db --file",
    ("-i {FILE}", "-o {json}", "--force"): "-f",
    ("-j {8}",): "--parallel --threads",
    ("-l {rack=r1}",): "--filter --label --where -L",
    ("-n {2}",): "--limit --nodes --num --number --tail -N -c",
    ("-o csv",): "--csv",
    ("-o json",): "--json --yaml",
    ("-o jsonl",): "--jsonl",
    ("-o name",): "--no-header --no-headers --noheader",
    ("-o plain",): "--long --wide",
    ("-o {json}",): "--format",
    ("-q",): "--silent",
    **{(f"--label {key}={{VALUE}}", f"-l {key}={{VALUE}}"): f"--{key}" for key in LABELS},
    **{(f"--state {state}",): f"--{state}" for state in ("initial", "available", "reserved", "tainted", "maintenance")},
}
OPTIONS: dict[str, tuple[str, ...]] = {
    option: equivalents for equivalents, options in _OPTIONS.items() for option in options.split()
}
"""Options of other tools, each with its equivalents: the first that the command has is suggested.

The user's value takes the place of the example in braces; an equivalent whose example has another form is skipped.
"""

FORMATS: dict[str, str] = {
    **dict.fromkeys(("go-template", "jsonpath", "ndjson"), "jsonl"),
    **dict.fromkeys(("human", "pretty", "rich"), "table"),
    **dict.fromkeys(("yaml", "yml"), "json"),
    **dict.fromkeys(("text", "tsv", "wide"), "plain"),
    **dict.fromkeys(("names", "value"), "name"),
}
"""Output formats of other tools, each with the equivalent format of bmhctl."""

ALL = ("--all", "--all-namespaces", "-a", "-A")
"""Options of other tools for all hosts."""

OF_COMMAND = {
    **{(command, "--owner"): "bmhctl reservations --owner {NAME}" for command in ("list", "status", "release")},
    **{(command, "--mine"): "bmhctl reservations --owner ME" for command in ("list", "status", "release")},
    **{("list", option): "bmhctl status --by {rack}" for option in ("--by", "--group-by")},
    **{(command, option): "--ended" for command in ("reservations", "bookings") for option in ALL},
    **{
        (command, option): "bmhctl queue move ID --first"
        for command in ("reserve", "run")
        for option in ("--prio", "--priority")
    },
    **{("list", option): "bmhctl status --reasons" for option in ("--cordoned", "--faults")},
    ("set", "--unlabel"): "--label {rack}-",
    ("undo", "--list"): "bmhctl history",
    ("wait", "--state"): "--for {available}",
    ("completion", "--install"): 'eval "$(bmhctl completion bash)" in ~/.bashrc',
}
"""Options that other tools have in one command, each with its meaning."""

LOCATION = r"\S+\.(toml|db|sqlite3?)|postgres(ql)?://\S+"
"""The form of an inventory's name."""

_CANCELS = ("cancel", "kill", "scancel")
BY_WORD = (
    (_CANCELS, r"\d+", "queue cancel ID"),
    (_CANCELS, r"[bm]-[a-z0-9]+", "bookings cancel ID"),
    (_CANCELS, r"r-[a-z0-9]+", "release -R ID"),
    (("mv",), LOCATION, "copy --retire-source SRC DST"),
)
"""Commands of other tools whose meaning depends on the form of the next word."""

BOOT_WORDS = {
    "cdrom": "cd",
    "diag": "diagnostics",
    "disk": "hdd",
    "dvd": "cd",
    "iso": "cd",
    "net": "pxe",
    "network": "pxe",
    "setup": "bios",
}
"""Words of ipmitool and other tools for the targets of ``boot-once``."""
