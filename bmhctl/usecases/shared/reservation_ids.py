"""New ids for reservations."""

from __future__ import annotations

import os

from bmhctl.stores.store import Store

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32: no i, l, o, u to misread


def any_reservation_id() -> str:
    """A short id, ``r-7k3m9q2x``, that hardly any reservation of this inventory ever had: look before it is used."""
    number = int.from_bytes(os.urandom(5), "big")
    return "r-" + "".join(_ALPHABET[number >> shift & 31] for shift in range(0, 40, 5))


def new_reservation_id(store: Store) -> str:
    """A short id that no reservation of this inventory ever had."""
    while store.reservation(text := any_reservation_id()) is not None:
        pass
    return text
