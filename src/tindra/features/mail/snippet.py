"""SearchSnippet/get (RFC 8621 s5): the words of a query, marked where they stand in an Email."""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Sequence
from functools import partial
from typing import Any, Final, NamedTuple

import msgspec

from tindra.base import limits
from tindra.base.ids import AccountId
from tindra.core.access import check_read
from tindra.core.arguments import check_names, take_ids
from tindra.core.datatype import CallContext
from tindra.core.errors import MethodError
from tindra.core.ports import StoreReader
from tindra.features.mail.email_query import parse_filter
from tindra.features.mail.ingest import parse_arrival
from tindra.features.mail.writing.octet_budget import OctetBudget
from tindra.model.mail import (
    EmailFilter,
    EmailRow,
    FilterOperator,
    parse_email_id,
)

_UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\u2fdf\u3005-\u30ff\u31f0-\u31ff"
    "\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7a3\uf900-\ufaff\U00020000-\U0003ffff"
)
"""Writing systems without spaces, whose characters the search index takes one by one."""
_WORD = re.compile(rf"[{_UNSPACED}]|(?:(?![{_UNSPACED}])(?:[^\W_]|[\u0300-\u0331]))+")
_TOKEN = re.compile(rf"{_WORD.pattern}|\s+|.", re.DOTALL)
_SPACE = re.compile(r"\s")
_QUERY_CHARS_MAX: Final = 4096
_QUERY_WORDS_MAX: Final = 64
"""What the search itself reads of one text."""
_BEFORE_BYTES = 80
"""Of a preview before its first marked word."""
_TOKEN_CHARS_MAX = 60
"""A longer word is cut in a preview, so that there is room for it at all."""


async def run_snippet_get(context: CallContext, arguments: dict[str, Any]) -> dict[str, Any]:
    """SearchSnippet/get. Cost: one parse of each message asked for, within one OctetBudget; those
    beyond it have no snippet, which the RFC allows. Source: RFC 8621 s5, s5.1

    Raises: MethodError accountNotFound, invalidArguments, unsupportedFilter, requestTooLarge.
    """
    account_id = check_read(context.caller, arguments.get("accountId")).account.id
    check_names(arguments, ("accountId", "filter", "emailIds"))
    ids = take_ids(arguments, "emailIds", is_reference=True)
    if ids is None:
        raise MethodError("invalidArguments", "'emailIds' must be a list of ids")
    if len(ids) > limits.OBJECTS_IN_GET_MAX:
        raise MethodError("requestTooLarge", f"over {limits.OBJECTS_IN_GET_MAX} ids")
    ids = list(dict.fromkeys(map(context.resolve, ids)))
    words = Words([], [])
    if arguments.get("filter") is not None:
        _collect(parse_filter(arguments["filter"]), words)
    docs = {doc: id for id in ids if (doc := parse_email_id(id)) is not None}

    async def read(reader: StoreReader) -> list[EmailRow]:
        return await reader.load_emails(list(docs))

    rows = {docs[row.doc_id]: row for row in await context.services.store.read(account_id, read)}
    make = partial(_make_snippet, context, account_id, words, OctetBudget())
    found = [await make(rows[id]) for id in ids if id in rows]
    missing = [id for id in ids if id not in rows]
    return {"accountId": account_id, "list": found, "notFound": missing or None}


class Words(NamedTuple):
    """Folded words looked for in the subject, and in the body; "*" at the end for any ending."""

    subject: list[str]
    body: list[str]


def _collect(filter: EmailFilter, words: Words) -> None:
    if isinstance(filter, FilterOperator):
        if filter.operator != "NOT":
            for item in filter.conditions:
                _collect(item, words)
        return
    for text in (filter.text, filter.subject):
        words.subject.extend(split_words(text or ""))
    for text in (filter.text, filter.body):
        words.body.extend(split_words(text or ""))


def split_words(text: str) -> list[str]:
    """The folded words of a search text; one that ended with "*" outside quotes keeps it."""
    found: list[str] = []
    for piece in text[:_QUERY_CHARS_MAX].split():
        inner = list(filter(None, map(_fold, _WORD.findall(piece))))
        if inner and piece.endswith("*"):
            inner[-1] += "*"
        found += inner
    return found[:_QUERY_WORDS_MAX]


def _fold(word: str) -> str:
    """Without case and diacritics, as the search index has it."""
    if word.isascii():
        return word.lower()
    plain = unicodedata.normalize("NFKD", word)
    return "".join(c for c in plain if not unicodedata.combining(c)).casefold()


async def _make_snippet(
    context: CallContext, account_id: AccountId, words: Words, budget: OctetBudget, row: EmailRow
) -> dict[str, Any]:
    snippet: dict[str, Any] = {"emailId": row.id, "subject": None, "preview": None}
    if (words.subject or words.body) and budget.take(row.size):
        raw = await context.services.blobs.get(account_id, row.blob_id) or b""
        run = context.services.offload.run
        snippet["subject"], snippet["preview"] = await run(find_snippet, raw, row.blob_id, words)
    return snippet


def find_snippet(raw: bytes, blob_id: str, words: Words) -> tuple[str | None, str | None]:
    """(subject, preview) of a message. Pure CPU work, linear in the message."""
    arrival = parse_arrival(raw, blob_id)
    subject = msgspec.json.decode(arrival.content.meta)["subject"] or ""
    return mark_words(subject, words.subject), mark_excerpt(arrival.words.body, words.body)


class _Matcher:
    """Says which words of a text are looked for."""

    def __init__(self, words: Sequence[str]) -> None:
        self._exact = {word for word in words if word[-1] != "*"}
        self._prefixes = tuple(word[:-1] for word in words if word[-1] == "*")

    def __call__(self, word: str) -> bool:
        folded = _fold(word)
        return folded in self._exact or folded.startswith(self._prefixes)


def mark_words(text: str, words: Sequence[str]) -> str | None:
    """All of `text` as HTML with each of `words` in <mark>; None if none is there.

    Args:
        words: as from `split_words`.
    Source: RFC 8621 s5
    """
    is_wanted = _Matcher(words)
    pieces: list[str] = []
    end = 0
    for match in _WORD.finditer(text):
        if is_wanted(match.group()):
            marked = f"<mark>{html.escape(match.group())}</mark>"
            pieces += (html.escape(text[end : match.start()]), marked)
            end = match.end()
    return "".join(pieces) + html.escape(text[end:]) if pieces else None


def mark_excerpt(text: str, words: Sequence[str]) -> str | None:
    """The part of `text` around the first of `words`, as HTML with each of them in <mark>.

    Returns: at most SNIPPET_CHARS_MAX octets with the mark-up, cut between words, white space
        made one space; None if none of the words is there. Source: RFC 8621 s5
    """
    is_wanted = _Matcher(words)
    first = next((m.start() for m in _WORD.finditer(text) if is_wanted(m.group())), None)
    if first is None:
        return None
    start = _find_start(text, first)
    end = start + limits.SNIPPET_CHARS_MAX
    pieces: list[str] = []
    size = 0
    for token in _TOKEN.finditer(text, start):
        if token.start() >= end:
            break
        word = token.group()
        piece = " " if word.isspace() else html.escape(word[:_TOKEN_CHARS_MAX])
        if is_wanted(word):
            piece = f"<mark>{piece}</mark>"
        size += len(piece.encode())
        if size > limits.SNIPPET_CHARS_MAX:
            break
        pieces.append(piece)
    return "".join(pieces).strip()


def _find_start(text: str, first: int) -> int:
    """Where the excerpt begins: at a word, not too far before the one at `first`."""
    start, room = first, _BEFORE_BYTES
    while start > 0:
        room -= len(html.escape(text[start - 1]).encode())
        if room < 0:
            space = _SPACE.search(text, start, first)
            return first if space is None else space.end()
        start -= 1
    return 0
