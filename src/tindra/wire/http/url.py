"""https URLs that came from outside: one strict form, everything else is refused.

A URL that two parsers read differently is how a check is passed by; so there is no mending here.
Source: RFC 3986 s3, RFC 9110 s4.2.2
"""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv6Address
from typing import Final, NamedTuple

URL_CHARS_MAX: Final = 2048
"""Push services hand out some 200 to 600."""
HTTPS_PORT: Final = 443
_TARGET = r"[A-Za-z0-9._~!$&'()*+,;=:@/?%-]*"
_URL = re.compile(
    r"https://(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_.-]+)(?::(?P<port>[0-9]{1,5}))?"
    rf"(?P<target>[/?]{_TARGET})?",
    re.ASCII,
)
_PART = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?", re.ASCII)
_HOST_CHARS_MAX: Final = 253


class HttpsUrl(NamedTuple):
    """Where to connect, and what to ask for."""

    host: str
    """A lower-case name, or an IP address without brackets."""
    port: int
    target: str
    """Path and query as they stand; begins with "/"."""

    @property
    def authority(self) -> str:
        """As the Host header has it. Source: RFC 9110 s7.2"""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == HTTPS_PORT else f"{host}:{self.port}"

    @property
    def origin(self) -> str:
        """Source: RFC 6454 s6.2"""
        return f"https://{self.authority}"


def parse_https_url(text: str) -> HttpsUrl:
    """An absolute https URL without user, password or fragment.

    Raises: ValueError that says what is wrong.
    """
    if len(text) > URL_CHARS_MAX:
        raise ValueError(f"a URL has at most {URL_CHARS_MAX} characters")
    match = _URL.fullmatch(text)
    if match is None:
        raise ValueError("this is not an absolute https URL, without user and fragment")
    port = int(match["port"] or HTTPS_PORT)
    if not 0 < port < 65536:
        raise ValueError("there is no such port")
    target = match["target"] or "/"
    return HttpsUrl(_parse_host(match["host"]), port, target if target[0] == "/" else f"/{target}")


def _parse_host(text: str) -> str:
    """Raises: ValueError."""
    host = text.lower()
    if host[0] == "[":
        return str(IPv6Address(host[1:-1]))
    parts = host.split(".")
    if parts[-1].isdigit() or re.fullmatch(r"0x[0-9a-f]*", parts[-1]):
        # Only the one common form: 0177.1 and 2130706433 are addresses to some programs, too.
        return str(IPv4Address(host))
    if len(host) > _HOST_CHARS_MAX or not all(map(_PART.fullmatch, parts)):
        raise ValueError("this is not a host name")
    return host
