"""Quota: how much room an account has at its provider, and how much of it is used.

Capability `urn:ietf:params:jmap:quota` (docs/protocol/quota.md). The provider counts; the mirror
asks it now and then (`sync/quota`) and writes what it said here. Devices only read. A provider
without quotas leaves the account without Quotas.
Source: RFC 9425
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Literal

import msgspec

from tindra.base.ids import ModSeq
from tindra.core.datatype import Capability, Datatype, Feature
from tindra.core.ports import StoreReader
from tindra.core.tx import Tx
from tindra.features.objects import ObjectType, server_set
from tindra.wire.jmap.filter import Condition, is_text

QUOTA: Final = "urn:ietf:params:jmap:quota"
QUOTAS_MAX: Final = 20
"""Kept of what one provider tells; those in use have one or two."""
NAME_CHARS_MAX: Final = 100
"""Of the name of a quota root; it is shown to people."""
_UNNAMED: Final = "Mailbox"
"""Many providers call their only quota root nothing at all."""


class ToldQuota(msgspec.Struct, frozen=True):
    """What a provider says of one resource of one quota root."""

    root: str
    """Its name there; may be empty."""
    resource_type: Literal["count", "octets"]
    used: int
    hard_limit: int
    """More than `used` at times: limits are lowered, and counting is not exact."""


QUOTA_TYPE: Final = ObjectType(
    name="Quota",
    prefix="q",
    properties={
        "resourceType": server_set(str),
        "used": server_set(int, 0),
        "hardLimit": server_set(int, 0),
        "scope": server_set(str, "account"),
        "name": server_set(str, ""),
        "types": server_set(list[str], ["Email"]),
        "warnLimit": server_set(int | None),
        "softLimit": server_set(int | None),
        "description": server_set(str | None),
    },
    filters={
        "name": Condition(is_text, lambda obj, text: text.casefold() in obj["name"].casefold()),
        "scope": Condition(is_text, lambda obj, value: obj["scope"] == value),
        "resourceType": Condition(is_text, lambda obj, value: obj["resourceType"] == value),
        "type": Condition(is_text, lambda obj, value: value in obj["types"]),
    },
    sorts={"name": lambda obj: obj["name"].casefold(), "used": lambda obj: obj["used"]},
)
"""Source: RFC 9425 s4.1, s4.4"""


async def list_updated_properties(reader: StoreReader, since: ModSeq) -> list[str] | None:
    """`used`, when nothing else of any Quota changed; it changes with every mail.

    Source: RFC 9425 s4.3
    """
    for row in await reader.load_objects("Quota", None):
        fixed = msgspec.json.decode(row.data).get("fixedModseq", 0)
        if row.created_modseq <= since < fixed:
            return None
    return ["used"]


async def apply_quotas(tx: Tx, told: Sequence[ToldQuota]) -> None:
    """Make the Quotas of an account those that its provider told; equal values write nothing.

    An object keeps its id as long as the provider tells of the same resource of the same root.
    """
    rows = await tx.store.load_objects("Quota", None)
    known = {str(row.id): msgspec.json.decode(row.data) for row in rows}
    ids = {(obj["root"], obj["resourceType"]): id for id, obj in known.items()}
    kept: set[str] = set()
    for quota in told[:QUOTAS_MAX]:
        after = {
            "root": quota.root,
            "resourceType": quota.resource_type,
            "used": quota.used,
            "hardLimit": quota.hard_limit,
            "scope": "account",
            "name": quota.root[:NAME_CHARS_MAX] or _UNNAMED,
            "types": ["Email"],
            "fixedModseq": tx.store.modseq,
        }
        id = ids.get((quota.root, quota.resource_type))
        if id is None:
            id = ids[quota.root, quota.resource_type] = await tx.create("Quota", after, "q")
        elif id in known:
            before = known[id]
            if all(before.get(name) == after[name] for name in after.keys() - _COUNTED):
                after["fixedModseq"] = before["fixedModseq"]
            await tx.update("Quota", id, before, after)
        kept.add(id)
    for id, before in known.items():
        if id not in kept:
            await tx.destroy("Quota", id, before)


_COUNTED: Final = frozenset({"used", "fixedModseq"})
"""fixedModseq, which devices do not see, is of the last change to anything but `used`."""


def is_told(rows: Sequence[dict[str, Any]], told: Sequence[ToldQuota]) -> bool:
    """Whether stored Quotas say exactly what the provider told.

    Args:
        rows: as stored.
    """
    stored = {(obj["root"], obj["resourceType"]): (obj["used"], obj["hardLimit"]) for obj in rows}
    news = {(q.root, q.resource_type): (q.used, q.hard_limit) for q in told[:QUOTAS_MAX]}
    return stored == news


QUOTA_FEATURE = Feature(
    name="quota",
    capabilities=(Capability(QUOTA, is_of_mailbox=True),),
    datatypes=(
        Datatype(
            name="Quota",
            capability=QUOTA,
            properties=QUOTA_TYPE.shown,
            source=QUOTA_TYPE,
            querier=QUOTA_TYPE,
            list_updated_properties=list_updated_properties,
        ),
    ),
)
