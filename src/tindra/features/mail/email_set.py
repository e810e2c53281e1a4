"""Email/set (RFC 8621 s4.6): writing messages, moving, marking and destroying Emails.

Messages are written and stored before the transaction; inside it only rows are touched. Updates and
destroys are gathered and written together at the end, so that fifty marks are one batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from tindra.base import limits
from tindra.base.ids import AccountId, MailboxId
from tindra.core.datatype import CallContext, SetContext, SetRequest
from tindra.core.errors import SetError
from tindra.core.methods.copy import CopyRequest, Originals
from tindra.features.mail.email_copy import copy_email, load_originals
from tindra.features.mail.ingest import META_PROPERTIES
from tindra.features.mail.keywords import check_keywords, check_mailbox_ids
from tindra.features.mail.sharing.rights import check_email_update, check_right, write_emails
from tindra.features.mail.writing.compose import compose_message, plan_message
from tindra.features.mail.writing.extended import plan_extended, split_extended
from tindra.features.mail.writing.octet_budget import OctetBudget
from tindra.features.mail.writing.placing import (
    Metadata,
    Staged,
    check_metadata,
    check_no_twin,
    make_created,
    place_message,
    stage_message,
)
from tindra.model.keyword import is_keyword
from tindra.model.mail import EmailRow, MailboxRow, parse_email_id
from tindra.wire.jmap.date import encode_utc_date
from tindra.wire.jmap.pointer import PointerError, parse_pointer


class Draft(NamedTuple):
    """A message that was written, waiting for its transaction."""

    staged: Staged
    metadata: Metadata
    told: dict[str, Any]
    """What the server chose."""


class _Run:
    """What one Email/set gathers until it ends."""

    def __init__(self, drafts: dict[str, Draft | SetError]) -> None:
        self.drafts = drafts
        self.updates: dict[int, tuple[EmailRow, EmailRow]] = {}
        self.destroys: dict[int, EmailRow] = {}
        self.touched: set[str] = set()
        """Emails of which something changes that their rows do not hold."""
        self._mailboxes: Mapping[str, MailboxRow] | None = None

    def touch(self, id: str, mailbox_ids: Sequence[str]) -> None:
        """Note that a feature wrote a property of its own, and maybe made a Mailbox."""
        self.touched.add(id)
        if self._mailboxes is None or not self._mailboxes.keys() >= set(mailbox_ids):
            self._mailboxes = None

    async def load_mailboxes(self, context: SetContext) -> Mapping[str, MailboxRow]:
        """All Mailboxes, read once: Email/set itself makes none."""
        if self._mailboxes is None:
            self._mailboxes = {row.id: row for row in await context.tx.seen.load_mailboxes()}
        return self._mailboxes


class EmailWriter:
    """Writes Emails: a core.datatype.Writer and a core.methods.copy.Copier."""

    async def prepare(
        self, call: CallContext, account_id: AccountId, request: SetRequest
    ) -> dict[str, Any]:
        """Writes every message to be created; refusals wait for their turn."""
        drafts: dict[str, Draft | SetError] = {}
        budget = OctetBudget()
        for key, obj in request.create.items():
            try:
                drafts[key] = await _write_draft(call, account_id, obj, budget)
            except SetError as error:
                drafts[key] = error
        return {"run": _Run(drafts)}

    async def load(self, context: SetContext, ids: Sequence[str]) -> dict[str, EmailRow]:
        """id -> row."""
        docs = [doc_id for doc_id in map(parse_email_id, ids) if doc_id is not None]
        return {row.id: row for row in await context.tx.seen.load_emails(docs)} if docs else {}

    async def create(
        self, context: SetContext, creation_id: str, obj: dict[str, Any]
    ) -> dict[str, Any]:
        """Give the message a place. Source: RFC 8621 s4.6

        Raises: SetError invalidProperties, blobNotFound, tooLarge, rateLimit, tooManyKeywords,
            tooManyMailboxes, alreadyExists, forbidden.
        """
        run: _Run = context.prepared["run"]
        draft = run.drafts[creation_id]
        if isinstance(draft, SetError):
            raise draft
        mailboxes = await run.load_mailboxes(context)
        mailbox_ids = check_mailbox_ids(obj["mailboxIds"], mailboxes, context.resolve)
        check_right(context.tx.seen, "mayAddItems", mailbox_ids)
        await check_no_twin(context.tx, draft.staged.blob.id)
        _, asked = split_extended(context.call, obj)
        planned = await plan_extended(context.tx, context.call, asked, None, mailbox_ids, mailboxes)
        keywords, received_ms = draft.metadata
        told = dict(draft.told)
        if keywords is None:
            keywords = ()
            told["keywords"] = {}
        if received_ms is None:
            received_ms = context.tx.clock.now_ms()
            told["receivedAt"] = encode_utc_date(received_ms)
        placed = Metadata(keywords, received_ms)
        row = await place_message(context, draft.staged, planned.mailbox_ids, placed)
        await planned.apply(context.tx, row.id)
        return make_created(row) | told | planned.told

    async def update(
        self, context: SetContext, id: str, before: EmailRow, patch: dict[str, Any]
    ) -> dict[str, Any] | None:
        """Plan the change of one Email; `finish` writes it. Source: RFC 8621 s4.6

        Raises: SetError invalidPatch, invalidProperties, tooManyKeywords, tooManyMailboxes,
            forbidden.
        """
        run: _Run = context.prepared["run"]
        earlier = run.updates.get(before.doc_id)
        base = before if earlier is None else earlier[1]
        patch, asked = split_extended(context.call, patch)
        split = _split_patch(patch)
        if split.others:
            await _check_unchanged(context, base, split.others)
        changes: dict[str, Any] = {}
        if split.is_about("keywords"):
            changes["keywords"] = _patch_keywords(base.keywords, split)
        if split.is_about("mailboxIds"):
            mailboxes = await run.load_mailboxes(context)
            changes["mailbox_ids"] = _patch_mailboxes(context, base.mailbox_ids, split, mailboxes)
        told: dict[str, Any] = {}
        if asked:
            mailbox_ids = changes.get("mailbox_ids", base.mailbox_ids)
            mailboxes = await run.load_mailboxes(context)
            planned = await plan_extended(
                context.tx, context.call, asked, base, mailbox_ids, mailboxes
            )
            await planned.apply(context.tx, id)
            run.touch(id, planned.mailbox_ids)
            changes["mailbox_ids"], told = planned.mailbox_ids, planned.told
        if changes:
            after = msgspec.structs.replace(base, **changes)
            check_email_update(context.tx.seen, base, after)
            run.updates[before.doc_id] = (before if earlier is None else earlier[0], after)
        return told or None

    async def destroy(self, context: SetContext, id: str, before: EmailRow) -> None:
        """Plan the end of one Email; `finish` writes it."""
        run: _Run = context.prepared["run"]
        check_right(context.tx.seen, "mayRemoveItems", before.mailbox_ids)
        run.destroys[before.doc_id] = before

    async def finish(
        self, context: SetContext, answer: dict[str, Any]
    ) -> list[tuple[str, dict[str, Any]]]:
        """Write what was gathered, in one batch each."""
        run: _Run = context.prepared["run"]
        updates, destroys = list(run.updates.values()), list(run.destroys.values())
        await write_emails(context.tx, updates, destroys, run.touched)
        return []

    # -- Copier ----------------------------------------------------------------------------------
    async def load_originals(self, call: CallContext, request: CopyRequest) -> Originals:
        """Source: RFC 8621 s4.7"""
        return await load_originals(call, request)

    async def copy(
        self, context: SetContext, original: Any, overrides: dict[str, Any]
    ) -> dict[str, Any]:
        """Source: RFC 8621 s4.7"""
        return await copy_email(context, original, overrides)


async def _write_draft(
    call: CallContext, account_id: AccountId, obj: dict[str, Any], budget: OctetBudget
) -> Draft:
    """Raises: SetError, as EmailWriter.create."""
    try:
        metadata = check_metadata(obj)
    except SetError as error:
        _add_body_problems(error, call, obj)
        raise
    resolved = _resolve_blobs(call, split_extended(call, obj)[0])
    raw, told = await compose_message(call.services, account_id, resolved, budget)
    staged = await stage_message(call.services, account_id, raw)
    return Draft(staged, metadata, told | {"hasAttachment": staged.arrival.has_attachment})


def _add_body_problems(error: SetError, call: CallContext, obj: dict[str, Any]) -> None:
    """A refusal names all that is wrong, so the rest is looked at too."""
    if error.kind == "invalidProperties":
        try:
            plan_message(split_extended(call, obj)[0])
        except SetError as other:
            error.properties += other.properties


def _resolve_blobs(call: CallContext, obj: Any) -> Any:
    """The same object with blob ids for the creation ids of uploads. Source: RFC 9404 s4.1"""
    if not call.created_ids:
        return obj
    if isinstance(obj, dict):
        found = {name: _resolve_blobs(call, value) for name, value in obj.items()}
        blob_id = found.get("blobId")
        if isinstance(blob_id, str):
            found["blobId"] = call.resolve(blob_id)
        return found
    if isinstance(obj, list):
        return [_resolve_blobs(call, item) for item in obj]
    return obj


class _SplitPatch(NamedTuple):
    """A PatchObject by what it is about."""

    whole: dict[str, Any]
    """keywords or mailboxIds -> the whole new value."""
    single: dict[str, dict[str, bool]]
    """keywords or mailboxIds -> name -> whether it is set or removed."""
    others: dict[str, Any]
    """What can only be given as it is."""

    def is_about(self, name: str) -> bool:
        """Whether `name` is touched."""
        return name in self.whole or name in self.single


def _split_patch(patch: dict[str, Any]) -> _SplitPatch:
    """Raises: SetError invalidPatch, invalidProperties. Source: RFC 8620 s5.3"""
    split = _SplitPatch({}, {}, {})
    for path, value in patch.items():
        head, slash, rest = path.partition("/")
        if head not in ("keywords", "mailboxIds"):
            if slash:
                raise SetError("invalidPatch", f"{path[:60]!r} leads inside what is given whole")
            split.others[_parse_name(path)] = value
        elif not slash:
            split.whole[head] = value
        else:
            name = _parse_name(rest)
            if value is not True and value is not None:
                raise SetError("invalidProperties", "set with true, removed with null", [head])
            split.single.setdefault(head, {})[name] = value is True
    both = split.whole.keys() & split.single.keys()
    if both:
        raise SetError("invalidPatch", f"{sorted(both)[0]} is set as a whole and in part")
    return split


def _parse_name(path: str) -> str:
    if "~" not in path and "/" not in path:
        return path
    try:
        tokens = parse_pointer("/" + path)
    except PointerError as error:
        raise SetError("invalidPatch", str(error)) from None
    if len(tokens) != 1:
        raise SetError("invalidPatch", f"{path[:60]!r} leads inside a plain value")
    return tokens[0]


def _patch_keywords(before: tuple[str, ...], split: _SplitPatch) -> tuple[str, ...]:
    """Raises: SetError invalidProperties, tooManyKeywords."""
    if "keywords" in split.whole:
        value = split.whole["keywords"]
        return check_keywords({} if value is None else value)
    found = set(before)
    for name, is_set in split.single["keywords"].items():
        if not is_set:
            found.discard(name.lower())
        elif is_keyword(name):
            found.add(name.lower())
        else:
            raise SetError("invalidProperties", f"{name[:60]!r} is no keyword", ["keywords"])
    if len(found) > limits.KEYWORDS_PER_EMAIL_MAX:
        raise SetError("tooManyKeywords", f"at most {limits.KEYWORDS_PER_EMAIL_MAX} keywords")
    return tuple(sorted(found))


def _patch_mailboxes(
    context: SetContext,
    before: tuple[MailboxId, ...],
    split: _SplitPatch,
    known: Mapping[str, MailboxRow],
) -> tuple[MailboxId, ...]:
    """Raises: SetError invalidProperties, tooManyMailboxes."""
    if "mailboxIds" in split.whole:
        return check_mailbox_ids(split.whole["mailboxIds"], known, context.resolve)
    found = dict.fromkeys(before, True)
    for name, is_set in split.single["mailboxIds"].items():
        id = MailboxId(context.resolve(name))
        if is_set:
            found[id] = True
        else:
            found.pop(id, None)
    return check_mailbox_ids(found, known)


async def _check_unchanged(context: SetContext, row: EmailRow, given: dict[str, Any]) -> None:
    """Raises: SetError invalidProperties unless all of `given` is as it already is: a device may
    send a whole object back. Source: RFC 8620 s5.3
    """
    known: dict[str, Any] = make_created(row) | {"receivedAt": encode_utc_date(row.received_ms)}
    if any(name in META_PROPERTIES for name in given):
        contents = await context.tx.seen.load_contents([row.doc_id])
        if row.doc_id in contents:
            known |= msgspec.json.decode(contents[row.doc_id].meta)
    wrong = [name for name, value in given.items() if name not in known or known[name] != value]
    if wrong:
        raise SetError("invalidProperties", "cannot be changed", wrong)
