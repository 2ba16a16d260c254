"""Only the names of hosts: ``list -o name`` loads no more than this."""

from __future__ import annotations

from bmhctl.output.render import Format, View
from bmhctl.results import Names

VIEWS = {Names: View((Format.NAME,), names=lambda result: result.names)}
