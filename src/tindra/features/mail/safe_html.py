"""Email.safeHtml: the HTML of an Email made harmless on the server, ready for a sandboxed frame.

RFC 8621 hands out raw HTML and leaves the danger to every client; here one sanitiser does it for
all. Capability `urn:tindra:params:jmap:view` (docs/protocol/view.md).
"""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable
from typing import Any, Final

from tindra.base import limits
from tindra.base.ids import AccountId
from tindra.core.datatype import CallContext, Capability, Feature, PropertyExtension
from tindra.core.errors import MethodError
from tindra.core.ports import StoreReader
from tindra.features.mail.body import load_structure, show_name
from tindra.features.mail.email_get import ANSWER_BYTES_MAX
from tindra.features.mail.writing.octet_budget import OctetBudget
from tindra.model.mail import EmailContent, EmailRow, parse_email_id
from tindra.wire.html.sanitise import sanitise_html
from tindra.wire.html.text import html_to_text
from tindra.wire.mime.decode import decode_body, decode_text
from tindra.wire.mime.parse import Part
from tindra.wire.mime.structure import split_bodies

VIEW: Final = "urn:tindra:params:jmap:view"
INLINE_IMAGE_BYTES_MAX: Final = 2 * limits.MIB
"""One image put into the HTML itself; a larger one stays an attachment."""
INLINE_IMAGES_BYTES_MAX: Final = 8 * limits.MIB
"""All of them in one Email."""
HTML_PARTS_MAX: Final = 200
"""Parts of one Email that are shown as HTML; more are shown as their text. Cleaning has a price
for each document, however short."""
_IMAGE_TYPES = frozenset(
    {"image/png", "image/jpeg", "image/gif", "image/webp", "image/bmp", "image/avif"}
)
"""Never SVG: it can carry scripts."""


def make_safe_html(raw: bytes, root: Part, allow_remote: bool) -> dict[str, Any] | None:
    """{"html", "blockedRemote"} of a message; None if it has no HTML body.

    Cost: linear in the size of the body and its inline images.
    """
    bodies = split_bodies(root)
    if not any(part.type == "text/html" for part in bodies.html_body):
        return None
    images = _Images(raw, root)
    pieces: list[str] = []
    blocked = cleaned = 0
    for part in bodies.html_body:
        if part.type == "text/html" and cleaned < HTML_PARTS_MAX:
            cleaned += 1
            text = decode_text(raw, part, limits.BODY_VALUE_BYTES_MAX).value
            safe = sanitise_html(text, cid_url=images.find_url, allow_remote=allow_remote)
            pieces.append(safe.html)
            blocked += safe.blocked_remote
        elif part.type in ("text/plain", "text/html"):
            text = decode_text(raw, part, limits.BODY_VALUE_BYTES_MAX).value
            if part.type == "text/html":
                text = html_to_text(text)
            pieces.append(f'<div style="white-space:pre-wrap">{html.escape(text)}</div>')
        elif part.type in _IMAGE_TYPES and (url := images.make_url(part)) is not None:
            pieces.append(f'<p><img alt="{html.escape(show_name(part) or "")}" src="{url}"></p>')
    return {"html": "\n".join(pieces), "blockedRemote": blocked}


class _Images:
    """Inline images of one message as data: URLs, within a budget."""

    def __init__(self, raw: bytes, root: Part) -> None:
        self._raw = raw
        self._room = INLINE_IMAGES_BYTES_MAX
        self._by_cid = {p.cid: p for p in _iterate(root) if p.cid and p.type in _IMAGE_TYPES}
        self._made: dict[int, str] = {}

    def find_url(self, cid: str) -> str | None:
        """The image that cid:... names; None if there is none, or no room for it."""
        part = self._by_cid.get(cid)
        return None if part is None else self.make_url(part)

    def make_url(self, part: Part) -> str | None:
        """The part as a data: URL. Each use counts: a small message may show one image often."""
        if part.size > min(INLINE_IMAGE_BYTES_MAX, self._room):
            return None
        self._room -= part.size
        if part.body_start not in self._made:
            data = base64.b64encode(decode_body(self._raw, part)).decode()
            self._made[part.body_start] = f"data:{part.type};base64,{data}"
        return self._made[part.body_start]


def _iterate(root: Part) -> Iterable[Part]:
    pending = [root]
    while pending:
        part = pending.pop()
        yield part
        pending.extend(part.children)


async def _load(
    context: CallContext, account_id: AccountId, ids: list[str], allow_remote: bool
) -> dict[str, Any]:
    docs = [doc for doc in map(parse_email_id, ids) if doc is not None]

    async def read(reader: StoreReader) -> tuple[list[EmailRow], dict[int, EmailContent]]:
        return await reader.load_emails(docs), await reader.load_contents(docs)

    services = context.services
    rows, contents = await services.store.read(account_id, read)
    found: dict[str, Any] = {}
    room = ANSWER_BYTES_MAX
    budget = OctetBudget()
    for row in rows:
        if not budget.take(row.size):
            raise MethodError("requestTooLarge", "the messages are too large: ask for fewer")
        raw = await services.blobs.get(account_id, row.blob_id)
        if raw is not None:
            root = load_structure(contents[row.doc_id].structure)
            safe = await services.offload.run(make_safe_html, raw, root, allow_remote)
            room -= len(safe["html"]) if safe else 0
            if room < 0:
                raise MethodError("requestTooLarge", f"over {ANSWER_BYTES_MAX} octets")
            found[row.id] = safe
    return found


async def load_safe_html(
    context: CallContext, account_id: AccountId, ids: list[str]
) -> dict[str, Any]:
    """Email.safeHtml: remote images and the like left out, and counted."""
    return await _load(context, account_id, ids, False)


async def load_safe_html_remote(
    context: CallContext, account_id: AccountId, ids: list[str]
) -> dict[str, Any]:
    """Email.safeHtmlRemote: the same with remote images, when the reader asked to see them."""
    return await _load(context, account_id, ids, True)


VIEW_FEATURE = Feature(
    name="view",
    capabilities=(Capability(VIEW, is_of_mailbox=True, supports_parts=True),),
    properties=(
        PropertyExtension("Email", "safeHtml", VIEW, load_safe_html),
        PropertyExtension("Email", "safeHtmlRemote", VIEW, load_safe_html_remote),
    ),
)
