"""The feature of shared Mailboxes: shareWith, what who sees a part of an account reads, its log."""

from __future__ import annotations

from tindra.core.datatype import Capability, Feature
from tindra.features.mail.sharing.moves import end_shares, note_moves
from tindra.features.mail.sharing.part import open_part
from tindra.features.mail.sharing.share_with import SHARE, SHARE_WITH

SHARE_FEATURE = Feature(
    name="share",
    capabilities=(Capability(SHARE, is_of_mailbox=True, supports_parts=True),),
    properties=(SHARE_WITH,),
    reactions={"Email": note_moves, "Mailbox": end_shares},
    narrow=open_part,
)
