"""The only place that prints: results, errors and notes as text for people or machines."""

from bmhctl.output.messages import ask, report, silence
from bmhctl.output.render import Display, Format, check, note, render

__all__ = ["Display", "Format", "ask", "check", "note", "render", "report", "silence"]
