"""A mailbox of an account that is there already, as `app/people` adds one with its account."""

from __future__ import annotations

from tindra.base.ids import AccountId
from tindra.core.services import Services
from tindra.core.tx import Tx, transact
from tindra.features.connect import (
    Endpoint,
    apply_connection,
    make_connection_id,
    make_secret_name,
)


async def add_connection(
    services: Services,
    account_id: AccountId,
    address: str,
    imap: tuple[Endpoint, str],
    smtp: tuple[Endpoint, str] | None,
) -> str:
    """Gives the id of a Connection to servers with passwords. Raises: Conflict for a second one."""
    id = make_connection_id(services)

    async def write(tx: Tx) -> None:
        await apply_connection(tx, id, address, imap[0], None if smtp is None else smtp[0])

    await transact(services, account_id, "connection-add", write, origin="system")
    await services.secrets.put_secret(account_id, make_secret_name(id, "imap"), imap[1])
    if smtp is not None:
        await services.secrets.put_secret(account_id, make_secret_name(id, "smtp"), smtp[1])
    return id
