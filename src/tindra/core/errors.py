"""Who is at fault decides the class: the request, one method call, one object, or the store.

Every error carries a text for a developer at a desk; none carries mail text.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class RequestError(Exception):
    """The whole request is refused, as a problem document. Source: RFC 8620 s3.6.1"""

    def __init__(self, kind: str, detail: str, status: int = 400, limit: str | None = None) -> None:
        super().__init__(detail)
        self.kind = kind
        self.detail = detail
        self.status = status
        self.limit = limit


class _Refusal(Exception):
    """A type that the RFC names, and a text for a developer."""

    def __init__(
        self, kind: str, description: str = "", properties: Sequence[str] = (), **more: Any
    ) -> None:
        super().__init__(f"{kind}: {description}")
        self.kind = kind
        self.description = description
        self.properties = list(properties)
        self.more = more

    def to_object(self) -> dict[str, Any]:
        """The object that stands in the answer."""
        found: dict[str, Any] = {"type": self.kind}
        if self.description:
            found["description"] = self.description
        if self.properties:
            found["properties"] = self.properties
        return found | self.more


class MethodError(_Refusal):
    """One method call is refused; the others go on. Source: RFC 8620 s3.6.2"""


class SetError(_Refusal):
    """One object of a /set, /import or /copy is refused; the others go on. Source: RFC 8620 s5.3"""


class StoreError(Exception):
    """The store could not do it."""


class Conflict(StoreError):
    """Another writer was first (a fence or a unique key); nothing was written, try again."""


class StateTooOld(StoreError):
    """The change log no longer reaches back so far; becomes cannotCalculateChanges."""


class Unavailable(StoreError):
    """The store cannot answer now (disk full, queue full, closed); becomes serverUnavailable."""


class DiskFull(Unavailable):
    """There is no space left; nothing is lost, and it works again when there is."""
