"""Hosts of other systems: one module a kind, which turns its records into hosts to import."""
