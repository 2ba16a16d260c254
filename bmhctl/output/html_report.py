"""A report of the fleet as one HTML page that needs no other files; the only user of jinja2."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator, Sequence
from datetime import timedelta
from functools import partial
from hashlib import sha256
from importlib.resources import files

from bmhctl.domain.model import State
from bmhctl.domain.units import format_age
from bmhctl.errors import UsageError
from bmhctl.output.graph.timeline_svg import svg
from bmhctl.output.records import flags
from bmhctl.output.sanitize import clean
from bmhctl.output.spans import DAYS, ago, heat_level, heat_step, stamp, until
from bmhctl.results.statistics import Figures, Report
from bmhctl.support.folding import in_short
from bmhctl.support.values import Frozen

_WORST = 5
_CHART_WIDTH, _CHART_HEIGHT = 720, 120


class Bar(Frozen):
    """A bar of a chart: its coordinates, and its meaning in words."""

    x: float
    y: float
    width: float
    height: float
    words: str


def page(report: Report) -> str:
    """Return the page. It is readable without JavaScript and without its style, and loads no other files.

    Raises :class:`UsageError` if jinja2 is not installed.
    """
    try:
        import jinja2
    except ImportError:
        raise UsageError("a report needs jinja2, which is not installed", hint="pip install 'bmhctl[report]'") from None

    parts = files("bmhctl.output.templates")
    style, script = ((parts / name).read_text(encoding="utf-8") for name in ("report.css", "report.js"))
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters |= {
        "clean": clean,
        "stamp": stamp,
        "age": format_age,
        "percent": lambda share: "" if share is None else f"{share:.1%}",
        "in_short": in_short,
    }
    template = environment.from_string((parts / "report.html").read_text(encoding="utf-8"))
    now = report.status.now
    return template.render(
        report=report,
        status=report.status,
        now=now,
        style=style,
        script=script,
        style_hash=_hash(style),
        script_hash=_hash(script),
        states=[(state.value, report.status.counts.get(state, 0)) for state in State],
        total=sum(report.status.counts.values()),
        reasons=report.reasons.items,
        timeline=svg(report.timeline),
        use_bars=[*_use_bars(report)],
        wait_bars=[*_wait_bars(report)],
        chart=(_CHART_WIDTH, _CHART_HEIGHT),
        heat=[(day, [_cell(report, number, hour) for hour in range(24)]) for number, day in enumerate(DAYS)],
        heat_level=partial(heat_level, step=heat_step(report.hourly.share(*hour) for hour in report.hourly.cells)),
        worst=_worst(report.statistics.groups),
        flags=flags,
        ago=lambda at: ago(at, now),
        until=lambda at: until(at, now),
    )


def _hash(text: str) -> str:
    return "sha256-" + b64encode(sha256(text.encode()).digest()).decode()


def _worst(groups: Sequence[Figures]) -> list[Figures]:
    """Return the hosts with the most failures; those without any are left out."""

    def trouble(each: Figures) -> int:
        return (
            (each.failures or 0) * 3
            + (each.faults or 0) * 3
            + (each.failed_checks or 0)
            + (each.failed_cleanups or 0)
            + each.failed_tasks
        )

    return sorted((each for each in groups if trouble(each)), key=lambda each: (-trouble(each), each.name))[:_WORST]


def _use_bars(report: Report) -> Iterator[Bar]:
    width = _CHART_WIDTH / max(1, len(report.days))
    for place, day in enumerate(report.days):
        share = min(1.0, day.reserved / day.present) if day.present else 0.0
        yield _bar(place, width, share * _CHART_HEIGHT, f"{day.day:%a %d %b}: {share:.0%} reserved")


def _wait_bars(report: Report) -> Iterator[Bar]:
    longest = max((week.waits.p95 for week in report.weeks if week.waits), default=timedelta(0)) or timedelta(seconds=1)
    width = _CHART_WIDTH / max(1, len(report.weeks))
    for place, week in enumerate(report.weeks):
        if week.waits:
            height = week.waits.p95 / longest * _CHART_HEIGHT
            words = (
                f"week from {week.start:%d %b}: median {format_age(week.waits.median)}, "
                f"95 % within {format_age(week.waits.p95)}, of {week.waits.known}"
            )
        else:
            height, words = 0.0, f"week from {week.start:%d %b}: not known"
        yield _bar(place, width, height, words)


def _bar(place: int, width: float, height: float, words: str) -> Bar:
    top = _CHART_HEIGHT - height
    return Bar(round(place * width, 1), round(top, 1), round(width * 0.8, 1), round(height, 1), words)


def _cell(report: Report, day: int, hour: int) -> tuple[float | None, str]:
    share = report.hourly.share(day, hour)
    return share, f"{DAYS[day]} {hour:02}:00, " + ("not known" if share is None else f"{share:.0%} reserved")
