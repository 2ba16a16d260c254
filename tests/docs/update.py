"""Rewrites what the README shows of bmhctl: run it after a change of what commands print, then read the difference.

    python tests/docs/update.py

Sessions are played again; an output that only differs in its times and ids stays as it is.
"""

from __future__ import annotations

from itertools import groupby

from readme_parts import README, Played, comparable, generated, played, readme, replaced


def main() -> None:
    text = readme()
    sessions = [(block, list(steps)) for block, steps in groupby(played(), key=lambda step: step.block)]
    for block, steps in reversed(sessions):
        new = "".join(map(_shown, steps))
        text = text[: block.start] + new + text[block.start + len(block.text) :]
    for name, part in generated().items():
        text = replaced(text, name, part)
    README.write_text(text, encoding="utf-8")


def _shown(step: Played) -> str:
    same = comparable(step.output) == comparable(step.command.output)
    output = step.command.output if same else step.output
    return f"{step.command.typed}\n{output}" + ("" if not output or output.endswith("\n") else "\n")


if __name__ == "__main__":
    main()
