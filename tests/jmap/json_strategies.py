"""Hypothesis strategies for what a hostile client may send: any JSON, at any place of a call."""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import strategies as st

ODD_VALUES: tuple[Any, ...] = (
    None, True, 0, -1, 1.5, 10**40, "", "text", "\0é", [], [None], [[]], [1, "a"], {}, {"a": 1},
)  # fmt: skip
"""One of each kind."""
_NUMBERS = (-(2**63), -(2**53), -1, 0, 1, 7, 1000, 1001, 2**31, 2**53 - 1, 2**53, 10**40)
_WORDS = (
    "", " ", "0", "1", "#", "#k", "*", "/", "~", "x" * 300, "\0", "é", "null", "a b", "$seen",
    "$draft", "inbox", "trash", "Inbox", "AND", "OR", "NOT", "2026-01-01T00:00:00Z", "receivedAt",
    "header:Subject:asText", "header:From:asDate", "bodyStructure", "keywords/$seen", "mailboxIds",
    "name", "operator", "conditions", "property", "email", "partId", "blobId",
)  # fmt: skip


def any_json(ids: list[str]) -> st.SearchStrategy[Any]:
    """Any JSON value; texts are often ids that exist, or words that mean something."""
    plain = st.one_of(
        st.none(),
        st.booleans(),
        st.sampled_from(_NUMBERS),
        st.floats(allow_nan=False, allow_infinity=False),
        st.sampled_from(ids),
        st.sampled_from(_WORDS),
        st.text(st.characters(exclude_categories=["Cs"]), max_size=12),
    )
    names = st.one_of(st.sampled_from(_WORDS), st.sampled_from(ids))
    return st.recursive(
        plain,
        lambda inner: st.one_of(
            st.lists(inner, max_size=3), st.dictionaries(names, inner, max_size=3)
        ),
        max_leaves=6,
    )


@st.composite
def spoilt(draw: st.DrawFn, template: dict[str, Any], ids: list[str]) -> dict[str, Any]:
    """`template` with one to three of its values, however deep, replaced by any JSON, removed, or
    joined by another."""
    found = copy.deepcopy(template)
    json = any_json(ids)
    for _ in range(draw(st.integers(1, 3))):
        places = list(list_places(found))
        if not places:
            break
        holder, key = draw(st.sampled_from(places))
        action = draw(st.sampled_from(["replace", "replace", "replace", "remove", "add", "rename"]))
        if action == "replace":
            holder[key] = draw(json)
        elif action == "remove":
            del holder[key]
        elif action == "add" and isinstance(holder, list):
            holder.append(draw(json))
        elif action == "add":
            holder[draw(st.sampled_from([*_WORDS, *ids]))] = draw(json)
        elif isinstance(holder, dict):
            holder[draw(st.sampled_from([*_WORDS, *ids]))] = holder.pop(key)
    return found


def list_places(value: Any) -> Any:
    """Every (holder, key) inside a value, outermost first."""
    pending = [value]
    while pending:
        holder = pending.pop(0)
        for key in list(holder) if isinstance(holder, dict) else range(len(holder)):
            yield holder, key
            if isinstance(holder[key], dict | list):
                pending.append(holder[key])
