"""Hosts of other systems: one module for each kind of file, which makes hosts to import of its records."""
