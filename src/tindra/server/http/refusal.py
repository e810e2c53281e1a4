"""What a client is told when the store cannot do it, and when to come again: the same on every way
in."""

from __future__ import annotations

from tindra.core.errors import DiskFull, StoreError
from tindra.server.http.exchange import HttpError

_DISK_FULL_S = 60
_UNAVAILABLE_S = 5


def refuse_store(error: StoreError) -> HttpError:
    """The refusal for a failure of the store."""
    if isinstance(error, DiskFull):
        return HttpError(507, str(error), headers=[retry_after(_DISK_FULL_S)])
    detail = "the store cannot answer now"
    return HttpError(503, detail, headers=[retry_after(_UNAVAILABLE_S)])


def retry_after(seconds: int) -> tuple[bytes, bytes]:
    """When to come again. Source: RFC 9110 s10.2.3"""
    return (b"retry-after", b"%d" % seconds)
