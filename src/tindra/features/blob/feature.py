"""Blobs inside of API requests: made, read, looked up and copied without leaving JMAP.

Capability `urn:ietf:params:jmap:blob` (docs/protocol/blob.md); Blob/copy belongs to the core. The
id of a body part works wherever one of a whole blob does, and who may download may read here: a
foreign id answers like an unknown one.
Source: RFC 9404, RFC 8620 s6.3
"""

from __future__ import annotations

from typing import Final

from tindra.base import limits
from tindra.core.datatype import CORE, Capability, Feature, Method
from tindra.features.blob.copy import run_copy
from tindra.features.blob.get import DIGESTS, run_get
from tindra.features.blob.lookup import TYPES, run_lookup
from tindra.features.blob.upload import DATA_SOURCES_MAX, run_upload

BLOB: Final = "urn:ietf:params:jmap:blob"

BLOB_FEATURE = Feature(
    name="blob",
    capabilities=(
        Capability(
            BLOB,
            supports_parts=True,
            account={
                "maxSizeBlobSet": limits.UPLOAD_BYTES_MAX,
                "maxDataSources": DATA_SOURCES_MAX,
                "supportedTypeNames": TYPES,
                "supportedDigestAlgorithms": tuple(DIGESTS),
            },
        ),
    ),
    methods=(
        Method("Blob/upload", BLOB, run_upload, supports_parts=True),
        Method("Blob/get", BLOB, run_get, supports_parts=True),
        Method("Blob/lookup", BLOB, run_lookup, supports_parts=True),
        Method("Blob/copy", CORE, run_copy, supports_parts=True),
    ),
)
