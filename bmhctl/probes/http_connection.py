"""One HTTP connection to one server: for the ``http`` step and for BMCs, with the same rules.

A proxy is used only if the policy names one, or names the proxy of the environment; ``.netrc`` is never read. TLS
accepts the certificates that this machine trusts.
"""

from __future__ import annotations

import errno
import http.client
import socket
import ssl
import warnings
import zlib
from base64 import b64encode
from collections.abc import Mapping
from contextlib import suppress
from threading import Lock
from urllib.parse import SplitResult, unquote, urlsplit

from bmhctl.probes.ipv6_zone import zone_trouble
from bmhctl.support.values import Frozen, field

MOST = 4 << 20
"""The largest body that is read as a whole, in bytes."""

_OLD_TLS = ("1.0", "1.1")


class ConnectionRules(Frozen):
    """How to connect: whether to verify a certificate, the oldest TLS to accept, and the proxy's URL if any."""

    verify_tls: bool = True
    tls_min_version: str | None = None
    proxy: str | None = None


class Reply(Frozen):
    """A server's answer; header names are in lower case."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


class HttpError(Exception):
    """The request got no answer, or one that can't be used.

    ``words`` say why, without the text of a library, which could repeat a secret. ``kind`` is one of ``timeout``,
    ``refused``, ``no route``, ``network``, ``name``, ``certificate``, ``client certificate``, ``tls``, ``no tls``,
    ``only tls``, ``proxy``, ``cut``, ``protocol``, and for an answer that can't be used ``half`` and ``answer``;
    ``sent`` is whether the server may have received the request.
    """

    def __init__(self, kind: str, words: str, *, sent: bool) -> None:
        super().__init__(words)
        self.kind = kind
        self.words = words
        self.sent = sent


class HttpConnection:
    """A connection to the server of ``url`` (scheme, host and port), opened when it is needed.

    A request that is not safe to repeat is sent over a new connection: on an idle connection that the server has
    closed, it would fail, and nothing would show whether the server had received it. Another thread may call
    :meth:`close`, which ends a request. Raises :class:`ValueError` for a URL that is not valid.
    """

    def __init__(self, url: str, rules: ConnectionRules) -> None:
        self._url = urlsplit(url)
        self._host = (self._url.hostname or "").replace("%25", "%")
        # Always with a port: http.client takes the last part of an IPv6 address for one.
        self._port = self._url.port or (443 if self._url.scheme == "https" else 80)
        self._rules = rules
        self._connection: http.client.HTTPConnection | None = None
        self._context: ssl.SSLContext | None = None  # kept: reading the trusted certificates takes some 20 ms

    def request(
        self,
        method: str,
        target: str,
        *,
        seconds: float,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        cut: int | None = None,
    ) -> Reply:
        """Send one request and return the reply; raise :class:`HttpError` when there is none.

        ``seconds`` limits the connection and each read. A body is cut after ``cut`` bytes; without it, a body beyond
        :data:`MOST` bytes is an error.
        """
        if method == "POST":
            self.close()
        is_reused = self._connection is not None
        try:
            return self._once(method, target, headers or {}, body, seconds, cut)
        except HttpError as error:
            # Some servers send more than the body that they announce, which then precedes the next answer.
            if not is_reused or error.kind not in ("cut", "half", "protocol"):
                raise
        return self._once(method, target, headers or {}, body, seconds, cut)

    def close(self) -> None:
        """Close the connection, if it is open; a request in another thread fails."""
        connection, self._connection = self._connection, None
        if connection is not None:
            sock = connection.sock
            if sock is not None:
                with suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)
            with suppress(OSError):
                connection.close()

    def _once(
        self,
        method: str,
        target: str,
        headers: Mapping[str, str],
        body: bytes | None,
        seconds: float,
        cut: int | None,
    ) -> Reply:
        sent, most = False, MOST if cut is None else cut
        try:
            connection = self._connection or self._open(seconds)
            if connection.sock is not None:
                connection.sock.settimeout(seconds)
            sent = True
            connection.request(method, self._target(target), body=body, headers=self._headers(headers))
            response = connection.getresponse()
            content = response.read(most + 1)
            if response.length and len(content) <= most:  # http.client does not report that the body ended early
                raise http.client.IncompleteRead(content, response.length)
            keep = response.isclosed() and not response.will_close
        except (OSError, http.client.HTTPException, ValueError) as error:
            self.close()
            raise _trouble(error, sent, self._host) from None
        if not keep:
            self.close()
        if len(content) > most and cut is None:
            raise HttpError("answer", "sends an answer without end", sent=True)
        names = {name.lower(): value for name, value in response.getheaders()}
        content = _unpacked(content, names.get("content-encoding", ""), most, may_cut=cut is not None)
        if len(content) > most and cut is None:
            raise HttpError("answer", "sends an answer without end", sent=True)
        return Reply(response.status, names, content[:most])

    def _open(self, seconds: float) -> http.client.HTTPConnection:
        url = self._url
        is_over_tls = url.scheme == "https"
        host, port = self._host, self._port
        proxy = _proxy(self._rules.proxy) if self._rules.proxy else None
        near, gate = (host, port) if proxy is None else (proxy.hostname or "", proxy.port or 3128)
        made = (_OverTls if is_over_tls else http.client.HTTPConnection)(near, gate, timeout=seconds)
        made.auto_open = 0  # another thread has called close
        if is_over_tls and proxy is not None:
            made.set_tunnel(host, port, headers=_proxy_login(proxy))
        self._connection = made
        try:
            made.connect()
        except (OSError, http.client.HTTPException) as error:
            if proxy is None:
                raise
            self.close()
            words = _trouble(error, sent=False, host=near).words
            raise HttpError("proxy", f"can't be reached: the proxy {near}:{gate} {words}", sent=False) from None
        if is_over_tls:
            context = self._context = self._context or _tls(self._rules.verify_tls, self._rules.tls_min_version)
            made.sock = context.wrap_socket(made.sock, server_hostname=host.partition("%")[0])
        if self._connection is not made:  # another thread has called close
            made.close()
            raise http.client.NotConnected
        return made

    def _target(self, target: str) -> str:
        is_proxied = self._rules.proxy is not None and self._url.scheme == "http"
        return f"http://{self._url.netloc}{target}" if is_proxied else target

    def _headers(self, headers: Mapping[str, str]) -> dict[str, str]:
        found = dict(headers)
        if "%" in self._url.netloc:  # the zone of an IPv6 address has a meaning only on this machine
            name, _, rest = self._url.netloc.partition("%")
            found["Host"] = f"{name}]{rest.partition(']')[2]}"
        if self._rules.proxy is not None and self._url.scheme == "http":
            found |= {"Host": self._url.netloc, **_proxy_login(urlsplit(self._rules.proxy))}
        return found


def proxy_for(setting: str | None, environ: Mapping[str, str], url: str) -> str | None:
    """Return the proxy for ``url`` by the policy's ``defaults.proxy``: None, ``"environment"``, or the proxy's URL.

    ``"environment"`` reads ``http_proxy``, ``https_proxy`` and ``no_proxy``, in lower or upper case.
    """
    if setting != "environment":
        return setting
    given = {name: value for name, value in sorted(environ.items()) if name.lower().endswith("_proxy") and value}
    known = {name.lower(): value for name, value in given.items()}  # if both spellings are set, the lower case counts
    parts = urlsplit(url)
    if _is_bypassed(parts.hostname or "", known.get("no_proxy", "")):
        return None
    found = known.get(f"{parts.scheme}_proxy")
    return found if found is None or "://" in found else f"http://{found}"


def _is_bypassed(host: str, no_proxy: str) -> bool:
    """Return whether ``no_proxy`` names a host, a domain above it, a network around it such as 10.0.0.0/8, or ``*``."""
    names = [name.strip().lower().lstrip(".") for name in no_proxy.split(",")]
    return any(
        name == "*" or (name and (host == name or host.endswith("." + name))) or ("/" in name and _is_in(host, name))
        for name in names
    )


def _is_in(host: str, network: str) -> bool:
    from ipaddress import ip_address, ip_network

    try:
        return ip_address(host) in ip_network(network, strict=False)
    except ValueError:
        return False


def basic(user: str, password: str) -> str:
    """Return the value of an ``Authorization`` header, in UTF-8; bytes that were not UTF-8 are kept as they were."""
    return "Basic " + b64encode(f"{user}:{password}".encode("utf-8", "surrogateescape")).decode("ascii")


def _proxy(url: str) -> SplitResult:
    """Return the parts of a proxy's URL; raise :class:`HttpError` for one that can't be used."""
    try:
        found = urlsplit(url)
        if found.scheme == "http" and found.hostname and found.port != 0:
            return found
    except ValueError:
        pass
    shown = "".join(filter(str.isprintable, url.rpartition("@")[2]))[:80]
    raise HttpError("proxy", f"can't be reached: the proxy {shown} is not http://HOST:PORT", sent=False)


def _proxy_login(proxy: SplitResult) -> dict[str, str]:
    if proxy.username is None:
        return {}
    return {"Proxy-Authorization": basic(unquote(proxy.username), unquote(proxy.password or ""))}


def _unpacked(content: bytes, encodings: str, most: int, *, may_cut: bool) -> bytes:
    """Return a decoded body, at most ``most`` + 1 bytes; some servers use an encoding without being asked."""
    for encoding in reversed([each.strip().lower() for each in encodings.split(",")]):
        if encoding in ("", "identity") or not content:
            continue
        if encoding not in ("gzip", "x-gzip", "deflate"):
            shown = "".join(filter(str.isprintable, encoding))[:40]
            raise HttpError("answer", f"sends an answer encoded as {shown}, which was not asked for", sent=True)
        has_header = content[0] & 0x0F == 8 and int.from_bytes(content[:2], "big") % 31 == 0
        if encoding != "deflate" and not content.startswith(b"\x1f\x8b"):
            continue  # the header is wrong: the body is not encoded
        is_bare = encoding == "deflate" and not has_header
        unpacker = zlib.decompressobj(-zlib.MAX_WBITS if is_bare else zlib.MAX_WBITS | 32)
        try:
            content = unpacker.decompress(content, most + 1)
        except zlib.error:
            words = f"sends an answer that is marked as {encoding}, but is not"
            raise HttpError("answer", words, sent=True) from None
        if not unpacker.eof and len(content) <= most and not may_cut:
            raise HttpError("half", "cut the connection", sent=True)
    return content


_changing_filters = Lock()


def _tls(verify: bool, oldest: str | None) -> ssl.SSLContext:
    if verify:
        context = ssl.create_default_context()
    else:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if oldest is not None:
        version = {"1.0": "TLSv1", "1.1": "TLSv1_1", "1.2": "TLSv1_2", "1.3": "TLSv1_3"}[oldest]
        with _changing_filters, warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # the inventory asks for an old TLS version
            context.minimum_version = ssl.TLSVersion[version]
    if oldest in _OLD_TLS:
        context.set_ciphers("DEFAULT:@SECLEVEL=0")  # above level 0, OpenSSL 3 accepts no TLS older than 1.2
        context.options |= 0x4  # OP_LEGACY_SERVER_CONNECT, which Python names from 3.12 on
    context.sslsocket_class = _Socket
    return context


class _OverTls(http.client.HTTPConnection):
    """A connection that is wrapped in TLS after it was opened: http.client would send the zone of an IPv6 address."""

    default_port = 443


class _Socket(ssl.SSLSocket):
    """A TLS connection that recognises a missing client certificate: the alert comes after a cipher was agreed on."""

    def do_handshake(self, block: bool = False) -> None:
        try:
            super().do_handshake(block)
        except ssl.SSLError as error:
            if error.reason == "SSLV3_ALERT_HANDSHAKE_FAILURE" and self.cipher() is not None:
                error.reason = _NO_CLIENT_CERTIFICATE[0]  # version and cipher were agreed on
            raise


def _trouble(error: Exception, sent: bool, host: str) -> HttpError:
    """Return the error, without the text of a library."""
    if isinstance(error, ssl.SSLError):
        for reasons, name, words in _TLS_TROUBLES:
            if error.reason in reasons:
                return HttpError(name, words, sent=sent)
    if isinstance(error, http.client.BadStatusLine) and str(error).startswith("\x15\x03"):
        return HttpError("only tls", "answers in TLS to a request without TLS", sent=False)
    zone = zone_trouble(host, error)
    if zone is not None:
        return HttpError("network", f"can't be reached: {zone}", sent=False)
    for kind, name, words in _TROUBLES:
        if isinstance(error, kind):
            why = getattr(error, "verify_message", "").rstrip(".")  # its text has only words of OpenSSL and of the URL
            return HttpError(name, f"{words}: {why}" if why else words, sent=sent)
    if isinstance(error, OSError) and str(error).startswith("Tunnel connection failed: "):
        return HttpError("proxy", f"refuses ({str(error).split()[3]})", sent=False)
    reason = getattr(error, "strerror", None) or type(error).__name__
    name = "no route" if getattr(error, "errno", None) == errno.EHOSTUNREACH else "network"
    return HttpError(name, f"can't be reached: {reason}", sent=sent)


_NO_CLIENT_CERTIFICATE = (
    "TLSV13_ALERT_CERTIFICATE_REQUIRED",
    "SSLV3_ALERT_BAD_CERTIFICATE",
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN",
    "TLSV1_ALERT_UNKNOWN_CA",
)
_TLS_TROUBLES = (
    # The answer does not have the form of TLS.
    (("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG"), "no tls", "does not speak TLS"),
    (_NO_CLIENT_CERTIFICATE, "client certificate", "requires a client certificate, and bmhctl sends none"),
    (("UNSAFE_LEGACY_RENEGOTIATION_DISABLED",), "tls", "speaks TLS without secure renegotiation"),
)
"""Reasons that OpenSSL gives, with the kind of error and the words for them."""

_TROUBLES: tuple[tuple[type[Exception] | tuple[type[Exception], ...], str, str], ...] = (
    (TimeoutError, "timeout", "did not answer in time"),
    (ConnectionRefusedError, "refused", "refuses connections"),
    ((socket.gaierror, UnicodeError), "name", "can't be found: its name does not resolve"),
    (ssl.SSLCertVerificationError, "certificate", "has a TLS certificate that can't be verified"),
    ((ssl.SSLEOFError, ssl.SSLZeroReturnError), "cut", "cut the connection"),
    (ssl.SSLError, "tls", "does not speak TLS as it should"),
    ((ConnectionResetError, BrokenPipeError, http.client.RemoteDisconnected), "cut", "cut the connection"),
    (http.client.IncompleteRead, "half", "cut the connection"),
    (http.client.NotConnected, "cut", "cut the connection"),
    (http.client.HTTPException, "protocol", "does not speak HTTP as it should"),
)
