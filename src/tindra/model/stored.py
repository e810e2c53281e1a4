"""What the store keeps beside mail: small objects, intents, timers, blobs, and news of a commit."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from tindra.base.ids import AccountId, BlobId, Id, ModSeq


class ObjectRow(NamedTuple):
    """A small object as stored."""

    id: Id
    data: bytes
    """The object as JSON, without its id."""
    created_modseq: ModSeq
    changed_modseq: ModSeq


class OutboxRow(NamedTuple):
    """An intent for the world outside."""

    topic: str
    """Who takes it: "mirror", "submission" ..."""
    key: str
    """What it is about, usually an object id. One row for (topic, key): later ones coalesce."""
    payload: bytes
    modseq: ModSeq
    """Of the transaction that last wrote it; done only if it did not change meanwhile."""
    tries: int
    due_ms: int
    last_error: str


class TimerRow(NamedTuple):
    """A durable timer. One row for (kind, key): setting it again moves it."""

    kind: str
    key: str
    due_ms: int
    payload: bytes


class BlobRow(NamedTuple):
    """A blob that this account holds; having the row is having access."""

    id: BlobId
    size: int
    data: bytes | None
    """None when the octets live in the blob store."""
    created_ms: int


class CommitInfo(msgspec.Struct, frozen=True):
    """What a committed transaction changed; all that ever travels over the bus."""

    account_id: AccountId
    modseq: ModSeq
    states: dict[str, ModSeq]
    """New state of each type that changed."""
    topics: frozenset[str] = frozenset()
    """Outbox topics that got rows."""
    has_timers: bool = False
