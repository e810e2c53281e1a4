"""Words of fresh Emails on their way from ingest to the search index, in memory only.

Ingest has just parsed the message; keeping its words for the moment until the indexer comes by
saves a second parse. Losing them costs exactly that second parse and nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from tindra.base.ids import AccountId
from tindra.base.limits import MIB
from tindra.model.mail import SearchDocument

FEED_CHARS_MAX: Final = 64 * MIB
"""Characters held; beyond it the oldest words are dropped, and parsed again if they are missed."""
_DOCUMENT_CHARS = 400
"""What holding a document takes beside its body: addresses, a subject, an entry."""


class SearchFeed:
    """A bounded hand-over of SearchDocuments."""

    def __init__(self) -> None:
        self._held: dict[tuple[AccountId, int], SearchDocument] = {}
        self._chars = 0

    def offer(self, account_id: AccountId, documents: Sequence[SearchDocument]) -> None:
        """Keep words until they are taken; the oldest make room.

        Words that nobody takes (their Email was destroyed before) leave by that door, too.
        """
        for document in documents:
            key = (account_id, document.doc_id)
            if key not in self._held:
                self._held[key] = document
                self._chars += _count_chars(document)
        while self._chars > FEED_CHARS_MAX:
            self._chars -= _count_chars(self._held.pop(next(iter(self._held))))

    def take(self, account_id: AccountId, doc_ids: Sequence[int]) -> dict[int, SearchDocument]:
        """Hand over what is held of these, and forget it."""
        found: dict[int, SearchDocument] = {}
        for doc_id in doc_ids:
            document = self._held.pop((account_id, doc_id), None)
            if document is not None:
                self._chars -= _count_chars(document)
                found[doc_id] = document
        return found


def _count_chars(document: SearchDocument) -> int:
    return _DOCUMENT_CHARS + len(document.body)
