"""Asks the provider now and then how much room is left, and writes it into the account.

Every mail changes what is used, and every writing wakes every device: so it is asked rarely, and
written only if it is news. Source: RFC 9425 s4, RFC 9208 s4.2
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from tindra.base.ids import AccountId
from tindra.core.ports import StoreReader
from tindra.core.services import Services
from tindra.core.tx import Tx, transact
from tindra.features.quota import ToldQuota, apply_quotas, is_told
from tindra.sync.ports import MailSession, Rejected, RemoteQuota

OCTETS_MAX: Final = 2**53 - 1
"""The largest UnsignedInt. Source: RFC 8620 s1.3"""
_RESOURCES: Final = {"STORAGE": ("octets", 1024), "MESSAGE": ("count", 1)}
"""Resource at the provider -> resourceType and its unit. Source: RFC 9208 s5"""


class QuotaWatch:
    """The quotas of one session.

    Args:
        every_ms: how often the provider is asked.
    """

    def __init__(
        self, services: Services, account_id: AccountId, session: MailSession, every_ms: int
    ) -> None:
        self._services = services
        self._account_id = account_id
        self._session = session
        self._every_ms = every_ms
        self._next_ms = 0

    async def look(self) -> None:
        """Ask and write, if it is time. A provider that will not tell changes nothing.

        Raises: Transient, StoreError.
        """
        now_ms = self._services.clock.monotonic_ms()
        if now_ms < self._next_ms:
            return
        self._next_ms = now_ms + self._every_ms
        try:
            told = make_quotas(await self._session.load_quotas())
        except Rejected:
            return

        async def read(reader: StoreReader) -> list[dict[str, Any]]:
            rows = await reader.load_objects("Quota", None)
            return [msgspec.json.decode(row.data) for row in rows]

        if is_told(await self._services.store.read(self._account_id, read), told):
            return

        async def write(tx: Tx) -> None:
            await apply_quotas(tx, told)

        await transact(self._services, self._account_id, "mirror-quota", write, "provider")


def make_quotas(remote: list[RemoteQuota]) -> list[ToldQuota]:
    """What JMAP can say of it: storage and messages, in octets and pieces.

    What is no number that JMAP knows is left out, and so is a limit of zero: servers mean "none".
    """
    found: dict[tuple[str, str], ToldQuota] = {}
    for quota in remote:
        if quota.resource not in _RESOURCES or quota.limit == 0:
            continue
        resource_type, unit = _RESOURCES[quota.resource]
        used, limit = quota.used * unit, quota.limit * unit
        if max(used, limit) <= OCTETS_MAX:
            told = msgspec.convert(
                {"root": quota.root, "resource_type": resource_type}
                | {"used": used, "hard_limit": limit},
                ToldQuota,
            )
            found.setdefault((quota.root, resource_type), told)
    return list(found.values())
