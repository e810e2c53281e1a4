"""The command `tindra`. Errors are one clear sentence and exit status 1; never a traceback.

Heavy rooms are imported inside the commands, so that `tindra --help` answers at once.
"""

from __future__ import annotations

import getpass
import os
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn

from cyclopts import App, Parameter
from rich.console import Console
from rich.markup import escape

from tindra.app.config import Settings, SettingsError, load_settings


def _show_default(value: object) -> str | None:
    """What help says of a default: nothing where it is only "no" or "nothing"."""
    return None if value in (False, "", None) else str(value)


app = App(
    name="tindra",
    help="Tindra: the open backend of a smart, shared, focused email client.",
    help_epilogue="Something is wrong? Start with: tindra doctor",
    version_flags=["--version"],
    default_parameter=Parameter(negative=(), show_default=_show_default),
)
user_app = App(name="user", help="People who sign in.")
token_app = App(name="token", help="Devices that are signed in, and app passwords.")
account_app = App(name="account", help="Connected mailboxes.")
app.command(user_app)
app.command(token_app)
app.command(account_app)

ConfigFile = Annotated[
    Path | None, Parameter(name="--config", help="Settings file (default: ./tindra.toml).")
]
DataFolder = Annotated[str | None, Parameter(name="--data", help="Folder for database and mail.")]
Tls = Literal["implicit", "starttls", "none"]
PASSWORD_CHARS_MAX = 1024
"""More is a file by mistake."""
console = Console(highlight=False)
errors = Console(stderr=True, highlight=False)


def _fail(text: str) -> NoReturn:
    line = "".join(c if c.isprintable() else " " for c in text)
    errors.print(f"[bold red]tindra:[/] {escape(line)}", soft_wrap=True)
    raise SystemExit(1)


def _load(config: Path | None, **flags: Any) -> Settings:
    from tindra.app.log import set_up_log

    try:
        settings = load_settings(config, **flags)
    except SettingsError as error:
        _fail(str(error))
    set_up_log(settings.log_format, settings.log_level)
    return settings


def _run(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a command, turning every foreseeable failure into one sentence."""
    from tindra.app.log import report
    from tindra.app.serve import run_async
    from tindra.core.errors import StoreError
    from tindra.sync.ports import ProviderError

    try:
        run_async(main())
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    except (Exception, BaseExceptionGroup) as problem:  # a boundary: never a traceback
        error = _first(problem)
        if isinstance(error, SystemExit):
            raise error from None
        if isinstance(error, SettingsError | StoreError | ProviderError):
            _fail(str(error))
        _fail(f"something went wrong that should not ({report('command', error)}, see above)")


def _first(group: BaseException) -> BaseException:
    while isinstance(group, BaseExceptionGroup):
        group = group.exceptions[0]
    return group


@app.command
def serve(
    *,
    config: ConfigFile = None,
    data: DataFolder = None,
    host: str | None = None,
    port: int | None = None,
    base_url: str | None = None,
    tls: tuple[str, str] | None = None,
) -> None:
    """Run the server: all roles in one process.

    Args:
        host: Address to listen on.
        port: Port to listen on; 0 takes a free one.
        base_url: Public address, when a proxy stands before this server.
        tls: Serve https: the files of the certificate chain and of its key.
    """
    from tindra.app.serve import run_serve

    cert, key = tls or (None, None)
    settings = _load(
        config, data=data, host=host, port=port, base_url=base_url, tls_cert=cert, tls_key=key
    )

    def tell(bound: int) -> None:
        url = f"{'https' if settings.tls_cert else 'http'}://{settings.host}:{bound}"
        console.print(f"Tindra serves [bold]{url}[/] from {escape(settings.data)}")

    _run(lambda: run_serve(settings, tell))


@app.command(name="after-restore")
def after_restore(*, config: ConfigFile = None, data: DataFolder = None) -> None:
    """Run once when the data folder came back from a backup: every device syncs anew.

    What devices learned after the backup was made is not known here any more.
    """
    from tindra.app.users import run_after_restore

    settings = _load(config, data=data)
    _run(lambda: run_after_restore(settings, console))


@app.command
def demo(
    *,
    port: int = 8080,
    host: str = "127.0.0.1",
    data: DataFolder = None,
    messages: int | None = None,
    quiet: bool = False,
) -> None:
    """Try everything at once: a provider full of mail, and a server that mirrors it.

    Args:
        port: Port to listen on; 0 takes a free one.
        host: Address to listen on.
        messages: How much mail the provider has.
        quiet: Print only the address.
    """
    from tindra.app.demo.command import run_demo
    from tindra.app.log import set_up_log

    settings = Settings(host=host, port=port)
    set_up_log("text", "warning" if quiet else "info")

    def tell(bound: int) -> None:
        url = f"http://{'127.0.0.1' if host == '0.0.0.0' else host}:{bound}"  # noqa: S104 only shown
        if quiet:
            console.print(url, soft_wrap=True)
            return
        console.print()
        console.print(f"  [bold]Tindra demo is ready:[/] open [bold cyan]{url}[/]")
        console.print("  Sign in as [bold]demo@tindra.test[/] with the password [bold]demo[/]")
        console.print("  New mail arrives by itself; what you send is answered. Ctrl+C ends it.")
        console.print()

    _run(lambda: run_demo(settings, data, messages, tell))


@app.command
def doctor(*, config: ConfigFile = None, data: DataFolder = None) -> None:
    """Check this installation and say what is wrong, and how to mend it."""
    from tindra.app.doctor import run_doctor

    settings = _load(config, data=data)
    _run(lambda: run_doctor(settings, console))


def _ask_password(prompt: str, is_new: bool, from_stdin: bool) -> str:
    try:
        if from_stdin:
            password = sys.stdin.buffer.readline().decode().rstrip("\r\n")
        elif not sys.stdin.isatty():
            _fail("there is no terminal to ask for the password: use --password-stdin")
        else:
            password = getpass.getpass(f"{prompt}: ")
            if is_new and getpass.getpass("Once more: ") != password:
                _fail("the two passwords differ")
    except (EOFError, KeyboardInterrupt):
        raise SystemExit(130) from None
    except UnicodeDecodeError:
        _fail("the password is not UTF-8")
    if not password:
        _fail("the password is empty")
    if len(password) > PASSWORD_CHARS_MAX:
        _fail(f"the password is longer than {PASSWORD_CHARS_MAX} characters")
    return password


def _ask_yes(question: str) -> None:
    """Raises: SystemExit unless the answer is yes."""
    if not sys.stdin.isatty():
        _fail("there is no terminal to ask; say --yes if you are sure")
    try:
        answer = input(f"{question} [y/N] ")
    except (EOFError, KeyboardInterrupt):
        raise SystemExit(130) from None
    if answer.strip().lower() not in ("y", "yes"):
        _fail("nothing was removed")


def _say_yes(question: str) -> None:
    """The answer was given with --yes."""


@user_app.command(name="add")
def user_add(
    login: str,
    *,
    config: ConfigFile = None,
    data: DataFolder = None,
    password_stdin: bool = False,
) -> None:
    """Make a user.

    Args:
        login: What the user signs in as; an address, usually.
        password_stdin: Read the password from standard input.
    """
    from tindra.app.users import run_user_add

    settings = _load(config, data=data)
    password = _ask_password(f"New password for {login}", True, password_stdin)
    _run(lambda: run_user_add(settings, console, login, password))


@user_app.command(name="list")
def user_list(*, config: ConfigFile = None, data: DataFolder = None) -> None:
    """List the users."""
    from tindra.app.users import run_user_list

    settings = _load(config, data=data)
    _run(lambda: run_user_list(settings, console))


@user_app.command(name="password")
def user_password(
    login: str,
    *,
    password_stdin: bool = False,
    config: ConfigFile = None,
    data: DataFolder = None,
) -> None:
    """Give a user a new password to sign in with.

    Whoever is signed in by the old one is out within seconds, while the server runs, too. Devices
    and app passwords stay: `tindra user sign-out` ends those.

    Args:
        login: The user.
        password_stdin: Read the password from standard input.
    """
    from tindra.app.users import run_user_password

    settings = _load(config, data=data)
    password = _ask_password(f"New password for {login}", True, password_stdin)
    _run(lambda: run_user_password(settings, console, login, password))


@user_app.command(name="sign-out")
def user_sign_out(login: str, *, config: ConfigFile = None, data: DataFolder = None) -> None:
    """Sign a user out everywhere: all devices and all app passwords.

    Args:
        login: The user.
    """
    from tindra.app.users import run_user_sign_out

    settings = _load(config, data=data)
    _run(lambda: run_user_sign_out(settings, console, login))


@user_app.command(name="remove")
def user_remove(
    login: str, *, yes: bool = False, config: ConfigFile = None, data: DataFolder = None
) -> None:
    """Remove a user with their mailboxes; says what goes, and asks.

    Nothing is deleted at the providers of the mailboxes.

    Args:
        login: The user.
        yes: Do not ask.
    """
    from tindra.app.users import run_user_remove

    settings = _load(config, data=data)
    _run(lambda: run_user_remove(settings, console, login, _say_yes if yes else _ask_yes))


@token_app.command(name="add")
def token_add(login: str, name: str, *, config: ConfigFile = None, data: DataFolder = None) -> None:
    """Make an app password for a user, for mail clients that ask for one.

    Args:
        login: The user.
        name: What it is for, as the user will read it in a list.
    """
    from tindra.app.users import run_token_add

    settings = _load(config, data=data)
    _run(lambda: run_token_add(settings, console, login, name))


@token_app.command(name="list")
def token_list(login: str, *, config: ConfigFile = None, data: DataFolder = None) -> None:
    """List the devices that a user is signed in with, and their app passwords.

    Args:
        login: The user.
    """
    from tindra.app.users import run_token_list

    settings = _load(config, data=data)
    _run(lambda: run_token_list(settings, console, login))


@token_app.command(name="revoke")
def token_revoke(
    login: str, id: str, *, config: ConfigFile = None, data: DataFolder = None
) -> None:
    """Sign out one device, or end one app password; a running server notices within seconds.

    Args:
        login: The user.
        id: Which one, as `tindra token list` shows it.
    """
    from tindra.app.users import run_token_revoke

    settings = _load(config, data=data)
    _run(lambda: run_token_revoke(settings, console, login, id))


@account_app.command(name="add")
def account_add(
    login: str,
    address: str,
    *,
    imap_host: str,
    imap_port: int = 993,
    imap_tls: Tls = "implicit",
    smtp_host: str | None = None,
    smtp_port: int = 465,
    smtp_tls: Tls = "implicit",
    username: str | None = None,
    name: str = "",
    password_stdin: bool = False,
    config: ConfigFile = None,
    data: DataFolder = None,
) -> None:
    """Connect a mailbox and show how its mail comes in.

    Args:
        login: The user whose mailbox it is.
        address: The mail address.
        imap_host: The IMAP server.
        imap_port: Its port.
        imap_tls: How the connection is secured.
        smtp_host: The server to send through; without one nothing can be sent.
        smtp_port: Its port.
        smtp_tls: How the connection is secured.
        username: What to log in as, if it is not the address.
        name: The name that others read beside the address.
        password_stdin: Read the mailbox password from standard input.
    """
    from tindra.app.accounts import run_account_add
    from tindra.app.people import NewMailbox
    from tindra.features.connect import Endpoint

    settings = _load(config, data=data)
    password = _ask_password(f"Password of {address} at {imap_host}", False, password_stdin)
    imap = Endpoint(imap_host, imap_port, imap_tls, username or address)
    smtp = Endpoint(smtp_host, smtp_port, smtp_tls, username or address) if smtp_host else None
    mailbox = NewMailbox(address, name, imap, smtp, password)
    _run(lambda: run_account_add(settings, console, login, mailbox))


@account_app.command(name="list")
def account_list(*, config: ConfigFile = None, data: DataFolder = None) -> None:
    """List connected mailboxes, and how each is doing."""
    from tindra.app.accounts import run_account_list

    settings = _load(config, data=data)
    _run(lambda: run_account_list(settings, console))


@account_app.command(name="password")
def account_password(
    address: str,
    *,
    password_stdin: bool = False,
    config: ConfigFile = None,
    data: DataFolder = None,
) -> None:
    """Give a connected mailbox its new password; a running server uses it at once.

    Args:
        address: The mail address, or the account's id.
        password_stdin: Read the password from standard input.
    """
    from tindra.app.accounts import run_account_password

    settings = _load(config, data=data)
    password = _ask_password(f"New password of {address}", False, password_stdin)
    _run(lambda: run_account_password(settings, console, address, password))


@account_app.command(name="pause")
def account_pause(address: str, *, config: ConfigFile = None, data: DataFolder = None) -> None:
    """Pause a connected mailbox: nothing is fetched, nothing is told to the provider.

    Its mail stays readable; what is changed meanwhile is told to the provider afterwards.

    Args:
        address: The mail address, or the account's id.
    """
    from tindra.app.accounts import run_account_pause

    settings = _load(config, data=data)
    _run(lambda: run_account_pause(settings, console, address, True))


@account_app.command(name="resume")
def account_resume(address: str, *, config: ConfigFile = None, data: DataFolder = None) -> None:
    """End a pause, or try again at once after a provider refused.

    Args:
        address: The mail address, or the account's id.
    """
    from tindra.app.accounts import run_account_pause

    settings = _load(config, data=data)
    _run(lambda: run_account_pause(settings, console, address, False))


@account_app.command(name="confirm")
def account_confirm(
    address: str, *, yes: bool = False, config: ConfigFile = None, data: DataFolder = None
) -> None:
    """Say that mail which vanished at the provider was really removed; it then goes here too.

    Where most mail of an account vanishes at once it is kept for a day, for the provider may be
    wrong; "tindra account list" shows it. This does not wait for the day to end.

    Args:
        address: The mail address, or the account's id.
        yes: Do not ask.
    """
    from tindra.app.accounts import run_account_confirm

    settings = _load(config, data=data)
    _run(lambda: run_account_confirm(settings, console, address, _say_yes if yes else _ask_yes))


@account_app.command(name="remove")
def account_remove(
    address: str, *, yes: bool = False, config: ConfigFile = None, data: DataFolder = None
) -> None:
    """Remove a mailbox from this server with all that was mirrored; says what goes, and asks.

    The mail at the provider is never touched. A removal that is cut short goes on by itself.

    Args:
        address: The mail address, or the account's id.
        yes: Do not ask.
    """
    from tindra.app.accounts import run_account_remove

    settings = _load(config, data=data)
    _run(lambda: run_account_remove(settings, console, address, _say_yes if yes else _ask_yes))


def main() -> None:
    """The entry point."""
    if any("\udc80" <= c <= "\udcff" for text in sys.argv for c in text):
        _fail("an argument is not valid UTF-8")
    try:
        app()
    except BrokenPipeError:  # whoever read our output has gone
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 the interpreter flushes it at its end
        raise SystemExit(1) from None
