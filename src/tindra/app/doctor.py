"""`tindra doctor`: looks at everything that commonly goes wrong and says how to mend it."""

from __future__ import annotations

import os
import stat
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import msgspec
from rich.console import Console
from rich.markup import escape

from tindra.app.accounts import list_connections
from tindra.app.config import Settings, SettingsError
from tindra.app.disk import find_free_bytes
from tindra.app.serve import hold_lock
from tindra.app.wiring import STATIC_DIR, Installation, open_installation
from tindra.base.limits import MIB
from tindra.core.errors import DiskFull, StoreError
from tindra.features.connect import Endpoint
from tindra.sync.ports import ProviderError
from tindra.sync.route import make_settings

DISK_BYTES_MIN = 512 * MIB
"""Less free space than this is a warning: a first sync may need it."""
_CURES = {
    "needsAuth": "Give it its password: tindra account password {address}",
    "refused": "Mend what the provider does not like, then: tindra account resume {address}",
    "waiting": "It is tried again by itself; if that goes on, ask the provider",
}


class Finding(NamedTuple):
    """One thing looked at."""

    is_good: bool
    text: str
    cure: str = ""
    is_note: bool = False
    """It works, but somebody should know."""


async def run_doctor(settings: Settings, console: Console) -> None:
    """Print every finding. Raises: SystemExit(1) if something is wrong."""
    bad = 0
    async for finding in _examine(settings):
        mark = "[green]ok[/]  " if finding.is_good else "[red]bad[/] "
        if finding.is_note:
            mark = "[yellow]note[/]"
        console.print(f"{mark}  {escape(finding.text)}", soft_wrap=True)
        bad += not finding.is_good
        if finding.cure and (finding.is_note or not finding.is_good):
            console.print(f"      {escape(finding.cure)}", soft_wrap=True)
    if bad:
        raise SystemExit(1)


async def _examine(settings: Settings) -> AsyncIterator[Finding]:
    yield _check_disk(settings)
    yield _check_key(settings)
    if _is_key_beside_data(settings):
        yield Finding(
            True,
            f"the master key lies in the data folder: a copy of {settings.data_path} opens the"
            " passwords of all mailboxes",
            f"Stop the server, move {settings.key_path} to a place that is backed up elsewhere,"
            " and name it: key_file in tindra.toml, or TINDRA_KEY_FILE",
            is_note=True,
        )
    yield Finding(
        (STATIC_DIR / "index.html").exists(),
        "the web client is built",
        "Build it: make web",
    )
    if not settings.data_path.exists():
        yield Finding(True, f"there is no data folder {settings.data_path} yet; it is made at need")
        return
    try:
        with hold_lock(settings) as is_first:
            text = "no server runs on this data" if is_first else "a server runs on this data"
        yield Finding(True, text)
        async with open_installation(settings) as installation:
            yield Finding(True, f"the database in {settings.data_path} opens")
            async for finding in _check_content(installation):
                yield finding
    except SettingsError as error:
        yield Finding(False, str(error), "Make the folder writable for whoever runs tindra")
    except DiskFull as error:
        yield Finding(False, f"the data cannot be used: {error}", "Make room on it")
    except StoreError as error:
        yield Finding(False, f"the data cannot be used: {error}", "Restore it from a backup")


def _is_key_beside_data(settings: Settings) -> bool:
    key, data = settings.key_path.absolute(), settings.data_path.absolute()
    return key.is_relative_to(data) and key.exists()


def _check_disk(settings: Settings) -> Finding:
    free = find_free_bytes(settings.data_path)
    return Finding(
        free >= DISK_BYTES_MIN,
        f"{free // MIB} MiB free for {settings.data_path}",
        "Make room, or move the data folder (setting: data)",
    )


def _check_key(settings: Settings) -> Finding:
    path = settings.key_path
    try:
        mode = stat.S_IMODE(os.stat(path).st_mode)
    except FileNotFoundError:
        return Finding(True, f"no master key yet; {path} is made at first use")
    except OSError as error:
        return Finding(False, f"the master key {path} cannot be read", error.strerror or "")
    return Finding(
        mode & 0o077 == 0,
        f"only its owner can read the master key {path}",
        f"It is readable by others: chmod 600 {path}",
    )


async def _check_content(installation: Installation) -> AsyncIterator[Finding]:
    services = installation.services
    users = await services.directory.list_users()
    yield Finding(bool(users), f"{len(users)} users", "Make one: tindra user add LOGIN")
    for account in await services.directory.load_accounts(None):
        try:
            await services.store.check_invariants(account.id)
        except AssertionError as error:
            yield Finding(
                False,
                f"account {account.id} contradicts itself: {str(error)[:300]}",
                "Please report this; the mail itself is not touched by it",
            )
    left = len(await installation.registrar.list_erasing())
    if left:
        yield Finding(
            True,
            f"{left} removed accounts are not cleared away yet",
            "A running server does that by itself: tindra serve",
            is_note=True,
        )
    yield Finding(True, "the counters and indexes of every account were looked at")
    for _, _, connection in await list_connections(installation):
        yield _check_state(connection)
        yield await _check_reach(installation, connection["address"], connection["imap"])


def _check_state(connection: dict[str, Any]) -> Finding:
    """What the mirror last said."""
    address, phase = connection["address"], connection["phase"]
    if phase in _CURES:
        cure = _CURES[phase].format(address=address)
        return Finding(False, f"{address}: {connection['lastError']}", cure)
    if connection["lastError"]:
        return Finding(False, f"{address}: {connection['lastError']}", "The rest is mirrored")
    return Finding(True, f"{address} is {phase}")


async def _check_reach(installation: Installation, address: str, imap: object) -> Finding:
    """Whether the provider answers at all; the password is not tried, so that nothing locks."""
    endpoint = msgspec.convert(imap, Endpoint)
    where = f"{endpoint.host}:{endpoint.port}"
    try:
        await installation.imap.probe(make_settings(endpoint))
    except ProviderError as error:
        return Finding(False, f"{address}: {where} does not answer", str(error))
    return Finding(True, f"{address}: {where} answers")
