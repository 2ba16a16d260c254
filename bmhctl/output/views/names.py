"""Only the names of hosts: ``list -o name`` loads no more than this."""

from __future__ import annotations

from bmhctl.output.display import Format
from bmhctl.output.render import View
from bmhctl.results import Names

VIEWS = {Names: View((Format.NAME,), names=lambda result: result.names)}
