"""Rewrite what README and manual show of bmhctl, after a change of what commands print; then read the difference.

    python tests/docs/update.py [PAGE…]

A PAGE is README or the name of a page of the manual; without one, all are rewritten. Sessions are played again; an
output that differs only in its times and ids stays as it is.
"""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby

from pages import FILES, Page, Played, comparable, generated, page, played, read, replaced


def main(names: list[str]) -> None:
    """Rewrite the pages of these names, several at a time."""
    chosen = [page(name) for name in names] or [read(path) for path in FILES]
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(update, chosen))


def update(page: Page) -> None:
    """Rewrite one page."""
    text = page.text
    sessions = [(block, list(steps)) for block, steps in groupby(played(page), key=lambda step: step.block)]
    for block, steps in reversed(sessions):
        text = text[: block.start] + "".join(map(_shown, steps)) + text[block.start + len(block.text) :]
    for name, part in generated(page).items():
        text = replaced(text, name, part)
    if text != page.text:
        page.path.write_text(text, encoding="utf-8")
        print(f"{page.name}: rewritten")


def _shown(step: Played) -> str:
    same = comparable(step.output) == comparable(step.command.output)
    output = step.command.output if same else step.output
    return f"{step.command.typed}\n{output}" + ("" if not output or output.endswith("\n") else "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
