"""Messages from a provider on their way into the account: parsed off the loop, stored in batches.

A message that breaks something is found by halving its batch, and left out alone: it never stops
its mailbox, and is tried again now and then. Stored together with the cursor, so that a crash
repeats at most one batch.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Final, Literal, NamedTuple

import msgspec

from tindra.base import limits
from tindra.base.ids import AccountId, BlobId, EmailId, MailboxId
from tindra.core.errors import StoreError
from tindra.core.services import Services
from tindra.core.tx import Tx, transact
from tindra.features.mail.ingest import Arrival, offer_words, parse_arrival
from tindra.features.mail.reports.delivery import apply_reports
from tindra.model.blob import make_blob_id
from tindra.model.mail import EmailRow
from tindra.model.stored import BlobRow
from tindra.sync.apply import Fetched, apply_messages
from tindra.sync.cursor import RemoteCursor, put_cursor
from tindra.sync.ports import Rejected, RemoteMessage

STAGED_AT_ONCE_MAX: Final = 16
"""Messages on their way to the blob store at a time."""
PARKED_MAX: Final = 1_000
"""Messages of one mailbox that may be left out. More of them mean that something is wrong with all:
then the mailbox stops, and says so."""
Report = Callable[[str, BaseException], str]
"""Tells the operator of something unexpected; gives an id to quote."""


class _Parsed(NamedTuple):
    arrival: Arrival
    canonical_id: str | None
    """The blob id that it would have with plain CRLF line ends; None: not asked for."""


class _Batch(NamedTuple):
    """What is ready to be stored."""

    mailbox_id: str
    messages: Sequence[RemoteMessage]
    fetched: Sequence[Fetched]
    problem: Exception | None = None
    """What went wrong before: the batch is to be halved."""


def canonicalise(raw: bytes) -> bytes:
    """The message as IMAP servers hand it out: every line ends in CRLF."""
    return raw.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")


class Intake:
    """Stores what was fetched.

    Args:
        cursors: Mailbox id -> cursor, shared with the engine.
        on_stored: told after each commit of new messages (progress).
    """

    def __init__(
        self,
        services: Services,
        account_id: AccountId,
        cursors: dict[str, RemoteCursor],
        on_stored: Callable[[str, int], Awaitable[None]],
        report: Report,
    ) -> None:
        self._services = services
        self._account_id = account_id
        self._cursors = cursors
        self._on_stored = on_stored
        self._report = report
        self._expected: dict[str, dict[str, EmailId]] = {}
        self._waiting: _Batch | None = None
        self._again: dict[str, set[int]] = {}

    def expect(self, mailbox_id: str, raw: bytes, email_id: EmailId) -> None:
        """This Email is being, or was, put into a mailbox: it may come back with other line ends,
        and is the same Email all the same."""
        expected = self._expected.setdefault(mailbox_id, {})
        expected[make_blob_id(canonicalise(raw))] = email_id

    def expect_nothing(self) -> None:
        """What was put there has been seen."""
        self._expected.clear()

    async def store(self, mailbox_id: str, messages: Sequence[RemoteMessage]) -> None:
        """Take one batch; it is stored while the next one is prepared, or by `flush`.

        Raises: StoreError.
        """
        giants = [m.uid for m in messages if m.raw is None]
        if giants:
            await self._leave_out(mailbox_id, giants, "too_large")
        whole = [m for m in messages if m.raw is not None]
        batch, _ = await asyncio.gather(self._prepare(mailbox_id, whole), self.flush())
        self._waiting = batch
        sizes = [len(m.raw or b"") for m in whole]
        is_large = max(sizes, default=0) >= limits.LARGE_MESSAGE_BYTES_MIN
        if is_large or sum(sizes) >= limits.SYNC_BATCH_BYTES_MAX:
            await self.flush()  # nothing is read ahead while so much is held

    async def flush(self) -> None:
        """Store what was taken and is not stored yet. Raises: StoreError."""
        batch, self._waiting = self._waiting, None
        if batch is None or not batch.messages:
            return
        try:
            if batch.problem is not None:
                raise batch.problem
            await self._commit(batch)
        except StoreError:
            raise
        except Exception as error:  # a boundary: one hostile message must not stop a mailbox
            await self._store_halves(batch, error)

    async def _store_halves(self, batch: _Batch, error: Exception) -> None:
        if len(batch.messages) == 1:
            self._report("mirror message", error)
            await self.park(batch.mailbox_id, [batch.messages[0].uid])
            return
        middle = len(batch.messages) // 2
        for half in (batch.messages[:middle], batch.messages[middle:]):
            self._waiting = await self._prepare(batch.mailbox_id, half)
            await self.flush()

    async def _prepare(self, mailbox_id: str, messages: Sequence[RemoteMessage]) -> _Batch:
        """Everything that can be done before the transaction. Raises: StoreError."""
        expected = self._expected.get(mailbox_id, {})
        raws = [m.raw or b"" for m in messages]
        try:
            parsed = await self._services.offload.run(_parse_batch, raws, bool(expected))
        except Exception as error:  # the same boundary
            return _Batch(mailbox_id, messages, [], error)
        blobs = await self._stage(raws, [item.arrival.blob_id for item in parsed])
        fetched = [
            Fetched(message, item.arrival, blob, expected.get(item.canonical_id or ""))
            for message, item, blob in zip(messages, parsed, blobs, strict=True)
        ]
        return _Batch(mailbox_id, messages, fetched)

    async def _stage(self, raws: Sequence[bytes], ids: Sequence[BlobId]) -> list[BlobRow]:
        """Small messages go into the database, and are hashed already; each large one waits for
        the disk, several at a time."""
        now_ms = self._services.clock.now_ms()
        rows = [BlobRow(id, len(raw), raw, now_ms) for id, raw in zip(ids, raws, strict=True)]
        large = [n for n, raw in enumerate(raws) if len(raw) > limits.BLOB_INLINE_BYTES_MAX]
        for start in range(0, len(large), STAGED_AT_ONCE_MAX):
            part = large[start : start + STAGED_AT_ONCE_MAX]
            staged = await asyncio.gather(
                *(self._services.blobs.stage(self._account_id, raws[n]) for n in part)
            )
            for n, row in zip(part, staged, strict=True):
                rows[n] = row
        return rows

    async def _commit(self, batch: _Batch) -> None:
        mailbox_id = batch.mailbox_id
        cursor = _without(self._cursors[mailbox_id], {m.uid for m in batch.messages})

        async def write(tx: Tx) -> list[tuple[EmailRow, Arrival]]:
            mirrored = self._cursors.keys()
            made = await apply_messages(tx, MailboxId(mailbox_id), batch.fetched, cursor, mirrored)
            await apply_reports(tx, [arrival for _, arrival in made])
            return made

        made, _ = await transact(
            self._services, self._account_id, "mirror-messages", write, "provider"
        )
        self._cursors[mailbox_id] = cursor
        rows = [row for row, _ in made]
        offer_words(self._services, self._account_id, rows, [arrival for _, arrival in made])
        await self._on_stored(mailbox_id, len(batch.messages))

    # -- what is left out ------------------------------------------------------------------------
    async def park(self, mailbox_id: str, uids: Sequence[int]) -> None:
        """Leave messages out until it is time to try them again; how many there are is shown.

        Raises: Rejected: too many of them.
        """
        await self._leave_out(mailbox_id, uids, "parked")

    async def leave_broken(self, mailbox_id: str, uid: int) -> None:
        """Leave a message out that cannot be fetched. Raises: Rejected: too many of them."""
        await self._leave_out(mailbox_id, [uid], "broken")

    async def _leave_out(
        self, mailbox_id: str, uids: Sequence[int], why: Literal["parked", "too_large", "broken"]
    ) -> None:
        self._again.get(mailbox_id, set()).difference_update(uids)
        cursor = self._cursors[mailbox_id]
        if why != "too_large":  # which is for good
            uids = [uid for uid in uids if uid not in cursor.too_large]
        fresh = _without(cursor, set(uids))
        left_out = tuple(sorted({*getattr(fresh, why), *uids}))
        fresh = msgspec.structs.replace(fresh, **{why: left_out})
        if fresh.skipped > PARKED_MAX:
            raise Rejected(f"More than {PARKED_MAX} messages cannot be taken over", code="LOCAL")
        await self.keep(mailbox_id, fresh)

    def list_left_out(self, mailbox_id: str) -> set[int]:
        """uids that are not to be asked for now."""
        cursor = self._cursors[mailbox_id]
        left_out = {*cursor.parked, *cursor.too_large, *cursor.broken}
        return left_out - self.list_again(mailbox_id)

    def list_again(self, mailbox_id: str) -> set[int]:
        """uids that were left out and are to be asked for once more."""
        cursor = self._cursors[mailbox_id]
        return self._again.get(mailbox_id, set()) & {*cursor.parked, *cursor.broken}

    def try_again(self, mailbox_id: str, uids: Collection[int]) -> None:
        """Have the next look ask for what was left out."""
        self._again.setdefault(mailbox_id, set()).update(uids)

    async def forget_left_out(self, mailbox_id: str, gone: Collection[int]) -> None:
        """These messages are at the provider no more."""
        cursor = self._cursors[mailbox_id]
        too_large = tuple(uid for uid in cursor.too_large if uid not in gone)
        fresh = msgspec.structs.replace(_without(cursor, gone), too_large=too_large)
        await self.keep(mailbox_id, fresh)

    async def keep(self, mailbox_id: str, cursor: RemoteCursor) -> None:
        """Remember where a mailbox stands."""
        if self._cursors.get(mailbox_id) == cursor:
            return
        self._cursors[mailbox_id] = cursor

        async def write(tx: Tx) -> None:
            await put_cursor(tx, mailbox_id, cursor)

        await transact(self._services, self._account_id, "mirror-cursor", write, "provider")


def _without(cursor: RemoteCursor, uids: Collection[int]) -> RemoteCursor:
    """Of what may be tried again, without these."""
    parked = tuple(uid for uid in cursor.parked if uid not in uids)
    broken = tuple(uid for uid in cursor.broken if uid not in uids)
    return msgspec.structs.replace(cursor, parked=parked, broken=broken)


def _parse_batch(messages: Sequence[bytes], is_canonical_wanted: bool) -> list[_Parsed]:
    return [
        _Parsed(
            parse_arrival(raw, make_blob_id(raw)),
            make_blob_id(canonicalise(raw)) if is_canonical_wanted else None,
        )
        for raw in messages
    ]
