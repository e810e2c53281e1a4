"""Who is at the other end, and under which name they reached us.

Forwarding headers are believed only behind a proxy that is said to be there.
"""

from __future__ import annotations

import re
from ipaddress import IPv6Address, ip_address

from tindra.server.http.exchange import Exchange, HttpError
from tindra.server.options import ServerOptions

_HOST = re.compile(
    r"(?:[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,253})|\[[0-9A-Fa-f:.]{2,45}\])(?::\d{1,5})?"
)

_HTTP_SCHEMES = {"ws": "http", "wss": "https"}
"""A WebSocket begins as a request for HTTP, which some proxies name by what it becomes."""
_PORT = re.compile(r"^(?:\[([^\]]*)\](?::\d+)?|([^:]*):\d+)$")
"""Some proxies add the port of the client: "192.0.2.1:4711", "[2001:db8::1]:4711"."""


def derive_base_url(exchange: Exchange, options: ServerOptions) -> str:
    """The absolute URL of this server as the client of `exchange` sees it, no final slash.

    Raises: HttpError 400 for a Host that is none.
    """
    if options.base_url is not None:
        return options.base_url
    scheme = str(exchange.scope.get("scheme", "http"))
    host = exchange.header(b"host")
    if options.trust_proxy:
        scheme = _last(exchange.header(b"x-forwarded-proto")).lower() or scheme
        host = _last(exchange.header(b"x-forwarded-host")) or host
    scheme = _HTTP_SCHEMES.get(scheme, scheme)
    if not host and (server := exchange.scope.get("server")):
        name = f"[{server[0]}]" if ":" in server[0] else server[0]
        host = name if server[1] is None else f"{name}:{server[1]}"
    if not _HOST.fullmatch(host) or scheme not in ("http", "https"):
        raise HttpError(400, "the Host of this request is not one")
    return f"{scheme}://{host}"


def find_client_address(exchange: Exchange, options: ServerOptions) -> str:
    """The address to count failures by: an IPv4 address, or the /64 of an IPv6 one."""
    client = exchange.scope.get("client")
    text = str(client[0]) if client else ""
    if options.trust_proxy:
        # The rightmost is the one our own proxy saw; all before it are hearsay.
        text = _last(exchange.header(b"x-forwarded-for")) or text
    bare = _PORT.sub(r"\1\2", text)
    try:
        address = ip_address(bare)
    except ValueError:
        return text[:64]
    if not isinstance(address, IPv6Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return f"{IPv6Address(int(address) >> 64 << 64)}/64"


def is_local_client(exchange: Exchange) -> bool:
    """The request comes from this machine itself and from no proxy on it."""
    client = exchange.scope.get("client")
    if not client or exchange.header(b"x-forwarded-for") or exchange.header(b"forwarded"):
        return False
    try:
        return ip_address(client[0]).is_loopback
    except ValueError:
        return False


def _last(text: str) -> str:
    return text.rpartition(",")[2].strip()
