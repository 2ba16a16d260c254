"""A name that leads to a standby for a while, as after a switchover: the primary is found again by the same name."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from bmhctl import open_inventory
from bmhctl.errors import AwayError
from tests.postgres import Server

pytestmark = pytest.mark.slow


@pytest.fixture
def pair() -> Iterator[tuple[Server, Server]]:
    """A primary with an inventory, and a standby of it."""
    primary = Server()
    standby = None
    try:
        primary.start()
        with open_inventory(primary.url, actor="alice", create=True) as lab:
            lab.add("node01")
        primary.stop()
        standby = primary.standby()
        for server in primary, standby:
            server.start()
        yield primary, standby
    finally:
        for server in filter(None, (primary, standby)):
            server.remove()


def test_a_command_leaves_a_standby_when_its_name_leads_to_the_primary_again(
    pair: tuple[Server, Server], tmp_path: Path
) -> None:
    primary, standby = pair
    name = tmp_path / primary.socket.name

    def lead_to(server: Server) -> None:
        name.unlink(missing_ok=True)
        name.symlink_to(server.socket)

    lead_to(standby)
    with open_inventory(f"postgresql://postgres@/postgres?host={tmp_path}", actor="alice") as lab:
        assert [host.name for host in lab.hosts()] == ["node01"]
        with pytest.raises(AwayError, match="is read-only"):
            lab.ready("node01")
        lead_to(primary)
        lab.ready("node01")
        assert [str(host.state) for host in lab.hosts()] == ["available"]
