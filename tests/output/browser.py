"""Chromium without a window, driven through a pipe by its own protocol: no driver, no port, no network."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from base64 import b64decode
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

_OPTIONS = (
    *("--headless=new", "--remote-debugging-pipe", "--no-first-run", "--disable-gpu", "--disable-dev-shm-usage"),
    *("--disable-background-networking", "--disable-extensions", "--disable-sync", "--mute-audio", "--no-sandbox"),
)
"""Chromium runs without its sandbox, which root can't use; it opens only the pages of the tests."""

_START = """\
import fcntl, os, sys
pipes = [fcntl.fcntl(int(number), fcntl.F_DUPFD, 10) for number in sys.argv[1:3]]
for number, pipe in enumerate(pipes, 3):
    os.dup2(pipe, number)
os.execv(sys.argv[3], sys.argv[3:])
"""
"""Chromium reads commands from its descriptor 3 and writes answers to 4."""


class Page:
    """One tab of the browser; ``said`` are the warnings and errors on its console."""

    def __init__(self, commands: int, answers: int) -> None:
        self.said: list[str] = []
        self._commands = commands
        self._answers = answers
        self._read = b""
        self._numbers = count(1)
        self._session: str | None = None
        self._events: set[str] = set()
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.ask(f"{domain}.enable")

    def ask(self, method: str, **parameters: object) -> dict[str, Any]:
        """Return the browser's answer to one command; raise what it refuses."""
        number = next(self._numbers)
        request = {"id": number, "method": method, "params": parameters, "sessionId": self._session}
        text = json.dumps({key: value for key, value in request.items() if value is not None})
        os.write(self._commands, text.encode() + b"\0")
        while (message := self._message()).get("id") != number:
            self._note(message)
        if "error" in message:
            raise RuntimeError(f"{method}: {message['error']['message']}")
        answer: dict[str, Any] = message["result"]
        return answer

    def open(self, path: Path) -> None:
        """Open a file, and wait until it is loaded."""
        self.said.clear()
        self._events.clear()
        self.ask("Page.navigate", url=path.as_uri())
        while "Page.loadEventFired" not in self._events:
            self._note(self._message())

    def run(self, script: str) -> Any:
        """Return the result of a script in the page; promises are awaited."""
        done = self.ask("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in done:
            raise RuntimeError(done["exceptionDetails"]["exception"].get("description", "an exception in the page"))
        return done["result"].get("value")

    def resize(self, width: int, height: int = 900, *, dark: bool = False, media: str = "") -> None:
        """Show pages as on a screen of this width, or as printed."""
        self.ask("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.ask("Emulation.setEmulatedMedia", media=media, features=[scheme])

    def picture(self, path: Path) -> None:
        """Write the whole page as a PNG."""
        shown = self.ask("Page.captureScreenshot", captureBeyondViewport=True, format="png")
        path.write_bytes(b64decode(shown["data"]))

    def _message(self) -> dict[str, Any]:
        while b"\0" not in self._read:
            more = os.read(self._answers, 1 << 20)
            if not more:
                raise RuntimeError("the browser has ended")
            self._read += more
        text, _, self._read = self._read.partition(b"\0")
        message: dict[str, Any] = json.loads(text)
        return message

    def _note(self, message: dict[str, Any]) -> None:
        method, parameters = message.get("method", ""), message.get("params", {})
        self._events.add(method)
        if method == "Runtime.exceptionThrown":
            self.said.append(parameters["exceptionDetails"]["text"])
        elif method == "Log.entryAdded":
            self.said.append(parameters["entry"]["text"])
        elif method == "Runtime.consoleAPICalled":
            self.said.append(str(parameters["args"]))
        elif method == "Page.javascriptDialogOpening":
            self.said.append(parameters["message"])


@contextmanager
def browser(program: str, folder: Path) -> Iterator[Page]:
    """A browser with one tab for the block; its profile is in the folder."""
    commands, to_browser = os.pipe()
    from_browser, answers = os.pipe()
    line = [sys.executable, "-c", _START, f"{commands}", f"{answers}", program, *_OPTIONS, f"--user-data-dir={folder}"]
    with subprocess.Popen(
        [*line, "about:blank"],
        pass_fds=(commands, answers),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "HOME": str(folder)},
    ) as process:
        os.close(commands)
        os.close(answers)
        try:
            page = Page(to_browser, from_browser)
            yield page
            page.ask("Browser.close")
        finally:
            os.close(to_browser)
            os.close(from_browser)
            process.wait(10)
