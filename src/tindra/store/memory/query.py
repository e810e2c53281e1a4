"""Evaluates an Email query row by row, in the plainest way: the oracle of the SQL compiler.

No index, no planner, no shared code with `store.sqlite.query` but the words of a search text.
Source: RFC 8621 s4.4
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from tindra.core.errors import MethodError
from tindra.model.mail import EmailCondition, EmailFilter, EmailQuery, EmailRow, EmailSort
from tindra.store.words import Phrase, parse_phrases, tokenize

Words = Mapping[str, Sequence[str]]
"""The tokens of one indexed Email, by column."""

_TEXT_COLUMNS: Final = ("from_", "to", "cc", "bcc", "subject", "body")


class QueryRun:
    """One query over one account."""

    def __init__(self, emails: Mapping[int, EmailRow], index: Mapping[int, Words]) -> None:
        self._emails = emails
        self._index = index
        self._threads: dict[str, list[EmailRow]] = {}
        for email in emails.values():
            self._threads.setdefault(email.thread_id, []).append(email)

    def run(self, query: EmailQuery) -> list[int]:
        """The whole result, in order."""
        found = [
            email
            for email in self._emails.values()
            if query.filter is None or self._matches(query.filter, email, is_negated=False)
        ]
        found = self._sorted(found, query.sort)
        if not query.collapse_threads:
            return [email.doc_id for email in found]
        seen: set[str] = set()
        doc_ids = []
        for email in found:
            if email.thread_id not in seen:
                seen.add(email.thread_id)
                doc_ids.append(email.doc_id)
        return doc_ids

    # -- filter -----------------------------------------------------------------------------------
    def _matches(self, node: EmailFilter, email: EmailRow, *, is_negated: bool) -> bool:
        if isinstance(node, EmailCondition):
            return self._holds(node, email, is_negated=is_negated)
        if node.operator == "AND":
            return all(self._matches(c, email, is_negated=is_negated) for c in node.conditions)
        if node.operator == "OR":
            return any(self._matches(c, email, is_negated=is_negated) for c in node.conditions)
        return not any(self._matches(c, email, is_negated=not is_negated) for c in node.conditions)

    def _holds(self, leaf: EmailCondition, email: EmailRow, *, is_negated: bool) -> bool:
        if leaf.header is not None and is_negated:
            return False  # not known here: let it be what leaves the Email in
        return (
            self._is_placed(leaf, email)
            and self._has_values(leaf, email)
            and self._is_marked(leaf, email)
            and self._has_texts(leaf, email)
        )

    def _is_placed(self, leaf: EmailCondition, email: EmailRow) -> bool:
        if leaf.in_mailbox is not None and leaf.in_mailbox not in email.mailbox_ids:
            return False
        if leaf.doc_ids is not None and email.doc_id not in leaf.doc_ids:
            return False
        others = leaf.in_mailbox_other_than
        return others is None or any(id not in others for id in email.mailbox_ids)

    def _has_values(self, leaf: EmailCondition, email: EmailRow) -> bool:
        return (
            (leaf.before is None or email.received_ms < leaf.before)
            and (leaf.after is None or email.received_ms >= leaf.after)
            and (leaf.min_size is None or email.size >= leaf.min_size)
            and (leaf.max_size is None or email.size < leaf.max_size)
            and (leaf.has_attachment is None or email.has_attachment == leaf.has_attachment)
        )

    def _is_marked(self, leaf: EmailCondition, email: EmailRow) -> bool:
        all_, some = leaf.all_in_thread_have_keyword, leaf.some_in_thread_have_keyword
        none = leaf.none_in_thread_have_keyword
        return (
            (leaf.has_keyword is None or leaf.has_keyword.lower() in email.keywords)
            and (leaf.not_keyword is None or leaf.not_keyword.lower() not in email.keywords)
            and (all_ is None or self._have_all(email, all_))
            and (some is None or self._have_some(email, some))
            and (none is None or not self._have_some(email, none))
        )

    def _have_all(self, email: EmailRow, keyword: str) -> bool:
        return all(keyword.lower() in e.keywords for e in self._threads[email.thread_id])

    def _have_some(self, email: EmailRow, keyword: str) -> bool:
        return any(keyword.lower() in e.keywords for e in self._threads[email.thread_id])

    def _has_texts(self, leaf: EmailCondition, email: EmailRow) -> bool:
        return (leaf.text is None or self._has_text(email, leaf.text, _TEXT_COLUMNS)) and all(
            self._has_text(email, text, (column,))
            for column in _TEXT_COLUMNS
            if (text := getattr(leaf, column)) is not None
        )

    def _has_text(self, email: EmailRow, text: str, columns: Sequence[str]) -> bool:
        """Whether every phrase of `text` is in one of the columns (not all need be in the same)."""
        words = self._index.get(email.doc_id)
        phrases = parse_phrases(text)
        if words is None or not phrases:
            return False
        return all(
            any(_has_phrase(words[column], phrase) for column in columns) for phrase in phrases
        )

    # -- sort -------------------------------------------------------------------------------------
    def _sorted(self, emails: list[EmailRow], sort: Sequence[EmailSort]) -> list[EmailRow]:
        """By each comparator in turn: stable sorts, the last comparator first."""
        newest_first = not (sort and sort[-1].property == "receivedAt" and sort[-1].is_ascending)
        found = sorted(emails, key=lambda email: email.doc_id, reverse=newest_first)
        for comparator in reversed(sort):
            found.sort(key=self._key_of(comparator), reverse=not comparator.is_ascending)
        return found

    def _key_of(self, comparator: EmailSort) -> Callable[[EmailRow], Any]:
        return lambda email: self._key(email, comparator)

    def _key(self, email: EmailRow, comparator: EmailSort) -> int | str:
        match comparator.property:
            case "receivedAt":
                return email.received_ms
            case "sentAt":
                return email.sent_ms
            case "size":
                return email.size
            case "from":
                return email.from_key
            case "to":
                return email.to_key
            case "subject":
                return email.subject_key
            case "hasKeyword":
                return comparator.keyword.lower() in email.keywords
            case "someInThreadHaveKeyword":
                return self._have_some(email, comparator.keyword)
            case "allInThreadHaveKeyword":
                return self._have_all(email, comparator.keyword)
        raise MethodError("unsupportedSort", f"no sort by {comparator.property!r}")


def _has_phrase(words: Sequence[str], phrase: Phrase) -> bool:
    wanted = tokenize(phrase.text)
    if not wanted:
        return False
    last = len(wanted) - 1
    for start in range(len(words) - last):
        if all(words[start + at] == wanted[at] for at in range(last)):
            word = words[start + last]
            if word == wanted[last] or (phrase.is_prefix and word.startswith(wanted[last])):
                return True
    return False
