"""The right form of what was written wrongly in an inventory or a policy, for hints; imported only for an error."""

from __future__ import annotations

import re

_NAME = r"(?:\..+)?"
_FORMS = (
    ("defaults", '[defaults] with keys below it, such as ttl = "4h"'),
    (f"limits{_NAME}", "[limits.NAME] with keys below it, such as max_hosts = 3"),
    (r"(?!hosts\.)[^.]+\.[^.]+\.http", 'such as http = "http://{address}:8080/health"'),
    (r"checks\.[^.]+\.redfish", 'such as redfish = { power = "on" }'),
    (r"(?!hosts\.)[^.]+\.[^.]+\.redfish", 'such as redfish = { power = "off" }'),
    (r"(?!hosts\.)[^.]+\.[^.]+\.params", 'such as params = { image = "noble|jammy" }'),
    (f"checks{_NAME}", "[checks.NAME] with keys below it, such as tcp = 22"),
    (
        f"(?P<phase>setup|prepare|cleanup|retire){_NAME}",
        '[{phase}.NAME] with keys below it, such as command = ["./{phase}.sh", "{{name}}"]',
    ),
    (r"hosts\..+\.labels", 'such as labels = { rack = "r1" }'),
    (r"hosts\..+\.hardware", 'such as hardware = { cpus = 64, memory = "256GiB" }'),
    (r"hosts\..+\.bmc", 'such as bmc = { address = "redfish+https://10.0.1.11" }'),
    (f"hosts{_NAME}", "a host is a header such as [hosts.node01] with its keys below"),
)
"""For each table, a pattern of its place and its right form."""


def table_form(where: str) -> str | None:
    """Return the right form of a table at a place such as ``limits.interns``; None for an unknown place."""
    for place, form in _FORMS:
        if found := re.fullmatch(place, where, re.S):
            return form.format(**found.groupdict()) if found.groupdict() else form
    return None
