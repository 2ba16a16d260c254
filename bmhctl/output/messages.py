"""Errors and questions for people, on stderr."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import TextIO

from bmhctl.errors import BmhctlError
from bmhctl.output.render import Display, encodable, folded_text
from bmhctl.output.sanitize import clean, clean_lines

_FEW_HOSTS = 3  # the number of hosts with the same error up to which each has its own line


def report(error: BmhctlError, display: Display) -> None:
    """Write an error to stderr: each host and what to do next, or one JSON object in JSON mode.

    Many hosts that failed for the same reason share a line. A stderr that is closed or full is ignored, because no
    other stream could report it.
    """
    with suppress(OSError):
        if display.machine:
            import json

            from bmhctl.output.records import error_document

            display.stderr.write(json.dumps(error_document(error)) + "\n")
        else:
            lines = _error_lines(
                error, display.error_width if display.stderr_tty else None, colour=display.error_colour
            )
            display.stderr.write(encodable("".join(lines), display.stderr))
        display.stderr.flush()


def ask(question: str, display: Display) -> None:
    """Write a question to stderr that a person at the terminal answers with yes or no."""
    lines = [line for text in clean_lines(question) for line in folded_text(text, display.error_width)]
    display.stderr.write(encodable("\n".join(lines) + "\ngo on? [y/N] ", display.stderr))
    display.stderr.flush()


def silence(stream: TextIO) -> None:
    """After a :class:`BrokenPipeError`, point the stream at /dev/null, so that the interpreter ends quietly."""
    with suppress(OSError, ValueError):
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, stream.fileno())
        os.close(nothing)


def _painted(text: str, code: str, *, colour: bool) -> str:
    return f"\x1b[{code}m{text}\x1b[0m" if colour else text


def _grouped(reasons: Sequence[tuple[str, str]]) -> Iterable[tuple[Sequence[str], str]]:
    """Yield each reason with its hosts; if there are few hosts, repeat the reason for each."""
    groups: dict[str, list[str]] = {}
    for host, reason in reasons:
        groups.setdefault(reason, []).append(host)
    for reason, hosts in groups.items():
        if len(hosts) > _FEW_HOSTS and all(hosts):
            from bmhctl.support.folding import folded

            yield folded(hosts), reason
        else:
            yield from (([host], reason) for host in hosts)


def _hints(hints: Sequence[tuple[str, str]]) -> Iterable[str]:
    """Yield each hint once; of hints that differ only in the host's name, yield the first and count the others."""
    texts = dict.fromkeys(hint for _, hint in hints)
    if len(texts) <= _FEW_HOSTS:
        yield from texts
        return
    alike: dict[tuple[str, ...], dict[str, None]] = {}
    for host, hint in hints:
        alike.setdefault(tuple(" " if word == host else word for word in hint.split(" ")), {})[hint] = None
    for same in alike.values():
        more = f" (likewise for {len(same) - 1} more)" if len(same) > 1 else ""
        yield f"{next(iter(same))}{more}"


def _error_lines(error: BmhctlError, width: int | None, *, colour: bool) -> Iterable[str]:
    each = error.details.get("errors")
    if not isinstance(each, list):
        each = [{"host": error.host, "message": error.message, "hint": error.hint}]
    for hosts, message in _grouped([(str(one.get("host") or ""), str(one["message"])) for one in each]):
        host = f"{clean(' '.join(hosts))}: " if any(hosts) else ""
        said = _painted("bmhctl:", "1;31", colour=colour) + " " + (_painted(host, "1", colour=colour) if host else "")
        yield from _said(said, len("bmhctl: ") + len(host), message, width)
    for hint in _hints([(str(one.get("host") or ""), str(one["hint"])) for one in each if one.get("hint")]):
        yield from _said(_painted("hint:", "1;36", colour=colour) + " ", len("hint: "), hint, width)


def _said(beginning: str, used: int, text: str, width: int | None) -> Iterable[str]:
    """Yield the lines of a text after a ``beginning`` that takes ``used`` cells; its own further lines are indented."""
    first, *rest = clean_lines(text)
    first, *more = folded_text(first, width, used)
    yield f"{beginning}{first}\n"
    yield from (f"{line}\n" for line in (*more, *(f"  {line}" for line in rest)))
