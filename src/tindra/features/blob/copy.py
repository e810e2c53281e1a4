"""Blob/copy (RFC 8620 s6.3): octets of one account for another."""

from __future__ import annotations

from typing import Any

from tindra.base.ids import AccountId, is_id
from tindra.core.access import check_read, check_write
from tindra.core.arguments import check_names
from tindra.core.blob_parts import BlobPlace, find_blob, load_place
from tindra.core.datatype import CallContext
from tindra.core.errors import MethodError, SetError
from tindra.core.tx import Tx, transact
from tindra.features.blob.reading import CALL_BYTES_MAX, take_blob_ids
from tindra.model.stored import BlobRow


async def run_copy(context: CallContext, arguments: dict[str, Any]) -> dict[str, Any]:
    """Blob/copy. Cost: linear in the octets, one after the other; one commit in all.

    Raises: MethodError accountNotFound, accountReadOnly, forbidden, fromAccountNotFound,
        invalidArguments, requestTooLarge.
    Source: RFC 8620 s6.3
    """
    access = check_write(context.caller, arguments.get("accountId"), "triage")
    given_from = arguments.get("fromAccountId")
    if isinstance(given_from, str) and not context.caller.may_read(AccountId(given_from)):
        raise MethodError("fromAccountNotFound", "there is no such account for this user")
    account_id, from_id = access.account.id, check_read(context.caller, given_from).account.id
    check_names(arguments, {"accountId", "fromAccountId", "blobIds"})
    services = context.services
    store = services.blobs.put if access.is_partial else services.blobs.stage
    places: dict[str, BlobPlace | None] = {}
    for given in take_blob_ids(arguments, "blobIds"):
        blob_id = context.resolve(given)
        places[given] = await find_blob(services, from_id, blob_id) if is_id(blob_id) else None
    total = sum(place.end - place.start for place in places.values() if place is not None)
    if total > CALL_BYTES_MAX:
        raise MethodError("requestTooLarge", f"{total} octets: over {CALL_BYTES_MAX}")
    rows: dict[str, BlobRow] = {}
    refused: dict[str, SetError] = {}
    for given, place in places.items():
        octets = None if place is None else await load_place(services, from_id, place)
        if octets is None:
            refused[given] = SetError("notFound", "there is no such blob")
        else:
            rows[given] = await store(account_id, octets)

    async def write(tx: Tx) -> None:
        for row in rows.values():
            await tx.put_blob(row)

    if rows and not access.is_partial:
        await transact(services, account_id, "Blob/copy", write)
    return {
        "fromAccountId": from_id,
        "accountId": account_id,
        "copied": {given: row.id for given, row in rows.items()} or None,
        "notCopied": {given: error.to_object() for given, error in refused.items()} or None,
    }
