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
_NAMES = (
    "operator", "conditions", "property", "isAscending", "collation", "keyword", "id", "name",
    "role", "parentId", "sortOrder", "isSubscribed", "inMailbox", "inMailboxOtherThan", "before",
    "after", "minSize", "maxSize", "hasKeyword", "notKeyword", "allInThreadHaveKeyword", "text",
    "from", "header", "hasAttachment", "hasAnyRole", "mailboxIds", "keywords", "receivedAt",
    "blobId", "subject", "bodyValues", "textBody", "bodyStructure", "emailId", "identityId",
    "envelope", "mailFrom", "rcptTo", "email", "partId", "type", "value", "undoStatus", "emailIds",
    "attachments", "htmlSignature", "replyTo", "header:X-A", "keywords/$seen", "mailboxIds/x",
)  # fmt: skip


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
    names = st.one_of(st.sampled_from(_NAMES), st.sampled_from(ids), st.sampled_from(_WORDS))
    return st.recursive(
        plain,
        lambda inner: st.one_of(
            st.lists(inner, max_size=4), st.dictionaries(names, inner, max_size=4)
        ),
        max_leaves=12,
    )
