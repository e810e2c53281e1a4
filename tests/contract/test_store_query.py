"""query_emails: every filter and sort of RFC 8621 s4.4, SQL against the plain evaluation."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.contract.stores import (
    ACCOUNT,
    ARCHIVE,
    INBOX,
    MAILBOXES,
    NOW_MS,
    ON_STORES,
    TRASH,
    Draft,
    Stores,
    deliver,
    make_email,
    open_account,
    open_stores,
    put_mailboxes,
)
from tindra.base.ids import AccountId
from tindra.core.errors import MethodError
from tindra.core.ports import Page, StoreReader, StoreTx
from tindra.model.mail import (
    EmailCondition,
    EmailQuery,
    EmailRow,
    EmailSort,
    FilterOperator,
    SearchDocument,
)

WORDS = ("alpha", "Béta", "GAMMA", "дельта", "会議室", "x-ray", "beta gamma", "re42")
KEYWORDS = ("$seen", "$flagged", "$draft", "todo")


# -- what hypothesis makes ------------------------------------------------------------------------
DRAFTS = st.builds(
    Draft,
    number=st.just(0),
    thread=st.sampled_from(("t1", "t2", "t3", "t4")),
    mailbox_ids=st.lists(st.sampled_from(MAILBOXES), min_size=1, max_size=3).map(tuple),
    keywords=st.lists(st.sampled_from(KEYWORDS), max_size=3).map(tuple),
    received_s=st.integers(0, 6),
    more=st.fixed_dictionaries(
        {
            "size": st.sampled_from((1, 50, 100)),
            "sent_ms": st.sampled_from((NOW_MS, NOW_MS + 1)),
            "subject_key": st.sampled_from(("", "a", "ä", "b", "\N{PARTY POPPER}")),
            "from_key": st.sampled_from(("x", "y")),
            "to_key": st.sampled_from(("x", "y")),
            "has_attachment": st.booleans(),
        }
    ),
)
TEXT = st.lists(st.sampled_from(WORDS), max_size=3).map(" ".join)
QUERY_TEXT = st.one_of(
    TEXT,
    st.sampled_from(
        (
            "",
            "   ",
            "-",
            '"beta gamma"',
            "'beta gamma'",
            '"gamma beta"',
            '"unclosed alpha',
            "alph*",
            "al*ha",
            "会議",
            "室会",
            "beta NOT gamma",
            'a"b',
            "subject:alpha",
            "{subject} : alpha",
            "NEAR(alpha)",
            "* *",
            "^alpha",
            "x\0ray",
            "re42 -",
            '"\\"alpha\\""',
        )
    ),
)
MAILBOX_ID = st.sampled_from((*MAILBOXES, "m99"))
MOMENT = st.builds(
    lambda second, more: NOW_MS + second * 1000 + more,
    st.integers(0, 7),
    st.sampled_from((-1, 0, 1)),
)
KEYWORD = st.sampled_from((*KEYWORDS, "$SEEN", "nobody"))
FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "in_mailbox": MAILBOX_ID,
    "in_mailbox_other_than": st.lists(MAILBOX_ID, max_size=3).map(tuple),
    "before": MOMENT,
    "after": MOMENT,
    "min_size": st.sampled_from((0, 50, 51)),
    "max_size": st.sampled_from((0, 50, 51)),
    "all_in_thread_have_keyword": KEYWORD,
    "some_in_thread_have_keyword": KEYWORD,
    "none_in_thread_have_keyword": KEYWORD,
    "has_keyword": KEYWORD,
    "not_keyword": KEYWORD,
    "has_attachment": st.booleans(),
    "text": QUERY_TEXT,
    "from_": QUERY_TEXT,
    "to": QUERY_TEXT,
    "cc": QUERY_TEXT,
    "bcc": QUERY_TEXT,
    "subject": QUERY_TEXT,
    "body": QUERY_TEXT,
    "header": st.just(("X-Any",)),
}
CONDITION = st.lists(st.sampled_from(sorted(FIELDS)), max_size=3, unique=True).flatmap(
    lambda names: st.builds(EmailCondition, **{name: FIELDS[name] for name in names})
)
FILTER = st.recursive(
    CONDITION,
    lambda inner: st.builds(
        FilterOperator,
        st.sampled_from(("AND", "OR", "NOT")),
        st.lists(inner, max_size=3).map(tuple),
    ),
    max_leaves=5,
)
SORT = st.builds(
    EmailSort,
    property=st.sampled_from(
        (
            "receivedAt",
            "size",
            "from",
            "to",
            "subject",
            "sentAt",
            "hasKeyword",
            "allInThreadHaveKeyword",
            "someInThreadHaveKeyword",
        )
    ),
    is_ascending=st.booleans(),
    keyword=st.sampled_from(KEYWORDS),
)
QUERY = st.builds(
    EmailQuery,
    filter=st.one_of(FILTER, FILTER, FILTER, st.none()),
    sort=st.lists(SORT, max_size=3).map(tuple),
    collapse_threads=st.booleans(),
)


async def _fill(stores: Stores, account: AccountId, drafts: list[Draft], texts: list[str]) -> None:
    await stores.write(put_mailboxes, account)
    numbered = [
        Draft(n, d.thread, d.mailbox_ids, d.keywords, d.received_s, d.more)
        for n, d in enumerate(drafts)
    ]
    if numbered:
        await stores.write(lambda tx: deliver(tx, numbered), account)
    places = await stores.search.list_unindexed(account, 1000)
    documents = []
    for at, (_, doc_id) in enumerate(places[: max(len(places) - 1, 1)]):
        columns = (texts[(at + shift) % len(texts)] for shift in range(6))
        documents.append(SearchDocument(doc_id, *columns))
    if places:  # all but the newest, so that something is always behind the watermark
        await stores.search.add(account, documents, places[len(documents) - 1])


@pytest.fixture
def both(runner: asyncio.Runner, tmp_path: Path) -> Iterator[tuple[Stores, Stores]]:
    opened = [runner.run(open_stores(kind, tmp_path)) for kind in ("memory", "sqlite")]
    yield opened[0], opened[1]
    for stores in opened:
        runner.run(stores.store.close())


@dataclass
class Case:
    """A mailbox, what is indexed of it, and what is asked."""

    drafts: list[Draft]
    texts: list[str]
    queries: list[EmailQuery]
    stop: int | None
    has_total: bool
    page: Page[int]
    """Its anchor is a place among the Emails, not all of which match; the last is nobody."""


CASES = st.builds(
    Case,
    drafts=st.lists(DRAFTS, min_size=2, max_size=12),
    texts=st.lists(TEXT, min_size=1, max_size=8),
    queries=st.lists(QUERY, min_size=3, max_size=12),
    stop=st.none() | st.integers(0, 5),
    has_total=st.booleans(),
    page=st.builds(
        Page,
        position=st.integers(-14, 14) | st.just(-(2**53)) | st.just(2**53 - 1),
        limit=st.integers(0, 6) | st.just(1000),
        anchor=st.none() | st.integers(0, 12),
        offset=st.integers(-4, 4) | st.just(-(2**53)) | st.just(2**53 - 1),
    ),
)


def _cut_plainly(ids: list[int], page: Page[int]) -> tuple[int, list[int]] | None:
    """RFC 8620 s5.5, word by word."""
    if page.anchor is not None:
        if page.anchor not in ids:
            return None
        start = max(ids.index(page.anchor) + page.offset, 0)
    elif page.position < 0:
        start = max(page.position + len(ids), 0)
    else:
        start = page.position
    return start, [id for place, id in enumerate(ids) if start <= place < start + page.limit]


@settings(ON_STORES, max_examples=100)
@given(case=CASES)
def test_a_page_is_what_is_cut_from_the_whole(
    both: tuple[Stores, Stores], runner: asyncio.Runner, case: Case
) -> None:
    """By the plainest queries too, which have ways of their own: a Mailbox or all mail by arrival,
    whole or by Thread."""
    plain = [
        EmailQuery(filter, (EmailSort("receivedAt", is_ascending=up),), collapse_threads=threads)
        for filter in (None, EmailCondition(in_mailbox=INBOX))
        for up in (False, True)
        for threads in (False, True)
    ]

    async def check() -> None:
        for stores in both:
            account_id = await open_account(stores)
            await _fill(stores, account_id, case.drafts, case.texts)
            numbers, _ = await stores.read(
                lambda r: r.query_emails(EmailQuery(), None, False), account_id
            )
            page = case.page
            if page.anchor is not None:
                page = page._replace(anchor=dict(enumerate(numbers)).get(page.anchor, -1))
            for query in (*case.queries, *plain):

                async def ask(
                    r: StoreReader, query: EmailQuery = query, page: Page[int] = page
                ) -> Any:
                    whole, _ = await r.query_emails(query, None, False)
                    return whole, await r.query_page(query, page, case.has_total)

                whole, found = await stores.read(ask, account_id)
                expected = _cut_plainly(whole, page)
                assert (found and (found.position, found.doc_ids)) == expected, query
                if found is not None:
                    assert found.total == (len(whole) if case.has_total else None), query

    runner.run(check())


@settings(ON_STORES, max_examples=120)
@given(case=CASES)
def test_sql_answers_as_the_plain_evaluation(
    both: tuple[Stores, Stores], runner: asyncio.Runner, case: Case
) -> None:
    async def check() -> None:
        accounts = [(stores, await open_account(stores)) for stores in both]
        for stores, account_id in accounts:
            await _fill(stores, account_id, case.drafts, case.texts)
        for query in case.queries:

            async def ask(r: StoreReader, query: EmailQuery = query) -> Any:
                return await r.query_emails(query, case.stop, case.has_total)

            plain, sql = [await stores.read(ask, account_id) for stores, account_id in accounts]
            assert sql == plain, query

    runner.run(check())


# -- single rules, on each implementation ---------------------------------------------------------
async def _deliver(stores: Stores, *drafts: Draft) -> list[EmailRow]:
    async def run(tx: StoreTx) -> list[EmailRow]:
        await put_mailboxes(tx)
        return await deliver(tx, drafts)

    return await stores.write(run)


async def _numbers(stores: Stores, query: EmailQuery, stop: int | None = None) -> list[int]:
    found, _ = await stores.read(lambda r: r.query_emails(query, stop, False))
    return [doc_id & 0xFFFFF for doc_id in found]


async def test_newest_first_is_the_order_without_a_sort(stores: Stores) -> None:
    await _deliver(stores, Draft(1, received_s=5), Draft(2, received_s=1), Draft(3, received_s=5))
    assert await _numbers(stores, EmailQuery()) == [3, 1, 2]
    oldest_first = EmailQuery(sort=(EmailSort("receivedAt"),))
    assert await _numbers(stores, oldest_first) == [2, 1, 3]


async def test_a_thread_is_shown_by_its_first_match(stores: Stores) -> None:
    await _deliver(
        stores,
        Draft(1, "t1", received_s=1),
        Draft(2, "t2", received_s=2),
        Draft(3, "t1", received_s=3, mailbox_ids=(ARCHIVE,)),
        Draft(4, "t2", received_s=4),
    )
    in_inbox = EmailCondition(in_mailbox=INBOX)
    assert await _numbers(stores, EmailQuery(in_inbox, (), collapse_threads=True)) == [4, 1]
    assert await _numbers(stores, EmailQuery(None, (), collapse_threads=True)) == [4, 3]
    query = EmailQuery(in_inbox, (), collapse_threads=True)
    assert (await stores.read(lambda r: r.query_emails(query, 1, True)))[1] == 2
    query = EmailQuery(in_inbox)
    assert (await stores.read(lambda r: r.query_emails(query, 1, True)))[1] == 3


async def test_in_mailbox_other_than_wants_one_other_mailbox(stores: Stores) -> None:
    await _deliver(
        stores,
        Draft(1, mailbox_ids=(TRASH,)),
        Draft(2, mailbox_ids=(TRASH, INBOX)),
        Draft(3, mailbox_ids=(ARCHIVE,)),
    )
    condition = EmailCondition(in_mailbox_other_than=(TRASH, ARCHIVE))
    assert await _numbers(stores, EmailQuery(condition)) == [2]


async def test_dates_include_their_start_and_exclude_their_end(stores: Stores) -> None:
    await _deliver(stores, *(Draft(n, received_s=n) for n in range(1, 5)))
    for after, before, found in ((2000, 4000, [3, 2]), (1999, 3999, [3, 2]), (2001, 4001, [4, 3])):
        condition = EmailCondition(after=NOW_MS + after, before=NOW_MS + before)
        assert await _numbers(stores, EmailQuery(condition)) == found
    ever = EmailCondition(after=-(2**50), before=2**50)
    assert await _numbers(stores, EmailQuery(ever)) == [4, 3, 2, 1]


async def test_sorts_apply_in_turn_and_ties_are_newest_first(stores: Stores) -> None:
    await _deliver(
        stores,
        Draft(1, more={"size": 5, "from_key": "b"}),
        Draft(2, more={"size": 5, "from_key": "a"}, keywords=("$flagged",)),
        Draft(3, more={"size": 9, "from_key": "a"}),
        Draft(4, more={"size": 5, "from_key": "b"}),
    )
    by_size = EmailQuery(sort=(EmailSort("size"), EmailSort("from", is_ascending=False)))
    assert await _numbers(stores, by_size) == [4, 1, 2, 3]
    flagged_first = EmailQuery(sort=(EmailSort("hasKeyword", False, "$flagged"),))
    assert await _numbers(stores, flagged_first) == [2, 4, 3, 1]
    with pytest.raises(MethodError, match="unsupportedSort"):
        await _numbers(stores, EmailQuery(sort=(EmailSort("colour"),)))


async def test_a_header_condition_leaves_the_decision_to_the_caller(stores: Stores) -> None:
    await _deliver(stores, Draft(1), Draft(2, keywords=("$flagged",)))
    header = EmailCondition(header=("X-Any",))
    assert await _numbers(stores, EmailQuery(header)) == [2, 1]
    assert await _numbers(stores, EmailQuery(FilterOperator("NOT", (header,)))) == [2, 1]
    flagged = EmailCondition(header=("X-Any",), has_keyword="$flagged")
    assert await _numbers(stores, EmailQuery(flagged)) == [2]
    assert await _numbers(stores, EmailQuery(FilterOperator("NOT", (flagged,)))) == [2, 1]


async def test_text_is_found_as_far_as_the_index_goes(stores: Stores) -> None:
    emails = await _deliver(stores, Draft(1), Draft(2), Draft(3))
    places = await stores.search.list_unindexed(ACCOUNT, 2)
    documents = [
        SearchDocument(doc_id, "Jörg Nuñez <j@x.example>", "", "", "", "Straße", "東京の会議 don't")
        for _, doc_id in places
    ]
    await stores.search.add(ACCOUNT, documents, places[-1])
    assert len(emails) == 3
    for text in ("jorg", "JÖRG NUNEZ", "x.example", '"nunez j"', "straße", "会議", "don't", "京の"):
        assert await _numbers(stores, EmailQuery(EmailCondition(text=text))) == [2, 1], text
    for text in ("", "...", "tokyo", '"j nunez"', "議会", "jor"):
        assert await _numbers(stores, EmailQuery(EmailCondition(text=text))) == [], text
    assert await _numbers(stores, EmailQuery(EmailCondition(text="jor*"))) == [2, 1]
    assert await _numbers(stores, EmailQuery(EmailCondition(subject="jorg"))) == []
    assert await _numbers(stores, EmailQuery(EmailCondition(from_="jorg", body="会議"))) == [2, 1]
    without = FilterOperator("NOT", (EmailCondition(text="jorg"),))
    assert await _numbers(stores, EmailQuery(without)) == [3]


async def test_the_same_condition_in_two_places_is_evaluated_in_both(stores: Stores) -> None:
    await _deliver(stores, Draft(1))
    here = EmailCondition(in_mailbox=INBOX)
    never = FilterOperator("AND", (here, FilterOperator("NOT", (here,))))
    assert await _numbers(stores, EmailQuery(never)) == []
    assert make_email(Draft(1)).doc_id & 0xFFFFF == 1
