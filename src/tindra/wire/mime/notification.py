"""Message disposition notifications, in full: written and read.

`report` reads the little that submissions need of them; here is everything a person may want to
see. Reading never fails: what is no notification gives None. Cost: linear in the message.
Source: RFC 8098 s3, RFC 6522 s3, RFC 6533 s3
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

from tindra.wire.mime.build import BodyPart
from tindra.wire.mime.compose import HeaderValue, RawValue, TextValue, encode_header
from tindra.wire.mime.decode import decode_body, decode_text
from tindra.wire.mime.header import as_text
from tindra.wire.mime.params import strip_comments
from tindra.wire.mime.parse import Message, Part, list_headers, parse_message

NOTIFICATION_BYTES_MAX: Final = 64 * 1024
"""Of the part with the fields; real ones have some hundred octets."""
FIELDS_MAX: Final = 100
"""Fields read of one notification."""
VALUE_CHARS_MAX: Final = 2000
"""Kept of one field."""
TEXT_BYTES_MAX: Final = 256 * 1024
"""Kept of what is said to people."""
ACTION_MODES: Final = ("manual-action", "automatic-action")
SENDING_MODES: Final = ("mdn-sent-manually", "mdn-sent-automatically")
TYPES: Final = ("deleted", "dispatched", "displayed", "processed")
_PARTS: Final = ("message/disposition-notification", "message/global-disposition-notification")
_ORIGINALS: Final = ("message/rfc822", "message/global")
_DISPOSITION = re.compile(r"\s*([\w-]+)\s*/\s*([\w-]+)\s*;\s*([\w-]+)\s*(?:/.*)?", re.ASCII)
_NAMES: Final = {
    "reporting-ua": "reporting_ua",
    "mdn-gateway": "gateway",
    "original-recipient": "original_recipient",
    "final-recipient": "final_recipient",
    "original-message-id": "original_message_id",
}
"""Field -> attribute of a Notification, in the order in which they are written."""
_KNOWN: Final = _NAMES.keys() | {"disposition", "error"}


class Disposition(msgspec.Struct, frozen=True):
    """What was done with the message; each one of the words above. Source: RFC 8098 s3.2.6"""

    action_mode: str
    sending_mode: str
    type: str


class Notification(msgspec.Struct, frozen=True):
    """The fields of a notification; None for one that is not there."""

    disposition: Disposition
    final_recipient: str | None = None
    """With its type: `rfc822; ann@example.org`. So is the next."""
    original_recipient: str | None = None
    original_message_id: str | None = None
    """In angle brackets."""
    reporting_ua: str | None = None
    gateway: str | None = None
    errors: list[str] = []
    extensions: dict[str, str] = {}
    """Fields that no standard of ours knows, by name as written."""


class ReadNotification(msgspec.Struct, frozen=True):
    """A message that is a notification."""

    notification: Notification
    subject: str | None
    text: str | None
    """What is said to people; None: there is no plain text."""
    has_original: bool
    """The whole message that it is about comes with it."""


# -- writing ---------------------------------------------------------------------------------------
def is_extension_name(name: str) -> bool:
    """Whether a field of this name may be added to a notification."""
    return name.lower() not in _KNOWN


def encode_recipient(address: str) -> str:
    """An address with its type, in ASCII whatever it is. Source: RFC 8098 s3.2.3, RFC 6533 s3"""
    if address.isascii():
        return f"rfc822; {address}"
    plain = "".join(
        c if c.isascii() and c.isprintable() and c not in "\\+= " else f"\\x{{{ord(c):X}}}"
        for c in address
    )
    return f"utf-8; {plain}"


def build_notification(
    notification: Notification, text: str, original: bytes | None = None
) -> BodyPart:
    """The body of the message that carries a notification.

    Args:
        text: what is said to people.
        original: the message that it is about, to be sent along.
    Raises: ValueError: a field that cannot be written; its text begins with the field's name.
    """
    fields: list[tuple[str, HeaderValue]] = []
    for name, attribute in _NAMES.items():
        value: str | None = getattr(notification, attribute)
        if value is not None:
            is_free = attribute in ("reporting_ua", "gateway")
            fields.append((_title(name), TextValue(value) if is_free else RawValue(f" {value}")))
    said = notification.disposition
    disposition = f" {said.action_mode}/{said.sending_mode}; {said.type}"
    fields.append(("Disposition", RawValue(disposition)))
    fields += [("Error", TextValue(value)) for value in notification.errors]
    fields += [(name, TextValue(value)) for name, value in notification.extensions.items()]
    content = b"".join(encode_header(name, value) for name, value in fields)
    children = [
        BodyPart("text/plain", text.encode("utf-8", "replace")),
        BodyPart("message/disposition-notification", content),
    ]
    if original is not None:
        children.append(BodyPart("message/rfc822", original))
    return BodyPart(
        "multipart/report",
        children=children,
        params=[("report-type", "disposition-notification")],
    )


def _title(name: str) -> str:
    words = {"ua": "UA", "mdn": "MDN", "id": "ID"}
    return "-".join(words.get(word, word.capitalize()) for word in name.split("-"))


# -- reading ---------------------------------------------------------------------------------------
def parse_notification(raw: bytes) -> ReadNotification | None:
    """What a message says if it is a notification. Source: RFC 8098 s3"""
    message = parse_message(raw)
    root = message.root
    if root.type != "multipart/report":
        return None
    parts = root.children[:10]
    part = next((part for part in parts if part.type in _PARTS), None)
    found = None if part is None else _parse_fields(raw, part)
    if found is None:
        return None
    subjects = [value for name, value in list_headers(raw, root) if name.lower() == "subject"]
    return ReadNotification(
        notification=found,
        subject=as_text(subjects[0]) if subjects else None,
        text=_read_text(message, parts[0]),
        has_original=any(part.type in _ORIGINALS for part in parts[2:]),
    )


def _parse_fields(raw: bytes, part: Part) -> Notification | None:
    """None where it does not say what was done, in words that are known."""
    if part.body_end - part.body_start > NOTIFICATION_BYTES_MAX:
        return None
    content = decode_body(raw, part).lstrip(b"\r\n")
    told: dict[str, str | None] = {}
    extensions: dict[str, str] = {}
    errors: list[str] = []
    disposition: Disposition | None = None
    for name, octets in list_headers(content, parse_message(content).root)[:FIELDS_MAX]:
        key, value = name.lower(), as_text(octets).strip()[:VALUE_CHARS_MAX]
        if key == "disposition":
            disposition = disposition or _parse_disposition(value)
        elif key == "error":
            errors.append(value)
        elif key in _NAMES:
            told.setdefault(_NAMES[key], value)
        else:
            extensions.setdefault(name, value)
    if disposition is None:
        return None
    return Notification(disposition=disposition, errors=errors, extensions=extensions, **told)


def _parse_disposition(value: str) -> Disposition | None:
    """Modifiers, and modes in any letter case, are taken. Source: RFC 8098 s3.2.6"""
    match = _DISPOSITION.fullmatch(strip_comments(value).lower())
    if match is None:
        return None
    action_mode, sending_mode, kind = match.groups()
    if action_mode not in ACTION_MODES or sending_mode not in SENDING_MODES or kind not in TYPES:
        return None
    return Disposition(action_mode, sending_mode, kind)


def _read_text(message: Message, first: Part) -> str | None:
    """The first plain text in the part that is for people."""
    pending = [first]
    while pending:
        part = pending.pop()
        if part.type == "text/plain":
            content = message.contents.get(part.part_id or "")
            return decode_text(message.raw, part, TEXT_BYTES_MAX, content).value
        pending.extend(reversed(part.children))
    return None
