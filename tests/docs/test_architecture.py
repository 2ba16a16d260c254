"""The page on architecture agrees with the code: the files that it names exist, and it names every folder."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pages import ROOT, page, read

GUIDES = (ROOT / "bmhctl" / "docs" / "architecture.md", ROOT / "tests" / "README.md")


@pytest.mark.parametrize("path", GUIDES, ids=lambda path: path.stem)
def test_every_path_named_in_the_architecture_exists(path: Path) -> None:
    text = read(path).text
    named = set(re.findall(r"`((?:bmhctl|tests|examples|\.ci)/[\w./-]*)`", text))
    assert len(named) > 10
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []


def test_every_folder_and_module_is_named_in_the_architecture() -> None:
    tree = page("architecture").marked("tree")
    listed = {}
    for part in tree.split("\n**")[1:]:
        folder = part.partition("/`**: ")[0].removeprefix("`")
        listed[folder] = set(re.findall(r"(?m)^- `([\w.]+)`: \S", part))
    package = ROOT / "bmhctl"
    modules: dict[str, set[str]] = {}
    for file in package.rglob("*.py"):
        names = modules.setdefault(str(file.parent.relative_to(ROOT)), set())
        names |= {file.name} - {"__init__.py"}
    assert listed == modules


def test_every_function_and_class_named_in_the_architecture_exists() -> None:
    code = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "bmhctl").rglob("*.py"))
    prose = page("architecture").text.partition("<!-- end tree -->")[2]
    for name in re.findall(r"`([A-Z][a-z]+(?:[A-Z][a-z]+)*|[a-z]+(?:_[a-z]+)+)`", prose):
        assert re.search(rf"\b{name}\b", code), name
