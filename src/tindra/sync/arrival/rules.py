"""What a Sieve script decides about new mail, done: moved, marked, passed on, answered.

A move is an ordinary change of an Email, so the mirror carries it to the provider. `discard`, and
`redirect` without a copy, put the Email into the Trash: nothing that a script says loses mail. What
cannot be done (a mailbox that is not there) leaves the Email in the inbox.
Source: RFC 5228 s2.10, s4, s10, RFC 9661
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Final, NamedTuple

import msgspec

from tindra.base import limits
from tindra.base.ids import MailboxId
from tindra.core.errors import SetError
from tindra.core.ports import StoreReader
from tindra.core.services import Services
from tindra.core.tx import Tx
from tindra.features.mail.answering.memory import is_remembered, make_memory_id, remember
from tindra.features.mail.answering.message import AnswerText
from tindra.features.mail.answering.rules import find_return_path
from tindra.features.mail.answering.sending import Leaving, apply_leaving
from tindra.features.mail.identity import load_identities
from tindra.features.mail.writing.addresses import is_sendable, speaks_for
from tindra.features.mail.writing.mailbox_set import is_mailbox_name
from tindra.features.mail.writing.mailbox_tree import MailboxTree
from tindra.features.sieve import apply_last_error, load_active, load_script
from tindra.model.keyword import is_keyword
from tindra.model.mail import EmailRow, MailboxRow
from tindra.model.stored import BlobRow
from tindra.sync.arrival.away import (
    Answer,
    Away,
    VacationStep,
    apply_answer,
    make_answer,
)
from tindra.sync.arrival.runner import Arrived, Happenings, Step
from tindra.sync.plan import make_flag, make_keywords
from tindra.wire.mime.charset import normalise_nfc
from tindra.wire.sieve.actions import FileInto, Outcome, Surroundings, Vacation
from tindra.wire.sieve.errors import SieveError
from tindra.wire.sieve.evaluate import run_script
from tindra.wire.sieve.grammar import Script
from tindra.wire.sieve.letter import Letter

RECEIVED_MAX: Final = 50
"""Servers that a message came through: more of them are a ring. Source: RFC 5321 s6.3"""
PASSED_ON_MS: Final = 30 * 24 * 3600 * 1000
"""So long the same message is not passed on to the same address again."""
MARK: Final = "X-Tindra-Redirected-By"
"""Holds who passed a message on, as a hash: mail that comes back is not passed on again."""
_DAY_MS: Final = 24 * 3600 * 1000
_DELIVERED_FIELDS = ("delivered-to", "x-original-to", "envelope-to")


class Redirect(NamedTuple):
    """A message that is passed on."""

    blob: BlobRow
    identity_id: str
    mail_from: str
    recipient: str
    memory_id: str


class Decided(NamedTuple):
    """Everything that follows from one run, ready to be applied."""

    script_id: str
    outcome: Outcome
    redirects: tuple[Redirect, ...] = ()
    answer: Answer | None = None
    error: str | None = None
    """What the owner of the script is to be told."""


class SieveStep:
    """Runs the active script of an account over its new mail."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def decide(self, arrived: Arrived) -> Happenings | None:
        """Source: RFC 9661 s1"""
        active = await self._services.store.read(arrived.account_id, load_active)
        if active is None:
            return None
        id, stored = active
        if arrived.email.received_ms < stored["activeMs"] // 1000 * 1000:
            return None
        try:
            script = await load_script(self._services, arrived.account_id, stored)
        except SieveError as error:  # an older version took it
            return Happenings(partial(_tell, id, str(error)))
        if script is None:
            return Happenings(partial(_tell, id, "the octets of the script are lost"))
        outcome = await self._run(arrived, script)
        decided = await self._prepare(arrived, id, outcome)
        is_thrown_away = not outcome.is_kept and not outcome.files
        return Happenings(
            partial(_apply, decided, arrived),
            is_answerable=not is_thrown_away and outcome.vacation is None,
        )

    async def _run(self, arrived: Arrived, script: Script) -> Outcome:
        async def read(reader: StoreReader) -> tuple[list[MailboxRow], frozenset[str]]:
            wants_keys = "duplicate" in script.required
            now_ms = self._services.clock.now_ms()
            rows = await reader.load_objects("DuplicateMemory", None) if wants_keys else []
            known = (row for row in rows if msgspec.json.decode(row.data)["untilMs"] > now_ms)
            return await reader.load_mailboxes(), frozenset(str(row.id) for row in known)

        mailboxes, known = await self._services.store.read(arrived.account_id, read)
        paths = _make_paths(mailboxes)
        roles = {row.role: row.id for row in mailboxes if row.role is not None}
        names = {id: name for name, id in reversed(paths.items())}
        around = Surroundings(
            now_ms=self._services.clock.now_ms(),
            mailboxes=frozenset(paths),
            special_uses={f"\\{role}": names[id] for role, id in roles.items()},
            is_known=lambda key: make_memory_id(key) in known,
            flags=tuple(make_flag(keyword) for keyword in arrived.email.keywords),
        )
        to = [a.email for name in _DELIVERED_FIELDS for a in arrived.head.list_addresses(name)]
        letter = Letter(arrived.raw, find_return_path(arrived.head), to)
        return await self._services.offload.run(run_script, script, letter, around)

    async def _prepare(self, arrived: Arrived, id: str, outcome: Outcome) -> Decided:
        """Build what leaves. What may not leave is left out, and the message kept."""
        error = outcome.error
        redirects = []
        for address in outcome.redirects:
            found = await self._make_redirect(arrived, address)
            if isinstance(found, str):
                error, outcome.is_kept = found, True
            else:
                redirects.append(found)
        answer = None
        if outcome.vacation is not None:
            try:
                answer = await make_answer(self._services, arrived, _make_away(outcome.vacation))
            except ValueError as problem:
                error = f"vacation: {problem}"
        return Decided(id, outcome, tuple(redirects), answer, error)

    async def _make_redirect(self, arrived: Arrived, address: str) -> Redirect | str:
        """Why not, in words, where it would go round for ever. Source: RFC 5228 s10"""
        identities = await self._services.store.read(arrived.account_id, load_identities)
        own = {id: i["email"] for id, i in identities.items() if not i["email"].startswith("*")}
        if not own:
            return "redirect: the account has no address of its own to send from"
        if not is_sendable(address):
            return f"redirect: {address[:60]!r} is not an address"
        if any(speaks_for(i["email"], address) for i in identities.values()):
            return "redirect: to an own address would go round for ever"
        mark = make_memory_id("redirect", arrived.account_id)
        fields = arrived.head.fields
        if mark.encode() in (value.strip() for value in fields.get(MARK.lower(), ())):
            return "redirect: the message came back, it was passed on before"
        if len(fields.get("received", ())) > RECEIVED_MAX:
            return f"redirect: the message came through more than {RECEIVED_MAX} servers"
        raw = f"{MARK}: {mark}\r\n".encode() + _strip_return_path(arrived.raw)
        blob = await self._services.blobs.stage(arrived.account_id, raw)
        identity_id, email = next(iter(own.items()))
        # What has no sender keeps none, so that no report of a failure can come back for it.
        mail_from = "" if find_return_path(arrived.head) == "" else email
        memory_id = make_memory_id(arrived.email.blob_id, address.casefold())
        return Redirect(blob, identity_id, mail_from, address, memory_id)


def _make_away(vacation: Vacation) -> Away:
    said = AnswerText(vacation.subject, vacation.reason, None)
    if vacation.is_entity:
        said = AnswerText(vacation.subject, None, None, vacation.reason)
    return Away(said, vacation.handle, vacation.days * _DAY_MS, vacation.addresses, vacation.sender)


def _strip_return_path(raw: bytes) -> bytes:
    """The message without the notes of the server that delivered it. RFC 5321 s4.4"""
    at = 0
    while raw[at : at + 12].lower() == b"return-path:":
        at = raw.find(b"\n", at) + 1 or len(raw)
        while raw[at : at + 1] in (b" ", b"\t"):
            at = raw.find(b"\n", at) + 1 or len(raw)
    return raw[at:]


# -- inside the transaction ------------------------------------------------------------------------
async def _apply(decided: Decided, arrived: Arrived, tx: Tx, email: EmailRow) -> EmailRow:
    if decided.error is not None:
        await apply_last_error(tx, decided.script_id, decided.error)
    outcome = decided.outcome
    is_kept = outcome.is_kept
    for redirect in decided.redirects:
        is_kept = not await _apply_redirect(tx, email, redirect) or is_kept
    if decided.answer is not None:
        await apply_answer(tx, email, decided.answer)
    for note in outcome.notes:
        await _apply_note(tx, make_memory_id(note.key), note.seconds * 1000)
    places = await _find_places(tx, email, outcome.files, is_kept)
    if email.mailbox_ids != arrived.email.mailbox_ids:
        places = email.mailbox_ids  # somebody was faster, and knew better
    return msgspec.structs.replace(
        email, mailbox_ids=places, keywords=_choose_keywords(email, outcome)
    )


async def _tell(script_id: str, error: str, tx: Tx, email: EmailRow) -> EmailRow:
    """Leave the Email as it came, and say why."""
    await apply_last_error(tx, script_id, error)
    return email


async def _apply_redirect(tx: Tx, email: EmailRow, redirect: Redirect) -> bool:
    """Pass it on, unless that was done; False if it was not and cannot be."""
    if await is_remembered(tx, "RedirectMemory", redirect.memory_id):
        return True
    until_ms = tx.clock.now_ms() + PASSED_ON_MS
    if not await remember(tx, "RedirectMemory", redirect.memory_id, until_ms):
        return False
    leaving = Leaving(
        "redirect", redirect.blob, redirect.identity_id, email.thread_id,
        redirect.mail_from, redirect.recipient,
    )  # fmt: skip
    await apply_leaving(tx, leaving)
    return True


async def _apply_note(tx: Tx, id: str, length_ms: int) -> None:
    """Remember a message from now on. Source: RFC 7352 s3.2"""
    until_ms = tx.clock.now_ms() + length_ms
    before = await tx.load("DuplicateMemory", id)
    if before is not None:
        await tx.update("DuplicateMemory", id, before, {"untilMs": until_ms})
    else:
        await remember(tx, "DuplicateMemory", id, until_ms)


async def _find_places(
    tx: Tx, email: EmailRow, files: Sequence[FileInto], is_kept: bool
) -> tuple[MailboxId, ...]:
    """The Mailboxes where the Email is to be."""
    rows = await tx.store.load_mailboxes()
    found: set[MailboxId] = set()
    for action in files:
        id = _find_mailbox(rows, action)
        if id is None and action.is_created:
            id = await _create_path(tx, action.mailbox)
            rows = await tx.store.load_mailboxes()
        if id is None:
            is_kept = True
        else:
            found.add(id)
    if not found and not is_kept:
        found |= {row.id for row in rows if row.role == "trash"}
    if is_kept or not found:
        found |= set(email.mailbox_ids)
    return tuple(sorted(found))


def _find_mailbox(rows: Iterable[MailboxRow], action: FileInto) -> MailboxId | None:
    if action.special_use is not None:
        role = action.special_use.removeprefix("\\").lower()
        for row in rows:
            if row.role == role:
                return row.id
    return _make_paths(rows).get(_fold_path(action.mailbox))


def _fold_path(path: str) -> str:
    return normalise_nfc(path).casefold()


def _make_paths(rows: Iterable[MailboxRow]) -> dict[str, MailboxId]:
    """Full name, case folded, levels apart by "/" -> Mailbox. The inbox is INBOX, too."""
    by_id = {row.id: row for row in rows}
    found: dict[str, MailboxId] = {}
    for row in by_id.values():
        names = [row.name]
        above = row.parent_id
        for _ in range(limits.MAILBOX_DEPTH_MAX):
            if above is None or above not in by_id:
                break
            names.append(by_id[above].name)
            above = by_id[above].parent_id
        found.setdefault(_fold_path("/".join(reversed(names))), row.id)
        if row.role == "inbox":
            found["inbox"] = row.id
    return found


async def _create_path(tx: Tx, path: str) -> MailboxId | None:
    """Make a mailbox with all above it; None if that cannot be. Source: RFC 5490 s3.2"""
    rows = await tx.store.load_mailboxes()
    tree = MailboxTree(rows)
    names = normalise_nfc(path).split("/")
    if not all(map(is_mailbox_name, names)) or len(names) > limits.MAILBOX_DEPTH_MAX:
        return None
    missing: list[MailboxRow] = []
    parent: MailboxId | None = None
    known: Mapping[str, MailboxId] = _make_paths(rows)
    for level, name in enumerate(names, 1):
        here = known.get(_fold_path("/".join(names[:level])))
        if here is None:
            here = MailboxId(tx.new_id("m"))
            row = MailboxRow(here, name, parent, None, 0, True)
            try:
                tree.check_place(row)
            except SetError:
                return None
            tree.put(row)
            missing.append(row)
        parent = here
    if len(tree.rows) > limits.MAILBOXES_PER_ACCOUNT_MAX:
        return None
    for row in missing:
        await tx.put_mailbox(None, row)
    return parent


def _choose_keywords(email: EmailRow, outcome: Outcome) -> tuple[str, ...]:
    """An Email has the same keywords in all its Mailboxes: those of all actions together."""
    said = [action.flags for action in outcome.files]
    if outcome.is_kept:
        said.append(outcome.keep_flags)
    if all(flags is None for flags in said):
        return email.keywords
    found: set[str] = set()
    for flags in said:
        found.update(email.keywords if flags is None else make_keywords(flags))
    chosen = sorted(filter(is_keyword, found))
    return tuple(chosen[: limits.KEYWORDS_PER_EMAIL_MAX])


def make_steps(services: Services) -> list[Step]:
    """What happens with new mail, in this order."""
    return [SieveStep(services), VacationStep(services)]
