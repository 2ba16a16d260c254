"""A disk that can't be read for a while: it is not reported as gone or damaged, and waits go on."""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bmhctl import open_inventory
from bmhctl.errors import AwayError, InvalidError, MovedError
from bmhctl.stores.sqlite.errors import translate
from tests.conftest import FILES, Lab, made_in
from tests.processes import spawn

FAILING = (errno.EIO, errno.ESTALE)

RUN = """
import errno, os, sys

flag, real = sys.argv.pop(1), os.stat

def stat(path, *args, **kwargs):
    if isinstance(path, (str, os.PathLike)) and "lab." in os.fspath(path) and os.access(flag, os.F_OK):
        raise OSError(errno.EIO, os.strerror(errno.EIO), path)
    return real(path, *args, **kwargs)

os.stat = stat
from bmhctl.__main__ import main

sys.exit(main())
"""


@pytest.fixture(params=FILES)
def lab(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Lab]:
    for made in made_in(request.param, tmp_path):
        with open_inventory(made.location, actor="alice") as inventory:
            inventory.add("node1")
            inventory.ready("node1")
        yield made


@contextmanager
def no_look_at(folder: Path, number: int) -> Iterator[None]:
    """Makes ``stat`` fail for every file in a folder."""
    real: Callable[..., os.stat_result] = os.stat

    def fail(path: object, *args: object, **kwargs: object) -> os.stat_result:
        if isinstance(path, str | os.PathLike) and str(os.fspath(path)).startswith(f"{folder}/lab."):
            raise OSError(number, os.strerror(number), path)
        return real(path, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "stat", fail)
        yield


@pytest.mark.parametrize("number", FAILING, ids=errno.errorcode.get)
def test_an_inventory_that_cannot_be_read_for_a_while_is_not_reported_as_gone(
    lab: Lab, number: int, tmp_path: Path
) -> None:
    with open_inventory(lab.location, actor="alice") as inventory:
        for act in (inventory.hosts, lambda: inventory.reserve("node1")):
            with no_look_at(tmp_path, number), pytest.raises(AwayError, match=os.strerror(number)) as refused:
                act()
            assert not isinstance(refused.value, MovedError)
        assert inventory.reserve("node1").hosts[0].name == "node1"


@pytest.mark.parametrize("number", FAILING, ids=errno.errorcode.get)
def test_opening_an_inventory_that_cannot_be_read_reports_it_as_unreachable(
    lab: Lab, number: int, tmp_path: Path
) -> None:
    with no_look_at(tmp_path, number), pytest.raises(AwayError, match=os.strerror(number)):
        open_inventory(lab.location).close()


def test_an_unreadable_disk_is_not_reported_as_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "lab.db"
    path.write_bytes(b"SQLite format 3\0")
    said = sqlite3.DatabaseError("database disk image is malformed")
    said.sqlite_errorcode = sqlite3.SQLITE_CORRUPT  # SQLite reports a disk error (EIO) with this code, too
    assert isinstance(translate(said, path), InvalidError)

    def fail(*_: object) -> bytes:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "pread", fail)
    assert isinstance(translate(said, path), AwayError)


@pytest.mark.slow
def test_a_run_survives_a_disk_that_cannot_be_read_for_a_while(lab: Lab, tmp_path: Path) -> None:
    flag = tmp_path / "flag"
    task = f"touch {flag}; sleep 3; rm {flag}"  # longer than run tolerates a missing file
    run = spawn(
        "-c", RUN, str(flag), "-i", lab.location, "run", "--host", "node1", "--ttl", "30s", "--", "sh", "-c", task
    )
    _, err = run.communicate(timeout=30)
    assert (run.returncode, err) == (0, "")
