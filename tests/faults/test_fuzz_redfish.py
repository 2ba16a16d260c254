"""The server at a BMC's address may answer anything: the result is properties, or one message about the BMC."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bmhctl.domain.host_spec import parse_spec
from bmhctl.domain.model import Bmc
from bmhctl.probes.credentials import BmcError
from bmhctl.probes.redfish_conversation import ask
from bmhctl.probes.redfish_hardware import hardware
from bmhctl.probes.redfish_system import System
from bmhctl.probes.step_environment import StepEnvironment
from tests.faults.figures import Figures
from tests.faults.hostile_files import JSON
from tests.faults.seeds import bent
from tests.probes.servers import saying, serving

SYSTEMS = "/redfish/v1/Systems"
TIME = timedelta(seconds=2)  # more than the new tries after a busy answer need
POWERS = ("on", "off", "powering-on", "powering-off", "paused", "unknown")
PAGES: dict[str, Any] = {
    "/redfish/v1": {"Id": "Root", "RedfishVersion": "1.5.0", "Systems": {"@odata.id": SYSTEMS}},
    SYSTEMS: {"Name": "Systems", "Members@odata.count": 1, "Members": [{"@odata.id": f"{SYSTEMS}/1"}]},
    f"{SYSTEMS}/1": {
        "@odata.id": f"{SYSTEMS}/1",
        "@odata.type": "#ComputerSystem.v1_10_0.ComputerSystem",
        "Id": "1",
        "Name": "a system",
        "PowerState": "On",
        "Status": {"State": "Enabled", "Health": "OK", "HealthRollup": "OK"},
        "Manufacturer": "Acme",
        "Model": "X9",
        "SerialNumber": "1",
        "MemorySummary": {"TotalSystemMemoryGiB": 256.0, "Status": {"Health": "OK"}},
        "ProcessorSummary": {"Count": 2, "CoreCount": 64, "LogicalProcessorCount": 128},
        "Actions": {"#ComputerSystem.Reset": {"target": f"{SYSTEMS}/1/Actions/ComputerSystem.Reset"}},
        "Boot": {"BootSourceOverrideTarget": "Pxe", "BootSourceOverrideEnabled": "Once"},
    },
}


@dataclass
class Answers:
    """The next answers of the server: for each path a status and a body."""

    port: int = 0
    pages: dict[str, tuple[int, str]] = field(default_factory=dict)

    def __call__(self, request: BaseHTTPRequestHandler) -> None:
        status, body = self.pages.get(request.path.rstrip("/"), (404, "{}"))
        saying(body.encode("utf-8", "surrogatepass"), status, "application/json")(request)


@pytest.fixture(scope="module")
def answers() -> Iterator[Answers]:
    answers = Answers()
    with serving(answers) as answers.port:
        yield answers


def asked(answers: Answers, system: str | None) -> bool:
    """Asks for everything; returns whether that was refused."""
    bmc = Bmc(f"http://127.0.0.1:{answers.port}", None, system)
    try:
        facts = ask(bmc, StepEnvironment({}, "/"), TIME, hardware)
        assert parse_spec("node01", {"hardware": facts}).hardware == facts
        assert ask(bmc, StepEnvironment({}, "/"), TIME, lambda client: System(client).power()) in POWERS
    except BmcError as error:
        refused = error
    else:
        return False
    assert refused.message.isprintable(), refused.message
    return True


def bodies(page: object) -> st.SearchStrategy[str]:
    torn = st.tuples(st.just(json.dumps(page)), st.integers(0, 300), st.text(max_size=5))
    return (
        bent(page).map(json.dumps)
        | bent(page).map(json.dumps)
        | torn.map(lambda t: t[0][: t[1]] + t[2] + t[0][t[1] + 2 :])
    )


def test_no_random_answer_of_a_bmc_is_a_defect(answers: Answers, figures: Figures) -> None:
    tries = refusals = 0
    statuses = st.sampled_from([200] * 12 + [204, 301, 400, 401, 404, 500, 503])

    @settings(max_examples=max(25, settings.default.max_examples // 4))
    @given(
        st.fixed_dictionaries({path: st.tuples(statuses, bodies(page)) for path, page in PAGES.items()}),
        st.sets(st.sampled_from(sorted(PAGES)), min_size=1),
        st.sampled_from([None, "1"]),
    )
    def fuzzed(pages: dict[str, tuple[int, str]], wrong: set[str], system: str | None) -> None:
        nonlocal tries, refusals
        answers.pages = {path: pages[path] if path in wrong else (200, json.dumps(PAGES[path])) for path in PAGES}
        tries += 1
        refusals += asked(answers, system)

    faults = 1
    try:
        fuzzed()
        faults = 0
    finally:
        figures("fuzz: answers of BMCs", "random", tries=tries, refusals=refusals, faults=faults)


def test_hostile_answers_of_a_bmc_are_read_or_refused(answers: Answers, figures: Figures) -> None:
    refusals = tries = 0
    numbers = [
        "1e999",
        "-1e999",
        "NaN",
        "true",
        "9" * 4000,
        "9" * 5000,
        "1.5",
        "-1",
        "0",
        "[]",
        '"64"',
        "9223372036854775808",
    ]
    system = json.dumps(PAGES[f"{SYSTEMS}/1"])
    made = [make() for make in JSON.values()]
    made += [system.replace("256.0", number).replace("128", number) for number in numbers]
    for body in made:
        for path in PAGES:
            answers.pages = {each: (200, json.dumps(page)) for each, page in PAGES.items()}
            answers.pages[path] = (200, body if isinstance(body, str) else body.decode("latin-1"))
            tries += 1
            refusals += asked(answers, None)
    figures("fuzz: answers of BMCs", "hostile", tries=tries, refusals=refusals, faults=0)
