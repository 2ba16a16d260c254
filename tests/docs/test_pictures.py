"""The pictures of the README show the present output of the commands, and load no other files."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from tests.docs import pictures

ROOT = pictures.FOLDER.parents[1]
DRAWN = pictures.pictures()


@pytest.mark.parametrize("name", DRAWN)
def test_a_picture_is_current_and_shown_in_the_readme(name: str) -> None:
    path = pictures.FOLDER / name
    assert path.read_text(encoding="utf-8") == DRAWN[name], "run python tests/docs/pictures.py"
    assert f"({path.relative_to(ROOT)})" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_every_picture_in_the_folder_is_used() -> None:
    assert {path.name for path in pictures.FOLDER.iterdir()} == {*DRAWN}


@pytest.mark.parametrize("name", DRAWN)
def test_a_picture_is_small_and_loads_no_other_file(name: str) -> None:
    ElementTree.fromstring(DRAWN[name])
    assert len(DRAWN[name]) < 32_000
    assert not re.search(r"url\(|@import|href|https?://(?!www\.w3\.org/2000/svg)", DRAWN[name])
