"""A fixture for the tests of the use cases: no process of the machine is taken for a task."""

from __future__ import annotations

from collections.abc import Iterator
from unittest import mock

import pytest

from bmhctl.support import left_tasks
from bmhctl.usecases.doctor import examine


@pytest.fixture(autouse=True, scope="module")
def no_left_task() -> Iterator[None]:
    """Finds no task that is left: no test here leaves one, and to look reads the environment of every process.

    The tests of ``run`` leave tasks, and look for them in the real commands.
    """
    with mock.patch.object(left_tasks, "left_tasks", dict), mock.patch.object(examine, "left_tasks", dict):
        yield
