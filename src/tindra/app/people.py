"""Making users and accounts, for the command line and the demo."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from tindra.app.config import SettingsError
from tindra.app.wiring import Installation
from tindra.base.ids import AccountId, UserId, new_id
from tindra.core.errors import Conflict
from tindra.core.services import Services
from tindra.core.tx import Tx, bind
from tindra.features.connect import (
    Endpoint,
    apply_connection,
    make_connection_id,
    make_secret_name,
)
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


async def add_user(installation: Installation, login: str, password: str) -> User:
    """Make a user with an empty home account. Raises: SettingsError if the login is taken."""
    services = installation.services
    login = check_name("login", login, ":").lower()
    now_ms = services.clock.now_ms()
    user_id = UserId(new_id("u", now_ms, services.random))
    home = Account(AccountId(new_id("a", now_ms, services.random)), login, user_id, now_ms)
    user = User(user_id, login, make_password_hash(password), home.id, now_ms)
    try:
        await installation.registrar.create_user(user, home, Grant(user_id, home.id, ALL_RIGHTS))
    except Conflict:
        raise SettingsError(f"there is already a user {login}") from None
    return user


async def change_password(services: Services, user: User, password: str) -> None:
    """A new password to sign in with. Who is signed in by the old one is out within
    `server.sign_in.CALLER_FRESH_MS`; devices and app passwords stay."""
    changed = msgspec.structs.replace(user, password_hash=make_password_hash(password))
    await services.directory.put_user(changed)


async def find_user(services: Services, login: str) -> User:
    """The user of a login. Raises: SettingsError, naming those there are."""
    user = await services.directory.find_user(login.strip().lower())
    if user is None:
        known = ", ".join(sorted(u.login for u in await services.directory.list_users()))
        hint = f"there are: {known}" if known else "make one with: tindra user add LOGIN"
        raise SettingsError(f"there is no user {login}; {hint}")
    return user


async def check_not_connected(services: Services, user: User, address: str) -> None:
    """Raises: SettingsError if the user has this mailbox already."""
    grants = {grant.account_id for grant in await services.directory.list_grants(user.id)}
    for account in await services.directory.load_accounts(list(grants)):
        if account.name == address and account.id != user.home_account_id:
            raise SettingsError(f"{address} is connected already ({account.id})")


async def add_mail_account(
    installation: Installation, user: User, mailbox: NewMailbox
) -> AccountId:
    """An account that mirrors a mailbox, its owner's to read and write: one commit makes it with
    its Identity, its Connection and the sealed passwords. Raises: SettingsError."""
    services = installation.services
    await check_not_connected(services, user, mailbox.address)
    now_ms = services.clock.now_ms()
    account_id = AccountId(new_id("a", now_ms, services.random))
    id = make_connection_id(services)
    secrets = {make_secret_name(id, "imap"): mailbox.password}
    if mailbox.smtp is not None:
        secrets[make_secret_name(id, "smtp")] = mailbox.password

    async def write(tx: Tx) -> None:
        await apply_default_identity(tx, mailbox.address, mailbox.name)
        await apply_connection(tx, id, mailbox.address, mailbox.imap, mailbox.smtp)

    await installation.registrar.create_account(
        Account(account_id, mailbox.address, user.id, now_ms),
        Grant(user.id, account_id, ALL_RIGHTS),
        secrets,
        bind(services, write, "system"),
    )
    return account_id


async def add_token(services: Services, user: User, name: str) -> str:
    """An app password; its text is shown once and never again."""
    text, token_hash = make_token()
    now_ms = services.clock.now_ms()
    await services.directory.put_token(Token(token_hash, user.id, name, "app", now_ms))
    return text
