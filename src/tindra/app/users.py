"""The commands about people and what they sign in with, with their output."""

from __future__ import annotations

from datetime import UTC, datetime

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tindra.app.accounts import Confirm, clear_away, describe, list_connections
from tindra.app.config import Settings, SettingsError
from tindra.app.people import add_token, add_user, change_password, find_user
from tindra.app.wiring import Installation, open_installation
from tindra.model.account import Account, Token, User
from tindra.server.sign_in import CALLER_FRESH_MS

_ID_CHARS = 8
"""Of a token's hash, by which it is named: enough for all that one person has."""
_ID_CHARS_MIN = 4
_KINDS = {"device": "device", "app": "app password"}
_NOTICED = f"A running server takes notice within {CALLER_FRESH_MS // 1000} seconds."


async def run_user_add(settings: Settings, console: Console, login: str, password: str) -> None:
    """`tindra user add`."""
    async with open_installation(settings) as installation:
        user = await add_user(installation, login, password)
        console.print(f"User [bold]{escape(user.login)}[/] is made.")
        console.print(f"Next: tindra account add {escape(user.login)} ADDRESS --imap-host HOST")


async def run_after_restore(settings: Settings, console: Console) -> None:
    """`tindra after-restore`."""
    async with open_installation(settings) as installation:
        types = sorted(installation.registry.datatypes)
        count = await installation.registrar.renew_states(types)
        console.print(f"Whoever uses one of the {count} accounts syncs anew when they ask next.")


async def run_user_list(settings: Settings, console: Console) -> None:
    """`tindra user list`."""
    async with open_installation(settings) as installation:
        users = await installation.services.directory.list_users()
        if not users:
            console.print("There are no users yet. Make one: tindra user add LOGIN")
        for user in sorted(users, key=lambda u: u.login):
            console.print(escape(user.login))


async def run_user_password(
    settings: Settings, console: Console, login: str, password: str
) -> None:
    """`tindra user password`."""
    async with open_installation(settings) as installation:
        user = await find_user(installation.services, login)
        await change_password(installation.services, user, password)
        name = escape(user.login)
        console.print(f"[bold]{name}[/] has a new password. {_NOTICED}")
        if await installation.services.directory.list_tokens(user.id):
            console.print("Devices that are signed in and app passwords still work.")
            console.print(f"To end those, too: tindra user sign-out {name}")


async def run_user_sign_out(settings: Settings, console: Console, login: str) -> None:
    """`tindra user sign-out`."""
    async with open_installation(settings) as installation:
        directory = installation.services.directory
        user = await find_user(installation.services, login)
        tokens = await directory.list_tokens(user.id)
        for token in tokens:
            await directory.delete_token(token.hash)
        name = escape(user.login)
        console.print(f"{_count(tokens)} of [bold]{name}[/] work no more. {_NOTICED}")
        console.print(f"The password still does; to change it: tindra user password {name}")


async def run_user_remove(
    settings: Settings, console: Console, login: str, confirm: Confirm
) -> None:
    """`tindra user remove`: with everything that is theirs alone.

    Raises: SettingsError where somebody else uses one of their accounts.
    """
    async with open_installation(settings) as installation:
        directory = installation.services.directory
        user = await find_user(installation.services, login)
        accounts = await directory.load_accounts(None)
        own = [account for account in accounts if account.owner_id == user.id]
        await _check_not_shared(installation, user, own)
        tokens = await directory.list_tokens(user.id)
        console.print(f"[bold]{escape(user.login)}[/] with {_count(tokens)}, and with it:")
        ids = {account.id for account in own}
        found = [item for item in await list_connections(installation) if item[0] in ids]
        for account_id, _, connection in found:
            text = await describe(installation, account_id, connection)
            console.print(text, soft_wrap=True)
        if not found:
            console.print("  no connected mailbox")
        confirm(f"Remove {user.login} from this server?")
        await installation.registrar.delete_user(user.id)
        console.print(f"{escape(user.login)} is removed. {_NOTICED}")
        await clear_away(installation, console)


async def _check_not_shared(installation: Installation, user: User, own: list[Account]) -> None:
    directory = installation.services.directory
    for account in own:
        for grant in await directory.list_grantees(account.id):
            if grant.user_id == user.id:
                continue
            other = await directory.load_user(grant.user_id)
            whom = other.login if other is not None else grant.user_id
            raise SettingsError(
                f"{account.name} of {user.login} is also used by {whom};"
                f" remove it first: tindra account remove {account.name}"
            )


def _count(tokens: list[Token]) -> str:
    devices = sum(token.kind == "device" for token in tokens)
    return f"{devices} devices and {len(tokens) - devices} app passwords"


# -- tokens ----------------------------------------------------------------------------------------
async def run_token_add(settings: Settings, console: Console, login: str, name: str) -> None:
    """`tindra token add`."""
    async with open_installation(settings) as installation:
        user = await find_user(installation.services, login)
        text = await add_token(installation.services, user, name)
        console.print(f"App password of {escape(user.login)} for {escape(name)}, shown only now:")
        console.print(f"  [bold]{text}[/]", soft_wrap=True)


async def run_token_list(settings: Settings, console: Console, login: str) -> None:
    """`tindra token list`."""
    table = Table("id", "kind", "name", "made (UTC)", "ends (UTC)", box=None)
    async with open_installation(settings) as installation:
        user = await find_user(installation.services, login)
        for token in await installation.services.directory.list_tokens(user.id):
            table.add_row(
                _make_id(token),
                _KINDS.get(token.kind, token.kind),
                escape(token.name),
                _say_when(token.created_ms),
                _say_when(token.expires_ms),
            )
    if not table.row_count:
        console.print(f"{escape(user.login)} has no device signed in and no app password.")
        return
    console.print(table)


async def run_token_revoke(settings: Settings, console: Console, login: str, id: str) -> None:
    """`tindra token revoke`. Raises: SettingsError when the id names none, or more than one."""
    async with open_installation(settings) as installation:
        directory = installation.services.directory
        user = await find_user(installation.services, login)
        wanted = id.strip().lower()
        if len(wanted) < _ID_CHARS_MIN:
            raise SettingsError(f"{id!r} is too short to name one: give {_ID_CHARS} characters")
        tokens = await directory.list_tokens(user.id)
        found = [token for token in tokens if token.hash.hex().startswith(wanted)]
        if not found:
            raise SettingsError(f"{user.login} has no {id}; see: tindra token list {user.login}")
        if len(found) > 1:
            raise SettingsError(f"{id} names {len(found)} of them; give more characters")
        await directory.delete_token(found[0].hash)
        kind = _KINDS.get(found[0].kind, found[0].kind)
        console.print(f"The {kind} {escape(found[0].name)} works no more. {_NOTICED}")


def _make_id(token: Token) -> str:
    return token.hash.hex()[:_ID_CHARS]


def _say_when(at_ms: int | None) -> str:
    if at_ms is None:
        return ""
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M")
