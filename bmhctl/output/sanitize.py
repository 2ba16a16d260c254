"""Make untrusted text harmless for terminals, and measure it in terminal cells."""

from __future__ import annotations

_KEPT = frozenset("\u00a0\u3000\u200c\u200d")  # harmless spaces and joiners that Asian scripts and emoji need


def clean(text: str) -> str:
    r"""Return the text with escapes for characters that could control a terminal or hide: ``\x1b``, ``\u202e``, ``\n``.

    These are control characters, escape sequences, bidi overrides, invisible characters and lone surrogates. The result
    is always one line.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in _KEPT else c.encode("unicode_escape").decode() for c in text)


def clean_lines(text: str) -> list[str]:
    """Return a text like :func:`clean`, but with its line breaks, for longer texts of bmhctl."""
    return [clean(line) for line in text.split("\n")]


def cell_width(text: str) -> int:
    """Return how many terminal cells a clean text takes."""
    if text.isascii():
        return len(text)
    from unicodedata import combining, east_asian_width

    return sum(
        0 if combining(c) or c in "\u200c\u200d\ufe0e\ufe0f" else 2 if east_asian_width(c) in "WF" else 1 for c in text
    )


def pad(text: str, width: int) -> str:
    """Return the text with spaces up to ``width`` cells; a longer one is returned whole."""
    return text + " " * (width - cell_width(text))


def shorten(text: str, width: int, ellipsis: str = "…") -> str:
    """Return the text cut to ``width`` cells, with a mark at its end if it was cut."""
    if cell_width(text) <= width:
        return text
    room = width - len(ellipsis)
    kept = ""
    for c in text:
        room -= cell_width(c)
        if room < 0:
            break
        kept += c
    return (kept.rstrip() + ellipsis)[: max(width, 0)]
