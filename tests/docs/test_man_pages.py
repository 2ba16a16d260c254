"""Man pages: each command has one that says what its --help says, without a warning, and a build has them all."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from importlib.metadata import distributions, version
from pathlib import Path

import pytest
from pages import MANUAL, ROOT, helps_of, without_globals

from bmhctl.cli.commands import ENTRIES
from bmhctl.docs import man_pages
from tests.programs import REQUIRED, needs

NAMES = ["bmhctl", *(f"bmhctl-{name.replace(' ', '-')}" for name in ENTRIES)]
EDITION = man_pages.Edition("1.2", "2026-11-28")
BUILDS = any(int(each.version.split(".")[0]) >= 77 for each in distributions(name="setuptools"))


def shown(page: str) -> str:
    """Return the output of man for a page, without line breaks."""
    done = subprocess.run(
        ["groff", "-man", "-ww", "-Tutf8", "-P-c", "-rLL=9999n", "-rLT=9999n"],
        input=page,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return re.sub(".\b", "", done.stdout)


def test_every_command_has_a_man_page_and_special_characters_of_roff_are_escaped() -> None:
    pages = man_pages.man_pages(EDITION)
    assert [*pages] == NAMES
    for name, text in pages.items():
        title = name.upper().replace("-", r"\-")
        assert text.startswith(f'.TH "{title}" 1 "2026-11-28" "bmhctl 1.2" "bmhctl"\n')
        assert text.isascii()
        assert max(map(len, text.splitlines())) <= 80  # mandoc -T lint complains of longer ones
        requests = {line.partition(" ")[0] for line in text.splitlines() if line[0] in ".'"}
        assert requests <= {".TH", ".SH", ".SS", ".TP", ".PP", ".nh", ".ad"}


@needs("groff")
@pytest.mark.slow
def test_a_man_page_has_the_text_of_the_commands_help() -> None:
    pages = man_pages.man_pages(EDITION)
    for name, text, help in zip(NAMES, pages.values(), helps_of(["", *ENTRIES]), strict=True):
        told = without_globals(help) if name != "bmhctl" else help.partition("\nInventory:")[0]
        told = re.sub(r"(?m)^\w+:$", "", told.removeprefix("Usage: ")).replace("…", "...")
        printed = iter(shown(text).split())
        missing = [word for word in told.split() if word not in printed]  # each search begins after the last word
        assert missing == [], name


@needs("groff")
def test_no_text_of_the_manual_is_read_as_a_roff_request_or_escape(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manual = Path(shutil.copytree(MANUAL, tmp_path / "docs"))
    hostile = r".so /etc/passwd 'br \fB\n(.g `x` ^~ \" — → é"
    page = manual / "commands.md"
    line = re.search(r"(?m)^  Create an empty inventory.*\n", page.read_text(encoding="utf-8"))
    assert line
    page.write_text(page.read_text(encoding="utf-8").replace(line[0], f"  {hostile}\n\n  'ad\n"), encoding="utf-8")
    monkeypatch.setattr(man_pages, "_MANUAL", manual)
    text = shown(man_pages.man_pages(EDITION)["bmhctl-init"])
    assert hostile in text
    assert re.search(r"(?m)^ +'ad$", text)


@needs("man")
def test_man_finds_the_man_page_of_a_command(tmp_path: Path) -> None:
    man_pages.write(tmp_path / "man1", EDITION)
    environ = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "MANWIDTH": "80", "MANPATH": str(tmp_path)}
    for words in (["bmhctl", "reserve"], ["bmhctl-policy-show"]):
        done = subprocess.run(["man", "--warnings=w", *words], env=environ, capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")
        assert f"{'-'.join(words)} - " in done.stdout


@pytest.mark.slow
@pytest.mark.skipif(not BUILDS and not REQUIRED, reason="no setuptools >= 77 here")
def test_a_wheel_and_an_sdist_contain_the_man_pages(tmp_path: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(ROOT / "bmhctl", source / "bmhctl", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)

    def build(kind: str, folder: Path) -> Path:
        script = f"import setuptools.build_meta as backend; backend.build_{kind}({str(tmp_path)!r})"
        environ = {**os.environ, "SOURCE_DATE_EPOCH": "1000000000"}
        done = subprocess.run([sys.executable, "-c", script], cwd=folder, env=environ, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        [made] = tmp_path.glob("*.tar.gz" if kind == "sdist" else "*.whl")
        return made

    with tarfile.open(build("sdist", source)) as archive:
        archive.extractall(tmp_path / "unpacked", filter="data")
    [unpacked] = (tmp_path / "unpacked").iterdir()
    with zipfile.ZipFile(build("wheel", unpacked)) as wheel:
        files = {Path(name).name: name for name in wheel.namelist() if name.endswith(".1")}
        assert sorted(files) == sorted(f"{name}.1" for name in NAMES)
        assert all("/data/share/man/man1/" in name for name in files.values())  # pip and pipx install from there
        text = wheel.read(files["bmhctl.1"]).decode()
    assert text == man_pages.man_pages(man_pages.Edition(version("bmhctl"), "2001-09-09"))["bmhctl"]
