"""Programs that are no Python packages, and that a developer's machine may lack."""

from __future__ import annotations

import os
import shutil

import pytest

ALL_THERE = "BMHCTL_TEST_PROGRAMS"
"""Set by ``.ci/run`` to ``all`` where it installed them: there, a test that lacks one fails."""


def needs(*programs: str) -> pytest.MarkDecorator:
    """Skip a test where one of these programs is missing."""
    missing = [program for program in programs if shutil.which(program) is None]
    skipped = bool(missing) and os.environ.get(ALL_THERE) != "all"
    return pytest.mark.skipif(skipped, reason=f"no {', '.join(missing)} here")
