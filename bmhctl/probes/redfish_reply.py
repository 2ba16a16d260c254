"""Read the answers of a Redfish service: their JSON object, messages, reasons and how long to wait."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import suppress
from email.utils import parsedate_to_datetime
from http import HTTPStatus

from bmhctl.probes.http_connection import Reply

_PASSING_MESSAGES = (
    "SYS518",  # iDRAC: its data sources are not available yet
    "ServiceTemporarilyUnavailable",
    "ServiceInUnknownState",
    "ServiceShuttingDown",
    "ResourceInStandby",
    "ResourceInUse",
    "CouldNotEstablishConnection",
    "SessionLimitExceeded",
    "RAC0218",  # iDRAC: the maximum number of user sessions is reached
    "UnableToModifyDuringSystemPOST",  # iLO, as those below
    "ResetInProgress",
    "ResourceBeingFlashed",
    "ResourceTemporarilyUnavailable",
    "InvalidOperationForSystemState",  # soon after another change of the power
)

Json = dict[str, object]
"""A JSON object, as a BMC sent it: any key may be missing or have another type."""


def json_object(body: bytes) -> Json | None:
    """Return the JSON object in a body, None for any other body; bytes that are not Unicode are read as Latin-1.

    NULs at its end are ignored. A whole number with more digits than Python reads becomes a float.
    """
    try:
        text = body.decode(json.detect_encoding(body))
    except UnicodeDecodeError:
        text = body.decode("latin-1")
    try:
        found = json.loads(
            text.rstrip("\0 \t\r\n"), parse_int=lambda digits: (int if len(digits) < 1000 else float)(digits)
        )
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def table(value: object) -> Json:
    """Return a JSON object, or an empty one for any other value."""
    return value if isinstance(value, dict) else {}


def items(value: object) -> list[object]:
    """Return a JSON array, or an empty one for any other value."""
    return value if isinstance(value, list) else []


def links(value: object) -> list[object]:
    """Return a JSON array of links; some BMCs write a single link without the array."""
    return [value] if isinstance(value, dict) else items(value)


def reason_of(reply: Reply) -> tuple[str, bool]:
    """Return why a request was refused, if possible in the BMC's words, and whether the reason is temporary."""
    body = json_object(reply.body)
    is_passing = any(sign in name for _, name in _messages(body) for sign in _PASSING_MESSAGES)
    general = _text(table(table(body).get("error")).get("message"))
    return message_of(reply) or one_line(general or _phrase(reply.status)), is_passing


def message_of(reply: Reply) -> str:
    """Return the texts of the messages in an answer, "" if it has none."""
    texts = (text for text, _ in _messages(json_object(reply.body)) if text)
    return one_line("; ".join(dict.fromkeys(texts)))


def resolution_of(reply: Reply) -> str:
    """Return what an answer recommends to do, "" if nothing."""
    found = (_text(info.get("Resolution")) for info in _infos(json_object(reply.body)) if not _is_general(info))
    return one_line(next((text for text in found if text and not text.startswith("None")), ""))


def remark_of(reply: Reply) -> str:
    """Return the texts of the warnings in the answer to a request that was accepted, "" if it has none."""
    bad = (info for info in _infos(json_object(reply.body)) if severity_of(info) in ("Warning", "Critical"))
    return one_line("; ".join(dict.fromkeys(filter(None, map(text_of, bad)))))


def text_of(info: Json) -> str:
    """Return the text of a message with its arguments filled in, or else its id with them; "" if it has neither."""
    text, name = _text(info.get("Message")), _name(info)
    arguments = [str(each) for each in items(info.get("MessageArgs")) if isinstance(each, str | int | float)]
    if text.strip():
        return re.sub("%([1-9])", lambda match: "".join(arguments[int(match[1]) - 1 :][:1]) or match[0], text)
    if _is_general(info):
        return ""
    return name + (f" ({', '.join(arguments)})" if name and arguments else "")


def severity_of(info: Json) -> object:
    """Return the severity of a message, such as ``Critical``."""
    return info.get("MessageSeverity", info.get("Severity"))


def _is_general(info: Json) -> bool:
    return _name(info).endswith(("GeneralError", ".Success"))


def _messages(body: object) -> list[tuple[str, str]]:
    """Return the text and the id of each message in an answer; general messages only if there are no others."""
    found = list(_infos(body))
    specific = [info for info in found if not _is_general(info)] or found
    return [(text_of(info), _name(info)) for info in specific]


def _infos(body: object) -> Iterator[Json]:
    """Yield each message about an answer, about its properties, and about the properties of these."""
    if not isinstance(body, dict):
        return
    for part in (body.get("error"), body, *body.values()):
        for key, infos in part.items() if isinstance(part, dict) else ():
            if key.endswith("@Message.ExtendedInfo"):
                yield from map(table, infos if isinstance(infos, list) else [infos])


def _name(info: Json) -> str:
    """Return the id of a message; old BMCs write its key in another way."""
    return _text(info.get("MessageId", info.get("MessageID")))


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _phrase(status: int) -> str:
    """Return the words for an HTTP status."""
    with suppress(ValueError):
        return HTTPStatus(status).phrase
    return "an unknown answer"


def retry_after(reply: Reply) -> float | None:
    """Return the seconds that the BMC asks to wait, or None; a date is compared with the BMC's own clock."""
    text = reply.headers.get("retry-after", "").strip()
    if text.isascii() and text.isdigit() and len(text) < 6:
        return float(text)
    until, now = _date(text), _date(reply.headers.get("date", ""))
    return None if until is None or now is None else max(0.0, until - now)


def _date(text: str) -> float | None:
    """Return the seconds since the epoch of an HTTP date, None for any other text."""
    with suppress(ValueError, OverflowError):
        return parsedate_to_datetime(text).timestamp()
    return None


def one_line(text: str) -> str:
    """Return a text on one line, without characters that can't be printed."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def to_unicode(text: str) -> str:
    """Return a text that JSON can carry: bytes that are not UTF-8 are read as Latin-1, as a BMC does."""
    raw = text.encode("utf-8", "surrogateescape")
    with suppress(UnicodeDecodeError):
        return raw.decode("utf-8")
    return raw.decode("latin-1")
