"""What one call may read to parse, write or copy messages (limits.MESSAGES_PER_CALL_BYTES_MAX).

A blob is a few octets in a request and fifty million on the disk: the number of objects alone
bounds nothing.
"""

from __future__ import annotations

from tindra.base import limits
from tindra.core.errors import SetError


class OctetBudget:
    """The budget of one call. What does not fit is refused, and what is smaller may still fit."""

    def __init__(self) -> None:
        self._bytes_left = limits.MESSAGES_PER_CALL_BYTES_MAX

    def spend(self, count: int) -> None:
        """Take `count` octets. Raises: SetError rateLimit, which a call of its own may not meet.

        Source: RFC 8620 s5.3
        """
        if not self.take(count):
            text = f"one call reads at most {limits.MESSAGES_PER_CALL_BYTES_MAX} octets of messages"
            raise SetError("rateLimit", f"{text} and blobs: try this one in the next")

    def take(self, count: int) -> bool:
        """Whether `count` octets may be read; they are taken then."""
        if count > self._bytes_left:
            return False
        self._bytes_left -= count
        return True
