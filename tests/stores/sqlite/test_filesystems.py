"""Files on filesystems that several systems share at the same time are refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from bmhctl.api import open_inventory
from bmhctl.errors import UnreachableError
from bmhctl.stores.sqlite import database, open_files


def mount(monkeypatch: pytest.MonkeyPatch, folder: Path, kind: str) -> None:
    """Let a folder be on a filesystem of this kind."""
    for module in (open_files, database):
        monkeypatch.setattr(module, "mounts", lambda: {"/": "ext4"} | {str(folder): kind})


@pytest.mark.parametrize("name", ["lab.db", "lab.toml"])
@pytest.mark.parametrize(
    ("kind", "where"),
    [
        ("nfs4", "a network filesystem"),
        ("fuse.sshfs", "a network filesystem"),
        *(
            (kind, "a disk that a virtual machine and its host share")
            for kind in ("virtiofs", "9p", "drvfs", "fakeowner", "fuse.grpcfuse", "vboxsf")
        ),
    ],
)
def test_a_filesystem_that_other_systems_share_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, kind: str, where: str
) -> None:
    before = tmp_path / "before"
    before.mkdir()
    with open_inventory(before / name, create=True):
        pass
    mount(monkeypatch, tmp_path, kind)
    for folder in before, tmp_path:
        with pytest.raises(UnreachableError) as refused, open_inventory(folder / name, create=True) as inventory:
            inventory.hosts()
        assert refused.value.message == f"{folder} is on {where} ({kind}): files there can't be shared safely"
        assert (
            refused.value.hint == "several machines share an inventory through PostgreSQL; keep a file on a local disk"
        )
    assert list(tmp_path.iterdir()) == [before]


@pytest.mark.parametrize("kind", ["virtiofs", "9p"])
def test_the_root_of_a_sandbox_may_be_a_filesystem_of_the_host(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: str
) -> None:
    mount(monkeypatch, Path("/"), kind)
    with open_inventory(tmp_path / "lab.db", create=True) as inventory:
        assert list(inventory.hosts()) == []
