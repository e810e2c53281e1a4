"""Blob/lookup (RFC 9404 s4.3): where a blob is held."""

from __future__ import annotations

from typing import Any, Final

from tindra.core.access import check_read
from tindra.core.arguments import check_names, take_names
from tindra.core.blob_parts import find_blob
from tindra.core.datatype import CallContext
from tindra.core.errors import MethodError
from tindra.core.ports import StoreReader
from tindra.features.blob.reading import take_blob_ids
from tindra.wire.jmap.blob_id import parse_part_blob_id

LOOKUP_PAIRS_MAX: Final = 10_000
"""Ids in one answer: an Email may be in a hundred Mailboxes."""
TYPES: Final = ("Mailbox", "Thread", "Email")
"""What is looked through. Source: RFC 9404 s3.1 (supportedTypeNames)"""


async def run_lookup(context: CallContext, arguments: dict[str, Any]) -> dict[str, Any]:
    """Blob/lookup: which Emails, and which Threads and Mailboxes through them, hold a blob.

    A body part is held where its message is. An unknown or foreign blob is held nowhere, like one
    that is only uploaded. Cost: two reads.
    Raises: MethodError accountNotFound, invalidArguments, requestTooLarge, unknownDataType.
    Source: RFC 9404 s4.3
    """
    account_id = check_read(context.caller, arguments.get("accountId")).account.id
    check_names(arguments, {"accountId", "typeNames", "ids"})
    names = take_names(arguments, "typeNames")
    if names is None:
        raise MethodError("invalidArguments", "'typeNames' must be given")
    for name in names:
        datatype = context.registry.datatypes.get(name) if name in TYPES else None
        if datatype is None or datatype.capability not in context.using:
            text = f"{name[:60]!r} is not looked up, or its capability is not in 'using'"
            raise MethodError("unknownDataType", text)
    ids = list(dict.fromkeys(map(context.resolve, take_blob_ids(arguments, "ids"))))
    messages = {id: part.blob_id if (part := parse_part_blob_id(id)) else id for id in ids}

    async def read(reader: StoreReader) -> dict[str, dict[str, list[str]]]:
        docs = await reader.find_emails_by_blob(list(dict.fromkeys(messages.values())))
        rows = {row.doc_id: row for row in await reader.load_emails(list(docs.values()))}
        return {
            blob_id: {
                "Mailbox": sorted(map(str, rows[doc].mailbox_ids)),
                "Thread": [str(rows[doc].thread_id)],
                "Email": [str(rows[doc].id)],
            }
            for blob_id, doc in docs.items()
            if doc in rows
        }

    held = await context.services.store.read(account_id, read)
    found = []
    count = 0
    for id in ids:
        is_there = messages[id] == id or await find_blob(context.services, account_id, id)
        places = held.get(messages[id], {}) if is_there else {}
        matched = {name: places.get(name, []) for name in names}
        count += sum(map(len, matched.values()))
        if count > LOOKUP_PAIRS_MAX:
            raise MethodError("requestTooLarge", f"over {LOOKUP_PAIRS_MAX} ids to tell")
        found.append({"id": id, "matchedIds": matched})
    return {"accountId": account_id, "list": found, "notFound": []}
