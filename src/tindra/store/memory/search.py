"""The SearchIndex port over dicts: the words of each Email, by column."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tindra.base.ids import AccountId, ModSeq
from tindra.model.mail import SearchDocument, encode_email_id, parse_email_id
from tindra.store.memory.query import Words
from tindra.store.memory.rows import AccountState
from tindra.store.words import COLUMNS, tokenize


@dataclass
class _Index:
    words: dict[int, Words] = field(default_factory=dict)
    watermark: tuple[int, int] = (0, 0)
    removed: tuple[int, str] = (0, "")


class MemorySearch:
    """The search index of a MemoryStore."""

    def __init__(self, states: Mapping[AccountId, AccountState]) -> None:
        self._states = states
        self._indexes: dict[AccountId, _Index] = {}

    def load_index(self, account_id: AccountId) -> Mapping[int, Words]:
        """doc_id -> words of what is indexed."""
        return self._get(account_id).words

    def erase_account(self, account_id: AccountId) -> None:
        """Forget everything of an account."""
        self._indexes.pop(account_id, None)

    def _get(self, account_id: AccountId) -> _Index:
        return self._indexes.setdefault(account_id, _Index())

    async def list_unindexed(self, account_id: AccountId, limit: int) -> list[tuple[ModSeq, int]]:
        """(created_modseq, doc_id) of Emails above the watermark, in that order."""
        state = self._states.get(account_id) or AccountState()
        watermark = self._get(account_id).watermark
        places = sorted((email.created_modseq, email.doc_id) for email in state.emails.values())
        return [place for place in places if place > watermark][:limit]

    async def add(
        self,
        account_id: AccountId,
        documents: Sequence[SearchDocument],
        upto: tuple[ModSeq, int],
    ) -> None:
        """Index Emails and raise the watermark to `upto`; idempotent."""
        index = self._get(account_id)
        for document in documents:
            index.words[document.doc_id] = {
                column: tokenize(getattr(document, column)) for column in COLUMNS
            }
        index.watermark = max(index.watermark, upto)

    async def list_removable(self, account_id: AccountId, limit: int) -> list[int]:
        """doc_ids of destroyed Emails that the index may still hold."""
        found = [parse_email_id(id) for _, id in self._load_tombstones(account_id)[:limit]]
        return [doc_id for doc_id in found if doc_id is not None]

    async def remove(self, account_id: AccountId, doc_ids: Sequence[int]) -> None:
        """Forget destroyed Emails; idempotent."""
        index = self._get(account_id)
        ids = {encode_email_id(doc_id) for doc_id in doc_ids}
        for doc_id in doc_ids:
            index.words.pop(doc_id, None)
        for place in self._load_tombstones(account_id):
            if place[1] not in ids:
                break
            index.removed = place

    def _load_tombstones(self, account_id: AccountId) -> list[tuple[int, str]]:
        state = self._states.get(account_id) or AccountState()
        index = self._get(account_id)
        if index.watermark == (0, 0):
            return []  # nothing was ever indexed
        places = sorted(
            (stamp.changed_modseq, stamp.id)
            for stamp in state.tombstones
            if stamp.type_name == "Email"
        )
        return [place for place in places if place > index.removed]
