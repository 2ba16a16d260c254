"""The lock on edits of a TOML file, in a process that forks."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

from bmhctl.errors import UnreachableError
from bmhctl.stores.toml import atomic_replace
from bmhctl.stores.toml.atomic_replace import edits_locked


def test_a_fork_during_an_edit_does_not_keep_the_lock_on_edits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(atomic_replace, "LOCK_PATIENCE", 0)
    with edits_locked(tmp_path / "lab.toml"):
        fork = os.fork()
        if not fork:
            signal.pause()
    try:
        with edits_locked(tmp_path / "lab.toml"):
            pass
    finally:
        os.kill(fork, signal.SIGKILL)
        os.waitpid(fork, 0)


def test_a_fork_that_returns_through_an_edit_leaves_the_lock_to_its_parent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(atomic_replace, "LOCK_PATIENCE", 0)
    fork = -1
    try:
        with edits_locked(tmp_path / "lab.toml"):
            fork = os.fork()
            if fork:
                assert os.waitpid(fork, 0)[1] == 0
                with pytest.raises(UnreachableError), edits_locked(tmp_path / "lab.toml"):
                    pass
    finally:
        if fork == 0:
            os._exit(sys.exc_info()[0] is not None)
