"""Blob ids: the hash of the content, so equal content has one id (docs/data.md, Keys)."""

from __future__ import annotations

import hashlib
from typing import Final

from tindra.base.ids import BlobId, encode_base32

HASH_BYTES: Final = 25
"""200 bits: nobody finds two messages with one hash, and 40 base32 digits without padding."""


def make_blob_id(data: bytes) -> BlobId:
    """The id of these octets: "b" and the BLAKE2b hash in base32hex. Cost: O(n)"""
    digest = hashlib.blake2b(data, digest_size=HASH_BYTES).digest()
    return BlobId("b" + encode_base32(int.from_bytes(digest), HASH_BYTES * 8 // 5))
