"""Draw the pictures of the README: the output of commands on a terminal, for a made-up lab.

    python tests/docs/pictures.py

The pictures are SVG with a background, so that they can be read on light and on dark pages.
"""

from __future__ import annotations

import io
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from html import escape
from pathlib import Path

from rich.console import Console
from rich.style import Style
from rich.text import Text

from bmhctl.domain.model import Host, HostSpec, Reservation, State
from bmhctl.output import Display, render
from bmhctl.results import Held
from bmhctl.results.statistics import HostTimeline, HourlyUse, Stay, Timeline
from bmhctl.results.status import Ending, Obstacle, Status

FOLDER = Path(__file__).parents[2] / "examples" / "pictures"

NOW = datetime(2026, 11, 23, 14, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)

_COLUMNS = 104
_CELL, _LINE, _PAD = 8, 18, 14
_FONT = "ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace"
_BACKGROUND, _PLAIN, _DIM = "#1c2128", "#d6dde6", "#8b98a8"
_COLOURS = ("", "#f47067", "#6bc46d", "#e0b252", "#6cb6ff", "#c297ff", "#76d9e6", "")  # by their numbers on terminals
_SOLID = {"█": "1", "░": "0.35"}  # drawn as bars without gaps, with this opacity


def pictures() -> dict[str, str]:
    """Return the SVG of each picture, by the name of its file."""
    with _in_utc():
        return {
            "status.svg": svg("bmhctl status", _shown(_status())),
            "timeline.svg": svg("bmhctl timeline --since 24h", _shown(_timeline())),
            "hours.svg": svg("bmhctl stats --by hour", _shown(_hours())),
        }


@contextmanager
def _in_utc() -> Iterator[None]:
    """Show local times in UTC for the block."""
    before = os.environ.get("TZ")
    os.environ["TZ"] = "UTC"
    time.tzset()
    try:
        yield
    finally:
        del os.environ["TZ"]
        if before is not None:
            os.environ["TZ"] = before
        time.tzset()


def _shown(result: object) -> str:
    """Return what a terminal gets, with its colours."""
    stdout = io.StringIO()
    render(result, Display(stdout, io.StringIO(), True, True, _COLUMNS, True, True))
    return stdout.getvalue()


def svg(command: str, output: str) -> str:
    """Return a command and its coloured output as a picture."""
    text = Text.from_ansi(f"$ {command}\n{output.rstrip()}")
    console = Console(file=io.StringIO(), width=_COLUMNS, color_system="standard", force_terminal=True, _environ={})
    lines = console.render_lines(text, console.options.update(no_wrap=True, overflow="ignore"), pad=False)
    size = f"{_COLUMNS * _CELL + 2 * _PAD} {len(lines) * _LINE + 2 * _PAD}"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size}" role="img" aria-label="{escape(command)}"'
        f' font-family="{_FONT}" font-size="13" fill="{_PLAIN}">',
        f'<rect width="100%" height="100%" rx="8" fill="{_BACKGROUND}"/>',
    ]
    for number, line in enumerate(lines):
        column = 0
        for segment in line:
            for word in re.finditer(r"[^ ]+", segment.text):
                parts.append(_word(word[0], segment.style or Style(), column + word.start(), number))
            column += segment.cell_length
    return "\n".join([*parts, "</svg>"]) + "\n"


def _word(word: str, style: Style, column: int, number: int) -> str:
    """Return a word in its style, exactly as wide as its cells in any font."""
    x, y, width = _PAD + column * _CELL, _PAD + number * _LINE, len(word) * _CELL
    colour = _COLOURS[style.color.number or 0] if style.color else ""
    fill = colour or (_DIM if style.dim else "")
    paint = f' fill="{fill}"' if fill else ""
    if word[0] in _SOLID and word == word[0] * len(word):
        opacity = _SOLID[word[0]]
        return f'<rect x="{x}" y="{y + 3}" width="{width}" height="{_LINE - 6}"{paint} fill-opacity="{opacity}"/>'
    bold = ' font-weight="bold"' if style.bold else ""
    fit = f' textLength="{width}" lengthAdjust="spacingAndGlyphs"' if len(word) > 2 else ""
    return f'<text x="{x}" y="{y + 13}"{fit}{paint}{bold}>{escape(word, quote=False)}</text>'


def _host(name: str, state: State = State.RESERVED) -> Host:
    return Host(HostSpec(name), state, NOW - 2 * HOUR)


def _held(identity: str, owner: str, purpose: str, hours: float, *names: str) -> Held:
    lease = Reservation(identity, owner, purpose, NOW - 2 * HOUR, NOW + hours * HOUR, 4 * HOUR)
    return Held(lease, tuple(map(_host, names)))


def _status() -> Status:
    nightly = _held("r-7k3m2b9x", "ci-linux@lab", "nightly", 1.5, *(f"node{number:02}" for number in range(5, 13)))
    debug = _held("r-2xq9c4mt", "alice@lab", "bisect of the boot hang", 3.25, "node03", "node14")
    board = _held("r-9ab1z7wd", "bob@lab", "driver bring-up", 20, "arm02", "switch01")
    return Status(
        "lab.toml",
        {State.INITIAL: 2, State.AVAILABLE: 21, State.RESERVED: 12, State.TAINTED: 3, State.MAINTENANCE: 2},
        20,
        ("node20",),
        (),
        ("node17",),
        (nightly, debug, board),
        (),
        (
            Ending(NOW + 1.5 * HOUR, "lease r-7k3m2b9x of ci-linux@lab", _names(nightly)),
            Ending(NOW + 3.25 * HOUR, "lease r-2xq9c4mt of alice@lab", ("node03", "node14")),
        ),
        NOW,
        2,
        obstacles=(
            Obstacle("fault", "fan 3 stopped", ("node17",)),
            Obstacle("maintenance", "new disks", ("node22", "node23")),
            Obstacle("cordoned", "kept for the kernel upgrade", ("node20",)),
        ),
    )


def _names(held: Held) -> tuple[str, ...]:
    """Return the names of the hosts of a reservation."""
    return tuple(host.name for host in held.hosts)


def _timeline() -> Timeline:
    since = NOW - 24 * HOUR

    def row(name: str, *stays: tuple[float, State], lease: float | None = None) -> HostTimeline:
        """Return the row of a host, with the hours at which it came into each state."""
        ends = [since + hours * HOUR for hours, _ in stays[1:]] + [NOW]
        made = (Stay(since + hours * HOUR, end, state) for (hours, state), end in zip(stays, ends, strict=True))
        return HostTimeline(name, tuple(made), "alice@lab" if lease else None, NOW + lease * HOUR if lease else None)

    free, held, dirty = State.AVAILABLE, State.RESERVED, State.TAINTED
    apart, new = State.MAINTENANCE, State.INITIAL
    return Timeline(
        since,
        NOW + 4 * HOUR,
        NOW,
        (
            row("arm01", (0, free), (3, held), (7, dirty), (8, new), (8.5, free), (15, held), (21, dirty)),
            row("arm02", (0, free), (18, held), lease=3.5),
            row("gpu01", (0, held), (5, dirty), (6, new), (6.5, free), (10, held), lease=1.5),
            row("node01", (0, free), (9, held), (13, dirty), (14, free)),
            row("node02", (0, free), (11, apart), (19, new), (20, free)),
            row("node03", (0, held), (9.5, dirty), (11, new), (11.5, free), (16, held), lease=2),
            row("node04", (0, dirty), (2, apart)),
            row("switch01", (0, free), (12, held), (17, dirty), (18, free), (22, held), lease=4),
        ),
        (),
        "lab.toml",
    )


def _hours() -> HourlyUse:
    """A lab that is busy by day and runs nightly tests."""
    cells = {
        (day, hour): 0.04 + (0.45 if hour in (1, 2, 3) else 0.0) + (0.0 if day > 4 else _by_day(day, hour))
        for day in range(7)
        for hour in range(24)
    }
    return HourlyUse(NOW - timedelta(days=30), NOW, NOW, {key: (share * 3600, 3600.0) for key, share in cells.items()})


def _by_day(day: int, hour: int) -> float:
    return max(0.0, 0.9 - 0.018 * (hour - 14) ** 2 - 0.05 * abs(day - 2)) if 7 <= hour < 21 else 0.0


def main() -> None:
    """Write the pictures that are not up to date."""
    FOLDER.mkdir(exist_ok=True)
    for name, text in pictures().items():
        path = FOLDER / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
            print(f"{path.name}: drawn")


if __name__ == "__main__":
    main()
