"""Talks Redfish with a baseboard management controller, through sushy (the extra ``redfish``)."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

from bmhctl.errors import BmhctlError, ExitStatus
from bmhctl.model import Bmc, Fact

if TYPE_CHECKING:
    from threading import Event

    from sushy.resources.system.system import System

_T = TypeVar("_T")
_SYSTEMS = "/redfish/v1/Systems"
_REDFISH = re.compile(
    r"(?:redfish|redfish-virtualmedia|redfish-uefihttp|idrac-redfish|idrac-virtualmedia|ilo5-redfish)"
)
_POLL = 0.5  # seconds between two looks at a power state, which lags a command


class BmcError(BmhctlError):
    """A BMC that can't be reached, understood, or talked into it; the message says which, never a secret."""

    status = ExitStatus.STEP_FAILED
    code = "bmc"


class Power(StrEnum):
    """What can be asked of a host's power."""

    ON = "on"
    OFF = "off"
    CYCLE = "cycle"
    STATUS = "status"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a BMC's Redfish service is, and which of its systems is meant (None: the only one)."""

    url: str
    system: str | None


def endpoint(bmc: Bmc) -> Endpoint:
    """Where to talk to, from an address in any form that manifests carry.

    ``redfish+https://host/redfish/v1/Systems/1``, ``redfish-virtualmedia://…``, ``idrac-redfish://…``, or a plain
    ``http(s)://host:port`` with a system id. Raises :class:`BmcError` for one that speaks no Redfish.
    """
    parts = urlsplit(bmc.address)
    kind, _, transport = parts.scheme.partition("+")
    if kind in ("http", "https"):
        transport = kind
    elif _REDFISH.fullmatch(kind):
        transport = transport or "https"
    else:
        raise BmcError(
            f"its BMC address {bmc.address} speaks no Redfish",
            hint="for ipmi:// declare a check of kind command that calls ipmitool; see examples/lab/ipmi-power.sh",
        )
    path = parts.path.rstrip("/")
    system = path if path.startswith(_SYSTEMS + "/") else None
    if system is None and bmc.system_id is not None:
        system = bmc.system_id if bmc.system_id.startswith("/") else f"{_SYSTEMS}/{bmc.system_id}"
    return Endpoint(f"{transport}://{parts.netloc}", system)


def credentials(reference: str | None, environ: Mapping[str, str]) -> tuple[str, str] | None:
    """User and password from a reference (``env:``, ``file:``, ``command:``): one line, ``user:password``.

    Raises :class:`BmcError` when there is none; neither is ever shown.
    """
    if reference is None:
        return None
    kind, _, what = reference.partition(":")
    try:
        line = _SOURCES[kind](what, environ)
    except (OSError, ValueError, KeyError) as error:
        said = getattr(error, "strerror", None) or type(error).__name__
        raise BmcError(f"its credentials {kind}:{what} can't be read: {said}", hint=_CREDENTIALS_HINT) from None
    user, colon, password = line.partition(":")
    if not colon:
        raise BmcError(f"its credentials {kind}:{what} hold no user:password", hint=_CREDENTIALS_HINT)
    return user, password


_CREDENTIALS_HINT = "they are one line: user:password"


def _from_environment(name: str, environ: Mapping[str, str]) -> str:
    if name not in environ:
        raise BmcError(f"its credentials are in ${name}, which is not set", hint=f"export {name}=user:password")
    return environ[name].strip()


def _from_file(path: str, _: Mapping[str, str]) -> str:
    from pathlib import Path

    return Path(path).expanduser().read_text(encoding="utf-8").split("\n", 1)[0].strip()


def _from_command(command: str, environ: Mapping[str, str]) -> str:
    import shlex
    import subprocess

    done = subprocess.run(
        shlex.split(command), env=dict(environ), stdin=subprocess.DEVNULL, capture_output=True, timeout=30, check=False
    )
    if done.returncode:
        raise BmcError(f"the command that gives its credentials ended with {done.returncode}", hint=_CREDENTIALS_HINT)
    return done.stdout.decode("utf-8", "replace").split("\n", 1)[0].strip()


_SOURCES: dict[str, Callable[[str, Mapping[str, str]], str]] = {
    "env": _from_environment,
    "file": _from_file,
    "command": _from_command,
}


class Controller:
    """One host's system at its BMC. Every method takes at most ``timeout`` and raises :class:`BmcError`."""

    def __init__(self, bmc: Bmc | None, environ: Mapping[str, str], timeout: timedelta) -> None:
        if bmc is None:
            raise BmcError("it has no BMC declared", hint="bmhctl set HOST --bmc redfish+https://…")
        self._where = endpoint(bmc)
        self._deadline = time.monotonic() + timeout.total_seconds()
        self._seconds = timeout.total_seconds()
        login = credentials(bmc.credentials, environ)
        self._system: System = self._asked(lambda: self._open(bmc, login))

    def power(self) -> str:
        """``on``, ``off``, or ``unknown``."""
        self._asked(lambda: self._system.refresh(force=True))
        state = self._asked(lambda: self._system.power_state)
        return {"On": "on", "Off": "off"}.get(getattr(state, "value", ""), "unknown")

    def set_power(self, wanted: Power, cancelled: Event | None = None) -> str:
        """Switches, and waits until the state is there; a state lags its command by seconds."""
        import sushy

        before = self.power()
        goal = "off" if wanted is Power.OFF else "on"
        if before == goal and wanted is not Power.CYCLE:
            return before
        restart = wanted is Power.CYCLE and before != "off"
        reset = sushy.ResetType.ON if goal == "on" else sushy.ResetType.FORCE_OFF
        self._asked(lambda: self._system.reset_system(sushy.ResetType.FORCE_RESTART if restart else reset))
        while (state := self.power()) != goal:
            if time.monotonic() + _POLL > self._deadline:
                raise BmcError(f"is still {state}, not {goal}, after {self._seconds:g} s")
            if cancelled is not None and cancelled.wait(_POLL):
                raise BmcError("was interrupted")
            if cancelled is None:
                time.sleep(_POLL)
        return state

    def reset(self, kind: str) -> None:
        """Sends a reset of Redfish's own name, such as ``ForceRestart`` or ``Nmi``."""
        import sushy

        self._asked(lambda: self._system.reset_system(sushy.ResetType(kind)))

    def health(self) -> str:
        """``OK``, ``Warning``, ``Critical``, or ``unknown`` when the BMC reports none."""
        status = self._asked(lambda: self._system.status)
        health = getattr(status, "health", None)
        return str(health.value) if health is not None else "unknown"

    def inventory(self) -> dict[str, Fact]:
        """What the BMC knows of the hardware, as facts that selectors see; only what it reports."""
        system = self._system
        found: dict[str, Fact] = {}
        for key, name in (("vendor", "manufacturer"), ("model", "model"), ("serial", "serial_number")):
            value = self._asked(lambda name=name: getattr(system, name, None))  # type: ignore[misc]  # the loop's own name
            if isinstance(value, str) and value.strip():
                found[key] = value.strip()
        memory = self._asked(lambda: system.memory_summary)
        if memory is not None and memory.size_gib:
            found["memory"] = f"{int(memory.size_gib)}GiB"
        summary = self._asked(lambda: system.json.get("ProcessorSummary") or {})
        if isinstance(summary.get("Count"), int):
            found["cpus"] = summary["Count"]
        found["health"] = self.health()
        return found

    def _open(self, bmc: Bmc, login: tuple[str, str] | None) -> System:
        import logging
        import warnings

        try:
            import sushy
            import urllib3
        except ImportError as error:
            raise BmcError("sushy is not installed", hint="pip install 'bmhctl[redfish]'") from error
        logging.getLogger("sushy").addHandler(logging.NullHandler())
        logging.getLogger("sushy").propagate = False  # its warnings are told as errors, where they are any
        if not bmc.verify_tls:
            warnings.simplefilter("ignore", urllib3.exceptions.InsecureRequestWarning)
        root = sushy.Sushy(
            self._where.url,
            verify=bmc.verify_tls,
            auth=None if login is None else sushy.auth.BasicAuth(*login),
            server_side_retries=0,
            server_side_retries_delay=0,
            read_timeout=self._seconds,
            connect_timeout=self._seconds,
        )
        if self._where.system is not None:
            return root.get_system(self._where.system)
        members = root.get_system_collection().members_identities
        if len(members) != 1:
            raise BmcError(
                f"its BMC at {self._where.url} has {len(members)} systems: which one is it?",
                hint="bmhctl set HOST --bmc-system ID; they are "
                + ", ".join(m.rsplit("/", 1)[-1] for m in members[:5]),
            )
        return root.get_system(members[0])

    def _asked(self, question: Callable[[], _T]) -> _T:
        import json

        try:
            import requests
            from sushy import exceptions
        except ImportError:
            raise BmcError("sushy is not installed", hint="pip install 'bmhctl[redfish]'") from None
        where = self._where.url
        try:
            return question()
        except exceptions.AccessError:
            raise BmcError(
                f"its BMC at {where} rejects the credentials", hint="look at its credentials' reference"
            ) from None
        except (exceptions.ConnectionError, requests.RequestException) as error:
            raise BmcError(f"its BMC at {where} {_reason(str(error), self._seconds)}") from None
        except exceptions.ResourceNotFoundError:
            raise BmcError(f"its BMC at {where} has no system {self._where.system}") from None
        except exceptions.SushyError as error:
            raise BmcError(f"its BMC at {where} refuses: {str(error)[:200]}") from None
        except (json.JSONDecodeError, AttributeError, TypeError, KeyError, ValueError) as error:
            raise BmcError(f"what answers at {where} is no Redfish service ({type(error).__name__})") from None


def _reason(said: str, seconds: float) -> str:
    low = said.lower()
    if "certificate" in low or "ssl" in low:
        return "has a TLS certificate that can't be verified; verify_tls = false skips that"
    if "timed out" in low or "timeout" in low:
        return f"did not answer in {seconds:g} s"
    if "refused" in low:
        return "refuses connections"
    if "resolve" in low or "name or service" in low:
        return "can't be found: its name does not resolve"
    return f"can't be reached: {said[:160]}"
