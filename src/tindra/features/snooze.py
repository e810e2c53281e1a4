"""Snooze: an Email leaves its Mailbox, and comes back at a moment its owner chose.

Capability `urn:ietf:params:jmap:mail:snooze`, after draft-ietf-extra-email-snooze: the property
`snoozed` of Email, and the Mailbox role of the same name, in which Emails sleep. When they wake
they move to another Mailbox, which the mirror takes to the provider like any move.

Invariant: what is stored as snoozed is in the Mailbox it sleeps in and has a timer; whoever takes
it out of that Mailbox, here or at the provider, has woken it. docs/protocol/snooze.md
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from tindra.base import limits
from tindra.base.ids import AccountId, MailboxId
from tindra.core.datatype import (
    CallContext,
    Capability,
    Feature,
    PropertyExtension,
)
from tindra.core.errors import SetError
from tindra.core.ports import StoreReader
from tindra.core.services import Services
from tindra.core.tx import Change, Tx, transact
from tindra.model.email_property import PropertyChange, PropertyPlan
from tindra.model.keyword import is_keyword
from tindra.model.mail import EmailRow, MailboxRow, parse_email_id
from tindra.wire.jmap.date import encode_utc_date, parse_utc_date
from tindra.wire.jmap.pointer import PatchError, apply_patch

SNOOZE: Final = "urn:ietf:params:jmap:mail:snooze"
TIMER: Final = "snooze"
"""Its key is the id of the Email."""
SNOOZED_MAX: Final = limits.OBJECTS_PER_TYPE_MAX - limits.OBJECTS_IN_SET_MAX
"""Emails that may sleep in one account: what one call adds must still find room."""
_TYPE = "SnoozedEmail"
"""Of the stored objects; their ids are those of the Emails. No type that devices know."""
_ROLE = "snoozed"
_NAME = "Snoozed"


class _Stored(msgspec.Struct, rename="camel"):
    """SnoozeDetails, and where the Email sleeps."""

    until: str
    set_keywords: dict[str, bool] | None
    """Keyword, lower case -> whether it is set or removed on waking."""
    move_to_mailbox_id: str | None
    """None: the inbox, also when the Mailbox is gone by then."""
    sleeps_in: str

    def render(self) -> dict[str, Any]:
        """SnoozeDetails, as devices see it."""
        return {
            "until": self.until,
            "setKeywords": self.set_keywords,
            "moveToMailboxId": self.move_to_mailbox_id,
        }

    @property
    def until_ms(self) -> int:
        """When it wakes."""
        return parse_utc_date(self.until) or 0


async def _load_stored(reader: StoreReader, ids: Sequence[str]) -> dict[str, _Stored]:
    rows = await reader.load_objects(_TYPE, ids) if ids else []
    return {str(row.id): msgspec.json.decode(row.data, type=_Stored) for row in rows}


async def _load_snoozed(
    context: CallContext, account_id: AccountId, ids: list[str]
) -> dict[str, Any]:
    async def read(reader: StoreReader) -> dict[str, Any]:
        return {id: item.render() for id, item in (await _load_stored(reader, ids)).items()}

    return await context.services.store.read(account_id, read)


# -- setting -------------------------------------------------------------------------------------
class _SnoozeWriter:
    """Sets `snoozed`: a core.datatype.PropertyWriter."""

    async def plan(self, tx: Tx, call: CallContext, change: PropertyChange) -> PropertyPlan:
        """Where the Email goes, and when it wakes.

        Raises: SetError invalidPatch, invalidProperties, tooManyMailboxes, overQuota.
        """
        before = change.before
        known = await _load_stored(tx.store, [before.id]) if before is not None else {}
        stored = known.get(before.id) if before is not None else None
        wanted = _patch(None if stored is None else stored.render(), change.patch)
        mailboxes = change.mailboxes
        if wanted is None:
            places = change.mailbox_ids
            if stored is not None and stored.sleeps_in in places:
                places = _wake_places(places, stored, mailboxes)
            return PropertyPlan(places, None, None)
        beds = [id for id, row in mailboxes.items() if row.role == _ROLE]
        if stored is not None and stored.sleeps_in in change.mailbox_ids:
            beds = [stored.sleeps_in]  # also where the role went to another Mailbox since
        details = _check_details(wanted, mailboxes, call, beds)
        places = change.mailbox_ids
        if not set(beds) & set(places):
            if before is None or set(before.mailbox_ids) != set(places):
                text = "an Email is snoozed in the Mailbox with the role snoozed"
                raise SetError("invalidProperties", text, ["mailboxIds", "snoozed"])
            if len(places) >= limits.MAILBOXES_PER_EMAIL_MAX:
                raise SetError("tooManyMailboxes", f"at most {limits.MAILBOXES_PER_EMAIL_MAX}")
        if stored is None and await tx.count(_TYPE) >= SNOOZED_MAX:
            raise SetError("overQuota", f"{SNOOZED_MAX} Emails are snoozed already")
        details.sleeps_in = beds[0] if beds else await _make_mailbox(tx, list(mailboxes.values()))
        if details.sleeps_in not in places:
            # It leaves the Mailbox that it comes back to; others may go on holding it.
            target = _find_target(details, mailboxes)
            places = tuple(sorted({*places, details.sleeps_in} - {target}))
        return PropertyPlan(places, details.render(), details)

    async def apply(self, tx: Tx, id: str, stored: _Stored | None) -> None:
        """Write it with its timer, or forget both."""
        before = await tx.load(_TYPE, id)
        if stored is None:
            await _forget(tx, id, before)
            return
        after = msgspec.to_builtins(stored)
        if before is None:
            await tx.create(_TYPE, after, id=id)
        else:
            await tx.update(_TYPE, id, before, after)
        await tx.put_timer(TIMER, id, stored.until_ms)


def _patch(current: dict[str, Any] | None, patch: dict[str, Any]) -> Any:
    """The whole new value. Raises: SetError invalidPatch."""
    try:
        return apply_patch({"snoozed": current}, patch).get("snoozed")
    except PatchError as error:
        raise SetError("invalidPatch", str(error)) from None


def _check_details(
    value: Any, mailboxes: Mapping[str, MailboxRow], call: CallContext, beds: Sequence[str]
) -> _Stored:
    """SnoozeDetails of a device, in their full form. Raises: SetError invalidProperties."""

    def refuse(text: str) -> SetError:
        return SetError("invalidProperties", f"snoozed: {text}", ["snoozed"])

    if not isinstance(value, dict) or not value.keys() <= {
        "until", "setKeywords", "moveToMailboxId",
    }:  # fmt: skip
        raise refuse("it has until, setKeywords and moveToMailboxId")
    until_ms = parse_utc_date(value.get("until"))
    if until_ms is None:
        raise refuse("until must be a UTCDate")
    keywords = value.get("setKeywords")
    if keywords is not None:
        if not isinstance(keywords, dict) or len(keywords) > limits.KEYWORDS_PER_EMAIL_MAX:
            raise refuse("setKeywords must be an object with as many as an Email may have")
        for keyword, is_set in keywords.items():
            if not isinstance(is_set, bool) or not is_keyword(keyword):
                raise refuse(f"setKeywords: {keyword[:60]!r} must be a keyword, and true or false")
        keywords = {keyword.lower(): is_set for keyword, is_set in keywords.items()}
    target = value.get("moveToMailboxId")
    if isinstance(target, str):
        target = call.resolve(target)
        if target not in mailboxes or target in beds:
            raise refuse("moveToMailboxId is no Mailbox to wake in")
    elif target is not None:
        raise refuse("moveToMailboxId must be an id or null")
    return _Stored(encode_utc_date(until_ms), keywords or None, target, "")


async def _make_mailbox(tx: Tx, rows: Sequence[MailboxRow]) -> MailboxId:
    """The Mailbox to sleep in: one of that name at the top is taken, else it is made; its id.

    Raises: SetError overQuota.
    """
    for row in rows:
        if row.parent_id is None and row.role is None and row.name.casefold() == _NAME.casefold():
            after = msgspec.structs.replace(row, role=_ROLE)
            await tx.put_mailbox(row, after)
            return row.id
    if len(rows) >= limits.MAILBOXES_PER_ACCOUNT_MAX:
        raise SetError("overQuota", f"there are already {len(rows)} Mailboxes")
    taken = {row.name.casefold() for row in rows if row.parent_id is None}
    name = next(n for n in (_NAME, *(f"{_NAME} {i}" for i in range(2, len(rows) + 3)))
                if n.casefold() not in taken)  # fmt: skip
    made = MailboxRow(MailboxId(tx.new_id("m")), name, None, _ROLE, 10, True)
    await tx.put_mailbox(None, made)
    return made.id


# -- waking --------------------------------------------------------------------------------------
def _find_target(stored: _Stored, mailboxes: Mapping[str, MailboxRow]) -> str | None:
    """Where it goes on waking; None: there is no inbox."""
    if stored.move_to_mailbox_id in mailboxes:
        return stored.move_to_mailbox_id
    return next((id for id, row in mailboxes.items() if row.role == "inbox"), None)


def _wake_places(
    places: tuple[str, ...], stored: _Stored, mailboxes: Mapping[str, MailboxRow]
) -> tuple[str, ...]:
    """Sorted; an Email that has nowhere else to go stays where it sleeps."""
    target = _find_target(stored, mailboxes)
    awake = {*places} - {stored.sleeps_in} | ({target} if target is not None else set())
    return tuple(sorted(awake)) or places


def _wake_keywords(before: tuple[str, ...], stored: _Stored) -> tuple[str, ...]:
    asked = stored.set_keywords or {}
    kept = {keyword for keyword in before if asked.get(keyword, True)}
    added = sorted(keyword for keyword, is_set in asked.items() if is_set and keyword not in kept)
    room = max(0, limits.KEYWORDS_PER_EMAIL_MAX - len(kept))
    return tuple(sorted({*kept, *added[:room]}))


async def _forget(tx: Tx, id: str, before: dict[str, Any] | None) -> None:
    if before is not None:
        await tx.destroy(_TYPE, id, before)
        await tx.delete_timer(TIMER, id)


async def wake(services: Services, account_id: AccountId, id: str, _: Any) -> None:
    """The timer of one Email is due: it moves and gets its keywords. Idempotent."""

    async def write(tx: Tx) -> None:
        stored = (await _load_stored(tx.store, [id])).get(id)
        if stored is None:
            return
        if stored.until_ms > tx.clock.now_ms():  # snoozed anew meanwhile
            await tx.put_timer(TIMER, id, stored.until_ms)
            return
        doc_id = parse_email_id(id)
        rows = await tx.store.load_emails([doc_id] if doc_id is not None else [])
        mailboxes = {str(row.id): row for row in await tx.store.load_mailboxes()}
        for row in rows:
            places = _wake_places(row.mailbox_ids, stored, mailboxes)
            after = msgspec.structs.replace(
                row,
                mailbox_ids=tuple(map(MailboxId, places)),
                keywords=_wake_keywords(row.keywords, stored),
            )
            await tx.update_emails([(row, after)], touched=[row.id])
        await _forget(tx, id, msgspec.to_builtins(stored))

    await transact(services, account_id, "snooze-wake", write, "system")


async def note_moves(tx: Tx, changes: list[Change]) -> None:
    """What was taken out of its bed, or destroyed, is not snoozed any more.

    Cost: nothing unless Emails left a Mailbox; then one look-up for all of them.
    """
    left: dict[str, EmailRow | None] = {}
    for change in changes:
        before, after = change.before, change.after
        if before is not None and (after is None or set(before.mailbox_ids) - {*after.mailbox_ids}):
            left[change.id] = after
    for id, stored in (await _load_stored(tx.store, list(left))).items():
        row = left[id]
        if row is None or stored.sleeps_in not in row.mailbox_ids:
            await _forget(tx, id, msgspec.to_builtins(stored))


SNOOZE_FEATURE = Feature(
    name="snooze",
    capabilities=(Capability(SNOOZE, is_of_mailbox=True),),
    properties=(PropertyExtension("Email", "snoozed", SNOOZE, _load_snoozed, _SnoozeWriter()),),
    reactions={"Email": note_moves},
    timers={TIMER: wake},
)
