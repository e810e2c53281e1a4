"""Leaves an intent for the provider whenever a device changes something that is mirrored.

An intent only says *look at this object again*: what to do is planned from the views when it is
taken up, so many changes of one object cost one look, and a crash anywhere is cured by looking.
Intents are never "due": the sweep over all accounts (Store.list_due) must not find, second after
second, those of an account whose provider cannot be reached.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from tindra.core.datatype import Feature
from tindra.core.tx import Change, Tx

EMAIL_TOPIC: Final = "mirror"
"""The key is an Email id."""
MAILBOX_TOPIC: Final = "mirror-tree"
"""The key is a Mailbox id."""
TOPICS: Final = frozenset({EMAIL_TOPIC, MAILBOX_TOPIC})
NEVER_MS: Final = 1 << 52
"""Later than any clock will say."""


async def _is_mirrored(tx: Tx) -> bool:
    return tx.origin != "provider" and bool(await tx.store.load_objects("Connection", None))


async def note_emails(tx: Tx, changes: list[Change]) -> None:
    """The reaction to Email changes."""
    if await _is_mirrored(tx):
        await leave_intents(tx, EMAIL_TOPIC, (change.id for change in changes))


async def note_mailboxes(tx: Tx, changes: list[Change]) -> None:
    """The reaction to Mailbox changes."""
    if await _is_mirrored(tx):
        await leave_intents(tx, MAILBOX_TOPIC, (change.id for change in changes))


async def note_sent(tx: Tx, email_id: str) -> None:
    """The sending of an Email has come to an end."""
    if await _is_mirrored(tx):
        await leave_intents(tx, EMAIL_TOPIC, [email_id])


async def leave_intents(tx: Tx, topic: str, ids: Iterable[str]) -> None:
    """Have these objects looked at again."""
    for id in dict.fromkeys(ids):
        await tx.put_outbox(topic, id, due_ms=NEVER_MS)


MIRROR_FEATURE = Feature(name="mirror", reactions={"Email": note_emails, "Mailbox": note_mailboxes})
