"""The pytest plugin, in a separate pytest: hosts for tests, one reservation for each process, always given back."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import bmhctl
from tests.conftest import environment

pytestmark = pytest.mark.slow

HOSTS = """\
import os, time
import pytest

def note(text):
    with open("seen", "a") as file:
        file.write(f"{text}\\n")

"""


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    with bmhctl.open_inventory(tmp_path / "lab.db", actor="ops", create=True) as inventory:
        inventory.add("arm[1-2]", labels={"arch": "arm64"})
        inventory.add("x86[1-2]", labels={"arch": "x86_64"})
        inventory.ready("arm[1-2]", "x86[1-2]")
    return tmp_path


def command(lab: Path, tests: str, *options: str) -> list[str]:
    (lab / "test_it.py").write_text(HOSTS + tests)
    plugin = ["-p", "no:cacheprovider", "-p", "no:hypothesispytest", "-p", "bmhctl.pytest_plugin"]
    return [sys.executable, "-m", "pytest", "-q", "--rootdir", str(lab), *plugin, *options, "test_it.py"]


def call(lab: Path, tests: str, *options: str, **extra: str) -> subprocess.CompletedProcess[str]:
    line = command(lab, tests, *options)
    return subprocess.run(line, cwd=lab, env=environment(**extra), capture_output=True, text=True, check=False)


def seen(lab: Path) -> list[str]:
    path = lab / "seen"
    return path.read_text().splitlines() if path.exists() else []


def states(lab: Path) -> dict[str, str]:
    with bmhctl.open_inventory(lab / "lab.db") as inventory:
        return {host.name: host.state.value for host in inventory.hosts()}


def wait_until_given_back(lab: Path) -> None:
    ends = time.monotonic() + 30
    while "reserved" in states(lab).values():
        assert time.monotonic() < ends
        time.sleep(0.1)


def test_tests_with_equal_requirements_share_a_reservation(lab: Path) -> None:
    done = call(
        lab,
        """
@pytest.mark.bmh("arch=arm64", count=2)
def test_a(bmh_hosts):
    note(",".join(host.name for host in bmh_hosts))

@pytest.mark.bmh("arch=arm64", count=2)
def test_b(bmh_host):
    note(bmh_host.name)

@pytest.mark.bmh("arch=x86_64")
def test_c(bmh_host):
    note(bmh_host.spec.labels["arch"])
""",
        "--bmh-inventory",
        "lab.db",
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert seen(lab) == ["arm1,arm2", "arm1", "x86_64"]
    assert states(lab) == {"arm1": "tainted", "arm2": "tainted", "x861": "tainted", "x862": "available"}
    with bmhctl.open_inventory(lab / "lab.db") as inventory:
        reasons = [event.reason for event in inventory.history("x861")]
    assert "tests passed" in str(reasons[-1])


@pytest.mark.slow
def test_two_workers_have_two_reservations(lab: Path) -> None:
    done = call(
        lab,
        """
@pytest.mark.parametrize("n", range(4))
@pytest.mark.bmh("arch=arm64")
def test_a(bmh_host, n):
    note(f"{os.environ['PYTEST_XDIST_WORKER']} {bmh_host.name}")
    time.sleep(0.3)
""",
        "-n",
        "2",
        "--bmh-inventory",
        "lab.db",
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert len({line.split()[0] for line in seen(lab)}) == len(set(seen(lab))) == 2
    assert [state for name, state in states(lab).items() if name.startswith("arm")] == ["tainted", "tainted"]


@pytest.mark.parametrize(
    ("number", "said"), [(signal.SIGINT, "pytest was interrupted"), (signal.SIGKILL, "pytest died")]
)
def test_hosts_are_given_back_after_ctrl_c_and_when_pytest_is_killed(
    lab: Path, number: signal.Signals, said: str
) -> None:
    line = command(
        lab,
        """
def test_a(bmh_host):
    note("in")
    time.sleep(60)
""",
        "--bmh-inventory",
        "lab.db",
    )
    with subprocess.Popen(line, cwd=lab, env=environment(), stdout=subprocess.DEVNULL) as running:
        ends = time.monotonic() + 60
        while not seen(lab):
            assert time.monotonic() < ends
            assert running.poll() is None
            time.sleep(0.05)
        assert "reserved" in states(lab).values()
        os.kill(running.pid, number)
    wait_until_given_back(lab)
    with bmhctl.open_inventory(lab / "lab.db") as inventory:
        assert said in [event.reason for event in inventory.history()]


FROZEN = """
class Frozen(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return cls(2020, 1, 14, tzinfo=tz)

def freeze(monkeypatch):
    monkeypatch.setattr(database, "datetime", Frozen)
"""

TRAVELLING = """
def freeze(monkeypatch):  # as time_machine does
    real, at = time.clock_gettime, datetime.datetime(2020, 1, 14).timestamp()
    escape = types.SimpleNamespace(time=types.SimpleNamespace(clock_gettime=real))
    monkeypatch.setitem(sys.modules, "time_machine", types.SimpleNamespace(escape_hatch=escape))
    monkeypatch.setattr(time, "clock_gettime", lambda clock: at if clock == time.CLOCK_REALTIME else real(clock))
"""


@pytest.mark.parametrize("clock", [FROZEN, TRAVELLING], ids=["frozen", "travelling"])
def test_a_lease_is_renewed_whatever_folder_and_clock_a_test_chooses(clock: str, lab: Path) -> None:
    with bmhctl.open_inventory(lab / "lab.db", actor="ops") as inventory:
        held = inventory.reserve("x861")
    done = call(
        lab,
        """
import datetime, sys, types
import bmhctl.pytest_plugin
import bmhctl.stores.sqlite.database as database

bmhctl.pytest_plugin._TTL = 3
"""
        + clock
        + """
def test_a(tmp_path, monkeypatch, bmh_host):
    location = os.path.abspath("lab.db")
    monkeypatch.chdir(tmp_path)
    freeze(monkeypatch)
    first = bmh_host.reservation.expires_at
    limit = time.monotonic() + 30
    with bmhctl.open_inventory(location) as lab:
        while lab.host(bmh_host.name).reservation.expires_at <= first:
            assert time.monotonic() < limit
            time.sleep(0.05)

def test_b(tmp_path, bmh_host):
    os.chdir(tmp_path)
""",
        "--bmh-inventory",
        "lab.db",
    )
    assert done.returncode == 0, done.stdout + done.stderr
    with bmhctl.open_inventory(lab / "lab.db") as inventory:
        assert inventory.history("arm1")[-1].reason == "tests passed"
        assert held.reservation in [other.reservation for other in inventory.reservations()]


LOSING = """
import bmhctl

def test_a(bmh_host):
    with bmhctl.open_inventory("lab.db", actor="ops") as lab:
        lab.taint(bmh_host.name, force=True, reason="needed elsewhere")
"""

ANOTHER = """
@pytest.mark.bmh("arch=arm64")
def test_b(bmh_host): pass
"""


@pytest.mark.parametrize("tests", [LOSING, LOSING + ANOTHER], ids=["last", "not last"])
@pytest.mark.parametrize("options", [(), ("-n", "1")], ids=["one process", "workers"])
def test_pytest_ends_with_3_when_hosts_were_lost(options: tuple[str, ...], tests: str, lab: Path) -> None:
    done = call(lab, tests, "--bmh-inventory", "lab.db", *options)
    assert done.returncode == 3
    assert "the hosts were lost while tests ran: reservation r-" in done.stderr + done.stdout
    assert "INTERNALERROR" not in done.stdout


def test_pytest_ends_with_3_when_the_lease_ended_while_the_inventory_was_unavailable(lab: Path) -> None:
    tests = """
import bmhctl.pytest_plugin as plugin

plugin._TTL, plugin._RETRY = 1, 0.05

def test_a(bmh_host, request):
    os.rename("lab.db", "away.db")
    limit = time.monotonic() + 30
    while request.config.stash[plugin._LEASE].lost is None:
        assert time.monotonic() < limit
        time.sleep(0.02)
"""
    done = call(lab, tests, "--bmh-inventory", "lab.db")
    assert done.returncode == 3, done.stdout + done.stderr
    reason = f"their lease could not be renewed while tests ran: there is no inventory at {lab / 'lab.db'}"
    assert f"bmhctl: the hosts may be lost, because {reason}" in done.stderr


def test_hosts_that_cannot_be_given_back_at_the_end_are_given_back_when_pytest_has_ended(lab: Path) -> None:
    """The process that does so finds bmhctl's modules, although the current folder has others of their names."""
    (lab / "conftest.py").write_text("import os\ndef pytest_unconfigure(): os.rename('away.db', 'lab.db')\n")
    tests = """
def test_a(bmh_host):
    for name in ("queue", "platform", "secrets"):
        with open(f"{name}.py", "w") as file:
            file.write("raise SystemExit")
    os.rename("lab.db", "away.db")
"""
    done = call(lab, tests, "--bmh-inventory", "lab.db")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "bmhctl: the hosts could not be given back: there is no inventory at" in done.stderr
    wait_until_given_back(lab)


def test_without_an_inventory_a_test_is_skipped_and_a_wrong_marker_is_named(lab: Path) -> None:
    done = call(lab, "def test_a(bmh_host): pass\n", "-rs")
    assert "no inventory: --bmh-inventory or $BMHCTL_INVENTORY names one" in done.stdout
    wrong = call(lab, "@pytest.mark.bmh(cuont=2)\ndef test_a(bmh_host): pass\n", "--bmh-inventory", "lab.db")
    assert 'the marker is @pytest.mark.bmh("SELECTOR", count=N)' in wrong.stdout


def test_a_request_for_hosts_that_the_lab_lacks_is_an_error_at_once(lab: Path) -> None:
    done = call(lab, '@pytest.mark.bmh("arch=riscv")\ndef test_a(bmh_host): pass\n', BMHCTL_INVENTORY="lab.db")
    assert done.returncode == 1
    assert "bmhctl: not possible in this inventory: 1 host with arch=riscv" in done.stdout
    assert "allocation.py" not in done.stdout  # a refusal is not a defect: no traceback


def test_while_hosts_are_busy_a_line_says_what_pytest_waits_for(lab: Path) -> None:
    with bmhctl.open_inventory(lab / "lab.db", actor="ops") as inventory:
        held = inventory.reserve("arm1", "arm2")
        line = command(lab, '@pytest.mark.bmh("arch=arm64")\ndef test_a(bmh_host): pass\n')
        asked = ("--bmh-inventory", "lab.db", "--bmh-wait", "40s")
        running = subprocess.Popen([*line, *asked], cwd=lab, env=environment(), stderr=subprocess.PIPE, text=True)
        with running:
            assert running.stderr is not None
            said = next(text for text in running.stderr if text.strip())
            inventory.release(held.reservation.id)
            inventory.reset("arm1", "arm2")
            inventory.ready("arm1", "arm2")
    assert running.returncode == 0
    assert said.startswith("bmhctl: waiting for up to 40s (--bmh-wait): 1 host with arch=arm64: none free now")


def test_only_the_first_test_waits_for_hosts_that_stay_busy(lab: Path) -> None:
    with bmhctl.open_inventory(lab / "lab.db", actor="ops") as inventory:
        inventory.reserve("arm1", "arm2", "x861", "x862")
    tests = "def test_a(bmh_host): pass\ndef test_b(bmh_host): pass\n"
    done = call(lab, tests, "--bmh-inventory", "lab.db", "--bmh-wait", "1s")
    assert done.returncode == 1
    assert done.stderr.count("bmhctl: waiting for up to 1s (--bmh-wait)") == 1
    assert "\nbmhctl: timed out after 1s waiting for 1 host\n" in done.stdout
    assert "\nbmhctl: 1 host: none free now, nothing was reserved: 4 reserved" in done.stdout


def test_bmhctl_is_not_imported_where_no_test_needs_a_host(lab: Path) -> None:
    done = call(
        lab,
        """
def test_a():
    import sys
    assert [name for name in sys.modules if name.startswith("bmhctl")] == ["bmhctl", "bmhctl.pytest_plugin"]
""",
    )
    assert done.returncode == 0, done.stdout


def test_a_process_that_a_test_forked_gives_no_hosts_back_when_it_ends_as_pytest(lab: Path) -> None:
    done = call(
        lab,
        """
def test_a(bmh_host):
    child = os.fork()
    assert child, "the child goes on as a second pytest"
    os.waitpid(child, 0)
    import bmhctl
    with bmhctl.open_inventory("lab.db") as inventory:
        note(inventory.host(bmh_host.name).state)
""",
        "--bmh-inventory",
        "lab.db",
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert seen(lab) == ["reserved"]
    assert "tainted" in states(lab).values()
