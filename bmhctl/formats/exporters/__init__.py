"""Hosts for other systems: one module a format, which writes hosts as text."""
