"""Users and accounts are made in one step and erased in steps that may be cut anywhere."""

from __future__ import annotations

from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tests.connection_fixture import add_connection
from tindra.app.accounts import run_account_remove
from tindra.app.config import Settings, SettingsError
from tindra.app.erasing import run_erasings
from tindra.app.people import NewMailbox, add_mail_account, add_user
from tindra.app.users import run_user_remove
from tindra.app.wiring import Installation, open_installation
from tindra.base.ids import AccountId, ModSeq
from tindra.base.limits import BLOB_INLINE_BYTES_MAX
from tindra.core.errors import Conflict, StateTooOld, StoreError, Unavailable
from tindra.core.ports import Cursor, StoreReader
from tindra.core.tx import Tx, transact
from tindra.features.connect import Endpoint, load_connections, make_secret_name
from tindra.model.account import ALL_RIGHTS, Grant, User
from tindra.store.blobs.store import Blobs
from tindra.store.sqlite.writer import Writer

IMAP = Endpoint("imap.example.test", 993, "implicit", "me")
SMTP = Endpoint("smtp.example.test", 465, "implicit", "me")
MAILBOX = NewMailbox("me@example.test", "Me", IMAP, SMTP, "pässwörd")


class Killed(BaseException):
    """The program ended here."""


class Killer:
    """Ends the program before or after the n-th commit."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.at: int | None = None
        self.is_after = False
        self.count = 0
        real = Writer.run

        async def run(writer: Writer, *args: Any) -> Any:
            self.count += 1
            is_it = self.count == self.at
            if is_it and not self.is_after:
                raise Killed
            result = await real(writer, *args)
            if is_it:
                raise Killed
            return result

        monkeypatch.setattr(Writer, "run", run)

    def arm(self, at: int, is_after: bool) -> None:
        self.at, self.is_after, self.count = at, is_after, 0


@pytest.fixture
def killer(monkeypatch: pytest.MonkeyPatch) -> Killer:
    return Killer(monkeypatch)


async def check_whole(installation: Installation, user: User) -> int:
    """Every account that is there is whole; gives how many mirror something."""
    services = installation.services
    accounts = await services.directory.load_accounts(None)
    count = 0
    for account in accounts:
        assert [g.user_id for g in await services.directory.list_grantees(account.id)] == [user.id]
        if account.id == user.home_account_id:
            continue
        [(id, connection)] = (await load_connections(services, account.id)).items()
        assert connection["phase"] == "connecting"
        for service in ("imap", "smtp"):
            name = make_secret_name(id, service)
            assert await services.secrets.open_secret(account.id, name) == MAILBOX.password
        identities = await services.store.read(
            account.id, lambda r: r.load_objects("Identity", None)
        )
        assert len(identities) == 1
        count += 1
    return count


@pytest.mark.parametrize("is_after", [False, True])
async def test_an_account_is_whole_or_not_there_wherever_the_program_ends(
    tmp_path: Path, killer: Killer, is_after: bool
) -> None:
    settings = Settings(data=str(tmp_path))
    async with open_installation(settings) as installation:
        user = await add_user(installation, "alex", "secret")
    kills, made = 0, 0
    while True:
        async with open_installation(settings) as installation:
            killer.arm(kills + 1, is_after)
            try:
                await add_mail_account(installation, user, MAILBOX)
            except Killed:
                kills += 1
            except SettingsError:  # the last attempt had done it
                break
            else:
                break
        async with open_installation(settings) as installation:
            made = await check_whole(installation, user)
            assert made == (1 if is_after else 0)
    assert kills == 1, "one commit"
    async with open_installation(settings) as installation:
        assert await check_whole(installation, user) == 1


@pytest.mark.parametrize("is_after", [False, True])
async def test_a_user_is_whole_or_not_there_wherever_the_program_ends(
    tmp_path: Path, killer: Killer, is_after: bool
) -> None:
    settings = Settings(data=str(tmp_path))
    async with open_installation(settings) as installation:
        killer.arm(1, is_after)
        with pytest.raises(Killed):
            await add_user(installation, "alex", "secret")
    async with open_installation(settings) as installation:
        users = await installation.services.directory.list_users()
        accounts = await installation.services.directory.load_accounts(None)
        assert len(users) == len(accounts) == int(is_after)
        for user in users:
            assert await check_whole(installation, user) == 0
            with pytest.raises(SettingsError, match="already a user"):
                await add_user(installation, "alex", "secret")


async def test_an_account_that_cannot_be_filled_is_not_made(tmp_path: Path) -> None:
    async with open_installation(Settings(data=str(tmp_path))) as installation:
        user = await add_user(installation, "alex", "secret")
        bad = MAILBOX._replace(name="x" * 10_000_000)
        with pytest.raises(Exception, match="tooLarge"):
            await add_mail_account(installation, user, bad)
        assert await check_whole(installation, user) == 0


async def test_a_second_connection_is_refused_and_the_first_keeps_its_password(
    tmp_path: Path,
) -> None:
    async with open_installation(Settings(data=str(tmp_path))) as installation:
        user = await add_user(installation, "alex", "secret")
        account_id = await add_mail_account(installation, user, MAILBOX)
        with pytest.raises(Conflict, match="another mailbox is another account"):
            await add_connection(
                installation.services, account_id, "b@example.test", (IMAP, "x"), None
            )
        assert await check_whole(installation, user) == 1
        with pytest.raises(SettingsError, match="connected already"):
            await add_mail_account(installation, user, MAILBOX)


@pytest.mark.parametrize("is_after", [False, True])
async def test_erasing_goes_on_wherever_the_program_ends(
    tmp_path: Path, killer: Killer, is_after: bool
) -> None:
    settings = Settings(data=str(tmp_path))
    async with open_installation(settings) as installation:
        user = await add_user(installation, "alex", "secret")
    kills = 0
    is_killed = True
    while is_killed:
        kills += 1
        async with open_installation(settings) as installation:
            account_id = await fill_and_mark(installation, user)
            killer.arm(kills, is_after)
            is_killed = await is_killed_while_erasing(installation)
            killer.at = None
        async with open_installation(settings) as installation:
            await run_erasings(installation)
            assert await installation.registrar.list_erasing() == []
            assert not (tmp_path / "blobs" / account_id).exists()
            assert await check_whole(installation, user) == 0
    assert kills > 10, "one step for every table"


async def fill_and_mark(installation: Installation, user: User) -> AccountId:
    account_id = await add_mail_account(installation, user, MAILBOX)
    for size in (10, BLOB_INLINE_BYTES_MAX + 1):
        await installation.services.blobs.put(account_id, b"x" * size)
    await installation.registrar.mark_erased(account_id)
    return account_id


async def is_killed_while_erasing(installation: Installation) -> bool:
    try:
        await run_erasings(installation)
    except Killed:
        return True
    return False


async def test_the_mark_stays_until_the_blobs_are_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_installation(Settings(data=str(tmp_path))) as installation:
        user = await add_user(installation, "alex", "secret")
        account_id = await add_mail_account(installation, user, MAILBOX)
        await installation.services.blobs.put(account_id, b"x" * (BLOB_INLINE_BYTES_MAX + 1))
        await installation.registrar.mark_erased(account_id)

        async def fail(*_: object) -> None:
            raise Unavailable("the object store is away")

        with monkeypatch.context() as patch:
            patch.setattr(Blobs, "erase_account", fail)
            with pytest.raises(StoreError, match="away"):
                await run_erasings(installation)
        assert await installation.registrar.list_erasing() == [account_id]
        assert list((tmp_path / "blobs" / account_id).rglob("*"))
        await run_erasings(installation)
        assert await installation.registrar.list_erasing() == []
        assert not (tmp_path / "blobs" / account_id).exists()


async def test_a_user_whose_mailbox_others_use_is_not_removed_with_it(tmp_path: Path) -> None:
    settings = Settings(data=str(tmp_path))
    async with open_installation(settings) as installation:
        user = await add_user(installation, "alex", "secret")
        other = await add_user(installation, "bo", "secret")
        account_id = await add_mail_account(installation, user, MAILBOX)
        grant = Grant(other.id, account_id, frozenset({"read"}))
        await installation.services.directory.put_grant(grant)
    console = Console(file=StringIO())
    asked: list[str] = []
    with pytest.raises(SettingsError, match="also used by bo; remove it first"):
        await run_user_remove(settings, console, "alex", asked.append)
    assert not asked
    await run_account_remove(settings, console, account_id, asked.append)
    await run_user_remove(settings, console, "alex", asked.append)
    assert asked == ["Remove me@example.test from this server?", "Remove alex from this server?"]
    async with open_installation(settings) as installation:
        directory = installation.services.directory
        assert await directory.list_users() == [other]
        [account] = await directory.load_accounts(None)
        assert account.id == other.home_account_id
        assert await directory.list_grants(other.id) == [Grant(other.id, account.id, ALL_RIGHTS)]


async def test_a_no_removes_nothing(tmp_path: Path) -> None:
    settings = Settings(data=str(tmp_path))
    async with open_installation(settings) as installation:
        user = await add_user(installation, "alex", "secret")
        await add_mail_account(installation, user, MAILBOX)

    def refuse(question: str) -> None:
        raise SystemExit(1)

    console = Console(file=StringIO())
    for remove, name in ((run_account_remove, MAILBOX.address), (run_user_remove, "alex")):
        with pytest.raises(SystemExit):
            await remove(settings, console, name, refuse)
    async with open_installation(settings) as installation:
        assert await check_whole(installation, user) == 1


async def test_after_a_restore_no_old_state_means_anything(tmp_path: Path) -> None:
    async with open_installation(Settings(data=str(tmp_path / "data"))) as installation:
        services = installation.services
        user = await add_user(installation, "me@example.test", "secret")
        account_id = await add_mail_account(installation, user, MAILBOX)

        async def change(tx: Tx) -> None:
            await tx.create("Thing", {"n": 1})

        for _ in range(3):
            await transact(services, account_id, "t", change)

        async def ask(reader: StoreReader) -> tuple[ModSeq, list[ModSeq]]:
            state = (await reader.load_states())["Thing"]
            known = []
            for since in [*range(8), *range(state - 2, state + 3)]:
                try:
                    await reader.list_changes("Thing", Cursor(ModSeq(since)), 10)
                except StateTooOld:
                    continue
                known.append(ModSeq(since))
            return state, known

        _, known = await services.store.read(account_id, ask)
        assert known
        assert await installation.registrar.renew_states(["Thing", "Email"]) == 2
        state, known = await services.store.read(account_id, ask)
        assert known == [state]
        await transact(services, account_id, "t", change)
        after, known = await services.store.read(account_id, ask)
        assert known == [state, after]
        await services.store.check_invariants(account_id)
