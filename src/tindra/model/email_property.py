"""What passes between Email/set and a feature whose property of Email is set by devices."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from tindra.model.mail import EmailRow, MailboxRow


class PropertyChange(NamedTuple):
    """What a device asks of one such property."""

    before: EmailRow | None
    """None: it is being made."""
    mailbox_ids: tuple[str, ...]
    """As the rest of the call makes them."""
    mailboxes: Mapping[str, MailboxRow]
    """All of the account by id."""
    patch: dict[str, Any]
    """Paths that begin with the name of the property -> values. RFC 8620 s5.3"""


class PropertyPlan(NamedTuple):
    """What becomes of one such property."""

    mailbox_ids: tuple[str, ...]
    """As the property wants them."""
    value: Any
    """As /get will tell it."""
    stored: Any
    """What the feature writes."""
