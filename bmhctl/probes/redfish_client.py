"""The Redfish service of one BMC: requests, sessions, a deadline, and which failures may pass.

The requests are made here, with :mod:`http.client`: a Redfish library hides whether a request was sent, whether it may
be repeated, and which system it is for, and takes 300 ms to import.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from contextlib import suppress
from threading import Lock
from urllib.parse import urljoin

from bmhctl.domain.bmc_address import Endpoint, has_odd_segment, origin, same_path
from bmhctl.probes.cancellation import Cancelled, InterruptedStepError
from bmhctl.probes.credentials import BmcError
from bmhctl.probes.http_connection import HttpConnection, HttpError, Reply, basic
from bmhctl.probes.redfish_errors import PassingError, RefusedError, RejectedError, refusal, unreachable
from bmhctl.probes.redfish_reply import (
    Json,
    json_object,
    message_of,
    one_line,
    reason_of,
    remark_of,
    retry_after,
    table,
    to_unicode,
)
from bmhctl.probes.redfish_task import Task

POLL = 0.5
"""Seconds between two reads of a state that is to change."""

_BUSY_PAUSE = 1.0  # seconds before a request is repeated, when the BMC does not say how long to wait
_EXTRA_READ = 10.0  # the most seconds for a read that is optional
_GOODBYE = 2.0  # seconds for each part of the end of a session, beyond the deadline
_LOGIN_PAUSE = 5.0  # seconds before credentials that were accepted, and then rejected, are tried again
_MOST_REJECTIONS = 3  # BMCs lock accounts after a few
_MOST_CHANGES = 2  # of an ETag, for one change of properties
_OTHER_TAG = (412, 428)  # refusals of an ETag, and of a change without one
_MOST_PAGES = 50
_NAME_IT = "name one: bmhctl set HOST --bmc-system ID"
_CHECK_ADDRESS = "bmhctl set HOST --bmc … declares it"
_CHECK_LOGIN = "check the user and the password that the reference names"
_MOST_REDIRECTS = 3  # requests in all
_REDIRECTS = (301, 302, 303, 307, 308)
_REASON = 400  # characters


class Client:
    """The service at one endpoint, until a deadline: nothing is sent after it, nor after the caller cancels.

    Methods raise :class:`BmcError` for permanent failures, and :class:`PassingError` for those that may pass.
    """

    def __init__(
        self,
        where: Endpoint,
        connection: HttpConnection,
        login: tuple[str, str] | None,
        cancelled: Cancelled,
        seconds: float,
    ) -> None:
        self.where = where
        self.seconds = seconds
        self.remark = ""
        """What the BMC warned of when it accepted the last change."""
        self.deadline = time.monotonic() + seconds
        self._sent: str | None = None
        self._trouble: BmcError | None = None
        self._has_answered = False
        self._has_talked = False  # whether it ever answered in HTTP
        self._connection = connection
        self._login = login
        self._authorization = {} if login is None else {"Authorization": basic(*login)}
        self._task: Task | None = None
        self._is_accepted = login is None  # whether the BMC has accepted the credentials
        self._rejection: BmcError | None = None
        self._rejections = 0  # rejections of credentials that were accepted before
        self._session: str | None = None
        self._sessions = f"{where.root}/SessionService/Sessions"
        self._opening = Lock()
        self._ended = False
        self._cancelled = cancelled

    @property
    def name(self) -> str:
        """The name of the BMC in messages."""
        return f"its BMC at {self.where.url}{self.where.prefix}"

    @property
    def left(self) -> float:
        """Seconds until the deadline."""
        return self.deadline - time.monotonic()

    @property
    def _short(self) -> float:
        """Seconds for one request among many, so that a lost answer does not take all the time."""
        return max(1.0, self.seconds / 3)

    # reading

    def root(self) -> Json:
        """Return the service root; remembers where sessions are made."""
        root = self.get(f"{self.where.root}/", missing="is not a Redfish service")
        if not any(isinstance(root.get(key), kind) for key, kind in _ROOT_KEYS):
            raise BmcError(f"{self.name} is not a Redfish service")
        sessions = self.link(table(root.get("Links")).get("Sessions"))
        if sessions is not None and sessions.rstrip("/").endswith("/Sessions"):  # a login goes nowhere else
            self._sessions = sessions.rstrip("/")
        return root

    def get(self, path: str, *, missing: str = "has lost its system", patient: bool = False) -> Json:
        """Return the object at a path. A failure that may pass is retried until the deadline if ``patient``.

        Without patience only a BMC that asks for a later try (429, 503, or in a message) is asked again.
        """
        longest = self._short if patient else None
        while True:
            try:
                found = self._get(path, missing, longest)
            except PassingError as passing:
                if not (patient or passing.busy):
                    raise passing.error from None
                self.retry_later(passing)
            else:
                self._trouble, self._has_answered = None, True
                return found

    def find(self, path: str) -> Json | None:
        """Return the object at a path, None if it can't be read: for optional properties."""
        if self.left < 1:
            return None
        try:
            return self._get(path, "", min(self.left / 2, _EXTRA_READ))
        except (BmcError, PassingError):
            return None

    def members(self, path: str, *, needed: bool = True) -> list[str] | None:
        """Return the paths of all of a collection's members; None if they can't be had and are not ``needed``.

        An incomplete list counts as none: a missing member may be another system.
        """
        try:
            return self._members(path, needed=needed)
        except BmcError:
            if needed:
                raise
            return None

    def _members(self, path: str, *, needed: bool) -> list[str]:
        found: list[str] = []
        page = path
        for _ in range(_MOST_PAGES):
            read = self.get(page, missing="lists no systems") if needed else self.find(page)
            members = (read or {}).get("Members")
            if read is None or not isinstance(members, list):
                raise BmcError(f"{self.name} lists no systems")
            links = [self.link(member) for member in members]
            more = read.get("Members@odata.nextLink") or read.get("@odata.nextLink")
            following = self.path(more)
            if None in links or (more and following is None):
                raise BmcError(f"{self.name} lists systems without valid links", hint=_NAME_IT)
            found += filter(None, links)
            if following is None:
                count = read.get("Members@odata.count")
                if isinstance(count, int) and count > len(found):
                    words = f"lists {len(found)} of the {count} systems that it counts"
                    raise BmcError(f"{self.name} {words}", hint=_NAME_IT)
                return list({link.rstrip("/").casefold(): link for link in found}.values())
            page = following
        raise BmcError(f"{self.name} lists systems without end")

    def link(self, value: object) -> str | None:
        """Return the path that a reference (``{"@odata.id": …}``) leads to; None if it is not one."""
        return self.path(table(value).get("@odata.id"))

    def path(self, value: object) -> str | None:
        """Return a path of this service from a link, which may be a whole URL; None if it is not one.

        Of a URL only the path counts: a BMC may know itself by another address. A service behind a prefix may write
        its links without it.
        """
        if not isinstance(value, str) or not value.isascii() or not value.isprintable():
            return None
        path = "/" + value.split("://", 1)[1].partition("/")[2] if "://" in value else value
        path = path.partition("#")[0]
        if not path.startswith("/") or " " in path or has_odd_segment(path):
            return None
        prefix = self.where.prefix
        return prefix + path if prefix and path.startswith("/redfish/") and not path.startswith(prefix + "/") else path

    # acting

    def post(self, path: str, body: Json) -> None:
        """Send an action once. Raises :class:`PassingError`, which says whether it was sent, if no answer came.

        What the BMC does with it may fail later: see :meth:`check_task`.
        """
        self._act("POST", path, body, {})

    def check_task(self) -> None:
        """Raise :class:`RefusedError` if the BMC made a task of the last change that it took, and the task failed."""
        if self._task is None or self.left < 1:
            return
        reason = self._task.failure()
        if reason is not None:
            self._task = None
            raise RefusedError(f"{self.name} accepted it and failed: {self._shown(reason)}")

    def patch(self, path: str, body: Json, tag: object) -> None:
        """Change properties; ``tag`` is the ETag of what was read, if the BMC gave one.

        A tag that does not hold any more is read again: a BMC may change it by itself.
        """
        for _ in range(_MOST_CHANGES):
            try:
                self._patch(path, body, tag)
            except RefusedError as error:
                fresh = (self.find(path) or {}).get("@odata.etag") if error.answer in _OTHER_TAG else None
                if fresh in (None, tag):
                    raise
                tag = fresh
            else:
                return
        self._patch(path, body, tag)

    def _patch(self, path: str, body: Json, tag: object) -> None:
        tags: list[str | None] = [None]
        if isinstance(tag, str) and tag.isascii() and tag.isprintable():
            tags = [tag, tag.removeprefix("W/")]
        tried = dict.fromkeys((*tags, "*", None))
        for number, each in enumerate(tried, 1):
            try:
                self._act("PATCH", path, body, {} if each is None else {"If-Match": each})
            except RefusedError as error:
                if error.answer not in _OTHER_TAG or number == len(tried):
                    raise
            else:
                return

    def _act(self, method: str, path: str, body: Json, headers: Mapping[str, str]) -> None:
        self._task = None
        reply = self._send(method, path, body, headers, self._short)
        if reply.status >= 300:
            raise self._refusal(reply, acting=True)
        self.remark = self._shown(remark_of(reply))
        if reply.status == 202:
            own = json_object(reply.body) or {}
            known = (self.path(reply.headers.get("location")), self.path(own.get("@odata.id")))
            paths = tuple(dict.fromkeys(each for each in known if each is not None and each != path))
            self._task = Task(paths, self._fetch) if paths else None

    def _fetch(self, path: str) -> Reply | None:
        """Return the reply to one read that is not needed, whatever its status; None if there is none."""
        try:
            return self._send("GET", path, None, {}, min(self.left / 2, _EXTRA_READ))
        except (BmcError, PassingError):
            return None

    # waiting

    def pause(self, seconds: float) -> None:
        """Wait, but not beyond the deadline, where it raises what :meth:`late` returns."""
        if self._cancelled.wait(min(seconds, max(0.0, self.left))):
            raise InterruptedStepError
        if self.left <= 0:
            raise self.late()

    def retry_later(self, passing: PassingError) -> None:
        """Wait before repeating a request that the BMC did not act on; at the deadline raise what prevented it."""
        self._trouble = passing.error
        self.pause(_BUSY_PAUSE if passing.after is None else passing.after)

    def note_sent(self, what: str | None) -> None:
        """Record the action that was sent, for the message at the deadline; None once its effect was seen."""
        self._sent, self._has_answered = what, False

    def late(self) -> BmcError:
        """Return the error for a deadline that has passed."""
        trouble = self._trouble
        if self._sent is not None and self._has_answered and trouble is None:
            return BmcError(f"{self._sent} was sent; {self.name} does not show it after {self.seconds:g} s")
        if self._sent is not None:
            since = f": {trouble.message}" if trouble else ""
            return BmcError(f"{self._sent} was sent; {self.name} has not answered since{since}", hint=_LATE_HINT)
        if trouble is not None:
            return BmcError(f"{trouble.message}, for {self.seconds:g} s", hint=trouble.hint)
        return BmcError(f"{self.name} did not answer in {self.seconds:g} s")

    # closing

    def end(self) -> None:
        """Close the connection and end the session if one was made; takes some seconds at most, and never fails."""
        self._ended = True
        is_mine = self._opening.acquire(timeout=_GOODBYE)  # a session that is just being made is ended, too
        try:
            self._connection.close()
            if is_mine:
                self._end_session()
        finally:
            if is_mine:
                self._opening.release()

    def _end_session(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            with suppress(HttpError, BmcError):
                reply = self._connection.request("DELETE", session, seconds=_GOODBYE, headers=self._authorization)
                if reply.status in _REDIRECTS:
                    session = self._redirected("DELETE", session, reply)
                    self._connection.request("DELETE", session, seconds=_GOODBYE, headers=self._authorization)
            self._connection.close()

    # one request

    def _get(self, path: str, missing: str, seconds: float | None) -> Json:
        reply = self._send("GET", path, None, {}, seconds)
        if reply.status == 404 and missing:
            raise PassingError(BmcError(f"{self.name} {missing}"), sent=True)
        if reply.status >= 300:
            raise self._refusal(reply, acting=False)
        found = self._parse(reply)
        tag = reply.headers.get("etag")
        if tag is not None:
            found.setdefault("@odata.etag", tag)
        return found

    def _parse(self, reply: Reply) -> Json:
        found = json_object(reply.body)
        if found is None:  # a web server that is just starting may do so, too
            words = "is not a Redfish service: it answers something else than JSON objects"
            raise PassingError(BmcError(f"{self.name} {words}"), sent=True)
        return found

    def _send(
        self, method: str, path: str, body: Json | None, headers: Mapping[str, str], seconds: float | None = None
    ) -> Reply:
        reply = self._request(method, path, body, headers, seconds)
        if reply.status == 401 and self._open_session():
            reply = self._request(method, path, body, headers, seconds)
        if reply.status == 401:
            raise self._unauthorized(reply)
        if reply.status < 300 and path.rstrip("/") != self.where.root:  # which needs no credentials
            self._is_accepted = True
        return reply

    def _request(
        self, method: str, path: str, body: Json | None, headers: Mapping[str, str], seconds: float | None
    ) -> Reply:
        """Return the reply to one request, from where the BMC redirects it to."""
        for _ in range(_MOST_REDIRECTS):
            reply = self._exchange(method, path, body, headers, seconds)
            if reply.status not in _REDIRECTS:
                return reply
            path = self._redirected(method, path, reply)
        raise BmcError(f"{self.name} redirects requests in a circle", hint=_CHECK_ADDRESS)

    def _redirected(self, method: str, path: str, reply: Reply) -> str:
        """Return where a redirect leads; raise :class:`BmcError` for another server, where no credentials may go.

        A request that changes something is sent only to another spelling of its path: another path may belong to
        another system.
        """
        location = reply.headers.get("location", "")
        found = None
        with suppress(ValueError):  # a host that can't be one
            whole = urljoin(self.where.url + path, location)
            if location and origin(whole) == self.where.server:
                found = self.path(whole)
        if found is None or not (method == "GET" or same_path(found, path)):
            shown = one_line(location)[:200] or "it does not say where"
            raise BmcError(f"{self.name} sends requests elsewhere: {shown}", hint=_CHECK_ADDRESS)
        return found

    def _exchange(
        self, method: str, path: str, body: Json | None, headers: Mapping[str, str], seconds: float | None
    ) -> Reply:
        if self._cancelled.is_set() or self._ended:
            raise InterruptedStepError
        if self._rejection is not None:
            raise self._rejection
        left = self.left
        if left <= 0:
            raise self.late()
        sent = {"Accept": "application/json", "OData-Version": "4.0", **headers, **self._authorization}
        content = None
        if body is not None:
            sent["Content-Type"] = "application/json"
            content = json.dumps(body).encode("ascii")
        try:
            limit = min(left, seconds or left)
            reply = self._connection.request(method, path, seconds=limit, headers=sent, body=content)
        except HttpError as error:
            if self._ended:
                raise InterruptedStepError from None
            if error.kind == "timeout" and self.left <= 0:
                raise self.late() from None
            lacks_tls = self._is_plain and not self._has_talked
            raise PassingError(unreachable(self.name, error, lacks_tls=lacks_tls), sent=error.sent) from None
        self._has_talked = True
        return reply

    @property
    def _is_plain(self) -> bool:
        return self.where.url.startswith("http:")

    def _refusal(self, reply: Reply, *, acting: bool) -> BmcError | PassingError:
        reason, is_passing = reason_of(reply)
        words = f"{self.name} refuses: {self._shown(reason)} ({reply.status})"
        return refusal(words, reply, may_pass=is_passing, acting=acting, is_plain=self._is_plain)

    def _shown(self, text: str) -> str:
        text = self._without_secrets(text)
        return text if len(text) <= _REASON else text[:_REASON] + "…"

    def _without_secrets(self, text: str) -> str:
        """Return a text of a BMC without the credentials, which it may repeat."""
        secrets = [self._login[1]] if self._login else []
        secrets += [value.removeprefix("Basic ") for value in self._authorization.values()]
        for secret in secrets:
            if secret:
                text = text.replace(secret, "***")
        return text

    # login

    def _open_session(self) -> bool:
        """Open a session with a BMC that refuses Basic authentication; return whether a new one was opened."""
        if self._login is None:
            return False
        with self._opening:
            if self._ended:
                raise InterruptedStepError
            if self._session is not None:  # it has ended early
                self._session = None
            elif "X-Auth-Token" in self._authorization:
                return False
            user, password = self._login
            body: Json = {"UserName": to_unicode(user), "Password": to_unicode(password)}
            self._authorization = {}
            reply = self._request("POST", self._sessions, body, {}, None)
            token = reply.headers.get("x-auth-token", "")
            if reply.status >= 300 or not token.isascii() or not token.isprintable() or not token:
                reason, is_passing = reason_of(reply)
                if is_passing or reply.status in (429, 500, 502, 503, 504):
                    error = BmcError(f"{self.name} opens no session: {self._shown(reason)} ({reply.status})")
                    self._authorization = {"Authorization": basic(user, password)}
                    raise PassingError(error, sent=False, busy=True, after=retry_after(reply))
                raise self._unauthorized(reply)
            self._authorization = {"X-Auth-Token": token}
            self._session = self._session_in(reply)
            return True

    def _session_in(self, reply: Reply) -> str | None:
        """Return the path of a new session, to delete it later; only a member of a collection of sessions."""
        body = json_object(reply.body)
        for path in (self.path(reply.headers.get("location")), self.link(body)):
            if path is not None and path.rstrip("/").rpartition("/")[0].endswith("/Sessions"):
                return path
        return None

    def _unauthorized(self, reply: Reply) -> BmcError | PassingError:
        """Return the error for rejected credentials; it may pass if they were accepted before."""
        if self._login is None:
            return BmcError(
                f"{self.name} requires credentials, and none are declared",
                hint="bmhctl set HOST --credentials env:NAME, file:PATH or command:…",
            )
        reason = message_of(reply)
        words = f": {self._shown(reason)}" if reason else ""
        said = f"{self.name} rejects the credentials{words}"
        if not self._is_accepted:
            self._rejection = RejectedError(said, hint=_CHECK_LOGIN)
            return self._rejection
        self._rejections += 1  # what checks them may be starting anew
        error = BmcError(said, hint=_CHECK_LOGIN if self._sent is None else _LATE_HINT)
        return PassingError(error, sent=False, after=_LOGIN_PAUSE) if self._rejections <= _MOST_REJECTIONS else error


_ROOT_KEYS = (("RedfishVersion", str), ("Systems", dict), ("SessionService", dict), ("@odata.id", str))
_LATE_HINT = "bmhctl power HOST status shows what became of it"


def belongs_to(path: str, system: str) -> bool:
    """Return whether a path is that of a system, or one below it."""
    return same_path(path, system) or path.rstrip("/").casefold().startswith(system.rstrip("/").casefold() + "/")
