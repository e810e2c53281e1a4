"""Whether a message may get an automatic answer, and where that goes. Pure.

An answer to a machine, a list or another answer is worse than none: whatever is in doubt is not
answered. Source: RFC 3834 s2, RFC 5230 s4.5, s4.6
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from tindra.features.mail.writing.addresses import fold_address, is_sendable, speaks_for
from tindra.features.mail.writing.message_head import MessageHead
from tindra.wire.mime.header import as_addresses, as_text

Refusal = Literal["automatic", "list", "bulk", "noSender", "machine", "own", "notForUs", "junk"]
"""Why a message gets no answer."""

_LIST_FIELD = re.compile(
    r"list-(?:id|help|subscribe|unsubscribe|unsubscribe-post|post|owner|archive)"
)
_BULK = frozenset({"bulk", "junk", "list", "auto_reply"})
_AUTOMATIC_FIELDS = ("x-autoreply", "x-autorespond", "x-autoresponse", "x-auto-reply")
"""What answering programs wrote before RFC 3834."""
_SUPPRESSING = frozenset({"all", "oof", "autoreply"})
"""X-Auto-Response-Suppress, by which Exchange says that it wants no answer."""
_MACHINE = re.compile(
    r"owner-.*|.*-(?:request|owner|bounces?|relay)|mailer-daemon|mailerdaemon|mail-daemon|postmaster"
    r"|listserv|majordomo|listproc|(?:.*[-_.+])?(?:no|not?|do-?not|dont)[-_.]?reply(?:[-_.+].*)?"
    r"|bounces?(?:[-_.+=].*)?|(?:auto|automatic)[-_.]?(?:reply|response|notification|mailer)|nobody"
)
"""Local parts behind which nobody reads."""
RECIPIENT_FIELDS = ("to", "cc", "bcc", "resent-to", "resent-cc", "resent-bcc")
"""Where one of the own addresses must stand. Source: RFC 5230 s4.5"""
ADDRESSES_MAX = 1_000
"""Of these fields so many addresses are looked at; a message to more people is no letter to us."""


class Answerable(NamedTuple):
    """A message that may be answered."""

    recipient: str
    """Where the answer goes."""
    identity_id: str
    """Who was written to, and so who answers."""
    author: str
    """The address that was written to."""


def find_return_path(head: MessageHead) -> str | None:
    """The envelope sender as the last server noted it; "" for the null one, None for no note.

    Source: RFC 5321 s4.4
    """
    for value in head.fields.get("return-path", ())[:1]:
        text = value.strip().strip(b"<>").strip()
        if not text:
            return ""
        found = as_addresses(value)
        return found[0].email if found else ""
    return None


def find_refusal(head: MessageHead) -> Refusal | None:
    """Why nobody may answer this message, whoever they are. Source: RFC 3834 s2, s5"""
    for value in head.fields.get("auto-submitted", ()):
        # Parameters and comments may follow: auto-replied (vacation), auto-generated; owner=...
        if re.split(r"[\s;(]", as_text(value).strip().casefold(), maxsplit=1)[0] != "no":
            return "automatic"
    if any(name in head.fields for name in _AUTOMATIC_FIELDS):
        return "automatic"
    for value in head.fields.get("x-auto-response-suppress", ()):
        if not _SUPPRESSING.isdisjoint(re.split(r"[\s,]+", as_text(value).casefold())):
            return "automatic"
    for value in head.fields.get("content-type", ())[:1]:
        if (
            as_text(value)
            .strip()
            .casefold()
            .startswith(("multipart/report", "message/disposition"))
        ):
            return "automatic"
    if any(_LIST_FIELD.fullmatch(name) for name in head.fields):
        return "list"
    for value in head.fields.get("precedence", ()):
        if as_text(value).strip().casefold() in _BULK:
            return "bulk"
    for value in head.fields.get("x-spam-flag", ()):
        if as_text(value).strip().casefold() == "yes":
            return "junk"
    return None


def decide_answer(
    head: MessageHead, identities: Mapping[str, Mapping[str, Any]], also: Iterable[str] = ()
) -> Answerable | Refusal:
    """Who gets an answer to this message, and from which Identity; or why nobody does.

    Args:
        identities: id -> Identity, all of the account.
        also: more addresses that are the user's (vacation :addresses). RFC 5230 s4.3
    """
    refusal = find_refusal(head)
    if refusal is not None:
        return refusal
    people = {name: [a.email for a in head.list_addresses(name)] for name in ("from", "sender")}
    path = find_return_path(head)
    # Without a note of the envelope only a single author can be meant.
    recipient = (
        path if path is not None else (people["from"] if len(people["from"]) == 1 else [""])[0]
    )
    if not recipient or not is_sendable(recipient):
        return "noSender"
    writers = [recipient, *people["from"], *people["sender"]]
    if any(_is_machine(writer) for writer in writers):
        return "machine"
    own = [str(identity["email"]) for identity in identities.values()]
    if any(speaks_for(mine, writer) for mine in own for writer in writers):
        return "own"
    found = _find_addressed(head, identities, tuple(also))
    return "notForUs" if found is None else Answerable(recipient, *found)


def _is_machine(address: str) -> bool:
    local = address.rpartition("@")[0].casefold()
    return len(local) > 64 or _MACHINE.fullmatch(local) is not None


def _find_addressed(
    head: MessageHead, identities: Mapping[str, Mapping[str, Any]], also: Sequence[str]
) -> tuple[str, str] | None:
    """The Identity that the message was addressed to, and under which address."""
    named = [a.email for name in RECIPIENT_FIELDS for a in head.list_addresses(name)]
    named = named[:ADDRESSES_MAX]
    for id, identity in identities.items():
        for address in named:
            if speaks_for(str(identity["email"]), address):
                email = str(identity["email"])
                return id, address if email.startswith("*") else email
    known = {fold_address(address) for address in also}
    plain = [(id, i["email"]) for id, i in identities.items() if not i["email"].startswith("*")]
    if plain and any(fold_address(address) in known for address in named):
        return plain[0]
    return None
