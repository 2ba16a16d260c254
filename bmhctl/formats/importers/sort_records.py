"""Find the records of other systems in texts and documents, and sort them by kind."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from bmhctl.errors import InvalidError
from bmhctl.formats.importers.kinds import KINDS, Kind, kind_named, module_of
from bmhctl.formats.importers.record import Item
from bmhctl.formats.manifest_fields import bad_field, wrong_kind
from bmhctl.formats.recognize import document_looks_like, samples

_DEPTH = 4  # how many levels of lists and mappings may surround the records of a document
_SAMPLE = 20  # how many records of a list are read to recognise it


class ForeignRecords:
    """Collects the records of other systems from texts and documents, by kind; only of ``wanted`` if that is set."""

    def __init__(self, wanted: Kind | None = None) -> None:
        self.wanted = wanted
        self.items: defaultdict[str, list[Item]] = defaultdict(list)
        self._pages: defaultdict[str, list[tuple[str, bool]]] = defaultdict(list)

    def take_text(self, text: str, origin: str, kind: Kind) -> int:
        """Collect the records of a text, and return their number; raise `InvalidError` that begins with ``origin``."""
        found: list[Item] = list(module_of(kind).read_text(text, origin))
        if found and self.wanted is not kind:  # other kinds may also be written as CSV
            kind = next((each for each in KINDS if _fits(each, found[0].data)), kind)
            if self.wanted not in (None, kind):
                raise not_as_wanted(self.wanted, kind.title, origin)
        self.items[kind.word] += found
        return len(found)

    def check_records(self, origin: str) -> None:
        """Raise an error that begins with ``origin`` if a kind other than that of bmhctl's own files is wanted."""
        if self.wanted is not None and self.wanted.word != "bmhctl":
            raise not_as_wanted(self.wanted, "what bmhctl wrote", origin)

    def takes_document(self, place: str, document: object) -> bool:
        """Collect the records of a document of another system; return False if it is not one.

        Raise an error if it is not of the wanted kind.
        """
        if self.wanted is None:
            if not isinstance(document, dict | list):
                return False
            if isinstance(document, dict) and isinstance(document.get("kind"), str) and "apiVersion" in document:
                return False  # a manifest
            kind = _recognised(document)
        elif self.wanted.api:
            return False
        else:
            kind = self.wanted
        found = _items(kind, document, place)
        if found is not None:
            self.items[kind.word] += found
            if isinstance(document, dict):
                self._pages[kind.word].append((place, bool(document.get("next"))))
            return True
        if self.wanted is None:
            return False
        raise not_as_wanted(self.wanted, document_looks_like(document))

    def warnings(self) -> tuple[str, ...]:
        """Return a line for each kind whose last page is missing."""
        return tuple(
            f"{pages[-1][0]}: the pages after this one are missing: import them together with it"
            for pages in self._pages.values()
            if all(continues for _, continues in pages)
        )

    def takes_manifest(self, place: str, manifest: object) -> bool:
        """Collect a manifest of another system; return False if it is not one.

        Raise an error if it is not of the wanted kind.
        """
        version = manifest.get("apiVersion") if isinstance(manifest, dict) else None
        kind = next((each for each in KINDS if each.api and str(version).startswith(each.api)), None)
        if kind is not None and isinstance(manifest, dict) and kind.module is not None and self.wanted in (None, kind):
            self.items[kind.word].append(Item(place, manifest))
            return True
        if self.wanted is not None and self.wanted is not kind and not _is_secret(manifest):
            raise not_as_wanted(self.wanted, document_looks_like(manifest))
        return False


def not_as_wanted(wanted: Kind, looks_like: str | None, origin: str | None = None) -> InvalidError:
    """Return the error for a file whose kind differs from ``--from``; without ``origin``, it lacks the file's name."""
    said = f"not {wanted.title}" + (f": it looks like {looks_like}" if looks_like else "")
    hint = "leave out --from, so that bmhctl recognises the kind"
    if origin is None:
        return bad_field("", said, hint=hint)
    return InvalidError(f"{origin}: {said}", hint=hint, details={"file": origin})


def _is_secret(manifest: object) -> bool:
    return isinstance(manifest, dict) and manifest.get("kind") in ("Secret", "SecretList")


def _recognised(document: object) -> Kind:
    """Return the kind of the first records of a document, or of the document itself if it has no records."""
    for record in samples(document):
        for kind in KINDS:
            if kind.records and _fits(kind, record):
                return kind
    return kind_named("ansible")


def _items(kind: Kind, document: object, place: str) -> list[Item] | None:
    if kind.documents:
        of_document: list[Item] | None = module_of(kind).read_document(document, place)
        return of_document
    return list(_rows(kind, document, place, None, 0)) or None


def _fits(kind: Kind, value: object) -> bool:
    return isinstance(value, dict) and any(keys <= value.keys() for keys in kind.records)


def _rows(kind: Kind, value: object, place: str, name: str | None, depth: int) -> Iterator[Item]:
    """Yield the records of a document: a single one, a list, a page of an API, or a mapping of names to records."""
    if isinstance(value, dict) and _fits(kind, value):
        yield Item(place, value, name)
    elif depth > _DEPTH:
        return
    elif isinstance(value, list):
        fits = any(_fits(kind, each) for each in value[:_SAMPLE])
        for number, each in enumerate(value, 1):
            where = f"{place}, item {number}"
            if fits and each is not None and not isinstance(each, dict):
                raise wrong_kind(f"item {number}", "a mapping", each)
            if fits and isinstance(each, dict):
                yield Item(where, each)
            elif isinstance(each, dict | list):
                yield from _rows(kind, each, where, None, depth + 1)
    elif isinstance(value, dict):
        for key, each in value.items():
            if isinstance(each, list):
                yield from _rows(kind, each, place, None, depth + 1)
            elif isinstance(each, dict):
                yield from _rows(kind, each, f"{place}, {key!s:.80}", str(key), depth + 1)
