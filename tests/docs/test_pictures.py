"""The pictures of the README show the present output of the commands, and load no other files."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from tests.docs import pictures

ROOT = pictures.FOLDER.parents[1]
NAMES = sorted(path.name for path in pictures.FOLDER.iterdir())


@pytest.fixture(scope="module")
def drawn() -> dict[str, str]:
    return pictures.pictures()


@pytest.mark.parametrize("name", NAMES)
def test_a_picture_is_current_and_shown_in_the_readme(name: str, drawn: dict[str, str]) -> None:
    path = pictures.FOLDER / name
    assert path.read_text(encoding="utf-8") == drawn[name], "run python tests/docs/pictures.py"
    assert f"({path.relative_to(ROOT)})" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_every_picture_in_the_folder_is_used(drawn: dict[str, str]) -> None:
    assert sorted(drawn) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_picture_is_small_and_loads_no_other_file(name: str, drawn: dict[str, str]) -> None:
    ElementTree.fromstring(drawn[name])
    assert len(drawn[name]) < 32_000
    assert not re.search(r"url\(|@import|href|https?://(?!www\.w3\.org/2000/svg)", drawn[name])
