"""The message of an automatic answer. Pure. Source: RFC 3834 s3, RFC 5230 s4.2, s5"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from tindra.features.mail.writing.message_head import MessageHead
from tindra.wire.html.text import html_to_text
from tindra.wire.jmap.date import encode_utc_date
from tindra.wire.mime.build import (
    Address,
    AddressesValue,
    BodyPart,
    DateValue,
    HeaderValue,
    MessageIdsValue,
    TextValue,
    build_message,
)
from tindra.wire.mime.compose import encode_header
from tindra.wire.mime.header import as_message_ids, as_text

SUBJECT_CHARS_MAX = 250
"""A longer subject of somebody else is cut when it is repeated."""
REFERENCES_MAX = 20
"""The first of a long chain of References and the latest ones are repeated."""
DEFAULT_TEXT = "I am away at the moment and will read your message when I am back.\n"
"""What is said when its owner did not say anything."""
_UNWRITABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]+")
_ENTITY_FIELD = re.compile(rb"(?i)content-[a-z-]+[ \t]*:|mime-version[ \t]*:|[ \t]")


class AnswerText(NamedTuple):
    """What an answer says."""

    subject: str | None
    """None: "Auto: " and the subject of what is answered."""
    text: str | None
    html: str | None
    entity: str | None = None
    """A whole MIME entity with its header instead of both. Source: RFC 5230 s4.4"""


class Mark(NamedTuple):
    """What makes a message one of a kind."""

    now_ms: int
    token: str
    """Random, safe in a Message-ID and in a boundary."""


def build_answer(
    head: MessageHead,
    author: Mapping[str, Any],
    recipient: str,
    said: AnswerText,
    mark: Mark,
) -> bytes:
    """The octets of the answer.

    Args:
        head: of the message that is answered.
        author: name and email: who answers.
    Raises: ValueError: an address or entity that cannot be written.
    """
    ids = [
        id for value in head.fields.get("message-id", ())[:1] for id in as_message_ids(value) or ()
    ]
    ids = ids[:1]
    email = str(author["email"])
    domain = email.rpartition("@")[2]
    is_plain = domain.isascii() and not domain.startswith("[")
    name = _UNWRITABLE.sub(" ", str(author.get("name") or "")).strip()
    headers: list[tuple[str, HeaderValue]] = [
        ("From", AddressesValue([Address(name=name or None, email=email)])),
        ("To", AddressesValue([Address(name=None, email=recipient)])),
        ("Subject", TextValue(make_subject(head, said.subject))),
        ("Date", DateValue(encode_utc_date(mark.now_ms))),
        (
            "Message-ID",
            MessageIdsValue([f"{mark.token}@{domain if is_plain else 'tindra.invalid'}"]),
        ),
        *(_make_thread(head, ids)),
        ("Auto-Submitted", TextValue("auto-replied")),
        # Exchange knows this better than the standard field.
        ("X-Auto-Response-Suppress", TextValue("All")),
    ]
    if said.entity is not None:
        return _join_entity(headers, said.entity)
    numbers = iter(range(1 << 30))
    root = make_body(said.text, said.html)
    return build_message(headers, root, boundary=lambda: f"=_{mark.token}_{next(numbers):x}")


def make_subject(head: MessageHead, given: str | None) -> str:
    """The subject of an answer. Source: RFC 5230 s5.4"""
    if given is not None:
        return _UNWRITABLE.sub(" ", given).strip()[:SUBJECT_CHARS_MAX]
    was = "".join(as_text(value) for value in head.fields.get("subject", ())[:1])
    return f"Auto: {_UNWRITABLE.sub(' ', was).strip()[:SUBJECT_CHARS_MAX]}".strip()


def _make_thread(head: MessageHead, ids: list[str]) -> list[tuple[str, HeaderValue]]:
    """In-Reply-To and References, as a reply of a person has them. Source: RFC 5322 s3.6.4"""
    if not ids or not _is_writable(ids[0]):
        return []
    before: list[str] = []
    for name in ("references", "in-reply-to"):
        values = head.fields.get(name, ())[:1]
        before = before or [id for value in values for id in as_message_ids(value) or ()]
    before = [id for id in before if _is_writable(id) and id != ids[0]]
    if len(before) >= REFERENCES_MAX:
        before = [before[0], *before[2 - REFERENCES_MAX :]]
    return [("In-Reply-To", MessageIdsValue(ids)), ("References", MessageIdsValue([*before, *ids]))]


def _is_writable(id: str) -> bool:
    try:
        encode_header("References", MessageIdsValue([id]))
    except ValueError:
        return False
    return len(id) <= SUBJECT_CHARS_MAX


def make_body(text: str | None, html: str | None) -> BodyPart:
    """text/plain, with the HTML beside it where there is some. Source: RFC 8621 s8"""
    plain = (
        text if text is not None else DEFAULT_TEXT if html is None else html_to_text(html, 100_000)
    )
    part = BodyPart("text/plain", _encode(plain))
    if html is None:
        return part
    return BodyPart("multipart/alternative", children=[part, BodyPart("text/html", _encode(html))])


def _encode(text: str) -> bytes:
    return text.encode("utf-8", "replace")


def _join_entity(headers: list[tuple[str, HeaderValue]], entity: str) -> bytes:
    """Raises: ValueError: there is something else than a MIME entity."""
    octets = _encode(entity).replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    fields, blank, body = octets.partition(b"\r\n\r\n")
    lines = fields.split(b"\r\n")
    if not blank or any(_ENTITY_FIELD.match(line) is None for line in lines):
        raise ValueError("a :mime reason needs Content-* header fields, an empty line and a body")
    written = [encode_header(name, value) for name, value in headers]
    if not any(line.lower().startswith(b"mime-version") for line in lines):
        written.append(b"MIME-Version: 1.0\r\n")
    return b"".join([*written, fields, b"\r\n\r\n", body])
