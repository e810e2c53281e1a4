"""SearchSnippet/get (RFC 8621 s5): the words of a query, marked where they stand in an Email."""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Iterable
from typing import Any, NamedTuple

import msgspec

from tindra.base import limits
from tindra.core.access import check_read
from tindra.core.arguments import check_names, take_ids
from tindra.core.datatype import CallContext
from tindra.core.errors import MethodError
from tindra.core.ports import StoreReader
from tindra.features.mail.email_query import parse_filter
from tindra.features.mail.ingest import parse_arrival
from tindra.model.mail import (
    EmailCondition,
    EmailFilter,
    EmailRow,
    FilterOperator,
    parse_email_id,
)

_WORD = re.compile(r"\w+")
_BEFORE_CHARS = 60


async def run_snippet_get(context: CallContext, arguments: dict[str, Any]) -> dict[str, Any]:
    """SearchSnippet/get. Cost: one parse of each message asked for. Source: RFC 8621 s5.1

    Raises: MethodError accountNotFound, invalidArguments, unsupportedFilter, requestTooLarge.
    """
    account_id = check_read(context.caller, arguments.get("accountId")).account.id
    check_names(arguments, ("accountId", "filter", "emailIds"))
    ids = take_ids(arguments, "emailIds")
    if ids is None:
        raise MethodError("invalidArguments", "'emailIds' must be a list of ids")
    if len(ids) > limits.OBJECTS_IN_GET_MAX:
        raise MethodError("requestTooLarge", f"over {limits.OBJECTS_IN_GET_MAX} ids")
    words = _Words(set(), set())
    if arguments.get("filter") is not None:
        budget = [limits.FILTER_CONDITIONS_MAX]
        _collect(parse_filter(arguments["filter"], budget), words)
    docs = {doc: id for id in ids if (doc := parse_email_id(id)) is not None}

    async def read(reader: StoreReader) -> list[EmailRow]:
        return await reader.load_emails(list(docs))

    rows = {docs[row.doc_id]: row for row in await context.services.store.read(account_id, read)}
    found = [await _make_snippet(context, account_id, rows[i], words) for i in ids if i in rows]
    missing = [id for id in ids if id not in rows]
    return {"accountId": account_id, "list": found, "notFound": missing or None}


class _Words(NamedTuple):
    """Folded words looked for in the subject, and in the body."""

    subject: set[str]
    body: set[str]


def _collect(filter: EmailFilter, words: _Words) -> None:
    if isinstance(filter, FilterOperator):
        if filter.operator != "NOT":
            for item in filter.conditions:
                _collect(item, words)
        return
    words.subject.update(_fold_words(_texts(filter, "text", "subject")))
    words.body.update(_fold_words(_texts(filter, "text", "body")))


def _texts(condition: EmailCondition, *names: str) -> Iterable[str]:
    return (text for name in names if (text := getattr(condition, name)))


def _fold_words(texts: Iterable[str]) -> Iterable[str]:
    return (_fold(word) for text in texts for word in _WORD.findall(text))


def _fold(word: str) -> str:
    """Without case and diacritics, as the search index has it."""
    plain = unicodedata.normalize("NFKD", word)
    return "".join(c for c in plain if not unicodedata.combining(c)).casefold()


async def _make_snippet(
    context: CallContext, account_id: Any, row: EmailRow, words: _Words
) -> dict[str, Any]:
    snippet: dict[str, Any] = {"emailId": row.id, "subject": None, "preview": None}
    if not words.subject and not words.body:
        return snippet
    raw = await context.services.blobs.get(account_id, row.blob_id) or b""
    arrival = await context.services.offload.run(parse_arrival, raw, row.blob_id)
    meta = msgspec.json.decode(arrival.content.meta)
    snippet["subject"] = mark_words(meta["subject"] or "", words.subject, whole=True)
    snippet["preview"] = mark_words(arrival.words.body, words.body)
    return snippet


def mark_words(text: str, words: set[str], whole: bool = False) -> str | None:
    """`text` as HTML with each of `words` in <mark>, around the first one; None if none is there.

    Args:
        words: folded.
        whole: from the beginning, not from near the first word.
    Returns: at most SNIPPET_CHARS_MAX octets, cut between words. Source: RFC 8621 s5
    """
    hits = (m for m in _WORD.finditer(text) if _fold(m.group()) in words)
    first = next(hits, None)
    if first is None:
        return None
    start = 0 if whole else max(0, first.start() - _BEFORE_CHARS)
    if start:
        space = text.find(" ", start, first.start())
        start = space + 1 if space >= 0 else first.start()
    return _cut_marked(text, start, words)


def _cut_marked(text: str, start: int, words: set[str]) -> str:
    pieces: list[str] = []
    size = 0
    for token in re.finditer(r"\w+|\s+|[^\w\s]", text[start : start + limits.SNIPPET_CHARS_MAX]):
        word = token.group()
        piece = " " if word.isspace() else html.escape(word)
        if _fold(word) in words:
            piece = f"<mark>{piece}</mark>"
        size += len(piece.encode())
        if size > limits.SNIPPET_CHARS_MAX:
            break
        pieces.append(piece)
    return "".join(pieces).strip()
