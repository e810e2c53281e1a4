"""Leaves an intent for the provider whenever a device changes something that is mirrored.

An intent only says *look at this object again*: what to do is planned from the views when it is
taken up, so many changes of one object cost one look, and a crash anywhere is cured by looking.
"""

from __future__ import annotations

from typing import Final

from tindra.core.datatype import Feature
from tindra.core.tx import Change, Tx

MIRROR_TOPIC: Final = "mirror"


async def _is_mirrored(tx: Tx) -> bool:
    return tx.origin != "provider" and bool(await tx.store.load_objects("Connection", None))


async def note_emails(tx: Tx, changes: list[Change]) -> None:
    """The reaction to Email changes."""
    if await _is_mirrored(tx):
        for id in dict.fromkeys(change.id for change in changes):
            await tx.put_outbox(MIRROR_TOPIC, f"email:{id}")


async def note_mailboxes(tx: Tx, changes: list[Change]) -> None:
    """The reaction to Mailbox changes."""
    if await _is_mirrored(tx):
        for id in dict.fromkeys(change.id for change in changes):
            await tx.put_outbox(MIRROR_TOPIC, f"mailbox:{id}")


MIRROR_FEATURE = Feature(name="mirror", reactions={"Email": note_emails, "Mailbox": note_mailboxes})
