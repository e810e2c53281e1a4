"""Hypothesis strategies for what a hostile client may send: any JSON, at any place."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

_NUMBERS = (-(2**63), -(2**53), -1, 0, 1, 7, 1000, 1001, 2**31, 2**53 - 1, 2**53, 10**40)
_WORDS = (
    "", " ", "0", "1", "#", "#k", "*", "/", "~", "x" * 300, "\0", "é", "null", "a b", "../x",
    "$seen", "$draft", "inbox", "trash", "Inbox", "AND", "OR", "NOT", "2026-01-01T00:00:00Z",
    "header:Subject:asText", "header:From:asDate", "bodyStructure", "receivedAt", "keywords/$seen",
    "mailboxIds", "name", "parentId",
)  # fmt: skip
NAMES = {
    "Mailbox": "id name parentId role sortOrder isSubscribed myRights totalEmails hasAnyRole"
    " myRights/mayDelete name/x",
    "Email": "mailboxIds keywords receivedAt sentAt blobId bodyValues textBody htmlBody attachments"
    " bodyStructure subject from to replyTo messageId header:X-A header:X-A:asDate:all headers"
    " keywords/$seen mailboxIds/x inMailbox inMailboxOtherThan before after minSize maxSize"
    " hasKeyword notKeyword allInThreadHaveKeyword someInThreadHaveKeyword noneInThreadHaveKeyword"
    " hasAttachment text cc bcc body header id preview safeHtml",
    "Thread": "id emailIds",
    "SearchSnippet": "text subject body from header inMailbox operator conditions",
    "Identity": "id email name replyTo bcc textSignature htmlSignature mayDelete replyTo/0",
    "EmailSubmission": "id emailId identityId envelope undoStatus sendAt threadId deliveryStatus"
    " identityIds emailIds threadIds before after envelope/mailFrom",
    "Connection": "id name address imap smtp phase lastError",
}
"""Type -> names of properties and filters that mean something to it."""
_MEMBERS = (
    "operator conditions property isAscending collation keyword name email mailFrom rcptTo"
    " parameters partId blobId type value charset disposition cid subParts $seen inbox"
).split()


def any_json(ids: list[str]) -> st.SearchStrategy[Any]:
    """Any JSON value; texts are often ids that exist, or words that mean something."""
    plain = st.one_of(
        st.none(),
        st.booleans(),
        st.sampled_from(_NUMBERS),
        st.integers(),
        st.floats(allow_nan=False, allow_infinity=False),
        st.sampled_from(ids),
        st.sampled_from(_WORDS),
        st.text(st.characters(exclude_categories=["Cs"]), max_size=12),
    )
    names = st.one_of(st.sampled_from(_MEMBERS), st.sampled_from(ids), st.sampled_from(_WORDS))
    return st.recursive(
        plain,
        lambda inner: st.one_of(
            st.lists(inner, max_size=4), st.dictionaries(names, inner, max_size=4)
        ),
        max_leaves=12,
    )
