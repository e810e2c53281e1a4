"""Connection: an account's credentials at one provider, and how its mirroring goes.

The object tells devices and people everything but the secrets, which lie sealed in the vault under
`make_secret_name`. The sync engine writes the status; what changed reaches devices like any other
change. Capability `urn:tindra:params:jmap:connect` (docs/protocol/connect.md).

Invariants: an account has at most one; it goes only with its account, for what was mirrored would
have nobody to agree with. `revision`, which devices do not see, is raised by every change that a
running mirror must not overlook (password, servers, stopping); the status of a mirror that knows an
older one is not written any more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

import msgspec

from tindra.base.ids import AccountId, new_id
from tindra.core.access import check_write
from tindra.core.arguments import check_names, take_id
from tindra.core.datatype import CallContext, Capability, Datatype, Feature, Method
from tindra.core.errors import Conflict, MethodError
from tindra.core.services import Services
from tindra.core.tx import Tx, transact, transact_in_state
from tindra.features.objects import ObjectType, server_set
from tindra.model.stored import ObjectRow

CONNECT: Final = "urn:tindra:params:jmap:connect"
Phase = Literal["connecting", "backfilling", "live", "waiting", "needsAuth", "refused", "stopped"]
"""connecting: logging in; backfilling: first sync, with progress; live: all is mirrored;
waiting: will try again at nextTryAt; needsAuth: the password was refused; refused: the provider
will not serve us until something is changed; stopped: paused by its owner."""


class Endpoint(msgspec.Struct, frozen=True):
    """One server of a provider."""

    host: str
    port: int
    tls: Literal["implicit", "starttls", "none"]
    username: str


class HeldBack(msgspec.Struct, frozen=True):
    """Most mail vanished at the provider at once: it is kept here for a while."""

    messages: int
    since: str
    until: str
    """When the first of them go; no earlier, and later if this program does not run meanwhile."""


_CONNECTION = ObjectType(
    name="Connection",
    prefix="c",
    properties={
        "name": server_set(str, ""),
        "address": server_set(str, ""),
        "imap": server_set(Endpoint),
        "smtp": server_set(Endpoint | None),
        "host": server_set(str, ""),
        "phase": server_set(Phase, "connecting"),
        "progress": server_set(int | None),
        "messagesDone": server_set(int, 0),
        "messagesTotal": server_set(int | None),
        "messagesSkipped": server_set(int, 0),
        "lastError": server_set(str | None),
        "nextTryAt": server_set(str | None),
        "heldBack": server_set(HeldBack | None),
    },
)


def make_secret_name(connection_id: str, service: Literal["imap", "smtp"]) -> str:
    """The name of a Connection's password in the vault."""
    return f"connection:{connection_id}:{service}"


def make_connection_id(services: Services) -> str:
    """The id of a Connection to be: its secrets are sealed under it before it is made."""
    return new_id("c", services.clock.now_ms(), services.random)


async def apply_connection(
    tx: Tx, id: str, address: str, imap: Endpoint, smtp: Endpoint | None
) -> None:
    """Make the Connection of an account whose secrets are, or in this commit become, sealed.

    Raises: Conflict when the account has one already: the mirror of a second one would take the
        mail of the first for its own and delete it as gone.
    """
    _check_alone(await tx.store.load_objects("Connection", None), tx.account_id)
    connection = {
        "name": address,
        "address": address,
        "imap": msgspec.to_builtins(imap),
        "smtp": None if smtp is None else msgspec.to_builtins(smtp),
        "host": imap.host,
        "progress": None,
        "messagesDone": 0,
        "messagesTotal": None,
        "messagesSkipped": 0,
        "revision": 1,
    }
    await tx.create("Connection", connection | _CONNECTING, id=id)


def _check_alone(connections: Sequence[ObjectRow], account_id: AccountId) -> None:
    if connections:
        raise Conflict(
            f"account {account_id} mirrors a mailbox already; another mailbox is another account"
        )


_CONNECTING: Final = {"phase": "connecting", "lastError": None, "nextTryAt": None}


async def _put_secrets(
    services: Services, account_id: AccountId, id: str, imap: str, smtp: str | None
) -> None:
    await services.secrets.put_secret(account_id, make_secret_name(id, "imap"), imap)
    if smtp is not None:
        await services.secrets.put_secret(account_id, make_secret_name(id, "smtp"), smtp)


async def load_connections(services: Services, account_id: AccountId) -> dict[str, dict[str, Any]]:
    """id -> Connection of an account, with its `revision`."""
    rows = await services.store.read(account_id, lambda r: r.load_objects("Connection", None))
    return {row.id: {"revision": 0} | msgspec.json.decode(row.data) for row in rows}


async def update_status(
    services: Services, account_id: AccountId, id: str, revision: int, changes: Mapping[str, Any]
) -> bool:
    """Write how the mirroring goes; equal values write nothing and wake nobody.

    Args:
        revision: what the mirror knows; False if it is not that of the Connection any more.
    """

    async def write(tx: Tx) -> bool:
        before = await tx.load("Connection", id)
        if before is None or before.get("revision", 0) != revision:
            return False
        await tx.update("Connection", id, before, before | dict(changes))
        return True

    is_current, _ = await transact(services, account_id, "connection-status", write, "system")
    return is_current


async def _edit(
    services: Services, account_id: AccountId, id: str, changes: Mapping[str, Any]
) -> None:
    """Change what a running mirror must not overlook."""

    async def write(tx: Tx) -> None:
        before = await tx.load("Connection", id)
        if before is not None:
            revision = before.get("revision", 0) + 1
            await tx.update(
                "Connection", id, before, before | dict(changes) | {"revision": revision}
            )

    await transact(services, account_id, "connection-edit", write, origin="system")


async def update_endpoints(
    services: Services, account_id: AccountId, id: str, imap: Endpoint, smtp: Endpoint | None
) -> None:
    """The provider moved: connect to its new servers with the same passwords."""
    places = {
        "imap": msgspec.to_builtins(imap),
        "smtp": None if smtp is None else msgspec.to_builtins(smtp),
        "host": imap.host,
    }
    await _edit(services, account_id, id, _CONNECTING | places)


async def update_password(
    services: Services, account_id: AccountId, id: str, password: str
) -> None:
    """A new password for both servers; the mirror tries it at once."""
    connection = (await load_connections(services, account_id))[id]
    smtp = None if connection["smtp"] is None else password
    await _put_secrets(services, account_id, id, password, smtp)
    await _edit(services, account_id, id, _CONNECTING)


async def confirm_removal(
    services: Services, account_id: AccountId, id: str, messages: int
) -> dict[str, Any]:
    """Somebody says that what is held back was really removed: it goes at once.

    Args:
        messages: how many of them that person knows of.
    Returns: accountId, oldState and newState.
    Raises: MethodError invalidArguments, stateMismatch.
    """

    async def write(tx: Tx) -> None:
        before = await tx.load("Connection", id)
        if before is None:
            raise MethodError("invalidArguments", "there is no such Connection")
        held, brake = before.get("heldBack"), before.get("brake")
        if held is None or brake is None:
            raise MethodError("stateMismatch", "nothing is held back")
        if held["messages"] != messages:
            raise MethodError("stateMismatch", f"{held['messages']} messages are held back")
        # The mirror that runs must begin anew, to hear of it.
        after = before | {
            "brake": brake | {"confirmedMs": brake["clockMs"]},
            "revision": before.get("revision", 0) + 1,
        }
        await tx.update("Connection", id, before, after)

    _, answer = await transact_in_state(
        services, account_id, "Connection/confirmRemoval", None, write
    )
    return answer


async def _run_confirm(context: CallContext, arguments: dict[str, Any]) -> dict[str, Any]:
    """Connection/confirmRemoval.

    Raises: MethodError accountNotFound, accountReadOnly, forbidden, invalidArguments,
        stateMismatch.
    """
    check_names(arguments, ("accountId", "id", "messages"))
    account_id = check_write(context.caller, arguments.get("accountId"), "admin").account.id
    id, messages = take_id(arguments, "id"), arguments.get("messages")
    if id is None or type(messages) is not int:
        raise MethodError("invalidArguments", "it takes an id and a number of messages")
    return {"id": id} | await confirm_removal(context.services, account_id, id, messages)


async def stop_connection(services: Services, account_id: AccountId, id: str) -> None:
    """Pause the mirroring; what devices do meanwhile is told to the provider later."""
    await _edit(services, account_id, id, _CONNECTING | {"phase": "stopped"})


async def start_connection(services: Services, account_id: AccountId, id: str) -> None:
    """End a pause."""
    await _edit(services, account_id, id, _CONNECTING)


CONNECT_FEATURE = Feature(
    name="connect",
    capabilities=(Capability(CONNECT, is_of_mailbox=True),),
    datatypes=(
        Datatype(
            name="Connection",
            capability=CONNECT,
            properties=_CONNECTION.shown,
            source=_CONNECTION,
        ),
    ),
    methods=(Method("Connection/confirmRemoval", CONNECT, _run_confirm),),
)
