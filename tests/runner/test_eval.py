"""``reserve --shell`` in the shells that evaluate it: on success, on failure, and when asked again."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests import forked
from tests.conftest import Bmhctl, environment
from tests.runner.conftest import Fleet

pytestmark = pytest.mark.slow

SHELLS = [["bash"], ["bash", "--posix"], ["dash"], ["zsh"]]

SHOW = """
for name in BMH_RESERVATION BMH_HOSTS BMH_HOST BMH_ADDRESS; do
    eval "printf '%s=<%s>\\n' $name \\"\\${$name-unset}\\""
done
"""

HOSTS = """
[hosts.node1]
address = "10.0.0.11"

[hosts.node2]
"""


@pytest.fixture(params=SHELLS, ids=" ".join)
def shell(request: pytest.FixtureRequest) -> list[str]:
    words: list[str] = request.param
    if shutil.which(words[0]) is None:
        pytest.skip(f"there is no {words[0]} here")
    return words


@pytest.fixture
def two(tmp_path: Path, bmhctl: Bmhctl) -> Path:
    """node1 with an address, node2 without."""
    path = tmp_path / "lab.toml"
    path.write_text(HOSTS)
    assert bmhctl("-i", "lab.toml", "ready", "*", "-q").status == 0
    return path


def evaluated(shell: list[str], script: str, inventory: Path) -> tuple[int, list[str], str]:
    forked.install(inventory.parent)
    inner = environment(BMHCTL_INVENTORY=str(inventory))
    done = subprocess.run(
        [*shell, "-c", script],
        env={**inner, "PATH": f"{inventory.parent}:{inner['PATH']}", "BMH_ADDRESS": "stale", "BMH_HOST": "stale"},
        capture_output=True,
        text=True,
        cwd=inventory.parent,
    )
    return done.returncode, done.stdout.splitlines(), done.stderr


FORMS = {
    "evaluated": 'eval "$(bmhctl reserve --shell {args})"',
    "kept first": 'out=$(bmhctl reserve --shell {args}); code=$?; eval "$out"; [ $? = $code ] && (exit $code)',
    "both": 'out=$(bmhctl reserve --shell {args}) && eval "$out"',
}


@pytest.mark.parametrize("form", FORMS)
def test_eval_sets_the_variables_and_unsets_old_ones(form: str, shell: list[str], two: Path) -> None:
    script = FORMS[form].format(args="node1 node2") + " || exit\n" + SHOW
    status, lines, said = evaluated(shell, script, two)
    assert (status, said) == (0, "")
    assert lines[0].startswith("BMH_RESERVATION=<r-")
    assert lines[1:] == ["BMH_HOSTS=<node1 node2>", "BMH_HOST=<node1>", "BMH_ADDRESS=<10.0.0.11>"]


def test_eval_unsets_the_old_address_for_a_host_without_one(shell: list[str], two: Path) -> None:
    status, lines, said = evaluated(shell, FORMS["evaluated"].format(args="node2") + "\n" + SHOW, two)
    assert (status, said) == (0, "")
    assert lines[1:] == ["BMH_HOSTS=<node2>", "BMH_HOST=<node2>", "BMH_ADDRESS=<unset>"]


@pytest.mark.parametrize(("args", "wanted"), [("absent", 3), ("-n 3", 6), ("-n 0", 2), ("node1 --ttl soon", 2)])
def test_eval_of_a_failure_has_its_status_and_unsets_the_variables(
    args: str, wanted: int, shell: list[str], two: Path
) -> None:
    script = FORMS["evaluated"].format(args=args) + "\ncode=$?\n" + SHOW + "\nexit $code"
    status, lines, said = evaluated(shell, script, two)
    assert status == wanted
    assert said.startswith("bmhctl: ")
    assert [line.split("=")[1] for line in lines] == ["<unset>"] * 4


def test_set_e_ends_a_script_whose_reservation_failed(shell: list[str], two: Path) -> None:
    status, lines, _ = evaluated(shell, "set -e\n" + FORMS["evaluated"].format(args="absent") + "\necho lost", two)
    assert (status, lines) == (3, [])


def test_a_retry_of_a_reserve_killed_before_its_answer_gets_the_same_reservation(fleet: Fleet) -> None:
    """The first answer was lost: the process ended after its commit and before it wrote anything."""
    patch = """
import bmhctl.cli.reserve as reserving
reserving._answer = lambda *args, **kwargs: os._exit(9)
"""
    args = ["reserve", "-n", "2", "--request-id", "job-7-1", "--shell"]
    lost = fleet.start(*args, patch=patch).end()
    assert (lost.status, lost.stdout) == (9, "")
    (held,) = fleet.open_reservations()
    again = fleet.bmhctl(*args)
    line = f"unset BMH_ADDRESS BMH_PREPARED; export BMH_RESERVATION={held} BMH_HOSTS='node1 node2' BMH_HOST=node1\n"
    assert (again.status, again.stdout) == (0, line)
    assert fleet.open_reservations() == [held]


def test_eval_exports_tags_and_unsets_old_ones(shell: list[str], two: Path) -> None:
    show = "\nenv | grep ^BMH_TAG_ | sort"
    script = 'eval "$(bmhctl reserve --shell node1 --tag job=1 --tag stage=a)"'
    script += f'{show}\neval "$(bmhctl reserve --shell node2 --tag stage=b)"{show}'
    script += f'\neval "$(bmhctl reserve --shell no-such-host)"{show}'
    _, lines, _ = evaluated(shell, script, two)
    assert lines == ["BMH_TAG_JOB=1", "BMH_TAG_STAGE=a", "BMH_TAG_STAGE=b"]
