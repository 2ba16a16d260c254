"""Combine the hosts of several files or documents into one import batch."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain

from bmhctl.domain.host_spec import duplicates
from bmhctl.domain.model import ImportBatch, ImportedHost
from bmhctl.errors import InvalidError

MAX_BYTES = 256 * 1024 * 1024
"""No file to import is longer than this; a longer one is a mistake, and would not fit into memory either."""


def combine(parts: Iterable[ImportBatch]) -> ImportBatch:
    """One cargo of several, with a warning for every MAC or address that several hosts bear.

    Raises :class:`InvalidError` when a name stands twice, naming both places, and for a second policy.
    """
    parts = tuple(parts)
    arrivals = tuple(chain.from_iterable(part.arrivals for part in parts))
    seen: dict[str, ImportedHost] = {}
    for arrival in arrivals:
        first = seen.setdefault(arrival.host.name, arrival)
        if first is not arrival:
            raise InvalidError(
                f"{arrival.origin}: host {arrival.host.name!r} is already in {first.origin}",
                host=arrival.host.name,
                hint="a name is unique in an inventory: rename one of them, or import them into two inventories",
                details={"origins": [first.origin, arrival.origin]},
            )
    policies = [part.policy for part in parts if part.policy is not None]
    if len(policies) > 1:
        raise InvalidError(
            "several of these files have a policy, and an inventory has one",
            hint="import them one by one, or take the policy out of all but one",
        )
    return ImportBatch(
        arrivals,
        skipped=tuple(chain.from_iterable(part.skipped for part in parts)),
        warnings=(
            *chain.from_iterable(part.warnings for part in parts),
            *duplicates(arrival.host.spec for arrival in arrivals),
        ),
        policy=policies[0] if policies else None,
    )


def decode(text: str | bytes, origin: str) -> str:
    """The text of a file: UTF-8, or UTF-16 with its mark; :class:`InvalidError` for anything else and for too much."""
    if len(text) > MAX_BYTES:
        raise InvalidError(
            f"{origin}: longer than {MAX_BYTES // 1024**2} MiB", hint="split it", details={"file": origin}
        )
    if isinstance(text, str):
        return text.removeprefix("\ufeff")
    marked = text.startswith((b"\xff\xfe", b"\xfe\xff"))  # what a redirection writes on Windows
    try:
        return text.decode("utf-16" if marked else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidError(f"{origin}: not UTF-8 text (at byte {error.start})", details={"file": origin}) from error
