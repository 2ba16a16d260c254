"""Tests that need a host; ``host`` is the fixture of conftest_example.py."""

from __future__ import annotations

import bmhctl


def test_the_host_is_of_the_kind_that_was_asked_for(host: bmhctl.Host) -> None:
    assert host.spec.labels["arch"] == "arm64"


def test_the_host_has_an_address(host: bmhctl.Host) -> None:
    assert host.spec.address is not None  # such as: socket.create_connection((host.spec.address, 22))
