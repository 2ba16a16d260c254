"""The report's page: it needs no other file, escapes all texts, and is readable without JavaScript."""

from __future__ import annotations

import re
from base64 import b64encode
from dataclasses import replace
from datetime import date, timedelta
from hashlib import sha256
from html.parser import HTMLParser

import pytest

from bmhctl.domain.model import State
from bmhctl.output.html_report import page
from bmhctl.results.queue import Queue
from bmhctl.results.statistics import (
    DayUse,
    Figures,
    HostTimeline,
    HourlyUse,
    PastEvent,
    Report,
    Statistics,
    Stay,
    Timeline,
    Waits,
    WeekWaits,
)
from bmhctl.results.status import Reason, Reasons

from .samples import BOOKINGS, FLEET, NOW, QUEUE, STATUS

HOSTILE = "<script>alert(1)</script>\"'&{{ 7*7 }}\x1b[31m\x07"
MINUTE = timedelta(minutes=1)
FIGURES = Figures("node01", 1, {State.RESERVED: 60.0}, 3, 2, Waits(3, MINUTE, 2 * MINUTE, 9 * MINUTE), 1, 0, 1, 2)


def report_of(text: str) -> Report:
    """Return a report in which ``text`` stands for every text that people write."""
    spec = replace(FLEET[0].spec, labels={"rack": text}, note=text)
    host = replace(FLEET[0], spec=spec, fault=text)
    since = NOW - timedelta(days=14)
    row = HostTimeline(
        text, (Stay(NOW - timedelta(hours=3), NOW, State.RESERVED, text),), text, NOW + timedelta(hours=1)
    )
    booked = BOOKINGS.items[0]
    booking = replace(booked.booking, owner=text, purpose=text)
    planned = replace(booked, booking=booking, hosts=("node01", "node02", "node03", text), trouble=(text,))
    return Report(
        status=replace(STATUS, inventory=text, planned=(planned,)),
        reasons=Reasons((Reason("fault", text, text, since, (text,)),), text, NOW),
        statistics=Statistics(since, NOW, NOW, "host", (replace(FIGURES, name=text),), FIGURES),
        timeline=Timeline(NOW - timedelta(hours=4), NOW + timedelta(hours=1), NOW, (row,), (), text),
        hourly=HourlyUse(since, NOW, NOW, {(0, 9): (1800.0, 3600.0)}),
        days=(DayUse(date(2026, 11, 22), 10.0, 40.0), DayUse(date(2026, 11, 23), 0.0, 0.0)),
        weeks=(WeekWaits(since, 3, FIGURES.waits), WeekWaits(NOW - timedelta(days=7), 0, None)),
        queue=Queue(tuple(replace(item, requirements=text, missing=text) for item in QUEUE.items), NOW),
        hosts=(host,),
        events={host.name: (PastEvent(NOW, text, "taint", text),)},
    )


class Reader(HTMLParser):
    """Collects the scripts, links and texts that a browser would run, load or show."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.loads: list[str] = []
        self.handlers: list[str] = []
        self.parts: dict[str, str] = {}
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.loads += [str(value) for name, value in attrs if name in ("src", "href", "action", "srcset", "data")]
        self.handlers += [name for name, _ in attrs if name.startswith("on")]
        self.parts |= {str(dict(attrs).get("http-equiv")): str(dict(attrs).get("content"))} if tag == "meta" else {}

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1] in ("style", "script") and data.strip() and self.tags[-1] not in self.parts:
            self.parts[self.tags[-1]] = data
        else:
            self.text += data


def read(text: str) -> Reader:
    reader = Reader()
    reader.feed(text)
    return reader


def test_the_page_loads_nothing_and_runs_only_its_own_script() -> None:
    text = page(report_of("lab"))
    reader = read(text)
    assert reader.loads == []
    assert reader.handlers == []
    assert not re.search(r"url\(|@import|https?://(?!www\.w3\.org/2000/svg)", text)
    policy = reader.parts["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; ")
    for tag in ("style", "script"):
        digest = b64encode(sha256(reader.parts[tag].encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy


def test_untrusted_text_is_escaped_in_the_report() -> None:
    plain, hostile = read(page(report_of("lab"))), read(page(report_of(HOSTILE)))
    assert hostile.tags == plain.tags, "no text becomes a tag"
    assert "alert(1)" in hostile.text
    assert "{{ 7*7 }}" in hostile.text
    assert "\x1b" not in page(report_of(HOSTILE))
    assert "\x07" not in page(report_of(HOSTILE))


@pytest.mark.parametrize(
    "shown",
    [
        "lab",
        "fault",
        "node01",
        "25% reserved",
        "Median 1m, 95 % within 2m, longest 9m",
        "1 event",
        "by lab: lab",
        "short of hosts",
        "node[01-03] lab",
    ],
)
def test_the_report_is_complete_without_its_script(shown: str) -> None:
    text = re.sub(r"<script>.*</script>", "", page(report_of("lab")), flags=re.DOTALL)
    assert shown in text


@pytest.mark.parametrize(("longest", "bars"), [(timedelta(milliseconds=30), 0), (9 * MINUTE, 1)])
def test_waits_of_less_than_a_second_are_not_drawn(longest: timedelta, bars: int) -> None:
    total = replace(FIGURES, waits=Waits(3, longest / 9, longest / 4, longest))
    report = report_of("lab")
    text = page(replace(report, statistics=replace(report.statistics, total=total)))
    assert text.count('aria-label="95th percentile of the waits, by week"') == bars


def test_a_report_of_an_empty_inventory_can_be_made() -> None:
    empty = Figures("all", 0, {}, 0, 0)
    report = report_of("lab")
    text = page(
        replace(
            report,
            statistics=replace(report.statistics, groups=(), total=empty),
            timeline=replace(report.timeline, hosts=()),
            hourly=replace(report.hourly, cells={}),
            days=(),
            weeks=(),
            queue=Queue((), NOW),
            hosts=(),
            events={},
        )
    )
    assert "The queue is empty." in text
    assert "No wait is known." in text
