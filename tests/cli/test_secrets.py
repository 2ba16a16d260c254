"""The password in a URL is for libpq and for the task of ``run``: no screen and no table shows it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from bmhctl.stores import open_store
from bmhctl.stores.postgres.url import Address
from bmhctl.usecases import inventories
from tests import forked
from tests.cli.conftest import Cli, Terminal, json_of
from tests.cli.roles import Fleet
from tests.conftest import Bmhctl, environment
from tests.postgres import drop_schema

pytestmark = pytest.mark.slow

SECRET = "geheim"
POLICY = '[defaults]\nttl = "1h"\n'


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    """An inventory whose URL has a password, which this server does not ask for."""
    made = Fleet(tmp_path)
    made.url += f"&password={SECRET}"
    made.elsewhere += f"&password={SECRET}"
    inventories.init(made.url)
    yield made
    drop_schema(made.url)
    drop_schema(made.elsewhere)
    made.close()


COMMANDS = (
    "init -i ELSEWHERE",
    "init",
    "status",
    "why HOST",
    "show HOST",
    "history",
    "graph HOST",
    "export",
    "policy show",
    "policy apply POLICY",
    "policy grants",
    "backup backup.db",
    "copy URL copy.toml",
    "copy copy.toml URL",
    "copy copy.toml ELSEWHERE",
    "copy URL /nowhere/lab.db",
    "reserve HOST",
    "reserve HOST --shell",
    "release HOST",
    "list nothing",
    "init --group users -i ELSEWHERE",
    "init --adopt",
)
"""Commands that print, or might print, the name of an inventory."""


@pytest.mark.parametrize("options", [(), ("-v",), ("-o", "json"), ("-o", "jsonl"), ("-q",)], ids=" ".join)
def test_no_command_prints_the_password_of_the_url(options: tuple[str, ...], fleet: Fleet, cli: Cli) -> None:
    words = {"URL": fleet.url, "ELSEWHERE": fleet.elsewhere, "HOST": fleet.available(), "POLICY": fleet.file(POLICY)}
    for command in COMMANDS:
        done = cli(*(words.get(word, word) for word in command.split()), *options, BMHCTL_INVENTORY=fleet.url)
        assert SECRET not in done.stdout + done.stderr, command
        assert "Traceback" not in done.stderr, command
    assert SECRET not in repr(fleet.rows())
    assert not any(SECRET.encode() in path.read_bytes() for path in fleet.folder.rglob("*") if path.is_file())


def test_no_password_is_shown_on_a_terminal(fleet: Fleet, terminal: Terminal) -> None:
    for args in (["status"], ["copy", fleet.url, "copy.db"], ["init"]):
        assert SECRET not in terminal(*args, BMHCTL_INVENTORY=fleet.url).text


PLACES = (
    "URL",
    "URL list",
    "list URL",
    "list -l URL",
    "list --fields URL",
    "list --sort URL",
    "list --state URL",
    "list -o URL",
    "list --as URL --nonsense=URL",
    "show URL",
    "why URL",
    "history URL",
    "add URL",
    "set node01 --mac URL",
    "set node01 --credentials URL",
    "rename node01 URL",
    "remove URL",
    "import URL",
    "copy URL URL",
    "backup URL",
    "policy URL",
    "policy apply URL",
    "policy check --file URL",
    "policy grants --prefix URL",
    "reserve URL",
    "reserve node01 --ttl URL",
    "reserve --want URL",
    "reserve -n URL",
    "taint URL",
    "release -R URL",
    "extend -R URL",
    "handover URL --to bob",
    "replace URL -R URL",
    "queue cancel URL",
    "bookings cancel URL",
    "bookings move URL --from 2h",
    "reserve node01 --from URL --ttl 1h",
    "reserve --booking URL",
    "power URL status",
    "ready URL -j URL",
    "maintain node01 --reason x --until URL",
    "completion URL",
    "run --host URL -- true",
    "run -l URL -- true",
    "run --keep-on-fail URL -- true",
    "run --on-exit URL -- true",
)
"""Places on a command line where a URL is a mistake."""


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://u:{SECRET}@h/db",
        f"postgresql://u:ge/{SECRET}@h/db",
        f"postgresql://u:{'x' * 90}@{SECRET}@h/db",
        f"postgresql://u:{SECRET}{'x' * 90}@h/db",
        f"postgresql://h/db?password={SECRET}",
    ],
)
@pytest.mark.parametrize("options", [(), ("-o", "json")], ids=" ".join)
def test_an_error_quotes_a_misplaced_url_without_its_password(
    url: str, options: tuple[str, ...], cli: Cli, tmp_path: Path
) -> None:
    assert cli("init", "-i", "lab.db").status == 0
    assert cli("add", "node01", "-i", "lab.db").status == 0
    for place in PLACES:
        args = [*options, *(word.replace("URL", url) for word in place.split())]
        done = cli(*args, BMHCTL_INVENTORY="lab.db")
        assert done.status not in (0, 1), place
        assert SECRET not in done.stdout + done.stderr, (place, done)
    for broken in (url, f"{url}\udcff", f"x{url}"):
        assert SECRET not in "".join(map(str, [*vars(cli("list", *options, "-i", broken)).values()]))
        assert SECRET not in "".join(map(str, [*vars(cli("list", *options, BMHCTL_INVENTORY=broken)).values()]))


def test_a_task_gets_the_whole_url(fleet: Fleet, cli: Cli) -> None:
    name = fleet.available()
    inner = f"{sys.executable} -m bmhctl list --state reserved -o name"
    task = ("run", "-q", "--host", name, "--", "sh", "-c", f'echo "$BMHCTL_INVENTORY"; {inner}')
    done = cli(*task, BMHCTL_INVENTORY=fleet.url)
    assert (done.status, done.stderr) == (0, "")
    told, seen = done.stdout.splitlines()
    assert Address.parse(told) == Address.parse(fleet.url)
    assert SECRET in told
    assert seen == name


def test_no_process_of_bmhctl_has_the_password_on_its_command_line(
    fleet: Fleet, bmhctl: Bmhctl, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forked, "can_run", lambda _: False)  # a fork has the command line of its parent
    name = fleet.available()
    look = 'for each in $PPID $(cat /proc/$PPID/task/$PPID/children); do tr "\\0" " " </proc/$each/cmdline; done'
    done = bmhctl("run", "-q", "--host", name, "--", "sh", "-c", look, BMHCTL_INVENTORY=fleet.url)
    assert (done.status, done.stderr) == (0, "")
    assert "bmhctl run -q --host" in done.stdout
    assert "watchdog" in done.stdout
    assert SECRET not in done.stdout


@pytest.mark.parametrize(
    "defect",
    [
        "def counts(self): return 1 / 0",
        "def counts(self): return dict(self._database.execute('SELECT nonsense FROM nowhere.at_all'))",
        "def counts(self): return dict(self._database.execute('SELECT ?', [object()]))",
    ],
)
def test_the_traceback_of_a_defect_hides_the_password(defect: str, fleet: Fleet) -> None:
    code = f"""
import sys
from bmhctl.cli.main import run
from bmhctl.stores.hosts import Hosts
{defect}
Hosts.counts = counts
sys.exit(run(["status"]))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment(BMHCTL_INVENTORY=fleet.url), capture_output=True, text=True
    )
    assert done.returncode != 0
    assert "Traceback" in done.stderr or "is damaged" in done.stderr
    assert SECRET not in done.stdout + done.stderr


@pytest.mark.parametrize("url", [f"postgresql://h/db?password=x&{SECRET}=1", f"postgresql://u:x%{SECRET}@h/db"])
def test_the_traceback_of_a_program_that_uses_the_api_hides_the_password(url: str) -> None:
    code = "import os; from bmhctl import open_inventory; open_inventory(os.environ['BMHCTL_INVENTORY'])"
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment(BMHCTL_INVENTORY=url), capture_output=True, text=True
    )
    assert done.returncode == 1
    assert "UsageError: can't read the URL" in done.stderr
    assert SECRET not in done.stderr


def test_the_repr_of_a_store_hides_the_password(fleet: Fleet) -> None:
    with closing(open_store(fleet.url)) as store:
        assert SECRET not in f"{store!r} {store.database!r} {store.location} {Address.parse(fleet.url)!r}"
        assert SECRET in store.address


def test_json_output_names_the_inventory_without_its_password(fleet: Fleet, cli: Cli) -> None:
    shown = Address.parse(fleet.url).shown
    assert json_of(cli("status", "-o", "json", "-i", fleet.url))["inventory"] == shown
    made = json_of(cli("init", "-o", "json", "-i", fleet.elsewhere))
    assert made["details"]["inventory"] == Address.parse(fleet.elsewhere).shown
