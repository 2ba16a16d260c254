"""The fast form of the suite: ``--fast`` leaves out slow tests, and runs each test on one backend only.

A plugin that ``tests/conftest.py`` names. It reports at the end what it left out. Without ``--fast`` the slow tests
come first, the slowest before all others and on different workers, so that at the end no worker still runs a slow test
while the others are idle. Most slow tests wait for other processes, so only every other worker starts with them.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Iterable
from itertools import groupby
from pathlib import Path

import pytest
from hypothesis import settings
from xdist.remote import Producer
from xdist.scheduler import LoadScheduling
from xdist.workermanage import WorkerController

SLOW, BACKEND = "slow", "in other backends"
SLOW_FOLDERS = ("tests/benchmarks", "tests/examples", "tests/faults", "tests/nemesis", "tests/runner")
"""Folders whose tests all count as slow."""

BACKENDS = frozenset({"toml", "sqlite", "postgres"})

_left_out: Counter[tuple[str, str]] = Counter()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--fast", action="store_true", help="leave out slow tests, and run each in one backend only")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "slow(seconds): takes about that many seconds; left out by --fast")
    if config.getoption("fast"):
        settings.register_profile("fast", parent=settings.get_profile("default"), max_examples=25)
        settings.load_profile("fast")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Skip slow folders with --fast, because collecting their tests takes as long as running many others."""
    folder = f"tests/{collection_path.name}"
    return True if config.getoption("fast") and collection_path.is_dir() and folder in SLOW_FOLDERS else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("fast"):
        items.sort(key=_seconds, reverse=True)
        workers = getattr(config, "workerinput", {}).get("workercount", 1)
        _spread(items, (workers + 1) // 2, config.getoption("maxschedchunk", None) or 0)
        return
    chosen: set[pytest.Item] = set()
    for tests in _by_backend(items):
        kept = [item for item in tests if not _is_slow(item)]
        if kept:
            chosen.add(kept[zlib.crc32(_name(kept[0]).encode()) % len(kept)])
        _left_out[_folder(tests[0]), SLOW] += len(tests) - len(kept)
        _left_out[_folder(tests[0]), BACKEND] += max(len(kept) - 1, 0)
    config.hook.pytest_deselected(items=[item for item in items if item not in chosen])
    items[:] = [item for item in items if item in chosen]


class BothEnds(LoadScheduling):
    """Gives every other worker tests from the end of the list, where the slow ones are not.

    If all workers started with the slow tests, they would wait at the same time. As each module's tests are on fewer
    workers, its fixtures are also made less often.
    """

    def _send_tests(self, node: WorkerController, num: int) -> None:
        if int(node.gateway.id.removeprefix("gw")) % 2:
            cut = max(len(self.pending) - num, 0)
            self.pending[:] = self.pending[cut:] + self.pending[:cut]
        super()._send_tests(node, num)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadScheduling | None:
    return BothEnds(config, log) if config.getvalue("dist") == "load" else None


def pytest_sessionfinish(session: pytest.Session) -> None:
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["left_out"] = [[*key, count] for key, count in _left_out.items()]


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: object) -> None:
    """Count the tests that a worker of pytest-xdist left out, because every worker collects all tests."""
    for folder, why, count in getattr(node, "workeroutput", {}).get("left_out", ()):
        _left_out[folder, why] = count


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if not config.getoption("fast"):
        return
    terminalreporter.section("left out by --fast")
    for why in (SLOW, BACKEND):
        counts = {folder: count for (folder, reason), count in sorted(_left_out.items()) if reason == why and count}
        folders = ", ".join(f"{folder} {count}" for folder, count in counts.items())
        terminalreporter.write_line(f"{sum(counts.values())} tests {why}: {folders}")
    terminalreporter.write_line(f"all tests in {', '.join(SLOW_FOLDERS)}")


def _is_slow(item: pytest.Item) -> bool:
    return item.get_closest_marker("slow") is not None or _folder(item).startswith(SLOW_FOLDERS)


def _seconds(item: pytest.Item) -> int:
    """Return about how many seconds a test takes: the value of its mark, else 1 if it is slow."""
    mark = item.get_closest_marker("slow")
    return mark.kwargs.get("seconds", 1) if mark else int(_folder(item).startswith(SLOW_FOLDERS))


def _spread(items: list[pytest.Item], workers: int, chunk: int) -> None:
    """Distribute the first tests over the workers, because pytest-xdist gives each worker a chunk of neighbours."""
    first = items[: workers * chunk]
    items[: len(first)] = [item for worker in range(workers) for item in first[worker::workers]]


def _by_backend(items: list[pytest.Item]) -> Iterable[list[pytest.Item]]:
    """Return the tests in groups: those of a group differ only in their backend."""
    ordered = sorted(items, key=_name)
    return ([*group] for _, group in groupby(ordered, _name))


def _name(item: pytest.Item) -> str:
    """A test's name without its backend."""
    name, bracket, parameters = item.nodeid.partition("[")
    others = (part for part in parameters.rstrip("]").split("-") if part not in BACKENDS)
    return f"{name}{bracket}{'-'.join(others)}"


def _folder(item: pytest.Item) -> str:
    return item.nodeid.partition("::")[0].rpartition("/")[0]
