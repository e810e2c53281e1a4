"""The log of Emails that come into or leave shared Mailboxes; the end of shares of those gone."""

from __future__ import annotations

import msgspec

from tindra.base.ids import MailboxId, ModSeq
from tindra.core.tx import Change, Tx
from tindra.features.mail.counters import fold_changes
from tindra.features.mail.sharing.share_with import put_share
from tindra.model.mail import EmailRow
from tindra.model.sharing import Move


async def note_moves(tx: Tx, changes: list[Change]) -> None:
    """The reaction to Email changes. Cost: nothing if none moved; else one range read, which is
    empty where nothing is shared."""
    moved = [pair for pair in fold_changes(changes).values() if _places(pair[0]) ^ _places(pair[1])]
    if not moved:
        return
    places = {id for before, after in moved for id in _places(before) ^ _places(after)}
    shared = await tx.store.find_shared(sorted(places))
    moves = []
    for before, after in moved if shared else ():
        row = after or before
        assert row is not None
        moves += [
            Move(ModSeq(0), row.doc_id, id, row.thread_id, id in _places(after))
            for id in sorted((_places(before) ^ _places(after)) & shared)
        ]
    if moves:
        await tx.put_moves(moves)


def _places(row: EmailRow | None) -> frozenset[MailboxId]:
    return frozenset(() if row is None else row.mailbox_ids)


async def end_shares(tx: Tx, changes: list[Change]) -> None:
    """The reaction to Mailbox changes: nothing is shared of one that is destroyed."""
    gone = {change.id: change.before for change in changes if change.after is None}
    for share in await tx.store.list_shares() if gone else ():
        if share.rights and share.mailbox_id in gone:
            ended = msgspec.structs.replace(share, rights=frozenset())
            await put_share(tx, gone[share.mailbox_id], share, ended, None)
