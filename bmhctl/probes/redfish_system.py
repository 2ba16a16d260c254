"""One system of a BMC: its state, and how to change it so that the change was seen.

Nothing counts as done because the BMC accepted it. A state is read until it is the wanted one; a BMC that is in a
transition is left to settle before it is told anything, and is told again if it settles elsewhere.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from bmhctl.domain.model import BootTarget, Power
from bmhctl.probes.credentials import BmcError
from bmhctl.probes.redfish_client import POLL, Client, Json, PassingError, RefusedError, belongs_to

RESEND = 15.0
"""Seconds after which a power state that has not moved is asked for again; a state lags its command by several."""

_CYCLE_POLL = 0.2  # seconds between two reads when a short time without power must be seen
FORCE_TIME = 60.0
"""Seconds that a host has to go off by force, after the time for its shutdown."""

_STATES = {"On": "on", "Off": "off", "PoweringOn": "powering-on", "PoweringOff": "powering-off", "Paused": "paused"}
_MOVING = ("powering-on", "powering-off")
_TOGGLES = ("PushPowerButton",)
_ONCE = (*_TOGGLES, "GracefulShutdown")  # what an operating system may take as another request

_WAYS: Mapping[str, tuple[str, ...]] = {
    "on": ("On", "ForceOn", "PushPowerButton"),
    "resume": ("Resume", "On", "ForceOn"),
    "off": ("ForceOff", "GracefulShutdown", "PushPowerButton"),
    "soft-off": ("GracefulShutdown", "PushPowerButton"),
    "cycle": ("ForceRestart", "PowerCycle"),
    "restart": ("GracefulRestart",),
}
_LEADS_TO = {"On": "on", "ForceOn": "on", "Resume": "on", "ForceOff": "off", "GracefulShutdown": "off"}
_WORDS = {"on": "switch it on", "off": "switch it off", "soft-off": "shut it down", "cycle": "restart it"}
_BOOT = {
    BootTarget.PXE: "Pxe",
    BootTarget.HDD: "Hdd",
    BootTarget.CD: "Cd",
    BootTarget.USB: "Usb",
    BootTarget.BIOS: "BiosSetup",
    BootTarget.HTTP: "UefiHttp",
    BootTarget.DIAGNOSTICS: "Diags",
    BootTarget.NONE: "None",
}
_WORSE = ("OK", "Warning", "Critical")


class System:
    """The system that a host's BMC address means; methods raise :class:`BmcError`.

    Without a system in the address it is the only one of the service; with several, :class:`BmcError` lists them.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        root = client.root()
        collection = client.link(root.get("Systems")) or f"{client.where.root}/Systems"
        self.path = client.where.system or self._only(collection)
        try:
            self._last = self._read()
        except BmcError as error:
            if not error.message.endswith(_MISSING):
                raise
            raise BmcError(f"{client.name} has no system {self.path}", hint=self._known(collection)) from None

    # state

    def power(self) -> str:
        """Return ``on``, ``off``, ``powering-on``, ``powering-off``, ``paused``, or ``unknown``."""
        return _power(self._last)

    def settled_power(self) -> str:
        """Return the power state once it is not in a transition, at the deadline the transition."""
        while self.power() in _MOVING and self._client.left > 2 * POLL:
            self._client.pause(POLL)
            self._look()
        return self.power()

    def health(self) -> str:
        """Return ``OK``, ``Warning``, ``Critical`` (the worse of the system's own and its parts'), or ``unknown``."""
        return _health(self._last.get("Status"))

    def report(self) -> Json:
        """Return what the BMC says of the system, as it was read last."""
        return self._last

    # power

    def set_power(self, wanted: Power, *, force_after: float | None = None) -> str:
        """Switch the power; return the state once it was seen. ``CYCLE`` switches on a host that is off.

        ``SOFT_OFF`` asks the operating system; ``force_after`` seconds later a host that is still on is switched off.
        """
        if wanted is Power.CYCLE:
            return self._cycle()
        if wanted is Power.SOFT_OFF:
            return self._shut_down(force_after)
        return self._reach("on" if wanted is Power.ON else "off")

    def reset(self, kind: str) -> None:
        """Send a reset by Redfish's own name, such as ``ForceRestart``, and see its effect; ``Nmi`` shows none."""
        allowed = self._allowed()
        if allowed is not None and kind not in allowed:
            raise BmcError(f"{self._client.name} allows no {kind}: it allows {_list(allowed)}")
        if kind in _LEADS_TO:
            self._reach(_LEADS_TO[kind], ways=(kind,))
        elif kind == "Nmi":
            self._send_once(kind)
        else:
            self._restart(kind)

    def _reach(self, goal: str, *, ways: Sequence[str] | None = None, until: float | None = None) -> str:
        """Bring the power to a state and see it there; ask again when it settles elsewhere."""
        client, refused = self._client, list[str]()
        sent: _Sent | None = None
        while (state := self.power()) != goal:
            if until is not None and time.monotonic() >= until:
                raise BmcError(f"is still {state}, not {goal}")
            if state in _MOVING:
                if sent is not None:
                    sent.is_over = True  # when it settles elsewhere, what was sent had its effect
            elif sent is None or sent.may_repeat(time.monotonic()):
                kind = self._choose(
                    goal, ways or _WAYS["resume" if (goal, state) == ("on", "paused") else goal], refused
                )
                sent = self._send(kind, refused)
            self._wait(sent, f"is still {state}, not {goal}")
        client.note_sent(None)
        return goal

    def _shut_down(self, force_after: float | None) -> str:
        if force_after is None:
            return self._reach("off", ways=_WAYS["soft-off"])
        try:
            return self._reach("off", ways=_WAYS["soft-off"], until=time.monotonic() + force_after)
        except BmcError:
            if self.power() == "off":
                return "off"
        return self._reach("off", ways=("ForceOff",)) + " by force"

    def _cycle(self) -> str:
        self.settled_power()
        if self.power() == "off":
            return self._reach("on")
        allowed = self._allowed()
        known = allowed if allowed is not None else (*_WAYS["cycle"], "ForceOff", "On")
        for kind in _WAYS["cycle"]:
            if kind in known:
                try:
                    return self._restart(kind)
                except RefusedError:
                    continue  # nothing was done: the next way may be taken
        if "ForceOff" in known and {"On", "ForceOn", "PushPowerButton"} & set(known):
            self._reach("off", ways=("ForceOff",))
            return self._reach("on")
        if "GracefulRestart" in known:
            return self._restart("GracefulRestart")
        raise self._cannot("cycle", known)

    def _restart(self, kind: str) -> str:
        """Send a restart, see the host leave the state it was in, and then see it on."""
        client = self._client
        self.settled_power()
        before = self._last
        answered = self._send_once(kind)
        while not _has_left(before, self._last):
            if client.left <= _CYCLE_POLL:
                what = f"accepted {kind}" if answered else f"did not confirm {kind}, which was sent"
                raise BmcError(
                    f"{client.name} {what}, and no restart was seen in {client.seconds:g} s",
                    hint="power off, then power on, can be seen on every BMC",
                )
            client.pause(_CYCLE_POLL)
            self._look()
        left_at = time.monotonic()
        while self.power() != "on":
            if self.power() == "off" and time.monotonic() - left_at > RESEND:
                return self._reach("on")
            self._wait(None, f"went {self.power()} for {kind}, and is not on yet")
        client.note_sent(None)
        return "on"

    # sending

    def _send(self, kind: str, refused: list[str]) -> _Sent:
        """Send a reset; what becomes of it is seen in the state."""
        client = self._client
        sent = _Sent(kind, time.monotonic())
        try:
            client.post(self._target(), {"ResetType": kind})
            client.note_sent(kind)
        except PassingError as passing:
            if passing.sent:
                client.note_sent(kind)
                sent.is_unanswered = True
            else:
                sent.is_over = True  # nothing was done
                client.retry_later(passing)
        except RefusedError as error:
            self._look()
            if self.power() in _MOVING or self.power() == _LEADS_TO.get(kind, ""):
                sent.is_over = True
                return sent
            refused.append(kind)
            sent.is_over = True
            self._refusal = error
        return sent

    def _send_once(self, kind: str) -> bool:
        """Send a reset that must not be repeated once it may have arrived; whether the BMC confirmed it."""
        client = self._client
        while True:
            try:
                client.post(self._target(), {"ResetType": kind})
            except PassingError as passing:
                if passing.sent:
                    client.note_sent(kind)
                    if kind == "Nmi":
                        raise BmcError(f"{kind} was sent, but not confirmed: {passing.error.message}") from None
                    return False
                client.retry_later(passing)
            else:
                client.note_sent(kind if kind != "Nmi" else None)
                return True

    def _choose(self, goal: str, ways: Sequence[str], refused: Sequence[str]) -> str:
        """Return the first way to a goal that the BMC allows and has not refused."""
        allowed = self._allowed()
        state = self.power()
        for kind in ways:
            is_known = allowed is None or kind in allowed
            if is_known and kind not in refused and (kind not in _TOGGLES or state in ("on", "off")):
                return kind
        if refused and self._refusal is not None:
            raise self._refusal
        raise self._cannot("soft-off" if ways == _WAYS["soft-off"] else goal, allowed or ())

    _refusal: RefusedError | None = None

    def _cannot(self, goal: str, allowed: Sequence[str]) -> BmcError:
        return BmcError(f"{self._client.name} can't {_WORDS.get(goal, goal)}: it allows {_list(allowed)}")

    def _target(self) -> str:
        """Return where resets are sent; never another system's."""
        actions = _table(self._last.get("Actions"))
        target = self._client.path(_table(actions.get("#ComputerSystem.Reset")).get("target"))
        if target is None:
            return f"{self.path}/Actions/ComputerSystem.Reset"
        if not belongs_to(target, self.path):
            raise BmcError(f"{self._client.name} names the reset of another system, {target}, for {self.path}")
        return target

    def _allowed(self) -> tuple[str, ...] | None:
        """Return the resets that the BMC allows; None if it does not say."""
        reset = _table(_table(self._last.get("Actions")).get("#ComputerSystem.Reset"))
        found = _texts(reset.get("ResetType@Redfish.AllowableValues"))
        if found is not None:
            return found
        path = self._client.link({"@odata.id": reset.get("@Redfish.ActionInfo")})
        if path is None:
            return None
        if path not in self._infos:
            self._infos[path] = _allowed_by(self._client.find(path))
        return self._infos[path]

    # boot and indicator

    def boot_once(self, target: BootTarget) -> str:
        """Have the next start, and only that, boot from ``target``; return it once the BMC shows it."""
        wanted = _BOOT[target]
        boot = _table(self._last.get("Boot"))
        allowed = _texts(boot.get("BootSourceOverrideTarget@Redfish.AllowableValues"))
        if allowed is not None and wanted not in allowed and target is not BootTarget.NONE:
            raise BmcError(f"{self._client.name} can't boot from {target}: it allows {_list(allowed)}")
        if target is BootTarget.NONE:
            change: Json = {"BootSourceOverrideEnabled": "Disabled"}
        else:
            change = {"BootSourceOverrideEnabled": "Once", "BootSourceOverrideTarget": wanted}

        def is_seen(system: Json) -> bool:
            found = _table(system.get("Boot"))
            return all(found.get(key) == value for key, value in change.items())

        self._change({"Boot": change}, is_seen, f"booting once from {target}")
        return target.value

    def identify(self, lit: bool) -> str:
        """Switch the indicator light of the system (or of its chassis, if that holds no other); ``on`` or ``off``."""
        client = self._client
        place, read = self.path, self._last
        if not _has_light(read):
            chassis = self._own_chassis()
            if chassis is None:
                raise BmcError(f"{client.name} has no indicator light for it")
            place, read = chassis
        ways: list[Json] = []
        if isinstance(read.get("LocationIndicatorActive"), bool):
            ways.append({"LocationIndicatorActive": lit})
        if isinstance(read.get("IndicatorLED"), str):
            allowed = _texts(read.get("IndicatorLED@Redfish.AllowableValues"))
            names = ("Blinking", "Lit") if lit else ("Off",)
            ways += [{"IndicatorLED": name} for name in names if allowed is None or name in allowed]
        if not ways:
            raise BmcError(f"{client.name} can't switch its indicator light {'on' if lit else 'off'}")
        word = "on" if lit else "off"
        for position, change in enumerate(ways):
            (key, value) = next(iter(change.items()))
            try:
                self._change(change, partial(_has, key, value), f"the light {word}", place, read)
            except RefusedError:
                if position == len(ways) - 1:
                    raise
            else:
                break
        return word

    def _own_chassis(self) -> tuple[str, Json] | None:
        client = self._client
        links = _table(self._last.get("Links")).get("Chassis")
        for value in links if isinstance(links, list) else ():
            path = client.link(value)
            chassis = client.find(path) if path is not None else None
            if path is None or chassis is None or not _has_light(chassis):
                continue
            systems = _table(chassis.get("Links")).get("ComputerSystems")
            paths = [client.link(each) for each in systems] if isinstance(systems, list) else []
            if len(paths) == 1 and paths[0] is not None and belongs_to(paths[0], self.path):
                return path, chassis
        return None

    def _change(
        self,
        change: Json,
        is_seen: Callable[[Json], bool],
        words: str,
        place: str | None = None,
        read: Json | None = None,
    ) -> None:
        """Change properties of the system (or of ``place``) and read them until they are as they were asked for."""
        client = self._client
        path, found = place or self.path, read or self._last
        if is_seen(found):
            return
        sent_at: float | None = None
        while True:
            if sent_at is None or time.monotonic() - sent_at > RESEND:
                sent_at = self._patch(path, change, found)
            if client.left <= POLL:
                raise BmcError(
                    f"{client.name} accepted {words}, but does not show it after {client.seconds:g} s",
                    hint="look at the BMC itself",
                )
            client.pause(POLL / 2)
            found = client.get(path, patient=True)
            if is_seen(found):
                client.note_sent(None)
                return

    def _patch(self, path: str, change: Json, found: Json) -> float | None:
        """Send a change, to the settings of the resource if it takes none itself; None if it was not received."""
        client = self._client
        try:
            try:
                client.patch(path, change, found.get("@odata.etag"))
            except RefusedError:
                settings = client.link(_table(found.get("@Redfish.Settings")).get("SettingsObject"))
                if settings is None or not belongs_to(settings, path):
                    raise
                client.patch(settings, change, _table(client.find(settings)).get("@odata.etag"))
        except PassingError as passing:
            if not passing.sent:
                client.retry_later(passing)
                return None
        return time.monotonic()

    # reading

    def _wait(self, sent: _Sent | None, words: str) -> None:
        client = self._client
        if client.left <= POLL:
            raise BmcError(
                f"{words}, after {client.seconds:g} s", hint=None if sent is None else sent.hint(client.name)
            )
        client.pause(POLL)
        self._look()

    def _look(self) -> None:
        """Read the system again, through failures that pass."""
        self._last = self._read(patient=True)

    def _read(self, *, patient: bool = False) -> Json:
        found = self._client.get(self.path, missing=_MISSING, patient=patient)
        own = self._client.path(found.get("@odata.id"))
        if own is not None and not belongs_to(own, self.path):
            raise BmcError(f"{self._client.name} answers for another system, {own}, when asked for {self.path}")
        return found

    def _only(self, collection: str) -> str:
        members = self._client.members(collection) or []
        if len(members) == 1:
            return members[0]
        client = self._client
        if not members:
            raise BmcError(f"{client.name} has no systems")
        raise BmcError(
            f"{client.name} has {len(members)} systems, and the host declares none of them",
            hint=f"bmhctl set HOST --bmc-system ID; they are {_list([_last_part(path) for path in members])}",
        )

    def _known(self, collection: str) -> str | None:
        members = self._client.members(collection, needed=False)
        return f"it has {_list([_last_part(path) for path in members])}" if members else None

    @property
    def _infos(self) -> dict[str, tuple[str, ...] | None]:
        if self._known_infos is None:
            self._known_infos = {}
        return self._known_infos

    _known_infos: dict[str, tuple[str, ...] | None] | None = None


_MISSING = "has lost its system"


class _Sent:
    """A reset that was sent: when it may be sent again."""

    def __init__(self, kind: str, at: float) -> None:
        self._kind = kind
        self._at = at
        self.is_over = False
        self.is_unanswered = False

    def may_repeat(self, now: float) -> bool:
        """Whether it surely had no effect, had its effect, or has long had none and may safely be repeated."""
        return self.is_over or (self._kind not in _ONCE and now - self._at > RESEND)

    def hint(self, bmc: str) -> str | None:
        return f"{self._kind} was sent; {bmc} did not confirm it" if self.is_unanswered else None


def _power(system: Json) -> str:
    state = system.get("PowerState")
    return _STATES.get(state, "unknown") if isinstance(state, str) else "unknown"


def _health(status: object) -> str:
    table = _table(status)
    said = [table.get(key) for key in ("Health", "HealthRollup", "HealthRollUp")]
    given = [each for each in said if each is not None]
    known = [each for each in given if each in _WORSE]
    worst = max((_WORSE.index(str(each)) for each in known), default=None)
    if worst is None or (len(known) < len(given) and worst == 0):
        return "unknown"
    return _WORSE[worst]


def _has_left(before: Json, now: Json) -> bool:
    """Whether a system shows that it restarted since ``before``: by its power, its reset time, or its boot."""
    if _power(now) != _power(before) and _power(now) != "unknown":
        return True
    old, new = before.get("LastResetTime"), now.get("LastResetTime")
    if isinstance(old, str) and isinstance(new, str) and old != new:
        return True
    was, stage = _stage(before), _stage(now)
    return was is not None and stage is not None and stage < was


_STAGES = (
    "None",
    "PrimaryProcessorInitializationStarted",
    "BusInitializationStarted",
    "MemoryInitializationStarted",
    "SecondaryProcessorInitializationStarted",
    "PCIResourceConfigStarted",
    "SystemHardwareInitializationComplete",
    "SetupEntered",
    "OSBootStarted",
    "OSRunning",
)


def _stage(system: Json) -> int | None:
    state = _table(system.get("BootProgress")).get("LastState")
    return _STAGES.index(state) if isinstance(state, str) and state in _STAGES else None


def _has(key: str, value: object, resource: Json) -> bool:
    return resource.get(key) == value


def _has_light(resource: Json) -> bool:
    return isinstance(resource.get("LocationIndicatorActive"), bool) or isinstance(resource.get("IndicatorLED"), str)


def _allowed_by(info: Json | None) -> tuple[str, ...] | None:
    """What an ActionInfo allows as ``ResetType``."""
    parameters = _table(info).get("Parameters")
    for each in parameters if isinstance(parameters, list) else ():
        if _table(each).get("Name") == "ResetType":
            return _texts(_table(each).get("AllowableValues"))
    return None


def _texts(value: object) -> tuple[str, ...] | None:
    """A list of texts with at least one in it, else None."""
    found = tuple(each for each in value if isinstance(each, str)) if isinstance(value, list) else ()
    return found or None


def _table(value: object) -> Json:
    return value if isinstance(value, dict) else {}


def _last_part(path: str) -> str:
    return path.rstrip("/").rsplit("/", 1)[-1]


def _list(names: Sequence[str]) -> str:
    shown = ["".join(filter(str.isprintable, name))[:40] for name in names[:12]]
    return (", ".join(shown) + (", …" if len(names) > 12 else "")) or "nothing"
