"""The place of the state of a TOML inventory: beside the file, or as the file or the environment says."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.conftest import Bmhctl

HOST = "[hosts.node1]\n"


def states(bmhctl: Bmhctl, name: str = "lab.toml", **environ: str) -> str:
    done = bmhctl("-i", name, "list", "-o", "csv", "--fields", "name,state", **environ)
    assert done.status == 0, done.stderr
    return done.stdout.splitlines()[1]


def test_a_file_that_names_its_state_file_may_be_read_only(tmp_path: Path, bmhctl: Bmhctl) -> None:
    place = tmp_path / "var"
    place.mkdir()
    folder = tmp_path / "etc"
    folder.mkdir()
    lab = folder / "lab.toml"
    lab.write_text(f'{HOST}\n[inventory]\nstate = "{place}/lab.state.db"\n[defaults]\nttl = "2h"\n')
    lab.chmod(0o444)
    folder.chmod(0o555)
    try:
        assert bmhctl("-i", str(lab), "ready", "node1").status == 0
        assert bmhctl("-i", str(lab), "run", "--host", "node1", "--", "true").status == 0
        assert bmhctl("-i", str(lab), "doctor").status == 0
    finally:
        folder.chmod(0o755)
    assert os.listdir(folder) == ["lab.toml"]
    assert (place / "lab.state.db").exists()
    assert states(bmhctl, str(lab)) == "node1,tainted"


def test_the_environment_names_the_state_folder_unless_the_file_does(tmp_path: Path, bmhctl: Bmhctl) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    lab = tmp_path / "lab.toml"
    lab.write_text(HOST)
    assert bmhctl("-i", "lab.toml", "ready", "node1", BMHCTL_STATE_DIR="one").status == 0
    assert (tmp_path / "one" / "lab.state.db").exists()
    assert not (tmp_path / "lab.state.db").exists()
    lab.write_text(f'inventory.state = "two/lab.state.db"\n{HOST}')
    assert states(bmhctl, BMHCTL_STATE_DIR="one") == "node1,initial"
    assert (tmp_path / "two" / "lab.state.db").exists()


@pytest.mark.parametrize("how", ["file", "environment"])
def test_a_release_that_is_swapped_under_a_link_keeps_its_states(how: str, tmp_path: Path, bmhctl: Bmhctl) -> None:
    (tmp_path / "var").mkdir()
    text = HOST if how == "environment" else f'{HOST}[inventory]\nstate = "{tmp_path}/var/lab.state.db"\n'
    environ = {"BMHCTL_STATE_DIR": str(tmp_path / "var")} if how == "environment" else {}
    releases(tmp_path, text)
    assert bmhctl("-i", "lab.toml", "ready", "node1", **environ).status == 0
    swap(tmp_path)
    assert states(bmhctl, **environ) == "node1,available"


def releases(tmp_path: Path, text: str) -> None:
    """lab.toml is a link to current/lab.toml, and current one to a release."""
    for number in (1, 2):
        (tmp_path / "rel" / str(number)).mkdir(parents=True)
        (tmp_path / "rel" / str(number) / "lab.toml").write_text(text)
    (tmp_path / "current").symlink_to("rel/1")
    (tmp_path / "lab.toml").symlink_to("current/lab.toml")


def swap(tmp_path: Path) -> None:
    (tmp_path / "next").symlink_to("rel/2")
    (tmp_path / "next").rename(tmp_path / "current")


def test_a_swapped_release_is_refused_until_the_file_names_its_state_file(tmp_path: Path, bmhctl: Bmhctl) -> None:
    releases(tmp_path, HOST)
    assert bmhctl("-i", "lab.toml", "ready", "node1").status == 0
    swap(tmp_path)
    done = bmhctl("-i", "lab.toml", "list")
    assert (done.status, done.stdout) == (2, "")
    assert f"there is also the state file {tmp_path}/rel/1/lab.state.db" in done.stderr
    assert "BMHCTL_STATE_DIR" in done.stderr
    assert not (tmp_path / "rel" / "2" / "lab.state.db").exists()
    told = {"BMHCTL_STATE_DIR": str(tmp_path / "rel" / "1")}
    assert bmhctl("-i", "lab.toml", "init", "--adopt", **told).status == 0
    assert states(bmhctl, **told) == "node1,available"


def test_a_link_beside_a_state_file_of_its_own_is_refused_by_name(tmp_path: Path, bmhctl: Bmhctl) -> None:
    (tmp_path / "lab.toml").write_text(HOST)
    assert bmhctl("-i", "lab.toml", "ready", "node1").status == 0
    (tmp_path / "real").mkdir()
    (tmp_path / "lab.toml").rename(tmp_path / "real" / "lab.toml")
    (tmp_path / "lab.toml").symlink_to("real/lab.toml")
    done = bmhctl("-i", "lab.toml", "list")
    assert (done.status, done.stdout) == (2, "")
    assert f"there is also the state file {tmp_path}/lab.state.db" in done.stderr
    assert states(bmhctl, BMHCTL_STATE_DIR=".") == "node1,available"


def test_an_old_state_file_that_was_not_moved_is_reported(tmp_path: Path, bmhctl: Bmhctl) -> None:
    (tmp_path / "var").mkdir()
    (tmp_path / "lab.toml").write_text(HOST)
    assert bmhctl("-i", "lab.toml", "ready", "node1").status == 0
    (tmp_path / "lab.toml").write_text(f'{HOST}[inventory]\nstate = "var/lab.state.db"\n')
    done = bmhctl("-i", "lab.toml", "list")
    assert (done.status, done.stdout) == (2, "")
    assert f"mv {tmp_path}/lab.state.db {tmp_path}/var/lab.state.db" in done.stderr
    (tmp_path / "lab.state.db").rename(tmp_path / "var" / "lab.state.db")
    assert states(bmhctl) == "node1,available"


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ("[inventory]\nstate = 5\n", "inventory.state must be a path that ends in .db, .sqlite, .sqlite3"),
        ('[inventory]\nstate = "lab.txt"\n', "inventory.state must be a path that ends in"),
        ('[inventory]\nplace = "lab.db"\n', "inventory: unknown key 'place'"),
        ("inventory = 7\n", "inventory must be a table"),
        ("[inventory]\nstate = \n", "can't read its [inventory] table"),
    ],
)
def test_an_invalid_state_setting_is_refused_and_no_file_is_created(
    table: str, said: str, tmp_path: Path, bmhctl: Bmhctl
) -> None:
    (tmp_path / "lab.toml").write_text(table)
    done = bmhctl("-i", "lab.toml", "list")
    assert (done.status, done.stdout) == (10, "")
    assert said in done.stderr
    assert os.listdir(tmp_path) == ["lab.toml"]


def test_a_restored_backup_has_its_comments_and_its_state_file(tmp_path: Path, bmhctl: Bmhctl) -> None:
    (tmp_path / "var").mkdir()
    (tmp_path / "lab.toml").write_text(f'# ours\n[inventory]\nstate = "var/lab.state.db"\n\n{HOST}')
    assert bmhctl("-i", "lab.toml", "ready", "node1").status == 0
    assert bmhctl("-i", "lab.toml", "backup", "kept.db").status == 0
    assert bmhctl("copy", "kept.db", "new.toml").status == 0
    assert (tmp_path / "new.toml").read_text() == f"# ours\n{HOST}"
    assert states(bmhctl, "new.toml") == "node1,available"
