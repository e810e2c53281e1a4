"""Email/query and its queryChanges (RFC 8621 s4.4, s4.5): filters and sorts, checked and planned.

The store answers everything but `header`, for which the messages themselves are looked at first.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any, Final

import msgspec

from tindra.base import limits
from tindra.base.ids import AccountId, ModSeq, is_id
from tindra.core.arguments import check_names, take_bool
from tindra.core.datatype import Affected, CallContext, QueryAnswer, QueryWindow
from tindra.core.errors import MethodError, Unavailable
from tindra.core.methods.query import READS_MAX
from tindra.core.ports import Cursor, Page, StoreReader
from tindra.core.services import Services
from tindra.features.mail.indexing import run_index_catch_up
from tindra.model.keyword import is_keyword
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
from tindra.wire.jmap.filter import fold_filter
from tindra.wire.mime.header import as_text
from tindra.wire.mime.parse import list_headers, parse_message

QUICK_IDS_MAX: Final = 500
"""Ids that a quick query may give on the loop: about a millisecond."""
_STEPS: Final = (QUICK_IDS_MAX, 5_000)
"""How many ids are looked at, one after the other, for some whose places are not known."""
HEADER_SCAN_EMAILS_MAX: Final = 20_000
"""Messages that the `header` conditions of one query may make us look at, each counted for itself;
narrow the filter otherwise."""
HEADER_TEXT_CHARS_MAX: Final = 1000
"""Of the text of a `header` condition: it is looked for in many fields of many messages."""
_SCAN_STEP = 200
_HEAD_BYTES_MAX = 256 * limits.KIB
"""Of a message: header fields stand at its beginning, so a giant need not be read whole."""

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
SORT_OPTIONS = tuple(sorted(_SORTS | _KEYWORD_SORTS))


def _invalid(text: str) -> MethodError:
    return MethodError("invalidArguments", text)


def parse_filter(value: Any) -> EmailFilter:
    """A filter from its JSON.

    Raises: MethodError invalidArguments, unsupportedFilter.
    Source: RFC 8620 s5.5, RFC 8621 s4.4.1
    """

    def join(operator: Any, parts: list[EmailFilter]) -> EmailFilter:
        return FilterOperator(operator, tuple(parts))

    return fold_filter(value, _parse_condition, join)


def _parse_condition(value: dict[str, Any]) -> EmailFilter:
    fields: dict[str, Any] = {}
    for name, given in value.items():
        if name not in _CONDITIONS:
            raise MethodError("unsupportedFilter", f"there is no filter {name[:60]!r}")
        fields[_FIELD_OF.get(name, name)] = _parse_value(name, given)
    return EmailCondition(**fields)


def _parse_value(name: str, given: Any) -> Any:
    """Raises: MethodError invalidArguments for a value of the wrong kind."""
    is_number = isinstance(given, int) and not isinstance(given, bool)
    is_strings = isinstance(given, list) and all(isinstance(item, str) for item in given)
    match name:
        case "inMailbox":
            if isinstance(given, str) and is_id(given):
                return given
        case "inMailboxOtherThan":
            if is_strings and all(map(is_id, given)):
                return tuple(given)
        case "header":
            if is_strings and len(given) in (1, 2):
                if len(given[-1]) > HEADER_TEXT_CHARS_MAX:
                    text = f"a header filter looks for {HEADER_TEXT_CHARS_MAX} characters at most"
                    raise MethodError("unsupportedFilter", text)
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
    """Comparators, whose generic properties were checked.

    Raises: MethodError invalidArguments, unsupportedSort.

    Source: RFC 8621 s4.4.2
    """
    found: list[EmailSort] = []
    for item in sort or []:
        name = item["property"]
        if name not in _SORTS | _KEYWORD_SORTS:
            raise MethodError("unsupportedSort", f"Emails are not sorted by {name[:60]!r}")
        allowed = {"property", "isAscending", "collation"}
        check_names(item, allowed | {"keyword"} if name in _KEYWORD_SORTS else allowed)
        keyword = item.get("keyword", "")
        if name in _KEYWORD_SORTS and not (isinstance(keyword, str) and is_keyword(keyword)):
            raise _invalid(f"the sort {name} needs a keyword")
        found.append(EmailSort(name, item.get("isAscending", True), keyword.lower()))
    return tuple(found)


class EmailQuerier:
    """Plans Email/query."""

    def plan_query(
        self, filter: Any, sort: list[dict[str, Any]] | None, arguments: dict[str, Any]
    ) -> EmailQueryPlan:
        """Raises: MethodError invalidArguments, unsupportedFilter, unsupportedSort."""
        return EmailQueryPlan(
            EmailQuery(
                None if filter is None else parse_filter(filter),
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


def _asks_header(filter: EmailFilter) -> bool:
    return any(leaf.header is not None for leaf in _leaves(filter))


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


def _is_quick(query: EmailQuery) -> bool:
    """Whether the first ids come straight from an index in their order: all mail, a bare Mailbox,
    or bare words, by arrival. Anything else may look at every Email, so it leaves the loop."""
    filter = query.filter
    if len(query.sort) > 1 or any(item.property != "receivedAt" for item in query.sort):
        return False
    return filter is None or (
        isinstance(filter, EmailCondition)
        and filter
        in (
            EmailCondition(in_mailbox=filter.in_mailbox),
            EmailCondition(text=filter.text),
        )
    )


class EmailQueryPlan:
    """One checked Email query."""

    def __init__(self, query: EmailQuery) -> None:
        self._query = query
        self._has_text = any(map(_has_text, _leaves(query.filter)))
        self._has_header = query.filter is not None and _asks_header(query.filter)
        # The index follows at its own pace, so what it adds later is no change of an Email.
        self.can_calculate_changes = not self._has_text
        self._is_quick = _is_quick(query)
        filter = query.filter
        self._is_kept = isinstance(filter, EmailCondition) and filter.in_mailbox is not None
        """Of a quick query: the Mailbox knows the total."""

    async def list_ids(
        self, context: CallContext, account_id: AccountId, window: QueryWindow
    ) -> QueryAnswer:
        """The page, found by the store, or else the beginning.

        Cost: for all mail or one Mailbox by receivedAt O(ids that come back), else up to one
        look at every Email; a page far down, or around an anchor: see StoreReader.query_page.
        """
        if window.page is not None:
            page = _to_docs(window.page)
            is_short = page.anchor is None and 0 <= page.position <= QUICK_IDS_MAX - page.limit
            is_long = not (self._is_quick and is_short) or (window.has_total and not self._is_kept)

            async def read_page(reader: StoreReader, query: EmailQuery) -> QueryAnswer:
                found = await reader.query_page(query, page, window.has_total)
                if found is None:
                    raise MethodError("anchorNotFound", "the anchor is not in the result")
                ids: list[str] = [encode_email_id(doc) for doc in found.doc_ids]
                state = await _load_state(reader)
                return QueryAnswer(ids, found.total, state, position=found.position)

            return await self._read(context, account_id, read_page, is_long=is_long)
        stops = [window.stop]
        if window.until is not None and self._is_quick:
            longest = float("inf") if window.stop is None else window.stop
            stops = [*(step for step in _STEPS if step < longest), window.stop]
        for stop in stops:
            answer = await self._list_first(context, account_id, window._replace(stop=stop))
            if stop is None or len(answer.ids) < stop:
                break
            if window.until is not None and window.until <= set(answer.ids):
                break
        return answer

    async def _list_first(
        self, context: CallContext, account_id: AccountId, window: QueryWindow
    ) -> QueryAnswer:
        async def read_first(reader: StoreReader, query: EmailQuery) -> QueryAnswer:
            docs, total = await reader.query_emails(query, window.stop, window.has_total)
            state = await _load_state(reader)
            return QueryAnswer([encode_email_id(doc) for doc in docs], total, state)

        is_short = window.stop is not None and window.stop <= QUICK_IDS_MAX
        is_long = window.has_total or not (is_short and self._is_quick)
        return await self._read(context, account_id, read_first, is_long=is_long)

    async def _read(
        self,
        context: CallContext,
        account_id: AccountId,
        fn: Callable[[StoreReader, EmailQuery], Awaitable[QueryAnswer]],
        *,
        is_long: bool,
    ) -> QueryAnswer:
        """What `fn` reads, of words that are indexed and headers that were looked at."""
        suffix = ""
        if self._has_text and not await run_index_catch_up(
            context.whole_services or context.services, account_id
        ):
            # The index goes on without any change of an Email: this answer has no equal.
            suffix = f"-{context.services.clock.now_ms()}"
        scan = _HeaderScan(context.services, account_id) if self._has_header else None
        for _ in range(READS_MAX):
            query, scanned = self._query, None
            if scan is not None and query.filter is not None:
                scanned, filter = await scan.replace(query.filter)
                query = msgspec.structs.replace(query, filter=filter)

            async def read(reader: StoreReader, query: EmailQuery = query) -> QueryAnswer:
                return await fn(reader, query)

            answer = await context.services.store.read(account_id, read, is_long=is_long)
            # If Emails came while messages were looked at, those are looked at, too.
            if scanned in (None, answer.state):
                return answer._replace(suffix=suffix)
        raise Unavailable("the account changes too fast for this query")

    async def list_affected(
        self, reader: StoreReader, since: ModSeq, limit: int
    ) -> Affected | None:
        """Changed Emails; with their whole Threads where those decide a place."""
        affected = await self._list_affected(reader, since, limit)
        if affected is None or not self._is_quick:
            return None if affected is None else Affected(affected)
        docs = frozenset(doc for doc in map(parse_email_id, affected) if doc is not None)
        only = EmailCondition(doc_ids=docs)
        filter = self._query.filter
        both = only if filter is None else FilterOperator("AND", (filter, only))
        # Whole Threads are looked at where only one Email of each is shown, so this is exact.
        query = msgspec.structs.replace(self._query, filter=both)
        there, _ = await reader.query_emails(query, None, False)
        return Affected(affected, {encode_email_id(doc) for doc in there})

    async def _list_affected(
        self, reader: StoreReader, since: ModSeq, limit: int
    ) -> set[str] | None:
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


def _to_docs(page: Page[str]) -> Page[int]:
    """With the number of the Email that is the anchor; one that no Email has for any other id."""
    doc_id = None if page.anchor is None else parse_email_id(page.anchor)
    anchor = -1 if page.anchor is not None and doc_id is None else doc_id
    return Page(page.position, page.limit, anchor, page.offset)


async def _load_state(reader: StoreReader) -> ModSeq:
    return (await reader.load_states()).get("Email", ModSeq(0))


class _HeaderScan:
    """Turns `header` conditions into the Emails that satisfy them.

    Looks at each message at most once for one condition, however often it is asked.
    """

    def __init__(self, services: Services, account_id: AccountId) -> None:
        self._services = services
        self._account_id = account_id
        self._seen: dict[tuple[str, ...], dict[int, bool]] = {}
        self._left = HEADER_SCAN_EMAILS_MAX

    async def replace(self, filter: EmailFilter) -> tuple[ModSeq, EmailFilter]:
        """The filter without `header`, and the state of Email that it surely is right for.

        Raises: MethodError unsupportedFilter.
        """
        state = await self._services.store.read(self._account_id, _load_state)
        return state, await self._replace(filter, ())

    async def _replace(self, filter: EmailFilter, known: tuple[EmailFilter, ...]) -> EmailFilter:
        """
        Args:
            known: conditions that hold of every Email for which `filter` decides anything. They
                only narrow what is looked at, so that they are right under any NOT.
        """
        if isinstance(filter, FilterOperator):
            if filter.operator == "AND":
                known += tuple(item for item in filter.conditions if not _asks_header(item))
            parts = [await self._replace(item, known) for item in filter.conditions]
            return FilterOperator(filter.operator, tuple(parts))
        if filter.header is None:
            return filter
        narrow = msgspec.structs.replace(filter, header=None)
        docs = await self._list_candidates(FilterOperator("AND", (*known, narrow)))
        matching = await self._match(docs, filter.header)
        return msgspec.structs.replace(narrow, doc_ids=matching)

    async def _list_candidates(self, filter: EmailFilter) -> list[int]:
        async def read(reader: StoreReader) -> list[int]:
            query = EmailQuery(filter=filter)
            docs, _ = await reader.query_emails(query, HEADER_SCAN_EMAILS_MAX + 1, False)
            return docs

        return await self._services.store.read(self._account_id, read, is_long=True)

    async def _match(self, docs: Sequence[int], wanted: tuple[str, ...]) -> frozenset[int]:
        """Those of `docs` whose message has the field (with the text in its value)."""
        seen = self._seen.setdefault(wanted, {})
        fresh = [doc_id for doc_id in docs if doc_id not in seen]
        self._left -= len(fresh)
        if self._left < 0:
            text = f"a header filter may look at {HEADER_SCAN_EMAILS_MAX} Emails: narrow it"
            raise MethodError("unsupportedFilter", text)
        for start in range(0, len(fresh), _SCAN_STEP):
            heads = await self._load_heads(fresh[start : start + _SCAN_STEP])
            seen.update(await self._services.offload.run(_scan_heads, heads, wanted))
        return frozenset(doc_id for doc_id in docs if seen.get(doc_id, False))

    async def _load_heads(self, docs: list[int]) -> list[tuple[int, bytes]]:
        """The beginnings of messages, in which all their header fields are."""

        async def read(reader: StoreReader) -> list[tuple[int, str, bytes | None]]:
            rows = await reader.load_emails(docs)
            blobs = await reader.load_blobs([row.blob_id for row in rows])
            return [
                (row.doc_id, row.blob_id, blobs[row.blob_id].data if row.blob_id in blobs else b"")
                for row in rows
            ]

        found = []
        for doc_id, blob_id, data in await self._services.store.read(
            self._account_id, read, is_long=True
        ):
            head = data
            if head is None:
                get = self._services.blobs.get
                head = await get(self._account_id, blob_id, 0, _HEAD_BYTES_MAX)
            found.append((doc_id, head or b""))
        return found


def _scan_heads(heads: list[tuple[int, bytes]], wanted: tuple[str, ...]) -> dict[int, bool]:
    name, text = wanted[0].lower(), wanted[1].casefold() if len(wanted) > 1 else None
    return {doc_id: _has_header(head, name, text) for doc_id, head in heads}


def _has_header(raw: bytes, name: str, text: str | None) -> bool:
    """Source: RFC 8621 s4.4.1 (header)"""
    end = min((i for i in (raw.find(b"\r\n\r\n"), raw.find(b"\n\n")) if i >= 0), default=len(raw))
    head = raw[: end + 4]
    if name.encode() not in head.lower():
        return False
    fields = list_headers(head, parse_message(head).root)
    values = (as_text(value) for field, value in fields if field.lower() == name)
    return any(text is None or text in value.casefold() for value in values)
