"""Making users and accounts, for the command line and the demo."""

from __future__ import annotations

from typing import NamedTuple

from tindra.app.config import SettingsError
from tindra.base.ids import AccountId, UserId, new_id
from tindra.core.services import Services
from tindra.core.tx import Tx, transact
from tindra.features.connect import Endpoint, add_connection, load_connections
from tindra.features.mail.identity import apply_default_identity
from tindra.model.account import ALL_RIGHTS, Account, Grant, Token, User
from tindra.server.password import make_password_hash, make_token

NAME_CHARS_MAX = 254
"""Of a login or an address. Source: RFC 5321 s4.5.3.1.3"""


class NewMailbox(NamedTuple):
    """What `account add` asks for."""

    address: str
    name: str
    """What others read beside the address; "" for nothing."""
    imap: Endpoint
    smtp: Endpoint | None
    password: str


def check_name(what: str, text: str, forbidden: str = "") -> str:
    """A login or an address as it is kept. Raises: SettingsError."""
    text = text.strip()
    if not text:
        raise SettingsError(f"the {what} is empty")
    if len(text) > NAME_CHARS_MAX:
        raise SettingsError(f"the {what} is longer than {NAME_CHARS_MAX} characters")
    if any(c.isspace() or not c.isprintable() or c in forbidden for c in text):
        raise SettingsError(f"a {what} has no spaces{_and_none_of(forbidden)}: {text!r}")
    return text


def _and_none_of(forbidden: str) -> str:
    return f" and none of {' '.join(forbidden)}" if forbidden else ""


def check_address(text: str) -> str:
    """A mail address, as far as it can be told without asking anybody. Raises: SettingsError."""
    address = check_name("mail address", text, '<>",;')
    local, at, domain = address.rpartition("@")
    if not at or not local or not domain:
        raise SettingsError(f"a mail address looks like name@example.org: {address!r}")
    return address


async def add_user(services: Services, login: str, password: str) -> User:
    """Make a user with an empty home account. Raises: SettingsError if the login is taken."""
    login = check_name("login", login, ":").lower()
    if await services.directory.find_user(login) is not None:
        raise SettingsError(f"there is already a user {login}")
    now_ms = services.clock.now_ms()
    user_id = UserId(new_id("u", now_ms, services.random))
    home = AccountId(new_id("a", now_ms, services.random))
    user = User(user_id, login, make_password_hash(password), home, now_ms)
    await services.directory.put_account(Account(home, login, user_id, now_ms))
    await services.directory.put_user(user)
    await services.directory.put_grant(Grant(user_id, home, ALL_RIGHTS))
    return user


async def find_user(services: Services, login: str) -> User:
    """The user of a login. Raises: SettingsError, naming those there are."""
    user = await services.directory.find_user(login.strip().lower())
    if user is None:
        known = ", ".join(sorted(u.login for u in await services.directory.list_users()))
        hint = f"there are: {known}" if known else "make one with: tindra user add LOGIN"
        raise SettingsError(f"there is no user {login}; {hint}")
    return user


async def check_not_connected(services: Services, user: User, address: str) -> None:
    """Raises: SettingsError if the user has this mailbox already.

    What an interrupted attempt left behind is erased.
    """
    grants = {grant.account_id for grant in await services.directory.list_grants(user.id)}
    for account in await services.directory.load_accounts(list(grants)):
        if account.name != address or account.id == user.home_account_id:
            continue
        if not await _is_unfinished(services, account.id):
            raise SettingsError(f"{address} is connected already ({account.id})")
        await services.directory.delete_account(account.id)


async def _is_unfinished(services: Services, account_id: AccountId) -> bool:
    """Whether the making of an account broke off before its mirror could start."""
    connections = await load_connections(services, account_id)
    if connections:
        return all(connection["revision"] == 0 for connection in connections.values())
    return not await services.store.read(account_id, lambda r: r.load_mailboxes())


async def add_mail_account(services: Services, user: User, mailbox: NewMailbox) -> AccountId:
    """An account that mirrors a mailbox, its owner's to read and write. Raises: SettingsError."""
    await check_not_connected(services, user, mailbox.address)
    now_ms = services.clock.now_ms()
    account_id = AccountId(new_id("a", now_ms, services.random))
    await services.directory.put_account(Account(account_id, mailbox.address, user.id, now_ms))
    await services.directory.put_grant(Grant(user.id, account_id, ALL_RIGHTS))
    smtp = None if mailbox.smtp is None else (mailbox.smtp, mailbox.password)

    async def write(tx: Tx) -> str:
        return await apply_default_identity(tx, mailbox.address, mailbox.name)

    await transact(services, account_id, "identity-add", write, origin="system")
    await add_connection(
        services, account_id, mailbox.address, (mailbox.imap, mailbox.password), smtp
    )
    return account_id


async def add_token(services: Services, user: User, name: str) -> str:
    """An app password; its text is shown once and never again."""
    text, token_hash = make_token()
    now_ms = services.clock.now_ms()
    await services.directory.put_token(Token(token_hash, user.id, name, "app", now_ms))
    return text
