"""Parse TOML from untrusted text, or raise an error that names the line."""

from __future__ import annotations

import re

from bmhctl.errors import InvalidError

MOST_PARTS = 64
"""The most parts of a dotted key; the time and memory that ``tomllib`` needs grow with the square of their number."""

_PART = r"""(?:[A-Za-z0-9_-]++|"(?:[^"\\\n]++|\\.)*+"|'[^'\n]*+')"""
_DOT = r"[ \t]*+\.[ \t]*+"
_TOKEN = re.compile(
    # Strings and comments are skipped whole, so that no dot in them counts; an unterminated string takes the rest.
    rf'(?P<long>{_PART}(?:{_DOT}{_PART}){{{MOST_PARTS}}})|"""(?:[^"\\]++|\\.|"(?!""))*+"{{0,5}}'
    r"""|'''(?:[^']++|'(?!''))*+'{0,5}|"(?:[^"\\\n]++|\\.)*+"?|'[^'\n]*+'?|#[^\n]*+|[A-Za-z0-9_-]++""",
    re.S,
)


def load(text: str, name: str) -> dict[str, object]:
    """Return the tables of a TOML text; ``name`` is the file's name in messages.

    Raises :class:`InvalidError` for a text that is not TOML, and for nesting and numbers beyond Python's limits. Its
    message begins with ``name:line:column:``, or with ``name:`` when the position is not known.
    """
    import tomllib

    _refuse_long_keys(text, name)
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        match = re.fullmatch(r"(.*) \(at (?:line (\d+), column (\d+)|end of document)\)", str(error), re.S)
        if not match:
            raise InvalidError(f"{name}: {error}", details={"file": name}) from error
        said, line, column = match.groups()
        if said.startswith("Cannot declare ("):
            said = ".".join(re.findall(r"'([^']*)'", said)) + " is declared twice"
        at = (int(line), int(column)) if line else position(text, len(text))
        raise broken(said, name, *at) from error
    except RecursionError as error:
        raise InvalidError(f"{name}: its values are nested too deeply", details={"file": name}) from error
    except ValueError as error:  # for example, a number with more digits than Python reads
        raise InvalidError(f"{name}: {error}", details={"file": name}) from error


def _refuse_long_keys(text: str, name: str) -> None:
    if all(line.count(".") < MOST_PARTS for line in text.split("\n")):  # a key never continues on the next line
        return
    for token in _TOKEN.finditer(text):
        if token["long"]:
            raise broken(f"a key of more than {MOST_PARTS} parts", name, *position(text, token.start()))


def position(text: str, offset: int) -> tuple[int, int]:
    """Return the line and column of an offset in a text, both counted from 1."""
    return text.count("\n", 0, offset) + 1, offset - text.rfind("\n", 0, offset)


def broken(said: str, name: str, line: int, column: int, hint: str | None = None) -> InvalidError:
    """Return the error for a mistake at one position of a file; ``said`` describes the mistake."""
    details = {"file": name, "line": line, "column": column}
    return InvalidError(f"{name}:{line}:{column}: {said}", hint=hint, details=details)
