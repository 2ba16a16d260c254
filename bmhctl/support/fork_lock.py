"""A lock for starting processes in threads, so that they inherit no file that they must not.

Between its fork and its exec a child has a copy of every descriptor of its parent, and with it a share in every lock:
a lock that the parent releases meanwhile stays held by the child until its exec.
"""

from __future__ import annotations

from threading import Lock

STARTING = Lock()
"""Held while a process is started, and while a lock is released that must be free then."""
