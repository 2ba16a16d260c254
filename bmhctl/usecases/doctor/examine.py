"""One examination of an inventory for ``doctor``: what is wrong, and how to fix it. Changes nothing itself."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable
from contextlib import nullcontext
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from shlex import quote

from bmhctl.domain.model import Host, HostSpec
from bmhctl.domain.policy import Policy
from bmhctl.domain.policy_parser import POLICY_KEYS, WITHIN, parse_policy
from bmhctl.domain.tables import check_keys
from bmhctl.errors import InvalidError, UnreachableError
from bmhctl.results.diagnosis import Finding, Severity
from bmhctl.stores.claims import run_claim, ticket_claim
from bmhctl.stores.integrity import MOST
from bmhctl.stores.meta import INTENT, PARSED_POLICY
from bmhctl.stores.toml.atomic_replace import edits_locked
from bmhctl.stores.toml.declaration import Declaration
from bmhctl.support.left_tasks import describe, left_tasks, listed
from bmhctl.support.values import replace
from bmhctl.usecases.doctor import files as inventory_files
from bmhctl.usecases.doctor.bookings import look_at_bookings
from bmhctl.usecases.doctor.findings import QUESTIONS
from bmhctl.usecases.doctor.question import BROKEN, FIX, NOTE, WARNING, Repair
from bmhctl.usecases.reservations.fairness import is_gone, remove_dead
from bmhctl.usecases.shared import declaration_sync
from bmhctl.usecases.shared.context import Context
from bmhctl.usecases.shared.expiry import forget_left_claims, reservation_of
from bmhctl.usecases.shared.host_changes import differences

_CLOCK_DIFFERENCE = timedelta(minutes=1)
"""How far ahead a stored time may be before it counts as in the future, because clocks of machines differ."""


class Examination:
    """The findings of one examination, and their repairs; of each sort only the first :data:`MOST` findings are kept.

    ``repairs`` are in the order in which they must run. ``counts`` is how many hosts, events and reservations were
    examined, empty if none could be. ``is_damaged`` is whether the database is damaged, so that its rows were not
    examined. ``is_foreign`` is whether the state file belongs to another inventory. ``is_unreadable`` is whether the
    row of a host can't be read.
    """

    def __init__(self) -> None:
        self.repairs: dict[Repair, None] = {}
        self.counts: dict[str, int] = {}
        self.is_damaged = False
        self.is_foreign = False
        self.is_unreadable = False
        self._findings: list[Finding] = []
        self._numbers: Counter[tuple[str, Severity, bool]] = Counter()

    def note(self, found: Finding, repair: Repair | None = None, more: int = 0) -> None:
        """Record a finding, and that there are ``more`` like it; ``repair`` fixes all of them."""
        sort = found.kind, found.severity, found.fixable
        if self._numbers[sort] < MOST:
            self._findings.append(found)
        self._numbers[sort] += 1 + more
        if repair is not None and found.fixable:
            self.repairs[repair] = None

    def fixable(
        self, kind: str, severity: Severity, message: str, fix: str, repair: Repair, host: str | None = None
    ) -> None:
        """Record a finding that ``repair`` fixes; ``fix`` completes "bmhctl doctor --fix …"."""
        self.note(Finding(kind, severity, message, f"{FIX} {fix}", host, fixable=True), repair)

    @property
    def findings(self) -> list[Finding]:
        """All findings, in the order of :func:`ordered`."""
        rest = [
            Finding(kind, severity, f"and {number - MOST} more like these", "", fixable=fixable, number=number - MOST)
            for (kind, severity, fixable), number in self._numbers.items()
            if number > MOST
        ]
        found = [*self._findings, *rest]
        if self.is_foreign:
            found = [replace(each, fixable=False) for each in found]
        return ordered(found)


def ordered(findings: Iterable[Finding]) -> list[Finding]:
    """Return findings with the worst first and the fixed ones last; those of one kind are together, by host."""
    found = list(findings)
    kinds = list(dict.fromkeys(each.kind for each in found))
    severities = list(Severity)

    def place(each: Finding) -> tuple[object, ...]:
        return each.fixed, severities.index(each.severity), kinds.index(each.kind), not each.host, each.host or ""

    return sorted(found, key=place)


def examine(ctx: Context, *, deep: bool, fixing: bool = False) -> Examination:
    """Return everything that is wrong with an inventory; ``deep`` adds a slow check of the database for damage.

    ``fixing`` is whether the caller holds a writing transaction and the lock on edits of the TOML file.
    """
    seen, declaration = Examination(), None
    if deep:
        ctx.progress("looking for damage", "")
        _damage(ctx, seen)
    if not seen.is_damaged:
        with nullcontext() if fixing else ctx.store.snapshot():
            declaration = _declaration(ctx, seen)
            _retirement(ctx, seen)
            if not seen.is_foreign:
                _rows(ctx, seen, declaration)
    _files(ctx, seen)
    if not (seen.is_damaged or seen.is_foreign):
        _processes(ctx, seen)
        _tasks(ctx, seen)
        if ctx.store.declaration is not None:
            _interrupted_edit(ctx, seen, fixing)
            if not fixing and declaration is None:
                _next_sync(ctx, seen)
    if seen.is_foreign:  # the state file of another inventory must not be changed
        seen.repairs.clear()
    return seen


def _damage(ctx: Context, seen: Examination) -> None:
    found = list(ctx.store.database.upkeep().damage())
    seen.is_damaged = bool(found)
    is_fixable = all(fixable for _, fixable in found)
    remedy = f"{FIX} builds indexes and the next ids again from the rows"
    if not is_fixable:
        remedy = (
            f"keep a copy of {ctx.store.database.location} and the files beside it; restore a backup,"
            " or save what can be read: bmhctl help operators, under 'A damaged file'"
        )
    for message, _ in found:
        seen.note(Finding("damage", BROKEN, message, remedy, fixable=is_fixable), _rebuild)


def _rebuild(ctx: Context) -> None:
    ctx.store.database.upkeep().rebuild()


def _retirement(ctx: Context, seen: Examination) -> None:
    successor = ctx.store.meta.successor()
    if successor is not None:
        message = f"the inventory is retired and refuses changes: its successor is {successor}"
        again = f"bmhctl -i {quote(ctx.store.location)} init --reactivate"
        remedy = f"use -i {quote(successor)}; to use this one again: {again}"
        seen.note(Finding("retired", WARNING, message, remedy))


def _declaration(ctx: Context, seen: Examination) -> Declaration | None:
    """Return the declaration in the TOML file; None if the state need not agree with it."""
    file = ctx.store.declaration
    if file is None:
        return None
    try:
        return declaration_sync.declared(ctx)
    except (InvalidError, UnreachableError) as error:
        found = refused(error, ctx.store.location)
        if not file.path.exists():
            message = f"{file.path} is missing, but the state file of its hosts is there"
            remedy = f"restore it, or write it again from the state: bmhctl copy {file.state_path} NEW.toml"
            found = Finding("declaration", BROKEN, message, remedy)
        seen.is_foreign = found.kind == "owner"
        seen.note(found)
        return None


def refused(error: InvalidError | UnreachableError, location: str) -> Finding:
    """Return the finding for an error with which every other command ends."""
    if "owner" in error.details:
        kind = "owner"
    elif "file" in error.details or error.host is not None:
        kind = "declaration"
    else:
        kind = "damage" if isinstance(error, InvalidError) else "access"
    return Finding(kind, BROKEN, error.message, error.hint or f"look at {location}", error.host)


def _next_sync(ctx: Context, seen: Examination) -> None:
    """Record what the next command will do with a TOML file that changed: sync it or refuse it."""
    if seen.is_unreadable or any(each.kind == "declaration" for each in seen.findings):
        return
    try:
        with ctx.store.transaction():
            declaration_sync.rehearse(ctx)
    except InvalidError as error:
        found = refused(error, ctx.store.location)
        seen.is_foreign = found.kind == "owner"
        seen.note(found)
    except UnreachableError:
        pass  # a sync can't be tried without writing, which this user can't do now
    else:
        message = f"{Path(ctx.store.location).name} changed since the last command"
        seen.note(Finding("declaration", NOTE, message, "nothing to do: the next command reads it"))


def _interrupted_edit(ctx: Context, seen: Examination, fixing: bool) -> None:
    path = Path(ctx.store.location)
    if ctx.store.meta.get(INTENT) is None:
        return
    with nullcontext() if fixing else edits_locked(path):
        try:
            actor = declaration_sync.left_intent(ctx)
        except (InvalidError, UnreachableError):
            return  # the file's problem is reported already
    if actor is not None:
        message = f"an edit of {path.name} by {actor} did not reach it: its command was killed, or could not write it"
        fix = "discards it; repeat the edit if it is still wanted"
        seen.fixable("intent", NOTE, message, fix, lambda ctx: ctx.store.meta.put(INTENT, None))


def _rows(ctx: Context, seen: Examination, declaration: Declaration | None) -> None:
    now = ctx.clock()
    times: dict[str, datetime] = {"now": now, "soon": now + _CLOCK_DIFFERENCE}
    policy = _policy(ctx, seen)
    if policy is not None and policy.max_ttl is not None:
        times["latest"] = now + policy.max_ttl
    for number, question in enumerate(QUESTIONS, 1):
        if not times.keys() >= {*question.times}:
            continue
        ctx.progress("looking at rows", f"{number} of {len(QUESTIONS)}")
        repair = partial(question.repair, times=times)
        for answer in question.answers(ctx, times):
            seen.note(question.finding(answer), repair, answer.more)
    ctx.progress("looking at hosts", "")
    _hosts(ctx, seen, declaration)
    if not seen.is_unreadable:
        look_at_bookings(ctx, seen)
    seen.counts = ctx.store.integrity.counts()


def _policy(ctx: Context, seen: Examination) -> Policy | None:
    import tomllib

    text = ctx.store.meta.policy_text() or ""
    try:
        document = tomllib.loads(text)
        check_keys(document, POLICY_KEYS, "", WITHIN)
        policy = parse_policy(document)
    except (ValueError, InvalidError) as error:
        remedy = "bmhctl policy apply FILE"
        if ctx.store.declaration is not None:
            remedy = f"{ctx.store.location} contains the policy: save that file again, and the next command reads it"
        seen.note(Finding("policy", BROKEN, f"the policy is not valid: {error}", remedy))
        return None
    try:
        is_same = json.loads(ctx.store.meta.get(PARSED_POLICY) or "{}") == document
    except ValueError:
        is_same = False
    if not is_same:
        message = "the policy in force differs from the policy that policy show prints"
        seen.fixable(
            "policy", BROKEN, message, "parses the stored policy again", lambda ctx: ctx.store.meta.parse_policy_again()
        )
    return policy


def _hosts(ctx: Context, seen: Examination, declaration: Declaration | None) -> None:
    def differs(message: str, host: str | None) -> None:
        fix = f"reads {Path(ctx.store.location).name} again"
        seen.fixable("declaration", BROKEN, message, fix, declaration_sync.forget, host)

    declared = None if declaration is None else {spec.name: spec for spec in declaration.hosts}
    for stored in ctx.store.integrity.hosts():
        host, spec = stored.host, None if declared is None else declared.pop(stored.name, None)
        if host is None:
            seen.is_unreadable = True
            remedy = "restore a backup; or correct that value in the database while no command runs"
            seen.note(Finding("row", BROKEN, str(stored.problem), remedy, stored.name))
            continue
        if stored.wrong_attributes:
            message = f"selectors see other values than declared: {', '.join(stored.wrong_attributes)}"
            seen.fixable("facts", BROKEN, message, "makes them see what is declared", _restore, host.name)
        if stored.is_planned_at_wrong:
            message = "the recorded start of its next booking or maintenance differs from its bookings"
            seen.fixable("booking", BROKEN, message, "records that time", _restore, host.name)
        if stored.is_back_at_wrong:
            message = "the recorded end of its maintenance differs from its reasons"
            seen.fixable("mark", BROKEN, message, "records that time", _restore, host.name)
        difference = None if declared is None else _difference(host, spec)
        if difference is not None:
            differs(difference, host.name)
        elif host.undeclared:
            message = "is no longer declared: it keeps its state and can't be reserved"
            seen.note(
                Finding("undeclared", NOTE, message, f"bmhctl remove {host.name}; or declare it again", host.name)
            )
    for name in declared or ():
        differs("is declared, but unknown", name)
    if declaration is not None and declaration.policy_text != (ctx.store.meta.policy_text() or ""):
        differs("the policy differs from the declared one", None)


def _difference(host: Host, spec: HostSpec | None) -> str | None:
    """Return how a stored host contradicts its declaration; None if they agree."""
    if spec is None:
        return None if host.undeclared else "is not declared, but not recorded as undeclared"
    if host.undeclared:
        return "is declared, but recorded as undeclared"
    stored = replace(host.spec, observed=spec.observed)  # observed properties are not declared
    return None if spec == stored else f"differs from what is declared: {', '.join(differences(host.spec, spec))}"


def _restore(ctx: Context) -> None:
    """Correct the stored values of hosts that are computed from other columns."""
    for stored in ctx.store.integrity.hosts():
        if stored.host is not None and stored.wrong_attributes:
            ctx.store.declared.save_attributes(stored.host)
        if stored.host is not None and (stored.is_back_at_wrong or stored.is_planned_at_wrong):
            ctx.store.integrity.save_times(stored.host)


def _files(ctx: Context, seen: Examination) -> None:
    declaration, databases = ctx.store.declaration, ctx.store.database.files
    path = declaration.path if declaration else None
    for found in inventory_files.access(path, databases):
        seen.note(found)
    left = inventory_files.left_behind([*([path] if path else []), *databases])
    repair = partial(_remove, left)
    for each in left:
        seen.fixable("leftover", NOTE, f"{each} was left by a command that was killed", "removes it", repair)


def _remove(paths: list[Path], _: Context) -> None:
    for path in paths:
        path.unlink(missing_ok=True)


def _processes(ctx: Context, seen: Examination) -> None:
    """Record the tickets and claims of processes that no longer run."""
    dead: set[str] = set()
    for ticket in ctx.store.tickets.all():
        # A process removes its ticket before it releases the claim. Otherwise it was killed.
        if is_gone(ctx, ticket.id) and ctx.store.tickets.get(ticket.id) is not None:
            message = f"ticket {ticket.id} of {ticket.owner}: the process that waited with it was killed"
            seen.fixable("ticket", NOTE, message, "removes it; it delays no other ticket", remove_dead)
            dead.add(ticket_claim(ticket.id))
    for left in ctx.store.claims.left_behind():
        if left.name not in dead:
            message = f"the claim {left.name}{_claimant(ctx, left.name)} is left over: {left.cause}"
            known = reservation_of(ctx, left.name)
            if known is not None and known.is_open():
                remedy = f"bmhctl reap ends the lease when it has expired; or bmhctl release -R {known.id}"
                seen.note(Finding("claim", NOTE, message, remedy))
            else:
                seen.fixable("claim", NOTE, message, "removes it; it no longer claims anything", forget_left_claims)


def _tasks(ctx: Context, seen: Examination) -> None:
    """Record the tasks on this machine that still run although ``run`` and its watchdog were killed."""
    for token, task in left_tasks().items():
        reservation = ctx.store.reservations.get(token)
        if reservation is None:
            continue  # the task belongs to another inventory
        is_valid = reservation.is_valid(ctx.clock())
        if is_valid and ctx.store.claims.claimed([run_claim(token)]):
            continue  # only its watchdog was killed
        if task.has_this_process():
            continue  # a shell that a task left on a terminal runs this command
        ids = sorted(task.members())
        message = f"the task of reservation {token} runs without bmhctl run: {listed(map(describe, ids))}"
        remedy = f"end it now: kill -KILL {' '.join(map(str, ids))}"
        if is_valid:
            seen.note(Finding("task", NOTE, message, f"it will be ended when its lease expires; to {remedy}"))
        else:
            if ctx.store.claims.is_there(run_claim(token)):
                remedy = f"bmhctl recycle or reset will end it; to {remedy}"
            seen.note(Finding("task", WARNING, f"{message}; its lease has ended", remedy))


def _claimant(ctx: Context, claim: str) -> str:
    """Return what held a claim as " of …"; empty for a name that bmhctl does not use."""
    kind, _, which = claim.partition("-")
    if kind == "host" and re.fullmatch(r"[0-9]{1,18}", which):
        host = ctx.store.hosts.with_id(int(which))
        return f" of a step of {host.name if host else 'a removed host'}"
    return {"run": f" of a run under reservation {which}", "ticket": " of a wait for hosts"}.get(kind, "")
