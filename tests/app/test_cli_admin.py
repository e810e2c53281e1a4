"""What an administrator does at night: passwords, sign-outs, removals, with a server or without."""

from __future__ import annotations

import asyncio
import base64
import http.client
import json
import os
import pty
import re
import signal
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.app.command_line import ADDRESS, LOGIN, Cli, wait_for
from tests.app.demo_host import PLAIN_MESSAGE, DemoHost
from tindra.app.config import Settings
from tindra.app.wiring import open_installation
from tindra.base.ids import AccountId
from tindra.features.connect import load_connections, update_status
from tindra.store.sqlite.schema import ACCOUNT_TABLES

PASSWORD = "secret"
NOTICED_S = 15.0
"""Sign-ins are looked at again every five seconds."""


def basic(password: str, login: str = LOGIN) -> str:
    return "Basic " + base64.b64encode(f"{login}:{password}".encode()).decode()


def ask(port: int, authorization: str, path: str = "/.well-known/jmap") -> tuple[int, bytes]:
    """Status and body of a GET."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request("GET", path, headers={"Authorization": authorization})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def sign_in_device(port: int, name: str) -> str:
    """What a device sends after it was given a token."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    body = json.dumps({"username": LOGIN, "password": PASSWORD, "deviceName": name})
    headers = {"Content-Type": "application/json"}
    connection.request("POST", "/auth/token", body, headers)
    token = json.loads(connection.getresponse().read())["accessToken"]
    connection.close()
    return f"Bearer {token}"


@contextmanager
def listening(port: int, authorization: str) -> Iterator[http.client.HTTPResponse]:
    """An open event stream."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=NOTICED_S)
    path = "/jmap/eventsource?types=*&closeafter=no&ping=0"
    connection.request("GET", path, headers={"Authorization": authorization})
    answer = connection.getresponse()
    assert answer.status == 200
    try:
        yield answer
    finally:
        connection.close()


def wait_for_refusal(port: int, authorization: str) -> None:
    wait_for(lambda: ask(port, authorization)[0] == 401, NOTICED_S)


def token_ids(cli: Cli) -> dict[str, str]:
    """Name -> id, as `token list` shows them."""
    lines = cli.ok("token", "list", LOGIN).splitlines()[1:]
    found = {}
    for line in lines:
        match = re.match(r"\s*([0-9a-f]{8})\s+(device|app password)\s+(\S+)", line)
        assert match, line
        found[match[3]] = match[1]
    return found


def count_rows(cli: Cli, account_id: str) -> dict[str, int]:
    """What the files hold of an account, table by table; empty when nothing."""
    found = {}
    data = sqlite3.connect(cli.data / "tindra.sqlite")
    for table in (*ACCOUNT_TABLES, "account", "grant_row", "erasing"):
        sql = f"SELECT count(*) FROM {table} WHERE account_id = ?"
        found[table] = data.execute(sql, (account_id,)).fetchone()[0]
    data.close()
    search = sqlite3.connect(cli.data / "search.db")
    sql = "SELECT count(*) FROM fts_account WHERE account_id = ?"
    found["search"] = search.execute(sql, (account_id,)).fetchone()[0]
    search.close()
    folder = cli.data / "blobs" / account_id
    found["files"] = sum(1 for _ in folder.rglob("*")) + folder.exists()
    return {name: count for name, count in found.items() if count}


def connect(cli: Cli, host: DemoHost) -> str:
    """A user with a mailbox that has small and large messages; gives the account's id."""
    cli.add_user()
    host.call(host.provider.deliver, PLAIN_MESSAGE + b"large\r\n" * 20_000)
    done = cli.account_add(host)
    assert done.returncode == 0, done.stderr
    found = re.search(r"\((a[0-9a-v]{16})\)", done.stdout)
    assert found is not None
    rows = count_rows(cli, found[1])
    for name in ("email", "files", "secret", "remote_message", "object", "account"):
        assert name in rows, (name, rows)
    return found[1]


def type_answer(cli: Cli, answer: str, *arguments: str) -> tuple[int, str]:
    """Run a command on a terminal and type one line; gives the exit status and what was shown."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        cli.command(*arguments, "--data", str(cli.data)), env=cli.environment, cwd=cli.folder,
        stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
    )  # fmt: skip
    os.close(theirs)
    shown = b""
    os.write(ours, answer.encode() + b"\n")
    while True:
        try:
            piece = os.read(ours, 4096)
        except OSError:  # the other end is closed
            break
        if not piece:
            break
        shown += piece
    os.close(ours)
    return process.wait(60), shown.decode()


# -- passwords -------------------------------------------------------------------------------------
def test_a_new_password_replaces_the_old_one_on_a_running_server(cli: Cli) -> None:
    cli.add_user()
    with cli.serving() as port:
        assert ask(port, basic(PASSWORD))[0] == 200
        device = sign_in_device(port, "phone")
        said = cli.ok("user", "password", LOGIN, "--password-stdin", stdin=b"another\n")
        assert "sign-out" in said, "it is told that a device stays signed in"
        wait_for(lambda: ask(port, basic(PASSWORD))[0] == 401, NOTICED_S)
        assert ask(port, basic("another"))[0] == 200
        assert ask(port, device)[0] == 200
    assert "there is no user" in cli.refuse(
        "user", "password", "nobody", "--password-stdin", stdin=b"x\n"
    )
    assert "empty" in cli.refuse("user", "password", LOGIN, "--password-stdin", stdin=b"\n")


def test_a_new_mailbox_password_is_kept_for_the_next_start(cli: Cli, host: DemoHost) -> None:
    cli.add_user()
    assert cli.account_add(host).returncode == 0
    host.provider.imap.logins[ADDRESS] = "another"
    cli.ok("account", "password", ADDRESS, "--password-stdin", stdin=b"another\n")
    host.call(host.provider.deliver, PLAIN_MESSAGE)
    with cli.serving():
        wait_for(lambda: "13 of 13" in cli.ok("account", "list"))


# -- tokens ----------------------------------------------------------------------------------------
def test_a_revoked_token_is_cut_off_within_seconds_and_others_are_not(cli: Cli) -> None:
    cli.add_user()
    assert "no device signed in" in cli.ok("token", "list", LOGIN)
    lines = cli.ok("token", "add", LOGIN, "mail[x]").splitlines()
    app = basic(lines[1].strip())
    with cli.serving() as port:
        phone, laptop = sign_in_device(port, "phone"), sign_in_device(port, "laptop")
        ids = token_ids(cli)
        assert set(ids) == {"mail[x]", "phone", "laptop"}
        with listening(port, phone) as stream:
            assert "phone" in cli.ok("token", "revoke", LOGIN, ids["phone"])
            assert stream.read() is not None, "its event stream ends"
        wait_for(lambda: ask(port, phone)[0] == 401, NOTICED_S)
        assert ask(port, laptop)[0] == 200
        assert ask(port, app)[0] == 200
        cli.ok("token", "revoke", LOGIN, ids["mail[x]"].upper())
        wait_for(lambda: ask(port, app)[0] == 401, NOTICED_S)
    assert set(token_ids(cli)) == {"laptop"}


def test_a_token_that_is_none_is_told(cli: Cli) -> None:
    cli.add_user()
    cli.ok("token", "add", LOGIN, "phone")
    assert "token list" in cli.refuse("token", "revoke", LOGIN, "00000000ff")
    assert "too short" in cli.refuse("token", "revoke", LOGIN, "")
    assert "there is no user" in cli.refuse("token", "revoke", "nobody", "12345678")
    assert "there is no user" in cli.refuse("token", "list", "nobody")
    assert set(token_ids(cli)) == {"phone"}


def test_signing_out_ends_every_device_and_app_password(cli: Cli) -> None:
    cli.add_user()
    app = basic(cli.ok("token", "add", LOGIN, "mail").splitlines()[1].strip())
    with cli.serving() as port:
        devices = [sign_in_device(port, name) for name in ("phone", "laptop")]
        assert ask(port, app)[0] == 200
        said = cli.ok("user", "sign-out", LOGIN)
        assert "2 devices and 1 app passwords" in said
        for one in (*devices, app):
            wait_for_refusal(port, one)
        assert ask(port, basic(PASSWORD))[0] == 200, "the password still works, as it says"
    assert "no device signed in" in cli.ok("token", "list", LOGIN)
    assert "0 devices" in cli.ok("user", "sign-out", LOGIN)
    assert "there is no user" in cli.refuse("user", "sign-out", "nobody")


# -- removals --------------------------------------------------------------------------------------
def test_a_removed_mailbox_leaves_nothing_here_and_everything_there(
    cli: Cli, host: DemoHost
) -> None:
    account_id = connect(cli, host)
    assert "--yes" in cli.refuse("account", "remove", ADDRESS)
    status, shown = type_answer(cli, "n", "account", "remove", ADDRESS)
    assert status == 1
    assert "13 messages" in shown
    assert "stays as it is" in shown
    assert "nothing was removed" in shown
    assert ADDRESS in cli.ok("account", "list")
    status, shown = type_answer(cli, "y", "account", "remove", ADDRESS)
    assert status == 0, shown
    assert "erased" in shown
    assert count_rows(cli, account_id) == {}
    assert "No mailbox is connected" in cli.ok("account", "list")
    assert "is not connected" in cli.refuse("account", "remove", ADDRESS, "--yes")
    assert cli.account_add(host).returncode == 0
    assert "13 of 13" in cli.ok("account", "list"), "the provider's mail was not touched"


def test_a_running_server_lets_go_of_a_removed_mailbox(cli: Cli, host: DemoHost) -> None:
    account_id = connect(cli, host)
    with cli.serving() as port:
        wait_for(lambda: host.call(lambda: len(host.provider.imap.connections)) > 0)
        assert account_id in json.loads(ask(port, basic(PASSWORD))[1])["accounts"]
        assert "running server" in cli.ok("account", "remove", account_id, "--yes")
        wait_for(lambda: host.call(lambda: len(host.provider.imap.connections)) == 0)
        wait_for(
            lambda: account_id not in json.loads(ask(port, basic(PASSWORD))[1])["accounts"],
            NOTICED_S,
        )
        wait_for(lambda: count_rows(cli, account_id) == {}, 30)
        assert cli.account_add(host).returncode == 0, "it may be connected anew at once"
        assert "13 of 13" in cli.ok("account", "list")


def test_a_removal_that_was_killed_goes_on_at_the_next_start(cli: Cli, host: DemoHost) -> None:
    account_id = connect(cli, host)
    with cli.serving() as port:
        cli.ok("account", "remove", ADDRESS, "--yes")
        assert "email" in count_rows(cli, account_id), "it has not been erased yet"
        assert ask(port, basic(PASSWORD))[0] == 200
    assert "erasing" in count_rows(cli, account_id), "stopped in the middle"
    assert "not cleared away" in cli.run("doctor").stdout
    with cli.serving():
        wait_for(lambda: count_rows(cli, account_id) == {}, 30)
    assert "not cleared away" not in cli.run("doctor").stdout


@pytest.mark.slow
def test_a_killed_command_leaves_a_mailbox_whole_or_gone(cli: Cli, host: DemoHost) -> None:
    account_id = connect(cli, host)
    for wait_s in (0.35, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0):
        process = subprocess.Popen(
            cli.command("account", "remove", ADDRESS, "--yes", "--data", str(cli.data)),
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=cli.environment,
        )  # fmt: skip
        time.sleep(wait_s)  # anywhere in its work
        process.send_signal(signal.SIGKILL)
        process.wait()
        if ADDRESS not in cli.ok("account", "list"):
            break
        assert "account" in count_rows(cli, account_id)
    else:
        cli.ok("account", "remove", ADDRESS, "--yes")
    assert not {"account", "grant_row", "secret"} & set(count_rows(cli, account_id))
    with cli.serving():
        wait_for(lambda: count_rows(cli, account_id) == {}, 30)


def test_a_removed_user_is_out_and_their_mail_is_gone(cli: Cli, host: DemoHost) -> None:
    account_id = connect(cli, host)
    cli.ok("user", "add", "other", "--password-stdin", stdin=b"secret\n")
    app = basic(cli.ok("token", "add", LOGIN, "mail").splitlines()[1].strip())
    assert "--yes" in cli.refuse("user", "remove", LOGIN)
    assert "there is no user" in cli.refuse("user", "remove", "nobody", "--yes")
    with cli.serving() as port:
        assert ask(port, app)[0] == 200
        assert ask(port, basic(PASSWORD))[0] == 200
        said = cli.ok("user", "remove", LOGIN, "--yes")
        assert "13 messages" in said
        assert "0 devices and 1 app passwords" in said
        for one in (app, basic(PASSWORD)):
            wait_for_refusal(port, one)
        assert ask(port, basic(PASSWORD, "other"))[0] == 200
        wait_for(lambda: host.call(lambda: len(host.provider.imap.connections)) == 0)
        wait_for(lambda: count_rows(cli, account_id) == {}, 30)
    assert cli.ok("user", "list").split() == ["other"]
    cli.ok("user", "remove", "other", "--yes")
    assert "no users yet" in cli.ok("user", "list")
    data = sqlite3.connect(cli.data / "tindra.sqlite")
    for table in ("user", "token", "grant_row", "account"):
        assert data.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,), table
    data.close()


# -- mail that vanished ----------------------------------------------------------------------------
HELD: dict[str, Any] = {
    "messages": 12,
    "since": "2026-09-01T10:00:00Z",
    "until": "2026-09-02T10:00:00Z",
}


def hold_back(cli: Cli, account_id: str, held: dict[str, Any] | None) -> None:
    """What the mirror notes when most mail vanished at the provider at once."""

    async def write() -> None:
        async with open_installation(Settings(data=str(cli.data))) as installation:
            services, account = installation.services, AccountId(account_id)
            [(id, found)] = (await load_connections(services, account)).items()
            changes = {"heldBack": held, "brake": {"clockMs": 7_000}}
            assert await update_status(services, account, id, found["revision"], changes)

    asyncio.run(write())


def load_brake(cli: Cli, account_id: str) -> tuple[int, dict[str, int]]:
    """Revision and brake of the Connection."""

    async def load() -> tuple[int, dict[str, int]]:
        async with open_installation(Settings(data=str(cli.data))) as installation:
            found = await load_connections(installation.services, AccountId(account_id))
            [connection] = found.values()
            return connection["revision"], connection["brake"]

    return asyncio.run(load())


def test_mail_that_vanished_is_shown_and_let_go_only_when_somebody_says_so(
    cli: Cli, host: DemoHost
) -> None:
    account_id = connect(cli, host)
    assert "is kept back" in cli.refuse("account", "confirm", ADDRESS, "--yes")
    assert "until" not in cli.ok("account", "list")
    hold_back(cli, account_id, HELD)
    shown = cli.ok("account", "list")
    assert "kept back" in shown.splitlines()[0]
    assert f"12 until {HELD['until']}" in shown
    revision, brake = load_brake(cli, account_id)
    assert brake == {"clockMs": 7_000}
    assert "--yes" in cli.refuse("account", "confirm", ADDRESS)
    status, shown = type_answer(cli, "n", "account", "confirm", ADDRESS)
    assert status == 1
    assert f"12 messages of {ADDRESS} vanished" in shown
    assert HELD["since"] in shown
    assert load_brake(cli, account_id) == (revision, brake)
    status, shown = type_answer(cli, "y", "account", "confirm", ADDRESS)
    assert status == 0, shown
    assert "tindra serve" in shown, "it is told that no server runs"
    assert load_brake(cli, account_id) == (revision + 1, brake | {"confirmedMs": 7_000})
    assert "is not connected" in cli.refuse("account", "confirm", "nobody@example.test", "--yes")


# -- pauses ----------------------------------------------------------------------------------------
def test_a_paused_mailbox_stays_paused_at_a_start(cli: Cli, host: DemoHost) -> None:
    cli.add_user()
    assert cli.account_add(host).returncode == 0
    assert "account resume" in cli.ok("account", "pause", ADDRESS)
    host.call(host.provider.deliver, PLAIN_MESSAGE)
    with cli.serving():
        assert "paused" in cli.ok("account", "list")
        assert "12 of 12" in cli.ok("account", "list")
        assert "tindra serve" not in cli.ok("account", "resume", ADDRESS)
        wait_for(lambda: "13 of 13" in cli.ok("account", "list"))
    assert "tindra serve" in cli.ok("account", "resume", ADDRESS)


# -- help ------------------------------------------------------------------------------------------
@pytest.mark.parametrize("group", ["user", "token", "account"])
def test_every_command_of_a_group_explains_itself(cli: Cli, group: str) -> None:
    shown = cli.run(group, "--help", has_data=False).stdout
    names = re.findall(r"^│ ([a-z][a-z-]+) ", shown, re.MULTILINE)
    assert len(names) >= 3, shown
    for name in names:
        done = cli.run(group, name, "--help", has_data=False)
        assert done.returncode == 0
        assert f"tindra {group} {name}" in done.stdout
        rows = re.findall(r"^│ .*--.* │$", done.stdout, re.MULTILINE)
        assert rows
        for row in rows:
            assert re.search(r"[a-z)]\. ", row), f"what is this for: {row}"
