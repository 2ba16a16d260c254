"""The Redfish service of one BMC: read resources, follow links and lists, send actions and changes.

The requests are made with :mod:`http.client`. A Redfish library would hide whether a request was sent, whether it may
be repeated, and which system it is for, and it takes 300 ms to import.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from bmhctl.domain.bmc_address import Endpoint, same_path
from bmhctl.probes.credentials import BmcError
from bmhctl.probes.http_connection import Reply
from bmhctl.probes.redfish_errors import POWER_HINT, PassingError, RefusedError, refusal
from bmhctl.probes.redfish_login import Login
from bmhctl.probes.redfish_reply import Json, json_object, remark_of, table
from bmhctl.probes.redfish_requests import CHECK_ADDRESS, bmc_name
from bmhctl.probes.redfish_task import Task
from bmhctl.probes.redfish_time_limit import TimeLimit

_EXTRA_READ = 10.0  # the most seconds for a read that is optional
_MOST_CHANGES = 2  # reads of an ETag, for one change of properties
_OTHER_TAG = (412, 428)  # refusals of an ETag, and of a change without one
_MOST_PAGES = 50
_NAME_IT = "name one: bmhctl set HOST --bmc-system ID"


class Client:
    """The service at one endpoint, with a login and a time limit.

    Methods raise :class:`BmcError` for permanent failures, and :class:`PassingError` for temporary ones.
    """

    def __init__(self, where: Endpoint, login: Login, limit: TimeLimit) -> None:
        self.where = where
        self.limit = limit
        self.name = bmc_name(where)
        """The name of the BMC in messages."""
        self.remark = ""
        """The warnings with which the BMC accepted the last change."""
        self.unread: str | None = None
        """Why the BMC refused the last optional read that it refused."""
        self._login = login
        self._task: Task | None = None

    # methods that read

    def root(self) -> Json:
        """Return the service root; remembers where sessions are made."""
        root = self.get(f"{self.where.root}/", missing="is not a Redfish service")
        if not any(isinstance(root.get(key), kind) for key, kind in _ROOT_KEYS):
            raise BmcError(f"{self.name} is not a Redfish service", hint=CHECK_ADDRESS)
        sessions = self.link(table(root.get("Links")).get("Sessions"))
        if sessions is not None and sessions.rstrip("/").endswith("/Sessions"):  # send a login nowhere else
            self._login.sessions = sessions.rstrip("/")
        return root

    def get(self, path: str, *, missing: str = "has lost its system", patient: bool = False) -> Json:
        """Return the object at a path. A failure that may pass is retried until the deadline if ``patient``.

        Without patience, a BMC is asked again only if it asks for that, or if its answer is that of a restarting BMC.
        """
        while True:
            try:
                found = self._get(path, missing, self.limit.part)
            except PassingError as passing:
                if not (patient or passing.busy):
                    raise passing.error from None
                self.limit.retry_later(passing)
            else:
                self.limit.note_answer()
                return found

    def find(self, path: str) -> Json | None:
        """Return the object at a path that has only optional properties; None if it can't be read.

        A busy BMC is asked again, for ten seconds or half of the time that is left.
        """
        reserve = max(self.limit.left / 2, self.limit.left - _EXTRA_READ)
        while self.limit.left > max(1.0, reserve):
            try:
                return self._get(path, "", self.limit.left - reserve)
            except BmcError as error:
                self.unread = error.message.removeprefix(f"{self.name} ")
                return None
            except PassingError as passing:
                if not passing.busy or (passing.after or 0) > self.limit.left - reserve:
                    return None
                self.limit.pause_after(passing)
        return None

    def members(self, path: str, *, needed: bool = True) -> list[str] | None:
        """Return the paths of all members of a collection; None if they can't be read and are not ``needed``.

        An incomplete list counts as unreadable, because a missing member may be another system.
        """
        try:
            return self._members(path, needed=needed)
        except BmcError:
            if needed:
                raise
            return None

    def _members(self, path: str, *, needed: bool) -> list[str]:
        found: list[str] = []
        pages: list[str] = []
        page = path
        while page not in pages and len(pages) < _MOST_PAGES:
            pages.append(page)
            read = self.get(page, missing="lists no systems") if needed else self.find(page)
            members = (read or {}).get("Members")
            if read is None or not isinstance(members, list):
                raise BmcError(f"{self.name} lists no systems")
            links = [self.link(member) for member in members]
            more = read.get("Members@odata.nextLink") or read.get("@odata.nextLink")
            following = self.where.path_of(more)
            if None in links or (more and following is None):
                raise BmcError(f"{self.name} lists systems without valid links", hint=_NAME_IT)
            found += filter(None, links)
            if following is None:
                count = read.get("Members@odata.count")
                if isinstance(count, int) and count > len(found):
                    words = f"lists {len(found)} of the {count} systems that it counts"
                    raise BmcError(f"{self.name} {words}", hint=_NAME_IT)
                return list({link.rstrip("/"): link for link in found}.values())
            page = following
        raise BmcError(f"{self.name} never ends its list of systems")

    def link(self, value: object) -> str | None:
        """Return the path to which a reference (``{"@odata.id": …}``) leads; None for any other value."""
        return self.where.path_of(table(value).get("@odata.id"))

    # methods that change something

    def post(self, path: str, body: Json, tag: object) -> None:
        """Send an action once. Raises :class:`PassingError`, which says whether it was sent, if no answer came.

        ``tag`` is the ETag of the resource, for BMCs that refuse an action without it. The action may still fail after
        the answer: see :meth:`check_task`.
        """
        self._act("POST", path, body, (None, *_own(tag), "*"))

    def attempt(self, what: str, send: Callable[[], object], hint: str = POWER_HINT) -> PassingError | None:
        """Send a change, and record it for the message at the deadline; return the error if the answer did not come.

        If the BMC did not act on the request, wait as long as it asks for: then the caller may send the change again.
        """
        try:
            send()
        except PassingError as passing:
            if passing.sent:
                self.limit.note_sent(what, passing.error, hint)
            else:
                self.limit.retry_later(passing)
            return passing
        self.limit.note_sent(what, hint=hint)
        return None

    def answer_to(self, what: str) -> str:
        """Return how the BMC answered the last change, for a message that continues with what it shows."""
        if self.limit.unconfirmed is None:
            return f"{self.name} accepted {what}, but"
        return f"{self.name} did not confirm {what}, and"

    def why(self, otherwise: str = "") -> str:
        """Return the BMC's own words about the last change: its warning, or the answer that came instead."""
        unconfirmed = self.limit.unconfirmed
        task = f"its task is {self._task.state}" if self._task is not None and self._task.state else ""
        return self.remark or (unconfirmed.message if unconfirmed is not None else task or otherwise)

    def check_task(self) -> None:
        """Raise :class:`RefusedError` if the BMC accepted the last change as a task, and that task failed."""
        if self._task is None or self.limit.left < 1:
            return
        reason = self._task.failure()
        if reason is not None:
            self._task = None
            self.limit.note_sent(None)
            raise RefusedError(f"{self.name} accepted the change, and then failed: {self._login.shown(reason)}")

    def patch(self, path: str, body: Json, tag: object) -> None:
        """Change properties; ``tag`` is the ETag of the resource when it was read, if the BMC gave one.

        If the ETag is not valid any more, it is read again, because BMCs may change it without a change of properties.
        """
        for _ in range(_MOST_CHANGES):
            try:
                self._act("PATCH", path, body, (*_own(tag), "*", None))
            except RefusedError as error:
                fresh = (self.find(path) or {}).get("@odata.etag") if error.answer in _OTHER_TAG else None
                if fresh in (None, tag):
                    raise
                tag = fresh
            else:
                return
        self._act("PATCH", path, body, (*_own(tag), "*", None))

    def _act(self, method: str, path: str, body: Json, tags: Sequence[str | None]) -> None:
        """Send a request with the first of these ETags (None: without one) that the BMC accepts."""
        *others, last = dict.fromkeys(tags)
        for tag in others:
            try:
                self._send(method, path, body, tag)
            except RefusedError as error:
                if error.answer not in _OTHER_TAG:
                    raise
            else:
                return
        self._send(method, path, body, last)

    def _send(self, method: str, path: str, body: Json, tag: str | None) -> None:
        headers = {} if tag is None else {"If-Match": tag}
        self._task, self.remark = None, ""
        reply = self._login.send(method, path, body, headers, self.limit.part)
        if reply.status >= 300:
            raise refusal(self.name, reply, self._login.shown, acting=True)
        self.remark = self._login.shown(remark_of(reply))
        if reply.status == 202:
            own = json_object(reply.body) or {}
            known = (self.where.path_of(reply.headers.get("location")), self.where.path_of(own.get("@odata.id")))
            paths = tuple(dict.fromkeys(each for each in known if each is not None and each != path))
            self._task = Task(paths, self._fetch) if paths else None

    def _fetch(self, path: str) -> Reply | None:
        """Return the reply to one optional read, whatever its status; None if no reply came."""
        try:
            return self._login.send("GET", path, None, {}, min(self.limit.left / 2, _EXTRA_READ))
        except (BmcError, PassingError):
            return None

    # methods that send one request

    def _get(self, path: str, missing: str, seconds: float | None) -> Json:
        reply = self._login.send("GET", path, None, {}, seconds)
        if reply.status == 404 and missing:
            hint = CHECK_ADDRESS if path.rstrip("/") == self.where.root else None
            raise PassingError(BmcError(f"{self.name} {missing}", hint=hint), sent=True)
        if reply.status >= 300:
            raise refusal(self.name, reply, self._login.shown, acting=False)
        found = json_object(reply.body)
        if found is None:  # a web server that is still starting may answer in this way, too
            words = "is not a Redfish service: its answers are not JSON objects"
            raise PassingError(BmcError(f"{self.name} {words}", hint=CHECK_ADDRESS), sent=True)
        tag = reply.headers.get("etag")
        if tag is not None:
            found.setdefault("@odata.etag", tag)
        return found


_ROOT_KEYS = (("RedfishVersion", str), ("Systems", dict), ("SessionService", dict), ("@odata.id", str))


def _own(tag: object) -> tuple[str | None, ...]:
    """Return the forms in which BMCs accept an ETag of theirs."""
    if isinstance(tag, str) and tag and tag.isascii() and tag.isprintable():
        return tag, tag.removeprefix("W/")
    return (None,)


def belongs_to(path: str, system: str) -> bool:
    """Return whether a path is that of a system, or below it."""
    return same_path(path, system) or path.rstrip("/").casefold().startswith(system.rstrip("/").casefold() + "/")
