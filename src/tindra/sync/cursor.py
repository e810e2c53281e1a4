"""Where the mirror of each mailbox stands: small objects of their own, keyed by Mailbox id.

They are in no capability, so devices never see them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal

import msgspec

from tindra.core.ports import StoreReader
from tindra.core.tx import Tx

CURSOR_TYPE: Final = "RemoteMailbox"


class RemoteCursor(msgspec.Struct, frozen=True):
    """The mirror of one mailbox, as it was before the last look at it."""

    name: str
    """Full path at the provider."""
    delimiter: str | None
    selectable: bool = True
    phase: Literal["backfilling", "live"] = "backfilling"
    uid_validity: int = 0
    """0 before the first look."""
    uid_next: int | None = None
    highest_modseq: int | None = None
    """The snapshot taken *before* the fetch, so that nothing in between is missed."""
    exists: int = 0
    compared_ms: int = 0
    """When all uids and all flags were last compared; 0: never."""
    resets: int = 0
    """How often in a row the uids started anew without a look in between that went well."""
    is_doubted: bool = False
    """The provider went back behind uids that it gave out: they may mean other messages now."""
    missed: tuple[int, ...] = ()
    """uids that were told of but could not be had yet: asked for again at every look."""
    parked: tuple[int, ...] = ()
    """uids that broke something or could not be had: tried again when a process starts, for it may
    be a better one, and once a day."""
    too_large: tuple[int, ...] = ()
    """uids of messages above limits.MESSAGE_BYTES_MAX: left out for good."""
    broken: tuple[int, ...] = ()
    """uids whose FETCH ended the session, or was refused, each time (sync/poison)."""

    @property
    def skipped(self) -> int:
        """How many messages are left out."""
        return len(self.parked) + len(self.too_large) + len(self.broken)


async def load_cursors(reader: StoreReader) -> dict[str, RemoteCursor]:
    """Mailbox id -> cursor."""
    rows = await reader.load_objects(CURSOR_TYPE, None)
    return {str(row.id): msgspec.json.decode(row.data, type=RemoteCursor) for row in rows}


async def put_cursor(tx: Tx, mailbox_id: str, cursor: RemoteCursor) -> None:
    """Keep where we stand, in the transaction that stored what was read."""
    await tx.store.put_object(CURSOR_TYPE, mailbox_id, msgspec.json.encode(cursor))


async def delete_cursor(tx: Tx, mailbox_id: str) -> None:
    """The mailbox is mirrored no more."""
    await tx.store.delete_object(CURSOR_TYPE, mailbox_id)


def count_progress(
    cursors: Mapping[str, RemoteCursor],
    held: Mapping[str, int],
    told: Mapping[str, int],
    is_all: bool = True,
) -> dict[str, Any]:
    """The numbers a person sees; a live mailbox counts as complete.

    The total is None until every mailbox was asked for its own, so that progress never goes back.

    Args:
        held: Mailbox id -> messages of it that are mirrored, for those that are not live.
        told: Mailbox id -> messages that the provider has there.
        is_all: False: one that matters is missing, so that the total is not known.
    """
    total = done = 0
    for id, cursor in cursors.items():
        exists = cursor.exists if cursor.phase == "live" else told.get(id, cursor.exists)
        total += exists
        done += exists if cursor.phase == "live" else min(held.get(id, 0), exists)
    is_known = is_all and all(c.phase == "live" or id in told for id, c in cursors.items())
    percent = 100 if total == 0 else done * 100 // total
    return {
        "messagesDone": done,
        "messagesTotal": total if is_known else None,
        "messagesSkipped": sum(c.skipped for c in cursors.values()),
        "progress": percent if is_known else None,
    }
