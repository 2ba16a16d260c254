"""A lock for starting processes in threads, so that a child does not inherit the file locks of other threads.

Between its fork and its exec, a child has a copy of every descriptor of its parent, and with it a share in every file
lock. A lock that the parent releases in this time stays held until the child's exec.
"""

from __future__ import annotations

from threading import Lock

STARTING = Lock()
"""Held while a process is started, and while a file lock is released that must be free at once."""
