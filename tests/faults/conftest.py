"""Fixtures for the fault suites: the parent process of all commands, and a folder on the fastest disk."""

from __future__ import annotations

import os
import random
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import TypeVar

import pytest

from bmhctl import open_inventory
from bmhctl.usecases import inventories
from tests.conftest import SCALE, Lab, environment, made_in, make_empty
from tests.faults.forked_commands import ForkedCommands
from tests.faults.proxy import Proxy
from tests.faults.scenarios import FILES
from tests.faults.server_link import ServerLink
from tests.postgres import Server, drop_schema, schema_url
from tests.runner.conftest import Fleet, make_fleet

_T = TypeVar("_T")


@pytest.fixture
def forked() -> ForkedCommands:
    """Runs commands in processes that may be killed or starved."""
    return ForkedCommands(environment())


@pytest.fixture(scope="session")
def own_server() -> Iterator[Server]:
    """A server that a test may stop, freeze and kill; the test has to leave it running."""
    server = Server()
    try:
        server.start()
        yield server
    finally:
        server.remove()


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory, if possible: these tests check which syncs are requested, not the disk."""
    memory = Path("/dev/shm")
    place = memory if os.access(memory, os.W_OK) else tmp_path
    with tempfile.TemporaryDirectory(dir=place, prefix="bmhctl-faults-") as made:
        yield Path(made)


@pytest.fixture(params=FILES)
def file_lab(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Lab]:
    """An empty inventory, once on each backend that is a file."""
    made = Lab(tmp_path / FILES[request.param])
    make_empty(made.path)
    yield made
    made.close()


@pytest.fixture(params=FILES)
def fleet(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Fleet]:
    """node1 to node3, available, in a file, with a backup beside it."""
    for lab in made_in(request.param, tmp_path):
        made = make_fleet(lab)
        assert made.bmhctl("backup", "before.db").status == 0
        yield made
        for process in made.started:
            if process.poll() is None:
                process.kill()
            process.communicate()


def some(everything: Sequence[_T], seed: object, share: float = SCALE) -> list[_T]:
    """A sample of the items, the same in each run, with the first and the last; all of them at full scale."""
    if share >= 1 or len(everything) <= 2:
        return list(everything)
    dice = random.Random(str(seed))
    return [one for one in everything if one in (everything[0], everything[-1]) or dice.random() < share]


@pytest.fixture
def link(own_server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ServerLink]:
    """An inventory with an available host; commands wait only shortly for a server that does not answer."""
    for name, value in environment().items():
        monkeypatch.setenv(name, value)
    url = schema_url(own_server.url, tmp_path)
    inventories.init(url)
    with closing(Proxy(own_server.socket)) as proxy, open_inventory(url, actor="alice") as lab:
        lab.add("node1")
        lab.ready("node1")
        yield ServerLink(proxy, f"{proxy.through(url)}&connect_timeout=2", url, lab)
    drop_schema(url)
