"""Parse and validate a policy."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from bmhctl.domain.model import BootTarget, Phase
from bmhctl.domain.policy import (
    PHASES,
    PLACEHOLDER,
    CheckOnReserve,
    HttpStep,
    Param,
    Policy,
    RedfishStep,
    Step,
    StepKind,
    predecessors,
)
from bmhctl.domain.selector import EVERY_HOST, is_label_key
from bmhctl.domain.tables import (
    Kind,
    anything,
    duration,
    duration_or_none,
    flag,
    one_of,
    read_table,
    require_table,
    selector,
    text,
    texts,
    type_error,
    whole_number,
)
from bmhctl.errors import InvalidError, nearest
from bmhctl.support.values import replace

POLICY_KEYS = ("defaults", "limits", *Phase)
"""The top-level tables of a policy: the defaults, the limits of owners, and the steps of each phase."""


def _share(value: object, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 1:
        raise type_error(where, "a number above 0 and up to 1, such as 0.25", value)
    return float(value)


def _proxy(value: object, where: str) -> str:
    proxy = text(value, where)
    if proxy != "environment" and not re.fullmatch(r"http://[^/\s@:]+(:[0-9]{1,5})?/?", proxy, re.ASCII):
        wanted = '"environment", or a URL such as http://proxy.lab:3128, without a password'
        raise type_error(where, wanted, re.sub(r"//.*@", "//***@", proxy))
    return proxy


_UP_TO_1000 = whole_number(1, 1000)

_DEFAULTS: dict[str, Kind] = {
    "ttl": duration_or_none,
    "max_ttl": duration_or_none,
    "quarantine_after": _UP_TO_1000,
    "quarantine_after_task_failures": whole_number(2, 20),
    "prepare_failures": _UP_TO_1000,
    "recheck_after": duration,
    "recheck_share": _share,
    "check_on_reserve": one_of(*CheckOnReserve),
    "recover_after": duration,
    "no_show": duration,
    "turnaround": duration,
    "bmc_parallel": _UP_TO_1000,
    "proxy": _proxy,
}

DEFAULTS = tuple(_DEFAULTS)
"""The keys of the table ``defaults``."""

_OF_A_KIND: dict[str, Kind] = {
    StepKind.COMMAND: anything,
    StepKind.TCP: whole_number(1, 65535),
    StepKind.HTTP: anything,
    StepKind.REDFISH: anything,
}
_OF_A_PHASE: dict[str, Kind] = {
    "properties": texts('a list of hardware properties such as ["cpus", "firmware"]', is_label_key),
    "params": anything,
}
_COMMON: dict[str, Kind] = {
    "timeout": duration,
    "retries": whole_number(0, 100),
    "selector": selector,
    "needs": texts("a list of names of steps"),
}

COMMON_KEYS = tuple(_COMMON)
"""The keys that every kind of step has, beside the key that names its kind."""

WITHIN: dict[str, tuple[str, ...]] = {
    "defaults": DEFAULTS,
    "limits.NAME": ("owner", "max_hosts", "max_ahead"),
    "checks.NAME": (*_OF_A_KIND, *COMMON_KEYS),
}
"""The keys of tables of a policy that may stand above the line with the table's name, or in another, by mistake."""

_STEPS: dict[Phase, dict[str, Kind]] = {
    phase: {**_OF_A_KIND, **_COMMON, **{key: _OF_A_PHASE[key] for key in rules.keys}} for phase, rules in PHASES.items()
}
"""The keys of a step of each phase."""

_PLACEHOLDERS = ("name", "address", "mac", "bmc.address", "bmc.type", "bmc.system_id", "labels.KEY", "hardware.KEY")


def parse_policy(document: Mapping[str, object]) -> Policy:
    """Return the policy in a parsed TOML document; tables that do not belong to a policy are not checked.

    Raises :class:`InvalidError` that names the wrong key, and suggests the nearest known key for an unknown one.
    """
    policy = Policy(steps={phase: _steps(document, phase) for phase in Phase if phase in document})
    if "defaults" in document:
        policy = _with_defaults(policy, read_table(document["defaults"], _DEFAULTS, "defaults", WITHIN))
    if "limits" in document:
        from bmhctl.domain.limits import parse_limits

        policy = replace(policy, limits=parse_limits(document["limits"]))
    return policy


def _with_defaults(policy: Policy, defaults: Mapping[str, Any]) -> Policy:
    """Return the policy with the values of the table ``defaults``."""
    for key, hint in _NEVER_ZERO.items():
        if defaults.get(key) == timedelta():
            raise InvalidError(f"defaults.{key} is zero", hint=hint)
    max_ttl, ttl = defaults.get("max_ttl", policy.max_ttl), defaults.get("ttl", policy.ttl)
    if "ttl" not in defaults and max_ttl is not None and ttl is not None:
        ttl = min(ttl, max_ttl)
    if max_ttl is not None and (ttl is None or ttl > max_ttl):
        raise InvalidError(
            "defaults.ttl is longer than defaults.max_ttl",
            hint='shorten ttl, or raise max_ttl ("none" lifts it)',
        )
    when = CheckOnReserve(defaults.get("check_on_reserve", policy.check_on_reserve))
    if when is CheckOnReserve.STALE and "recheck_after" not in defaults:
        raise InvalidError(
            'defaults.check_on_reserve = "stale" needs recheck_after', hint='such as recheck_after = "24h"'
        )
    return replace(policy, **{**defaults, "check_on_reserve": when, "ttl": ttl, "max_ttl": max_ttl})


_NEVER_ZERO = {
    **dict.fromkeys(("ttl", "max_ttl"), 'a lease needs a length, or "none" for no end'),
    **dict.fromkeys(("recheck_after", "recover_after"), "give it some time, such as 24h"),
}


def _steps(document: Mapping[str, object], phase: Phase) -> tuple[Step, ...]:
    entries = require_table(document[phase], phase)
    steps = tuple(
        _step(phase, name, read_table(entry, _STEPS[phase], f"{phase}.{name}")) for name, entry in entries.items()
    )
    if any(step.needs is not None for step in steps):
        _check_order(phase, steps)
    return steps


def _check_order(phase: Phase, steps: tuple[Step, ...]) -> None:
    """Raise :class:`InvalidError` for a step that needs an unknown step, or that needs itself through others."""
    from graphlib import CycleError, TopologicalSorter

    names = [step.name for step in steps]
    for step in steps:
        for name in step.needs or ():
            if name not in names:
                near = nearest(name, names)
                raise InvalidError(
                    f"{phase}.{step.name}.needs: there is no [{phase}.{name}]",
                    hint=f"did you mean {str(near)!r}?"
                    if near
                    else "a step can need only other steps of the same table",
                    details={"key": f"{phase}.{step.name}.needs"},
                )
    try:
        TopologicalSorter(predecessors(steps)).prepare()
    except CycleError as error:
        circle = error.args[1][::-1]
        raise InvalidError(
            f"{phase}: the steps need each other in a circle: {' needs '.join(circle)}",
            hint="a step without needs follows the step declared before it; needs = [] makes it independent",
            details={"key": f"{phase}.{circle[0]}.needs"},
        ) from error


def _step(phase: Phase, name: str, entry: Mapping[str, Any]) -> Step:
    where = f"{phase}.{name}"
    kinds = [kind for kind in StepKind if kind.value in entry]
    if len(kinds) != 1:
        said = " and ".join(kinds) if kinds else f"none of {', '.join(StepKind)}"
        raise InvalidError(f"{where} has {said}", hint="give each step exactly one of them")
    timeout = entry.get("timeout", timedelta(minutes=1))
    if not timeout:
        raise InvalidError(f"{where}.timeout is zero", hint="set a longer one, such as 30s")
    step = Step(
        name,
        kinds[0],
        phase,
        timeout=timeout,
        retries=entry.get("retries", 0),
        selector=entry.get("selector", EVERY_HOST),
        needs=tuple(dict.fromkeys(entry["needs"])) if "needs" in entry else None,
        params=_params(entry["params"], f"{where}.params") if "params" in entry else (),
        properties=tuple(dict.fromkeys(entry.get("properties", ()))),
    )
    names = tuple(param.name for param in step.params)
    if "properties" in entry and kinds[0] is not StepKind.COMMAND:
        at = f"{where}.properties"
        raise InvalidError(f"{at}: only a command reports properties", hint="remove this key", details={"key": at})
    match kinds[0]:
        case StepKind.TCP:
            return replace(step, port=entry["tcp"])
        case StepKind.HTTP:
            return replace(step, page=_page(entry["http"], f"{where}.http", names))
        case StepKind.REDFISH:
            return replace(step, demand=_demand(entry["redfish"], f"{where}.redfish", PHASES[phase].acts, names))
        case StepKind.COMMAND:
            return replace(step, command=_command(entry["command"], f"{where}.command", names))


_PARAM: dict[str, Kind] = {"pattern": text, "default": text}


def _params(value: object, where: str) -> tuple[Param, ...]:
    return tuple(_param(name, entry, f"{where}.{name}") for name, entry in require_table(value, where).items())


def _param(name: str, value: object, where: str) -> Param:
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,40}", name, re.ASCII):
        raise InvalidError(f"{where}: not a parameter's name", hint="lower case letters, digits and _, such as image")
    entry: Mapping[str, Any] = {"pattern": value} if isinstance(value, str) else read_table(value, _PARAM, where)
    allowed = entry.get("pattern")
    if allowed is None:
        raise InvalidError(f"{where} has no pattern", hint='what a value has to match, such as pattern = "noble|jammy"')
    try:
        re.compile(allowed, re.ASCII)
    except (re.error, OverflowError, RecursionError) as error:
        raise InvalidError(f"{where}.pattern: {error}", hint="a regular expression in the syntax of Python") from error
    param = Param(name, allowed, entry.get("default"))
    refusal = None if param.default is None else param.refusal(param.default)
    if refusal is not None:
        raise InvalidError(f"{where}.default: the parameter {refusal}", details={"key": f"{where}.default"})
    return param


def _command(value: object, where: str, params: tuple[str, ...]) -> tuple[str, ...]:
    if not isinstance(value, list) or not value or not all(isinstance(part, str) for part in value):
        raise type_error(where, 'a list of texts such as ["./wipe.sh", "{address}"]', value)
    for part in value:
        _check_placeholders(part, where, params)
    return tuple(value)


_PAGE: dict[str, Kind] = {"url": text, "status": whole_number(100, 599), "text": text}


def _page(value: object, where: str, params: tuple[str, ...]) -> HttpStep:
    entry: Mapping[str, Any] = {"url": value} if isinstance(value, str) else read_table(value, _PAGE, where)
    url = entry.get("url")
    if url is None or not re.match(r"https?://[^/\s@]+(/\S*)?$", url):
        raise type_error(f"{where}.url", "a URL such as http://{address}:8080/health, without a password", url)
    _check_placeholders(url, f"{where}.url", params)
    return HttpStep(**entry)


EXPECTED: dict[str, tuple[str, ...]] = {"health": ("OK", "Warning", "Critical"), "power": ("on", "off")}
"""What a step that only queries may expect of a BMC."""

DONE: dict[str, tuple[str, ...]] = {
    "power": ("on", "off", "cycle", "soft-off"),
    "reset": (
        "On",
        "ForceOff",
        "ForceOn",
        "ForceRestart",
        "GracefulRestart",
        "GracefulShutdown",
        "Nmi",
        "PowerCycle",
        "PushPowerButton",
    ),
    "boot_once": tuple(BootTarget),
}
"""What a step that acts may make a BMC do, beside ``insert`` and ``eject``."""

_EXPECTED: dict[str, Kind] = {key: one_of(*words) for key, words in EXPECTED.items()}
_DONE: dict[str, Kind] = {**{key: one_of(*words) for key, words in DONE.items()}, "insert": text, "eject": flag}


def _demand(value: object, where: str, acts: bool, params: tuple[str, ...]) -> RedfishStep:
    kinds = _DONE if acts else _EXPECTED
    entry = read_table(value, kinds, where)
    image = entry.get("insert")
    if image is not None and not re.match(r"https?://[^/\s@]+/\S+$", image):
        raise type_error(f"{where}.insert", "a URL such as http://images.lab/noble.iso, without a password", image)
    _check_placeholders(image or "", f"{where}.insert", params)
    if not entry or entry == {"eject": False}:
        raise InvalidError(f"{where} asks for nothing", hint=f"it takes {' and '.join(kinds)}")
    return RedfishStep(acts=acts, **entry)


def _check_placeholders(part: str, where: str, params: tuple[str, ...]) -> None:
    known = (*_PLACEHOLDERS, *(f"param.{name}" for name in params))
    for match in PLACEHOLDER.finditer(part):
        if match[1] and match[1] not in known and not re.match(r"(?:labels|hardware)\..", match[1]):
            raise InvalidError(
                f"{where}: unknown placeholder {match[0]}",
                hint=f"known: {', '.join(f'{{{name}}}' for name in known)}; write {{{{ for a brace",
                details={"key": where},
            )
