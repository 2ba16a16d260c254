"""Rules for the code that no other tool checks."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from pages import ROOT

PACKAGE = ROOT / "bmhctl"
MODULES = sorted(PACKAGE.rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
ENTRANCES = ("__main__.py", "api", "cli", "pytest_plugin.py")
"""Where the environment may be read; all other modules get what they need from there."""


def is_below(path: Path, *places: str) -> bool:
    return path.relative_to(PACKAGE).parts[0] in places


def nodes(path: Path, *words: str) -> Iterator[ast.AST]:
    """Yield the nodes of a module that contains any of these words, because walking all modules takes seconds."""
    text = path.read_text(encoding="utf-8")
    return ast.walk(ast.parse(text)) if any(word in text for word in words) else iter(())


def uses(names: set[str], *allowed: str) -> list[str]:
    """Return the places where modules use one of these names, except in the allowed folders and modules."""
    return [
        f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 0)}"
        for path in MODULES
        if not is_below(path, *allowed)
        for node in nodes(path, *(name.rpartition(".")[2] for name in names))
        if names & {*_used(node)}
    ]


def _used(node: ast.AST) -> Iterator[str]:
    """Yield the dotted names that a node uses."""
    match node:
        case ast.Attribute(value=ast.Name(id=module), attr=name):
            yield f"{module}.{name}"
        case ast.ImportFrom(module=str(module), names=names):
            yield from (f"{module}.{alias.name}" for alias in names)
        case ast.Call(func=ast.Name(id=name)):
            yield name


def test_only_the_entry_points_read_the_environment() -> None:
    assert uses({"os.environ", "os.environb", "os.getenv", "os.putenv"}, *ENTRANCES) == []


def test_only_the_output_folder_prints() -> None:
    # cli passes the streams to output, and writes help and completion itself; the plugin writes to pytest's streams.
    assert uses({"sys.stdout", "sys.stderr"}, "output", "cli", "pytest_plugin.py") == []
    assert uses({"print"}, "output") == []


def test_no_module_uses_the_dataclass_decorator() -> None:
    # A dataclass generates and compiles its methods at every start; bmhctl.support.values has methods for all values.
    assert uses({"dataclasses.dataclass"}) == []


def test_no_private_name_is_imported_from_another_module() -> None:
    imported = re.compile(r"^ *from bmhctl[\w.]* import (\([^)]*|.*)", re.MULTILINE)
    texts = [(path, path.read_text(encoding="utf-8")) for path in (*MODULES, *TESTS)]
    found = [str(path) for path, text in texts for names in imported.findall(text) if re.search(r"\b_[a-z]", names)]
    assert found == []


def test_no_module_has_todo_comments() -> None:
    words = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")
    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in MODULES
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if words.search(line)
    ]
    assert found == []


REPLACED = re.compile(
    r"\b(whoever|nobody|somebody|anybody|everybody|shall|in vain|mends?|mended|takes? over|took over|taken over|let go"
    r"|cargo|wish|wishes|crew|hush|premises)\b",
    re.I,
)
"""Words that leave the subject open, or differ from the terms of the manual."""


@pytest.mark.parametrize("folder", ["bmhctl", "tests", "examples"])
def test_code_and_comments_are_in_plain_words(folder: str) -> None:
    found = [
        f"{path.relative_to(ROOT)}:{number}: {word[0]}"
        for path in sorted((ROOT / folder).rglob("*.py"))
        if path.name not in (Path(__file__).name, "test_pages.py")  # these two files contain the list itself
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        for word in REPLACED.finditer(line)
    ]
    assert found == []


def test_no_module_silences_every_exception() -> None:
    found = []
    for path in MODULES:
        for node in nodes(path, "except:", "Exception"):
            if isinstance(node, ast.ExceptHandler) and (
                node.type is None
                or (
                    all(isinstance(statement, ast.Pass) for statement in node.body)
                    and isinstance(node.type, ast.Name)
                    and node.type.id in ("Exception", "BaseException")
                )
            ):
                found.append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert found == []


def test_no_module_relies_on_assert() -> None:
    # python -O removes assert statements, so checks have to raise errors.
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in MODULES
        for node in nodes(path, "assert ", "assert(")
        if isinstance(node, ast.Assert)
    ]
    assert found == []


@pytest.mark.parametrize(
    "path", [*ROOT.glob("examples/**/*.sh"), ROOT / "tests" / "run", ROOT / ".ci" / "run"], ids=str
)
def test_scripts_are_executable(path: Path) -> None:
    assert path.stat().st_mode & 0o111 == 0o111
    assert path.read_text(encoding="utf-8").startswith("#!/")
