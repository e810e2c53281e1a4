"""The commands about users and accounts, with their output."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn
from rich.table import Table

from tindra.app.config import Settings
from tindra.app.people import NewMailbox, add_mail_account, add_token, add_user, find_user
from tindra.app.serve import hold_lock, running_loops
from tindra.app.wiring import Installation, open_installation
from tindra.base.ids import AccountId
from tindra.core.services import Services
from tindra.features.connect import load_connections
from tindra.sync.ports import Rejected
from tindra.sync.route import make_settings

_WATCH_S = 0.25
_PHASES = {
    "connecting": "connecting",
    "backfilling": "[yellow]first sync[/]",
    "live": "[green]live[/]",
    "waiting": "[yellow]waiting to try again[/]",
    "needsAuth": "[red]password refused[/]",
    "refused": "[red]refused by the provider[/]",
    "stopped": "stopped",
}


async def run_user_add(settings: Settings, console: Console, login: str, password: str) -> None:
    """`tindra user add`."""
    async with open_installation(settings) as installation:
        user = await add_user(installation.services, login, password)
        console.print(f"User [bold]{user.login}[/] is made.")
        console.print(f"Next: tindra account add {user.login} ADDRESS --imap-host HOST")


async def run_user_list(settings: Settings, console: Console) -> None:
    """`tindra user list`."""
    async with open_installation(settings) as installation:
        users = await installation.services.directory.list_users()
        if not users:
            console.print("There are no users yet. Make one: tindra user add LOGIN")
        for user in sorted(users, key=lambda u: u.login):
            console.print(user.login)


async def run_user_token(settings: Settings, console: Console, login: str, name: str) -> None:
    """`tindra user token`."""
    async with open_installation(settings) as installation:
        user = await find_user(installation.services, login)
        text = await add_token(installation.services, user, name)
        console.print(f"App password of {user.login} for {name}, shown only now:")
        console.print(f"  [bold]{text}[/]", soft_wrap=True)


async def run_account_add(
    settings: Settings, console: Console, login: str, mailbox: NewMailbox
) -> None:
    """`tindra account add`: check that the provider lets us in, connect, and show the progress.

    Where a server runs on the same data it does the work and this only watches; else this does.
    """
    async with AsyncExitStack() as stack:
        installation = await stack.enter_async_context(open_installation(settings))
        services = installation.services
        user = await find_user(services, login)
        console.print(f"Logging in to {mailbox.imap.host} ...")
        session = await installation.imap.connect(make_settings(mailbox.imap), mailbox.password)
        await session.close()
        account_id = await add_mail_account(services, user, mailbox)
        console.print(f"[green]{mailbox.address}[/] is connected ({account_id}).")
        is_first = stack.enter_context(hold_lock(settings))
        if is_first:
            await stack.enter_async_context(running_loops(installation))
        await _watch(services, console, account_id)
        if is_first:
            console.print("Start the server to keep it live: tindra serve")


async def _watch(services: Services, console: Console, account_id: AccountId) -> None:
    """A progress bar until the mailbox is live. Raises: Rejected when it will not become so."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("messages", total=None)
        while True:
            connections = await load_connections(services, account_id)
            connection = next(iter(connections.values()))
            _show(progress, task, connection)
            if connection["phase"] == "live":
                return
            if connection["phase"] in ("needsAuth", "refused"):
                raise Rejected(connection["lastError"] or "the provider refused")
            await asyncio.sleep(_WATCH_S)


def _show(progress: Progress, task: TaskID, connection: dict[str, Any]) -> None:
    text = _PHASES[connection["phase"]]
    if connection["phase"] == "waiting" and connection["lastError"]:
        text += f": {connection['lastError']}"
    progress.update(
        task,
        description=text,
        completed=connection["messagesDone"],
        total=connection["messagesTotal"],
    )


async def run_account_list(settings: Settings, console: Console) -> None:
    """`tindra account list`."""
    table = Table("address", "account", "state", "messages", "last error", box=None)
    async with open_installation(settings) as installation:
        for account_id, connection in await list_connections(installation):
            total = connection["messagesTotal"]
            table.add_row(
                connection["address"],
                account_id,
                _PHASES[connection["phase"]],
                f"{connection['messagesDone']}" + (f" of {total}" if total is not None else ""),
                connection["lastError"] or "",
            )
    if table.row_count:
        console.print(table)
    else:
        console.print("No mailbox is connected yet. Connect one: tindra account add --help")


async def list_connections(
    installation: Installation,
) -> list[tuple[AccountId, dict[str, Any]]]:
    """Every Connection of every account, by address."""
    services = installation.services
    found = [
        (account.id, connection)
        for account in await services.directory.load_accounts(None)
        for connection in (await load_connections(services, account.id)).values()
    ]
    return sorted(found, key=lambda item: str(item[1]["address"]))
