"""Rewrite the outputs in README and manual after a change of what commands print; then read the difference.

    python tests/docs/update.py [PAGE…]

A PAGE is README or the name of a page of the manual. Without a PAGE, all pages are rewritten on which the commands
print something new, apart from times and ids. All outputs of a page come from one run, so that its times and ids agree.
"""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import groupby

from pages import FILES, Page, Played, comparable, generated, page, played, read, replaced


def main(names: list[str]) -> None:
    """Rewrite the pages of these names, several at a time."""
    chosen = [page(name) for name in names] or [read(path) for path in FILES]
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(partial(update, always=bool(names)), chosen))


def update(page: Page, always: bool) -> None:
    """Rewrite one page; its sessions only if they differ in more than times and ids, unless ``always``."""
    text = page.text
    steps = list(played(page))
    if always or any(comparable(step.output) != comparable(step.command.output) for step in steps):
        sessions = [(block, list(steps)) for block, steps in groupby(steps, key=lambda step: step.block)]
        for block, shown in reversed(sessions):
            text = text[: block.start] + "".join(map(_shown, shown)) + text[block.start + len(block.text) :]
    for name, part in generated(page).items():
        text = replaced(text, name, part)
    if text != page.text:
        page.path.write_text(text, encoding="utf-8")
        print(f"{page.name}: rewritten")


def _shown(step: Played) -> str:
    return f"{step.command.typed}\n{step.output}" + ("" if not step.output or step.output.endswith("\n") else "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
