"""The Directory port: users, accounts, grants, tokens."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from tests.contract.stores import (
    ACCOUNT,
    ARCHIVE,
    INBOX,
    NOW_MS,
    OTHER,
    TRASH,
    Draft,
    Stores,
    deliver,
    put_mailboxes,
)
from tindra.base.ids import AccountId, MailboxId, ModSeq, ThreadId, UserId
from tindra.core.errors import Conflict, StateTooOld, StoreError
from tindra.core.ports import Cursor, StoreTx
from tindra.model.account import Account, Grant, Token, User
from tindra.model.mail import SearchDocument, encode_email_id
from tindra.model.sharing import SHARED_TYPES, Move, Share, SharedAccount
from tindra.model.stored import TimerRow

ANNA = User(UserId("u1"), "anna@example.com", "scrypt$x", AccountId("ahome1"), NOW_MS)
BEN = User(UserId("u2"), "ben@example.com", "", AccountId("ahome2"), NOW_MS)


async def test_users_are_found_by_login_and_id(stores: Stores) -> None:
    for user in (BEN, ANNA):
        await stores.directory.put_user(user)
    assert await stores.directory.find_user("anna@example.com") == ANNA
    assert await stores.directory.find_user("Anna@example.com") is None
    assert await stores.directory.load_user(UserId("u2")) == BEN
    assert await stores.directory.load_user(UserId("u9")) is None
    assert await stores.directory.list_users() == [ANNA, BEN]


async def test_a_login_belongs_to_one_user(stores: Stores) -> None:
    await stores.directory.put_user(ANNA)
    renamed = msgspec.structs.replace(ANNA, password_hash="scrypt$y")
    await stores.directory.put_user(renamed)
    assert await stores.directory.load_user(ANNA.id) == renamed
    with pytest.raises(Conflict, match="taken"):
        await stores.directory.put_user(msgspec.structs.replace(BEN, login=ANNA.login))
    assert await stores.directory.list_users() == [renamed]


async def test_accounts_are_listed_and_renamed_without_losing_their_rows(stores: Stores) -> None:
    await stores.write(lambda tx: tx.put_object("Thing", "o1", b"{}"))
    renamed = Account(ACCOUNT, "new@example.com", UserId("u2"), NOW_MS)
    await stores.directory.put_account(renamed)
    accounts = await stores.directory.load_accounts(None)
    assert [account.id for account in accounts] == [ACCOUNT, OTHER]
    assert accounts[0] == renamed
    assert await stores.directory.load_accounts([ACCOUNT, AccountId("a9")]) == [renamed]
    assert await stores.directory.load_accounts([]) == []
    assert await stores.read(lambda r: r.load_states()) == {"Thing": 1}


async def test_grants_are_read_from_both_sides(stores: Stores) -> None:
    grants = [
        Grant(ANNA.id, ACCOUNT, frozenset({"read", "send"})),
        Grant(ANNA.id, OTHER, frozenset({"read"}), from_ms=5, until_ms=9),
        Grant(BEN.id, ACCOUNT, frozenset()),
    ]
    for grant in grants:
        await stores.directory.put_grant(grant)
    assert await stores.directory.list_grants(ANNA.id) == grants[:2]
    assert await stores.directory.list_grantees(ACCOUNT) == [grants[0], grants[2]]
    fewer = Grant(ANNA.id, ACCOUNT, frozenset({"read"}))
    await stores.directory.put_grant(fewer)
    assert await stores.directory.list_grants(ANNA.id) == [fewer, grants[1]]
    await stores.directory.delete_grant(ANNA.id, ACCOUNT)
    await stores.directory.delete_grant(ANNA.id, ACCOUNT)
    assert await stores.directory.list_grants(ANNA.id) == grants[1:2]


async def test_tokens_are_found_by_hash_and_listed_oldest_first(stores: Stores) -> None:
    phone = Token(b"\0" * 32, ANNA.id, "phone", "device", 2, expires_ms=99)
    laptop = Token(b"\xff" * 32, ANNA.id, "laptop", "app", 1)
    for token in (phone, laptop, Token(b"z" * 32, BEN.id, "x", "app", 0)):
        await stores.directory.put_token(token)
    assert await stores.directory.find_token(phone.hash) == phone
    assert await stores.directory.find_token(b"none") is None
    assert await stores.directory.list_tokens(ANNA.id) == [laptop, phone]
    await stores.directory.delete_token(phone.hash)
    assert await stores.directory.find_token(phone.hash) is None


async def test_an_erased_account_leaves_nothing_behind(stores: Stores) -> None:
    async def fill(tx: StoreTx) -> None:
        await put_mailboxes(tx)
        await deliver(tx, [Draft(n, keywords=("$flagged",)) for n in range(3)])
        await tx.put_object("Thing", "o1", b"{}")
        await tx.put_timer(TimerRow("snooze", "e1", 1, b""))
        await tx.put_outbox("mirror", "e1", b"", 1)

    for account_id in (ACCOUNT, OTHER):
        await stores.write(fill, account_id)
        await stores.directory.put_grant(Grant(ANNA.id, account_id, frozenset({"read"})))
        places = await stores.search.list_unindexed(account_id, 9)
        words = [SearchDocument(doc_id, "", "", "", "", "x", "") for _, doc_id in places]
        await stores.search.add(account_id, words, places[-1])
    await asyncio.gather(
        stores.directory.delete_account(ACCOUNT), stores.directory.delete_account(AccountId("a9"))
    )
    assert [account.id for account in await stores.directory.load_accounts(None)] == [OTHER]
    assert [grant.account_id for grant in await stores.directory.list_grants(ANNA.id)] == [OTHER]
    assert await stores.store.list_due(NOW_MS, 10) == [OTHER]
    assert await stores.read(lambda r: r.load_mailboxes()) == []
    assert await stores.read(lambda r: r.load_states()) == {}
    assert await stores.search.list_unindexed(ACCOUNT, 9) == []
    with pytest.raises(StoreError):
        await stores.write(fill)
    await stores.store.check_invariants(OTHER)
    assert await stores.read(lambda r: r.load_states(), OTHER)


async def test_shares_are_read_by_user_and_summed_up(stores: Stores) -> None:
    await stores.write(put_mailboxes)

    async def share(tx: StoreTx) -> None:
        await tx.put_share(Share(INBOX, BEN.id, frozenset({"mayReadItems"}), is_subscribed=False))
        await tx.put_share(Share(ARCHIVE, BEN.id, frozenset({"mayAddItems"}), is_subscribed=True))
        await tx.put_share(Share(INBOX, ANNA.id, frozenset()))

    await stores.write(share)
    await stores.write(lambda tx: tx.put_share(Share(INBOX, BEN.id, frozenset({"x"}))), OTHER)
    assert await stores.directory.list_shared_accounts(BEN.id) == [
        SharedAccount(ACCOUNT, frozenset({"mayReadItems", "mayAddItems"}), True),
        SharedAccount(OTHER, frozenset({"x"}), True),
    ]
    assert await stores.directory.list_shared_accounts(ANNA.id) == []
    asked = [INBOX, ARCHIVE, TRASH, "m-nothing"]
    assert await stores.read(lambda r: r.find_shared(asked)) == {INBOX, ARCHIVE}
    assert await stores.read(lambda r: r.find_shared([])) == set()


async def test_a_change_of_rights_is_news_of_all_shared_types_and_remembers_when(
    stores: Stores,
) -> None:
    first = Share(INBOX, BEN.id, frozenset({"mayReadItems"}))
    given = await stores.commit(lambda tx: tx.put_share(first))
    assert set(given.states) == set(SHARED_TYPES)
    hidden = msgspec.structs.replace(first, is_subscribed=False)
    subscribed = await stores.commit(lambda tx: tx.put_share(hidden))
    assert set(subscribed.states) == {"Mailbox"}
    assert await stores.read(lambda r: r.list_shares(BEN.id)) == [
        msgspec.structs.replace(hidden, changed_modseq=given.modseq)
    ]
    taken = await stores.commit(lambda tx: tx.put_share(Share(INBOX, BEN.id, frozenset())))
    [row] = await stores.read(lambda r: r.list_shares())
    assert (row.rights, row.changed_modseq) == (frozenset(), taken.modseq)
    await stores.store.trim_changes(ACCOUNT, taken.modseq)
    assert await stores.read(lambda r: r.list_shares()) == []


async def test_moves_are_listed_in_order_and_forgotten_with_the_change_log(stores: Stores) -> None:
    def move(doc_id: int, mailbox_id: str, is_in: bool) -> Move:
        return Move(ModSeq(0), doc_id, MailboxId(mailbox_id), ThreadId("t1"), is_in)

    one = await stores.commit(
        lambda tx: tx.put_moves([move(7, INBOX, True), move(5, INBOX, True), move(5, "m9", True)])
    )
    assert one.states == {"Thread": one.modseq}

    async def both(tx: StoreTx) -> None:
        await tx.put_moves([move(8, INBOX, True)])
        await tx.put_moves([move(8, INBOX, False), move(7, INBOX, False)])

    two = await stores.commit(both)
    start = Cursor(ModSeq(0))

    async def listed(since: Cursor, docs: list[int] | None = None, limit: int = 9) -> list[Any]:
        found = await stores.read(lambda r: r.list_moves([INBOX], since, docs, limit))
        return [(found.modseq, found.doc_id, found.is_in) for found in found]

    log = [(one.modseq, 5, True), (one.modseq, 7, True), (two.modseq, 7, False)]
    assert await listed(start) == log
    assert await listed(start, limit=2) == log[:2]
    assert await listed(start, [5]) == log[:1]
    assert await listed(Cursor(one.modseq)) == log[2:]
    assert await listed(Cursor(one.modseq, encode_email_id(5))) == log[1:]
    with pytest.raises(StateTooOld):
        await listed(Cursor(one.modseq, "nothing of ours"))
    await stores.store.trim_changes(ACCOUNT, one.modseq)
    assert await listed(Cursor(one.modseq)) == log[2:]
    with pytest.raises(StateTooOld):
        await listed(start)


async def test_a_user_says_who_they_are(stores: Stores) -> None:
    told = msgspec.structs.replace(
        ANNA, name="Anna B", description="the first", time_zone="Europe/Oslo"
    )
    await stores.directory.put_user(told)
    assert await stores.directory.find_user(ANNA.login) == told
