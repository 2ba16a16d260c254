"""Hosts of other systems: one module for each kind of file, which turns its records into hosts to import."""
