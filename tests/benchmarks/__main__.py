"""Measures the cost of bmhctl, each figure beside its floor, the time of the smallest program that does the same work.

    python -m tests.benchmarks [NAME…] [--quick] [--rounds N] [--json FILE]

A NAME is the name of a figure, or a pattern: start/db-1000/list-oname, 'start/*', 'bulk/*'. Without a NAME, all figures
are measured, which takes a quarter of an hour or more and some gigabytes of disk. --quick takes minutes: it measures
three rounds, with smaller inventories if the ratio does not depend on the size. Exit status 1: a figure misses its
bound.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from fnmatch import fnmatch
from pathlib import Path

from tests.benchmarks import (
    booking,
    bulk,
    formats,
    looping,
    reading,
    rechecking,
    report,
    reserving,
    serving,
    starting,
    streaming,
    telling,
    waiting,
)
from tests.benchmarks.harness import Bench, Figure, Series

FAMILIES = (
    starting,
    reserving,
    booking,
    serving,
    bulk,
    streaming,
    reading,
    formats,
    telling,
    waiting,
    looping,
    rechecking,
)

FIGURES: tuple[Figure, ...] = tuple(figure for family in FAMILIES for figure in family.FIGURES)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="a figure, or a pattern of some")
    parser.add_argument("--list", action="store_true", help="say which figures there are")
    parser.add_argument(
        "--quick", action="store_true", help="three rounds, smaller inventories where the ratio allows it"
    )
    parser.add_argument(
        "--rounds", type=int, metavar="N", help="at most so many rounds (default: 15, or 3 with --quick)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all samples there, too")
    options = parser.parse_args()
    chosen = [figure for figure in FIGURES if _is_named(figure, options.names)]
    if not chosen:
        parser.error("no figure has that name: --list shows all")
    if options.list:
        for figure in chosen:
            print(f"{figure.name:32} {figure.about}")
        return 0
    found: list[tuple[Figure, Series]] = []
    with tempfile.TemporaryDirectory(prefix="bmhctl-bench-") as folder:
        bench = Bench(Path(folder), options.rounds or (3 if options.quick else 15), options.quick)
        print(report.HEAD, flush=True)
        for figure in chosen:
            found.append((figure, figure.measure(bench)))
            print(report.line(*found[-1]), flush=True)
    if options.json:
        options.json.write_text(report.document(found))
    return int(any(figure.is_kept(series) is False for figure, series in found) and not options.quick)


def _is_named(figure: Figure, names: list[str]) -> bool:
    return not names or any(fnmatch(figure.name, name) for name in names)


if __name__ == "__main__":
    sys.exit(main())
