"""The names that hosts get on import: made by ``--name TEMPLATE`` from the fields of a manifest."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from bmhctl.domain.host_name import check_name
from bmhctl.domain.host_spec import parse_spec
from bmhctl.domain.model import HostSpec
from bmhctl.domain.policy import PLACEHOLDER
from bmhctl.errors import InvalidError, UsageError
from bmhctl.formats.manifest_fields import bad_field

PLACEHOLDERS = "{name}, {namespace}, {id}, {labels.KEY}"
"""The placeholders of a template, for help and errors."""

_SOURCES = ("name", "namespace", "id")
MANIFEST_PATHS = {
    "name": "metadata.name",
    "namespace": "metadata.namespace",
    "id": "metadata.uid",
    "labels": "metadata.",
}
"""The fields of a manifest that fill the placeholders; that of ``labels`` is the path before ``labels.KEY``."""

_NOT_IN_NAME = re.compile(r"[^A-Za-z0-9.-]+")


class NameTemplate:
    """A template such as ``{namespace}-{name}``; characters of a value that a host name can't have become ``-``.

    Raises `UsageError` for an unknown placeholder and for a single brace.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        for match in PLACEHOLDER.finditer(text):
            key = match[1]
            if key is None or not (key in _SOURCES or (key.startswith("labels.") and key != "labels.")):
                raise UsageError(f"--name: unknown placeholder {match[0]}", hint=f"known: {PLACEHOLDERS}")
        if "{" in (rest := PLACEHOLDER.sub("", text)) or "}" in rest:
            raise UsageError(f"--name: can't read {text!r:.80}", hint=f"known: {PLACEHOLDERS}")

    def needs(self, placeholder: str) -> bool:
        """Return whether the template has a placeholder."""
        return f"{{{placeholder}}}" in self.text

    def fill(
        self,
        name: str | None,
        labels: Mapping[str, str],
        namespace: str | None,
        identity: str | None = None,
        paths: Mapping[str, str] = MANIFEST_PATHS,
    ) -> str:
        """Return the name of a host; raise the error of a field that is missing or makes no valid name.

        ``identity`` fills ``{id}``; ``paths`` are the fields that errors name.
        """
        values = {"name": name, "namespace": namespace, "id": identity}
        values |= {f"labels.{key}": value for key, value in labels.items()}
        filled = self.text
        for match in PLACEHOLDER.finditer(self.text):
            value = values.get(match[1])
            if value is None:
                path = paths.get(match[1]) or f"{paths['labels']}{match[1]}"
                raise bad_field(path, f"is missing, and --name {self.text!r:.80} needs it")
            filled = filled.replace(match[0], _NOT_IN_NAME.sub("-", value.replace("_", "-")).strip("-"))
        try:
            return check_name(filled)
        except InvalidError as error:
            said = f"--name {self.text!r:.80} makes {filled!r:.80} of it, which is not a host name"
            raise bad_field(paths["name"], said, hint=error.hint) from error


def host_name(
    template: NameTemplate | None,
    name: str,
    labels: Mapping[str, str],
    namespace: str | None,
    identity: str | None = None,
    paths: Mapping[str, str] = MANIFEST_PATHS,
) -> str:
    """Return the name that a host gets in the inventory; raise the error of its field if no name is possible."""
    if template is not None:
        return template.fill(name, labels, namespace, identity, paths)
    try:
        return check_name(name)
    except InvalidError as error:
        odd = _NOT_IN_NAME.search(name)
        shown = "a space" if odd and odd[0][0] == " " else odd[0][0] if odd else ""
        hint = f"import --name '{{name}}' writes - for {shown}" if shown and shown.isprintable() else error.hint
        if shown == "[":
            hint = "write a line for each host of a range"
        raise bad_field(paths["name"], error.message, hint=hint) from error


def spec_of(name: str, entry: Mapping[str, object], path_of: Callable[[str], str]) -> HostSpec:
    """Return the declaration of a host; an error names the field that ``path_of`` returns for the key of a mistake."""
    try:
        return parse_spec(name, entry)
    except InvalidError as error:
        where = str(error.details.get("key", ""))
        path = path_of(where.removeprefix(f"hosts.{name}."))
        raise bad_field(path, error.message.removeprefix(where).lstrip(": "), hint=error.hint) from error
