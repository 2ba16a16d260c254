"""The policy of an inventory: lease defaults, and the steps of each phase of a host's life; parse and validate."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from enum import StrEnum

from bmhctl.domain.model import BootTarget, Host, HostSpec, Phase
from bmhctl.domain.selector import EVERY_HOST, Selector, is_label_key, parse_selector
from bmhctl.domain.units import parse_duration
from bmhctl.errors import InvalidError, UsageError, brief, nearest
from bmhctl.support.lazy_regex import pattern
from bmhctl.support.values import Frozen, field, replace

POLICY_KEYS = ("defaults", *Phase)
"""The top-level tables of a policy: the defaults, and the steps of each phase."""

_PROOF_KEYS = ("recheck_after", "recheck_share", "check_on_reserve", "recover_after")
DEFAULTS = (
    "ttl",
    "max_ttl",
    "quarantine_after",
    "quarantine_after_task_failures",
    "prepare_failures",
    *_PROOF_KEYS,
    "bmc_parallel",
    "proxy",
)
"""The keys of the table ``defaults``."""

PLACEHOLDER = pattern(r"\{\{|\}\}|\{([A-Za-z_][A-Za-z0-9_./-]*)\}")
"""A placeholder in a command's arguments: ``{name}``, ``{labels.rack}``; ``{{`` stands for a brace."""

_PLACEHOLDERS = ("name", "address", "mac", "bmc.address", "bmc.type", "bmc.system_id", "labels.KEY", "hardware.KEY")


class StepKind(StrEnum):
    """What a step does: run a command, open a TCP connection, request a URL, or ask the BMC."""

    COMMAND = "command"
    TCP = "tcp"
    HTTP = "http"
    REDFISH = "redfish"


class PhaseRules(Frozen):
    """The rules for the steps of one phase.

    ``noun`` names one step in messages. Redfish steps of a phase that ``acts`` change the host, those of another only
    ask. Steps of a phase that ``stops_at_failure`` run up to the first failure, those of another all run. A phase that
    ``is_remembered`` does not repeat a step that passed. ``keys`` are settings that only its steps have.
    """

    noun: str
    acts: bool = True
    stops_at_failure: bool = True
    is_remembered: bool = False
    keys: tuple[str, ...] = ()


PHASES: Mapping[Phase, PhaseRules] = {
    Phase.SETUP: PhaseRules("setup step", is_remembered=True, keys=("properties",)),
    Phase.CHECKS: PhaseRules("readiness check", acts=False, stops_at_failure=False, keys=("properties",)),
    Phase.PREPARE: PhaseRules("prepare step", keys=("params",)),
    Phase.CLEANUP: PhaseRules("cleanup step", keys=("properties",)),
    Phase.RETIRE: PhaseRules("retire step"),
}
"""The rules of each phase; a new kind of step is a row here and a member of :class:`Phase`."""


class CheckOnReserve(StrEnum):
    """When a free host has to prove itself before it is granted: each time, when its proof is stale, or never."""

    ALWAYS = "always"
    STALE = "stale"
    NEVER = "never"


class HttpStep(Frozen):
    """The request of an ``http`` step: a URL that must answer with this status, and with this text if one is given."""

    url: str
    status: int = 200
    text: str | None = None


class RedfishStep(Frozen):
    """What a ``redfish`` step expects of a BMC: a health and a power state; in a phase that ``acts`` what it does.

    ``reset`` is a reset by its Redfish name, such as ``ForceRestart``; ``boot_once`` what the next start boots from.
    ``insert`` is the URL of an image for the virtual drive, ``eject`` empties that.
    """

    health: str | None = None
    power: str | None = None
    reset: str | None = None
    acts: bool = False
    boot_once: str | None = None
    insert: str | None = None
    eject: bool = False


class Param(Frozen):
    """A value that a reservation may give to a step: its default (None: it has none), and what it has to match."""

    name: str
    pattern: str
    default: str | None = None

    def refusal(self, value: str) -> str | None:
        """Return why a value is refused, after "the parameter NAME"; None if it is allowed."""
        if len(value) > _LONGEST_VALUE or not value.isprintable():
            return f"takes at most {_LONGEST_VALUE} printable characters, not {brief(value)}"
        if value.startswith("-"):
            return f"can't begin with '-', as {brief(value)} does: a program could take it for an option"
        if re.fullmatch(self.pattern, value, re.ASCII) is None:
            return f"must match {self.pattern}, which {brief(value)} does not"
        return None


_LONGEST_VALUE = 200


class Step(Frozen):
    """One step of a phase.

    ``command`` is an argument list (kind command), ``port`` a TCP port (kind tcp), ``page`` the request (kind http),
    ``demand`` what is expected of the BMC (kind redfish). ``timeout`` is how long one try may take, ``retries`` how
    many more tries follow a failure. ``needs`` are the steps of its phase that have to pass before; None: it follows
    the one declared before it. ``params`` are the values that a reservation may give it. ``properties`` are the
    hardware properties that its output may set.
    """

    name: str
    kind: StepKind
    phase: Phase = Phase.CHECKS
    command: tuple[str, ...] = ()
    port: int = 0
    page: HttpStep | None = None
    demand: RedfishStep | None = None
    timeout: timedelta = timedelta(minutes=1)
    retries: int = 0
    selector: Selector = EVERY_HOST
    needs: tuple[str, ...] | None = None
    params: tuple[Param, ...] = ()
    properties: tuple[str, ...] = ()

    def applies_to(self, spec: HostSpec) -> bool:
        """Return whether the step applies to this host."""
        return self.selector.fits(spec)


class Policy(Frozen):
    """What an inventory requires of its hosts and reservations; a ``ttl`` or ``max_ttl`` of None means no end.

    ``bmc_parallel`` is how many conversations are held with one BMC at a time. ``proxy`` is the URL of an HTTP proxy
    for ``http`` steps and BMCs, ``environment`` to read the environment's variables, or None for none.
    ``quarantine_after_task_failures`` is after how many tasks that fail in a row a host goes to maintenance; None:
    never. ``prepare_failures`` is on how many hosts a request's preparation may fail before it is given up.

    ``recheck_after`` is the age at which the proof of a free host is stale, None: never; ``recheck_share`` the part of
    the free hosts that is proven again at a time. A host that failed then is tried again ``recover_after`` so long.
    """

    ttl: timedelta | None = timedelta(hours=4)
    max_ttl: timedelta | None = timedelta(days=3)
    quarantine_after: int = 3
    steps: Mapping[Phase, tuple[Step, ...]] = field(default_factory=dict)
    bmc_parallel: int = 1
    proxy: str | None = None
    quarantine_after_task_failures: int | None = None
    prepare_failures: int = 3
    recheck_after: timedelta | None = None
    recheck_share: float = 0.25
    check_on_reserve: CheckOnReserve = CheckOnReserve.NEVER
    recover_after: timedelta | None = None

    def is_stale(self, host: Host, now: datetime) -> bool:
        """Whether a free host has to be proven again; one of which it is not known when it was proven has to."""
        if self.recheck_after is None:
            return False
        return host.proven_at is None or now - host.proven_at >= self.recheck_after

    def must_prove(self, host: Host, now: datetime) -> bool:
        """Whether the checks of a free host have to pass before it is granted."""
        if self.check_on_reserve is CheckOnReserve.STALE:
            return self.is_stale(host, now)
        return self.check_on_reserve is CheckOnReserve.ALWAYS

    def of(self, *phases: Phase) -> tuple[Step, ...]:
        """The steps of some phases, as declared."""
        return tuple(step for phase in phases for step in self.steps.get(phase, ()))

    def applying(self, phase: Phase, spec: HostSpec) -> tuple[Step, ...]:
        """Return the steps of a phase that apply to a host, in the order of their declaration."""
        return tuple(step for step in self.of(phase) if step.applies_to(spec))


def parse_policy(document: Mapping[str, object]) -> Policy:
    """Return the policy in a parsed TOML text; other top-level tables are not checked.

    Raises :class:`InvalidError` that names the key, and the nearest known key for an unknown one.
    """
    defaults = require_table(document.get("defaults", {}), "defaults")
    check_keys(defaults, DEFAULTS, "defaults")
    quarantine_after = whole_number(defaults.get("quarantine_after", 3), 1, 1000, "defaults.quarantine_after")
    max_ttl = _lease(defaults, "max_ttl", timedelta(days=3))
    ttl = _lease(defaults, "ttl", timedelta(hours=4))
    if "ttl" not in defaults and max_ttl is not None and ttl is not None:
        ttl = min(ttl, max_ttl)
    policy = Policy(
        ttl=ttl,
        max_ttl=max_ttl,
        quarantine_after=quarantine_after,
        steps={phase: _steps(document, phase) for phase in Phase if phase in document},
        bmc_parallel=whole_number(defaults.get("bmc_parallel", 1), 1, 1000, "defaults.bmc_parallel"),
        proxy=_proxy(defaults),
        quarantine_after_task_failures=_task_failures(defaults),
        prepare_failures=whole_number(defaults.get("prepare_failures", 3), 1, 1000, "defaults.prepare_failures"),
    )
    if any(key in defaults for key in _PROOF_KEYS):
        policy = _with_proofs(policy, defaults)
    if policy.max_ttl is not None and (policy.ttl is None or policy.ttl > policy.max_ttl):
        raise InvalidError(
            "defaults.ttl is longer than defaults.max_ttl",
            hint='shorten ttl, or raise max_ttl ("none" lifts it)',
        )
    return policy


def _task_failures(defaults: Mapping[str, object]) -> int | None:
    key = "quarantine_after_task_failures"
    return whole_number(defaults[key], 2, 20, f"defaults.{key}") if key in defaults else None


def _with_proofs(policy: Policy, defaults: Mapping[str, object]) -> Policy:
    """The policy with what the defaults say about the age of proofs."""
    ages: list[timedelta | None] = []
    for key in ("recheck_after", "recover_after"):
        ages.append(_duration(defaults, key, "defaults", timedelta()) if key in defaults else None)
        if ages[-1] == timedelta():
            raise InvalidError(f"defaults.{key} is zero", hint="give it some time, such as 24h")
    share = defaults.get("recheck_share", 0.25)
    if isinstance(share, bool) or not isinstance(share, int | float) or not 0 < share <= 1:
        raise type_error("defaults.recheck_share", "a number above 0 and up to 1, such as 0.25", share)
    when = defaults.get("check_on_reserve", CheckOnReserve.NEVER.value)
    if when not in list(CheckOnReserve):
        raise type_error("defaults.check_on_reserve", f"one of {', '.join(CheckOnReserve)}", when)
    if when == CheckOnReserve.STALE and "recheck_after" not in defaults:
        raise InvalidError(
            "defaults.check_on_reserve is stale, and no proof ever is", hint='say when: recheck_after = "24h"'
        )
    return replace(
        policy,
        recheck_after=ages[0],
        recover_after=ages[1],
        recheck_share=float(share),
        check_on_reserve=CheckOnReserve(str(when)),
    )


def _proxy(defaults: Mapping[str, object]) -> str | None:
    value = optional_text(defaults, "proxy", "defaults")
    if value is None or value == "environment" or re.fullmatch(r"http://[^/\s@:]+(:[0-9]{1,5})?/?", value, re.ASCII):
        return value
    wanted = '"environment", or a URL such as http://proxy.lab:3128, without a password'
    raise type_error("defaults.proxy", wanted, re.sub(r"//.*@", "//***@", value))


def _lease(defaults: Mapping[str, object], key: str, fallback: timedelta) -> timedelta | None:
    if defaults.get(key) == "none":
        return None
    value = _duration(defaults, key, "defaults", fallback)
    if not value:
        raise InvalidError(f"defaults.{key} is zero", hint='a lease needs a length, or "none" for no end')
    return value


def _steps(document: Mapping[str, object], phase: Phase) -> tuple[Step, ...]:
    steps = tuple(
        _step(phase, name, require_table(entry, f"{phase}.{name}"))
        for name, entry in require_table(document[phase], phase).items()
    )
    if any(step.needs is not None for step in steps):
        _check_order(phase, steps)
    return steps


def _check_order(phase: Phase, steps: tuple[Step, ...]) -> None:
    """Raise :class:`InvalidError` for a step that needs an unknown one, or itself through others."""
    from graphlib import CycleError, TopologicalSorter

    names = [step.name for step in steps]
    for step in steps:
        for name in step.needs or ():
            if name not in names:
                near = nearest(name, names)
                raise InvalidError(
                    f"{phase}.{step.name}.needs: there is no [{phase}.{name}]",
                    hint=f"did you mean {str(near)!r}?" if near else "a step needs others of its own table",
                    details={"key": f"{phase}.{step.name}.needs"},
                )
    try:
        TopologicalSorter(predecessors(steps)).prepare()
    except CycleError as error:
        circle = error.args[1][::-1]
        raise InvalidError(
            f"{phase}: the steps need each other in a circle: {' needs '.join(circle)}",
            hint="a step without needs follows the one declared before it; needs = [] makes it independent",
            details={"key": f"{phase}.{circle[0]}.needs"},
        ) from error


def predecessors(steps: Sequence[Step]) -> dict[str, tuple[str, ...]]:
    """Return, for each step by name, the steps that have to end before it may start."""
    before = (None, *(step.name for step in steps))
    return {
        step.name: step.needs if step.needs is not None else (previous,) if previous is not None else ()
        for previous, step in zip(before, steps, strict=False)
    }


def _step(phase: Phase, name: str, entry: Mapping[str, object]) -> Step:
    where = f"{phase}.{name}"
    check_keys(entry, (*StepKind, *COMMON_KEYS, *PHASES[phase].keys), where)
    kinds = [kind for kind in StepKind if kind.value in entry]
    if len(kinds) != 1:
        said = " and ".join(kinds) if kinds else f"none of {', '.join(StepKind)}"
        raise InvalidError(f"{where} has {said}", hint="give each step exactly one of them")
    timeout = _duration(entry, "timeout", where, timedelta(minutes=1))
    if not timeout:
        raise InvalidError(f"{where}.timeout is zero", hint="give it more, such as 30s")
    selector = optional_text(entry, "selector", where) or ""
    try:
        applies = parse_selector(selector)
    except UsageError as error:
        raise InvalidError(f"{where}.selector: {error.message}", hint=error.hint) from error
    step = Step(
        name,
        kinds[0],
        phase,
        timeout=timeout,
        retries=whole_number(entry.get("retries", 0), 0, 100, f"{where}.retries"),
        selector=applies,
        needs=_names(entry["needs"], f"{where}.needs") if "needs" in entry else None,
        params=_params(entry["params"], f"{where}.params") if "params" in entry else (),
    )
    names = tuple(param.name for param in step.params)
    if "properties" in entry:
        step = replace(step, properties=_properties(entry["properties"], f"{where}.properties", kinds[0]))
    match kinds[0]:
        case StepKind.TCP:
            return replace(step, port=whole_number(entry["tcp"], 1, 65535, f"{where}.tcp"))
        case StepKind.HTTP:
            return replace(step, page=_page(entry["http"], f"{where}.http", names))
        case StepKind.REDFISH:
            return replace(step, demand=_demand(entry["redfish"], f"{where}.redfish", PHASES[phase].acts, names))
        case StepKind.COMMAND:
            return replace(step, command=_command(entry["command"], f"{where}.command", names))


COMMON_KEYS = ("timeout", "retries", "selector", "needs")
"""The keys of a step of any kind, beside that which says its kind."""


def _names(value: object, where: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(part, str) for part in value):
        raise type_error(where, "a list of names of steps", value)
    return tuple(dict.fromkeys(value))


def _properties(value: object, where: str, kind: StepKind) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(key, str) and is_label_key(key) for key in value):
        raise type_error(where, 'a list of hardware properties such as ["cpus", "firmware"]', value)
    if kind is not StepKind.COMMAND:
        raise InvalidError(f"{where}: only a command reports properties", hint="leave it out", details={"key": where})
    return tuple(dict.fromkeys(value))


def _params(value: object, where: str) -> tuple[Param, ...]:
    return tuple(_param(name, entry, f"{where}.{name}") for name, entry in require_table(value, where).items())


def _param(name: str, value: object, where: str) -> Param:
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,40}", name, re.ASCII):
        raise InvalidError(f"{where}: not a parameter's name", hint="lower case letters, digits and _, such as image")
    entry: Mapping[str, object] = {"pattern": value} if isinstance(value, str) else require_table(value, where)
    check_keys(entry, ("pattern", "default"), where)
    allowed = optional_text(entry, "pattern", where)
    if allowed is None:
        raise InvalidError(f"{where} has no pattern", hint='what a value has to match, such as pattern = "noble|jammy"')
    try:
        re.compile(allowed, re.ASCII)
    except (re.error, OverflowError, RecursionError) as error:
        raise InvalidError(f"{where}.pattern: {error}", hint="a regular expression, as Python has them") from error
    param = Param(name, allowed, optional_text(entry, "default", where))
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


def _page(value: object, where: str, params: tuple[str, ...]) -> HttpStep:
    entry: Mapping[str, object] = {"url": value} if isinstance(value, str) else require_table(value, where)
    check_keys(entry, ("url", "status", "text"), where)
    url = optional_text(entry, "url", where)
    if url is None or not re.match(r"https?://[^/\s@]+(/\S*)?$", url):
        raise type_error(f"{where}.url", "a URL such as http://{address}:8080/health, without a password", url)
    _check_placeholders(url, f"{where}.url", params)
    return HttpStep(
        url, whole_number(entry.get("status", 200), 100, 599, f"{where}.status"), optional_text(entry, "text", where)
    )


RESETS = (
    "On",
    "ForceOff",
    "ForceOn",
    "ForceRestart",
    "GracefulRestart",
    "GracefulShutdown",
    "Nmi",
    "PowerCycle",
    "PushPowerButton",
)
"""The resets of Redfish that a step may ask for."""


def _demand(value: object, where: str, acts: bool, params: tuple[str, ...]) -> RedfishStep:
    entry = require_table(value, where)
    choices = {
        "health": ("OK", "Warning", "Critical"),
        "power": ("on", "off", "cycle", "soft-off") if acts else ("on", "off"),
        "reset": RESETS,
        "boot_once": tuple(BootTarget),
    }
    keys = ("power", "reset", "boot_once", "insert", "eject") if acts else ("health", "power")
    check_keys(entry, keys, where)
    for key in entry:
        if key in choices and entry[key] not in choices[key]:
            raise type_error(f"{where}.{key}", f"one of {', '.join(choices[key])}", entry[key])
    eject = entry.get("eject", False)
    if not isinstance(eject, bool):
        raise type_error(f"{where}.eject", "true or false", eject)
    insert = _image(entry, where, params)
    if not entry or (list(entry) == ["eject"] and not eject):
        raise InvalidError(f"{where} asks for nothing", hint=f"it takes {' and '.join(keys)}")
    health, power, reset, boot_once = (optional_text(entry, key, where) for key in choices)
    return RedfishStep(health, power, reset, acts, boot_once, insert, eject)


def _image(entry: Mapping[str, object], where: str, params: tuple[str, ...]) -> str | None:
    image = optional_text(entry, "insert", where)
    if image is None:
        return None
    if not re.match(r"https?://[^/\s@]+/\S+$", image):
        raise type_error(f"{where}.insert", "a URL such as http://images.lab/noble.iso, without a password", image)
    _check_placeholders(image, f"{where}.insert", params)
    return image


def whole_number(value: object, least: int, most: int, where: str) -> int:
    """Return ``value`` if it is a whole number in these bounds; else raise :class:`InvalidError`."""
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise type_error(where, f"a whole number from {least} to {most}", value)
    return value


def _check_placeholders(part: str, where: str, params: tuple[str, ...]) -> None:
    known = (*_PLACEHOLDERS, *(f"param.{name}" for name in params))
    for match in PLACEHOLDER.finditer(part):
        if match[1] and match[1] not in known and not re.match(r"(?:labels|hardware)\..", match[1]):
            raise InvalidError(
                f"{where}: unknown placeholder {match[0]}",
                hint=f"known: {', '.join(f'{{{name}}}' for name in known)}; write {{{{ for a brace",
                details={"key": where},
            )


def _duration(entry: Mapping[str, object], key: str, where: str, fallback: timedelta) -> timedelta:
    value = optional_text(entry, key, where)
    if value is None:
        return fallback
    try:
        return parse_duration(value)
    except UsageError as error:
        raise InvalidError(f"{where}.{key}: {error.message}", hint=error.hint) from error


def require_table(value: object, where: str) -> Mapping[str, object]:
    """Return ``value`` if it is a TOML table; else raise :class:`InvalidError`."""
    if not isinstance(value, dict):
        raise type_error(where, "a table", value)
    return value


def optional_text(entry: Mapping[str, object], key: str, where: str) -> str | None:
    """Return the text under ``key``, None if there is none; raise :class:`InvalidError` for another type."""
    value = entry.get(key)
    if value is not None and not isinstance(value, str):
        raise type_error(f"{where}.{key}", "a text", value)
    return value


def check_keys(entry: Mapping[str, object], keys: tuple[str, ...], where: str) -> None:
    """Raise :class:`InvalidError` for a key that is not among ``keys``, naming the nearest known one."""
    for key in entry:
        if key not in keys:
            near = nearest(key, keys)
            raise InvalidError(
                f"{where}: unknown key {key!r}" if where else f"unknown key {key!r}",
                hint=f"did you mean {str(near)!r}?" if near else f"known here: {', '.join(keys)}",
                details={"key": f"{where}.{key}" if where else key},
            )


def type_error(where: str, wanted: str, got: object) -> InvalidError:
    """Return the error for a value of the wrong type."""
    return InvalidError(f"{where} must be {wanted}, not {brief(got)}", details={"key": where})
