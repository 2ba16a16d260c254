"""Find the Redfish service and the system of a host's BMC from the address that the host declares."""

from __future__ import annotations

import re

from bmhctl.support.lazy_regex import pattern
from bmhctl.support.values import Frozen

_REDFISH = (
    "redfish",
    "redfish-virtualmedia",
    "redfish-uefihttp",
    "idrac-redfish",
    "idrac-virtualmedia",
    "ilo5-redfish",
    "ilo5-virtualmedia",
)
_ROOT = "/redfish/v1"
_PORTS = {"http": 80, "https": 443}
_IPMI_PORT = ":623"
_WITHOUT_SLASHES = pattern(rf"((?:ipmi|(?:{'|'.join(_REDFISH)})(?:\+https?)?|https?)):(?=[^/])(?![0-9]+/?$)", re.I)
_SERVER = pattern(r"//(\[|[^/:?#\"]*[^/:?#\".])")  # "[" stands for every IPv6 address: one address has many spellings
_PATH = pattern(r"(?P<prefix>(?:/[^/]+)*?)/redfish(?:/v1(?:/Systems(?:/(?P<system>[^/]+))?)?)?/?")


class Endpoint(Frozen):
    """A Redfish service, and one of its systems if the address names one.

    ``url`` is the scheme, host and port. ``root`` is the path of the service root, with the prefix of a gateway if the
    address has one. ``system`` is the path of the system; None when the address names no system.
    """

    url: str
    root: str
    system: str | None

    @property
    def server(self) -> tuple[str, str | None, int]:
        """The scheme, host and port; the same for every spelling of ``url``."""
        return origin(self.url)

    @property
    def prefix(self) -> str:
        """The path before ``/redfish/v1``, as behind a gateway that serves several BMCs; usually empty."""
        return self.root.removesuffix(_ROOT)

    @property
    def is_plain(self) -> bool:
        """Whether ``url`` is plain HTTP, without TLS."""
        return self.url.startswith("http:")

    def path_of(self, link: object) -> str | None:
        """Return the path that a link of this service names; None for a text that is not a link.

        Of a full URL only the path is used, because the BMC may know itself by another address. A service behind a
        prefix may leave the prefix out of its links; it is added then.
        """
        if not isinstance(link, str) or not link.isascii() or not link.isprintable():
            return None
        path = "/" + link.split("://", 1)[1].partition("/")[2] if "://" in link else link
        path = path.partition("#")[0].replace(" ", "%20")  # BMCs name chassis and drives with spaces
        if not path.startswith("/") or _has_odd_segment(path):
            return None
        prefix = self.prefix
        return prefix + path if prefix and path.startswith("/redfish/") and not path.startswith(prefix + "/") else path


def redfish_endpoint(address: str, system_id: str | None = None) -> Endpoint | None:
    """Return the Redfish service and system that a BMC's address names; None for another protocol, such as ``ipmi://``.

    ``system_id`` is the id of the system, if it is declared apart from the address. Accepts the forms of manifests
    (``redfish+https://``, ``redfish-virtualmedia://``, ``idrac-redfish://``, …) and plain ``http(s)://``. Raises
    :class:`ValueError` for a path that is neither a service nor a system, and for a system id that contradicts the
    path: if a part were ignored, the address could mean another machine.
    """
    from urllib.parse import urlsplit

    if "://" not in address and "/" in address.rstrip("/"):  # an address without scheme means IPMI, without paths
        raise ValueError("a path needs a scheme before it, such as redfish+https://")
    parts = urlsplit(address)
    transport = _transport(parts.scheme)
    if transport is None:
        return None
    url = f"{transport}://{parts.netloc}"
    match = _PATH.fullmatch(parts.path)
    if parts.query or parts.fragment or _has_odd_segment(parts.path) or (parts.path.strip("/") and not match):
        raise ValueError(f"{parts.path}{'?' + parts.query if parts.query else ''} is not the path of a Redfish system")
    root = (match["prefix"] if match else "") + _ROOT
    named = match["system"] if match else None
    system = None if named is None else f"{root}/Systems/{named}"
    if not system_id:
        return Endpoint(url, root, system)
    path = _system_path(root, system_id)
    if system is not None and not same_path(path, system):
        raise ValueError(f"it names the system {named}, but system_id is {system_id}")
    return Endpoint(url, root, system or path)


def _transport(scheme: str) -> str | None:
    """Return the transport of Redfish, ``http`` or ``https``, for an address's scheme; None for another protocol."""
    kind, _, transport = scheme.partition("+")
    if kind in _PORTS:
        return kind
    if kind in _REDFISH:
        transport = transport or "https"
    return transport if transport in _PORTS else None


def origin(url: str) -> tuple[str, str | None, int]:
    """Return the scheme, host and port of a URL; raise :class:`ValueError` for a URL without a host."""
    from urllib.parse import urlsplit

    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or _PORTS.get(parts.scheme, 0)


def same_path(one: str, other: str) -> bool:
    """Return whether two paths name one resource: case, escapes and a slash at the end do not matter."""
    return _normal_path(one) == _normal_path(other)


def _normal_path(path: str) -> str:
    return unescaped(path).rstrip("/").casefold()


def unescaped(text: str) -> str:
    """Return a part of a URL with its percent escapes decoded."""
    if "%" not in text:
        return text
    from urllib.parse import unquote

    return unquote(text)


def server_word(text: str) -> str:
    """Return a word that all addresses of one BMC contain, and few of other BMCs, to find candidates fast.

    ``text`` is an address, or a stored BMC as JSON.
    """
    match = _SERVER.search(text)
    return match[1].casefold() if match else ""


def with_slashes(address: str) -> str:
    """Return an address with ``//`` after its scheme: manifests write ``ipmi:HOST``, but ``ipmi:623`` names a port."""
    match = _WITHOUT_SLASHES.match(address)
    return f"{match[1]}://{address[match.end() :]}" if match else address


def with_scheme(address: str, scheme: str = "redfish+https") -> str:
    """Return an address with a scheme, ``scheme`` if it has none, and then with the brackets of an IPv6 address."""
    address = with_slashes(address)
    if "://" in address:
        return address
    host, slash, path = address.partition("/")
    if host.count(":") > 1 and not host.startswith("["):
        host = f"[{host}]"
    return f"{scheme}://{host}{slash}{path}"


def system_key(address: str, system_id: str | None = None) -> tuple[str, int | None, str] | None:
    """Return the same key for all addresses of one system: the host, the port unless it is usual, and the path.

    None for an IPMI address, which may lead to several machines, and for an address that can't be read.
    """
    written, with_scheme, _ = address.partition("://")
    if with_scheme and _transport(written.lower()) is None:
        return None  # the rest is not parsed, because a fleet may have thousands of IPMI addresses
    try:
        endpoint = redfish_endpoint(address, system_id)
        if endpoint is None:
            return None
        scheme, host, port = endpoint.server
    except ValueError:
        return None
    usual = port == _PORTS[scheme]  # ports 80 and 443 of a host lead to the same BMC
    return _normal_host(host or ""), None if usual else port, _normal_path(endpoint.system or endpoint.root)


def same_system(one: tuple[str, str | None], other: tuple[str, str | None]) -> bool:
    """Return whether two addresses, each with a system id, name one system over the same transport.

    False for HTTP and HTTPS: credentials for HTTPS must not be sent as plain text.
    """
    if one[0].startswith("ipmi://"):
        return one[0].removesuffix(_IPMI_PORT) == other[0].removesuffix(_IPMI_PORT)
    key = system_key(*one)
    return key is not None and key == system_key(*other) and _is_plain(one[0]) == _is_plain(other[0])


def _is_plain(address: str) -> bool:
    return _transport(address.partition("://")[0].lower()) == "http"


def _normal_host(host: str) -> str:
    if ":" not in host:
        return host.rstrip(".")
    from ipaddress import ip_address

    return str(ip_address(host))


def _system_path(root: str, system_id: str) -> str:
    from urllib.parse import quote

    prefix = root.removesuffix(_ROOT)
    if system_id.startswith(root + "/"):
        path = system_id.rstrip("/")
    elif system_id.startswith(_ROOT + "/"):
        path = prefix + system_id.rstrip("/")
    else:
        if "/" in system_id:
            raise ValueError(f"{system_id} is not the id of a system")
        path = f"{root}/Systems/{quote(system_id, safe='~!$&()*+,;=:@')}"
    if _has_odd_segment(path) or not path.removeprefix(root).strip("/"):
        raise ValueError(f"{system_id} is not the id of a system")
    return path


def _has_odd_segment(path: str) -> bool:
    """Return whether a path has a segment, such as ``..``, that a server may resolve to another path."""
    path = unescaped(path)
    return "//" in path or ("." in path and any(part in (".", "..") for part in path.split("/")))
