"""Metrics as Prometheus reads them."""

from __future__ import annotations

from bmhctl.output.prometheus import exposition
from bmhctl.output.render import TEXT, Display, View
from bmhctl.results.statistics import Metrics


def _write(result: Metrics, display: Display) -> bool:
    for line in exposition(result):
        display.write(line)
    return True


VIEWS = {Metrics: View(TEXT, write=_write)}
