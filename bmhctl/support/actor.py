"""The default actor: ``$BMHCTL_ACTOR``, or user@hostname."""

from __future__ import annotations

import os
from collections.abc import Mapping

VARIABLE = "BMHCTL_ACTOR"


def default_actor(environ: Mapping[str, str]) -> str:
    """Return ``$BMHCTL_ACTOR``, or user@hostname."""
    if environ.get(VARIABLE):
        return environ[VARIABLE]
    import pwd

    try:
        user = pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:  # the user of a container may have no name
        user = f"uid{os.geteuid()}"
    return f"{user}@{os.uname().nodename}"
