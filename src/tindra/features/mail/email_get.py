"""Email/get (RFC 8621 s4.2): stored JSON is spliced, only what varies is made anew.

The immutable part of an Email for one set of properties is rendered once and kept as bytes, so a
list view costs one row read and one join of bytes an Email.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final, NamedTuple

import msgspec

from tindra.base import limits
from tindra.base.ids import AccountId, ModSeq
from tindra.core.datatype import CallContext, GetRequest, GetResult
from tindra.core.errors import MethodError
from tindra.core.ports import Cursor, StoreReader
from tindra.core.services import Services
from tindra.core.state import encode_state
from tindra.features.mail.body import (
    BodyRequest,
    load_structure,
    measure_reach,
    needs_message,
    render_body,
    take_body_request,
)
from tindra.features.mail.ingest import META_PROPERTIES, parse_arrival
from tindra.features.mail.writing.octet_budget import OctetBudget
from tindra.model.mail import EmailContent, EmailQuery, EmailRow, parse_email_id
from tindra.wire.jmap.date import encode_utc_date

_FIXED = ("id", "blobId", "threadId", "size", "receivedAt")
_VARIABLE = ("mailboxIds", "keywords")
_TREE = ("bodyStructure", "bodyValues", "textBody", "htmlBody", "attachments", "headers")
EMAIL_PROPERTIES = frozenset({*_FIXED, *_VARIABLE, *_TREE, *META_PROPERTIES})
DEFAULT_PROPERTIES = (
    *_FIXED, *_VARIABLE, *META_PROPERTIES, "bodyValues", "textBody", "htmlBody", "attachments",
)  # fmt: skip
"""Source: RFC 8621 s4.2"""
_OFFLOAD_BYTES = 256 * 1024
"""Octets of messages, and of part trees for each property, rendered on the loop in one go."""
ANSWER_BYTES_MAX: Final = 64 * limits.MIB
"""Bodies and header fields in one answer; it is held in memory."""

_Meta = msgspec.defstruct(
    "_Meta", [(name, msgspec.Raw, msgspec.Raw(b"null")) for name in META_PROPERTIES]
)
_meta_decoder = msgspec.json.Decoder(_Meta)


@lru_cache(maxsize=8192)
def encode_set(names: tuple[str, ...]) -> bytes:
    """A JMAP set, {"name": true ...}; mailboxIds and keywords take few distinct values."""
    return msgspec.json.encode(dict.fromkeys(names, True))


class _Plan(NamedTuple):
    """Which properties come from where."""

    key: str
    """Names the immutable ones, for the cache."""
    fixed: tuple[str, ...]
    meta: tuple[str, ...]
    variable: tuple[str, ...]
    tree: tuple[str, ...]


@lru_cache(maxsize=1024)
def _plan(properties: tuple[str, ...]) -> _Plan:
    wanted = dict.fromkeys(properties)
    fixed = tuple(name for name in _FIXED if name in wanted)
    meta = tuple(name for name in META_PROPERTIES if name in wanted)
    tree = tuple(name for name in wanted if name in _TREE or name.startswith("header:"))
    variable = tuple(name for name in _VARIABLE if name in wanted)
    return _Plan(",".join((*fixed, *meta)), fixed, meta, variable, tree)


def _render_immutable(plan: _Plan, row: EmailRow, content: EmailContent | None) -> bytes:
    """The members of the object that never change, without braces."""
    values = {
        "id": row.id,
        "blobId": row.blob_id,
        "threadId": row.thread_id,
        "size": row.size,
        "receivedAt": encode_utc_date(row.received_ms),
    }
    pieces = [
        b'"%b":%b' % (name.encode(), msgspec.json.encode(values[name])) for name in plan.fixed
    ]
    if plan.meta:
        assert content is not None, f"Email {row.id} has no content row"
        meta = _meta_decoder.decode(content.meta)
        pieces += [b'"%b":%b' % (name.encode(), bytes(getattr(meta, name))) for name in plan.meta]
    return b",".join(pieces)


class _Found(NamedTuple):
    """What one read of the store brings."""

    rows: list[EmailRow]
    heads: dict[int, bytes]
    """doc_id -> immutable members."""
    contents: dict[int, EmailContent]
    messages: dict[str, bytes | None]
    """blobId -> octets where they are stored inline."""
    state: ModSeq


class EmailSource:
    """Loads Emails for /get."""

    async def load_for_get(self, context: CallContext, request: GetRequest) -> GetResult:
        """Raises: MethodError invalidArguments, requestTooLarge. Source: RFC 8621 s4.2"""
        body = take_body_request(request.arguments)
        plan = _plan(tuple(request.properties or DEFAULT_PROPERTIES))
        docs, missing = _parse_ids(request.ids)
        has_messages = needs_message(plan.tree, body)
        services = context.services
        read = _make_read(services, request.account_id, plan, docs, has_messages)
        is_long = has_messages and len(docs or ()) > 20
        found = await services.store.read(request.account_id, read, is_long=is_long)
        by_doc = {row.doc_id: row for row in found.rows}
        renderer = _TreeRenderer(services, request.account_id, found, plan.tree, body)
        objects: list[Any] = []
        for doc_id in by_doc if docs is None else docs:
            row = by_doc.get(doc_id)
            if row is None:
                assert docs is not None
                missing.append(docs[doc_id])
                continue
            extra = await renderer.render(row) if plan.tree else b""
            objects.append(_join(plan, row, found.heads[doc_id], extra))
        return GetResult(encode_state(Cursor(found.state)), objects, missing)


def _parse_ids(ids: Sequence[str] | None) -> tuple[dict[int, str] | None, list[str]]:
    """Document numbers in order, with their ids, and the ids that name nothing for sure."""
    if ids is None:
        return None, []
    docs: dict[int, str] = {}
    missing: list[str] = []
    for id in ids:
        doc_id = parse_email_id(id)
        if doc_id is None:
            missing.append(id)
        else:
            docs[doc_id] = id
    return docs, missing


def _make_read(
    services: Services,
    account_id: AccountId,
    plan: _Plan,
    docs: Mapping[int, str] | None,
    has_messages: bool,
) -> Callable[[StoreReader], Any]:
    """The one store call of an Email/get."""
    cache = services.cache

    async def read(reader: StoreReader) -> _Found:
        wanted = None if docs is None else list(docs)
        if wanted is None:
            wanted, _ = await reader.query_emails(
                EmailQuery(), limits.OBJECTS_IN_GET_MAX + 1, False
            )
            if len(wanted) > limits.OBJECTS_IN_GET_MAX:
                raise MethodError("requestTooLarge", "there are too many Emails to get them all")
        state = (await reader.load_states()).get("Email", ModSeq(0))
        rows = await reader.load_emails(wanted) if wanted else []
        heads: dict[int, bytes] = {}
        for row in rows:
            head = cache.get((account_id, row.doc_id, plan.key))
            if head is not None:
                heads[row.doc_id] = head
        contents: dict[int, EmailContent] = {}
        cold = [row for row in rows if row.doc_id not in heads] if plan.meta else []
        if cold or plan.tree:
            needed = rows if plan.tree else cold
            contents = await reader.load_contents([row.doc_id for row in needed])
        for row in rows:
            if row.doc_id not in heads:
                head = _render_immutable(plan, row, contents.get(row.doc_id))
                heads[row.doc_id] = head
                cache.put((account_id, row.doc_id, plan.key), head)
        messages: dict[str, bytes | None] = {}
        if has_messages and rows:
            blobs = await reader.load_blobs([row.blob_id for row in rows])
            messages = {id: blob.data for id, blob in blobs.items()}
        return _Found(rows, heads, contents, messages, state)

    return read


class _TreeRenderer:
    """Makes the members that come from the part tree and the message, Email after Email."""

    def __init__(
        self,
        services: Services,
        account_id: AccountId,
        found: _Found,
        properties: tuple[str, ...],
        body: BodyRequest,
    ) -> None:
        self._services = services
        self._account_id = account_id
        self._found = found
        self._properties = properties
        self._body = body
        self._room_bytes = ANSWER_BYTES_MAX
        self._inline_bytes = 0
        self._budget = OctetBudget()

    async def render(self, row: EmailRow) -> bytes:
        """The members of one Email, without braces.

        Raises: MethodError requestTooLarge, once all of the answer is over ANSWER_BYTES_MAX, or all
            that was read for it over an OctetBudget.
        """
        found, blob_id = self._found, row.blob_id
        raw = found.messages.get(blob_id) or b""
        structure = found.contents[row.doc_id].structure
        root = load_structure(structure)
        if not raw and blob_id in found.messages:
            reach = measure_reach(root, self._properties, self._body)
            if not self._budget.take(reach):
                raise MethodError("requestTooLarge", "the messages are too large: ask for fewer")
            raw = await self._services.blobs.get(self._account_id, blob_id, 0, reach) or b""
        # A small message may have many parts, and each is asked for many properties.
        self._inline_bytes += len(raw) + len(structure) * len(self._body.properties)
        if self._inline_bytes >= _OFFLOAD_BYTES:
            # A giant, or the last straw of many: the loop gets a chance in between.
            self._inline_bytes = 0
            run = self._services.offload.run
            tree = await run(
                render_body, raw, blob_id, root, self._properties, self._body, self._room_bytes
            )
        else:
            tree = render_body(raw, blob_id, root, self._properties, self._body, self._room_bytes)
        extra = msgspec.json.encode(tree)[1:-1]
        self._room_bytes -= len(extra)
        if self._room_bytes < 0:
            raise MethodError("requestTooLarge", f"over {ANSWER_BYTES_MAX} octets: ask for fewer")
        return extra


@lru_cache(maxsize=8192)
def _render_variable(
    names: tuple[str, ...], mailbox_ids: tuple[str, ...], keywords: tuple[str, ...]
) -> bytes:
    """The members that vary; they take few distinct values, so this is nearly always a hit."""
    pieces = [
        b'"%b":%b' % (name.encode(), encode_set(mailbox_ids if name == "mailboxIds" else keywords))
        for name in names
    ]
    return b",".join(pieces)


def _join(plan: _Plan, row: EmailRow, head: bytes, extra: bytes) -> msgspec.Raw:
    parts = [head]
    if plan.variable:
        parts.append(_render_variable(plan.variable, row.mailbox_ids, row.keywords))
    if extra:
        parts.append(extra)
    # "id" is always asked for, so the head is never empty.
    return msgspec.Raw(b"{" + b",".join(parts) + b"}")


def render_message(
    raw: bytes,
    blob_id: str,
    properties: list[str] | None,
    arguments: dict[str, Any],
    room_bytes: int,
) -> msgspec.Raw:
    """The Email object of a message that is not stored, for Email/parse.

    Args:
        properties: names, already checked; None for the defaults of Email/parse.
        room_bytes: what its bodies may take in the answer.
    Raises: MethodError requestTooLarge.
    Cost: linear in len(raw). Source: RFC 8621 s4.9
    """
    body = take_body_request(arguments)
    arrival = parse_arrival(raw, blob_id)
    names = DEFAULT_PROPERTIES if properties is None else tuple(properties)
    if properties is None:
        names = tuple(n for n in names if n not in (*_FIXED, *_VARIABLE))
    found: dict[str, Any] = dict.fromkeys(names)
    # Only these two of the metadata are known of a message that is in no account.
    found |= {n: v for n, v in (("blobId", blob_id), ("size", len(raw))) if n in found}
    meta = msgspec.json.decode(arrival.content.meta)
    found |= {name: meta[name] for name in META_PROPERTIES if name in found}
    plan = _plan(names)
    root = load_structure(arrival.content.structure)
    found |= render_body(raw, blob_id, root, plan.tree, body, room_bytes)
    return msgspec.Raw(msgspec.json.encode(found))
