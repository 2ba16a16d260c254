"""The output streams, and what they can show: format, colour, width."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import TextIO

from bmhctl.support.values import Frozen, Words


class Format(Words):
    """What ``-o`` takes."""

    TABLE = "table"
    PLAIN = "plain"
    JSON = "json"
    JSONL = "jsonl"
    CSV = "csv"
    NAME = "name"
    TOML = "toml"
    MERMAID = "mermaid"
    DOT = "dot"
    SVG = "svg"
    METAL3 = "metal3"
    ANSIBLE = "ansible"
    SSH = "ssh"
    KNOWN_HOSTS = "known-hosts"
    DNSMASQ = "dnsmasq"
    NETBOX = "netbox"
    ICS = "ics"
    CLOUDEVENTS = "cloudevents"


class Display(Frozen):
    """Two streams, what they can show, and what the user asked for.

    ``format`` is None where none was asked for: see :attr:`shown`. ``colour`` and ``error_colour`` are for stdout and
    stderr, and so are ``width`` and ``error_width``. ``forced``: ``FORCE_COLOR`` asks for what a terminal shows;
    ``watched``: so does a program that gives its width, such as ``watch``.
    """

    stdout: TextIO
    stderr: TextIO
    stdout_tty: bool = False
    stderr_tty: bool = False
    width: int = 80
    colour: bool = False
    error_colour: bool = False
    quiet: bool = False
    verbose: bool = False
    format: Format | None = None
    error_width: int = 80
    forced: bool = False
    watched: bool = False

    @classmethod
    def from_environment(
        cls,
        environ: Mapping[str, str],
        stdout: TextIO,
        stderr: TextIO,
        *,
        quiet: bool = False,
        verbose: bool = False,
    ) -> Display:
        """Return what these streams can show, by ``NO_COLOR``, ``FORCE_COLOR``, ``TERM`` and ``COLUMNS``.

        ``NO_COLOR`` wins over ``FORCE_COLOR``, which wins over ``TERM=dumb`` and over not being a terminal.
        """
        ttys = stdout.isatty(), stderr.isatty()
        forced = environ.get("FORCE_COLOR", "0") not in ("", "0") and not environ.get("NO_COLOR")
        watched = forced and "COLUMNS" in environ and not environ.get("CI")
        if environ.get("NO_COLOR"):
            colours = False, False
        elif forced:
            colours = True, True
        elif environ.get("TERM") == "dumb":
            colours = False, False
        else:
            colours = ttys
        widths = _width(environ, stdout), _width(environ, stderr)
        return cls(stdout, stderr, *ttys, widths[0], *colours, quiet, verbose, None, widths[1], forced, watched)

    @property
    def shown(self) -> Format:
        """Return the format in use: the one asked for, else a table on a terminal and plain in a pipe."""
        return self.format or (Format.TABLE if self.stdout_tty else Format.PLAIN)

    @property
    def machine(self) -> bool:
        """Whether failures are reported as JSON, too."""
        return self.format in (Format.JSON, Format.JSONL)

    @property
    def shows_progress(self) -> bool:
        """Whether a line of progress is shown: on a terminal, without ``--quiet`` and JSON."""
        return self.stderr_tty and not self.quiet and not self.machine

    @property
    def unicode(self) -> bool:
        """Whether stdout can write lines, arrows and glyphs."""
        return unicode_capable(self.stdout)

    def write(self, text: str) -> None:
        """Write to stdout; what its encoding does not have becomes an escape."""
        self.stdout.write(encodable(text, self.stdout))


def unicode_capable(stream: TextIO) -> bool:
    """Return whether the encoding of a stream has box drawings and glyphs."""
    return (stream.encoding or "utf-8").lower().replace("-", "").startswith("utf")


def encodable(text: str, stream: TextIO) -> str:
    """Return the text with escapes for what the encoding of the stream does not have, so that writing never fails."""
    if text.isascii() or unicode_capable(stream):
        return text
    return text.encode(stream.encoding, "backslashreplace").decode(stream.encoding)


def _width(environ: Mapping[str, str], stream: TextIO) -> int:
    columns = environ.get("COLUMNS", "")
    if re.fullmatch("[1-9][0-9]{0,4}", columns):
        return int(columns)
    try:
        return os.get_terminal_size(stream.fileno()).columns or 80
    except (OSError, ValueError, AttributeError):
        return 80
