"""New ids for reservations."""

from __future__ import annotations

import os

from bmhctl.stores.engine import Store

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32: no i, l, o, u to misread


def new_reservation_id(store: Store) -> str:
    """A short id that no reservation of this inventory ever had: ``r-7k3m9q2x``."""
    while True:
        number = int.from_bytes(os.urandom(5), "big")
        text = "r-" + "".join(_ALPHABET[number >> shift & 31] for shift in range(0, 40, 5))
        if store.reservation(text) is None:
            return text
