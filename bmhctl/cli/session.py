"""One call: its global options, the inventory that they name, and the rendering of its result."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bmhctl.cli.options import DryRun, Group, HostNames, SelectorText, States, Yes
from bmhctl.errors import BmhctlError, UsageError, combine
from bmhctl.output import Display, Format, ask, check, note, render, report
from bmhctl.results import Hosts, Outcomes, Plan
from bmhctl.stores import default_actor, open_store
from bmhctl.stores.locations import VARIABLE, find_inventory
from bmhctl.support.values import Frozen, replace
from bmhctl.usecases.shared.context import Context

if TYPE_CHECKING:
    from bmhctl.cli.watch import Look
    from bmhctl.output.progress import Progress
    from bmhctl.stores.store import Store
    from bmhctl.usecases.shared.host_selection import Choice


class Invocation:
    """The global options of one call, anywhere on its command line; of a repeated option, the last one counts."""

    def __init__(self) -> None:
        self.inventory: str | None = None
        self.actor: str | None = None
        self.output: str | None = None
        self.quiet = False
        self.verbose = False
        self.notes: list[str] = []
        """What was reported in JSON mode, for the error, or for lines on stderr at the end."""

    def display(self) -> Display:
        """Return the display: the streams and the output format; raise :class:`UsageError` for an unknown format."""
        display = Display.from_environment(os.environ, sys.stdout, sys.stderr, quiet=self.quiet, verbose=self.verbose)
        return display if self.output is None else replace(display, format=_format(self.output))

    def fail(self, error: BmhctlError, args: list[str]) -> int:
        """Report an error and return its exit status.

        The report is JSON if the command line asks for it, even if its options could not be parsed.
        """
        if self.output is None:
            self.output = _output_in(args)
        try:
            display = self.display()
        except UsageError:
            self.output = None
            display = self.display()
        if self.notes:
            error.details = {**error.details, "notes": [*self.notes]}
            self.notes.clear()
        report(_without_secrets(error), display)
        return int(error.status)

    def write_notes(self) -> None:
        """Write what was reported in JSON mode, each as a JSON object on a line of stderr."""
        for text in self.notes:
            note(text, replace(self.display(), format=Format.JSONL))
        self.notes.clear()


class _NoLine:
    """A line of progress that is never shown."""

    def progress(self, text: str, place: str = "") -> None:
        """Show nothing."""

    def clear(self) -> None:
        """Do nothing."""


NO_LINE = _NoLine()


class Session(Frozen):
    """An open inventory for one command, and the display for its result."""

    context: Context
    display: Display
    line: Progress | _NoLine
    fields: tuple[str, ...] | None = None

    def show(self, result: object) -> None:
        """Render a result; then raise the failures in it, for the exit status."""
        if self.context.dry_run and type(result) is Outcomes:
            result = Plan(result.verb, result.items, (*result.notes, "dry run: nothing was changed"))
        show(result, self, self.context.store.database.unreported)


def show(result: object, lab: Session | Target, unreported: list[int] | None = None) -> None:
    """Print a result, and clear the list of unreported events; then raise the failures in the result."""
    lab.line.clear()
    render(result, lab.display, lab.fields)
    if unreported is not None:
        unreported.clear()
    missing = result.missing if isinstance(result, Hosts) else ()
    error = combine(missing) if missing else getattr(result, "error", None)
    if error is not None:
        raise error


class Target(Frozen):
    """The inventory of a command before it is opened, and the display for its result."""

    location: str
    actor: str
    display: Display
    line: Progress | _NoLine
    fields: tuple[str, ...] | None
    report: Callable[[str], None]

    def session(self, store: Store, *, dry_run: bool = False) -> Session:
        """Return the session with the inventory that was opened."""
        context = Context(
            store=store,
            actor=self.actor,
            clock=store.now,
            environ=dict(os.environ),
            report=self.report,
            progress=self.line.progress,
            show_part=self._show_part,
            dry_run=dry_run,
        )
        return Session(context, self.display, self.line, self.fields)

    def _show_part(self, result: object) -> None:
        self.line.clear()
        with suppress(OSError):
            render(result, self.display)
            if isinstance(result, Outcomes) and result.error and not self.display.machine:
                report(result.error, self.display)


@contextmanager
def target(ctx: typer.Context, kind: type, fields: str | None = None, *, endless: bool = False) -> Iterator[Target]:
    """Find the inventory that the options mean, for a command whose result is of ``kind``.

    A format, or one of the ``fields`` (``a,b,c``), that the result does not have is refused before the command does
    anything. A command that is ``endless`` reports at once in JSON mode, too, not when it ends.
    """
    invocation = invocation_of(ctx)
    wanted = field_list(fields)
    display = invocation.display()
    progress: AbstractContextManager[Progress | _NoLine] = nullcontext(NO_LINE)
    if display.shows_progress:
        from bmhctl.output.progress import Progress

        progress = Progress(display)
    check(kind, display, wanted)

    with progress as line:

        def report(text: str) -> None:
            line.clear()
            if display.format is not Format.JSON:
                note(text, display)
                return
            invocation.notes.append(text)
            if endless:
                invocation.write_notes()

        location = invocation.inventory or os.environ.get(VARIABLE)
        location = location or find_inventory(None, os.environ, Path.cwd(), report)
        yield Target(location, invocation.actor or default_actor(os.environ), display, line, wanted, report)


@contextmanager
def session(
    ctx: typer.Context,
    kind: type,
    fields: str | None = None,
    *,
    pause: Callable[[], None] | None = None,
    endless: bool = False,
    dry_run: bool = False,
) -> Iterator[Session]:
    """Open the inventory that the options mean; find it and check ``fields`` as :func:`target` does.

    With ``dry_run``, the session only plans. With ``pause``, wait while the inventory is unavailable: ``pause`` sleeps
    between two tries, and may raise to end the wait. A command that is ``endless`` waits, too; it goes on until a
    signal ends it, and shows meanwhile what it does.
    """
    if endless:
        from time import sleep

        from bmhctl.usecases.shared.absence import PAUSE

        pause = partial(sleep, PAUSE)
    with target(ctx, kind, fields, endless=endless) as found:
        if pause is None:
            store = open_store(found.location)
        else:
            from bmhctl.support.redact import without_secrets
            from bmhctl.usecases.shared.absence import Absence, outlast

            absence = Absence(found.report, without_secrets(found.location))
            store = outlast(absence, pause, lambda: open_store(found.location))
        with closing(store):
            if store.database.is_updated:
                roles = "; if it has roles, grant them again: bmhctl policy grants" if store.database.role else ""
                found.report(f"updated the tables of {store.location}: an older bmhctl can't use it any more{roles}")
            lab = found.session(store, dry_run=dry_run)
            try:
                yield lab
            except KeyboardInterrupt:
                if not endless:
                    from bmhctl.usecases.shared.bulk import report_saved

                    report_saved(lab.context, ctx.command_path.partition(" ")[2])
                raise


def show_or_watch(ctx: typer.Context, kind: type, read: Look, watch: str | None, fields: str | None = None) -> None:
    """Show the result that ``read`` returns; with ``--watch``, show it again whenever it changes."""
    with session(ctx, kind, fields, endless=watch is not None) as lab:
        if watch is None:
            lab.show(read(lab.context))
            return
        from bmhctl.cli.watch import watch_result

        watch_result(lab, read, watch)


@contextmanager
def changing(ctx: typer.Context, dry_run: DryRun = False, yes: Yes = False) -> Iterator[Session]:
    """Open a session for a verb that changes hosts; with ``dry_run``, a session that only plans.

    Unless ``yes``, ask a person at a terminal before changing many hosts, or hosts that others have reserved.
    """
    with asking(ctx, Plan if dry_run else Outcomes, yes=yes, dry_run=dry_run) as lab:
        yield lab


@contextmanager
def unasked(ctx: typer.Context, dry_run: DryRun = False) -> Iterator[Session]:
    """Open a session as :func:`changing` does, for a verb that never asks."""
    with changing(ctx, dry_run, yes=True) as lab:
        yield lab


def _chosen(hosts: HostNames = None, selector: SelectorText = None, state: States = None) -> Any:
    from bmhctl.usecases.shared.host_selection import choice

    return choice(hosts, selector, state)


def _selected(hosts: HostNames = None, selector: SelectorText = None) -> Any:
    return _chosen(hosts, selector)


Changing = Annotated[AbstractContextManager[Session], Group(changing)]
Unasked = Annotated[AbstractContextManager[Session], Group(unasked)]
Chosen = Annotated["Choice", Group(_chosen)]
"""The hosts that a command means, from their names, ``-l`` and ``--state``."""
Selected = Annotated["Choice", Group(_selected)]
"""The same for a command without ``--state``."""


@contextmanager
def asking(ctx: typer.Context, kind: type, *, yes: bool, dry_run: bool = False) -> Iterator[Session]:
    """Open a session for a command that may ask a person at a terminal for confirmation, unless ``yes``."""
    with session(ctx, kind, dry_run=dry_run) as lab:
        confirm = None if yes or dry_run or not _is_attended(lab.display) else partial(_confirm, lab)
        yield replace(lab, context=replace(lab.context, confirm=confirm))


def _is_attended(display: Display) -> bool:
    """Return whether a person can answer a question: false in a pipe, in a CI job, and with JSON output."""
    return sys.stdin.isatty() and display.stderr_tty and not display.machine and not os.environ.get("CI")


def _confirm(lab: Session, question: str) -> None:
    lab.line.clear()
    ask(f"{question}\n--yes skips this question", lab.display)
    answer = ""
    try:
        answer = sys.stdin.readline()
    finally:
        if not answer.endswith("\n"):  # Ctrl-C or Ctrl-D
            lab.display.stderr.write("\n")
    if answer.strip().lower() not in ("y", "yes"):
        raise UsageError("not confirmed: nothing was changed", hint="--dry-run shows what would change")


def field_list(text: str | None) -> tuple[str, ...] | None:
    """Return the names in ``a,b,c``, None for None; raise :class:`UsageError` for a text without names."""
    if text is None:
        return None
    names = tuple(part.strip() for part in text.split(",") if part.strip())
    if not names:
        raise UsageError("--fields names no field", hint="such as --fields name,state")
    return names


def invocation_of(ctx: typer.Context) -> Invocation:
    """Return the record of the global options of this call."""
    found = ctx.find_root().obj
    return found if isinstance(found, Invocation) else Invocation()


def _without_secrets(error: BmhctlError) -> BmhctlError:
    """Return the error without passwords, which any argument that is the URL of an inventory may contain."""
    if ":/" in f"{error.message} {error.host} {error.hint} {error.details}":
        from bmhctl.support.redact import without_secrets

        error.message = without_secrets(error.message)
        error.host = error.host and without_secrets(error.host)
        error.hint = error.hint and without_secrets(error.hint)
        error.details = {key: _cleaned(value, without_secrets) for key, value in error.details.items()}
    return error


def _cleaned(value: object, clean: Callable[[str], str]) -> object:
    match value:
        case str():
            return clean(value)
        case dict():
            return {key: _cleaned(each, clean) for key, each in value.items()}
        case list() | tuple():
            return [_cleaned(each, clean) for each in value]
    return value


def _format(text: str) -> Format:
    try:
        return Format(text)
    except ValueError:
        from bmhctl.cli.suggestions import meant_format

        meant = f"did you mean {near}? " if (near := meant_format(text)) else ""
        raise UsageError(f"there is no output format {text!r}", hint=f"{meant}known: {', '.join(Format)}") from None


def _output_in(args: list[str]) -> str | None:
    """Return the format that ``-o`` asks for, for errors before the options are parsed."""
    found = None
    for position, arg in enumerate(args):
        if arg == "--":
            break
        option = re.fullmatch(r"(?:-[qv]*o|--output(?:=|$))(.*)", arg, re.S)
        if option:
            found = option[1] or next(iter(args[position + 1 :]), found)
    return found
