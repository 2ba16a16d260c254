"""One look at an inventory: what is wrong with it, and what would mend that. Changes nothing itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple

from bmhctl.domain.model import EventKind, Host, State
from bmhctl.domain.policy import POLICY_KEYS, Policy, check_keys, parse_policy
from bmhctl.domain.selector import selectable
from bmhctl.domain.units import quantity
from bmhctl.errors import InvalidError, UnreachableError
from bmhctl.lifecycle.table import EDGES
from bmhctl.results import Finding, Severity
from bmhctl.stores import integrity
from bmhctl.stores.claims import ticket_claim
from bmhctl.stores.integrity import MOST
from bmhctl.stores.rows import back_at, from_time
from bmhctl.stores.toml.atomic_replace import edits_locked
from bmhctl.stores.toml.declaration import Declaration
from bmhctl.stores.toml.state_keys import INTENT
from bmhctl.support.values import replace
from bmhctl.usecases.doctor import files as inventory_files
from bmhctl.usecases.doctor.findings import BROKEN, FIX, NOTE, finding, strange_event
from bmhctl.usecases.reservations.fairness import is_gone
from bmhctl.usecases.shared import declaration_sync
from bmhctl.usecases.shared.context import Context
from bmhctl.usecases.shared.host_changes import differences

_SLACK = timedelta(minutes=1)
"""So far the clocks of machines may differ before a time counts as one in the future."""

_WAYS = {(edge.verb.value, edge.source, edge.dest) for edge in EDGES}
_REMARKS = {remark.value for remark in EventKind}

_STATES = {state.value for state in State}

Mend = Callable[[Context], None]


class _Sort(NamedTuple):
    kind: str
    severity: Severity
    fixable: bool


class Seen:
    """What one look found, and what mends it; of each sort of findings, the first few one by one, the others counted.

    ``counts`` is how many hosts, events and reservations were looked at, empty if none could be. ``is_damaged``: the
    database itself is, so its rows were not looked at; ``is_foreign``: the state file is another inventory's.
    """

    def __init__(self) -> None:
        self.mends: dict[str, Mend] = {}
        self.counts: dict[str, int] = {}
        self.is_damaged = False
        self.is_foreign = False
        self.is_unreadable = False
        self._findings: list[Finding] = []
        self._numbers: Counter[_Sort] = Counter()

    def note(self, found: Finding, mend: tuple[str, Mend] | None = None, more: int = 0) -> None:
        """Notes a finding, and that there are ``more`` like it; ``mend``, by its name, mends all of them."""
        sort = _Sort(found.kind, found.severity, found.fixable)
        if self._numbers[sort] < MOST:
            self._findings.append(found)
        self._numbers[sort] += 1 + more
        if mend is not None and found.fixable:
            self.mends[mend[0]] = mend[1]

    @property
    def findings(self) -> list[Finding]:
        """What was found, as :func:`ordered` has it."""
        rest = [
            Finding(
                sort.kind,
                sort.severity,
                f"and {number - MOST} more like these",
                "",
                fixable=sort.fixable,
                number=number - MOST,
            )
            for sort, number in self._numbers.items()
            if number > MOST
        ]
        found = [*self._findings, *rest]
        if self.is_foreign:
            found = [replace(each, fixable=False) for each in found]
        return ordered(found)


def ordered(findings: Iterable[Finding]) -> list[Finding]:
    """The worst first, what is mended last, and what is alike together, host by host."""
    found = list(findings)
    kinds = list(dict.fromkeys(each.kind for each in found))
    severities = list(Severity)

    def place(each: Finding) -> tuple[object, ...]:
        alike = kinds.index(each.kind), not each.host, each.host or ""
        return each.fixed, severities.index(each.severity), *alike

    return sorted(found, key=place)


def examine(ctx: Context, *, deep: bool, mending: bool = False) -> Seen:
    """Looks at everything; ``deep``: also whether the database is damaged, which takes the longest.

    ``mending`` is for who holds a writing transaction and the lock on edits.
    """
    seen, declaration = Seen(), None
    if deep:
        ctx.progress("looking for damage", "")
        _damage(ctx, seen)
    if not seen.is_damaged:
        with nullcontext() if mending else ctx.store.snapshot():
            declaration = _declaration(ctx, seen)
            if not seen.is_foreign:
                _rows(ctx, seen, declaration)
    _around(ctx, seen)
    if ctx.store.declaration is not None and not (seen.is_damaged or seen.is_foreign):
        _intent(ctx, seen, mending)
        if not mending and declaration is None:
            _to_come(ctx, seen)
    if seen.is_foreign:  # what is another inventory's is not ours to mend
        seen.mends.clear()
    return seen


def _damage(ctx: Context, seen: Seen) -> None:
    remedy = (
        f"keep a copy of {ctx.store.database.location} with what stands beside it; restore a backup,"
        " or save what can be read: sqlite3 OLD .recover | sqlite3 NEW"
    )
    found = list(ctx.store.database.damage())
    is_mendable = all(mendable for _, mendable in found)
    seen.is_damaged = bool(found)
    for words, _ in found:
        todo = f"{FIX} makes the indexes anew from the rows" if is_mendable else remedy
        mend = ("indexes", lambda ctx: ctx.store.database.rebuild_indexes())
        seen.note(Finding("damage", BROKEN, words, todo, fixable=is_mendable), mend)


# what the TOML file has to do with it


def _declaration(ctx: Context, seen: Seen) -> Declaration | None:
    """What the TOML file declares, if the state should agree with it."""
    file = ctx.store.declaration
    if file is None:
        return None
    try:
        return declaration_sync.declared(ctx)
    except (InvalidError, UnreachableError) as error:
        found = refused(error, ctx.store.location)
        if not file.path.exists():
            words = f"{file.path} is gone; the state of its hosts is there"
            todo = f"restore it; or write it anew from the state: bmhctl copy {file.state_path} NEW.toml"
            found = Finding("declaration", BROKEN, words, todo)
        seen.is_foreign = found.kind == "owner"
        seen.note(found)
        return None


def refused(error: InvalidError | UnreachableError, location: str) -> Finding:
    """What stands against every ordinary command, as a finding."""
    if "owner" in error.details:
        kind = "owner"
    elif "file" in error.details or error.host is not None:
        kind = "declaration"
    else:
        kind = "damage" if isinstance(error, InvalidError) else "access"
    return Finding(kind, BROKEN, error.message, error.hint or f"look at {location}", error.host)


def _to_come(ctx: Context, seen: Seen) -> None:
    """What the next command would do with a TOML file that changed: take it over, or refuse it."""
    file = ctx.store.declaration
    if file is None or seen.is_unreadable or any(each.kind == "declaration" for each in seen.findings):
        return
    try:
        with ctx.store.transaction():
            declaration_sync.rehearse(ctx)
    except InvalidError as error:
        found = refused(error, ctx.store.location)
        seen.is_foreign = found.kind == "owner"
        seen.note(found)
    except UnreachableError:
        pass  # it can't be written by this user, or not now: then it can't be tried
    else:
        words = f"{file.path.name} changed since the last command"
        seen.note(Finding("declaration", NOTE, words, "nothing: the next command takes it over"))


def _intent(ctx: Context, seen: Seen, mending: bool) -> None:
    file = ctx.store.declaration
    if file is None or ctx.store.get(INTENT) is None:
        return
    with nullcontext() if mending else edits_locked(file.path):
        try:
            actor = declaration_sync.left_intent(ctx)
        except (InvalidError, UnreachableError):
            return  # the file's own trouble is told already
    if actor is not None:
        words = f"{actor} began to edit {file.path.name}, and never did: a command was killed"
        found = Finding("intent", NOTE, words, f"{FIX} forgets that; do it again if it is wanted", fixable=True)
        seen.note(found, ("intent", declaration_sync.drop_intent))


# rows


def _rows(ctx: Context, seen: Seen, declaration: Declaration | None) -> None:
    database = ctx.store.database
    now = ctx.clock()
    policy = _policy(ctx, seen)
    times = {name: from_time(at) or 0 for name, at in (("now", now), ("soon", now + _SLACK))}
    if policy is not None and policy.max_ttl is not None:
        times["latest"] = from_time(now + policy.max_ttl) or 0
    for number, question in enumerate(integrity.QUESTIONS, 1):
        if not times.keys() >= {*question.times}:
            continue
        ctx.progress("looking at rows", f"{number} of {len(integrity.QUESTIONS)}")
        for flaw in integrity.answers(database, question, times):
            seen.note(finding(question.name, flaw), (question.name, _mend(question, times)), flaw.more)
    _events(ctx, seen)
    for state, kept, there in integrity.miscounted(database):
        words = f"{kept} hosts are counted as {state}, and there {'is 1' if there == 1 else f'are {there}'}"
        found = Finding("counts", BROKEN, words, f"{FIX} counts them anew", fixable=True)
        seen.note(found, ("counts", lambda ctx: ctx.store.recount()))
    ctx.progress("looking at hosts", "")
    _hosts(ctx, seen, declaration)
    seen.counts = integrity.counts(database)


def _mend(question: integrity.Question, times: dict[str, int]) -> Mend:
    return lambda ctx: integrity.mend(ctx.store.database, question, times)


def _events(ctx: Context, seen: Seen) -> None:
    database = ctx.store.database
    for verb, source, dest, first, number in integrity.kinds_of_events(database):
        stays = verb in _REMARKS and source == dest and source in _STATES
        if not stays and (verb, source, dest) not in _WAYS:
            host, is_there = integrity.bearer(database, first)
            seen.note(strange_event(host, is_there, (verb, source, dest), first, number - 1))


def _policy(ctx: Context, seen: Seen) -> Policy | None:
    import tomllib

    text = ctx.store.policy_text() or ""
    try:
        document = tomllib.loads(text)
        check_keys(document, POLICY_KEYS, "")
        policy = parse_policy(document)
    except (ValueError, InvalidError) as error:
        todo = "bmhctl policy apply FILE"
        if ctx.store.declaration is not None:
            todo = f"{ctx.store.location} holds the policy: save it again, then any command takes it over"
        seen.note(Finding("policy", BROKEN, f"the policy is not valid: {error}", todo))
        return None
    try:
        is_same = ctx.store.parsed_policy() == document
    except ValueError:
        is_same = False
    if not is_same:
        words = "the policy that holds is not the one that policy show shows"
        found = Finding("policy", BROKEN, words, f"{FIX} lets the one hold that is shown", fixable=True)
        seen.note(found, ("policy", lambda ctx: ctx.store.keep_parsed_policy()))
    return policy


def _hosts(ctx: Context, seen: Seen, declaration: Declaration | None) -> None:
    declared = None if declaration is None else {spec.name: spec for spec in declaration.hosts}
    for stored in integrity.stored_hosts(ctx.store.database):
        host, spec = stored.host, None if declared is None else declared.pop(stored.name, None)
        if isinstance(host, str):
            seen.is_unreadable = True
            todo = "restore a backup; or put that value right in the database while no command runs"
            seen.note(Finding("row", BROKEN, host, todo, stored.name))
            continue
        if stored.facts != _facts(host):
            keys = ", ".join(sorted({key for key, _ in {*stored.facts.items()} ^ {*_facts(host).items()}}))
            todo = f"{FIX} has them see what is declared"
            found = Finding("facts", BROKEN, f"selectors see something else of it: {keys}", todo, host.name, True)
            seen.note(found, ("facts", _mend_facts))
        if stored.back_at != back_at(host):
            kept = "another time is kept at which it shall be back than its reasons say"
            found = Finding("mark", BROKEN, kept, f"{FIX} keeps the one that they say", host.name, fixable=True)
            seen.note(found, ("back", _mend_back))
        words = None
        if declared is not None:
            if spec is None and not host.undeclared:
                words = "is not declared, and not noted to be undeclared"
            elif spec is not None and host.undeclared:
                words = "is declared, and noted to be undeclared"
            elif spec is not None and spec != host.spec:
                words = f"is declared otherwise than known: {', '.join(differences(host.spec, spec))}"
        if words is not None:
            _differs(ctx, seen, words, host.name)
        elif host.undeclared:
            todo = f"bmhctl remove {host.name}; or declare it again"
            words = "is not declared any more: it keeps its state, and can't be reserved"
            seen.note(Finding("undeclared", NOTE, words, todo, host.name))
    for name in declared or ():
        _differs(ctx, seen, "is declared, and not known", name)
    if declaration is not None and declaration.policy_text != (ctx.store.policy_text() or ""):
        _differs(ctx, seen, "the policy is declared otherwise than known", None)


def _differs(ctx: Context, seen: Seen, words: str, host: str | None) -> None:
    todo = f"{FIX} takes {Path(ctx.store.location).name} over anew"
    seen.note(Finding("declaration", BROKEN, words, todo, host, fixable=True), ("declaration", declaration_sync.forget))


def _facts(host: Host) -> dict[str, tuple[str, float | None]]:
    return {key: (value, quantity(value)) for key, value in selectable(host.spec).items()}


def _mend_facts(ctx: Context) -> None:
    for stored in integrity.stored_hosts(ctx.store.database):
        if isinstance(stored.host, Host) and stored.facts != _facts(stored.host):
            ctx.store.save_facts(stored.host)


def _mend_back(ctx: Context) -> None:
    for stored in integrity.stored_hosts(ctx.store.database):
        if isinstance(stored.host, Host) and stored.back_at != back_at(stored.host):
            ctx.store.save_back_at(stored.host)


# beside the database


def _around(ctx: Context, seen: Seen) -> None:
    store = ctx.store
    declaration = store.declaration.path if store.declaration else None
    files = [path for path in (declaration, *store.database.files) if path is not None]
    for found in inventory_files.access(declaration, store.database.files):
        seen.note(found)
    for path in inventory_files.left_behind(files):
        seen.note(inventory_files.leftover(path), ("leftovers", lambda _: _remove(inventory_files.left_behind(files))))
    if seen.is_damaged or seen.is_foreign:
        return
    dead = list(_dead_tickets(ctx))
    for ticket_id, owner in dead:
        words = f"ticket {ticket_id} of {owner}: whoever waited with it was killed"
        found = Finding("ticket", NOTE, words, f"{FIX} drops it; it holds nobody up", fixable=True)
        seen.note(found, ("tickets", _drop_tickets))
    for name in store.claims.left_behind():
        if name not in {ticket_claim(ticket_id) for ticket_id, _ in dead}:
            words = f"the claim {name} is left of a process that was killed"
            found = Finding("claim", NOTE, words, f"{FIX} removes it; it claims nothing any more", fixable=True)
            seen.note(found, ("claims", _forget_claims))


def _remove(paths: list[Path]) -> None:
    for path in paths:
        path.unlink(missing_ok=True)


def _dead_tickets(ctx: Context) -> Iterator[tuple[int, str]]:
    for ticket in ctx.store.tickets():
        # Whoever leaves the queue drops the ticket first: one that is there still, and nobody's, is a dead process's.
        if is_gone(ctx, ticket.id) and ctx.store.ticket(ticket.id) is not None:
            yield ticket.id, ticket.owner


def _drop_tickets(ctx: Context) -> None:
    for ticket_id, _ in list(_dead_tickets(ctx)):
        ctx.store.drop_ticket(ticket_id)
        ctx.store.claims.forget(ticket_claim(ticket_id), shared=True)


def _forget_claims(ctx: Context) -> None:
    for name in ctx.store.claims.left_behind():
        ctx.store.claims.forget(name, shared=name.startswith(ticket_claim(0).removesuffix("0")))
