"""What is installed: the command, the module, the metadata, and the types."""

from __future__ import annotations

import re
import subprocess
import sys
import sysconfig
import tomllib
from importlib.metadata import distribution, entry_points
from pathlib import Path

import pytest
from pages import ROOT

from bmhctl.docs import TOPICS

DECLARED = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@pytest.mark.parametrize(
    "command", [[sys.executable, "-m", "bmhctl"], [str(Path(sysconfig.get_path("scripts"), "bmhctl"))]]
)
def test_the_installed_command_and_the_module_print_the_same_version(command: list[str], tmp_path: Path) -> None:
    done = subprocess.run([*command, "--version"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == (f"bmhctl {DECLARED['version']}\n", "")


def test_the_installed_metadata_matches_pyproject() -> None:
    metadata = distribution("bmhctl").metadata
    assert metadata["Version"] == DECLARED["version"]
    assert metadata["Requires-Python"] == ">=3.11"
    assert metadata["License-Expression"] == "Apache-2.0"
    [command] = entry_points(group="console_scripts", name="bmhctl")
    assert command.value == "bmhctl.__main__:main"


def test_every_python_that_is_declared_is_tested() -> None:
    named = [line.rpartition(" :: ")[2] for line in DECLARED["classifiers"] if "Python :: 3." in line]
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    tested = re.search(r"^VERSIONS=\((.*)\)", script, re.MULTILINE)[1].split()
    assert f">={named[0]}" == f">={tested[0]}" == DECLARED["requires-python"]
    assert set(named) <= set(tested)


def test_the_readme_the_licence_and_the_marker_for_types_exist() -> None:
    assert (ROOT / DECLARED["readme"]).is_file()
    assert "Apache License" in (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert (ROOT / "bmhctl" / "py.typed").is_file()


def test_the_build_finds_every_package() -> None:
    # A folder without __init__.py would be missing from the wheel, which an editable install would hide.
    folders = {path.parent for path in (ROOT / "bmhctl").rglob("*.py")}
    assert [str(folder) for folder in folders if not (folder / "__init__.py").is_file()] == []


def test_every_data_file_is_declared_for_the_build() -> None:
    # An editable install has every file; a wheel has only these.
    package_data = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    declared = {
        file
        for package, patterns in package_data["package-data"].items()
        for pattern in patterns
        for file in (ROOT / package.replace(".", "/")).glob(pattern)
    }
    files = {path for path in (ROOT / "bmhctl").rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    assert {path for path in files if path.suffix != ".py"} == declared
    assert {path.stem for path in declared} >= set(TOPICS)


def test_every_dependency_is_used_and_every_library_declared() -> None:
    code = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "bmhctl").rglob("*.py"))
    modules = {"PyYAML": "yaml", "tomli-w": "tomli_w"}
    for requirement in DECLARED["dependencies"]:
        name = requirement.split(">")[0]
        module = modules.get(name, name)
        assert f"import {module}" in code or f"from {module}" in code, f"{name} is declared and not used"
