"""The table of commands: the function of each, and its line in the root help."""

from __future__ import annotations

from bmhctl.support.values import Frozen

PROGRAM = "bmhctl"

COMPLETION_VARIABLE = "_BMHCTL_COMPLETE"
"""The environment variable in which a shell asks for completion."""


class Entry(Frozen):
    """The place of a command's function, and the command's line in the root help."""

    module: str
    function: str
    help: str


COMMANDS: dict[str, dict[str, Entry]] = {
    "Inventory": {
        "init": Entry("inventories", "init", "Create an empty inventory"),
        "add": Entry("hosts", "add", "Add hosts"),
        "set": Entry("hosts", "set_", "Change what is declared about hosts"),
        "rename": Entry("hosts", "rename", "Give hosts other names"),
        "remove": Entry("hosts", "remove", "Remove hosts"),
        "undo": Entry("hosts", "undo", "Take back the last change of hosts or policy"),
        "import": Entry("hosts", "import_", "Import hosts of other systems, or an export"),
        "export": Entry("inventories", "export", "Write hosts as TOML, JSON, or for other systems"),
        "copy": Entry("inventories", "copy", "Copy the whole inventory to another file or server"),
        "policy show": Entry("policy", "policy_show", "Show the policy: leases, checks, cleanup"),
        "policy check": Entry("policy", "policy_check", "Show which steps apply to which host"),
        "policy apply": Entry("policy", "policy_apply", "Replace the policy of a database"),
        "schema": Entry("policy", "schema", "Print the JSON Schema of an inventory"),
        "policy grants": Entry("policy", "policy_grants", "Print the SQL for roles on a server"),
    },
    "Lifecycle": {
        "ready": Entry("steps", "ready", "Check hosts and make them available"),
        "reserve": Entry("reserve", "reserve", "Reserve hosts, all or none"),
        "taint": Entry("lifecycle", "taint", "Give hosts back as used, or as broken"),
        "release": Entry("lifecycle", "release", "Give back all hosts of a reservation"),
        "reset": Entry("steps", "reset", "Clean used hosts"),
        "maintain": Entry("lifecycle", "maintain", "Put hosts into maintenance, with a reason"),
        "resume": Entry("steps", "resume", "End a maintenance"),
        "cordon": Entry("lifecycle", "cordon", "Keep hosts from being reserved"),
        "uncordon": Entry("lifecycle", "uncordon", "Allow hosts to be reserved again"),
        "retire": Entry("steps", "retire", "Take hosts out of service for good"),
    },
    "Reservations": {
        "reservations": Entry("reservations", "reservations", "List the open reservations"),
        "run": Entry("run", "run", "Reserve, run a command, give back"),
        "extend": Entry("reservations", "extend", "Make a lease last longer"),
        "handover": Entry("reservations", "handover", "Give a reservation to another owner"),
        "share": Entry("reservations", "share", "Share a reservation with other owners"),
        "replace": Entry("reservations", "replace", "Replace a broken host by another that fits"),
        "queue": Entry("reservations", "queue", "List the tickets of waiting commands"),
        "queue cancel": Entry("reservations", "queue_cancel", "Remove a ticket from the queue"),
        "queue move": Entry("reservations", "queue_move", "Move a ticket in the queue"),
        "bookings": Entry("bookings", "bookings", "List bookings and planned maintenances"),
        "bookings cancel": Entry("bookings", "bookings_cancel", "Cancel a booking or a planned maintenance"),
        "bookings move": Entry("bookings", "bookings_move", "Move a booking to another time"),
        "remind": Entry("remind", "remind", "Remind once of what ends or begins soon"),
        "reap": Entry("reservations", "reap", "End expired leases"),
    },
    "Recycling": {
        "check": Entry("steps", "check", "Run readiness checks without moving a host"),
        "power": Entry("bmc", "power", "Switch or show the power of hosts"),
        "boot-once": Entry("bmc", "boot_once", "Set what hosts boot from at their next start"),
        "inspect": Entry("bmc", "inspect", "Read the hardware of hosts from their BMCs"),
        "recycle": Entry("steps", "recycle", "Bring used hosts back to available"),
    },
    "Understanding": {
        "list": Entry("queries", "list_", "List hosts"),
        "show": Entry("queries", "show", "Show everything about one host"),
        "status": Entry("queries", "status", "Show the fleet on one screen"),
        "stats": Entry("statistics", "stats", "See how well the fleet is used, and which hosts fail"),
        "timeline": Entry("statistics", "timeline", "Draw the past states and coming leases of hosts"),
        "report": Entry("statistics", "report", "Write a page about the fleet, for a browser"),
        "metrics": Entry("statistics", "metrics", "Write metrics for Prometheus"),
        "why": Entry("queries", "why", "Explain why a host is not free, and what is possible"),
        "history": Entry("queries", "history", "Show the events of hosts"),
        "wait": Entry("wait", "wait", "Wait until hosts are in a state"),
        "graph": Entry("queries", "graph", "Draw the lifecycle, or where one host is in it"),
    },
    "Care": {
        "doctor": Entry("inventories", "doctor", "Find what is wrong with the inventory, and fix it"),
        "backup": Entry("inventories", "backup", "Write a consistent copy into a file"),
    },
    "Help": {
        "help": Entry("help", "help_", "Show a page of the manual, or a command's options"),
        "completion": Entry("completion", "completion", "Print the completion script for bash, zsh or fish"),
    },
}
"""Every command, by the group in which the root help shows it."""

ENTRIES: dict[str, Entry] = {name: entry for group in COMMANDS.values() for name, entry in group.items()}

GROUP_HELP = {"policy": "Show or replace an inventory's policy."}
"""The help of groups that are not commands themselves."""

OWN_FAILURES = ("run",)
"""Commands that pass on another program's exit status: failures of bmhctl itself have a status of their own."""

WELCOME = """\
bmhctl: share bare-metal hosts. Three commands to try first:

  bmhctl -i bmh.toml init                     create an inventory in this folder
  bmhctl add 'node[01-03]' --label rack=r1    put hosts into it
  bmhctl status                               show the fleet on one screen

All commands: bmhctl --help. About one: bmhctl reserve --help.
The manual: bmhctl help.
"""
