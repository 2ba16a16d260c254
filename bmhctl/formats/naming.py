"""The names that hosts get on import: made by ``--name TEMPLATE`` from what a manifest says of them."""

from __future__ import annotations

from collections.abc import Mapping

from bmhctl.domain.host_name import check_name
from bmhctl.domain.policy import PLACEHOLDER
from bmhctl.errors import InvalidError, UsageError
from bmhctl.formats.manifest_fields import bad_field

PLACEHOLDERS = "{name}, {namespace}, {labels.KEY}"
"""What a template is filled with, for help and errors."""

_SOURCES = {"name": "metadata.name", "namespace": "metadata.namespace"}


class NameTemplate:
    """A template such as ``{namespace}-{name}``; ``_`` in what fills it becomes ``-``, as no host name has one.

    Raises `UsageError` for a placeholder that is not known and for a brace that stands alone.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        for match in PLACEHOLDER.finditer(text):
            key = match[1]
            if key is None or not (key in _SOURCES or (key.startswith("labels.") and key != "labels.")):
                raise UsageError(f"--name: unknown placeholder {match[0]}", hint=f"known: {PLACEHOLDERS}")
        if "{" in (rest := PLACEHOLDER.sub("", text)) or "}" in rest:
            raise UsageError(f"--name: can't read {text!r:.80}", hint=f"known: {PLACEHOLDERS}")

    def fill(self, name: str, labels: Mapping[str, str], namespace: str | None) -> str:
        """Return the name of a host; raise the error of a field that is missing, or that makes no host name."""
        values = {"name": name, "namespace": namespace} | {f"labels.{key}": value for key, value in labels.items()}
        filled = self.text
        for match in PLACEHOLDER.finditer(self.text):
            value = values.get(match[1])
            if value is None:
                path = _SOURCES.get(match[1], f"metadata.{match[1]}")
                raise bad_field(path, f"is missing, and --name {self.text!r:.80} needs it")
            filled = filled.replace(match[0], value.replace("_", "-"))
        try:
            return check_name(filled)
        except InvalidError as error:
            said = f"--name {self.text!r:.80} makes {filled!r:.80} of it, which is not a host name"
            raise bad_field("metadata.name", said, hint=error.hint) from error


def host_name(template: NameTemplate | None, name: str, labels: Mapping[str, str], namespace: str | None) -> str:
    """Return the name that a host gets here; raise the error of ``metadata.name`` if it can have none."""
    if template is not None:
        return template.fill(name, labels, namespace)
    try:
        return check_name(name)
    except InvalidError as error:
        hint = "import --name '{name}' writes - for _" if "_" in name else error.hint
        raise bad_field("metadata.name", error.message, hint=hint) from error
