"""The login at one BMC: Basic authentication, or a session if the BMC refuses that; and rejected credentials."""

from __future__ import annotations

from collections.abc import Mapping
from threading import Lock

from bmhctl.probes.credentials import BmcError
from bmhctl.probes.http_connection import Reply, basic
from bmhctl.probes.redfish_errors import PassingError, RejectedError
from bmhctl.probes.redfish_reply import (
    Json,
    json_object,
    message_of,
    reason_of,
    remark_of,
    retry_after,
    table,
    to_unicode,
)
from bmhctl.probes.redfish_requests import Requests

_GOODBYE = 2.0  # seconds for each part of the end of a session, beyond the deadline
_PAUSE = 5.0  # seconds before credentials that were accepted, and then rejected, are tried again
_MOST_REJECTIONS = 3  # few, because BMCs lock accounts after some rejected logins
_MOST_LOST = 3  # logins without an answer: each may have opened a session, and BMCs allow only a few sessions
_CHECK_LOGIN = "check the user and the password that the reference names"
_TOO_MANY = (
    "sessions of other clients, or of a killed command, end at the BMC's "
    "session timeout, or when you end them in the BMC"
)
_REASON = 400  # characters


class Login:
    """The user and the password for one BMC (None if it needs none), and the session that was opened, if any."""

    def __init__(self, requests: Requests, login: tuple[str, str] | None) -> None:
        self.sessions = f"{requests.where.root}/SessionService/Sessions"
        """The path of the collection in which a session is opened."""
        self._requests = requests
        self._login = login
        self._authorization = {} if login is None else {"Authorization": basic(*login)}
        self._is_accepted = login is None  # whether the BMC has accepted the credentials
        self._rejection: BmcError | None = None
        self._rejections = 0  # rejections of credentials that were accepted before
        self._lost = 0  # logins without an answer
        self._session: str | None = None
        self._opening = Lock()

    def send(
        self, method: str, path: str, body: Json | None, headers: Mapping[str, str], seconds: float | None = None
    ) -> Reply:
        """Return the reply to one request with the login, as :meth:`Requests.send` does.

        Raises :class:`RejectedError` for credentials that are wrong, and for every request after that.
        """
        reply = self._send(method, path, body, headers, seconds)
        if reply.status == 401 and self._open_session():
            reply = self._send(method, path, body, headers, seconds)
        if reply.status == 401:
            raise self._unauthorized(reply)
        if reply.status < 300 and path.rstrip("/") != self._requests.where.root:  # the root needs no credentials
            self._is_accepted = True
        return reply

    def shown(self, text: str) -> str:
        """Return a text of the BMC for a message, shortened, and without the credentials that the text may repeat."""
        secrets = [self._login[1]] if self._login else []
        secrets += [value.removeprefix("Basic ") for value in self._authorization.values()]
        for secret in filter(None, secrets):
            text = text.replace(secret, "***")
        return text if len(text) <= _REASON else text[:_REASON] + "…"

    def end(self) -> None:
        """Close the connection, and end the session if one was opened; take some seconds at most, and never fail."""
        self._requests.end()
        is_mine = self._opening.acquire(timeout=_GOODBYE)  # this also ends a session that is just being opened
        try:
            self._requests.close()
            if is_mine and self._session is not None:
                session, self._session = self._session, None
                self._requests.delete(session, self._authorization, _GOODBYE)
                self._requests.close()
        finally:
            if is_mine:
                self._opening.release()

    def _send(
        self, method: str, path: str, body: Json | None, headers: Mapping[str, str], seconds: float | None
    ) -> Reply:
        if self._rejection is not None:
            self._requests.check()
            raise self._rejection
        return self._requests.send(method, path, body, {**headers, **self._authorization}, seconds)

    def _open_session(self) -> bool:
        """Open a session with a BMC that refuses Basic authentication; return whether a new one was opened."""
        if self._login is None:
            return False
        with self._opening:
            self._requests.check()
            if self._session is not None:  # the BMC has ended the session early
                self._session = None
            elif "X-Auth-Token" in self._authorization:
                return False
            user, password = self._login
            self._authorization = {}
            reply = self._log_in({"UserName": to_unicode(user), "Password": to_unicode(password)})
            token = reply.headers.get("x-auth-token", "")
            if reply.status < 300 and not (token and token.isascii() and token.isprintable()):
                said = self.shown(remark_of(reply)) or "it gives no token"
                raise BmcError(f"{self._requests.name} opens no session: {said} ({reply.status})")
            if reply.status >= 300:
                reason, is_passing = reason_of(reply)
                if is_passing or reply.status in (429, 500, 502, 503, 504):
                    said = f"{self._requests.name} opens no session: {self.shown(reason)} ({reply.status})"
                    error = BmcError(said, hint=_TOO_MANY if is_passing and "session" in reason.lower() else None)
                    self._authorization = {"Authorization": basic(user, password)}
                    raise PassingError(error, sent=False, busy=True, after=retry_after(reply))
                raise self._unauthorized(reply)
            self._authorization = {"X-Auth-Token": token}
            self._session = self._session_in(reply)
            return True

    def _log_in(self, body: Json) -> Reply:
        """Return the reply to a login. After an error, the request that needs the login has not been sent."""
        try:
            return self._requests.send("POST", self.sessions, body, {}, self._requests.limit.part)
        except PassingError as passing:
            self._lost += passing.sent
            if self._lost >= _MOST_LOST:
                raise BmcError(
                    f"{passing.error.message} at each of {self._lost} logins", hint=passing.error.hint
                ) from None
            raise PassingError(passing.error, sent=False, busy=passing.busy) from None

    def _session_in(self, reply: Reply) -> str | None:
        """Return the path of a new session; None unless the path is that of a member of a collection of sessions."""
        where = self._requests.where
        own = table(json_object(reply.body)).get("@odata.id")
        for path in (where.path_of(reply.headers.get("location")), where.path_of(own)):
            if path is not None and path.rstrip("/").rpartition("/")[0].endswith("/Sessions"):
                return path
        return None

    def _unauthorized(self, reply: Reply) -> BmcError | PassingError:
        """Return the error for rejected credentials; a temporary one if the BMC accepted them before."""
        name = self._requests.name
        if self._login is None:
            return BmcError(
                f"{name} requires credentials, and none are declared",
                hint="bmhctl set HOST --credentials env:NAME, file:PATH or command:…",
            )
        reason = message_of(reply)
        said = f"{name} rejects the credentials{f': {self.shown(reason)}' if reason else ''}"
        if not self._is_accepted:
            self._rejection = RejectedError(said, hint=_CHECK_LOGIN)
            return self._rejection
        self._rejections += 1  # the part of the BMC that checks credentials may be restarting
        error = BmcError(said, hint=self._requests.limit.hint or _CHECK_LOGIN)
        return PassingError(error, sent=False, after=_PAUSE) if self._rejections <= _MOST_REJECTIONS else error
