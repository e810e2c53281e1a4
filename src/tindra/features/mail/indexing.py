"""Feeds the search index: words of new Emails in, destroyed ones out, always in order of arrival.

The index follows behind its watermark; the list view never waits for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from tindra.base import limits
from tindra.base.ids import AccountId
from tindra.core.errors import DiskFull
from tindra.core.ports import StoreReader
from tindra.core.services import Services
from tindra.features.mail.ingest import parse_arrival
from tindra.model.mail import EmailRow, SearchDocument

CATCH_UP_STEPS_MAX: Final = 5
"""Batches that a query may index before it answers with what there is."""


async def run_index_step(services: Services, account_id: AccountId) -> int:
    """Index one batch; gives how many Emails were put in or taken out, 0 when all is done.

    Idempotent: a crash in the middle repeats at most one batch.
    """
    removable = await services.search.list_removable(account_id, limits.INDEX_BATCH_EMAILS_MAX)
    if removable:
        await services.search.remove(account_id, removable)
    waiting = await services.search.list_unindexed(account_id, limits.INDEX_BATCH_EMAILS_MAX)
    if not waiting:
        return len(removable)
    docs = [doc_id for _, doc_id in waiting]
    held = services.feed.take(account_id, docs)
    lost = [doc_id for doc_id in docs if doc_id not in held]
    for document in await _parse_again(services, account_id, lost) if lost else ():
        held[document.doc_id] = document
    await services.search.add(account_id, list(held.values()), waiting[-1])
    return len(removable) + len(waiting)


async def run_index_catch_up(services: Services, account_id: AccountId) -> bool:
    """Bring the index up to date before a text query; False if it still is not.

    On a full disk old words are found all the same.
    """
    try:
        for _ in range(CATCH_UP_STEPS_MAX):
            if not await run_index_step(services, account_id):
                return True
    except DiskFull:
        pass  # whoever writes is told
    return False


async def _parse_again(
    services: Services, account_id: AccountId, docs: Sequence[int]
) -> list[SearchDocument]:
    """The words of Emails whose hand-over was lost, from their messages."""

    async def read(reader: StoreReader) -> list[EmailRow]:
        return await reader.load_emails(docs)

    found = []
    for row in await services.store.read(account_id, read, is_long=len(docs) > 50):
        raw = await services.blobs.get(account_id, row.blob_id)
        if raw is not None:
            arrival = await services.offload.run(parse_arrival, raw, row.blob_id)
            found.append(msgspec.structs.replace(arrival.words, doc_id=row.doc_id))
    return found
