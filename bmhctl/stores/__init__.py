"""Stores of inventories: find and save what an inventory keeps, with one interface for all backends."""

from bmhctl.stores.locations import default_actor, open_store, reopen

__all__ = ["default_actor", "open_store", "reopen"]
