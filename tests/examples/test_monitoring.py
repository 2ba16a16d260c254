"""The alert rules and the dashboard name only metrics that ``bmhctl metrics`` writes."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml

from bmhctl.output.views.metrics import exposition
from bmhctl.usecases.metrics import metrics
from tests.conftest import Lab

FOLDER = Path(__file__).parents[2] / "examples" / "monitoring"


def expressions(name: str) -> list[str]:
    text = (FOLDER / name).read_text()
    if name.endswith(".yaml"):
        return [rule["expr"] for group in yaml.safe_load(text)["groups"] for rule in group["rules"]]
    return [target["expr"] for panel in json.loads(text)["panels"] for target in panel["targets"]]


@pytest.mark.parametrize("name", ["alerts.yaml", "dashboard.json"])
def test_every_metric_of_the_dashboards_is_written(name: str, lab: Lab) -> None:
    written = set(re.findall(r"^# TYPE (\w+)", "".join(exposition(metrics(lab.context()))), re.MULTILINE))
    asked = {re.sub(r"_bucket$", "", each) for text in expressions(name) for each in re.findall(r"bmhctl_\w+", text)}
    assert asked
    assert asked <= written
