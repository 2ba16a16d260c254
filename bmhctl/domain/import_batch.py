"""The hosts that the files of an import contain, with warnings and a policy, as values."""

from __future__ import annotations

from bmhctl.domain.model import Host
from bmhctl.support.values import Frozen


class ImportedHost(Frozen):
    """A host in a file to import, with the state that the file gives.

    A ``host.reservation`` with an empty id says that the other system has given the host to the reservation's owner.
    ``source_state`` is the state in the words of the file, and ``origin`` names the file and the document.
    """

    host: Host
    source_state: str | None
    origin: str


class ImportBatch(Frozen):
    """The content of the files of one import: hosts, what is skipped and why, warnings, and the text of a policy."""

    arrivals: tuple[ImportedHost, ...]
    skipped: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    policy: str | None = None
