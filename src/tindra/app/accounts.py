"""The commands about connected mailboxes, with their output."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any

import msgspec
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn
from rich.table import Table

from tindra.app.config import Settings, SettingsError
from tindra.app.erasing import run_erasings
from tindra.app.people import (
    NewMailbox,
    add_mail_account,
    check_address,
    check_not_connected,
    find_user,
)
from tindra.app.serve import hold_lock, running_loops
from tindra.app.wiring import Installation, open_installation
from tindra.base.ids import AccountId
from tindra.core.errors import MethodError
from tindra.core.ports import StoreReader
from tindra.core.services import Services
from tindra.features.connect import (
    Endpoint,
    confirm_removal,
    load_connections,
    start_connection,
    stop_connection,
    update_password,
)
from tindra.features.mail.submission import TOPIC as SUBMISSION_TOPIC
from tindra.model.mail import EmailQuery
from tindra.outside.imap.provider import ImapProvider
from tindra.outside.smtp.sender import SmtpSender
from tindra.sync.intents import EMAIL_TOPIC, MAILBOX_TOPIC, NEVER_MS
from tindra.sync.ports import Rejected
from tindra.sync.route import make_settings

_WATCH_S = 0.25
_COUNTED_MAX = 100_000
"""Intents of one kind that are counted for a person."""
Confirm = Callable[[str], None]
"""Asks a question; raises SystemExit unless the answer is yes."""
_PHASES = {
    "connecting": "connecting",
    "backfilling": "[yellow]first sync[/]",
    "live": "[green]live[/]",
    "waiting": "[yellow]waiting to try again[/]",
    "needsAuth": "[red]password refused[/]",
    "refused": "[red]refused by the provider[/]",
    "stopped": "paused",
}


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
        mailbox = mailbox._replace(address=check_address(mailbox.address))
        await check_not_connected(services, user, mailbox.address)
        await _try_login(console, installation.imap, mailbox.imap, mailbox.password)
        if mailbox.smtp is not None:
            await _try_login(console, installation.smtp, mailbox.smtp, mailbox.password)
        account_id = await add_mail_account(installation, user, mailbox)
        console.print(f"[green]{escape(mailbox.address)}[/] is connected ({account_id}).")
        is_first = stack.enter_context(hold_lock(settings))
        if is_first:
            await stack.enter_async_context(running_loops(installation))
        await _watch(services, console, account_id)
        if is_first:
            console.print("Start the server to keep it live: tindra serve")


async def _try_login(
    console: Console, server: ImapProvider | SmtpSender, endpoint: Endpoint, password: str
) -> None:
    """Raises: ProviderError, in words for the one who typed the password."""
    console.print(f"Logging in to {escape(endpoint.host)} ...")
    await server.check(make_settings(endpoint), password)


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
        text += f": {escape(connection['lastError'])}"
    progress.update(
        task,
        description=text,
        completed=connection["messagesDone"],
        total=connection["messagesTotal"],
    )


async def run_account_list(settings: Settings, console: Console) -> None:
    """`tindra account list`."""
    names = ("address", "account", "state", "messages", "kept back", "next try", "last error")
    table = Table(*names, box=None)
    async with open_installation(settings) as installation:
        for account_id, _, connection in await list_connections(installation):
            total = connection["messagesTotal"]
            table.add_row(
                escape(connection["address"]),
                account_id,
                _PHASES[connection["phase"]],
                f"{connection['messagesDone']}" + (f" of {total}" if total is not None else ""),
                _describe_held(connection),
                connection["nextTryAt"] or "",
                escape(connection["lastError"] or ""),
            )
    if not table.row_count:
        console.print("No mailbox is connected yet. Connect one: tindra account add --help")
        return
    console.print(table)
    with hold_lock(settings) as is_first:
        if is_first:
            console.print("No server runs on this data: the states are from when it last did.")


def _describe_held(connection: dict[str, Any]) -> str:
    """What vanished at the provider and is kept here until somebody says so."""
    held = connection.get("heldBack")
    return "" if held is None else f"[red]{held['messages']} until {held['until']}[/]"


async def run_account_confirm(
    settings: Settings, console: Console, address: str, confirm: Confirm
) -> None:
    """`tindra account confirm`: most mail vanished at the provider at once, and rightly so."""
    async with open_installation(settings) as installation:
        account_id, id, connection = await find_connection(installation, address)
        name, held = escape(connection["address"]), connection.get("heldBack")
        if held is None:
            raise SettingsError(f"nothing of {connection['address']} is kept back")
        console.print(
            f"{held['messages']} messages of {name} vanished at {escape(connection['host'])} by"
            f" {held['since']}. They are kept here until {held['until']}.",
            soft_wrap=True,
        )
        confirm("Were they really removed? They are then destroyed here too")
        try:
            await confirm_removal(installation.services, account_id, id, held["messages"])
        except MethodError as error:
            raise SettingsError(f"meanwhile this is so no more: {error.description}") from None
        console.print(f"They go as soon as {name} is looked at again{await _say_who(settings)}")


async def run_account_password(
    settings: Settings, console: Console, address: str, password: str
) -> None:
    """`tindra account password`: the provider is asked first, so that a wrong one changes
    nothing."""
    async with open_installation(settings) as installation:
        account_id, id, connection = await find_connection(installation, address)
        imap = msgspec.convert(connection["imap"], Endpoint)
        await _try_login(console, installation.imap, imap, password)
        await update_password(installation.services, account_id, id, password)
        console.print(f"[green]{escape(connection['address'])}[/] has its new password.")


async def run_account_pause(
    settings: Settings, console: Console, address: str, is_stopped: bool
) -> None:
    """`tindra account pause` and `resume`."""
    async with open_installation(settings) as installation:
        account_id, id, connection = await find_connection(installation, address)
        name = escape(connection["address"])
        if is_stopped:
            await stop_connection(installation.services, account_id, id)
            console.print(f"{name} is paused; what is changed meanwhile is told to it later.")
            console.print(f"To go on: tindra account resume {name}", soft_wrap=True)
            return
        await start_connection(installation.services, account_id, id)
        console.print(f"{name} is mirrored again{await _say_who(settings)}")


async def _say_who(settings: Settings) -> str:
    with hold_lock(settings) as is_first:
        return " once a server runs: tindra serve" if is_first else "."


async def run_account_remove(
    settings: Settings, console: Console, address: str, confirm: Confirm
) -> None:
    """`tindra account remove`: say what goes, ask, and erase it.

    Args:
        confirm: raises SystemExit when the answer is no.
    """
    async with open_installation(settings) as installation:
        account_id, _, connection = await find_connection(installation, address)
        console.print(await describe(installation, account_id, connection), soft_wrap=True)
        confirm(f"Remove {connection['address']} from this server?")
        await installation.registrar.mark_erased(account_id)
        console.print(f"{escape(connection['address'])} is removed.")
        await clear_away(installation, console)


async def describe(
    installation: Installation, account_id: AccountId, connection: dict[str, Any]
) -> str:
    """What is lost with an account, in lines for the one who removes it."""
    [account] = await installation.services.directory.load_accounts([account_id])
    owner = await installation.services.directory.load_user(account.owner_id)

    async def count(reader: StoreReader) -> tuple[int, int, int]:
        _, total = await reader.query_emails(EmailQuery(), 0, True)
        told = 0
        for topic in (EMAIL_TOPIC, MAILBOX_TOPIC):
            told += len(await reader.list_outbox(topic, NEVER_MS, _COUNTED_MAX))
        waiting = await reader.list_outbox(SUBMISSION_TOPIC, NEVER_MS, _COUNTED_MAX)
        return total or 0, told, len(waiting)

    emails, untold, unsent = await installation.services.store.read(account_id, count, is_long=True)
    whose = f" of {escape(owner.login)}" if owner is not None else ""
    lines = [
        f"[bold]{escape(connection['address'])}[/]{whose} ({account_id}), here on this server:",
        f"  {emails} messages with their words in the search index, and the password",
    ]
    if untold:
        lines.append(f"  [red]{untold} changes that the provider was not told of yet[/]")
    if unsent:
        lines.append(f"  [red]{unsent} messages that wait to be sent and would not be[/]")
    host = escape(connection["host"])
    lines.append(f"The mail at {host} stays as it is; this server only forgets its copy.")
    return "\n".join(lines)


async def clear_away(installation: Installation, console: Console) -> None:
    """Erase what removed accounts leave behind, or let the running server do it."""
    with hold_lock(installation.settings) as is_first:
        if is_first:
            await run_erasings(installation)
            console.print("Everything that was kept of it is erased.")
        else:
            console.print("The running server lets go of it and erases what was kept.")


async def find_connection(
    installation: Installation, address: str
) -> tuple[AccountId, str, dict[str, Any]]:
    """The one Connection of an address or an account id. Raises: SettingsError."""
    found = [
        item
        for item in await list_connections(installation)
        if address.strip() in (item[0], item[2]["address"])
    ]
    if not found:
        raise SettingsError(f"{address} is not connected; see: tindra account list")
    if len(found) > 1:
        ids = ", ".join(item[0] for item in found)
        raise SettingsError(f"{address} is connected more than once; name the account: {ids}")
    return found[0]


async def list_connections(
    installation: Installation,
) -> list[tuple[AccountId, str, dict[str, Any]]]:
    """Every Connection of every account with its id, by address."""
    services = installation.services
    found = [
        (account.id, id, connection)
        for account in await services.directory.load_accounts(None)
        for id, connection in (await load_connections(services, account.id)).items()
    ]
    return sorted(found, key=lambda item: str(item[2]["address"]))
