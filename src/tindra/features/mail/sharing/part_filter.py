"""Email filters of somebody who sees a part of an account, as filters on the whole of it.

No condition may tell of a Mailbox, or of another Email of a Thread, that is not in sight. So what
names Mailboxes is rewritten to visible ones, and what looks at Threads is answered here, from the
visible Emails. Source: RFC 8621 s4.4.1
"""

from __future__ import annotations

from collections.abc import Set
from typing import Final, Protocol

import msgspec

from tindra.base.ids import MailboxId
from tindra.core.errors import MethodError
from tindra.model.mail import (
    EmailCondition,
    EmailFilter,
    EmailQuery,
    EmailRow,
    FilterOperator,
    ThreadRow,
    parse_email_id,
)

THREAD_EMAILS_MAX: Final = 20_000
"""Emails that the conditions on Threads of one query may make us look at, each counted for itself;
narrow the filter otherwise."""
PLACES_MAX: Final = 1_000
"""Mailboxes that the conditions of one query may come to name: five times all that a user sees."""
_NOTHING: Final = EmailCondition(doc_ids=frozenset())
_ALL: Final = EmailCondition()
_replace = msgspec.structs.replace


class _Seen(Protocol):
    async def query_emails(
        self, query: EmailQuery, stop: int | None, has_total: bool
    ) -> tuple[list[int], int | None]: ...
    async def load_emails(self, doc_ids: list[int]) -> list[EmailRow]: ...
    async def load_threads(self, ids: list[str]) -> list[ThreadRow]: ...


class FilterNarrower:
    """Rewrites the filters of one query."""

    def __init__(self, seen: _Seen, readable: Set[MailboxId], anywhere: EmailFilter) -> None:
        """
        Args:
            seen: what is in sight.
            anywhere: the condition that an Email is.
        """
        self._seen = seen
        self._readable = readable
        self._anywhere = anywhere
        self._emails_left = THREAD_EMAILS_MAX
        self._places_left = PLACES_MAX

    async def narrow(self, filter: EmailFilter | None) -> EmailFilter:
        """Raises: MethodError unsupportedFilter."""
        if filter is None:
            return self._anywhere
        narrowed = await self._rewrite(filter)
        if isinstance(narrowed, EmailCondition) and narrowed.in_mailbox is not None:
            return narrowed  # in sight by itself, and as quick as for the owner
        return FilterOperator("AND", (self._anywhere, narrowed))

    async def _rewrite(self, filter: EmailFilter) -> EmailFilter:
        if isinstance(filter, FilterOperator):
            parts = [await self._rewrite(item) for item in filter.conditions]
            return FilterOperator(filter.operator, tuple(parts))
        if filter.in_mailbox is not None and filter.in_mailbox not in self._readable:
            return _NOTHING
        parts = []
        if filter.in_mailbox_other_than is not None:
            others = sorted(self._readable - set(filter.in_mailbox_other_than))
            places = tuple(EmailCondition(in_mailbox=id) for id in others)
            self._places_left -= len(places)
            if self._places_left < 0:
                text = f"these conditions come to name over {PLACES_MAX} Mailboxes: use inMailbox"
                raise MethodError("unsupportedFilter", text)
            parts.append(FilterOperator("OR", places) if places else _NOTHING)
        for keyword, names_with, is_wanted in (
            (filter.some_in_thread_have_keyword, True, True),
            (filter.none_in_thread_have_keyword, True, False),
            (filter.all_in_thread_have_keyword, False, False),
        ):
            if keyword is not None:
                docs = await self._list_by_thread(keyword, names_with)
                part = EmailCondition(doc_ids=docs)
                parts.append(part if is_wanted else FilterOperator("NOT", (part,)))
        own = _replace(
            filter,
            in_mailbox_other_than=None,
            all_in_thread_have_keyword=None,
            some_in_thread_have_keyword=None,
            none_in_thread_have_keyword=None,
        )
        if not parts:
            return own
        return FilterOperator("AND", (*parts, own) if own != _ALL else tuple(parts))

    async def _list_by_thread(self, keyword: str, has_it: bool) -> frozenset[int]:
        """Visible Emails of Threads in which a visible one has a keyword (or has it not)."""
        condition = (
            EmailCondition(has_keyword=keyword) if has_it else EmailCondition(not_keyword=keyword)
        )
        query = EmailQuery(filter=condition)
        docs, _ = await self._seen.query_emails(query, self._emails_left + 1, False)
        self._emails_left -= len(docs)
        if self._emails_left < 0:
            text = f"conditions on Threads may look at {THREAD_EMAILS_MAX} Emails: narrow them"
            raise MethodError("unsupportedFilter", text)
        thread_ids = sorted({str(row.thread_id) for row in await self._seen.load_emails(docs)})
        threads = await self._seen.load_threads(thread_ids)
        found = (parse_email_id(id) for thread in threads for id in thread.email_ids)
        return frozenset(doc_id for doc_id in found if doc_id is not None)
