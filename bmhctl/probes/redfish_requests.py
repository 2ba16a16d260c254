"""Requests to the server of one BMC: sent while there is time, and redirected only within the same server."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from urllib.parse import urljoin

from bmhctl.domain.bmc_address import Endpoint, origin, same_path
from bmhctl.probes.cancellation import InterruptedStepError
from bmhctl.probes.credentials import BmcError
from bmhctl.probes.http_connection import HttpConnection, HttpError, Reply
from bmhctl.probes.redfish_errors import TRY_TLS, unreachable
from bmhctl.probes.redfish_reply import Json, one_line
from bmhctl.probes.redfish_time_limit import TimeLimit

_MOST_REDIRECTS = 3  # including the first request
_SILENCE = 0.5  # a shorter wait than this, in seconds, does not show that the BMC is silent
_REDIRECTS = (301, 302, 303, 307, 308)
CHECK_ADDRESS = "if its address is wrong: bmhctl set HOST --bmc … declares another"
"""The hint for an address that does not lead to a Redfish service."""


class Requests:
    """Sends requests over one connection, without a login: :class:`bmhctl.probes.redfish_login.Login` adds that.

    Nothing is sent after the time limit, nor after :meth:`end`.
    """

    def __init__(self, where: Endpoint, connection: HttpConnection, limit: TimeLimit) -> None:
        self.where = where
        self.limit = limit
        self.name = bmc_name(where)
        """The name of the BMC in messages."""
        self._connection = connection
        self._has_talked = False  # whether the BMC has ever answered in HTTP
        self._ended = False

    def send(
        self, method: str, path: str, body: Json | None, headers: Mapping[str, str], seconds: float | None
    ) -> Reply:
        """Send a request, follow its redirects, and return the reply.

        Raises :class:`PassingError` if there is no reply, and :class:`BmcError` for a redirect to another server.
        """
        for _ in range(_MOST_REDIRECTS):
            reply = self._exchange(method, path, body, headers, seconds)
            if reply.status not in _REDIRECTS:
                return reply
            path = self._redirected(method, path, reply)
        raise BmcError(f"{self.name} redirects requests in a circle", hint=CHECK_ADDRESS)

    def check(self) -> None:
        """Raise :class:`InterruptedStepError` after :meth:`end`."""
        if self._ended:
            raise InterruptedStepError

    def end(self) -> None:
        """Send no more requests; :meth:`close` ends a request that waits for its answer in another thread."""
        self._ended = True

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def delete(self, path: str, headers: Mapping[str, str], seconds: float) -> None:
        """Delete a resource within ``seconds``, even after the time limit and :meth:`end`; ignore all failures."""
        with suppress(HttpError, BmcError):
            reply = self._connection.request("DELETE", path, seconds=seconds, headers=headers)
            if reply.status in _REDIRECTS:
                path = self._redirected("DELETE", path, reply)
                self._connection.request("DELETE", path, seconds=seconds, headers=headers)

    def _redirected(self, method: str, path: str, reply: Reply) -> str:
        """Return where a redirect leads; raise :class:`BmcError` for another server: it must not get the credentials.

        A request that changes something is sent only to another spelling of its path: another path may belong to
        another system.
        """
        location = reply.headers.get("location", "")
        found, hint = None, CHECK_ADDRESS
        with suppress(ValueError):  # a host name that is not valid
            whole = urljoin(self.where.url + path, location)
            if self.where.is_plain and origin(whole)[:2] == ("https", self.where.server[1]):
                hint = TRY_TLS
            if location and origin(whole) == self.where.server:
                found = self.where.path_of(whole)
        if found is None or not (method == "GET" or same_path(found, path)):
            shown = one_line(location)[:200] or "it does not say where"
            raise BmcError(f"{self.name} sends requests elsewhere: {shown}", hint=hint)
        return found

    def _exchange(
        self, method: str, path: str, body: Json | None, headers: Mapping[str, str], seconds: float | None
    ) -> Reply:
        self.check()
        self.limit.check()
        left = self.limit.left
        sent = {"Accept": "application/json", "OData-Version": "4.0", **headers}
        content = None
        if body is not None:
            sent["Content-Type"] = "application/json"
            content = json.dumps(body).encode("ascii")
        try:
            limit = min(left, seconds or left)
            reply = self._connection.request(method, path, seconds=limit, headers=sent, body=content)
        except HttpError as error:
            self.check()
            if error.kind == "timeout" and self.limit.left <= 0:
                if limit > _SILENCE:
                    self.limit.note_silence()
                raise self.limit.late() from None
            lacks_tls = self.where.is_plain and not self._has_talked
            raise unreachable(self.name, error, lacks_tls=lacks_tls) from None
        self._has_talked = True
        return reply


def bmc_name(where: Endpoint) -> str:
    """Return the name of a BMC in messages."""
    return f"its BMC at {where.url}{where.prefix}"
