"""Email/parse (RFC 8621 s4.9): any blob read as a message, without storing anything."""

from __future__ import annotations

from typing import Any

from tindra.base import limits
from tindra.base.ids import AccountId
from tindra.core.access import check_read
from tindra.core.arguments import check_names, take_ids, take_names
from tindra.core.blob_parts import find_blob, load_place
from tindra.core.datatype import CallContext
from tindra.core.errors import MethodError
from tindra.features.mail.body import BODY_ARGUMENTS, take_body_request
from tindra.features.mail.email_get import EMAIL_PROPERTIES, render_message
from tindra.features.mail.header_property import is_header_property
from tindra.features.mail.writing.message_head import read_head
from tindra.features.mail.writing.placing import OFFLOAD_BYTES

_ARGUMENTS = frozenset({"accountId", "blobIds", "properties"}) | BODY_ARGUMENTS
BLOBS_MAX = 100
"""Messages parsed in one call: each may be as large as an upload."""


async def run_parse(context: CallContext, arguments: dict[str, Any]) -> dict[str, Any]:
    """Email/parse. Cost: linear in the messages; they are loaded one after the other.

    Raises: MethodError accountNotFound, invalidArguments, requestTooLarge.
    Source: RFC 8621 s4.9
    """
    account_id = check_read(context.caller, arguments.get("accountId")).account.id
    check_names(arguments, _ARGUMENTS)
    blob_ids = take_ids(arguments, "blobIds", is_reference=True)
    if blob_ids is None:
        raise MethodError("invalidArguments", "'blobIds' must be given")
    if len(blob_ids) > BLOBS_MAX:
        raise MethodError("requestTooLarge", f"over {BLOBS_MAX} blobs")
    properties = take_names(arguments, "properties")
    for name in properties or ():
        if name not in EMAIL_PROPERTIES and not is_header_property(name):
            raise MethodError("invalidArguments", f"Email has no property {name[:60]!r}")
    take_body_request(arguments)  # refuses wrong ones even when there is nothing to parse
    parsed: dict[str, Any] = {}
    not_parsable: list[str] = []
    not_found: list[str] = []
    for given in blob_ids:
        blob_id = context.resolve(given)
        raw = await _load(context, account_id, blob_id)
        if raw is None:
            not_found.append(given)
        elif not read_head(raw).is_message:
            not_parsable.append(given)
        else:
            parsed[blob_id] = await _parse(context, raw, blob_id, properties, arguments)
    return {
        "accountId": account_id,
        "parsed": parsed or None,
        "notParsable": not_parsable or None,
        "notFound": not_found or None,
    }


async def _load(context: CallContext, account_id: AccountId, blob_id: str) -> bytes | None:
    """The octets; None if there is no such blob. What is no message by its size is cut."""
    place = await find_blob(context.services, account_id, blob_id)
    if place is None:
        return None
    if place.end - place.start > limits.MESSAGE_BYTES_MAX:
        return b""
    return await load_place(context.services, account_id, place)


async def _parse(
    context: CallContext,
    raw: bytes,
    blob_id: str,
    properties: list[str] | None,
    arguments: dict[str, Any],
) -> dict[str, Any]:
    if len(raw) > OFFLOAD_BYTES:
        return await context.services.offload.run(
            render_message, raw, blob_id, properties, arguments
        )
    return render_message(raw, blob_id, properties, arguments)
