"""A lock for starting processes in threads, so that they do not inherit the locks of other threads.

Between its fork and its exec a child has a copy of every descriptor of its parent, and so a share in every file lock: a
lock that the parent releases then stays held until the exec of the child.
"""

from __future__ import annotations

from threading import Lock

STARTING = Lock()
"""Held while a process is started, and while a file lock is released that must be free at once."""
