"""Email/parse (RFC 8621 s4.9): any blob read as a message, without storing anything."""

from __future__ import annotations

from functools import partial
from typing import Any

from tindra.base import limits
from tindra.base.ids import AccountId
from tindra.core.access import check_read
from tindra.core.arguments import check_names, take_ids, take_names
from tindra.core.blob_parts import BlobPlace, find_blob, load_place
from tindra.core.datatype import CallContext
from tindra.core.errors import MethodError
from tindra.features.mail.body import BODY_ARGUMENTS, take_body_request
from tindra.features.mail.email_get import ANSWER_BYTES_MAX, EMAIL_PROPERTIES, render_message
from tindra.features.mail.header_property import is_header_property
from tindra.features.mail.writing.message_head import read_head
from tindra.features.mail.writing.octet_budget import OctetBudget
from tindra.features.mail.writing.placing import OFFLOAD_BYTES

_ARGUMENTS = frozenset({"accountId", "blobIds", "properties"}) | BODY_ARGUMENTS
BLOBS_MAX = 100
"""Messages parsed in one call."""


async def run_parse(context: CallContext, arguments: dict[str, Any]) -> dict[str, Any]:
    """Email/parse. Cost: linear in the messages, which one call takes only so many octets of; they
    are loaded one after the other.

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
    places = await _find(context, account_id, blob_ids)
    parsed: dict[str, Any] = {}
    not_parsable: list[str] = []
    not_found: list[str] = []
    room_bytes = ANSWER_BYTES_MAX
    for given, place in places.items():
        blob_id = context.resolve(given)
        raw = None if place is None else await _load(context, account_id, place)
        if raw is None:
            not_found.append(given)
        elif not read_head(raw).is_message:
            not_parsable.append(given)
        else:
            ask = partial(render_message, raw, blob_id, properties, arguments, room_bytes)
            is_large = len(raw) > OFFLOAD_BYTES
            found = await context.services.offload.run(ask) if is_large else ask()
            parsed[blob_id] = found
            room_bytes -= len(memoryview(found))
            if room_bytes < 0:
                raise MethodError("requestTooLarge", f"over {ANSWER_BYTES_MAX} octets of answer")
    return {
        "accountId": account_id,
        "parsed": parsed or None,
        "notParsable": not_parsable or None,
        "notFound": not_found or None,
    }


async def _find(
    context: CallContext, account_id: AccountId, blob_ids: list[str]
) -> dict[str, BlobPlace | None]:
    """Where each blob is, None for unknown ones. Raises: MethodError requestTooLarge."""
    find = partial(find_blob, context.services, account_id)
    places = {given: await find(context.resolve(given)) for given in blob_ids}
    budget = OctetBudget()
    for place in places.values():
        if place is not None and not (_is_too_large(place) or budget.take(place.end - place.start)):
            raise MethodError("requestTooLarge", "the messages are too large: ask for fewer")
    return places


def _is_too_large(place: BlobPlace) -> bool:
    return place.end - place.start > limits.MESSAGE_BYTES_MAX


async def _load(context: CallContext, account_id: AccountId, place: BlobPlace) -> bytes | None:
    """The octets; None if they went away. What is no message by its size is cut."""
    if _is_too_large(place):
        return b""
    return await load_place(context.services, account_id, place)
