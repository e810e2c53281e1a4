"""Properties of Email that other features add and devices may set: in set and import alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from tindra.base.ids import MailboxId
from tindra.core.datatype import CallContext, PropertyWriter
from tindra.core.errors import SetError
from tindra.core.tx import Tx
from tindra.model.email_property import PropertyChange, PropertyPlan
from tindra.model.mail import EmailRow, MailboxRow


class Extended(NamedTuple):
    """What a device asks of one such property."""

    name: str
    writer: PropertyWriter
    patch: dict[str, Any]
    """Paths that begin with the name -> values."""


class Planned(NamedTuple):
    """What becomes of all such properties of one Email."""

    mailbox_ids: tuple[MailboxId, ...]
    told: dict[str, Any]
    """What becomes something else than the device asked for."""
    writes: Sequence[tuple[PropertyWriter, Any]]

    async def apply(self, tx: Tx, id: str) -> None:
        """Write them; the Email's own row is written by the caller."""
        for writer, stored in self.writes:
            await writer.apply(tx, id, stored)


def split_extended(call: CallContext, obj: dict[str, Any]) -> tuple[dict[str, Any], list[Extended]]:
    """An object or a PatchObject without the properties of other features; and those."""
    known = call.registry.extensions.get("Email", {})
    plain: dict[str, Any] = {}
    asked: dict[str, Extended] = {}
    for path, value in obj.items():
        name = path.partition("/")[0]
        extension = known.get(name)
        if extension is None or extension.writer is None or extension.capability not in call.using:
            plain[path] = value
        else:
            empty = Extended(name, extension.writer, {})
            asked.setdefault(name, empty).patch[path] = value
    return plain, list(asked.values())


async def plan_extended(
    tx: Tx,
    call: CallContext,
    asked: Sequence[Extended],
    before: EmailRow | None,
    mailbox_ids: tuple[MailboxId, ...],
    mailboxes: Mapping[str, MailboxRow],
) -> Planned:
    """Check all of them. Raises: SetError; forbidden, where the caller sees a part of the account,
    because what these properties do beside the Email is of all of it."""
    if asked and tx.seen is not tx.store:
        names = ", ".join(item.name for item in asked)
        raise SetError("forbidden", f"not where only a part of the account is shared: {names}")
    places: tuple[str, ...] = mailbox_ids
    told: dict[str, Any] = {}
    writes = []
    for name, writer, patch in asked:
        change = PropertyChange(before, places, mailboxes, patch)
        plan: PropertyPlan = await writer.plan(tx, call, change)
        places = plan.mailbox_ids
        if patch.get(name, plan) != plan.value:
            told[name] = plan.value
        writes.append((writer, plan.stored))
    if places != mailbox_ids:
        told["mailboxIds"] = dict.fromkeys(places, True)
    return Planned(tuple(map(MailboxId, places)), told, writes)
