"""A table or key in the wrong place of an inventory is answered with the right form, and that form is accepted."""

from __future__ import annotations

import pytest

from bmhctl.errors import InvalidError
from bmhctl.stores.toml.declaration import parse_declaration

LIMITS = "[limits.NAME] with keys below it, such as max_hosts = 3"
CHECKS = "[checks.NAME] with keys below it, such as tcp = 22"
CLEANUP = '[cleanup.NAME] with keys below it, such as command = ["./cleanup.sh", "{name}"]'
DEFAULTS = '[defaults] with keys below it, such as ttl = "4h"'
HOSTS = "a host is a header such as [hosts.node01] with its keys below"
OTHERS = 'note; for others: labels = { rack = "r1" } or hardware = { cpus = 64 }'


def refusal(text: str) -> InvalidError:
    with pytest.raises(InvalidError) as caught:
        parse_declaration(text.encode(), "lab.toml")
    return caught.value


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [
        ("[limits]\nmax_hosts = 3", LIMITS),
        ("[[limits]]\nmax_hosts = 3", LIMITS),
        ("limits = 3", LIMITS),
        ("max_hosts = 3", "it belongs below [limits.NAME]"),
        ("[defaults]\nmax_hosts = 3", "it belongs below [limits.NAME]"),
        ('defaults = "2h"', DEFAULTS),
        ('[[defaults]]\nttl = "2h"', DEFAULTS),
        ('ttl = "2h"', "it belongs below [defaults]"),
        ("[checks]\ntcp = 22", CHECKS),
        ('[checks]\nping = ["ping", "{address}"]', CHECKS),
        ('[[checks]]\nname = "ssh"', CHECKS),
        ("tcp = 22", "it belongs below [checks.NAME]"),
        ('[defaults]\ntimeout = "2m"', "it belongs below [checks.NAME]"),
        ('[cleanup]\ntimeout = "1h"', CLEANUP),
        ("[checks.web]\nhttp = 80", 'such as http = "http://{address}:8080/health"'),
        ("[checks.bmc]\nredfish = true", 'such as redfish = { power = "on" }'),
        ("[cleanup.off]\nredfish = true", 'such as redfish = { power = "off" }'),
        (
            '[prepare.image]\ncommand = ["x"]\nparams = ["image"]',
            'such as params = { image = "noble|jammy" }',
        ),
        ('[hosts]\nnode01 = "10.0.0.1"', HOSTS),
        ('[[hosts]]\nname = "node01"', HOSTS),
        ('[node01]\naddress = "10.0.0.1"', HOSTS),
        ('[labels]\nrack = "r1"', "it belongs below [hosts.NAME]"),
        ('[hosts.node01]\nlabels = "rack=r1"', 'such as labels = { rack = "r1" }'),
        ('[hosts.node01]\nhardware = ["cpus=64"]', 'such as hardware = { cpus = 64, memory = "256GiB" }'),
        ('[hosts.node01]\nbmc = "10.0.1.11"', 'such as bmc = { address = "redfish+https://10.0.1.11" }'),
        ('[hosts.node01]\nbmc_address = "10.0.1.11"', "write bmc.address = …"),
        ('[bmc]\naddress = "10.0.1.11"', "it belongs below [hosts.NAME]"),
        ('["n1.x"]\naddress = "10.0.1.11"', 'a host is a header such as [hosts."n1.x"] with its keys below'),
        ('[hosts.node01]\ncredentials = "env:BMC"', "write bmc.credentials = …"),
    ],
)
def test_a_table_or_key_in_the_wrong_place_is_answered_with_the_right_form(wrong: str, hint: str) -> None:
    assert refusal(wrong).hint == hint


def test_an_unknown_key_of_a_host_is_answered_with_the_tables_for_any_key() -> None:
    assert refusal('[hosts.node01]\nrack = "r1"').hint == f"known here: address, mac, labels, bmc, hardware, {OTHERS}"


def test_a_duration_that_is_a_number_is_answered_with_one_in_quotes() -> None:
    for text, where in (("[defaults]\nttl = 7200", "defaults.ttl"), ("[limits.ci]\nmax_ttl = 2", "limits.ci.max_ttl")):
        assert f'{where} must be a duration in quotes, such as "90s" or "2h", not ' in refusal(text).message


def test_the_right_forms_are_accepted() -> None:
    parse_declaration(
        b"""
        [defaults]
        ttl = "4h"
        [limits.interns]
        max_hosts = 3
        [checks.ssh]
        tcp = 22
        [checks.web]
        http = "http://{address}:8080/health"
        [checks.bmc]
        redfish = { power = "on" }
        [prepare.image]
        command = ["./prepare.sh", "{name}"]
        params = { image = "noble|jammy" }
        [cleanup.off]
        redfish = { power = "off" }
        [hosts.node01]
        labels = { rack = "r1" }
        hardware = { cpus = 64, memory = "256GiB" }
        bmc = { address = "redfish+https://10.0.1.11" }
        """,
        "lab.toml",
    )
