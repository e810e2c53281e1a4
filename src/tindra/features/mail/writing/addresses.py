"""What is an address mail can be sent to, and which addresses an Identity speaks for.

Only syntax; nothing is looked up. Source: RFC 5321 s4.1.2, RFC 6531 s3.3, RFC 8621 s6
"""

from __future__ import annotations

import re

LOCAL_BYTES_MAX = 64
"""RFC 5321 s4.5.3.1.1, in UTF-8 octets."""
DOMAIN_CHARS_MAX = 255
"""RFC 5321 s4.5.3.1.2."""
ADDRESS_BYTES_MAX = 254
"""A path is at most 256 octets with its angle brackets: RFC 5321 s4.5.3.1.3."""

# Anything above ASCII is welcome (RFC 6531) except controls, blanks and halves of surrogate pairs.
_WIDE = "\u00a1-\u1fff\u2010-\u2027\u2030-\u205e\u2070-\u2fff\u3001-\ud7ff"
_WIDE += "\uf900-\ufefe\uff01-\uffef\U00010000-\U000effff"
_ATOM = rf"[A-Za-z0-9!#$%&'*+/=?^_`{{|}}~\-{_WIDE}]"
_LOCAL = re.compile(rf"{_ATOM}++(?:\.{_ATOM}++)*+" rf"|\"(?:[ !#-\[\]-~{_WIDE}]|\\[ -~])*+\"")
_LABEL = rf"[A-Za-z0-9_{_WIDE}](?:[A-Za-z0-9_\-{_WIDE}]{{0,62}})"
_DOMAIN = re.compile(
    rf"{_LABEL}(?:\.{_LABEL})*+" r"|\[(?:\d{1,3}(?:\.\d{1,3}){3}|IPv6:[0-9A-Fa-f:.]{2,45})\]"
)


def is_sendable(address: str) -> bool:
    """Whether `address` is a Mailbox of RFC 5321 s4.1.2, so that it can stand in an envelope.

    Cost: linear.
    """
    local, at, domain = address.rpartition("@")
    return (
        bool(at)
        and len(address.encode("utf-8", "replace")) <= ADDRESS_BYTES_MAX
        and len(local.encode("utf-8", "replace")) <= LOCAL_BYTES_MAX
        and len(domain) <= DOMAIN_CHARS_MAX
        and _LOCAL.fullmatch(local) is not None
        and _DOMAIN.fullmatch(domain) is not None
    )


def fold_address(address: str) -> str:
    """A key under which two spellings of one address are equal.

    The local part is folded too: no provider in use tells `Ann@` from `ann@`.
    """
    return address.strip().casefold()


def is_identity_email(text: str) -> bool:
    """Whether `text` may be the email of an Identity: an address, or `*@` and a domain.

    Source: RFC 8621 s6
    """
    local, at, domain = text.rpartition("@")
    if at and local == "*":
        return _DOMAIN.fullmatch(domain) is not None and len(domain) <= DOMAIN_CHARS_MAX
    return is_sendable(text)


def speaks_for(identity_email: str, address: str) -> bool:
    """Whether an Identity with this email may write as `address`. Source: RFC 8621 s6"""
    mine, theirs = fold_address(identity_email), fold_address(address)
    if mine.startswith("*@"):
        return theirs.rpartition("@")[2] == mine[2:]
    return mine == theirs
