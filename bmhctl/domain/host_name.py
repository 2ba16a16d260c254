"""The names of hosts: DNS names, compared without case and kept in lower case."""

from __future__ import annotations

from string import ascii_lowercase, ascii_uppercase

from bmhctl.errors import InvalidError
from bmhctl.support.lazy_regex import pattern

LONGEST_NAME = 253
"""The most characters of a host name; the limit of DNS names."""

AS_STORED = str.maketrans(ascii_uppercase, ascii_lowercase)
"""For ``name.translate(AS_STORED)``: turns a host's name, a pattern or a range of names into lower case.

Only ASCII letters change. ``str.lower`` would turn some other letters into ASCII ones, and so into valid names.
"""

_HOST_NAME = pattern(
    rf"(?=.{{1,{LONGEST_NAME}}}\Z)[A-Za-z0-9](?:[-A-Za-z0-9]{{0,61}}[A-Za-z0-9])?"
    r"(?:\.[A-Za-z0-9](?:[-A-Za-z0-9]{0,61}[A-Za-z0-9])?)*"
)


def check_name(name: object) -> str:
    """Return a host's name in lower case, because DNS names are compared without case.

    Raises :class:`InvalidError` for a text that is not a DNS name.
    """
    if not isinstance(name, str) or not _HOST_NAME.fullmatch(name):
        shown = repr(name)[:80]
        raise InvalidError(
            f"{shown} is not a host name",
            hint="a name is a DNS name: letters, digits and '-', dots between its parts, no '-' at their ends; "
            f"at most 63 characters a part and {LONGEST_NAME} in all",
            details={"key": "name"},
        )
    return name.lower()
