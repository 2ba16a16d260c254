"""Figures as a table for people and as JSON for machines."""

from __future__ import annotations

import json
import os
import platform
import sqlite3
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib.metadata import version

from tests.benchmarks.harness import Figure, Series

HEAD = f"{'FIGURE':32}{'MEDIAN':>9}{'MIN':>9}{'MAX':>9}{'CPU':>8}{'BOUND':>9}  ROUNDS"


def line(figure: Figure, series: Series) -> str:
    """Return the line of a figure: its median, the spread, the ratio of processor times, the bound and the verdict."""
    unit = f" {figure.unit}" if figure.unit else ""
    cpu = Series(series.cpu).median if series.cpu else None
    bound = "" if figure.bound is None else f"{'≥' if figure.at_least else '≤'} {figure.bound:g}"
    mark = {True: "✓", False: "✗", None: " "}[figure.is_kept(series)]
    return (
        f"{figure.name:32}{series.median:9.3f}{min(series.samples):9.3f}{max(series.samples):9.3f}"
        f"{'' if cpu is None else format(cpu, '.3f'):>8}{bound:>9} {mark}{len(series.samples):>6}{unit}"
    )


def machine() -> dict[str, object]:
    """Return a description of the machine on which the figures were measured."""
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "typer": version("typer"),
        "cores": len(os.sched_getaffinity(0)),
        "system": platform.platform(),
    }


def document(found: Iterable[tuple[Figure, Series]]) -> str:
    """Return the JSON document of all figures with all their samples."""
    figures = [
        {
            "name": figure.name,
            "about": figure.about,
            "unit": figure.unit or "ratio",
            "bound": figure.bound,
            "at_least": figure.at_least,
            "is_kept": figure.is_kept(series),
            "median": series.median,
            "min": min(series.samples),
            "max": max(series.samples),
            "samples": list(series.samples),
            "cpu": list(series.cpu),
            "subject_seconds": list(series.subject),
            "floor_seconds": list(series.floor),
        }
        for figure, series in found
    ]
    return json.dumps({"version": 1, "machine": machine(), "figures": figures}, indent=2) + "\n"
