"""Notifications of delivery and of reading, told to the EmailSubmission they are about.

A report is mail, and anybody may write mail. It is believed if it names the envelope id, which only
servers on the way know, or the Message-ID; and of a recipient only if the submission had that
recipient and its message was handed over. It can add to what is known, never take a word back,
never send, cancel or send again. Source: RFC 8621 s7, RFC 3464 s2.3, RFC 8098 s3.2
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, Final

import msgspec

from tindra.core.errors import SetError
from tindra.core.tx import Tx
from tindra.features.mail.ingest import Arrival
from tindra.features.mail.submission import REPORTS_KEPT_MAX, cut_reply
from tindra.features.mail.writing.addresses import fold_address
from tindra.wire.mime.report import Report, ReportedRecipient

_REPLY = re.compile(r"[245]\d\d(?:[ -]|$)")
_STATUS = re.compile(r"[245]\.\d{1,3}\.\d{1,3}")
_CONTROLS = re.compile(r"[\x00-\x1f\x7f]+")
_STATUS_OF_ACTION: Final = {"failed": "5.0.0", "delayed": "4.0.0"}
_CODES: Final = {"2": "250", "4": "451", "5": "550"}
_DELIVERED_OF_ACTION: Final = {"failed": "no", "delivered": "yes"}


async def apply_reports(tx: Tx, arrivals: Iterable[Arrival]) -> None:
    """Bring EmailSubmissions up to what those say that are reports.

    Args:
        arrivals: new from the provider; what a device imports proves nothing.
    Cost: one read of all submissions, if there is a report.
    """
    reports = [(item.blob_id, item.report) for item in arrivals if item.report is not None]
    if not reports:
        return
    rows = await tx.store.load_objects("EmailSubmission", None)
    rows = sorted(rows, key=lambda row: row.created_modseq, reverse=True)
    stored = {str(row.id): msgspec.json.decode(row.data) for row in rows}
    before = dict(stored)
    for blob_id, report in reports:
        id = find_submission(stored, report)
        if id is not None:
            stored[id] = decide_report(stored[id], report, blob_id)
    for id, obj in before.items():
        # One that is full keeps what it knows: mail must go on coming in.
        with suppress(SetError):
            await tx.update("EmailSubmission", id, obj, stored[id])


def find_submission(stored: dict[str, dict[str, Any]], report: Report) -> str | None:
    """The id of the submission that a report is about.

    Args:
        stored: id -> EmailSubmission as stored, newest first. Of several with one Message-ID the
            newest one that had a recipient of the report is meant.
    """
    sent = {id: obj for id, obj in stored.items() if _has_left(obj)}
    for id, obj in sent.items():
        if report.envelope_id and report.envelope_id == get_envelope_id(id, obj):
            return id
    same = [
        id
        for id, obj in sent.items()
        if report.message_id and report.message_id == obj.get("messageId")
    ]
    for id in same:
        if any(_find_email(sent[id], one) for one in report.recipients):
            return id
    return same[0] if same else None


def get_envelope_id(id: str, obj: dict[str, Any]) -> str:
    """ENVID as it goes out: the device's own, else the id. Source: RFC 8621 s7 (mailFrom)"""
    given = obj["envelope"]["mailFrom"]["parameters"] or {}
    return str(next((text for name, text in given.items() if name.upper() == "ENVID"), id))


def _has_left(obj: dict[str, Any]) -> bool:
    status = (obj["deliveryStatus"] or {}).values()
    return any(item["delivered"] != "queued" for item in status) and obj["sendState"] != "canceled"


def _find_email(obj: dict[str, Any], reported: ReportedRecipient) -> str | None:
    """The recipient of the submission that a report speaks of."""
    known: dict[str, str] = {}
    for item in obj["envelope"]["rcptTo"]:
        known[fold_address(item["email"])] = item["email"]
        for name, text in (item["parameters"] or {}).items():
            if name.upper() == "ORCPT":
                known.setdefault(fold_address(text.partition(";")[2]), item["email"])
    for address in (reported.original, reported.final):
        if address and (email := known.get(fold_address(address))) is not None:
            return email
    return None


def decide_report(obj: dict[str, Any], report: Report, blob_id: str) -> dict[str, Any]:
    """The submission after a report: the blob is listed, and what is new of recipients is told."""
    name = "dsnBlobIds" if report.kind == "delivery" else "mdnBlobIds"
    blobs = obj[name]
    if blob_id in blobs or len(blobs) >= REPORTS_KEPT_MAX:
        return obj
    statuses = dict(obj["deliveryStatus"])
    for reported in report.recipients:
        email = _find_email(obj, reported)
        if email is not None and statuses[email]["delivered"] != "queued":
            decide = _decide_delivery if report.kind == "delivery" else _decide_disposition
            statuses[email] = decide(statuses[email], reported)
    return obj | {name: [*blobs, blob_id], "deliveryStatus": statuses}


def _decide_delivery(status: dict[str, str], reported: ReportedRecipient) -> dict[str, str]:
    """yes and no are final. Source: RFC 8621 s7 (delivered, smtpReply)"""
    if status["delivered"] != "unknown":
        return status
    delivered = _DELIVERED_OF_ACTION.get(reported.action, "unknown")
    return status | {"delivered": delivered, "smtpReply": make_reply(reported)}


def _decide_disposition(status: dict[str, str], reported: ReportedRecipient) -> dict[str, str]:
    """Source: RFC 8621 s7 (displayed), RFC 8098 s3.2.6.2"""
    return status | {"displayed": "yes"} if reported.action == "displayed" else status


def make_reply(reported: ReportedRecipient) -> str:
    """smtpReply: what the last server answered, else a reply made of the status.

    Source: RFC 8621 s7 (smtpReply)
    """
    text = _CONTROLS.sub(" ", reported.diagnosis).strip()
    if _REPLY.match(text):
        return cut_reply(text[:3] + " " + text[4:])
    status = reported.status
    if _STATUS.fullmatch(status) is None:
        status = _STATUS_OF_ACTION.get(reported.action, "2.0.0")
    word = reported.action if reported.action.isalpha() else "reported"
    return cut_reply(f"{_CODES[status[0]]} {status} {text or f'A delivery report says: {word}'}")
