"""The one way to connect to where a URL leads that came from outside: to public addresses only.

Whoever can make us connect somewhere may look at, or speak to, what only this machine can reach
(server-side request forgery). So: the name is resolved once, every address it has is looked at,
and the connection goes to one of those very addresses; TLS is verified against the name. Nothing is
followed from there. What this network itself offers is reached only if the operator allowed it.

Adapters that connect to servers which an operator or a user typed in (IMAP, SMTP) have their own.
Source: RFC 8620 s8.6, RFC 6890 s2.2
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from socket import SOCK_STREAM, getaddrinfo
from typing import Final, NamedTuple

from tindra.wire.http.url import HttpsUrl

ADDRESSES_MAX: Final = 16
"""Of one name that are looked at; a name with more is refused, or looking would take long."""
ADDRESSES_TRIED_MAX: Final = 3
"""Of one name that are connected to, one after the other."""
LOOKUPS_MAX: Final = 16
"""Names looked up at once, by threads of their own: one cannot be given up, and a name server that
keeps us waiting must not hold up what else the product looks for."""
CONNECT_S: Final = 5.0
"""For one address, TLS and all."""
READ_BYTES_MAX: Final = 64 * 1024
"""Of an answer that waits to be read."""
PORTS: Final = frozenset({443, 8443})
"""Where https is served; any other would make us knock on doors of all kinds."""

_Address = IPv4Address | IPv6Address
_Network = IPv4Network | IPv6Network
Resolve = Callable[[str, int], Awaitable[list[str]]]
"""Host and port -> addresses as text. Raises: OSError."""

# What the registries of special addresses hold back. Source: RFC 6890 s2.2.2, RFC 6598 s7
_SPECIAL_V4 = tuple(
    IPv4Network(text)
    for text in (
        "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16",
        "172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16",
        "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",
    )
)  # fmt: skip
# Of IPv6 one block is public; within it: protocol assignments with Teredo, documentation, 6to4.
_PUBLIC_V6 = IPv6Network("2000::/3")
_SPECIAL_V6 = tuple(
    IPv6Network(text) for text in ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")
)
# Addresses that stand for the IPv4 address in their last 32 bits. Source: RFC 6052 s2.1
_EMBEDDING = (IPv6Network("::ffff:0:0/96"), IPv6Network("64:ff9b::/96"))


class Forbidden(OSError):
    """The URL leads where nothing of ours may go. Its text is for the operator only: a client that
    could tell it from any other failure would see into our network."""


class Allowed(NamedTuple):
    """What may be reached although it is not public."""

    hosts: frozenset[str]
    """Names, at any port."""
    networks: tuple[_Network, ...]


def parse_allowed(entries: Sequence[str]) -> Allowed:
    """Host names, addresses and networks as an operator lists them. Raises: ValueError."""
    hosts, networks = set(), []
    for entry in entries:
        try:
            networks.append(ip_network(entry.strip().strip("[]")))
        except ValueError:
            if not entry or any(c in "/:* " for c in entry):
                raise ValueError(f"{entry!r} is no host name, address or network") from None
            hosts.add(entry.lower())
    return Allowed(frozenset(hosts), tuple(networks))


_LOOKUPS = ThreadPoolExecutor(LOOKUPS_MAX, thread_name_prefix="lookup")
NOTHING_ALLOWED: Final = Allowed(frozenset(), ())


def is_public(address: _Address) -> bool:
    """Whether an address belongs to the Internet at large, through any form it is written in."""
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _SPECIAL_V4)
    if any(address in network for network in _EMBEDDING):
        return is_public(IPv4Address(int(address) & 0xFFFFFFFF))
    return address in _PUBLIC_V6 and not any(address in network for network in _SPECIAL_V6)


async def resolve_name(host: str, port: int) -> list[str]:
    """Ask the system's resolver."""
    look = partial(getaddrinfo, host, port, type=SOCK_STREAM)
    found = await asyncio.get_running_loop().run_in_executor(_LOOKUPS, look)
    return [str(info[4][0]) for info in found]


class Connector:
    """Opens TLS connections to where URLs from outside lead.

    Args:
        tls: what certificates are verified with; None: the system's authorities.
    """

    def __init__(
        self,
        allowed: Allowed = NOTHING_ALLOWED,
        tls: ssl.SSLContext | None = None,
        resolve: Resolve = resolve_name,
    ) -> None:
        self._allowed = allowed
        self._tls = ssl.create_default_context() if tls is None else tls
        self._resolve = resolve

    async def connect(self, url: HttpsUrl) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection to the server of `url`; the caller closes it, and bounds the time.

        Raises: Forbidden; OSError (ssl.SSLError and TimeoutError are such).
        """
        addresses = await self._find_addresses(url)
        failure: OSError = OSError("the name has no address")
        for address in addresses[:ADDRESSES_TRIED_MAX]:
            try:
                async with asyncio.timeout(CONNECT_S):
                    return await asyncio.open_connection(
                        address,
                        url.port,
                        ssl=self._tls,
                        server_hostname=url.host,
                        limit=READ_BYTES_MAX,
                    )
            except OSError as error:
                failure = error
        raise failure

    async def _find_addresses(self, url: HttpsUrl) -> list[str]:
        """The addresses of the server, each of which may be connected to.

        One that may not be spoils them all: a name that leads to us and elsewhere is no accident.
        """
        is_known = url.host in self._allowed.hosts
        # Never asked a second time: the answer to that could be another one.
        try:
            texts = list(dict.fromkeys(await self._resolve(url.host, url.port)))
            # A scope would be a link of this machine.
            addresses = [ip_address(text) for text in texts]
        except ValueError as error:  # an address of no known form, a name that cannot be encoded
            raise Forbidden(f"{url.host}: {error}") from None
        if len(addresses) > ADDRESSES_MAX:
            raise Forbidden(f"{url.host} has over {ADDRESSES_MAX} addresses")
        for address in addresses:
            if is_known or any(address in network for network in self._allowed.networks):
                continue
            if isinstance(address, IPv6Address) and address.scope_id is not None:
                raise Forbidden(f"{url.host} is on a link of this machine")
            if not is_public(address):
                raise Forbidden(f"{url.host} has the address {address}, which is not public")
            if url.port not in PORTS:
                raise Forbidden(f"{url.host} is to be reached at port {url.port}")
        return texts
