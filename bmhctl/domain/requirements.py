"""A request for hosts: its requirements (names, or a count and a selector), purpose, lease and request id."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import timedelta
from functools import lru_cache

from bmhctl.domain.host_name import AS_STORED
from bmhctl.domain.model import HostSpec
from bmhctl.domain.selector import EVERY_HOST, Selector, is_label_key, is_label_value, parse_selector
from bmhctl.errors import InvalidError, UsageError
from bmhctl.support.lazy_regex import pattern
from bmhctl.support.values import Frozen, field

MOST_HOSTS = 10_000
"""The most hosts of one reservation."""

_MOST_TAGS = 100  # of a reservation
_COUNT = pattern(r"[0-9]{1,9}")


class Requirement(Frozen):
    """A requirement for ``count`` hosts that fit the selector; with a ``name``, for this one host."""

    selector: Selector = EVERY_HOST
    count: int = 1
    name: str | None = None

    def fits(self, spec: HostSpec) -> bool:
        """Return whether a host fits the requirement."""
        return spec.name == self.name if self.name is not None else self.selector.fits(spec)


Requirements = tuple[Requirement, ...]
"""The requirements of a request. Each must be met, and no host counts for two of them."""


def parse_requirement(text: str) -> Requirement:
    """Return the requirement in a text: ``arch=arm64*2`` is two hosts that fit ``arch=arm64``, ``arch=arm64`` is one.

    Raises :class:`UsageError` for a text that can't be read, and for a count of 0.
    """
    selector, star, count = (part.strip() for part in text.rpartition("*"))
    if not star or not _COUNT.fullmatch(count):
        selector, count = text, "1"
    requirement = Requirement(parse_selector(selector), int(count))
    if requirement.count < 1:
        raise UsageError(
            f"the requirement {text!r} asks for no host", hint="such as --want 'arch=arm64*2' --want role=switch"
        )
    return requirement


def total(requirements: Sequence[Requirement]) -> int:
    """Return how many hosts the requirements ask for in all."""
    return sum(requirement.count for requirement in requirements)


class ReservationRequest(Frozen):
    """A request for a reservation.

    ``ttl`` is the length of the lease (None: the policy's). ``endless`` requests a lease without end, if the policy
    allows it. ``request_id`` makes a retry safe: the same id returns the same reservation. ``token`` is the id for the
    reservation, if the caller needs to know it before. ``params`` are values for the prepare steps. ``tags`` are kept
    with the reservation. ``booking`` is the id of the booking to take, whose requirements then replace these.
    """

    requirements: Requirements
    purpose: str | None = None
    ttl: timedelta | None = None
    endless: bool = False
    request_id: str | None = None
    token: str | None = None
    params: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    booking: str | None = None

    @property
    def may_be_short(self) -> bool:
        """Whether the lease may end early because of a plan: only if the request names no length."""
        return self.ttl is None and not self.endless


NO_HOST = "no host is requested"


def reservation_request(
    names: Sequence[str] = (),
    selector: Selector | None = None,
    count: int | None = None,
    requirements: Sequence[Requirement] = (),
    *,
    purpose: str | None = None,
    ttl: timedelta | None = None,
    endless: bool = False,
    request_id: str | None = None,
    params: Mapping[str, str] | None = None,
    tags: Mapping[str, str] | None = None,
    booking: str | None = None,
) -> ReservationRequest:
    """Return a request for the named hosts, for ``count`` hosts that fit a selector, or for several requirements.

    Raises :class:`UsageError` for parameters that can't be combined, and for values that are not valid.
    """
    ways = [bool(names), selector is not None or count is not None, bool(requirements)]
    if sum(ways) > 1:
        raise UsageError("hosts are chosen in several ways: give only names, only -l and -n, or only --want")
    if any(ways) and booking is not None:
        raise UsageError(
            f"booking {booking} has its own hosts: no others can be chosen", hint=f"give only --booking {booking}"
        )
    if not any(ways) and booking is None:
        raise UsageError(NO_HOST, hint="name hosts, or give a number: -n 1; or a selector: -l arch=arm64")
    if count is not None and count < 1:
        raise UsageError(f"can't reserve {count} hosts", hint="-n takes a number from 1")
    if ttl is not None and not ttl:
        raise UsageError("a lease can't have the length 0", hint="such as --ttl 20m")
    if request_id == "":
        raise UsageError("the request id is empty", hint='such as --request-id "$CI_JOB_ID"')
    found: Requirements
    if names:
        for name in names:
            if "*" in name or "?" in name:
                raise UsageError(f"{name!r} is not a host name", hint="reserve takes exact names, or -l SELECTOR -n N")
        found = tuple(Requirement(name=name) for name in dict.fromkeys(each.translate(AS_STORED) for each in names))
    elif requirements:
        found = tuple(requirements)
    elif booking is not None:
        found = ()
    else:
        found = (Requirement(EVERY_HOST if selector is None else selector, count or 1),)
    if total(found) > MOST_HOSTS:
        raise UsageError(f"{total(found)} hosts are too many for one reservation", hint=f"at most {MOST_HOSTS}")
    if tags:
        _check_tags(tags)
    return ReservationRequest(
        found, purpose, ttl, endless, request_id, params=params or {}, tags=dict(tags or {}), booking=booking
    )


def _check_tags(tags: Mapping[str, str]) -> None:
    """Raise :class:`UsageError` unless the tags have the syntax of labels, and there are not too many."""
    for key, value in tags.items():
        if not is_label_key(key) or not is_label_value(value):
            what = "value" if is_label_key(key) else "key"
            raise UsageError(
                f"{f'{key}={value}'!r} has no valid tag {what}",
                hint="such as job=4711; a value has at most 63 letters, digits, '-', '_' and '.'",
            )
    if len(tags) > _MOST_TAGS:
        raise UsageError(f"{len(tags)} tags are too many for one reservation", hint=f"at most {_MOST_TAGS}")


def describe_requirements(requirements: Sequence[Requirement]) -> str:
    """Return the requirements in words: ``2 hosts with arch=arm64 and 1 with role=switch``."""
    if all(requirement.name is not None for requirement in requirements):
        return ", ".join(str(requirement.name) for requirement in requirements)
    parts: list[str] = []
    for requirement in requirements:
        noun = "" if parts else (" host" if requirement.count == 1 else " hosts")
        parts.append(
            f"{requirement.count}{noun}" + (f" with {requirement.selector}" if requirement.selector.terms else "")
        )
    return " and ".join(parts)


def dump_requirements(requirements: Sequence[Requirement]) -> str:
    """Return the requirements as a text that :func:`load_requirements` reads back; equal ones give equal texts."""
    rows = [
        [",".join(sorted(map(str, requirement.selector.terms))), requirement.count]
        if requirement.name is None
        else [requirement.name]
        for requirement in requirements
    ]
    return json.dumps(sorted(rows, key=str), separators=(",", ":"))


@lru_cache(maxsize=1000)  # many tickets and bookings ask for the same
def load_requirements(text: str) -> Requirements:
    """Return what :func:`dump_requirements` wrote; raise :class:`InvalidError` for any other text."""
    try:
        return tuple(_loaded(row) for row in json.loads(text))
    except (RecursionError, TypeError, ValueError, UsageError) as error:
        raise InvalidError(
            f"the inventory has a text that is not a list of requirements: {text!r}", hint="restore it from a backup"
        ) from error


def _loaded(row: object) -> Requirement:
    match row:
        case [str(name)]:
            return Requirement(name=name)
        case [str(selector), int(count)] if count > 0 and count is not True:
            return Requirement(parse_selector(selector), count)
    raise ValueError("neither a name nor a selector with a count")
