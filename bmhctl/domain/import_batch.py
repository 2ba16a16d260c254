"""What the files of an import contain, as values."""

from __future__ import annotations

from bmhctl.domain.model import Host
from bmhctl.support.values import Frozen


class ImportedHost(Frozen):
    """A host in a file to import, with the state that the file gives.

    ``host.reservation`` with an empty id is a claim made elsewhere (its owner is the consumer there). ``source_state``
    is the state in the words of the file; ``origin`` is the position there (file, document).
    """

    host: Host
    source_state: str | None
    origin: str


class ImportBatch(Frozen):
    """What the files of one import contain: hosts, what is skipped and why, warnings, a policy."""

    arrivals: tuple[ImportedHost, ...]
    skipped: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    policy: str | None = None
