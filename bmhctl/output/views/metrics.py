"""Metrics as Prometheus reads them."""

from __future__ import annotations

from bmhctl.output.prometheus import exposition
from bmhctl.output.render import TEXT, Display, View
from bmhctl.results.statistics import Metrics


def _write(result: Metrics, display: Display) -> None:
    for line in exposition(result):
        display.write(line)


VIEWS = {Metrics: View(TEXT, writers=dict.fromkeys(TEXT, _write))}
