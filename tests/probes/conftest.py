"""Fixtures for the tests of the probes."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from bmhctl.domain.model import CheckResult, HostSpec, Phase
from bmhctl.domain.policy_parser import parse_policy
from bmhctl.probes import run
from bmhctl.probes.step_environment import StepEnvironment
from tests.probes.servers import make_certificate

Probe = Callable[..., tuple[str, str]]
"""Runs one step, given as its TOML entry, against a host; returns its verdict and its detail."""


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def probe(tmp_path: Path) -> Probe:
    def call(
        entry: dict[str, Any],
        spec: HostSpec | None = None,
        *,
        group: str = "checks",
        cancelled: Event | None = None,
        most: float = 1.0,
        **env: str,
    ) -> tuple[str, str]:
        """``most`` is how many seconds more than its timeout the step may take, on a busy machine."""
        policy = parse_policy({group: {"it": {"timeout": "10s", **entry}}})
        (step,) = policy.of(Phase(group))
        setting = StepEnvironment({**os.environ, **env}, str(tmp_path), cancelled=cancelled or Event())
        started = time.monotonic()
        result: CheckResult = run.run(step, spec or HostSpec("node01", "127.0.0.1"), setting)
        tries = step.retries + 1
        allowed = (step.timeout.total_seconds() + run.RETRY_PAUSE) * tries + most
        assert result.seconds <= time.monotonic() - started < allowed
        assert "\n" not in result.detail
        return result.verdict.value, result.detail

    return call
