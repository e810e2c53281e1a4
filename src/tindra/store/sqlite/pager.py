"""Reads a compiled query: its beginning, its count, and any page of it (RFC 8620 s5.5).

A page is read from the nearer end of the result, or from its anchor, so that what lies on the other
side is not looked at where an index has the order; the count of what lies before an anchor is its
position. Of a result that must be sorted SQLite keeps no more rows than it skips and gives.
Where one Email stands for its Thread, the result is walked from its top and Threads are remembered,
except in one Mailbox or all mail by receivedAt: there, an Email can be asked whether it is the
first of its Thread.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from tindra.core.ports import Page
from tindra.store.sqlite.connection import StoreConnection
from tindra.store.sqlite.query import Compiled

ALL: Final = -1
"""As a LIMIT."""


class Pager:
    """One query, read on one snapshot."""

    def __init__(self, conn: StoreConnection, query: Compiled, *, is_collapsed: bool) -> None:
        self._run: Callable[..., Any] = conn.execute
        self._query = query
        self._is_collapsed = is_collapsed
        self._firsts = _make_firsts(query) if is_collapsed else ""

    def list_first(self, stop: int | None) -> list[int]:
        """The first `stop` doc_ids, or all. Cost: in the order of an index, O(stop) rows."""
        if stop == 0:
            return []
        if not self._is_collapsed:
            return self._list(take=ALL if stop is None else stop)
        rows = self._run(self._query.list_sql(is_cut=False), self._query.params)
        seen: set[str] = set()
        doc_ids: list[int] = []
        for doc_id, thread_id in rows:
            if thread_id not in seen:
                seen.add(thread_id)
                doc_ids.append(doc_id)
                if len(doc_ids) == stop:
                    break
        rows.close()
        return doc_ids

    def count(self) -> int:
        """How many there are. Cost: one row for all of a Mailbox, else a count of the matches."""
        query = self._query
        if query.counted_mailbox is None:
            if query.is_every and self._is_collapsed:
                sql = "SELECT count(*) FROM thread WHERE account_id = :a"
                return int(self._run(sql, query.params).get)
            return self._count("")
        column = "total_threads" if self._is_collapsed else "total_emails"
        total = self._run(
            f"SELECT {column} FROM mailbox_count WHERE account_id = :a"
            " AND mailbox_id = :mailbox AND principal_id = ''",
            {"a": query.params["a"], "mailbox": query.counted_mailbox},
        ).get
        return int(total or 0)

    def read(self, page: Page[int]) -> tuple[int, list[int]] | None:
        """The position of a page and its doc_ids; None when the anchor is not in the result."""
        is_from_top = page.anchor is None and page.position >= 0
        if self._is_collapsed and not self._firsts:
            return page.cut(self.list_first(page.position + page.limit if is_from_top else None))
        if page.anchor is not None:
            return self._read_around(page, page.anchor)
        if is_from_top and self._query.counted_mailbox is None:
            return page.position, self._read_from_top(page.position, page.limit)
        total = self.count()
        start = page.position if is_from_top else max(0, total + page.position)
        take = max(0, min(page.limit, total - start))
        after = total - start - take
        if start < after:
            return start, self._read_from_top(start, take)
        return start, self._list(is_reversed=True, skip=after, take=take)

    def _read_from_top(self, skip: int, take: int) -> list[int]:
        if self._is_collapsed:
            return self.list_first(skip + take)[skip:]
        return self._list(skip=skip, take=take)

    def _read_around(self, page: Page[int], anchor: int) -> tuple[int, list[int]] | None:
        keys = self._query.keys
        row = self._run(
            f"SELECT {', '.join(key.sql for key in keys)}{self._query.body}{self._firsts}"
            f" AND {keys[-1].sql} = :anchor",
            self._query.params | {"anchor": self._query.key_base + anchor},
        ).fetchone()
        if row is None:
            return None
        values = {f"k{place}": value for place, value in enumerate(row)}
        before, after = _make_side(self._query, is_before=True), _make_side(self._query)
        rank = self._count(before, values)
        start = max(0, rank + page.offset)
        over = max(0, rank - start)
        take = min(over, page.limit)
        doc_ids = self._list(before, values, is_reversed=True, skip=over - take, take=take)
        skip = max(0, start - rank)
        return start, doc_ids + self._list(after, values, skip=skip, take=page.limit - take)

    def _count(self, where: str, values: dict[str, Any] | None = None) -> int:
        sql = self._query.count_sql(where, is_collapsed=self._is_collapsed)
        return int(self._run(sql, self._query.params | (values or {})).get)

    def _list(
        self,
        where: str = "",
        values: dict[str, Any] | None = None,
        *,
        is_reversed: bool = False,
        skip: int = 0,
        take: int,
    ) -> list[int]:
        """doc_ids in result order; `is_reversed` counts what is skipped and taken from the end."""
        if take == 0:
            return []
        params = self._query.params | (values or {}) | {"skip": skip, "take": take}
        sql = self._query.list_sql(where + self._firsts, is_reversed=is_reversed)
        doc_ids = [doc_id for doc_id, _ in self._run(sql, params)]
        return doc_ids[::-1] if is_reversed else doc_ids


def _make_side(query: Compiled, *, is_before: bool = False) -> str:
    """The condition that an Email stands before the values `:k0`, `:k1` ..., or else not."""
    found = ""
    for place, key in reversed(list(enumerate(query.keys))):
        sign = "<" if key.is_ascending == is_before else ">"
        if not found:
            found = f"{key.sql} {sign if is_before else sign + '='} :k{place}"
        else:
            found = f"({key.sql} {sign} :k{place} OR ({key.sql} = :k{place} AND {found}))"
    return f" AND {found}"


def _make_firsts(query: Compiled) -> str:
    """The condition that no Email of the same Thread stands before this one.

    Empty where that cannot be seen from two indexes: with another filter, or another order.
    """
    if len(query.keys) > 1 or not (query.is_every or query.counted_mailbox):
        return ""
    sign = "<" if query.keys[0].is_ascending else ">"
    place = ""
    if query.counted_mailbox is not None:
        place = (
            " AND EXISTS (SELECT 1 FROM email_mailbox fm WHERE fm.account_id = :a"
            " AND fm.mailbox_id = d.mailbox_id AND fm.doc_id = f.doc_id)"
        )
    return (
        " AND NOT EXISTS (SELECT 1 FROM email f WHERE f.account_id = :a"
        f" AND f.thread_id = {query.thread} AND f.doc_id {sign} {query.doc}{place})"
    )
