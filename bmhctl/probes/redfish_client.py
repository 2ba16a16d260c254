"""Talks Redfish with a baseboard management controller, through sushy (the extra ``redfish``)."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from bmhctl.domain.model import Bmc, Fact, Power
from bmhctl.errors import BmhctlError, ExitStatus
from bmhctl.probes.cancellation import InterruptedStepError, within
from bmhctl.probes.setting import StepEnvironment
from bmhctl.support.values import Frozen

_T = TypeVar("_T")
_SYSTEMS = "/redfish/v1/Systems"
_REDFISH = (
    "redfish",
    "redfish-virtualmedia",
    "redfish-uefihttp",
    "idrac-redfish",
    "idrac-virtualmedia",
    "ilo5-redfish",
)
_POLL = 0.5  # seconds between two looks at a power state, which lags a command


class BmcError(BmhctlError):
    """A BMC that can't be reached, understood, or talked into it; the message says which, never a secret."""

    status = ExitStatus.STEP_FAILED
    code = "bmc"


class Endpoint(Frozen):
    """Where a BMC's Redfish service is, and which of its systems is meant (None: the only one)."""

    url: str
    system: str | None


def endpoint(bmc: Bmc) -> Endpoint:
    """Where to talk to, from an address in any form that manifests carry.

    ``redfish+https://host/redfish/v1/Systems/1``, ``redfish-virtualmedia://…``, ``idrac-redfish://…``, or a plain
    ``http(s)://host:port`` with a system id. Raises :class:`BmcError` for one that speaks no Redfish.
    """
    try:
        parts = urlsplit(bmc.address)
    except ValueError as error:  # from before such an address was refused
        raise BmcError(f"its BMC address {bmc.address} is none: {error}", hint="bmhctl set HOST --bmc …") from None
    kind, _, transport = parts.scheme.partition("+")
    if kind in ("http", "https"):
        transport = kind
    elif kind in _REDFISH:
        transport = transport or "https"
    else:
        transport = ""
    if transport not in ("http", "https"):
        raise BmcError(
            f"its BMC address {bmc.address} speaks no Redfish",
            hint="for ipmi:// declare a check of kind command that calls ipmitool; see examples/lab/ipmi-power.sh",
        )
    path = parts.path.rstrip("/")
    system = path if path.startswith(_SYSTEMS + "/") else None
    if system is None and bmc.system_id is not None:
        system = bmc.system_id if bmc.system_id.startswith("/") else f"{_SYSTEMS}/{bmc.system_id}"
    return Endpoint(f"{transport}://{parts.netloc}", system)


def ask(bmc: Bmc | None, setting: StepEnvironment, timeout: timedelta, question: Callable[[Controller], _T]) -> _T:
    """What a BMC answers, or does; raises :class:`BmcError` when it does not within ``timeout``."""
    if bmc is None:
        raise BmcError("it has no BMC declared", hint="bmhctl set HOST --bmc redfish+https://…")
    where, seconds = endpoint(bmc), timeout.total_seconds()
    deadline = time.monotonic() + seconds
    login = credentials(bmc.credentials, setting, seconds)
    try:
        return within(
            deadline - time.monotonic(),
            setting.cancelled,
            lambda: question(Controller(bmc, where, login, setting, seconds, deadline)),
        )
    except TimeoutError:
        raise _silent(where, seconds) from None


def _silent(where: Endpoint, seconds: float) -> BmcError:
    return BmcError(f"its BMC at {where.url} did not answer in {seconds:g} s")


# where a BMC's user and password come from


def credentials(reference: str | None, setting: StepEnvironment, seconds: float) -> tuple[str, str] | None:
    """User and password from a reference (``env:``, ``file:``, ``command:``): one line, ``user:password``.

    Files and commands are looked for from the setting's folder. Raises :class:`BmcError` when there is none; neither
    is ever shown.
    """
    if reference is None:
        return None
    kind, _, what = reference.partition(":")
    try:
        line = _SOURCES[kind](what, setting, seconds)
    except (OSError, ValueError) as error:
        said = getattr(error, "strerror", None) or type(error).__name__
        raise BmcError(f"its credentials {kind}:{what} can't be read: {said}", hint=_CREDENTIALS_HINT) from None
    user, colon, password = line.split("\n", 1)[0].strip().partition(":")
    if not colon:
        raise BmcError(f"its credentials {kind}:{what} hold no user:password", hint=_CREDENTIALS_HINT)
    return user, password


_CREDENTIALS_HINT = "they are one line: user:password"


def _from_environment(name: str, setting: StepEnvironment, _: float) -> str:
    if name not in setting.environ:
        raise BmcError(f"its credentials are in ${name}, which is not set", hint=f"export {name}=user:password")
    return setting.environ[name]


def _from_file(path: str, setting: StepEnvironment, _: float) -> str:
    return (Path(setting.folder) / Path(path).expanduser()).read_text(encoding="utf-8")


def _from_command(command: str, setting: StepEnvironment, seconds: float) -> str:
    import shlex
    import subprocess

    from bmhctl.probes.command import call

    ended = call(shlex.split(command), setting, seconds, stderr=subprocess.DEVNULL)
    if setting.cancelled.is_set():
        raise InterruptedStepError
    if ended.status != 0:
        raise BmcError(f"the command that gives its credentials: {ended.words(seconds)}", hint=_CREDENTIALS_HINT)
    return ended.output.decode("utf-8")


_SOURCES: dict[str, Callable[[str, StepEnvironment, float], str]] = {
    "env": _from_environment,
    "file": _from_file,
    "command": _from_command,
}


# talking with it


@cache
def _sushy() -> Any:
    """The library, which says what it has to say by its exceptions only."""
    try:
        import sushy
    except ImportError:
        raise BmcError("sushy is not installed", hint="pip install 'bmhctl[redfish]'") from None
    import logging

    log = logging.getLogger("sushy")
    log.addHandler(logging.NullHandler())
    log.propagate = False
    return sushy


class _NoLogin:
    """For a BMC that lets anyone in; without it sushy would try to log in as nobody."""

    def set_context(self, root: object, connector: object) -> None:
        """Needs nothing."""

    def authenticate(self) -> None:
        """Does nothing."""

    def close(self) -> None:
        """Does nothing."""


class Controller:
    """One host's system at its BMC, until a deadline: then nothing is asked of it any more.

    Every method raises :class:`BmcError`.
    """

    def __init__(
        self,
        bmc: Bmc,
        where: Endpoint,
        login: tuple[str, str] | None,
        setting: StepEnvironment,
        seconds: float,
        deadline: float,
    ) -> None:
        self._where = where
        self._login = login
        self._seconds = seconds
        self._deadline = deadline
        self._cancelled = setting.cancelled
        root = self._asked(lambda: self._root(bmc), "is no Redfish service")
        if where.system is None:
            where = Endpoint(where.url, self._only_system(root))
        self._system = self._asked(lambda: root.get_system(where.system), f"has no system {where.system}")

    def power(self) -> str:
        """``on``, ``off``, or ``unknown``."""
        self._asked(lambda: self._system.refresh(force=True))
        state = self._asked(lambda: self._system.power_state)
        return {"On": "on", "Off": "off"}.get(getattr(state, "value", ""), "unknown")

    def set_power(self, wanted: Power) -> str:
        """Switches, and waits until the state is there; a state lags its command by seconds."""
        before = self.power()
        goal = "off" if wanted is Power.OFF else "on"
        if before == goal and wanted is not Power.CYCLE:
            return before
        if wanted is Power.CYCLE and before != "off":
            self.reset("ForceRestart")
        else:
            self.reset("On" if goal == "on" else "ForceOff")
        while (state := self.power()) != goal:
            if time.monotonic() + _POLL > self._deadline:
                raise BmcError(f"is still {state}, not {goal}, after {self._seconds:g} s")
            self._cancelled.wait(_POLL)
        return state

    def reset(self, kind: str) -> None:
        """Sends a reset of Redfish's own name, such as ``ForceRestart`` or ``Nmi``."""
        self._asked(lambda: self._system.reset_system(_sushy().ResetType(kind)))

    def health(self) -> str:
        """``OK``, ``Warning``, ``Critical``, or ``unknown`` when the BMC reports none."""
        status = self._asked(lambda: self._system.status)
        health = getattr(status, "health", None)
        return str(health.value) if health is not None else "unknown"

    def inventory(self) -> dict[str, Fact]:
        """What the BMC knows of the hardware, as facts that selectors see; only what it reports."""
        report = self._asked(lambda: self._system.json)
        found: dict[str, Fact] = {}
        for key, name in (("vendor", "Manufacturer"), ("model", "Model"), ("serial", "SerialNumber")):
            value = report.get(name)
            if isinstance(value, str) and (line := "".join(filter(str.isprintable, value)).strip()):
                found[key] = line[:200]
        memory = _whole(_part(report, "MemorySummary").get("TotalSystemMemoryGiB"))
        if memory is not None:
            found["memory"] = f"{memory}GiB"
        processors = _part(report, "ProcessorSummary")
        counts = (_whole(processors.get(name)) for name in ("LogicalProcessorCount", "CoreCount", "Count"))
        cpus = next((count for count in counts if count is not None), None)
        if cpus is not None:
            found["cpus"] = cpus
        found["health"] = self.health()
        return found

    def _root(self, bmc: Bmc) -> Any:
        sushy = _sushy()
        return sushy.Sushy(
            self._where.url,
            verify=bmc.verify_tls,
            auth=_NoLogin() if self._login is None else sushy.auth.BasicAuth(*self._login),
            server_side_retries=1,  # 0 is sushy's own choice, of three
            server_side_retries_delay=0,
            read_timeout=self._seconds,
            connect_timeout=self._seconds,
        )

    def _only_system(self, root: Any) -> str:
        identities: tuple[str, ...] = self._asked(lambda: root.get_system_collection().members_identities)
        members = ["".join(filter(str.isprintable, identity)) for identity in identities]
        if len(members) == 1:
            return members[0]
        known = ", ".join(member.rsplit("/", 1)[-1] for member in members[:5])
        more = ", …" if len(members) > 5 else ""
        raise BmcError(
            f"its BMC at {self._where.url} has {len(members)} systems: which one is it?",
            hint=f"bmhctl set HOST --bmc-system ID; they are {known}{more}" if members else None,
        )

    def _asked(self, question: Callable[[], _T], missing: str = "has lost its system") -> _T:
        from json import JSONDecodeError

        where, sushy = self._where.url, _sushy()
        if self._cancelled.is_set():
            raise InterruptedStepError
        if time.monotonic() > self._deadline:
            raise _silent(self._where, self._seconds)
        try:
            return question()
        except sushy.exceptions.AccessError:
            if self._login is None:
                raise BmcError(
                    f"its BMC at {where} wants credentials, and it has none",
                    hint="bmhctl set HOST --credentials env:NAME, file:PATH or command:…",
                ) from None
            raise BmcError(
                f"its BMC at {where} rejects the credentials", hint="look at what their reference leads to"
            ) from None
        except sushy.exceptions.ConnectionError as error:
            raise self._unreachable(str(error)) from None
        except sushy.exceptions.ResourceNotFoundError:
            raise BmcError(f"its BMC at {where} {missing}") from None
        except (JSONDecodeError, RecursionError, OverflowError, AttributeError, TypeError, KeyError) as error:
            raise BmcError(f"what answers at {where} is no Redfish service ({type(error).__name__})") from None
        except (sushy.exceptions.SushyError, OSError, ValueError) as error:
            raise BmcError(f"its BMC at {where} refuses: {' '.join(str(error).split())[:200]}") from None

    def _unreachable(self, said: str) -> BmcError:
        """The error for what sushy says of a connection."""
        low = said.lower()
        if "timed out" in low or "timeout" in low:
            return _silent(self._where, self._seconds)
        where = f"its BMC at {self._where.url}"
        if "certificate_verify_failed" in low:
            return BmcError(
                f"{where} has a TLS certificate that can't be verified",
                hint="bmhctl set HOST --no-verify-tls goes without (verify_tls = false)",
            )
        for sign, words in (
            ("refused", "refuses connections"),
            ("resolve", "can't be found: its name does not resolve"),
            ("ssl", "does not speak TLS as it should"),
        ):
            if sign in low:
                return BmcError(f"{where} {words}")
        return BmcError(f"{where} can't be reached: {' '.join(said.split())[:160]}")


def _part(report: dict[str, Any], name: str) -> dict[str, Any]:
    found = report.get(name)
    return found if isinstance(found, dict) else {}


def _whole(value: object) -> int | None:
    """A number as a whole one, if it can be how many there are of something."""
    number = value if isinstance(value, int | float) and not isinstance(value, bool) else 0
    return int(number) if 1 <= number < 2**31 else None
