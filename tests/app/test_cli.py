"""The command line as people meet it: the real command in a process of its own.

Whatever is asked of it, it answers in a sentence, with exit status 0 or 1, and never a traceback.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess

import pytest

from tests.app.command_line import ADDRESS, LOGIN, Cli, wait_for
from tests.app.demo_host import DemoHost


# -- users -----------------------------------------------------------------------------------------
def test_a_user_is_made_and_listed_and_gets_app_passwords(cli: Cli) -> None:
    assert "no users yet" in cli.ok("user", "list")
    cli.add_user()
    assert cli.ok("user", "list").split() == [LOGIN]
    assert "App password" in cli.ok("token", "add", LOGIN, "my [phone]")


def test_a_taken_login_is_refused_whatever_its_case(cli: Cli) -> None:
    cli.add_user()
    said = cli.refuse("user", "add", LOGIN.upper(), "--password-stdin", stdin=b"x\n")
    assert f"there is already a user {LOGIN}" in said


@pytest.mark.parametrize(
    "login", ["", " ", "a b", "a:b", "a\tb", "a\nb", "\x1b[31m", "[red]x[/red] y", "x" * 300]
)
def test_a_login_that_cannot_be_is_refused(cli: Cli, login: str) -> None:
    cli.refuse("user", "add", login, "--password-stdin", stdin=b"secret\n")
    assert "no users yet" in cli.ok("user", "list")


def test_markup_in_a_name_is_shown_as_it_is(cli: Cli) -> None:
    cli.ok("user", "add", "[bold]x[/]", "--password-stdin", stdin=b"secret\n")
    assert cli.ok("user", "list").strip() == "[bold]x[/]"
    assert "[/nothing]" in cli.refuse("token", "add", "[/nothing]", "x")


@pytest.mark.parametrize("stdin", [b"", b"\n", b"\xff\xfe\n", b"y" * 5000])
def test_a_password_that_cannot_be_is_refused(cli: Cli, stdin: bytes) -> None:
    assert "password" in cli.refuse("user", "add", LOGIN, "--password-stdin", stdin=stdin)


def test_without_a_terminal_the_way_out_is_named(cli: Cli) -> None:
    assert "--password-stdin" in cli.refuse("user", "add", LOGIN)


def test_an_argument_that_is_no_text_is_refused(cli: Cli) -> None:
    assert "not valid UTF-8" in cli.refuse(b"user", b"add", b"\xff\xfe", b"--password-stdin")


def test_an_unknown_user_is_named_with_those_there_are(cli: Cli) -> None:
    cli.add_user()
    assert LOGIN in cli.refuse("token", "add", "nobody", "phone")


# -- accounts --------------------------------------------------------------------------------------
def test_a_mailbox_is_connected_with_its_progress(cli: Cli, host: DemoHost) -> None:
    cli.add_user()
    assert "No mailbox is connected yet" in cli.ok("account", "list")
    done = cli.account_add(host)
    assert done.returncode == 0, done.stderr
    assert "is connected" in done.stdout
    assert "live" in done.stdout
    assert "12/12" in done.stdout
    listed = cli.ok("account", "list")
    assert ADDRESS in listed
    assert "12 of 12" in listed
    assert "No server runs" in listed
    again = cli.account_add(host)
    assert again.returncode == 1
    assert "connected already" in again.stderr


def test_a_wrong_password_is_one_sentence_and_leaves_nothing_behind(
    cli: Cli, host: DemoHost
) -> None:
    cli.add_user()
    done = cli.account_add(host, "wrong")
    assert done.returncode == 1
    assert len(done.stderr.strip().splitlines()) == 1
    assert "did not accept the user name or password" in done.stderr
    assert "No mailbox is connected yet" in cli.ok("account", "list")
    assert cli.account_add(host).returncode == 0


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--imap-host", "127.0.0.1", "--imap-port", "1", "--imap-tls", "none"], "no connections"),
        (["--imap-host", "no-such-host.invalid"], "No mail server named"),
        (["--imap-host", ""], "no mail server"),
        (["--imap-host", "a b\nc"], ""),
        (["--imap-host", "127.0.0.1", "--imap-port", "99999"], "no mail server"),
        (["--imap-host", "127.0.0.1", "--imap-port", "-1"], "no mail server"),
    ],
)
def test_a_server_that_cannot_be_reached_is_one_sentence(
    cli: Cli, more: list[str], words: str
) -> None:
    cli.add_user()
    said = cli.refuse(
        "account", "add", LOGIN, ADDRESS, "--password-stdin", *more, stdin=b"secret\n"
    )
    assert words in said
    assert "No mailbox is connected yet" in cli.ok("account", "list")


@pytest.mark.parametrize("address", ["", "nobody", "@", "a@", "@b", "a b@c", "<a@b>", "a@b\nc"])
def test_what_is_no_address_is_refused(cli: Cli, host: DemoHost, address: str) -> None:
    cli.add_user()
    cli.refuse(
        "account", "add", LOGIN, address, "--imap-host", "127.0.0.1", "--imap-tls", "none",
        "--imap-port", str(host.provider.imap_port), "--password-stdin", stdin=b"demo\n",
    )  # fmt: skip


def test_a_changed_password_is_told_and_tried_without_a_restart(cli: Cli, host: DemoHost) -> None:
    cli.add_user()
    assert cli.account_add(host).returncode == 0
    host.provider.imap.logins[ADDRESS] = "another"
    with cli.serving():
        wait_for(lambda: "password refused" in cli.ok("account", "list"))
        assert "did not accept" in cli.run("doctor").stdout
        said = cli.refuse("account", "password", ADDRESS, "--password-stdin", stdin=b"no\n")
        assert "did not accept" in said
        cli.ok("account", "password", ADDRESS, "--password-stdin", stdin=b"another\n")
        wait_for(lambda: "live" in cli.ok("account", "list"))
        assert "No server runs" not in cli.ok("account", "list")


def test_a_mailbox_is_stopped_and_started_while_a_server_runs(cli: Cli, host: DemoHost) -> None:
    cli.add_user()
    assert cli.account_add(host).returncode == 0
    with cli.serving():
        wait_for(lambda: host.call(lambda: len(host.provider.imap.connections)) > 0)
        cli.ok("account", "pause", ADDRESS)
        wait_for(lambda: host.call(lambda: len(host.provider.imap.connections)) == 0)
        assert "paused" in cli.ok("account", "list")
        cli.ok("account", "resume", ADDRESS)
        wait_for(lambda: "live" in cli.ok("account", "list"))
    assert "is not connected" in cli.refuse("account", "pause", "nobody@example.test")


def test_a_mailbox_added_while_a_server_runs_is_mirrored_by_it(cli: Cli, host: DemoHost) -> None:
    cli.add_user()
    with cli.serving():
        done = cli.account_add(host)
        assert done.returncode == 0, done.stderr
        assert "Start the server" not in done.stdout
        assert "12 of 12" in cli.ok("account", "list")


# -- serve -----------------------------------------------------------------------------------------
def test_a_second_server_on_the_same_data_is_refused(cli: Cli) -> None:
    with cli.serving():
        said = cli.refuse("serve", "--port", "0")
        assert "another tindra already serves" in said


def test_a_taken_port_is_named(cli: Cli) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert f"cannot listen on 127.0.0.1:{port}" in cli.refuse("serve", "--port", str(port))


@pytest.mark.parametrize("host", ["999.1.2.3", "no-such-host.invalid", "", "a b"])
def test_a_place_that_cannot_be_listened_on_is_named(cli: Cli, host: str) -> None:
    cli.refuse("serve", "--host", host, "--port", "0")


@pytest.mark.parametrize(
    ("toml", "words"),
    [
        ("port = 99999", "port"),
        ('port = "x"', "port"),
        ("nonsense = 1", "nonsense"),
        ("port = ", "not TOML"),
        ('log_level = "loud"', "log_level"),
        ('data = "a\\u0000b"', "data"),
    ],
)
def test_bad_settings_are_named_with_their_place(cli: Cli, toml: str, words: str) -> None:
    (cli.folder / "tindra.toml").write_text(toml)
    assert words in cli.refuse("user", "list", has_data="data" not in toml)


def test_a_settings_file_that_cannot_be_read_is_named(cli: Cli) -> None:
    assert "none.toml cannot be read" in cli.refuse("user", "list", "--config", "none.toml")
    assert "cannot be read" in cli.refuse("user", "list", "--config", str(cli.folder))


def test_a_setting_from_the_environment_is_checked_too(cli: Cli) -> None:
    cli.environment["TINDRA_PORT"] = "many"
    assert "TINDRA_PORT" in cli.refuse("user", "list")


# -- broken data -----------------------------------------------------------------------------------
COMMANDS = (("user", "list"), ("account", "list"), ("serve", "--port", "0"))


@pytest.mark.parametrize("command", COMMANDS)
def test_a_data_folder_that_is_a_file_is_named(cli: Cli, command: tuple[str, ...]) -> None:
    cli.data.write_text("not a folder")
    assert "data folder" in cli.refuse(*command)


@pytest.mark.skipif(os.getuid() == 0, reason="root may write everywhere")
@pytest.mark.parametrize("command", COMMANDS)
def test_a_data_folder_that_cannot_be_written_is_named(cli: Cli, command: tuple[str, ...]) -> None:
    cli.data.mkdir(mode=0o500)
    assert "cannot be written" in cli.refuse(*command)


@pytest.mark.parametrize("content", [b"this is no database" * 1000, b"\0" * 100_000])
@pytest.mark.parametrize("command", COMMANDS)
def test_a_file_that_is_no_database_is_named(
    cli: Cli, command: tuple[str, ...], content: bytes
) -> None:
    cli.data.mkdir()
    (cli.data / "tindra.sqlite").write_bytes(content)
    cli.refuse(*command)
    assert "cannot be used" in cli.run("doctor").stdout


def test_a_damaged_database_gives_no_traceback(cli: Cli, host: DemoHost) -> None:
    cli.add_user()
    assert cli.account_add(host).returncode == 0
    file = cli.data / "tindra.sqlite"
    octets = bytearray(file.read_bytes())
    for at in range(8192, len(octets), 4096):
        octets[at : at + 64] = b"\xff" * 64
    file.write_bytes(octets)
    for command in (("user", "list"), ("account", "list"), ("doctor",)):
        assert cli.run(*command).returncode in (0, 1)


def test_a_missing_master_key_is_named(cli: Cli, host: DemoHost) -> None:
    cli.add_user()
    assert cli.account_add(host).returncode == 0
    (cli.data / "master.key").rename(cli.folder / "kept.key")
    for command in COMMANDS:
        assert "master key" in cli.refuse(*command)
    (cli.data / "master.key").write_bytes(b"x" * 32)
    done = cli.run("account", "list")
    assert done.returncode in (0, 1)
    (cli.data / "master.key").write_bytes(b"too short")
    assert "32 octets" in cli.refuse("user", "list")
    assert "bad" in cli.run("doctor").stdout


# -- doctor ----------------------------------------------------------------------------------------
def test_doctor_looks_at_everything_and_makes_nothing(cli: Cli, host: DemoHost) -> None:
    assert "no data folder" in cli.run("doctor").stdout
    assert not cli.data.exists()
    cli.add_user()
    assert cli.account_add(host).returncode == 0
    said = cli.run("doctor").stdout
    for words in ("MiB free", "1 users", "no server runs", f"{ADDRESS} is live", "answers"):
        assert words in said, said
    (cli.data / "master.key").chmod(0o644)
    assert "chmod 600" in cli.run("doctor").stdout


def test_doctor_says_what_is_wrong_with_a_mailbox(cli: Cli, host: DemoHost) -> None:
    cli.add_user()
    assert cli.account_add(host).returncode == 0
    host.wait(host.provider.stop())
    done = cli.run("doctor")
    assert done.returncode == 1
    assert "does not answer" in done.stdout
    host.wait(host.provider.start())


# -- the rest --------------------------------------------------------------------------------------
def test_help_and_version_answer_without_data(cli: Cli) -> None:
    assert "account" in cli.run("--help", has_data=False).stdout
    assert re.match(r"\d+\.\d+", cli.run("--version", has_data=False).stdout)


@pytest.mark.parametrize("arguments", [["nonsense"], ["user"], ["user", "add"], ["serve", "--bad"]])
def test_a_command_that_is_none_is_explained(cli: Cli, arguments: list[str]) -> None:
    done = cli.run(*arguments, has_data=False)
    assert "─" in done.stdout + done.stderr, "explained in a box"


def test_output_that_nobody_reads_is_no_disaster(cli: Cli) -> None:
    cli.add_user()
    process = subprocess.Popen(
        cli.command("user", "list", "--data", str(cli.data)),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=cli.environment,
    )  # fmt: skip
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    err = process.stderr.read()
    process.stderr.close()
    process.wait(20)
    assert b"Traceback" not in err
