"""The only place that prints: results, errors and notes as text for people or machines."""

from bmhctl.output.display import Display, Format
from bmhctl.output.render import ask, check, note, render, report, silence

__all__ = ["Display", "Format", "ask", "check", "note", "render", "report", "silence"]
