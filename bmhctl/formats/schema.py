"""The JSON Schema of a TOML inventory, or of a policy alone: for editors, and for checks without bmhctl."""

from __future__ import annotations

from typing import Any

from bmhctl.domain.limits import LIMIT_KEYS, MAX_AHEAD, MAX_HOSTS, MAX_TTL, MOST_HOSTS, OWNER, SELECTOR
from bmhctl.domain.model import TLS_VERSIONS, Phase
from bmhctl.domain.policy import PHASES, CheckOnReserve, StepKind
from bmhctl.domain.policy_parser import COMMON_KEYS, DEFAULTS, DONE, EXPECTED

Schema = dict[str, Any]

_DURATION = r"^(?=[0-9])(?:[0-9]{1,9}d)?(?:[0-9]{1,9}h)?(?:[0-9]{1,9}m)?(?:[0-9]{1,9}s)?$"
_NOT_ZERO = r"[1-9]"
_NAME = r"[A-Za-z0-9](?:[-A-Za-z0-9]{0,61}[A-Za-z0-9])?"
_HOST_NAME = rf"^(?=.{{1,253}}$){_NAME}(?:\.{_NAME})*$"
_LABEL_KEY = r"^(?:[a-z0-9](?:[-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$"
_LABEL_VALUE = r"^(?:[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$"
_MAC = r"^\s*(?:[0-9A-Fa-f]{2}[:-]){5}[0-9A-Fa-f]{2}\s*$"
_LINE = r"^[^\u0000-\u001f\u007f-\u009f\u2028\u2029]{0,1000}$"
_CREDENTIALS = r"^(?:env:[A-Za-z_][A-Za-z0-9_]*$|file:.|command:.)"
_BMC = r"^(?:[A-Za-z][-A-Za-z0-9+.]*://)?[^@\s]+$"
_ADDRESS = r"^[A-Za-z0-9_:.%-]+$"
_URL = r"^https?://[^/\s@]+(/\S*)?$"
_IMAGE = r"^https?://[^/\s@]+/\S+$"
_PROXY = r"^(?:environment|http://[^/\s@:]+(?::[0-9]{1,5})?/?)$"
_PLACEHOLDERS = r"name|address|mac|bmc\.address|bmc\.type|bmc\.system_id|(?:labels|hardware)\.[A-Za-z0-9_./-]+"
_UNKNOWN_PLACEHOLDER = rf"(?:^|[^{{])\{{(?!(?:{_PLACEHOLDERS})\}})[A-Za-z_][A-Za-z0-9_./-]*\}}"
# JSON Schema has the regular expressions of JavaScript with the flag u, where a brace needs a backslash.


def inventory_schema() -> Schema:
    """Return the schema of a TOML inventory; without ``hosts`` such a text is a policy."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "An inventory of bmhctl",
        **_table(
            {
                "defaults": _defaults(),
                "limits": _map(".", _limit(), "The limits of owners, by name."),
                **{str(each): _map(".", _step(each), f"Each {PHASES[each].noun} by its name.") for each in Phase},
                "inventory": _table({"state": _text("Where the state file is, relative to this file.")}),
                "hosts": _map(_HOST_NAME, _host(), "The hosts, each by its name."),
            },
            "The hosts of a lab, and what is required of them.",
        ),
    }


def _defaults() -> Schema:
    lease = {"anyOf": [{"const": "none"}, _duration("", zero=False)]}
    known: Schema = {
        "ttl": {**lease, "description": "How long a reservation lasts by default."},
        "max_ttl": {**lease, "description": "The longest that a lease may last."},
        "quarantine_after": _whole(
            1, 1000, "After how many failures in a row, of cleanup, setup or recycle, a host goes to maintenance."
        ),
        "quarantine_after_task_failures": _whole(2, 20, "Failed tasks in a row before a host goes to maintenance."),
        "prepare_failures": _whole(1, 1000, "On how many hosts the preparation of a request may fail."),
        "recheck_after": _duration("The age at which the last pass of a free host's checks is stale.", zero=False),
        "recover_after": _duration("After how long a quarantined host is tried again.", zero=False),
        "recheck_share": {"type": "number", "exclusiveMinimum": 0, "maximum": 1},
        "check_on_reserve": {"enum": [each.value for each in CheckOnReserve]},
        "no_show": _duration("How long after its start a booking lapses if its owner does not take it.", zero=True),
        "turnaround": _duration("How long a host is kept free before a booking or a planned maintenance.", zero=True),
        "bmc_parallel": _whole(1, 1000, "The most hosts of one BMC with which a command works at a time."),
        "proxy": _text("environment, or the URL of an HTTP proxy.", _PROXY),
    }
    defaults = _table({key: known.get(key, {}) for key in DEFAULTS}, "Leases and limits.")
    stale = {
        "properties": {"check_on_reserve": {"const": CheckOnReserve.STALE.value}},
        "required": ["check_on_reserve"],
    }
    return {**defaults, "if": stale, "then": {"required": ["recheck_after"]}}


def _limit() -> Schema:
    known: Schema = {
        OWNER: _text("The owners that it limits, with * and ? as wildcards; role: each role of a server.", "."),
        SELECTOR: _text("The hosts that the limit counts."),
        MAX_HOSTS: _whole(0, MOST_HOSTS, "How many hosts each owner may hold at a time."),
        MAX_TTL: _duration("How long from now a lease may last, at every grant and extend.", zero=False),
        MAX_AHEAD: _duration("How far ahead a booking may begin.", zero=True),
    }
    bounds = [{"required": [key]} for key in (MAX_HOSTS, MAX_TTL, MAX_AHEAD)]
    return {**_table({key: known.get(key, {}) for key in LIMIT_KEYS}), "anyOf": bounds}


def _step(phase: Phase) -> Schema:
    rules = PHASES[phase]
    # Any word may be a placeholder, because a step may declare parameters of any name.
    filled = {"type": "string"} if "params" in rules.keys else _filled()
    kinds: Schema = {
        StepKind.COMMAND.value: _described(
            {"type": "array", "minItems": 1, "items": filled}, "A program, its arguments."
        ),
        StepKind.TCP.value: _whole(1, 65535, "A port that must be open."),
        StepKind.HTTP.value: {"anyOf": [{**filled, "pattern": _URL}, _page(filled)]},
        StepKind.REDFISH.value: _redfish(filled, acts=rules.acts),
    }
    known: Schema = {
        "timeout": _duration("How long one try may take.", zero=False),
        "retries": _whole(0, 100, "How many times a failed step is tried again."),
        "selector": _text("The hosts that it applies to."),
        "needs": _described(
            {"type": "array", "items": {"type": "string"}}, "The steps of this table that must pass before it."
        ),
        "params": _described({"type": "object"}, "The values that a reservation may give it."),
        "properties": _described(
            {"type": "array", "items": {"type": "string"}}, "The hardware properties that its output may set."
        ),
    }
    shared = {key: known.get(key, {}) for key in (*COMMON_KEYS, *rules.keys)}
    return {**_table({**kinds, **shared}), "oneOf": [{"required": [kind]} for kind in kinds]}


def _filled() -> Schema:
    """Return the schema of a text whose placeholders are all known."""
    return {"type": "string", "not": {"pattern": _UNKNOWN_PLACEHOLDER}}


def _page(filled: Schema) -> Schema:
    keys: Schema = {"url": {**filled, "pattern": _URL}, "status": _whole(100, 599), "text": _text()}
    return {**_table(keys), "required": ["url"]}


def _redfish(filled: Schema, *, acts: bool) -> Schema:
    keys: Schema = {key: {"enum": [*map(str, words)]} for key, words in (DONE if acts else EXPECTED).items()}
    if acts:
        keys |= {"insert": {**filled, "pattern": _IMAGE}, "eject": {"type": "boolean"}}
    nothing = {"properties": {"eject": {"const": False}}, "maxProperties": 1, "required": ["eject"]}
    return {**_table(keys), "minProperties": 1, **({"not": nothing} if acts else {})}


def _host() -> Schema:
    property_value = {"anyOf": [_text("", _LINE), {"type": "integer", "minimum": -(2**63) + 1, "maximum": 2**63 - 1}]}
    bmc = _table(
        {
            "address": _text("Such as redfish+https://10.0.1.11/redfish/v1/Systems/1.", _BMC),
            "type": _text("What kind of BMC it is.", _LINE),
            "system_id": _text("The system's id at its BMC.", _LINE),
            "credentials": _text("A reference to them: env:NAME, file:PATH or command:….", _CREDENTIALS),
            "verify_tls": {"type": "boolean", "description": "Whether its certificate is verified."},
            "tls_min_version": {"enum": [*TLS_VERSIONS], "description": "The oldest TLS to accept."},
        },
        "The management controller.",
    )
    return _table(
        {
            "address": _text("An IP address or a DNS name.", _ADDRESS),
            "mac": _text("The boot interface's MAC address.", _MAC),
            "labels": _map(_LABEL_KEY, _text("", _LABEL_VALUE), "What selectors see."),
            "bmc": {**bmc, "required": ["address"]},
            "hardware": _map(_LABEL_KEY, property_value, "Properties such as cpus and memory."),
            "note": _text("A line of text that commands show.", _LINE),
        },
        "One host.",
    )


def _table(properties: Schema, description: str = "") -> Schema:
    return _described({"type": "object", "properties": properties, "additionalProperties": False}, description)


def _map(keys: str, values: Schema, description: str) -> Schema:
    """Return the schema of a table whose keys are names."""
    return _described(
        {"type": "object", "patternProperties": {keys: values}, "additionalProperties": False}, description
    )


def _text(description: str = "", pattern: str | None = None) -> Schema:
    found: Schema = {"type": "string"} if pattern is None else {"type": "string", "pattern": pattern}
    return _described(found, description)


def _duration(description: str, *, zero: bool) -> Schema:
    found: Schema = {"type": "string", "allOf": [{"pattern": _DURATION}]}
    if not zero:
        found["allOf"].append({"pattern": _NOT_ZERO})
    return _described(found, description)


def _whole(least: int, most: int, description: str = "") -> Schema:
    return _described({"type": "integer", "minimum": least, "maximum": most}, description)


def _described(schema: Schema, description: str) -> Schema:
    return {**schema, "description": description} if description else schema
