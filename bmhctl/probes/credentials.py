"""Read the user and the password of a BMC from the place that the inventory names."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from bmhctl.errors import BmhctlError, ExitStatus
from bmhctl.probes.cancellation import InterruptedStepError, within
from bmhctl.probes.step_environment import StepEnvironment

_HINT = "credentials are one line: user:password"


class BmcError(BmhctlError):
    """A BMC that can't be reached, understood or controlled; the message says which and never shows a secret."""

    status = ExitStatus.STEP_FAILED
    code = "bmc"

    def name_host(self, name: str) -> None:
        """Replace ``HOST`` in the command of the hint by the host's name."""
        if self.hint is not None:
            self.hint = self.hint.replace(" HOST ", f" {name} ")


def credentials(reference: str | None, environment: StepEnvironment, seconds: float) -> tuple[str, str] | None:
    """Return user and password from a reference (``env:``, ``file:``, ``command:``): one line, ``user:password``.

    Files and commands are relative to the environment's folder. Raises :class:`BmcError` if there are no credentials;
    the error never shows the user or the password.
    """
    if reference is None:
        return None
    kind, _, what = reference.partition(":")
    try:
        line = _SOURCES[kind](what, environment, seconds)
    except (OSError, ValueError) as error:
        said = getattr(error, "strerror", None) or type(error).__name__
        raise BmcError(f"its credentials {kind}:{what} can't be read: {said}", hint=_HINT) from None
    user, _, password = line.removeprefix("\ufeff").split("\n", 1)[0].strip().partition(":")
    if not user or not password:  # for example an empty variable: a login with it would count as a failed login
        raise BmcError(f"its credentials {kind}:{what} hold no user:password", hint=_HINT)
    return user, password


def _from_environment(name: str, environment: StepEnvironment, _: float) -> str:
    if name not in environment.environ:
        raise BmcError(f"its credentials are in ${name}, which is not set", hint=f"export {name}=user:password")
    return environment.environ[name]


def _from_file(path: str, environment: StepEnvironment, seconds: float) -> str:
    file = Path(environment.folder) / Path(path).expanduser()
    # Reading a named pipe, or a file on a server that does not answer, may never end.
    return within(seconds, environment.cancelled, lambda: file.read_text(encoding="utf-8"))


def _from_command(command: str, environment: StepEnvironment, seconds: float) -> str:
    import shlex
    import subprocess

    from bmhctl.probes.command import call

    if not shlex.split(command):
        raise ValueError
    ended = call(shlex.split(command), environment, seconds, stderr=subprocess.DEVNULL)
    if environment.cancelled.is_set():
        raise InterruptedStepError
    if ended.status != 0:
        raise BmcError(f"the command that gives its credentials: {ended.words(seconds)}", hint=_HINT)
    return ended.output.decode("utf-8")


_SOURCES: dict[str, Callable[[str, StepEnvironment, float], str]] = {
    "env": _from_environment,
    "file": _from_file,
    "command": _from_command,
}
