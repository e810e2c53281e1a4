"""Foo/query and Foo/queryChanges (RFC 8620 s5.5, s5.6)."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from tindra.base import limits
from tindra.base.ids import ModSeq
from tindra.core.access import check_read
from tindra.core.arguments import check_names, take_bool, take_id, take_int, take_unsigned
from tindra.core.datatype import (
    COLLATIONS,
    Affected,
    CallContext,
    Datatype,
    QueryAnswer,
    QueryPlan,
    QueryWindow,
)
from tindra.core.errors import MethodError, StateTooOld, Unavailable
from tindra.core.ports import Cursor, Page, StoreReader
from tindra.core.state import encode_state, parse_state

COMPARATORS_MAX: Final = 20
"""Of one sort; two of them already order all mail."""
QUERY_REACH_IDS_MAX: Final = 10_000
"""How far down a result that can be read from its top /queryChanges looks for what has changed."""
READS_MAX: Final = 8
"""Tries to read two things in one state while others write."""
_SHARED = frozenset({"accountId", "filter", "sort", "calculateTotal"})
_QUERY = _SHARED | {"position", "anchor", "anchorOffset", "limit"}
_QUERY_CHANGES = _SHARED | {"sinceQueryState", "maxChanges", "upToId"}


class _Comparator(msgspec.Struct, rename="camel"):
    """What every Comparator has; a type may add more. Source: RFC 8620 s5.5"""

    property: str
    is_ascending: bool = True
    collation: str = COLLATIONS[0]


def _plan(datatype: Datatype, arguments: dict[str, Any]) -> QueryPlan:
    assert datatype.querier is not None
    filter, sort = arguments.get("filter"), arguments.get("sort")
    if filter is not None and not isinstance(filter, dict):
        raise MethodError("invalidArguments", "'filter' must be an object or null")
    sort = [] if sort is None else sort
    try:
        comparators = msgspec.convert(sort, list[_Comparator])
    except msgspec.ValidationError as error:
        raise MethodError("invalidArguments", f"'sort' must be Comparators: {error}") from None
    if len(sort) > COMPARATORS_MAX:
        raise MethodError("unsupportedSort", f"over {COMPARATORS_MAX} comparators")
    for item in comparators:
        if item.collation not in COLLATIONS:
            raise MethodError("unsupportedSort", f"no collation {item.collation[:60]!r}")
    # jmapc repeats arguments of the query in each Comparator, where they mean nothing.
    sort = [{n: v for n, v in item.items() if n not in _QUERY} for item in sort]
    return datatype.querier.plan_query(filter, sort, arguments)


async def run_query(
    context: CallContext, datatype: Datatype, arguments: dict[str, Any]
) -> dict[str, Any]:
    """Foo/query. Cost: the plan's, for one page or the first position + limit ids.

    Raises: MethodError accountNotFound, invalidArguments, anchorNotFound, unsupportedFilter,
        unsupportedSort.
    Source: RFC 8620 s5.5
    """
    account_id = check_read(context.caller, arguments.get("accountId")).account.id
    check_names(arguments, _QUERY | datatype.query_arguments)
    position = take_int(arguments, "position", 0) or 0
    offset = take_int(arguments, "anchorOffset", 0) or 0
    wanted = take_unsigned(arguments, "limit")
    limit = min(limits.QUERY_IDS_MAX if wanted is None else wanted, limits.QUERY_IDS_MAX)
    anchor = take_id(arguments, "anchor")
    has_total = take_bool(arguments, "calculateTotal")
    plan = _plan(datatype, arguments)
    page = Page(position, limit, anchor, offset)
    stop = None if anchor is not None or position < 0 else position + limit
    found = await plan.list_ids(context, account_id, QueryWindow(stop, has_total, page=page))
    start, ids = _cut(found, page)
    answer: dict[str, Any] = {
        "accountId": account_id,
        "queryState": encode_state(Cursor(found.state)) + found.suffix,
        "canCalculateChanges": plan.can_calculate_changes,
        "position": start,
        "ids": ids,
    }
    if has_total:
        answer["total"] = found.total
    if wanted is None or wanted > limit:
        answer["limit"] = limit
    return answer


def _cut(found: QueryAnswer, page: Page[str]) -> tuple[int, list[str]]:
    """Where the page begins, and what is on it."""
    if found.position is not None:
        return found.position, found.ids
    cut = page.cut(found.ids)
    if cut is None:
        raise MethodError("anchorNotFound", "the anchor is not in the result")
    return cut


async def run_query_changes(
    context: CallContext, datatype: Datatype, arguments: dict[str, Any]
) -> dict[str, Any]:
    """Foo/queryChanges: what to take out of, and to put into, a result known before.

    The ids that may have moved are taken out and, where they still match, put in again at their
    new place; `upToId` shortens nothing, which the RFC allows. Cost: the result is read down to the
    last of them, QUERY_REACH_IDS_MAX at most; as a whole, beside the loop and within what a query
    may look at, where the plan cannot tell which of them are in it.
    Raises: MethodError cannotCalculateChanges, tooManyChanges and those of /query.
    Source: RFC 8620 s5.6
    """
    account_id = check_read(context.caller, arguments.get("accountId")).account.id
    check_names(arguments, _QUERY_CHANGES | datatype.query_arguments)
    wanted = take_unsigned(arguments, "maxChanges")
    take_id(arguments, "upToId")
    has_total = take_bool(arguments, "calculateTotal")
    plan = _plan(datatype, arguments)
    if not plan.can_calculate_changes:
        raise MethodError("cannotCalculateChanges", "not for this filter or sort")

    async def read_affected(reader: StoreReader) -> tuple[Cursor, ModSeq, Affected]:
        newest = (await reader.load_states()).get(datatype.name, ModSeq(0))
        since = parse_state(arguments.get("sinceQueryState"), newest)
        if since.id is not None:
            raise MethodError("cannotCalculateChanges", "no query was ever in this state")
        if since.modseq == newest:
            return since, newest, Affected(set(), set())
        affected = await plan.list_affected(reader, since.modseq, limits.CHANGES_COUNT_MAX)
        if affected is None:
            raise MethodError("cannotCalculateChanges", "too much has changed since")
        return since, newest, affected

    store = context.services.store
    for _ in range(READS_MAX):
        try:
            since, newest, (affected, there) = await store.read(account_id, read_affected)
        except StateTooOld:
            raise MethodError("cannotCalculateChanges", "this state is too old") from None
        found = QueryAnswer([], None, newest)
        if there is None or there or has_total:
            stop = None if there is None else QUERY_REACH_IDS_MAX
            found = await plan.list_ids(context, account_id, QueryWindow(stop, has_total, there))
        # Two reads: if someone wrote in between, look again, so that both tell of one state.
        if found.state == newest:
            break
    else:
        raise Unavailable("the account changes too fast for this query")
    if there is not None and not there.issubset(found.ids):
        raise MethodError("cannotCalculateChanges", "what changed stands too far down")
    added = [{"id": id, "index": i} for i, id in enumerate(found.ids) if id in affected]
    if wanted is not None and len(affected) + len(added) > wanted:
        raise MethodError("tooManyChanges", f"there are more than {wanted}")
    answer: dict[str, Any] = {
        "accountId": account_id,
        "oldQueryState": encode_state(since),
        "newQueryState": encode_state(Cursor(newest)),
        "removed": sorted(affected),
        "added": added,
    }
    if has_total:
        answer["total"] = found.total
    return answer
