"""Verbs that run steps on hosts: ready, reset, resume, check, recycle, power, inspect."""
