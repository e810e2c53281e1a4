"""Whether a message whose sending ended in doubt was sent: the provider's own copy of it tells."""

from __future__ import annotations

from typing import Any

import msgspec

from tindra.base.ids import AccountId, ThreadId
from tindra.core.services import Services
from tindra.model.mail import EmailRow, parse_email_id
from tindra.sync.apply import load_base, read_mirror
from tindra.sync.filing import THREAD_EMAILS_MAX
from tindra.sync.mirror import MirrorReader
from tindra.sync.plan import is_ghost


async def is_filed(services: Services, account_id: AccountId, obj: dict[str, Any]) -> bool:
    """Whether the provider has its own copy of a submission's message in its sent mail.

    Where the mirror took that copy for the Email itself, it said so then (sync/filing). Beside an
    Email that is still a draft it is another one of the same Message-ID; what our own mirror put
    there is the Email itself and proves nothing. Cost: one Thread.
    """
    if obj.get("isFiled"):
        return True

    async def read(reader: MirrorReader) -> bool:
        sent = {row.id for row in await reader.load_mailboxes() if row.role == "sent"}
        threads = await reader.load_threads([ThreadId(obj["threadId"])])
        ids = [id for thread in threads for id in thread.email_ids[-THREAD_EMAILS_MAX:]]
        docs = [doc for id in {*ids, obj["emailId"]} if (doc := parse_email_id(id)) is not None]
        rows = await reader.load_emails(docs)
        names = await _load_message_ids(reader, rows)
        own = names.get(obj["emailId"])
        twins = [row.doc_id for row in rows if row.id != obj["emailId"] and names[row.id] == own]
        base = await load_base(reader, twins)
        places = {row.mailbox_id for held in base.values() for row in held if not is_ghost(row)}
        return bool(own) and not places.isdisjoint(sent)

    return await read_mirror(services, account_id, read)


async def _load_message_ids(reader: MirrorReader, rows: list[EmailRow]) -> dict[str, list[str]]:
    """Email id -> its Message-IDs."""
    contents = await reader.load_contents([row.doc_id for row in rows])
    found = {}
    for row in rows:
        meta = msgspec.json.decode(contents[row.doc_id].meta)
        found[str(row.id)] = meta.get("messageId") or []
    return found
