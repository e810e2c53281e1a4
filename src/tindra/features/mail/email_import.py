"""Email/import (RFC 8621 s4.8): uploaded messages become Emails.

Messages are read and parsed before the one transaction that places them all; each succeeds or
fails alone. A message that is here already is refused, with the id of its twin.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from tindra.base import limits
from tindra.base.ids import AccountId, is_id
from tindra.core.access import check_write
from tindra.core.arguments import check_names, check_set_count, take_objects, take_text
from tindra.core.blob_parts import BlobPlace, find_blob, load_place
from tindra.core.datatype import CallContext
from tindra.core.errors import MethodError, SetError
from tindra.core.services import Services
from tindra.core.tx import Tx, transact_in_state
from tindra.features.mail.ingest import Arrival, NewEmail, apply_arrivals, offer_words
from tindra.features.mail.keywords import check_mailbox_ids
from tindra.features.mail.sharing.rights import (
    check_right,
    find_hidden_twins,
    refuse_hidden_twin,
)
from tindra.features.mail.writing.extended import (
    Extended,
    Planned,
    plan_extended,
    split_extended,
)
from tindra.features.mail.writing.octet_budget import OctetBudget
from tindra.features.mail.writing.placing import (
    check_metadata,
    make_created,
    parse_offloaded,
    refuse_twin,
)
from tindra.model.mail import EmailRow, encode_email_id
from tindra.model.stored import BlobRow

_ARGUMENTS = frozenset({"accountId", "ifInState", "emails"})
_PROPERTIES = frozenset({"blobId", "mailboxIds", "keywords", "receivedAt"})


class _Candidate(NamedTuple):
    """A message that may become an Email."""

    arrival: Arrival
    mailbox_ids: dict[str, Any]
    """As given; checked in the transaction."""
    keywords: tuple[str, ...]
    received_ms: int
    blob: BlobRow | None
    """A blob that it comes with; None: it is here already."""
    asked: list[Extended]
    """Properties of other features."""


class _Placed(NamedTuple):
    """What the transaction did."""

    rows: dict[str, EmailRow]
    refused: dict[str, SetError]


async def run_import(context: CallContext, arguments: dict[str, Any]) -> dict[str, Any]:
    """Email/import. Cost: two blob reads and a parse for each message, within one OctetBudget; one
    transaction.

    Raises: MethodError accountNotFound, accountReadOnly, forbidden, invalidArguments,
        requestTooLarge, stateMismatch.
    Source: RFC 8621 s4.8
    """
    account_id = check_write(context.caller, arguments.get("accountId"), "triage").account.id
    check_names(arguments, _ARGUMENTS)
    if not isinstance(arguments.get("emails"), dict):
        raise MethodError("invalidArguments", "'emails' must be an object")
    emails = take_objects(arguments, "emails", is_create=True)
    check_set_count(len(emails))
    if_in_state = take_text(arguments, "ifInState")
    candidates: dict[str, _Candidate | SetError] = {}
    reading = _Reading(context.services, account_id, context.caller.sees_part(account_id))
    for key, obj in emails.items():
        try:
            candidates[key] = await _load_candidate(context, reading, obj)
        except SetError as error:
            candidates[key] = error

    async def write(tx: Tx) -> _Placed:
        return await _place(tx, context, candidates)

    placed, states = await transact_in_state(
        context.services, account_id, "Email/import", if_in_state, write
    )
    _offer(context.services, account_id, placed, candidates)
    context.created_ids.update({key: str(row.id) for key, row in placed.rows.items()})
    return states | {
        "created": {key: make_created(row) for key, row in placed.rows.items()} or None,
        "notCreated": {key: e.to_object() for key, e in placed.refused.items()} or None,
    }


class _Reading:
    """The messages of one call: each is read and parsed once, and all of them within a budget."""

    def __init__(self, services: Services, account_id: AccountId, is_part: bool) -> None:
        """
        Args:
            is_part: what was uploaded lies elsewhere (core/part.py).
        """
        self._services = services
        self._is_part = is_part
        self._account_id = account_id
        self._budget = OctetBudget()
        self._found: dict[str, tuple[Arrival, BlobRow | None]] = {}

    async def find(self, blob_id: Any) -> BlobPlace | None:
        """Where the octets are; None for what is no blob of the account."""
        if not isinstance(blob_id, str) or not is_id(blob_id):
            return None
        return await find_blob(self._services, self._account_id, blob_id)

    async def load(self, blob_id: str, place: BlobPlace) -> tuple[Arrival, BlobRow | None]:
        """The message, and a blob that it comes with where it was a part of another.

        Raises: SetError invalidProperties, invalidEmail, tooLarge, rateLimit.
        """
        if blob_id in self._found:
            return self._found[blob_id]
        size = place.end - place.start
        if size > limits.MESSAGE_BYTES_MAX:
            raise SetError("tooLarge", f"over {limits.MESSAGE_BYTES_MAX} octets")
        self._budget.spend(size)
        raw = await load_place(self._services, self._account_id, place)
        if raw is None:
            raise SetError("invalidProperties", "there is no such blob", ["blobId"])
        arrival = await parse_offloaded(self._services, raw, place.blob_id)
        if not arrival.is_message:
            raise SetError("invalidEmail", "this is not a message: it has no header field")
        blob = None
        if place.blob_id != blob_id or self._is_part:
            # A message attached to another becomes a blob of its own.
            blob = await self._services.blobs.stage(self._account_id, raw)
            arrival = msgspec.structs.replace(arrival, blob_id=blob.id)
        self._found[blob_id] = arrival, blob
        return arrival, blob


async def _load_candidate(
    context: CallContext, reading: _Reading, obj: dict[str, Any]
) -> _Candidate:
    """Raises: SetError invalidProperties, invalidEmail, tooLarge, tooManyKeywords, rateLimit."""
    obj, asked = split_extended(context, obj)
    unknown = sorted(obj.keys() - _PROPERTIES)
    if unknown:
        raise SetError("invalidProperties", "an EmailImport has no such properties", unknown)
    blob_id = obj.get("blobId")
    if isinstance(blob_id, str):
        blob_id = context.resolve(blob_id)
    place = await reading.find(blob_id)
    try:
        metadata = check_metadata(obj)
    except SetError as error:
        if place is None and error.kind == "invalidProperties":
            error.properties.append("blobId")
        raise
    if place is None or blob_id is None:
        raise SetError("invalidProperties", "there is no such blob", ["blobId"])
    arrival, blob = await reading.load(blob_id, place)
    received_ms = metadata.received_ms
    if received_ms is None:
        received_ms = arrival.passed_ms
    if received_ms is None:
        received_ms = context.services.clock.now_ms()
    keywords = metadata.keywords or ()
    return _Candidate(arrival, obj["mailboxIds"], keywords, received_ms, blob, asked)


async def _place(
    tx: Tx, context: CallContext, candidates: dict[str, _Candidate | SetError]
) -> _Placed:
    """Everything that may become an Email does, in one go."""
    mailboxes = {str(row.id): row for row in await tx.seen.load_mailboxes()}
    placed = _Placed({}, {})
    blob_ids = [c.arrival.blob_id for c in candidates.values() if not isinstance(c, SetError)]
    here = await tx.seen.find_emails_by_blob(blob_ids)
    hidden = await find_hidden_twins(tx, blob_ids)
    fresh: dict[str, NewEmail] = {}
    plans: dict[str, Planned] = {}
    first: dict[str, str] = {}
    for key, candidate in candidates.items():
        try:
            if isinstance(candidate, SetError):
                raise candidate
            mailbox_ids = check_mailbox_ids(candidate.mailbox_ids, mailboxes, context.resolve)
            check_right(tx.seen, "mayAddItems", mailbox_ids)
            blob_id = candidate.arrival.blob_id
            if blob_id in hidden:
                raise refuse_hidden_twin()
            if blob_id in here:
                raise refuse_twin(encode_email_id(here[blob_id]))
            plans[key] = await plan_extended(
                tx, context, candidate.asked, None, mailbox_ids, mailboxes
            )
        except SetError as error:
            placed.refused[key] = error
            continue
        if first.setdefault(blob_id, key) == key:
            if candidate.blob is not None:
                await tx.put_blob(candidate.blob)
            fresh[key] = NewEmail(
                candidate.arrival, plans[key].mailbox_ids, candidate.keywords, candidate.received_ms
            )
    rows = await apply_arrivals(tx, list(fresh.values()))
    placed.rows.update(zip(fresh, rows, strict=True))
    for key, row in placed.rows.items():
        await plans[key].apply(tx, row.id)
    for key, candidate in candidates.items():
        # A message that stands twice in the call: the second one finds its twin.
        if key not in placed.rows and key not in placed.refused:
            assert not isinstance(candidate, SetError)
            twin = placed.rows[first[candidate.arrival.blob_id]]
            placed.refused[key] = refuse_twin(twin.id)
    return placed


def _offer(
    services: Services,
    account_id: AccountId,
    placed: _Placed,
    candidates: dict[str, _Candidate | SetError],
) -> None:
    """The words go to the indexer now that the Emails are there to stay."""
    arrivals = [c.arrival for key in placed.rows if not isinstance(c := candidates[key], SetError)]
    offer_words(services, account_id, list(placed.rows.values()), arrivals)
