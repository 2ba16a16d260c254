"""Files that people write: a TOML inventory that is synced after an edit, and manifests that are imported."""

from __future__ import annotations

import json
from functools import partial

from tests.benchmarks.generate import Generator, generate
from tests.benchmarks.harness import Bench, Figure, Series, in_turn
from tests.benchmarks.processes import Cost, programs
from tests.benchmarks.starting import series

PARSE_TOML = "import sys, tomllib; tomllib.loads(open(sys.argv[1], encoding='utf-8').read())"
PARSE_YAML = "import sys, yaml; list(yaml.load_all(open(sys.argv[1], encoding='utf-8'), yaml.CSafeLoader))"


def _edited(bench: Bench) -> Series:
    tools = programs(bench)
    with bench.scratch() as folder:
        path = generate(folder / "lab.toml", 10_000)
        edits = 0

        def first_command() -> Cost:
            nonlocal edits
            edits += 1
            text = path.read_text()
            path.write_text(
                text.replace('rack = "r0"', f'rack = "r0-{edits}"', 1)
                if edits == 1
                else text.replace(f'rack = "r0-{edits - 1}"', f'rack = "r0-{edits}"')
            )
            return tools.run(tools.bmhctl, "-i", str(path), "list", "-o", "name")

        floor = partial(tools.run, tools.python, "-c", PARSE_TOML, str(path))
        return series(*in_turn(bench.rounds, first_command, floor))


def manifest(number: int, generator: Generator) -> str:
    """A BareMetalHost as a cluster exports it."""
    spec = generator.spec(number)
    assert spec.mac is not None
    return f"""\
apiVersion: metal3.io/v1alpha1
kind: BareMetalHost
metadata:
  name: {spec.name}
  namespace: lab
  labels: {json.dumps(dict(spec.labels))}
spec:
  online: true
  bootMACAddress: {spec.mac}
  bmc:
    address: redfish+https://bmc-{number}.lab.example/redfish/v1/Systems/1
    credentialsName: {spec.name}-bmc
status:
  provisioning:
    state: available
  hardware:
    cpu: {{arch: x86_64, count: {spec.hardware["cpus"]}}}
    ramMebibytes: 262144
"""


def _imported(bench: Bench) -> Series:
    tools = programs(bench)
    with bench.scratch() as folder:
        generator = Generator(1)
        manifests = folder / "hosts.yaml"
        hosts = range(1, 10_000 + 1)
        manifests.write_text("---\n".join(manifest(number, generator) for number in hosts))

        def into_new(count: list[int]) -> Cost:
            count.append(1)
            path = str(folder / f"lab{len(count)}.db")
            tools.run(tools.bmhctl, "-i", path, "-q", "init")
            return tools.run(tools.bmhctl, "-i", path, "import", str(manifests))

        floor = partial(tools.run, tools.python, "-c", PARSE_YAML, str(manifests))
        return series(*in_turn(bench.rounds, partial(into_new, []), floor))


FIGURES = (
    Figure(
        "edit/toml",
        "the first command after one host of 10,000 was edited in TOML, over tomllib.loads of the file",
        _edited,
        1.5,
        by_cpu=True,
    ),
    Figure("import", "import of 10,000 manifests over the YAML C loader on the same file", _imported, 1.5, by_cpu=True),
)
