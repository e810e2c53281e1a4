"""Gathers the answer to GETQUOTAROOT.

Sources: RFC 9208 s4.1.2, s4.2.
"""

from __future__ import annotations

from tindra.sync.ports import RemoteQuota
from tindra.wire.imap.machine import Event
from tindra.wire.imap.response import Quota, QuotaRoots, clean_text


def has_quota(capabilities: frozenset[str]) -> bool:
    """Whether the server counts at all. Source: RFC 2087 s3, RFC 9208 s3.1"""
    return any(name == "QUOTA" or name.startswith("QUOTA=RES-") for name in capabilities)


class QuotaAnswer:
    """What the server tells between the command and its OK."""

    def __init__(self) -> None:
        self._roots: set[bytes] | None = None
        self._told: dict[bytes, dict[str, tuple[int, int]]] = {}

    def take(self, event: Event) -> None:
        """Feed one event."""
        if isinstance(event, QuotaRoots):
            self._roots = (self._roots or set()).union(event.roots)
        elif isinstance(event, Quota):
            self._told[event.root] = event.resources

    def list_quotas(self) -> list[RemoteQuota]:
        """Of the roots that were named; of all, where the server names none."""
        return [
            RemoteQuota(clean_text(root.decode("latin-1")), resource, used, limit)
            for root, resources in self._told.items()
            if self._roots is None or root in self._roots
            for resource, (used, limit) in resources.items()
        ]
