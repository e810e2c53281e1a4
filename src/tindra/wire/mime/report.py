"""Delivery and disposition notifications: what a multipart/report says, as plain values.

Whether it says the truth, and of which message, is for others to judge. Never fails: what is no
report gives None, what is missing in one is empty. Cost: linear in what is looked at.
Source: RFC 6522 s3, RFC 3464 s2, RFC 8098 s3
"""

from __future__ import annotations

import re
from typing import Final, Literal

import msgspec

from tindra.wire.mime.decode import decode_body
from tindra.wire.mime.header import as_message_ids, as_text
from tindra.wire.mime.parse import Message, Part, list_headers, parse_message

REPORT_BYTES_MAX: Final = 256 * 1024
"""Looked at of one part: 250 recipients with long diagnoses are some 150 KiB."""
REPORTED_RECIPIENTS_MAX: Final = 300
"""Read of one report: no message goes out to more."""
FIELD_CHARS_MAX: Final = 1000
"""Kept of one field."""
_DELIVERY = ("message/delivery-status", "message/global-delivery-status")
_DISPOSITION = ("message/disposition-notification", "message/global-disposition-notification")
_ORIGINAL = ("message/rfc822", "text/rfc822-headers", "message/global", "message/global-headers")
_FIELD = re.compile(r"([!-9;-~]{1,100})[ \t]*:(.*)", re.DOTALL)


class ReportedRecipient(msgspec.Struct, frozen=True):
    """What a report says of one recipient."""

    final: str
    """Whom the reporting server tried; without its type. Empty if it is not told."""
    original: str
    """Whom the message was sent to by its sender; empty if it is not told."""
    action: str
    """Lower case. Of a delivery report failed, delayed, delivered, relayed or expanded; of a
    disposition report displayed, deleted, dispatched or processed; or anything."""
    status: str
    """As 5.1.1; empty if it is not told."""
    diagnosis: str
    """What a server answered by SMTP, in one line; empty if it is not told."""


class Report(msgspec.Struct, frozen=True):
    """A report on a message that was sent."""

    kind: Literal["delivery", "disposition"]
    envelope_id: str
    """ENVID of the submission; empty if it is not told."""
    message_id: str
    """Message-ID of the message reported on, without angle brackets; empty if it is not told."""
    recipients: tuple[ReportedRecipient, ...]


def parse_report(message: Message) -> Report | None:
    """The report that a message is, if it is one. Source: RFC 6522 s3"""
    if message.root.type != "multipart/report":
        return None
    parts = message.root.children[:10]
    for part in parts:
        if part.type in _DELIVERY:
            return _parse_delivery(message.raw, part, _find_message_id(message.raw, parts))
        if part.type in _DISPOSITION:
            return _parse_disposition(message.raw, part, _find_message_id(message.raw, parts))
    return None


def _parse_delivery(raw: bytes, part: Part, message_id: str) -> Report:
    """Source: RFC 3464 s2.2, s2.3"""
    groups = _parse_groups(_read(raw, part))
    head = groups[0] if groups else {}
    recipients = tuple(
        ReportedRecipient(
            final=_take_address(group.get("final-recipient", "")),
            original=_take_address(group.get("original-recipient", "")),
            action=_first_word(group.get("action", "")),
            status=_first_word(group.get("status", "")),
            diagnosis=_take_diagnosis(group.get("diagnostic-code", "")),
        )
        for group in groups[1:]
    )
    return Report("delivery", head.get("original-envelope-id", ""), message_id, recipients)


def _parse_disposition(raw: bytes, part: Part, message_id: str) -> Report:
    """Source: RFC 8098 s3.1, s3.2"""
    groups = _parse_groups(_read(raw, part))
    fields = groups[0] if groups else {}
    named = as_message_ids(fields.get("original-message-id", "").encode()) or [message_id]
    recipient = ReportedRecipient(
        final=_take_address(fields.get("final-recipient", "")),
        original=_take_address(fields.get("original-recipient", "")),
        # disposition-mode ";" disposition-type ["/" modifiers]
        action=_first_word(fields.get("disposition", "").partition(";")[2].partition("/")[0]),
        status="",
        diagnosis="",
    )
    return Report("disposition", "", named[0], (recipient,))


def _read(raw: bytes, part: Part) -> bytes:
    if part.body_end - part.body_start > 2 * REPORT_BYTES_MAX:
        return b""  # no server writes so much; what is cut could lose its encoding
    return decode_body(raw, part)[:REPORT_BYTES_MAX]


def _parse_groups(data: bytes) -> list[dict[str, str]]:
    """Blocks of fields: name in lower case -> value in one line; the first of a name counts."""
    groups: list[dict[str, str]] = []
    current: dict[str, str] = {}
    name = ""
    for line in [*data.decode("utf-8", "replace").splitlines(), ""]:
        if not line.strip():
            if current:
                groups.append(current)
            if len(groups) > REPORTED_RECIPIENTS_MAX:
                break
            current, name = {}, ""
        elif line[0] in " \t":
            if name and len(current[name]) < FIELD_CHARS_MAX:
                current[name] = f"{current[name]} {line.strip()}"[:FIELD_CHARS_MAX]
        elif (field := _FIELD.fullmatch(line)) is not None:
            name = field[1].lower()
            if name in current:
                name = ""
            else:
                current[name] = field[2].strip()[:FIELD_CHARS_MAX]
    return groups


def _take_address(value: str) -> str:
    """The address of `rfc822; someone@example.org`. Source: RFC 3464 s2.1.2"""
    kind, separator, address = value.partition(";")
    if not separator:
        kind, address = "rfc822", value
    if kind.strip().lower() not in ("rfc822", "utf-8"):
        return ""
    address = address.strip()
    return address[1:-1] if address[:1] == "<" and address[-1:] == ">" else address


def _take_diagnosis(value: str) -> str:
    """The reply of `smtp; 550 5.1.1 ...`; other kinds say nothing that JMAP knows."""
    kind, separator, text = value.partition(";")
    return text.strip() if separator and kind.strip().lower() == "smtp" else ""


def _first_word(value: str) -> str:
    """Without comments that follow."""
    words = value.replace("(", " ").split(maxsplit=1)
    return words[0].lower() if words else ""


def _find_message_id(raw: bytes, parts: list[Part]) -> str:
    """Of the message that was returned, or of its header."""
    for part in parts:
        if part.type not in _ORIGINAL:
            continue
        content = raw[part.body_start : min(part.body_end, part.body_start + REPORT_BYTES_MAX)]
        if part.encoding in ("base64", "quoted-printable"):
            content = _read(raw, part)
        content = content.lstrip(b"\r\n")
        for name, value in list_headers(content, parse_message(content).root):
            if name.lower() == "message-id":
                found = as_message_ids(value)
                return found[0] if found else as_text(value).strip("<> ")
    return ""
