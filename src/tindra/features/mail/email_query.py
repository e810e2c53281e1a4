"""Email/query and its queryChanges (RFC 8621 s4.4, s4.5): filters and sorts, checked and planned.

The store answers everything but `header`, for which the messages themselves are looked at first.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import msgspec

from tindra.base import limits
from tindra.base.ids import AccountId, ModSeq
from tindra.core.arguments import check_names, take_bool
from tindra.core.datatype import CallContext, QueryAnswer, QueryWindow
from tindra.core.errors import MethodError
from tindra.core.ports import Cursor, StoreReader
from tindra.features.mail.indexing import run_index_catch_up
from tindra.features.mail.keywords import is_keyword
from tindra.model.mail import (
    EmailCondition,
    EmailFilter,
    EmailQuery,
    EmailSort,
    FilterOperator,
    encode_email_id,
    parse_email_id,
)
from tindra.wire.jmap.date import parse_utc_date
from tindra.wire.mime.header import as_text
from tindra.wire.mime.parse import list_headers, parse_message

HEADER_SCAN_EMAILS_MAX: Final = 20_000
"""Messages that one `header` condition may make us look at; narrow the filter otherwise."""
_SCAN_STEP = 200
_FILTER_DEPTH_MAX: Final = 20
"""Nested operators: above any client, below the stack."""

_TEXTS = frozenset({"text", "from", "to", "cc", "bcc", "subject", "body"})
_KEYWORDS = frozenset(
    {
        "allInThreadHaveKeyword",
        "someInThreadHaveKeyword",
        "noneInThreadHaveKeyword",
        "hasKeyword",
        "notKeyword",
    }
)
_FIELD_OF = {
    "inMailbox": "in_mailbox",
    "inMailboxOtherThan": "in_mailbox_other_than",
    "minSize": "min_size",
    "maxSize": "max_size",
    "allInThreadHaveKeyword": "all_in_thread_have_keyword",
    "someInThreadHaveKeyword": "some_in_thread_have_keyword",
    "noneInThreadHaveKeyword": "none_in_thread_have_keyword",
    "hasKeyword": "has_keyword",
    "notKeyword": "not_keyword",
    "hasAttachment": "has_attachment",
    "from": "from_",
}
_CONDITIONS = frozenset(
    {"inMailbox", "inMailboxOtherThan", "hasAttachment", "header"}
    | {"before", "after", "minSize", "maxSize"} | _TEXTS | _KEYWORDS
)  # fmt: skip
_SORTS = frozenset({"receivedAt", "size", "from", "to", "subject", "sentAt"})
_KEYWORD_SORTS = frozenset({"hasKeyword", "allInThreadHaveKeyword", "someInThreadHaveKeyword"})
COLLATIONS = frozenset({"i;ascii-casemap", "i;unicode-casemap"})
SORT_OPTIONS = tuple(sorted(_SORTS | _KEYWORD_SORTS))


def _invalid(text: str) -> MethodError:
    return MethodError("invalidArguments", text)


def parse_filter(value: Any, budget: list[int], depth: int = 0) -> EmailFilter:
    """A filter from its JSON.

    Args:
        budget: one number, the leaves still allowed; counted down in place.
    Raises: MethodError invalidArguments, unsupportedFilter.
    Source: RFC 8620 s5.5, RFC 8621 s4.4.1
    """
    if not isinstance(value, dict):
        raise _invalid("a filter must be an object")
    if "operator" not in value:
        budget[0] -= 1
        if budget[0] < 0:
            raise MethodError(
                "unsupportedFilter", f"over {limits.FILTER_CONDITIONS_MAX} conditions"
            )
        return _parse_condition(value)
    check_names(value, ("operator", "conditions"))
    conditions = value.get("conditions")
    if value["operator"] not in ("AND", "OR", "NOT") or not isinstance(conditions, list):
        raise _invalid("a FilterOperator needs an operator AND, OR or NOT, and conditions")
    if depth >= _FILTER_DEPTH_MAX or len(conditions) > limits.FILTER_CONDITIONS_MAX:
        raise MethodError("unsupportedFilter", "the filter is too large")
    parts = tuple(parse_filter(item, budget, depth + 1) for item in conditions)
    return FilterOperator(value["operator"], parts)


def _parse_condition(value: dict[str, Any]) -> EmailCondition:
    fields: dict[str, Any] = {}
    for name, given in value.items():
        if name not in _CONDITIONS:
            raise MethodError("unsupportedFilter", f"there is no filter {name[:60]!r}")
        fields[_FIELD_OF.get(name, name)] = _parse_value(name, given)
    return EmailCondition(**fields)


def _parse_value(name: str, given: Any) -> Any:
    """Raises: MethodError invalidArguments for a value of the wrong kind."""
    is_number = isinstance(given, int) and not isinstance(given, bool)
    match name:
        case "inMailboxOtherThan" | "header":
            is_list = isinstance(given, list) and all(isinstance(item, str) for item in given)
            if is_list and (name != "header" or len(given) in (1, 2)):
                return tuple(given)
        case "hasAttachment":
            if isinstance(given, bool):
                return given
        case "before" | "after":
            if (moment_ms := parse_utc_date(given)) is not None:
                return moment_ms
        case "minSize" | "maxSize":
            if is_number and 0 <= given < 1 << 53:
                return given
        case _ if name in _KEYWORDS:
            if isinstance(given, str) and is_keyword(given):
                return given.lower()
        case _:
            if isinstance(given, str):
                return given
    raise _invalid(f"the value of the filter {name!r} is not what it must be")


def parse_sort(sort: list[dict[str, Any]] | None) -> tuple[EmailSort, ...]:
    """Comparators. Raises: MethodError invalidArguments, unsupportedSort.

    Source: RFC 8621 s4.4.2
    """
    found: list[EmailSort] = []
    for item in sort or []:
        name = item.get("property")
        is_ascending = item.get("isAscending", True)
        if not isinstance(name, str) or not isinstance(is_ascending, bool):
            raise _invalid("a Comparator needs a property, and isAscending true or false")
        if name not in _SORTS | _KEYWORD_SORTS:
            raise MethodError("unsupportedSort", f"Emails are not sorted by {name[:60]!r}")
        allowed = {"property", "isAscending", "collation"}
        check_names(item, allowed | {"keyword"} if name in _KEYWORD_SORTS else allowed)
        collation = item.get("collation")
        if collation is not None and collation not in COLLATIONS:
            raise MethodError("unsupportedSort", f"there is no collation {str(collation)[:60]!r}")
        keyword = item.get("keyword", "")
        if name in _KEYWORD_SORTS and not (isinstance(keyword, str) and is_keyword(keyword)):
            raise _invalid(f"the sort {name} needs a keyword")
        found.append(EmailSort(name, is_ascending, keyword.lower()))
    return tuple(found)


class EmailQuerier:
    """Plans Email/query."""

    def plan_query(
        self, filter: Any, sort: list[dict[str, Any]] | None, arguments: dict[str, Any]
    ) -> EmailQueryPlan:
        """Raises: MethodError invalidArguments, unsupportedFilter, unsupportedSort."""
        budget = [limits.FILTER_CONDITIONS_MAX]
        return EmailQueryPlan(
            EmailQuery(
                None if filter is None else parse_filter(filter, budget),
                parse_sort(sort),
                take_bool(arguments, "collapseThreads"),
            )
        )


def _leaves(filter: EmailFilter | None) -> Iterator[EmailCondition]:
    if isinstance(filter, EmailCondition):
        yield filter
    elif filter is not None:
        for item in filter.conditions:
            yield from _leaves(item)


def _has_text(condition: EmailCondition) -> bool:
    names = ("text", "from_", "to", "cc", "bcc", "subject", "body")
    return any(getattr(condition, name) is not None for name in names)


def _sees_thread(query: EmailQuery) -> bool:
    """Whether the place of an Email depends on the other Emails of its Thread."""
    return (
        query.collapse_threads
        or any("Thread" in comparator.property for comparator in query.sort)
        or any(
            leaf.all_in_thread_have_keyword
            or leaf.some_in_thread_have_keyword
            or leaf.none_in_thread_have_keyword
            for leaf in _leaves(query.filter)
        )
    )


class EmailQueryPlan:
    """One checked Email query."""

    def __init__(self, query: EmailQuery) -> None:
        self._query = query
        self._has_text = any(map(_has_text, _leaves(query.filter)))
        self._has_header = any(leaf.header is not None for leaf in _leaves(query.filter))
        # The index follows at its own pace, so what it adds later is no change of an Email.
        self.can_calculate_changes = not self._has_text
        self._is_simple = isinstance(query.filter, EmailCondition) and query.filter == (
            EmailCondition(in_mailbox=query.filter.in_mailbox)
        )

    async def list_ids(
        self, context: CallContext, account_id: AccountId, window: QueryWindow
    ) -> QueryAnswer:
        """Cost: for one Mailbox by receivedAt O(window); else up to one look at every Email."""
        query = self._query
        if self._has_text:
            await run_index_catch_up(context.services, account_id)
        if self._has_header and query.filter is not None:
            filter = await _replace_headers(context, account_id, query.filter)
            query = msgspec.structs.replace(query, filter=filter)

        async def read(reader: StoreReader) -> QueryAnswer:
            docs, total = await reader.query_emails(query, window.stop, window.has_total)
            state = (await reader.load_states()).get("Email", ModSeq(0))
            return QueryAnswer([encode_email_id(doc) for doc in docs], total, state)

        is_long = window.stop is None or not (self._is_simple or self._has_text)
        return await context.services.store.read(account_id, read, is_long=is_long)

    async def list_affected(
        self, reader: StoreReader, since: ModSeq, limit: int
    ) -> set[str] | None:
        """Changed Emails; with their whole Threads where those decide a place."""
        page = await reader.list_changes("Email", Cursor(since), limit)
        if page.has_more:
            return None
        affected = {*page.created, *page.updated, *page.destroyed}
        if not _sees_thread(self._query):
            return affected
        docs = [doc for doc in map(parse_email_id, affected) if doc is not None]
        thread_ids = {str(row.thread_id) for row in await reader.load_emails(docs)}
        threads = await reader.list_changes("Thread", Cursor(since), limit)
        if threads.has_more:
            return None
        thread_ids.update(threads.created, threads.updated)
        for thread in await reader.load_threads(sorted(thread_ids)):
            affected.update(thread.email_ids)
        return affected if len(affected) <= 10 * limit else None


async def _replace_headers(
    context: CallContext, account_id: AccountId, filter: EmailFilter
) -> EmailFilter:
    """The filter with each `header` condition turned into the Emails that satisfy it."""
    if isinstance(filter, FilterOperator):
        parts = [await _replace_headers(context, account_id, item) for item in filter.conditions]
        return FilterOperator(filter.operator, tuple(parts))
    if filter.header is None:
        return filter
    narrow = msgspec.structs.replace(filter, header=None)

    async def read(reader: StoreReader) -> list[int]:
        query = EmailQuery(filter=narrow)
        docs, _ = await reader.query_emails(query, HEADER_SCAN_EMAILS_MAX + 1, False)
        return docs

    docs = await context.services.store.read(account_id, read, is_long=True)
    if len(docs) > HEADER_SCAN_EMAILS_MAX:
        text = f"a header filter may look at {HEADER_SCAN_EMAILS_MAX} Emails: narrow it"
        raise MethodError("unsupportedFilter", text)
    matching: set[int] = set()
    for start in range(0, len(docs), _SCAN_STEP):
        step = docs[start : start + _SCAN_STEP]
        matching.update(await _match_header(context, account_id, step, filter.header))
    return msgspec.structs.replace(narrow, doc_ids=frozenset(matching))


async def _match_header(
    context: CallContext, account_id: AccountId, docs: list[int], wanted: tuple[str, ...]
) -> list[int]:
    """Those of `docs` whose message has the field (with the text in its value)."""
    services = context.services

    async def read(reader: StoreReader) -> list[tuple[int, str, bytes | None]]:
        rows = await reader.load_emails(docs)
        blobs = await reader.load_blobs([row.blob_id for row in rows])
        return [
            (row.doc_id, row.blob_id, blobs[row.blob_id].data if row.blob_id in blobs else b"")
            for row in rows
        ]

    found = []
    for doc_id, blob_id, data in await services.store.read(account_id, read, is_long=True):
        raw = data
        if raw is None:
            # Header fields stand at the beginning; a giant need not be read whole.
            raw = await services.blobs.get(account_id, blob_id, 0, 256 * limits.KIB) or b""
        if _has_header(raw, wanted):
            found.append(doc_id)
    return found


def _has_header(raw: bytes, wanted: tuple[str, ...]) -> bool:
    """Source: RFC 8621 s4.4.1 (header)"""
    name = wanted[0].lower()
    end = min((i for i in (raw.find(b"\r\n\r\n"), raw.find(b"\n\n")) if i >= 0), default=len(raw))
    head = raw[: end + 4]
    if name.encode() not in head.lower():
        return False
    fields = list_headers(head, parse_message(head).root)
    values = [as_text(value) for field, value in fields if field.lower() == name]
    if len(wanted) == 1:
        return bool(values)
    return any(wanted[1].casefold() in value.casefold() for value in values)
