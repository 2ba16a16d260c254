"""The one place that renders and prints: a result, an error or a note goes in, text goes out."""

from bmhctl.output.display import Display, Format
from bmhctl.output.progress import Progress
from bmhctl.output.render import check, hush, note, render, report

__all__ = ["Display", "Format", "Progress", "check", "hush", "note", "render", "report"]
