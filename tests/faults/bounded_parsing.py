"""Gives a parser all of its hostile texts, in a process with limited memory and time.

`python -m tests.faults.bounded_parsing` reads the names of parsers, one per line, and forks a process for each one. It
prints a line of JSON before and after each text, so that the text that ended the process is known, and one line with
the end of the process.
"""

from __future__ import annotations

import json
import os
import resource
import sys
from collections.abc import Iterator
from typing import NoReturn

from tests.faults.hostile_files import COMPRESSED, IS_WHOLE, JSON, LINES, TOML, YAML
from tests.faults.hostile_texts import DIGITS, STRANGE, TYPED, Made
from tests.faults.parsers import PARSERS, Tally, lab_folder
from tests.formats.importer_samples import SAMPLES

MEMORY = 2 * 2**30
"""How much memory the process may take, in bytes."""

SECONDS = 60 if IS_WHOLE else 15
"""How much time of a processor it may take for all of its texts. The slowest parser needs 4 s."""

_FILES: dict[str, dict[str, dict[str, Made]]] = {
    "declarations": {"TOML": TOML},
    "edits of declarations": {"TOML": TOML},
    "policies": {"TOML": TOML},
    "exports": {"TOML": TOML},
    "manifests in YAML": {"YAML": YAML, "JSON": JSON},
    "manifests in YAML without libyaml": {"YAML": YAML},
    "manifests in JSON": {"JSON": JSON},
    # Every import decompresses its files in the same way, before it looks at their kind.
    "imports of any kind": {"TOML": TOML, "YAML": YAML, "JSON": JSON, "lines": LINES, "compressed": COMPRESSED},
    **{
        f"imports from {name}": {"JSON": JSON} if text[0] in "{[" else {"lines": LINES}
        for name, text in SAMPLES.items()
    },
}


def texts(name: str) -> dict[str, Made]:
    """Yield all hostile texts of a parser; each is made only when it is used."""
    kinds = _FILES.get(name) or {"any": STRANGE, "numbers": DIGITS, "its own": TYPED[name]}
    return {f"{kind}: {title}": make for kind, made in kinds.items() for title, make in made.items()}


def judged(name: str) -> Iterator[dict[str, object]]:
    """Yield a line for each text: first its title, then the title with the parser's result."""
    parser = PARSERS[name]
    for title, make in texts(name).items():
        yield {"text": title}
        text = make()
        if parser.of_files and isinstance(text, str):
            text = text.encode("utf-8", "surrogatepass")
        tally = Tally()
        fault = None
        try:
            tally.judge(parser, text)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is a fault to report
            fault = f"{type(error).__name__}: {error!s:.200}"
        yield {"text": title, "refused": tally.refusals, "fault": fault}


def main() -> None:
    lab_folder()  # the children end without a cleanup
    for line in sys.stdin:
        child = os.fork()
        if not child:
            _bounded(line.rstrip("\n"))
        _, status = os.waitpid(child, 0)
        print(json.dumps({"ended": os.waitstatus_to_exitcode(status)}), flush=True)


def _bounded(name: str) -> NoReturn:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    status = 1
    try:
        for row in judged(name):
            print(json.dumps(row), flush=True)
        status = 0
    finally:
        os._exit(status)


if __name__ == "__main__":
    main()
