"""Switch the power of a system, and wait until the change was seen.

An answer of the BMC does not prove a change, so the state is read until it is the requested one. Nothing is sent during
a transition. If the transition ends in another state, the command is sent again.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from functools import partial

from bmhctl.domain.model import Power
from bmhctl.probes.credentials import BmcError
from bmhctl.probes.redfish_client import Client, belongs_to
from bmhctl.probes.redfish_errors import RefusedError, combined
from bmhctl.probes.redfish_reply import Json, items, table
from bmhctl.probes.redfish_system import MOVING, System, listed, power_of, texts
from bmhctl.probes.redfish_time_limit import POLL

RESEND = 15.0
"""Seconds after which a command is repeated if the power state did not change; states change seconds later."""

_CYCLE_POLL = 0.2  # seconds between two reads when a short time without power must be seen
FORCE_TIME = 60.0
"""Seconds for switching off a host by force, after the time for its shutdown."""

_RESETS = frozenset(
    (
        *("On", "ForceOn", "ForceOff", "ForceRestart", "GracefulRestart", "GracefulShutdown", "PowerCycle"),
        *("FullPowerCycle", "PushPowerButton", "Nmi", "Pause", "Resume", "Suspend"),
    )
)
"""The resets of Redfish. A list with another name may be wrong: BMCs of Supermicro have written two names as one."""

_TOGGLES = ("PushPowerButton",)
_ONCE = (*_TOGGLES, "GracefulShutdown")  # resets that an operating system would understand as a second request

_WAYS: Mapping[str, tuple[str, ...]] = {
    "on": ("On", "ForceOn", "PushPowerButton"),
    "resume": ("Resume", "On", "ForceOn"),
    "off": ("ForceOff", "GracefulShutdown", "PushPowerButton"),
    "soft-off": ("GracefulShutdown", "PushPowerButton"),
    "cycle": ("ForceRestart", "PowerCycle"),
}
_LEADS_TO = {"On": "on", "ForceOn": "on", "Resume": "on", "ForceOff": "off", "GracefulShutdown": "off"}
_WORDS = {"on": "switch it on", "off": "switch it off", "soft-off": "shut it down", "cycle": "restart it"}


class PowerSwitch:
    """The power of one system; methods raise :class:`BmcError`."""

    def __init__(self, system: System) -> None:
        self._system = system
        self._refusals: dict[str, RefusedError] = {}  # by the reset that the BMC refused
        self._infos: dict[str, tuple[str, ...] | None] = {}

    def set_power(self, wanted: Power, *, force_after: float | None = None) -> str:
        """Switch the power; return the new state once the BMC shows it. ``CYCLE`` switches on a host that is off.

        ``SOFT_OFF`` asks the operating system; ``force_after`` seconds later a host that is still on is switched off.
        """
        if wanted is Power.CYCLE:
            return self._cycle()
        if wanted is Power.SOFT_OFF:
            return self._shut_down(force_after)
        return self._reach("on" if wanted is Power.ON else "off")

    def reset(self, kind: str) -> None:
        """Send a reset by Redfish's own name, such as ``ForceRestart``, and wait for its effect, except for ``Nmi``."""
        allowed = self._allowed()
        if allowed is not None and kind not in allowed:
            raise BmcError(f"{self._system.client.name} allows no {kind}: it allows {listed(allowed)}")
        if kind in _LEADS_TO:
            self._reach(_LEADS_TO[kind], ways=(kind,))
        elif kind == "PushPowerButton":
            self._reach("off" if self._system.settled_power() == "on" else "on", ways=(kind,))
        elif kind == "Nmi":
            self._send_once(kind)
        else:
            self._restart(kind)

    def _reach(self, goal: str, *, ways: Sequence[str] | None = None, until: float | None = None) -> str:
        """Bring the power to a state, and wait until the BMC shows it; send again if another state results."""
        client = self._system.client
        sent: _Sent | None = None
        while (state := self._system.power()) != goal:
            if until is not None and time.monotonic() >= until:
                raise BmcError(f"is still {state}, not {goal}")
            if state in MOVING:
                if sent is not None:
                    sent.is_over = True  # if another state resulted, the last reset has had its effect
            elif sent is not None and self._has_failed(sent):
                continue
            elif sent is None or sent.may_repeat(time.monotonic()):
                way = "resume" if (goal, state) == ("on", "paused") else goal
                sent = self._send(self._choose(goal, ways or _WAYS[way]))
            self._wait(sent, f"is still {state}, not {goal}")
        client.limit.note_sent(None)
        self._refusals.clear()
        return goal

    def _shut_down(self, force_after: float | None) -> str:
        if force_after is None:
            return self._reach("off", ways=_WAYS["soft-off"])
        until = time.monotonic() + force_after
        try:
            return self._reach("off", ways=_WAYS["soft-off"], until=until)
        except BmcError:
            if time.monotonic() < until:  # the BMC refuses or can't shut down: use force at the end of the time
                raise
        return self._reach("off", ways=("ForceOff",)) + " by force"

    def _cycle(self) -> str:
        self._system.settled_power()
        if self._system.power() == "off":
            return self._reach("on")
        allowed = self._allowed()
        known = allowed if allowed is not None else (*_WAYS["cycle"], "ForceOff", "On")
        for kind in _WAYS["cycle"]:
            if kind in known:
                try:
                    return self._restart(kind)
                except RefusedError as error:
                    self._refusals[kind] = error  # the BMC did nothing: try the next way
        if "ForceOff" in known and {"On", "ForceOn", "PushPowerButton"} & set(known):
            self._reach("off", ways=("ForceOff",))
            return self._reach("on")
        if "GracefulRestart" in known:
            return self._restart("GracefulRestart")
        raise self._refused() or self._cannot("cycle", f"it allows {listed(known)}")

    def _restart(self, kind: str) -> str:
        """Send a restart; wait until the host left its state, and then until it is on."""
        client = self._system.client
        self._system.settled_power()
        before = self._system.report
        self._send_once(kind)
        while not _has_left(before, self._system.report):
            client.limit.expect(lambda: _unseen(client, kind))
            client.limit.pause(_CYCLE_POLL)
            self._system.look()
            if not _has_left(before, self._system.report):
                client.check_task()
            if power_of(before) == "unknown":
                before = self._system.report  # the earlier state is not known: only a change from now on counts
        left_at = time.monotonic()
        while self._system.power() != "on":
            if self._system.power() == "off" and time.monotonic() - left_at > RESEND:
                return self._reach("on")
            self._wait(None, f"restarted with {kind}, but is still {self._system.power()}")
        client.limit.note_sent(None)
        return "on"

    # methods that send resets

    def _send(self, kind: str) -> _Sent:
        """Send a reset; the caller reads its effect from the state."""
        client = self._system.client
        sent = _Sent(kind, time.monotonic())
        try:
            trouble = client.attempt(kind, partial(self._post, kind))
            if trouble is not None and trouble.sent:
                sent.trouble = f"{kind} was sent, but not confirmed: {trouble.error.message}"
                sent.pause = RESEND if trouble.after is None else trouble.after
            elif trouble is not None:
                sent.is_over = True  # the BMC did nothing
                sent.trouble = trouble.error.message
        except RefusedError as error:
            sent.is_over = True
            self._system.look()
            if self._system.power() not in (*MOVING, _LEADS_TO.get(kind)):
                self._refusals[kind] = error
        return sent

    def _has_failed(self, sent: _Sent) -> bool:
        """Return whether the BMC reports that the last reset has failed; if so, count it as refused."""
        try:
            self._system.client.check_task()
        except RefusedError as error:
            sent.is_over = True
            self._refusals[sent.kind] = error
            return True
        return False

    def _send_once(self, kind: str) -> None:
        """Send a reset that must not be repeated once the BMC may have received it, even without an answer."""
        client = self._system.client
        trouble = client.attempt(kind, partial(self._post, kind))
        while trouble is not None and not trouble.sent:  # the BMC did nothing
            trouble = client.attempt(kind, partial(self._post, kind))
        if kind == "Nmi":
            client.limit.note_sent(None)
            if trouble is not None:
                raise BmcError(f"{kind} was sent, but not confirmed: {trouble.error.message}")

    def _post(self, kind: str) -> None:
        report = self._system.report
        self._system.client.post(self._target(), {"ResetType": kind}, report.get("@odata.etag"))

    def _choose(self, goal: str, ways: Sequence[str]) -> str:
        """Return the first way to a goal that the BMC allows and has not refused."""
        allowed, state = self._allowed(), self._system.power()
        known = [kind for kind in ways if (allowed is None or kind in allowed) and kind not in self._refusals]
        for kind in known:
            if kind not in _TOGGLES or state in ("on", "off"):
                return kind
        what = "soft-off" if ways == _WAYS["soft-off"] else goal
        why = f"it shows the power {state}" if known else f"it allows {listed(allowed or ())}"
        raise self._refused() or self._cannot(what, why)

    def _refused(self) -> RefusedError | None:
        return combined(self._system.client.name, [*self._refusals.values()]) if self._refusals else None

    def _cannot(self, goal: str, why: str) -> BmcError:
        return BmcError(f"{self._system.client.name} can't {_WORDS[goal]}: {why}")

    def _target(self) -> str:
        """Return the path to which resets are sent; raise an error if it belongs to another system."""
        actions = table(self._system.report.get("Actions"))
        target = self._system.client.where.path_of(table(actions.get("#ComputerSystem.Reset")).get("target"))
        if target is None:
            return f"{self._system.path}/Actions/ComputerSystem.Reset"
        if not belongs_to(target, self._system.path):
            where = self._system
            raise BmcError(f"{where.client.name} names the reset of another system, {target}, for {where.path}")
        return target

    def _allowed(self) -> tuple[str, ...] | None:
        """Return the resets that the BMC allows; None if it does not say."""
        reset = table(table(self._system.report.get("Actions")).get("#ComputerSystem.Reset"))
        found = texts(reset.get("ResetType@Redfish.AllowableValues"))
        path = self._system.client.link({"@odata.id": reset.get("@Redfish.ActionInfo")})
        if path is None or (found is not None and _RESETS.issuperset(found)):
            return found
        if path not in self._infos:
            self._infos[path] = _allowed_by(self._system.client.find(path))
        listed = self._infos[path]
        return listed if found is None else (*found, *(kind for kind in listed or () if kind not in found))

    def _wait(self, sent: _Sent | None, words: str) -> None:
        client = self._system.client
        client.limit.expect(
            lambda: BmcError(
                f"{words}, after {client.limit.seconds:g} s", hint=None if sent is None else sent.hint(client)
            )
        )
        client.limit.pause(POLL)
        self._system.look()


class _Sent:
    """A reset that was sent, and when it may be sent again."""

    def __init__(self, kind: str, at: float) -> None:
        self.kind = kind
        self._at = at
        self.pause = RESEND
        self.is_over = False
        self.trouble: str | None = None

    def may_repeat(self, now: float) -> bool:
        """Return whether a reset may be sent again: its effect is over, or none was seen for a long time."""
        return self.is_over or (self.kind not in _ONCE and now - self._at > self.pause)

    def hint(self, client: Client) -> str:
        """Return a hint with the answer of the BMC."""
        if self.trouble is not None:
            return self.trouble
        return f"{client.name} accepted {self.kind}: {client.why('check the BMC itself')}"


def _unseen(client: Client, kind: str) -> BmcError:
    """Return the error for a restart that was sent, and of which the BMC shows nothing."""
    instead = "use power off, then power on: every BMC reports these"
    return BmcError(
        f"{client.answer_to(kind)} no restart was seen in {client.limit.seconds:g} s",
        hint="; ".join(filter(None, (client.why(), instead))),
    )


def _has_left(before: Json, now: Json) -> bool:
    """Return whether a system has restarted since the report ``before``: by its power, reset time or boot progress."""
    if power_of(now) != power_of(before) and power_of(now) != "unknown":
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
    state = table(system.get("BootProgress")).get("LastState")
    return _STAGES.index(state) if isinstance(state, str) and state in _STAGES else None


def _allowed_by(info: Json | None) -> tuple[str, ...] | None:
    """Return what an ActionInfo allows as ``ResetType``."""
    for each in items(table(info).get("Parameters")):
        if table(each).get("Name") == "ResetType":
            return texts(table(each).get("AllowableValues"))
    return None
