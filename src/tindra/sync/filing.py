"""The copy of a sent message in the provider's sent mail: who files it, and which Email it is.

Many providers file what they send, with octets of their own (trace fields, no Bcc) and some
seconds after their 250. So the provider is told that an Email belongs in the sent mail only when
its sending has ended, and after a while in which the provider's own copy may turn up; whoever
reads that copy first, and whenever, takes it for the Email itself, by its Message-ID. Nothing of
this is remembered outside the store: a crash anywhere means looking again.

How long to wait follows from what this provider did before (`filesSent` of the Connection, which
devices do not see) and from a table of hosts.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, Final, NamedTuple

import msgspec

from tindra.core.ports import StoreReader
from tindra.core.tx import Tx
from tindra.features.mail.ingest import Arrival
from tindra.features.mail.submission import TOPIC
from tindra.model.mail import EmailRow, encode_email_id, parse_email_id

FILING_HOSTS: Final = (
    "smtp.gmail.com", "smtp.googlemail.com", "smtp-relay.gmail.com",
    "smtp.office365.com", "smtp-mail.outlook.com", "*.outlook.com",
)  # fmt: skip
"""Submission servers that are known to file what they send."""
OWN_ROLES: Final = frozenset({"sent", "all"})
"""Mailboxes in which a provider's copy of a sent message is that Email. In the inbox it is not:
who writes to himself wants to get it."""
HELD_LOOK_MS: Final = 60_000
"""How often it is looked whether a sending has ended, if nobody says so."""
THREAD_EMAILS_MAX: Final = 200
"""Of a longer Thread the newest are looked at: the Email is one of them."""


class FilingPace(msgspec.Struct, frozen=True):
    """How long to wait for the provider's own copy of a message that was sent."""

    look_ms: int = 5_000
    """Between two looks into the sent mail."""
    unknown_ms: int = 20_000
    """Where nothing is known of the provider."""
    never_ms: int = 5_000
    """Where it filed nothing the last time."""
    always_ms: int = 180_000
    """Where it files what it sends; then it has forgotten this one."""
    doubt_ms: int = 15 * 60_000
    """After a sending that ended in doubt: a copy that turns up meanwhile is the provider's, and
    proves that it was sent."""


class Filing(NamedTuple):
    """What is known of Emails on their way into the sent mail."""

    sent: frozenset[str] = frozenset()
    """Ids of the Mailboxes that are the sent mail."""
    submissions: Mapping[str, Sequence[dict[str, Any]]] = {}
    """Email id -> its EmailSubmissions, of Emails that are to be put there."""
    files_sent: bool | None = None
    """Whether the provider files what it sends; None: not known."""


async def load_filing(
    reader: StoreReader, emails: Iterable[EmailRow], held: Mapping[str, Collection[str]]
) -> Filing:
    """What a plan for these Emails must know. Cost: where none goes there, one read.

    Args:
        held: Email id -> the Mailboxes in which the provider has it.
    """
    sent = frozenset(str(row.id) for row in await reader.load_mailboxes() if row.role == "sent")
    ids = {
        str(row.id)
        for row in emails
        if not sent.isdisjoint(row.mailbox_ids) and sent.isdisjoint(held.get(row.id, ()))
    }
    if not ids:
        return Filing(sent)
    connections = [
        msgspec.json.decode(row.data) for row in await reader.load_objects("Connection", None)
    ]
    submissions = await _load_submissions(reader)
    return Filing(
        sent,
        {id: [obj for _, obj in submissions[id]] for id in ids if id in submissions},
        decide_files_sent(connections[0]) if connections else None,
    )


def decide_files_sent(connection: dict[str, Any]) -> bool | None:
    """Whether a provider files what it sends, by its name and by what it did before."""
    host = str((connection.get("smtp") or {}).get("host", "")).lower().rstrip(".")
    if any(fnmatchcase(host, pattern) for pattern in FILING_HOSTS):
        return True
    told: bool | None = connection.get("filesSent")
    return told


async def _load_submissions(reader: StoreReader) -> dict[str, list[tuple[str, dict[str, Any]]]]:
    """Email id -> (id, EmailSubmission) of those that were not canceled."""
    found: dict[str, list[tuple[str, dict[str, Any]]]] = {}
    for row in await reader.load_objects("EmailSubmission", None):
        obj = msgspec.json.decode(row.data)
        if obj["sendState"] != "canceled":
            found.setdefault(obj["emailId"], []).append((row.id, obj))
    return found


def decide_hold_ms(
    submissions: Iterable[dict[str, Any]], files_sent: bool | None, now_ms: int, pace: FilingPace
) -> int:
    """When to look again whether an Email may be put into the provider's sent mail; 0: put it."""
    return max((_hold_ms(obj, files_sent, now_ms, pace) for obj in submissions), default=0)


def _hold_ms(obj: dict[str, Any], files_sent: bool | None, now_ms: int, pace: FilingPace) -> int:
    state = obj["sendState"]
    if state in ("pending", "sending"):
        return HELD_LOOK_MS  # its end leaves an intent
    if state == "uncertain":
        window_ms = pace.doubt_ms
    elif any(item["delivered"] in ("unknown", "yes") for item in obj["deliveryStatus"].values()):
        waits = {None: pace.unknown_ms, False: pace.never_ms, True: pace.always_ms}
        window_ms = waits[files_sent]
    else:
        return 0  # nobody took it, or it was canceled
    age_ms = now_ms - obj.get("endedMs", 0)
    # An end that lies in the future was told by a clock that has been set since.
    return min(pace.look_ms, window_ms - age_ms) if 0 <= age_ms < window_ms else 0


def is_waited_for(submissions: Iterable[dict[str, Any]]) -> bool:
    """Whether the provider's own copy may be there already."""
    return any(obj["sendState"] not in ("pending", "canceled") for obj in submissions)


# -- whose a message in the sent mail is -----------------------------------------------------------
class Twins(NamedTuple):
    """Which messages are Emails that are here already, although their octets differ."""

    docs: dict[str, int]
    """blob id of the message -> number of the Email."""
    sent: frozenset[int]
    """Those of them that were sent from here."""


async def find_twins(tx: Tx, arrivals: Sequence[Arrival], ghosts: Collection[str]) -> Twins:
    """Find the Emails whose copies the provider has filed.

    An Email that was sent from here is one, once it is no draft any more; so is one whose message
    was in this Mailbox before its uids started anew.

    Args:
        arrivals: messages of a Mailbox in OWN_ROLES whose content no Email has.
        ghosts: Email ids of the Mailbox's ghosts.
    Cost: one read where nothing was sent and nothing vanished; else some a message.
    """
    found = {str(item.blob_id): _read_message_ids(item.content.meta) for item in arrivals}
    own = {blob: ids for blob, ids in found.items() if ids}
    if not own:
        return Twins({}, frozenset())
    submissions = await _load_submissions(tx.store)
    candidates = {doc for id in {*submissions, *ghosts} if (doc := parse_email_id(id)) is not None}
    if not candidates:
        return Twins({}, frozenset())
    refs = {item.clues.references[0] for item in arrivals if str(item.blob_id) in own}
    threads = await tx.store.find_threads_by_reference(sorted(refs))
    wanted = {id for ids in threads.values() for id in ids}
    docs = {
        doc
        for thread in await tx.store.load_threads(sorted(wanted))
        for id in thread.email_ids[-THREAD_EMAILS_MAX:]
        if (doc := parse_email_id(id)) in candidates and doc is not None
    }
    rows = await tx.store.load_emails(sorted(docs)) if docs else []
    contents = await tx.store.load_contents([row.doc_id for row in rows]) if rows else {}
    by_ids = {
        tuple(_read_message_ids(contents[row.doc_id].meta)): row.doc_id
        for row in rows
        if row.id in ghosts or "$draft" not in row.keywords
    }
    twins = {blob: by_ids[tuple(ids)] for blob, ids in own.items() if tuple(ids) in by_ids}
    sent = frozenset(doc for doc in twins.values() if encode_email_id(doc) in submissions)
    return Twins(twins, sent)


def _read_message_ids(meta: bytes) -> list[str]:
    return msgspec.json.decode(meta).get("messageId") or []


async def note_filed(tx: Tx, fresh: Collection[int], sent: Collection[int]) -> None:
    """Messages came into the provider's sent mail that we did not put there.

    Args:
        fresh: Emails that were not in it before: it proves of each that it was sent.
        sent: Emails with another copy there than ours: the provider files what it sends.
    """
    if not fresh and not sent:
        return
    submissions = await _load_submissions(tx.store)
    has_filed = False
    for doc in {*fresh, *sent}:
        for id, obj in submissions.get(encode_email_id(doc), ()):
            has_filed = True
            if doc in fresh and obj["sendState"] in ("sending", "uncertain"):
                await tx.update("EmailSubmission", id, obj, obj | {"isFiled": True})
            if doc in fresh and obj["sendState"] == "uncertain":
                await tx.put_outbox(TOPIC, id)
    if has_filed:
        await apply_files_sent(tx, True)


async def apply_files_sent(tx: Tx, does: bool) -> None:
    """Remember whether the provider files what it sends."""
    for row in await tx.store.load_objects("Connection", None):
        before = msgspec.json.decode(row.data)
        await tx.update("Connection", row.id, before, before | {"filesSent": does})
