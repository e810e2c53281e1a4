"""The SearchIndex port: it follows the Emails behind a watermark, and can be built again."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from tests.contract.stores import (
    ACCOUNT,
    OTHER,
    Draft,
    Stores,
    deliver,
    destroy,
    modify,
    put_mailboxes,
)
from tindra.core.ports import StoreTx
from tindra.model.mail import EmailCondition, EmailQuery, EmailRow, SearchDocument


def document(doc_id: int, subject: str = "alpha") -> SearchDocument:
    """Words of one Email."""
    return SearchDocument(doc_id, "", "", "", "", subject, "")


async def fill(stores: Stores, count: int, first: int = 0) -> list[EmailRow]:
    """Emails, each in a transaction of its own."""
    await stores.write(put_mailboxes)
    emails: list[EmailRow] = []
    for n in range(first, first + count):
        emails += await stores.write(partial(deliver, drafts=[Draft(n, received_s=-n)]))
    return emails


async def index_all(stores: Stores, batch: int = 2) -> int:
    """Index what is not indexed, in batches; how many Emails that were."""
    indexed = 0
    while places := await stores.search.list_unindexed(ACCOUNT, batch):
        documents = [document(doc_id) for _, doc_id in places]
        await stores.search.add(ACCOUNT, documents, places[-1])
        indexed += len(places)
        assert indexed < 100, "the watermark does not move"
    return indexed


async def find(stores: Stores, text: str = "alpha") -> Sequence[int]:
    """doc_ids that a query answers."""
    query = EmailQuery(EmailCondition(text=text))
    return (await stores.read(lambda r: r.query_emails(query, None, True)))[0]


async def test_emails_are_listed_in_order_until_they_are_indexed(stores: Stores) -> None:
    emails = await fill(stores, 5)
    places = await stores.search.list_unindexed(ACCOUNT, 3)
    assert [doc_id for _, doc_id in places] == [email.doc_id for email in emails[:3]]
    assert places == sorted(places)
    assert await index_all(stores) == 5
    assert await stores.search.list_unindexed(ACCOUNT, 3) == []
    assert await find(stores) == sorted((email.doc_id for email in emails), reverse=True)
    assert await stores.search.list_unindexed(OTHER, 3) == []


async def test_a_changed_email_is_not_indexed_again(stores: Stores) -> None:
    emails = await fill(stores, 2)
    await index_all(stores)
    await stores.write(lambda tx: modify(tx, emails[0], keywords=("$seen",)))
    assert await stores.search.list_unindexed(ACCOUNT, 3) == []


async def test_adding_twice_is_harmless_and_the_watermark_never_falls(stores: Stores) -> None:
    emails = await fill(stores, 2)
    places = await stores.search.list_unindexed(ACCOUNT, 9)
    documents = [document(email.doc_id) for email in emails]
    for _ in range(2):
        await stores.search.add(ACCOUNT, documents, places[-1])
    await stores.search.add(ACCOUNT, documents[:1], places[0])
    assert await stores.search.list_unindexed(ACCOUNT, 9) == []
    assert len(await find(stores)) == 2
    await stores.search.add(ACCOUNT, [document(emails[0].doc_id, "beta")], places[0])
    assert await find(stores) == [emails[1].doc_id], "what is added again replaces"
    assert await find(stores, "beta") == [emails[0].doc_id]


async def test_a_destroyed_email_is_never_found_and_then_forgotten(stores: Stores) -> None:
    emails = await fill(stores, 3)
    await index_all(stores)
    assert await stores.search.list_removable(ACCOUNT, 9) == []
    for email in emails[:2]:
        await stores.write(partial(destroy, email=email))
    assert await find(stores) == [emails[2].doc_id], "before the index followed"
    gone = [email.doc_id for email in emails[:2]]
    assert await stores.search.list_removable(ACCOUNT, 1) == gone[:1]
    assert await stores.search.list_removable(ACCOUNT, 9) == gone
    await stores.search.remove(ACCOUNT, gone[:1])
    assert await stores.search.list_removable(ACCOUNT, 9) == gone[1:]
    for _ in range(2):
        await stores.search.remove(ACCOUNT, gone)
    assert await stores.search.list_removable(ACCOUNT, 9) == []
    assert await find(stores) == [emails[2].doc_id]


async def test_an_email_destroyed_before_it_was_indexed_does_no_harm(stores: Stores) -> None:
    emails = await fill(stores, 2)
    places = await stores.search.list_unindexed(ACCOUNT, 9)
    await stores.write(lambda tx: destroy(tx, emails[0]))
    await stores.search.add(ACCOUNT, [document(email.doc_id) for email in emails], places[-1])
    assert await find(stores) == [emails[1].doc_id]
    await stores.search.remove(ACCOUNT, await stores.search.list_removable(ACCOUNT, 9))
    assert await find(stores) == [emails[1].doc_id]


async def test_a_write_can_search_too(stores: Stores) -> None:
    emails = await fill(stores, 1)
    await index_all(stores)
    query = EmailQuery(EmailCondition(text="alpha"))

    async def run(tx: StoreTx) -> list[int]:
        await tx.put_object("Thing", "o1", b"{}")
        return (await tx.query_emails(query, None, False))[0]

    assert await stores.write(run) == [emails[0].doc_id]


async def test_words_that_sqlite_cannot_hold_are_indexed_without_them(stores: Stores) -> None:
    (email,) = await fill(stores, 1)
    (place,) = await stores.search.list_unindexed(ACCOUNT, 9)
    await stores.search.add(ACCOUNT, [document(email.doc_id, "nul\0byte half\ud800pair")], place)
    assert await find(stores, "byte") == [email.doc_id]
    assert await find(stores, "pair") == [email.doc_id]
