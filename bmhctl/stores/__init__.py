"""Inventories as they are stored: what each keeps, and how it is found and saved, whatever the backend."""

from bmhctl.stores.locations import open_store, reopen

__all__ = ["open_store", "reopen"]
