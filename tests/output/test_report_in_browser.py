"""The report in a browser: without errors, sortable, searchable, harmless and accessible."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from bmhctl.output.html_report import page
from tests.output.browser import Page, browser
from tests.output.samples import FLEET, NIGHTLY
from tests.output.test_html_report import HOSTILE, report_of
from tests.programs import needs

pytestmark = [pytest.mark.slow, needs("chromium")]

NAMES = "[...document.querySelectorAll('#hosts tbody tr:not([hidden])')].map(row => row.cells[0].textContent)"
SCRIPTED = "globalThis.ran = true"
ATTACKS = (
    HOSTILE,
    f"<img src=x onerror='{SCRIPTED}'>",
    f"</style></script></title><script>{SCRIPTED}</script>",
    f'" onmouseover="{SCRIPTED}" x=\'',
    f"javascript:{SCRIPTED}",
    "<svg><style>*{display:none}</style></svg>",
)


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    program = shutil.which("chromium")
    assert program
    with browser(program, tmp_path_factory.mktemp("profile")) as tab:
        yield tab


@pytest.fixture
def fleet(tab: Page, tmp_path: Path) -> Page:
    """The tab with the report of a whole fleet."""
    report = replace(report_of("lab"), hosts=FLEET)
    path = tmp_path / "lab.html"
    path.write_text(page(report))
    tab.resize(1440)
    tab.open(path)
    return tab


def click(tab: Page, heading: str) -> Any:
    tab.run(
        f"[...document.querySelectorAll('#hosts th button')].find(each => each.textContent === '{heading}').click()"
    )
    return tab.run(NAMES)


def test_the_report_opens_without_an_error(fleet: Page) -> None:
    assert fleet.run("document.readyState") == "complete"
    assert fleet.said == []


def test_a_click_on_a_heading_sorts_and_a_second_one_reverses_the_order(fleet: Page) -> None:
    names = [host.name for host in FLEET]
    assert click(fleet, "Name") == names
    assert click(fleet, "Name") == names[::-1]
    by_age = [host.name for host in sorted(FLEET, key=lambda host: host.since)]
    assert click(fleet, "Since")[0] == by_age[0]
    assert fleet.run("document.querySelectorAll('#hosts th[aria-sort]').length") == 1


def test_a_search_keeps_the_hosts_that_have_all_its_words(fleet: Page) -> None:
    def search(text: str) -> Any:
        fleet.run(f"search.value = '{text}'; search.dispatchEvent(new Event('input'))")
        return fleet.run(NAMES)

    assert search("reserved ALICE") == ["node01", "node02"]
    assert fleet.run("document.getElementById('found').textContent") == "2 of 7 hosts"
    assert search("nowhere") == []
    assert search("") == [host.name for host in FLEET]


def test_a_wide_screen_shows_all_columns_of_hosts_with_long_names_owners_and_labels(tab: Page, tmp_path: Path) -> None:
    lease = replace(NIGHTLY, owner="ci-firmware-nightly-builders@buildserver-17.fra2.lab.example.com")
    labels = {"owner-team": "embedded-linux-and-firmware", "rack": "r5-very-long-rack-name-in-hall-b"}
    spec = replace(FLEET[0].spec, name="arm64-devboard-01.rack5.fra2.lab.example.com", labels=labels)
    path = tmp_path / "lab.html"
    path.write_text(page(replace(report_of("lab"), hosts=(replace(FLEET[0], spec=spec, reservation=lease),))))
    tab.resize(1440)
    tab.open(path)
    assert tab.run("(table => table.scrollWidth <= table.clientWidth)(document.getElementById('hosts').parentElement)")


@pytest.mark.parametrize("width", [390, 1440])
def test_the_report_is_no_wider_than_the_screen(fleet: Page, width: int) -> None:
    fleet.resize(width)
    assert fleet.run("document.documentElement.scrollWidth") <= width


def test_the_printed_report_is_no_wider_than_the_paper(fleet: Page) -> None:
    fleet.resize(720, media="print")
    assert fleet.run("document.documentElement.scrollWidth") <= 720


def test_the_printed_report_is_complete(fleet: Page) -> None:
    fleet.resize(800, media="print")
    hidden = "[...document.querySelectorAll('#search, details')].filter(each => each.offsetParent).length"
    assert fleet.run(hidden) == 0
    assert fleet.run("document.querySelectorAll('#hosts tbody tr').length") == len(FLEET)
    assert fleet.run("[...document.querySelectorAll('.wide')].every(each => each.scrollHeight <= each.clientHeight)")


def test_hostile_texts_in_the_report_run_no_script(tab: Page, tmp_path: Path) -> None:
    tab.resize(1440)
    path = tmp_path / "lab.html"
    for attack in ATTACKS:
        path.write_text(page(report_of(attack)))
        tab.open(path)
        tab.run("for (const each of document.querySelectorAll('*')) each.dispatchEvent(new Event('mouseover'))")
        assert tab.run("globalThis.ran") is None, attack
        assert tab.said == [], attack
        assert tab.run("document.querySelectorAll('img, iframe, script').length") == 1, attack
        assert tab.run("getComputedStyle(document.querySelector('main')).display") == "block", attack


@pytest.mark.parametrize("width", [390, 1440])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_axe_finds_no_serious_fault(fleet: Page, width: int, dark: bool) -> None:
    if not os.environ.get("CI"):
        pytest.importorskip("axe_core_python")
    fleet.resize(width, dark=dark)
    fleet.run((files("axe_core_python") / "axe.min.js").read_text(encoding="utf-8"))
    faults = fleet.run("axe.run().then(found => found.violations)")
    found = [f"{each['id']}: {node['html']}" for each in faults for node in each["nodes"]]
    assert found == [], found
