"""The commands that talk to BMCs, and the valid declarations of a BMC."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from tests.cli.conftest import Cli
from tests.conftest import Run, environment
from tests.probes.fake_bmc import ALL, FakeSystem, fake_bmc
from tests.probes.servers import saying, serving
from tests.processes import until

BOOT = {"BootSourceOverrideEnabled": "Disabled", "BootSourceOverrideTarget": "None"}


def declared(cli: Cli, url: str, *options: str) -> Run:
    """Make a fresh inventory with one host at this BMC; return the output of ``add``."""
    Path("bmh.toml").unlink(missing_ok=True)
    assert cli("init").status == 0
    return cli("add", "node01", "--bmc", url, *options)


@pytest.mark.slow
def test_power_boot_once_and_inspect_accept_what_their_help_says(cli: Cli) -> None:
    system = FakeSystem(power="Off", extra={"Boot": BOOT, "IndicatorLED": "Off", "ProcessorSummary": {"Count": 2}})
    with fake_bmc(systems=[system]) as bmc:
        assert declared(cli, bmc.url).status == 0
        for line, said in (
            ("power node01 status", "power off"),
            ("power node01 On", "power on"),
            ("power node01 soft-off", "power off"),
            ("power node01 soft-off --then off", "power off"),
            ("power node01 identify", "indicator light on"),
            ("power node01 identify-off", "indicator light off"),
            ("power node01 --to cycle", "power on"),
            ("boot-once node01 pxe", "boots once from pxe"),
            ("boot-once node01 --from None", "boots as usual"),
            ("inspect node01", "changed: hardware.sockets (none) → 2, hardware.health (none) → OK"),
        ):
            done = cli(*line.split(), "-o", "json")
            assert (done.status, json.loads(done.stdout)["results"][0]["message"]) == (0, said), done
        assert bmc.resets == ["On", "GracefulShutdown", "On"]
        assert cli("list", "-l", "sockets=2", "-o", "name").stdout == "node01\n"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("power node01", "no action is given"),
        ("power node01 --to sleep", "power can't be 'sleep'"),
        ("power node01 off --then off", "--then is for soft-off only"),
        ("power node01 soft-off --then on", "--then can't be 'on'"),
        ("boot-once node01", "no target is given"),
        ("boot-once node01 --from floppy", "can't boot from 'floppy'"),
    ],
)
def test_an_unknown_action_is_refused_before_any_bmc_is_contacted(line: str, said: str, cli: Cli, lab: Path) -> None:
    done = cli(*line.split())
    assert (done.status, done.stderr.splitlines()[0]) == (2, f"bmhctl: {said}")


def test_boot_once_on_a_host_of_another_owner_needs_force_and_is_recorded(cli: Cli) -> None:
    with fake_bmc(systems=[FakeSystem(extra={"Boot": BOOT})]) as bmc:
        declared(cli, bmc.url)
        assert cli("ready", "node01").status == 0
        assert cli("reserve", "node01").status == 0
        assert cli("boot-once", "node01", "pxe", "--as", "bob").status == 8
        assert cli("power", "node01", "soft-off", "--as", "bob").status == 8
        assert bmc.received == []
        assert cli("boot-once", "node01", "pxe", "--as", "bob", "--force", "--reason", "rescue").status == 0
        assert "forced boot-once pxe: rescue" in cli("history", "node01").stdout
        assert cli("boot-once", "node01", "hdd").status == 0


def test_the_hint_is_a_command_for_the_host_that_failed(cli: Cli) -> None:
    with fake_bmc(systems=[FakeSystem("a"), FakeSystem("b")]) as bmc:
        declared(cli, bmc.url)
        done = cli("power", "node01", "off")
        assert done == Run(
            9,
            "",
            f"bmhctl: node01: its BMC at {bmc.url} has 2 systems, and the host declares none of them\n"
            "hint: bmhctl set node01 --bmc-system ID; they are a, b\n",
        )


# tests: what may be declared


@pytest.mark.parametrize(
    ("bmc", "said"),
    [
        ('"redfish+http://h/redfish/v1/Chassis/1"', "/redfish/v1/Chassis/1 is not the path of a Redfish system"),
        ('"https://h/bmc/node7"', "/bmc/node7 is not the path of a Redfish system"),
        ('"https://h/redfish/v1/Systems/1/Bios"', "/redfish/v1/Systems/1/Bios is not the path of a Redfish system"),
        ('"https://h/redfish/v1/Systems/.."', "/redfish/v1/Systems/.. is not the path of a Redfish system"),
        ('"https://h/redfish/v1/Systems/..%2f2"', "/redfish/v1/Systems/..%2f2 is not the path of a Redfish system"),
        ('"https://h/redfish/v1?x=1"', "/redfish/v1?x=1 is not the path of a Redfish system"),
        ('"https://h/redfish/v1/Systems/1", system_id = "2"', "it names the system 1, but system_id is 2"),
        ('"https://h", system_id = "../2"', "../2 is not the id of a system"),
        ('"https://h/a/redfish/v1", system_id = "/redfish/v1"', "/redfish/v1 is not the id of a system"),
        ('"https://fd00::1/redfish/v1"', "an IPv6 address stands in brackets"),
    ],
)
def test_a_bmc_address_with_a_part_that_would_be_ignored_is_refused(
    bmc: str, said: str, cli: Cli, tmp_path: Path
) -> None:
    (tmp_path / "bmh.toml").write_text(f"[hosts.node01]\nbmc = {{ address = {bmc} }}\n")
    done = cli("list")
    assert (done.status, said in done.stderr) == (10, True), done
    (tmp_path / "bmh.toml").write_text("[hosts.node01]\n")
    url = bmc.split('"')[1]
    system = ["--bmc-system", bmc.split('"')[3]] if "system_id" in bmc else []
    done = cli("set", "node01", "--bmc", url, *system)
    assert (done.status, said in done.stderr) == (2, True), done


@pytest.mark.parametrize("address", ["10.0.0.1/redfish/v1/Systems/1", "https//10.0.0.1"])
def test_a_declared_path_needs_a_scheme_before_it(address: str, cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "bmh.toml").write_text(f"[hosts.node01]\nbmc.address = '{address}'\n")
    done = cli("list")
    assert (done.status, f"{address}: a path needs a scheme before it" in done.stderr) == (10, True), done


def test_the_form_that_dns_has_of_a_name_is_the_hint_where_it_is_needed(cli: Cli) -> None:
    assert cli("init").status == 0
    for option, value in (("--bmc", "https://bücher.lab:444/redfish/v1"), ("--address", "bücher.lab")):
        done = cli("add", "node01", option, value)
        assert (done.status, done.stderr.splitlines()[-1]) == (2, "hint: in DNS it is xn--bcher-kva.lab"), done
    done = cli("add", "node01", "--address", "a b")
    assert (done.status, "in DNS" in done.stderr) == (2, False)


def test_requests_to_a_bmc_keep_the_path_prefix_of_its_declared_address(cli: Cli) -> None:
    with fake_bmc(prefix="/bmc/node7") as bmc:
        declared(cli, f"redfish+{bmc.url}/bmc/node7/redfish/v1/Systems/1")
        assert cli("power", "node01", "off").stdout.split()[-1] == "off"
        assert {path for _, path, _ in bmc.received} == {"/bmc/node7/redfish/v1/Systems/1/Actions/ComputerSystem.Reset"}


def test_add_and_set_declare_the_tls_settings_of_a_bmc_and_show_shows_them(cli: Cli) -> None:
    done = declared(cli, "https://10.0.0.1", "--no-verify-tls", "--tls-min-version", "1.0")
    assert done.status == 0
    text = Path("bmh.toml").read_text()
    assert ("verify_tls = false" in text, 'tls_min_version = "1.0"' in text) == (True, True)
    shown = json.loads(cli("show", "node01", "-o", "json").stdout)["host"]["bmc"]
    assert (shown["verify_tls"], shown["tls_min_version"]) == (False, "1.0")
    assert cli("set", "node01", "--tls-min-version", "").status == 0
    assert "tls_min_version" not in Path("bmh.toml").read_text()
    done = cli("set", "node01", "--tls-min-version", "0.9")
    assert (done.status, "must be one of 1.0, 1.1, 1.2, 1.3" in done.stderr) == (2, True)
    assert cli("init", "-i", "lab.db").status == 0
    assert cli("add", "n", "--bmc", "https://10.0.0.1", "--tls-min-version", "1.1", "-i", "lab.db").status == 0
    shown = json.loads(cli("show", "n", "-o", "json", "-i", "lab.db").stdout)["host"]["bmc"]
    assert shown["tls_min_version"] == "1.1"


@pytest.mark.parametrize(
    ("policy", "said"),
    [
        ("[defaults]\nbmc_parallel = 0", "defaults.bmc_parallel must be a whole number from 1 to 1000"),
        ('[defaults]\nproxy = "https://p:1"', "defaults.proxy must be"),
        ('[defaults]\nproxy = "http://u:s3cret@p:1"', "defaults.proxy must be"),
        ('[cleanup.a]\nredfish = { boot_once = "floppy" }', "cleanup.a.redfish.boot_once must be one of pxe, hdd"),
        ('[checks.a]\nredfish = { boot_once = "pxe" }', "unknown key 'boot_once'"),
        ('[checks.a]\nredfish = { power = "soft-off" }', "checks.a.redfish.power must be one of on, off"),
    ],
)
def test_an_invalid_bmc_policy_is_refused(policy: str, said: str, cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "bmh.toml").write_text(policy + "\n")
    done = cli("list")
    assert (done.status, said in done.stderr, "s3cret" in done.stderr) == (10, True, False), done


@pytest.mark.slow
def test_requests_for_several_blades_of_one_bmc_are_sent_one_after_the_other(cli: Cli, tmp_path: Path) -> None:
    with fake_bmc(systems=[FakeSystem(f"b{n}") for n in range(1, 9)], hold=0.02) as bmc:
        for setting, most in (("", 1), ("bmc_parallel = 4", 4)):
            bmc.most_talking = 0
            hosts = "".join(
                f'[hosts.b{n}]\nbmc = {{ address = "{bmc.url}", system_id = "b{n}" }}\n' for n in range(1, 9)
            )
            policy = f'[defaults]\n{setting}\n[checks.bmc]\nredfish = {{ power = "on" }}\n'
            (tmp_path / "bmh.toml").write_text(policy + hosts)
            assert cli("power", "b[1-8]", "status").status == 0
            assert cli("check", "b[1-8]").status == 0
            assert (bmc.most_talking <= most, bmc.most_talking > 1) == (True, most > 1)


def test_http_steps_and_bmcs_both_use_the_proxy_of_the_policy(cli: Cli, tmp_path: Path) -> None:
    asked: list[str] = []

    def proxy(request: BaseHTTPRequestHandler) -> None:
        asked.append(request.path)
        saying("page")(request)

    checks = '[checks.page]\nhttp = "http://page.invalid/"\n[checks.bmc]\nredfish = { power = "on" }\n'
    host = '[hosts.node01]\nbmc = { address = "http://bmc.invalid" }\n'
    with serving(proxy) as port:
        (tmp_path / "bmh.toml").write_text(f'[defaults]\nproxy = "http://127.0.0.1:{port}"\n{checks}{host}')
        done = cli("check", "node01")
        assert done.status == 9, "what answers for the BMC is a page"
        assert cli("power", "node01", "status").status == 9
        assert sorted(set(asked)) == ["http://bmc.invalid/redfish/v1/", "http://page.invalid/"]
        asked.clear()
        (tmp_path / "bmh.toml").write_text(checks + host)
        done = cli("check", "node01", HTTP_PROXY=f"http://127.0.0.1:{port}")
        assert (done.status, asked) == (9, [])
        assert "its name does not resolve" in done.stderr


# tests: the end of a session


def test_ctrl_c_ends_the_session_on_the_bmc(cli: Cli) -> None:
    with fake_bmc(login=("admin", "s3cret"), basic=False, systems=[FakeSystem(ignores=ALL)]) as bmc:
        declared(cli, bmc.url, "--credentials", "env:LOGIN")
        with subprocess.Popen(
            [sys.executable, "-W", "error", "-m", "bmhctl", "power", "node01", "off"],
            env=environment(LOGIN="admin:s3cret"),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            until(lambda: bmc.resets)
            assert bmc.sessions != set()
            os.kill(process.pid, signal.SIGINT)
            _, err = process.communicate(timeout=20)
        assert process.returncode == 130, err
        assert bmc.sessions == set()
        assert "Traceback" not in err
