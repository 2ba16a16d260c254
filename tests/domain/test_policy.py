"""Policies: what is allowed in them, and the place that an error names."""

from __future__ import annotations

from datetime import timedelta

import pytest

from bmhctl.domain.model import Phase
from bmhctl.domain.policy import Policy, Step, StepKind, predecessors
from bmhctl.domain.policy_parser import parse_policy
from bmhctl.domain.selector import EVERY_HOST, parse_selector
from bmhctl.errors import InvalidError


def test_an_empty_policy_has_the_defaults() -> None:
    assert parse_policy({}) == Policy(timedelta(hours=4), timedelta(days=3), 3)


def test_a_whole_policy_is_read() -> None:
    document = {
        "defaults": {"ttl": "1h", "max_ttl": "none", "quarantine_after": 5, "quarantine_after_task_failures": 3},
        "checks": {"ssh": {"tcp": 22, "timeout": "5s", "selector": "!offline"}},
        "cleanup": {"wipe": {"command": ["./wipe.sh", "{address}", "{labels.rack}", "{{x}}"], "timeout": "2h"}},
    }

    assert parse_policy(document) == Policy(
        ttl=timedelta(hours=1),
        max_ttl=None,
        quarantine_after=5,
        quarantine_after_task_failures=3,
        steps={
            Phase.CHECKS: (
                Step(
                    "ssh",
                    StepKind.TCP,
                    Phase.CHECKS,
                    parse_selector("!offline"),
                    port=22,
                    timeout=timedelta(seconds=5),
                ),
            ),
            Phase.CLEANUP: (
                Step(
                    "wipe",
                    StepKind.COMMAND,
                    Phase.CLEANUP,
                    EVERY_HOST,
                    command=("./wipe.sh", "{address}", "{labels.rack}", "{{x}}"),
                    timeout=timedelta(hours=2),
                ),
            ),
        },
    )


@pytest.mark.parametrize("phase", Phase)
def test_readiness_checks_refuse_redfish_actions_that_change_a_host(phase: Phase) -> None:
    ask = {"redfish": {"power": "on"}}
    act = {"redfish": {"reset": "ForceRestart"}}

    [step] = parse_policy({phase: {"bmc": ask}}).of(phase)

    assert step.phase is phase
    assert step.demand is not None
    assert step.demand.acts is (phase is not Phase.CHECKS)
    if phase is Phase.CHECKS:
        with pytest.raises(InvalidError, match="unknown key 'reset'"):
            parse_policy({phase: {"bmc": act}})
    else:
        parse_policy({phase: {"bmc": act}})


def test_a_step_without_needs_depends_on_the_step_before_it() -> None:
    tcp = {"tcp": 22}
    steps = parse_policy(
        {"setup": {"a": tcp, "b": tcp, "c": {"tcp": 22, "needs": []}, "d": {"tcp": 22, "needs": ["a", "c", "a"]}}}
    ).of(Phase.SETUP)

    assert predecessors(steps) == {"a": (), "b": ("a",), "c": (), "d": ("a", "c")}


@pytest.mark.parametrize(
    ("document", "message", "hint"),
    [
        ({"defaults": {"tll": "1h"}}, "defaults: unknown key 'tll'", "did you mean 'ttl'?"),
        ({"defaults": {"ttl": 5}}, 'defaults.ttl must be a duration in quotes, such as "90s" or "2h", not 5', None),
        ({"defaults": {"ttl": "5"}}, "defaults.ttl: '5' is not a duration", "write it like 90s, 20m, 4h, 3d or 1h30m"),
        ({"defaults": {"ttl": "0s"}}, "defaults.ttl is zero", 'a lease needs a length, or "none" for no end'),
        ({"defaults": []}, "defaults must be a table, not []", None),
        ({"limits": []}, "limits must be a table, not []", None),
        ({"limits": {"a": {"owner": "b"}}}, "limits.a limits nothing", "give it max_hosts, max_ttl or max_ahead"),
        ({"limits": {"a": {"max_host": 1}}}, "limits.a: unknown key 'max_host'", "did you mean 'max_hosts'?"),
        (
            {"limits": {"a": {"max_hosts": -1}}},
            "limits.a.max_hosts must be a whole number from 0 to 100000, not -1",
            None,
        ),
        ({"limits": {"a": {"max_ttl": "0s"}}}, "limits.a.max_ttl is zero", "to allow no lease at all: max_hosts = 0"),
        (
            {"limits": {"a": {"max_hosts": 1, "owner": ""}}},
            "limits.a.owner is empty",
            'such as owner = "intern-*"; without owner, the limit is for every owner',
        ),
        (
            {"defaults": {"quarantine_after_task_failures": 1}},
            "defaults.quarantine_after_task_failures must be a whole number from 2 to 20",
            None,
        ),
        (
            {"defaults": {"quarantine_after": True}},
            "defaults.quarantine_after must be a whole number from 1 to 1000",
            None,
        ),
        ({"defaults": {"recheck_after": "0s"}}, "defaults.recheck_after is zero", "give it some time, such as 24h"),
        ({"defaults": {"recheck_share": 0}}, "defaults.recheck_share must be a number above 0 and up to 1", None),
        ({"defaults": {"recheck_share": True}}, "defaults.recheck_share must be a number above 0 and up to 1", None),
        ({"defaults": {"check_on_reserve": "now"}}, "defaults.check_on_reserve must be one of always, stale, n", None),
        (
            {"defaults": {"check_on_reserve": "stale"}},
            'defaults.check_on_reserve = "stale" needs recheck_after',
            'such as recheck_after = "24h"',
        ),
        ({"checks": {"x": {}}}, "checks.x has none of command, tcp, http", "give each step exactly one of them"),
        ({"checks": {"x": {"tcp": 22, "command": ["a"]}}}, "checks.x has command and tcp", None),
        ({"checks": {"x": {"tcp": 70000}}}, "checks.x.tcp must be a whole number from 1 to 65535, not 70000", None),
        ({"checks": {"x": {"command": "ls"}}}, "checks.x.command must be a list of texts", None),
        ({"checks": {"x": {"command": []}}}, "checks.x.command must be a list of texts", None),
        ({"checks": {"x": {"command": ["{adress}"]}}}, "checks.x.command: unknown placeholder {adress}", None),
        ({"checks": {"x": {"tcp": 22, "selector": "a="}}}, None, None),
        ({"checks": {"x": {"tcp": 22, "selector": "a["}}}, "checks.x.selector: 'a['", None),
        ({"cleanup": {"x": {"tcp": 22, "timeout": "0s"}}}, "cleanup.x.timeout is zero", None),
        ({"checks": {"x": {"http": "ftp://a"}}}, "checks.x.http.url must be a URL such as", None),
        ({"checks": {"x": {"http": "http://u:p@a"}}}, "checks.x.http.url must be a URL such as", None),
        ({"checks": {"x": {"http": {"url": "http://a", "statsu": 1}}}}, "checks.x.http: unknown key 'statsu'", None),
        ({"checks": {"x": {"tcp": 22, "retries": -1}}}, "checks.x.retries must be a whole number from 0", None),
        ({"cleanup": {"x": {"redfish": {}}}}, "cleanup.x.redfish asks for nothing", None),
        ({"setup": {"x": {"tcp": 22, "needs": "y"}}}, "setup.x.needs must be a list of names of steps", None),
        (
            {"setup": {"bios": {"tcp": 22}}, "checks": {"x": {"tcp": 22, "needs": ["bios"]}}},
            "checks.x.needs: there is no [checks.bios]",
            "a step can need only other steps of the same table",
        ),
        (
            {"setup": {"bios": {"tcp": 22}, "x": {"tcp": 22, "needs": ["bois"]}}},
            "setup.x.needs: there is no [setup.bois]",
            "did you mean 'bios'?",
        ),
        (
            {"setup": {"a": {"tcp": 22, "needs": ["a"]}}},
            "setup: the steps need each other in a circle: a needs a",
            None,
        ),
        (
            {"setup": {"a": {"tcp": 22, "needs": ["b"]}, "b": {"tcp": 22}}},
            "setup: the steps need each other in a circle: a needs b needs a",
            "a step without needs follows the step declared before it; needs = [] makes it independent",
        ),
    ],
)
def test_every_error_of_a_policy_names_its_key(
    document: dict[str, object], message: str | None, hint: str | None
) -> None:
    if message is None:
        parse_policy(document)
        return
    with pytest.raises(InvalidError) as refused:
        parse_policy(document)

    assert refused.value.message.startswith(message)
    assert hint is None or refused.value.hint == hint


def test_a_default_lease_longer_than_the_longest_is_refused() -> None:
    with pytest.raises(InvalidError, match=r"defaults\.ttl is longer than defaults\.max_ttl"):
        parse_policy({"defaults": {"ttl": "2d", "max_ttl": "1d"}})


def test_max_ttl_below_the_default_ttl_shortens_it() -> None:
    assert parse_policy({"defaults": {"max_ttl": "2h"}}).ttl == timedelta(hours=2)
