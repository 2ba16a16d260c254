"""Stores of inventories: find and save what an inventory keeps, with one interface for all backends."""

from bmhctl.stores.locations import open_store, reopen

__all__ = ["open_store", "reopen"]
