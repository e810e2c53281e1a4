"""The ports in one bundle, made by `app/wiring` and handed down to everything in core.

It stands below `Tx` and the registry, so reactions are known here only by their shape.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from tindra.base.byte_cache import ByteCache
from tindra.base.clock import Clock
from tindra.base.ids import RandomSource
from tindra.core.ports import BlobStore, Bus, Directory, Offload, SearchIndex, SecretStore, Store
from tindra.model.search_feed import SearchFeed


@dataclass(frozen=True, kw_only=True)
class Services:
    """All that a method, a loop or a hook may reach."""

    store: Store
    directory: Directory
    secrets: SecretStore
    blobs: BlobStore
    search: SearchIndex
    feed: SearchFeed
    cache: ByteCache
    bus: Bus
    offload: Offload
    clock: Clock
    random: RandomSource
    are_users_visible: bool = True
    """To one another; else only to those with whom something is shared. Source: RFC 9670 s6"""
    reactions: Mapping[str, Sequence[Callable[..., Awaitable[None]]]]
    """Type name -> reactions (core.tx.Reaction) of the features, in the order of features.ALL."""
