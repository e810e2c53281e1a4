"""Compiles an Email query to one SQL statement over bound parameters (RFC 8621 s4.4).

No user text ever becomes SQL: names come from this file, values are bound. A statement has one
*driver*, the narrowest list that the filter allows (search hits, Emails with a keyword, Emails of a
Mailbox, all Emails); each is stored in doc_id order, which is receivedAt order, so the usual query
reads only as many rows as it answers. CROSS JOIN keeps SQLite to that choice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple, cast

import msgspec

from tindra.core.errors import MethodError
from tindra.model.mail import (
    DOC_COUNTER_BITS,
    EmailCondition,
    EmailFilter,
    EmailQuery,
    EmailSort,
    FilterOperator,
)
from tindra.store.sqlite.rows import SEEN, UNSEEN, marker_of
from tindra.store.sqlite.search_table import SearchRange
from tindra.store.words import build_match

DOC_ID_END: Final = 1 << 53
"""Above every doc_id."""
FEW_EMAILS_MAX: Final = 1_000
"""A keyword on fewer Emails than this drives the query even where a Mailbox could."""

TEXT_FIELDS: Final = ("text", "from_", "to", "cc", "bcc", "subject", "body")
_SORT_COLUMNS: Final = {
    "size": "e.size",
    "from": "e.from_key",
    "to": "e.to_key",
    "subject": "e.subject_key",
    "sentAt": "e.sent_ms",
}


class Key(NamedTuple):
    """What a result is ordered by, in turn."""

    sql: str
    """May stand beside a comparison as it is."""
    is_ascending: bool


class Compiled(NamedTuple):
    """One query as SQL, in parts: what it reads, from where, in which order."""

    doc: str
    thread: str
    body: str
    """" FROM ... WHERE ..."; a condition may be added to it with AND."""
    keys: tuple[Key, ...]
    """The last of them is the driver's own, which no two rows share: nothing follows it."""
    key_base: int
    """The driver's key of an Email is its doc_id above this."""
    params: dict[str, Any]
    counted_mailbox: str | None
    """The Mailbox whose counters hold the total, when the filter is only inMailbox."""
    is_every: bool
    """There is no filter."""

    def list_sql(self, where: str = "", *, is_reversed: bool = False, is_cut: bool = True) -> str:
        """Rows (doc_id, thread_id) in result order, or from its end; from `:skip`, `:take` of them
        (-1 for all), if it `is_cut`."""
        order = ", ".join(
            f"{key.sql} {'ASC' if key.is_ascending != is_reversed else 'DESC'}" for key in self.keys
        )
        cut = " LIMIT :take OFFSET :skip" if is_cut else ""
        return f"SELECT {self.doc}, {self.thread}{self.body}{where} ORDER BY {order}{cut}"

    def count_sql(self, where: str = "", *, is_collapsed: bool) -> str:
        """How many there are, or how many Threads they are of."""
        counted = f"DISTINCT {self.thread}" if is_collapsed else "*"
        return f"SELECT count({counted}){self.body}{where}"


class Sources(NamedTuple):
    """What the compiler asks of the account."""

    load_index: Callable[[], SearchRange | None]
    """Where the account's search rows are; None when nothing was indexed yet."""
    is_rare: Callable[[str], bool]
    """Whether fewer than FEW_EMAILS_MAX rows of email_keyword have this name."""


def compile_query(account_id: str, query: EmailQuery, sources: Sources) -> Compiled:
    """`query` as SQL. Raises: MethodError (unsupportedSort) on an unknown property."""
    return _Compiler(account_id, sources).compile(query)


class _Compiler:
    """Builds one statement; `d` is the driver, `e` the Email, joined only if something needs it."""

    def __init__(self, account_id: str, sources: Sources) -> None:
        self._params: dict[str, Any] = {"a": account_id}
        self._sources = sources
        self._doc = "d.doc_id"
        self._key = "d.doc_id"  # what the driver is stored by: the doc_id above `_key_base`
        self._key_base = 0
        self._thread = "d.thread_id"
        self._has_email = False

    def compile(self, query: EmailQuery) -> Compiled:
        required = list(_conjuncts(query.filter))
        driver = self._driver(required)
        where = [driver[1]] if driver[1] else []
        where += [self._node(node) for node in required]
        order = self._order(query.sort)
        join = ""
        if self._has_email and driver[0] != "email e":
            join = f" CROSS JOIN email e ON e.account_id = :a AND e.doc_id = {self._doc}"
        return Compiled(
            self._doc,
            self._thread,
            f" FROM {driver[0]}{join} WHERE {' AND '.join(where)}",
            order,
            self._key_base,
            self._params,
            _only_mailbox(query.filter),
            query.filter is None,
        )

    def _bind(self, value: Any) -> str:
        name = f"p{len(self._params)}"
        self._params[name] = value
        return f":{name}"

    # -- the driver -------------------------------------------------------------------------------
    def _driver(self, required: list[EmailFilter]) -> tuple[str, str]:
        """The table to read from and the condition that selects its rows.

        A condition that the driver answers is taken out of `required`.
        """
        return (
            self._search_driver(required)
            or self._keyword_driver(required, is_forced=False)
            or self._mailbox_driver(required)
            or self._keyword_driver(required, is_forced=True)
            or self._email_driver()
        )

    def _search_driver(self, required: list[EmailFilter]) -> tuple[str, str] | None:
        texts: list[tuple[str, str]] = []
        for place, leaf in _leaves(required):
            found = _texts(leaf)
            if found:
                texts += found
                _drop(required, place, *(name for name, _ in found))
        if not texts:
            return None
        rows = self._sources.load_index()
        match = build_match(texts)
        if rows is None or match is None:
            source, where = self._email_driver()
            return source, f"{where} AND 0"
        first, end = self._bind(rows.first), self._bind(rows.end)
        self._key, self._key_base = "d.rowid", rows.first
        self._doc, self._thread, self._has_email = f"(d.rowid - {first})", "e.thread_id", True
        where = (
            f"d.{rows.table} MATCH {self._bind(match)} AND d.rowid >= {first} AND d.rowid < {end}"
        )
        return f"search.{rows.table} d", where

    def _keyword_driver(
        self, required: list[EmailFilter], *, is_forced: bool
    ) -> tuple[str, str] | None:
        for place, leaf in _leaves(required):
            for field, name in _listed(leaf):
                if is_forced or self._sources.is_rare(name):
                    _drop(required, place, field)
                    where = f"d.account_id = :a AND d.keyword = {self._bind(name)}"
                    return "email_keyword d", where
        return None

    def _mailbox_driver(self, required: list[EmailFilter]) -> tuple[str, str] | None:
        for place, leaf in _leaves(required):
            if leaf.in_mailbox is not None:
                _drop(required, place, "in_mailbox")
                where = f"d.account_id = :a AND d.mailbox_id = {self._bind(leaf.in_mailbox)}"
                return "email_mailbox d", where
        return None

    def _email_driver(self) -> tuple[str, str]:
        self._doc = self._key = "e.doc_id"
        self._thread, self._has_email = "e.thread_id", True
        return "email e", "e.account_id = :a"

    # -- the filter -------------------------------------------------------------------------------
    def _node(self, node: EmailFilter, *, is_negated: bool = False) -> str:
        if isinstance(node, EmailCondition):
            return self._condition(node, is_negated)
        negates = node.operator == "NOT"
        parts = [self._node(child, is_negated=is_negated != negates) for child in node.conditions]
        if node.operator == "AND":
            return f"({' AND '.join(parts)})" if parts else "1"
        either = f"({' OR '.join(parts)})" if parts else "0"
        return f"NOT {either}" if negates else either

    def _condition(self, leaf: EmailCondition, is_negated: bool) -> str:
        parts = list(self._predicates(leaf))
        if leaf.header is not None:
            # Unknown here: let it be what leaves the Email in, under any nesting of NOT.
            parts.append("0" if is_negated else "1")
        return f"({' AND '.join(parts)})" if parts else "1"

    def _predicates(self, leaf: EmailCondition) -> Iterator[str]:
        yield from self._places(leaf)
        yield from self._values(leaf)
        yield from self._keywords(leaf)
        texts = _texts(leaf)
        if texts:
            yield self._text(texts)

    def _places(self, leaf: EmailCondition) -> Iterator[str]:
        if leaf.in_mailbox is not None:
            yield (
                "EXISTS (SELECT 1 FROM email_mailbox m WHERE m.account_id = :a"
                f" AND m.mailbox_id = {self._bind(leaf.in_mailbox)} AND m.doc_id = {self._doc})"
            )
        if leaf.in_mailbox_other_than is not None:
            self._has_email = True
            others = self._bind(msgspec.json.encode(leaf.in_mailbox_other_than).decode())
            yield (
                "EXISTS (SELECT 1 FROM json_each(e.mailbox_ids) m"
                f" WHERE m.key NOT IN (SELECT value FROM json_each({others})))"
            )
        if leaf.doc_ids is not None:
            known = self._bind(msgspec.json.encode(sorted(leaf.doc_ids)).decode())
            yield f"{self._doc} IN (SELECT value FROM json_each({known}))"

    def _values(self, leaf: EmailCondition) -> Iterator[str]:
        if leaf.after is not None:
            yield f"{self._key} >= {self._bind(self._key_base + _first_doc_id(leaf.after))}"
        if leaf.before is not None:
            yield f"{self._key} < {self._bind(self._key_base + _first_doc_id(leaf.before))}"
        if leaf.min_size is not None:
            self._has_email = True
            yield f"e.size >= {self._bind(leaf.min_size)}"
        if leaf.max_size is not None:
            self._has_email = True
            yield f"e.size < {self._bind(leaf.max_size)}"
        if leaf.has_attachment is not None:
            self._has_email = True
            yield f"e.has_attachment = {int(leaf.has_attachment)}"

    def _keywords(self, leaf: EmailCondition) -> Iterator[str]:
        if leaf.has_keyword is not None:
            yield self._has_keyword(leaf.has_keyword)
        if leaf.not_keyword is not None:
            yield f"NOT {self._has_keyword(leaf.not_keyword)}"
        if leaf.some_in_thread_have_keyword is not None:
            yield self._in_thread(leaf.some_in_thread_have_keyword, "> 0")
        if leaf.none_in_thread_have_keyword is not None:
            yield "NOT " + self._in_thread(leaf.none_in_thread_have_keyword, "> 0")
        if leaf.all_in_thread_have_keyword is not None:
            yield "NOT " + self._in_thread(leaf.all_in_thread_have_keyword, "= 0")

    def _has_keyword(self, keyword: str) -> str:
        keyword = keyword.lower()
        listed = UNSEEN if keyword == SEEN else keyword
        exists = (
            "EXISTS (SELECT 1 FROM email_keyword k WHERE k.account_id = :a"
            f" AND k.keyword = {self._bind(listed)} AND k.doc_id = {self._doc})"
        )
        return f"(NOT {exists})" if keyword == SEEN else exists

    def _in_thread(self, keyword: str, found: str) -> str:
        """Whether an Email of the Thread has the keyword (`> 0`) or lacks it (`= 0`)."""
        marker = self._bind(marker_of(keyword.lower()))
        return (
            "EXISTS (SELECT 1 FROM email t WHERE t.account_id = :a"
            f" AND t.thread_id = {self._thread} AND instr(t.keywords, {marker}) {found})"
        )

    def _text(self, texts: list[tuple[str, str]]) -> str:
        rows = self._sources.load_index()
        match = build_match(texts)
        if rows is None or match is None:
            return "0"
        first, end = self._bind(rows.first), self._bind(rows.end)
        return (
            f"{self._doc} IN (SELECT rowid - {first} FROM search.{rows.table}"
            f" WHERE {rows.table} MATCH {self._bind(match)} AND rowid >= {first} AND rowid < {end})"
        )

    # -- the order --------------------------------------------------------------------------------
    def _order(self, sort: tuple[EmailSort, ...]) -> tuple[Key, ...]:
        """doc_id order is receivedAt order, so a last receivedAt needs no column, and no tie."""
        keys: list[Key] = []
        for place, comparator in enumerate(sort):
            is_ascending = comparator.is_ascending
            if comparator.property != "receivedAt":
                keys.append(Key(self._sort_key(comparator), is_ascending))
            elif place == len(sort) - 1:
                return (*keys, Key(self._key, is_ascending))
            else:
                keys.append(Key(f"({self._doc} >> {DOC_COUNTER_BITS})", is_ascending))
        return (*keys, Key(self._key, is_ascending=False))

    def _sort_key(self, comparator: EmailSort) -> str:
        column = _SORT_COLUMNS.get(comparator.property)
        if column is not None:
            self._has_email = True
            return column
        if comparator.property == "hasKeyword":
            return self._has_keyword(comparator.keyword)
        if comparator.property == "someInThreadHaveKeyword":
            return self._in_thread(comparator.keyword, "> 0")
        if comparator.property == "allInThreadHaveKeyword":
            return f"(NOT {self._in_thread(comparator.keyword, '= 0')})"
        raise MethodError("unsupportedSort", f"no sort by {comparator.property!r}")


def _conjuncts(node: EmailFilter | None) -> Iterator[EmailFilter]:
    """The conditions that must all hold, with nested ANDs opened."""
    if node is None:
        return
    if isinstance(node, FilterOperator) and node.operator == "AND":
        for child in node.conditions:
            yield from _conjuncts(child)
    else:
        yield node


def _leaves(required: list[EmailFilter]) -> list[tuple[int, EmailCondition]]:
    """The plain conditions among `required`, with their places."""
    return [(at, node) for at, node in enumerate(required) if isinstance(node, EmailCondition)]


def _drop(required: list[EmailFilter], place: int, *fields: str) -> None:
    """Take fields that the driver answers out of one condition."""
    leaf = cast("EmailCondition", required[place])
    required[place] = msgspec.structs.replace(leaf, **dict.fromkeys(fields))


def _texts(leaf: EmailCondition) -> list[tuple[str, str]]:
    """The text conditions of `leaf`, by column."""
    return [(name, text) for name in TEXT_FIELDS if (text := getattr(leaf, name)) is not None]


def _listed(leaf: EmailCondition) -> Iterator[tuple[str, str]]:
    """Fields of `leaf` that email_keyword lists Emails by, with the name there."""
    if leaf.has_keyword is not None and leaf.has_keyword.lower() != SEEN:
        yield "has_keyword", leaf.has_keyword.lower()
    if leaf.not_keyword is not None and leaf.not_keyword.lower() == SEEN:
        yield "not_keyword", UNSEEN


def _only_mailbox(node: EmailFilter | None) -> str | None:
    """The Mailbox, if the filter is one inMailbox and nothing else."""
    if not isinstance(node, EmailCondition) or node.in_mailbox is None:
        return None
    return node.in_mailbox if node == EmailCondition(in_mailbox=node.in_mailbox) else None


def _first_doc_id(received_ms: int) -> int:
    """The smallest doc_id that an Email received at or after `received_ms` can have."""
    second = max(-(-received_ms // 1000), 0)
    return min(second << DOC_COUNTER_BITS, DOC_ID_END)
