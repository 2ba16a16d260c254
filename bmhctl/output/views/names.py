"""Only the names of hosts: the only view that ``list -o name`` has to import."""

from __future__ import annotations

from bmhctl.output.render import Format, View
from bmhctl.results import Names

VIEWS = {Names: View((Format.NAME,), names=lambda result: result.names)}
