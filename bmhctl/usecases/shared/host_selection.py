"""Select the hosts that a command names: exact names, globs, ranges, a selector, states."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from bmhctl.domain.host_name import AS_STORED, LONGEST_NAME
from bmhctl.domain.model import Host, State, StateName
from bmhctl.errors import NotFoundError, UsageError
from bmhctl.support.lazy_regex import pattern
from bmhctl.support.values import Frozen, replace
from bmhctl.usecases.shared.context import Context

if TYPE_CHECKING:
    from bmhctl.domain.selector import Selector
    from bmhctl.stores.host_query import HostQuery

MOST_NAMES = 100_000
"""The most names for which the folded ranges of one command may stand."""

FEW = 100
"""The most named hosts that are locked one by one; a change of more hosts takes a transaction that writes alone."""

_FOLDED = pattern(r"[a-z0-9.-]*+(?:\[[0-9]++(?:-[0-9]++)?(?:,[0-9]++(?:-[0-9]++)?)*+\][a-z0-9.-]*+)++")
_GROUP = pattern(r"\[([^\]]*)\]")
_RANGE = pattern(r"([0-9]+)(?:-([0-9]+))?")
_HINTS = 3  # the most unknown names that get a suggestion each
_AS_IN_A_SHELL = pattern(r"\[([0-9]{2,9})\]")
_PATTERN = pattern(r"[a-z0-9*?.-]+")


class Choice(Frozen):
    """A selection of hosts; without ``names``, every host that fits the selector and the states.

    ``everything`` is whether a selection without names, selector and states means all hosts. ``reservable`` excludes
    hosts that are cordoned, undeclared, or set aside now for a booking or maintenance. ``among`` excludes every host
    whose name is not in it, because the user was not asked about it. With ``with_tags``, the selector matches the tags
    of a host's reservation before the host's labels.
    """

    names: tuple[str, ...] = ()
    selector: Selector | None = None
    states: frozenset[State] = frozenset()
    everything: bool = False
    among: frozenset[str] | None = None
    with_tags: bool = False
    reservable: bool = False

    def query(self, now: datetime | None) -> HostQuery:
        """Return the query for hosts that fit the selector and states; ``now`` is needed if ``reservable`` is set."""
        from bmhctl.domain.selector import EVERY_HOST
        from bmhctl.stores.host_query import HostQuery

        return HostQuery(
            selector=self.selector or EVERY_HOST,
            states=self.states,
            reservable=self.reservable,
            free_until=now if self.reservable else None,
        )


def choice(names: Iterable[str] | None, selector: str | None = None, states: Iterable[str] | None = None) -> Choice:
    """Return the selection for a command line or an API call; raise :class:`UsageError` for a broken selector.

    ``states`` are words of :class:`State`, or only ``free``.
    """
    chosen = None
    if selector is not None:
        from bmhctl.domain.selector import parse_selector

        chosen = parse_selector(selector)
    wanted = frozenset(states or ())
    if StateName.FREE in wanted:
        if len(wanted) > 1:
            raise UsageError(
                "free can't be combined with other states", hint="free hosts are available and can be reserved"
            )
        return Choice(tuple(names or ()), chosen, frozenset({State.AVAILABLE}), reservable=True)
    return Choice(tuple(names or ()), chosen, frozenset(map(State, wanted)))


def unfold(names: Sequence[str]) -> list[str]:
    """Return the names with each folded range replaced by its names, in order and in lower case, each name once.

    ``node[01-03].lab`` is node01.lab, node02.lab, node03.lab. Raises :class:`UsageError` for a broken or a huge range.
    """
    found: dict[str, None] = {}
    size = 0
    for name in (each.translate(AS_STORED) for each in names):
        if "://" in name:  # never quote it: it may contain a password
            raise UsageError("a URL was given in place of a host name", hint="name an inventory with -i URL")
        if "[" not in name and "]" not in name:
            found[name] = None
            continue
        size += _size(name)
        if size > MOST_NAMES:
            raise UsageError(f"{name!r} stands for too many hosts", hint=f"one command names at most {MOST_NAMES}")
        from ClusterShell.NodeSet import RESOLVER_NOGROUP, NodeSet, NodeSetParseError

        try:
            found.update(dict.fromkeys(NodeSet(name, resolver=RESOLVER_NOGROUP)))
        except (NodeSetParseError, AssertionError) as error:  # ValueError for too many digits in or after []
            raise UsageError(
                f"{name!r} is not a range of hosts",
                hint="a range goes up, and its ends have the same number of digits or no leading zeros: node[01-20]",
            ) from error
    return list(found)


def exact_names(choice: Choice) -> tuple[str, ...]:
    """Return the names if all of them are exact and there are at most :data:`FEW`; else none."""
    names = unfold(choice.names)
    return () if len(names) > FEW or any("*" in name or "?" in name for name in names) else tuple(names)


def _size(name: str) -> int:
    """Return how many names a folded range means, without making them; raise :class:`UsageError` for a broken range."""
    if not _FOLDED.fullmatch(name):
        raise UsageError(f"{name!r} is not a range of hosts", hint="write it like node[01-20] or rack[1-2]-node[1,3,5]")
    size, length = 1, len(_GROUP.sub("", name))
    for group in _GROUP.findall(name):
        spans = [(first, last or first) for first, last in _RANGE.findall(group)]
        length += max(len(number) for span in spans for number in span)
        if length > LONGEST_NAME:
            raise UsageError(f"{name!r} stands for names of more than {LONGEST_NAME} characters")
        size *= sum(abs(int(last) - int(first)) + 1 for first, last in spans)
    return size


def choose(ctx: Context, choice: Choice, *, is_reading: bool = False) -> tuple[list[Host], list[NotFoundError]]:
    """Return the chosen hosts, each once, and an error for every name or glob that matches none.

    Named hosts come in the order in which they were named, others by name. A selector may match no host.

    Raises :class:`UsageError` when no names, no selector and no states are given. Unless ``is_reading``, also raises it
    for a selector with a misspelt key in a negated term, which would choose the hosts that it was meant to exclude.
    """
    if not (choice.names or choice.selector or choice.states or choice.everything):
        raise UsageError(
            "no host is named", hint="name hosts (node01, 'rack1-*', node[01-20]), or choose with -l or --state"
        )
    if choice.selector and not is_reading and any(term.is_negative for term in choice.selector.terms):
        from bmhctl.usecases.shared.unmatched import refuse_misspelt_exclusion

        refuse_misspelt_exclusion(ctx, choice.selector)
    if not choice.names:
        fitting = _fitting(ctx, choice)
        if choice.among is not None:
            fitting = [host for host in fitting if host.name in choice.among]
        if not fitting and choice.with_tags and choice.selector:
            ctx.report(f"no host fits {choice.selector}, by its labels or by the tags of its reservation")
        elif not fitting:
            from bmhctl.usecases.shared.unmatched import note_unmatched

            is_explained = choice.selector is not None and note_unmatched(ctx, choice.selector)
            if choice.states and not is_explained and not is_reading:
                ctx.report(_none_left(choice))
        return fitting, []
    names = unfold(choice.names)
    exact = dict.fromkeys(name for name in names if "*" not in name and "?" not in name)
    hosts: dict[str, Host] = {}
    known = ctx.store.hosts.with_names(exact)
    missing: list[NotFoundError] = []
    for name in names:
        if name in known:
            hosts[name] = known[name]
        elif name in exact:
            from bmhctl.usecases.shared.unmatched import not_found

            missing.append(not_found(ctx, name, look_around=len(missing) < _HINTS))
        else:
            found = list(_matching(ctx, name))
            hosts.update((host.name, host) for host in found)
            if not found:
                missing.append(NotFoundError("matches no host", host=name, hint="bmhctl list shows all"))
    if len(missing) > _HINTS:
        from bmhctl.usecases.shared.unmatched import explained_together

        missing = explained_together(ctx, missing)
    missing = [_range_explained(error, choice.names) for error in missing]
    if hosts and (choice.selector or choice.states):
        keep = {host.name for host in _fitting(ctx, choice, tuple(hosts))}
        if not keep and not is_reading:
            ctx.report(_none_left(choice))
        hosts = {name: host for name, host in hosts.items() if name in keep}
    among = hosts if choice.among is None else choice.among
    return [host for name, host in hosts.items() if name in among], missing


def _none_left(choice: Choice) -> str:
    """Return in words that no host is in the states of a choice, or that none of its hosts fits the selector."""
    from bmhctl.lifecycle.table import where

    which = "none of the named hosts" if choice.names else "no host"
    if not choice.states:
        return f"{which} fits {choice.selector}"
    fits = f" that fits {choice.selector}" if choice.selector else ""
    states = StateName.FREE if choice.reservable else " or ".join(map(where, sorted(choice.states)))
    return f"{which}{fits} is {states}"


def _fitting(ctx: Context, choice: Choice, names: tuple[str, ...] = ()) -> list[Host]:
    """Return the hosts that fit the selector and the states, by name; only those with one of ``names``, if any.

    The selector matches the tags of reservations if the choice is ``with_tags``.
    """
    query = replace(choice.query(ctx.clock() if choice.reservable else None), names=names)
    found = list(ctx.store.hosts.find(query))
    if not choice.with_tags or not choice.selector:
        return found
    tagged: dict[str, Host] = {}
    fitting: list[Host] = []
    for host in ctx.store.hosts.held():
        held = host.reservation
        if held is None or not held.tags or (query.names and host.name not in query.names):
            continue
        tagged[host.name] = host
        if choice.selector.fits(host.spec, held.tags) and (not query.states or host.state in query.states):
            fitting.append(host)
    found = [host for host in found if host.name not in tagged]
    return sorted((*found, *fitting), key=lambda host: host.name)


def _range_explained(error: NotFoundError, given: Iterable[str]) -> NotFoundError:
    """Return the error, with a hint if a range such as node0[12] was meant as a shell pattern."""
    for text in given:
        digits = _AS_IN_A_SHELL.search(text)
        if digits and error.host in unfold([text]):
            each = text.replace(digits[0], f"[{','.join(digits[1])}]")
            error.hint = f"[{digits[1]}] is the number {digits[1]}; for one of its digits each: {each}"
    return error


def _matching(ctx: Context, pattern: str) -> Iterator[Host]:
    pattern = re.sub(r"\*+", "*", pattern)
    if not _PATTERN.fullmatch(pattern) or len(pattern.replace("*", "")) > LONGEST_NAME:
        return iter(())
    from bmhctl.stores.host_query import HostQuery

    return ctx.store.hosts.find(HostQuery(patterns=(pattern,)))
