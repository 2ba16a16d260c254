"""Programs that are not Python packages, and that a developer's machine may lack."""

from __future__ import annotations

import os
import shutil

import pytest

REQUIRED = frozenset(os.environ.get("BMHCTL_TEST_PROGRAMS", "").split())
"""The programs that ``.ci/programs`` has installed: if one of these is missing, its tests fail."""


def needs(*programs: str) -> pytest.MarkDecorator:
    """Skip a test where one of these programs is missing, unless it has been installed for the tests."""
    missing = [program for program in programs if shutil.which(program) is None]
    return pytest.mark.skipif(bool({*missing} - REQUIRED), reason=f"no {', '.join(missing)} here")
