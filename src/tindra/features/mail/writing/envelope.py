"""The SMTP envelope of a submission: made from a message, or given by the device and checked.

Pure: header octets and JSON values in, an Envelope or a SetError out. Who may write as whom is
decided here too, against the emails of the account's Identities.
Source: RFC 8621 s7, RFC 5321 s4.1, RFC 3461 s4, RFC 4865 s4
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from tindra.core.errors import SetError
from tindra.features.mail.writing.addresses import fold_address, is_sendable, speaks_for
from tindra.features.mail.writing.message_head import MessageHead
from tindra.wire.mime.date import parse_rfc3339
from tindra.wire.mime.header import Address, as_date, as_message_ids

RECIPIENTS_MAX = 250
"""Recipients of one submission (maxRecipients): RFC 5321 s4.5.3.1.8 asks for 100; its status must
fit in one stored object."""
HOLD_SECONDS_MAX = 366 * 24 * 3600
"""maxDelayedSend: a year ahead is as far as people plan mail."""
PARAMETER_CHARS_MAX = 500
"""Value of one SMTP parameter: the longest, ORCPT, is 500 characters (RFC 3461 s4.2)."""
_ONCE = {
    "from": "from",
    "sender": "sender",
    "reply-to": "replyTo",
    "to": "to",
    "cc": "cc",
    "bcc": "bcc",
    "subject": "subject",
    "date": "sentAt",
    "message-id": "messageId",
    "in-reply-to": "inReplyTo",
    "references": "references",
}
"""Fields that stand at most once (RFC 5322 s3.6) -> Email property."""
_MAIL_PARAMETERS = frozenset({"HOLDFOR", "HOLDUNTIL", "RET", "ENVID", "SIZE", "BODY", "SMTPUTF8"})
_RCPT_PARAMETERS = frozenset({"NOTIFY", "ORCPT"})
_NOTIFY = re.compile(r"NEVER|(?:SUCCESS|FAILURE|DELAY)(?:,(?:SUCCESS|FAILURE|DELAY)){0,2}")
_DIGITS = re.compile(r"[0-9]{1,9}")
_ORCPT = re.compile(r"[A-Za-z0-9-]{1,64};[^\x00-\x1f\x7f]+")


def find_problems(head: MessageHead, has_envelope: bool) -> list[str]:
    """The Email properties that keep a message from being sent as RFC 5322 wants it.

    A redirected message (with Resent-From) is somebody else's work: only the Resent fields count.

    Args:
        has_envelope: the envelope was given, so bad recipient addresses are not told apart by it.
    Source: RFC 8621 s7.5, RFC 5322 s3.6
    """
    if "resent-from" in head.fields:
        good = _are_sendable(head.list_addresses("resent-from"))
        return [] if good else ["header:Resent-From:asAddresses"]
    wrong = [prop for field, prop in _ONCE.items() if len(head.fields.get(field, ())) > 1]
    writers, senders = head.list_addresses("from"), head.list_addresses("sender")
    if not _are_sendable(writers):
        wrong.append("from")
    # Many writers need one sender. RFC 5322 s3.6.2
    needs_sender = "sender" in head.fields or len(writers) > 1
    if needs_sender and (len(senders) != 1 or not _are_sendable(senders)):
        wrong.append("sender")
    if not all(as_date(value) for value in head.fields.get("date", [b""])):
        wrong.append("sentAt")
    if not all(as_message_ids(value) for value in head.fields.get("message-id", ())):
        wrong.append("messageId")
    listed = ("reply-to", "to", "cc", "bcc") if has_envelope else ("reply-to",)
    wrong += [
        _ONCE[field]
        for field in listed
        if not all(is_sendable(a.email) for a in head.list_addresses(field))
    ]
    return list(dict.fromkeys(wrong))


def _are_sendable(addresses: Sequence[Address]) -> bool:
    return bool(addresses) and all(is_sendable(address.email) for address in addresses)


def check_from(head: MessageHead, own: Iterable[str]) -> None:
    """Raises: SetError forbiddenFrom unless every writer (or resender) is one of our own.

    Args:
        own: emails of the account's Identities.
    Source: RFC 8621 s7.5
    """
    own = list(own)
    field = "resent-from" if "resent-from" in head.fields else "from"
    for address in head.list_addresses(field):
        if not any(speaks_for(mine, address.email) for mine in own):
            raise SetError("forbiddenFrom", f"no Identity may write as {address.email[:254]!r}")


def make_envelope(head: MessageHead, identity_email: str) -> dict[str, Any]:
    """The envelope of a message that came without one.

    Raises: SetError invalidEmail where the sender is not clear, and those of check_recipients.
    Source: RFC 8621 s7
    """
    field = "sender" if "sender" in head.fields else "from"
    if "resent-from" in head.fields:
        field = "resent-from"
    found = head.list_addresses(field)
    if len(found) != 1 or len(head.fields[field]) != 1:
        raise SetError("invalidEmail", "it is not clear who sends this", [_ONCE.get(field, "from")])
    mail_from = found[0].email
    if not speaks_for(identity_email, mail_from):
        mail_from = identity_email
        if mail_from.startswith("*@"):
            raise SetError("forbiddenMailFrom", "the Identity speaks only for its own domain")
    recipients: dict[str, str] = {}
    for name in ("to", "cc", "bcc"):
        for address in head.list_addresses(name):
            recipients.setdefault(fold_address(address.email), address.email)
    envelope = {
        "mailFrom": {"email": mail_from, "parameters": None},
        "rcptTo": [{"email": email, "parameters": None} for email in recipients.values()],
    }
    check_recipients(list(recipients.values()))
    return envelope


def check_recipients(emails: Sequence[str]) -> None:
    """Raises: SetError noRecipients, tooManyRecipients, invalidRecipients. Source: RFC 8621 s7.5"""
    if not emails:
        raise SetError("noRecipients", "there is nobody to send this to")
    if len(emails) > RECIPIENTS_MAX:
        raise SetError(
            "tooManyRecipients", f"{len(emails)} recipients", maxRecipients=RECIPIENTS_MAX
        )
    wrong = [email for email in emails if not is_sendable(email)]
    if wrong:
        raise SetError("invalidRecipients", "not addresses", invalidRecipients=wrong)


def check_envelope(value: Any, own: Iterable[str]) -> dict[str, Any]:
    """The envelope a device gave, in its full form.

    Raises: SetError invalidProperties, forbiddenMailFrom, and those of check_recipients.
    Source: RFC 8621 s7
    """
    if not isinstance(value, dict) or value.keys() != {"mailFrom", "rcptTo"}:
        raise _wrong("it must have mailFrom and rcptTo")
    if not isinstance(value["rcptTo"], list):
        raise _wrong("rcptTo must be a list")
    mail_from = _check_address(value["mailFrom"], _MAIL_PARAMETERS)
    recipients = [_check_address(item, _RCPT_PARAMETERS) for item in value["rcptTo"]]
    email = mail_from["email"]
    if email and not is_sendable(email):
        raise _wrong("mailFrom is no address")
    # An empty return path is for notifications, which must not be answered by others.
    if email and not any(speaks_for(mine, email) for mine in own):
        raise SetError("forbiddenMailFrom", f"no Identity may send as {email!r}")
    unique = {fold_address(item["email"]): item for item in reversed(recipients)}
    recipients = list(reversed(unique.values()))
    check_recipients([item["email"] for item in recipients])
    return {"mailFrom": mail_from, "rcptTo": recipients}


def _wrong(why: str) -> SetError:
    return SetError("invalidProperties", f"envelope: {why}", ["envelope"])


def _check_address(value: Any, allowed: frozenset[str]) -> dict[str, Any]:
    if not isinstance(value, dict) or not value.keys() <= {"email", "parameters"}:
        raise _wrong("an Address has an email and parameters")
    if not isinstance(value.get("email"), str):
        raise _wrong("the email of an Address must be a string")
    given = value.get("parameters")
    if given is None:
        return {"email": value["email"], "parameters": None}
    if not isinstance(given, dict):
        raise _wrong("parameters must be an object or null")
    upper = {name.upper(): text for name, text in given.items()}
    if len(upper) != len(given):
        raise _wrong("a parameter stands twice")
    for name, text in upper.items():
        if name not in allowed:
            raise _wrong(f"there is no parameter {name[:60]!r}")
        _check_parameter(name, text)
    if {"HOLDFOR", "HOLDUNTIL"} <= upper.keys():
        raise _wrong("only one of HOLDFOR and HOLDUNTIL")
    return {"email": value["email"], "parameters": given}


def _check_parameter(name: str, text: Any) -> None:
    if name == "SMTPUTF8":
        if text is not None:
            raise _wrong("SMTPUTF8 takes no value")
        return
    if not isinstance(text, str) or not 0 < len(text) <= PARAMETER_CHARS_MAX:
        raise _wrong(f"{name} needs a value")
    if not text.isprintable():
        raise _wrong(f"{name} holds control characters")
    good = True
    match name:
        case "HOLDFOR":
            good = _DIGITS.fullmatch(text) is not None and int(text) <= HOLD_SECONDS_MAX
        case "HOLDUNTIL":
            good = parse_rfc3339(text) is not None
        case "RET":
            good = text.upper() in ("FULL", "HDRS")
        case "ENVID":
            good = len(text) <= 100
        case "SIZE":
            good = text.isascii() and text.isdigit()
        case "BODY":
            good = text.upper() in ("7BIT", "8BITMIME")
        case "NOTIFY":
            good = _NOTIFY.fullmatch(text.upper()) is not None
        case "ORCPT":
            good = _ORCPT.fullmatch(text) is not None
    if not good:
        raise _wrong(f"{name} does not take this value")


def decide_send_ms(envelope: dict[str, Any], now_ms: int) -> int:
    """When the submission is due: now, or when HOLDFOR or HOLDUNTIL say.

    Raises: SetError invalidProperties for a moment beyond HOLD_SECONDS_MAX.
    Source: RFC 4865 s4, RFC 8621 s7 (sendAt)
    """
    given = envelope["mailFrom"]["parameters"] or {}
    for name, text in given.items():
        if name.upper() == "HOLDFOR":
            return now_ms + int(text) * 1000
        if name.upper() == "HOLDUNTIL":
            moment = parse_rfc3339(text)
            assert moment is not None
            if moment.unix_ms > now_ms + HOLD_SECONDS_MAX * 1000:
                raise _wrong("HOLDUNTIL is too far in the future")
            return max(moment.unix_ms, now_ms)
    return now_ms
