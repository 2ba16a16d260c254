"""The pages on the code agree with it: what they name exists, and the list of modules is complete."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pages import ROOT, page, read

PAGES = ("architecture", "mechanisms")
GUIDES = (*(ROOT / "bmhctl" / "docs" / f"{name}.md" for name in PAGES), ROOT / "tests" / "README.md")


@pytest.mark.parametrize("path", GUIDES, ids=lambda path: path.stem)
def test_every_path_named_in_a_page_on_the_code_exists(path: Path) -> None:
    text = read(path).text
    named = set(re.findall(r"`((?:bmhctl|tests|examples|\.ci)/[\w./-]*)`", text))
    assert len(named) > 10
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []


def test_every_folder_and_module_is_named_in_the_architecture() -> None:
    tree = page("architecture").marked("tree")
    listed = {}
    for part in tree.split("\n**")[1:]:
        folder = part.partition("/`**")[0].removeprefix("`")
        listed[folder] = set(re.findall(r"(?m)^- `([\w.]+)`: \S", part))
    package = ROOT / "bmhctl"
    modules: dict[str, set[str]] = {}
    for file in package.rglob("*.py"):
        names = modules.setdefault(str(file.parent.relative_to(ROOT)), set())
        names |= {file.name} - {"__init__.py"}
    assert listed == modules


@pytest.mark.parametrize("name", PAGES)
def test_every_function_and_class_named_in_a_page_on_the_code_exists(name: str) -> None:
    code = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "bmhctl").rglob("*.py"))
    prose = page(name).text.partition("<!-- begin tree -->")[0]
    named = re.findall(r"`([A-Z][a-z]+(?:[A-Z][a-z]+)*|[a-z]+(?:_[a-z]+)+)`", prose)
    assert len(named) > 5
    assert [each for each in named if not re.search(rf"\b{each}\b", code)] == []
