"""Brings one mailbox up to date with the provider: new messages, flags, losses.

Two ways in: `backfill`, a bounded batch of a mailbox that was never read to its end, newest first;
and `look`, everything that happened since the last look. Both store in batches with their cursor,
so that a crash repeats at most one batch, and repeating it changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from tindra.base import limits
from tindra.base.ids import AccountId, MailboxId
from tindra.core.services import Services
from tindra.core.tx import Tx, transact
from tindra.features.mail.ingest import Arrival, offer_words, parse_arrival
from tindra.model.blob import make_blob_id
from tindra.model.mail import EmailRow, RemoteRow
from tindra.sync.apply import (
    Fetched,
    apply_flags,
    apply_messages,
    apply_reset,
    apply_vanished,
    read_mirror,
)
from tindra.sync.cursor import RemoteCursor, put_cursor
from tindra.sync.mirror import MirrorReader
from tindra.sync.plan import decide_vanished
from tindra.sync.ports import Known, MailSession, RemoteMessage, Selected

ALL_UIDS: Final = [(1, 2**32 - 1)]
_FLAGS_PER_COMMIT: Final = 500
_VANISHED_EXPANDED_MAX: Final = 5_000
"""A larger VANISHED answer is taken as "look at everything": it may name all uids there are."""


class Puller:
    """Reads mailboxes over one session.

    Args:
        cursors: Mailbox id -> cursor; kept up to date here and shared with the engine.
        on_stored: told after each commit of new messages (progress).
    """

    def __init__(
        self,
        services: Services,
        account_id: AccountId,
        session: MailSession,
        cursors: dict[str, RemoteCursor],
        on_stored: Callable[[str, int], None],
    ) -> None:
        self._services = services
        self._account_id = account_id
        self._session = session
        self._cursors = cursors
        self._on_stored = on_stored
        self._selected: tuple[str, frozenset[str]] | None = None
        self._missing: dict[str, list[int]] = {}
        self._held_back: dict[str, frozenset[int]] = {}

    async def select(self, mailbox_id: str) -> frozenset[str]:
        """Make a mailbox the selected one, unless it is; gives the flags it keeps."""
        if self._selected is None or self._selected[0] != mailbox_id:
            await self._select(mailbox_id, None)
        assert self._selected is not None
        return self._selected[1]

    async def _select(self, mailbox_id: str, known: Known | None) -> Selected:
        """SELECT; a changed uidValidity starts the mailbox anew before anything else is said."""
        self._selected = None
        selected = await self._session.select(self._cursors[mailbox_id].name, known)
        self._selected = (mailbox_id, selected.permanent_flags)
        cursor, status = self._cursors[mailbox_id], selected.status
        if cursor.uid_validity != status.uid_validity:
            fresh = RemoteCursor(
                cursor.name,
                cursor.delimiter,
                uid_validity=status.uid_validity,
                uid_next=status.uid_next,
                highest_modseq=status.highest_modseq,
                exists=status.exists,
            )
            self._missing.pop(mailbox_id, None)
            self._cursors[mailbox_id] = fresh

            async def reset(tx: Tx) -> None:
                await apply_reset(tx, MailboxId(mailbox_id), fresh)

            await transact(self._services, self._account_id, "mirror-reset", reset, "provider")
        return selected

    async def backfill(self, mailbox_id: str) -> bool:
        """Store one batch, newest first; False once the mailbox is complete and live."""
        if mailbox_id not in self._missing:
            await self._select(mailbox_id, None)
            self._missing[mailbox_id] = await self._list_missing(mailbox_id)
        else:
            await self.select(mailbox_id)
        missing = self._missing.get(mailbox_id)
        if missing:
            batch = missing[: limits.SYNC_BATCH_MESSAGES_MAX]
            await self._fetch(mailbox_id, batch)
            del missing[: len(batch)]
        if missing:
            return True
        self._missing.pop(mailbox_id, None)
        await self._keep(
            mailbox_id, msgspec.structs.replace(self._cursors[mailbox_id], phase="live")
        )
        return False

    async def _list_missing(self, mailbox_id: str) -> list[int]:
        base = {uid for uid, _ in await self._list_base(mailbox_id)}
        parked = set(self._cursors[mailbox_id].parked)
        uids = await self._session.list_uids()
        return sorted((uid for uid in uids if uid not in base and uid not in parked), reverse=True)

    async def _list_base(self, mailbox_id: str) -> list[tuple[int, tuple[str, ...]]]:
        async def read(reader: MirrorReader) -> list[tuple[int, tuple[str, ...]]]:
            return await reader.list_remote_uids(mailbox_id)

        found = await read_mirror(self._services, self._account_id, read, is_long=True)
        return [item for item in found if item[0] > 0]

    async def look(self, mailbox_id: str) -> None:
        """Take over everything that happened in a mailbox since the last look."""
        cursor = self._cursors[mailbox_id]
        known = None
        if cursor.phase == "live" and cursor.highest_modseq:
            known = Known(cursor.uid_validity, cursor.highest_modseq)
        selected = await self._select(mailbox_id, known)
        if self._cursors[mailbox_id].phase != "live":
            while await self.backfill(mailbox_id):
                pass
            return
        gone_count = sum(last - first + 1 for first, last in selected.vanished)
        if selected.is_resynced and gone_count <= _VANISHED_EXPANDED_MAX:
            await self._take_news(mailbox_id, selected)
        else:
            await self._compare(mailbox_id, selected)
        status = selected.status
        await self._keep(
            mailbox_id,
            msgspec.structs.replace(
                self._cursors[mailbox_id],
                uid_next=status.uid_next,
                highest_modseq=status.highest_modseq,
                exists=status.exists,
            ),
        )

    async def _take_news(self, mailbox_id: str, selected: Selected) -> None:
        """QRESYNC told it all. Cost: what changed."""
        changed = [m.uid for m in selected.changed]
        gone = [uid for first, last in selected.vanished for uid in range(first, last + 1)]

        async def read(reader: MirrorReader) -> set[int]:
            rows: list[RemoteRow] = await reader.load_remote(mailbox_id, [*changed, *gone])
            return {row.uid for row in rows}

        base = await read_mirror(self._services, self._account_id, read)
        parked = self._cursors[mailbox_id].parked
        fresh = sorted((u for u in changed if u not in base and u not in parked), reverse=True)
        await self._fetch(mailbox_id, fresh)
        await self._take_flags(mailbox_id, [m for m in selected.changed if m.uid in base])
        await self._take_losses(mailbox_id, None, [uid for uid in gone if uid in base])

    async def _compare(self, mailbox_id: str, selected: Selected) -> None:
        """Without QRESYNC: all uids are listed and compared. Cost: O(messages), numbers only."""
        cursor = self._cursors[mailbox_id]
        base = dict(await self._list_base(mailbox_id))
        uids = await self._session.list_uids()
        told = set(uids)
        fresh = [u for u in reversed(uids) if u not in base and u not in cursor.parked]
        # New ones first: a draft's new version is there before the old one is taken away.
        await self._fetch(mailbox_id, fresh)
        since = cursor.highest_modseq if selected.status.highest_modseq else None
        if base and (since is None or since != selected.status.highest_modseq):
            flags = await self._session.fetch_flags(ALL_UIDS, changed_since=since)
            await self._take_flags(mailbox_id, [m for m in flags if m.uid in base])
        await self._take_losses(mailbox_id, len(base), [uid for uid in base if uid not in told])

    async def _take_flags(self, mailbox_id: str, messages: Sequence[RemoteMessage]) -> None:
        for start in range(0, len(messages), _FLAGS_PER_COMMIT):
            part = messages[start : start + _FLAGS_PER_COMMIT]

            async def write(tx: Tx, part: Sequence[RemoteMessage] = part) -> None:
                await apply_flags(tx, MailboxId(mailbox_id), part)

            await transact(self._services, self._account_id, "mirror-flags", write, "provider")

    async def _take_losses(
        self, mailbox_id: str, known_count: int | None, gone: Sequence[int]
    ) -> None:
        """Believe losses that are told of one by one, and large ones only at the second look."""
        if not gone:
            self._held_back.pop(mailbox_id, None)
            return
        seen = frozenset(gone)
        is_confirmed = self._held_back.get(mailbox_id) == seen
        known = len(gone) if known_count is None else known_count
        # One by one (QRESYNC) is believed; a list that lacks them is not, the first time.
        if known_count is not None and decide_vanished(known, len(gone), is_confirmed) == "hold":
            self._held_back[mailbox_id] = seen
            return
        self._held_back.pop(mailbox_id, None)
        for start in range(0, len(gone), _FLAGS_PER_COMMIT):
            part = gone[start : start + _FLAGS_PER_COMMIT]

            async def write(tx: Tx, part: Sequence[int] = part) -> None:
                await apply_vanished(tx, MailboxId(mailbox_id), part)

            await transact(self._services, self._account_id, "mirror-gone", write, "provider")

    async def _fetch(self, mailbox_id: str, uids: Sequence[int]) -> None:
        """Fetch and store messages in the order given."""
        batch: list[RemoteMessage] = []
        size = 0
        for start in range(0, len(uids), limits.SYNC_BATCH_MESSAGES_MAX):
            part = uids[start : start + limits.SYNC_BATCH_MESSAGES_MAX]
            async for message in self._session.fetch_messages(part, limits.SYNC_BATCH_BYTES_MAX):
                batch.append(message)
                size += len(message.raw or b"")
                if size >= limits.SYNC_BATCH_BYTES_MAX:
                    await self._store(mailbox_id, batch)
                    batch, size = [], 0
            await self._store(mailbox_id, batch)
            batch, size = [], 0

    async def _store(self, mailbox_id: str, messages: Sequence[RemoteMessage]) -> None:
        whole = [m for m in messages if m.raw is not None]
        parked = tuple(m.uid for m in messages if m.raw is None)
        if parked:
            cursor = self._cursors[mailbox_id]
            await self._keep(
                mailbox_id, msgspec.structs.replace(cursor, parked=(*cursor.parked, *parked))
            )
        if not whole:
            return
        arrivals = await self._services.offload.run(_parse_batch, [m.raw or b"" for m in whole])
        fetched = [
            Fetched(
                message,
                arrival,
                await self._services.blobs.stage(self._account_id, message.raw or b""),
            )
            for message, arrival in zip(whole, arrivals, strict=True)
        ]

        async def write(tx: Tx) -> list[tuple[EmailRow, Arrival]]:
            cursor = self._cursors[mailbox_id]
            return await apply_messages(tx, MailboxId(mailbox_id), fetched, cursor)

        made, _ = await transact(
            self._services, self._account_id, "mirror-messages", write, "provider"
        )
        rows = [row for row, _ in made]
        offer_words(self._services, self._account_id, rows, [arrival for _, arrival in made])
        self._on_stored(mailbox_id, len(whole))

    async def _keep(self, mailbox_id: str, cursor: RemoteCursor) -> None:
        self._cursors[mailbox_id] = cursor

        async def write(tx: Tx) -> None:
            await put_cursor(tx, mailbox_id, cursor)

        await transact(self._services, self._account_id, "mirror-cursor", write, "provider")


def _parse_batch(messages: Sequence[bytes]) -> list[Arrival]:
    return [parse_arrival(raw, make_blob_id(raw)) for raw in messages]
