"""Members of a group who share an inventory, each with their own group and umask."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from bmhctl.errors import UnreachableError
from bmhctl.stores.claims import host_claim
from bmhctl.stores.sqlite.claims import folder_beside
from bmhctl.stores.sqlite.open_files import OpenFiles
from bmhctl.usecases.inventories import init
from tests import forked
from tests.conftest import Lab, environment, run_bmhctl
from tests.faults.scenarios import FILES, start_of
from tests.faults.snapshots import write_folder
from tests.processes import until

GROUP, OUTSIDER = 65532, 2003


def act(user: int, lines: Sequence[Sequence[str]]) -> int:
    """Runs command lines as a member of the group, or as the outsider, whose new files are for that user only."""
    from bmhctl.cli.main import run

    os.setgroups([] if user == OUTSIDER else [GROUP])
    os.setgid(user)
    os.setuid(user)
    os.umask(0o077)
    return max(run(list(line)) for line in lines)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may act as several users")
@pytest.mark.parametrize("backend", FILES)
def test_members_of_a_group_may_work_at_the_same_time_whatever_their_umask_is(backend: str, folder: Path) -> None:
    write_folder(start_of("reserve", backend), folder)
    for path in folder, *folder.iterdir():
        os.chown(path, -1, GROUP)
        path.chmod(0o770 if path is folder else 0o660)

    def member(user: int, *lines: tuple[str, ...]) -> tuple[int, bytes, bytes]:
        whole = [("-i", FILES[backend], *line) for line in lines]
        return forked.run((user, whole), folder, environment(), act=f"{__name__}:act")

    claims = folder_beside(next(folder.glob("*.db")))
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(member, 2001, ("reserve", "-q", "node4", "--wait", "30s", "-o", "name"))
        until(lambda: (claims.exists() and list(claims.iterdir()) != []) or waiting.done())
        assert member(2002, ("ready", "-q", "node4"), ("recycle", "-q")) == (0, b"", b"")
        assert waiting.result() == (0, b"node4\n", b"")


MEMBER = 2002
ACL = struct.pack(
    "<I" + "HHI" * 5,
    2,  # version; then tag, permissions and id of each entry: owner, MEMBER, group, mask, others
    *(0x01, 7, 0xFFFFFFFF, 0x02, 7, MEMBER, 0x04, 0, 0xFFFFFFFF, 0x10, 7, 0xFFFFFFFF, 0x20, 0, 0xFFFFFFFF),
)


@pytest.mark.parametrize("backend", FILES)
def test_new_files_follow_the_default_acl_of_their_folder_and_not_the_umask(backend: str, tmp_path: Path) -> None:
    try:
        os.setxattr(tmp_path, "system.posix_acl_default", ACL)
    except OSError:
        pytest.skip("this file system has no ACLs")
    mask = os.umask(0o077)
    try:
        init(str(tmp_path / FILES[backend]))
    finally:
        os.umask(mask)
    modes = {each.name: oct(each.stat().st_mode & 0o777) for each in tmp_path.iterdir()}
    assert modes == dict.fromkeys(modes, "0o660")  # what a mode has for the group is the mask for MEMBER


@pytest.mark.parametrize("make", [os.symlink, os.link])
def test_a_link_in_place_of_a_claim_gives_the_group_no_other_file(
    toml_lab: Lab, make: Callable[[Path, Path], None]
) -> None:
    ctx = toml_lab.context()
    path = next(toml_lab.path.parent.glob("*.db"))
    path.chmod(0o660)
    other, folder = path.with_name("other"), folder_beside(path)
    other.touch(0o600)
    folder.mkdir()
    make(other, folder / host_claim(1))
    with suppress(UnreachableError), ctx.store.claims.claim(host_claim(1)):
        pass
    assert other.stat().st_mode & 0o777 == 0o600


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may change the group of any file")
def test_a_link_in_place_of_the_log_gives_the_group_no_other_file(tmp_path: Path) -> None:
    path, other = tmp_path / "lab.db", tmp_path / "other"
    path.touch()
    os.chown(path, -1, GROUP)
    files = OpenFiles(path, path.stat(), b"")
    other.touch()
    group = other.stat().st_gid
    path.with_name("lab.db-wal").symlink_to(other)
    files.add_beside()
    assert other.stat().st_gid == group


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may act as several users")
def test_an_edit_that_would_take_the_file_from_its_group_is_refused_and_leaves_nothing(folder: Path) -> None:
    write_folder(start_of("reserve", "toml"), folder)
    lab = folder / FILES["toml"]
    for path in folder, *folder.iterdir():
        os.chown(path, OUTSIDER if path == lab else -1, GROUP)
        path.chmod(0o777 if path is folder else 0o666)
    before = lab.read_bytes()
    arguments = (OUTSIDER, [("-i", lab.name, "set", "node4", "--note", "x")])
    assert forked.run(arguments, folder, environment(), act=f"{__name__}:act") == (
        11,
        b"",
        b"bmhctl: may not edit lab.toml: you are not in its group 65532, so its group could not stay\n"
        b"hint: edit it as a member of that group, or have its owner change the group: chgrp 2003 lab.toml\n",
    )
    assert lab.read_bytes() == before
    assert "did not reach it" not in run_bmhctl("-i", lab.name, "doctor", cwd=folder).stdout
