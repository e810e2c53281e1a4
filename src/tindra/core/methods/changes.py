"""Foo/changes (RFC 8620 s5.2)."""

from __future__ import annotations

from typing import Any

from tindra.base import limits
from tindra.base.ids import ModSeq
from tindra.core.access import check_read
from tindra.core.arguments import check_names, take_unsigned
from tindra.core.datatype import CallContext, Datatype
from tindra.core.errors import MethodError, StateTooOld
from tindra.core.ports import ChangePage, Cursor, StoreReader
from tindra.core.state import encode_state, parse_state

_ARGUMENTS = frozenset({"accountId", "sinceState", "maxChanges"})


async def run_changes(
    context: CallContext, datatype: Datatype, arguments: dict[str, Any]
) -> dict[str, Any]:
    """Foo/changes. Cost: two index range reads, whatever the size of the account.

    Raises: MethodError accountNotFound, invalidArguments, cannotCalculateChanges.
    Source: RFC 8620 s5.2
    """
    account_id = check_read(context.caller, arguments.get("accountId")).account.id
    check_names(arguments, _ARGUMENTS)
    limit = min(
        take_unsigned(arguments, "maxChanges", at_least=1) or limits.CHANGES_COUNT_MAX,
        limits.CHANGES_COUNT_MAX,
    )

    async def read(reader: StoreReader) -> dict[str, Any]:
        newest = (await reader.load_states()).get(datatype.name, ModSeq(0))
        since = parse_state(arguments.get("sinceState"), newest)
        page = ChangePage([], [], [], Cursor(newest), False)
        if since != page.cursor:
            page = await reader.list_changes(datatype.name, since, limit)
        answer: dict[str, Any] = {
            "accountId": account_id,
            "oldState": encode_state(since),
            "newState": encode_state(page.cursor if page.has_more else Cursor(newest)),
            "hasMoreChanges": page.has_more,
            "created": page.created,
            "updated": page.updated,
            "destroyed": page.destroyed,
        }
        if datatype.list_updated_properties is not None:
            # A place inside a transaction: the rest of that one counts as news, too.
            known = since.modseq if since.id is None else ModSeq(since.modseq - 1)
            answer["updatedProperties"] = (
                await datatype.list_updated_properties(reader, known) if page.updated else None
            )
        return answer

    try:
        return await context.services.store.read(account_id, read)
    except StateTooOld:
        raise MethodError("cannotCalculateChanges", "this state is too old") from None
