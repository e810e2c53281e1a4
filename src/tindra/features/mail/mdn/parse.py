"""MDN/parse (RFC 9007 s2.2): any blob read as a notification, and which Email it is about."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from tindra.base import limits
from tindra.base.ids import AccountId
from tindra.core.access import check_read
from tindra.core.arguments import check_names, take_ids
from tindra.core.blob_parts import BlobPlace, find_blob, load_place
from tindra.core.datatype import CallContext
from tindra.core.errors import MethodError
from tindra.core.ports import StoreReader
from tindra.features.mail.threading import make_reference_key
from tindra.features.mail.writing.placing import OFFLOAD_BYTES
from tindra.model.mail import parse_email_id
from tindra.wire.mime.header import as_message_ids
from tindra.wire.mime.notification import ReadNotification, parse_notification

BLOBS_MAX: Final = 100
"""Messages parsed in one call, as in Email/parse."""
PARSE_BYTES_MAX: Final = 2 * limits.MESSAGE_BYTES_MAX
"""Of all of them together: a notification has some kilobytes, unless it brings the original."""
EMAILS_LOOKED_AT_MAX: Final = 1000
"""Of the Threads that a notification may belong to; beyond, forEmailId is null."""


async def run_parse(context: CallContext, arguments: dict[str, Any]) -> dict[str, Any]:
    """MDN/parse. Cost: linear in the messages, one after the other; two reads for each that is one.

    Raises: MethodError invalidArguments, requestTooLarge.
    Source: RFC 9007 s2.2
    """
    account_id = take_account(context, arguments)
    check_names(arguments, ("accountId", "blobIds"))
    given_ids = take_ids(arguments, "blobIds", is_reference=True)
    if given_ids is None:
        raise MethodError("invalidArguments", "'blobIds' must be given")
    if len(given_ids) > BLOBS_MAX:
        raise MethodError("requestTooLarge", f"over {BLOBS_MAX} blobs")
    places: dict[str, BlobPlace] = {}
    not_found: list[str] = []
    for given in given_ids:
        place = await find_blob(context.services, account_id, context.resolve(given))
        if place is None:
            not_found.append(given)
        else:
            places[given] = place
    if sum(place.end - place.start for place in places.values()) > PARSE_BYTES_MAX:
        raise MethodError("requestTooLarge", f"over {PARSE_BYTES_MAX} octets")
    parsed: dict[str, Any] = {}
    not_parsable: list[str] = []
    looked_at = [0]
    for given, place in places.items():
        raw = await load_place(context.services, account_id, place)
        if raw is None:
            not_found.append(given)
            continue
        if len(raw) > OFFLOAD_BYTES:
            found = await context.services.offload.run(parse_notification, raw)
        else:
            found = parse_notification(raw)
        if found is None:
            not_parsable.append(given)
        else:
            email_id = await _find_email(context, account_id, found, looked_at)
            parsed[context.resolve(given)] = _render(found, email_id)
    return {
        "accountId": account_id,
        "parsed": parsed or None,
        "notParsable": not_parsable or None,
        "notFound": not_found or None,
    }


def take_account(context: CallContext, arguments: dict[str, Any]) -> AccountId:
    """Raises: MethodError invalidArguments, which RFC 9007 s2.1 wants for unknown accounts too."""
    try:
        return check_read(context.caller, arguments.get("accountId")).account.id
    except MethodError as error:
        raise MethodError("invalidArguments", error.description) from None


def _render(found: ReadNotification, email_id: str | None) -> dict[str, Any]:
    """Source: RFC 9007 s2"""
    told = found.notification
    return {
        "forEmailId": email_id,
        "subject": found.subject,
        "textBody": found.text,
        "includeOriginalMessage": found.has_original,
        "reportingUA": told.reporting_ua,
        "disposition": {
            "actionMode": told.disposition.action_mode,
            "sendingMode": told.disposition.sending_mode,
            "type": told.disposition.type,
        },
        "mdnGateway": told.gateway,
        "originalRecipient": told.original_recipient,
        "finalRecipient": told.final_recipient,
        "originalMessageId": told.original_message_id,
        "error": told.errors or None,
        "extensionFields": told.extensions or None,
    }


async def _find_email(
    context: CallContext, account_id: AccountId, found: ReadNotification, looked_at: list[int]
) -> str | None:
    """The one Email with the Message-ID that the notification names; None for none or many."""
    named = as_message_ids((found.notification.original_message_id or "").encode())
    if not named or len(named) != 1:
        return None
    message_id = named[0]

    async def read(reader: StoreReader) -> list[str]:
        key = make_reference_key(message_id)
        threads = (await reader.find_threads_by_reference([key])).get(key, [])
        ids = [id for thread in await reader.load_threads(threads) for id in thread.email_ids]
        looked_at[0] += len(ids)
        if looked_at[0] > EMAILS_LOOKED_AT_MAX:
            return []
        docs = {doc: str(id) for id in ids if (doc := parse_email_id(id)) is not None}
        contents = await reader.load_contents(list(docs))
        return [
            docs[doc]
            for doc, content in contents.items()
            if message_id in (msgspec.json.decode(content.meta).get("messageId") or ())
        ]

    same = await context.services.store.read(account_id, read)
    return same[0] if len(same) == 1 else None
