"""`tindra serve`: the HTTP server and all loops in one process, ended gracefully by a signal."""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import ssl
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from tindra.app.config import Settings, SettingsError
from tindra.app.loops import Loops
from tindra.app.wiring import (
    Installation,
    make_data_folder,
    make_server,
    open_installation,
)
from tindra.server.run import TlsFiles, make_loop, serve

LOCK_FILE = "serve.lock"
SWITCH_INTERVAL_S = 0.001
"""How long one thread may hold up the others. The writer's many short statements give the
interpreter lock up each time; with the usual 5 ms, one busy parser makes each wait that long."""


@contextmanager
def hold_lock(settings: Settings) -> Iterator[bool]:
    """Be the one process that mirrors and sends for this data folder; False: another one is.

    Raises: SettingsError when the folder cannot be used.
    """
    make_data_folder(settings)
    path = settings.data_path / LOCK_FILE
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise SettingsError(f"the lock {path} cannot be opened: {error.strerror}") from None
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(handle)


def run_async(main: Coroutine[Any, Any, None]) -> None:
    """Run on the fastest loop there is."""
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    with asyncio.Runner(loop_factory=make_loop) as runner:
        runner.run(main)


@asynccontextmanager
async def running_loops(installation: Installation) -> AsyncIterator[None]:
    """All loops, for as long as the block lasts."""
    async with asyncio.TaskGroup() as group:
        task = group.create_task(Loops(installation).run())
        try:
            yield
        finally:
            task.cancel()


def stop_on_signals() -> asyncio.Event:
    """An event that SIGINT and SIGTERM set."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    return stop


def load_tls(settings: Settings) -> TlsFiles | None:
    """The certificate to serve with, tried out; None for plain http. Raises: SettingsError."""
    if not settings.tls_cert and not settings.tls_key:
        return None
    if not settings.tls_cert or not settings.tls_key:
        raise SettingsError("tls_cert and tls_key are needed both, or neither")
    files = TlsFiles(
        certificate=Path(settings.tls_cert).expanduser(), key=Path(settings.tls_key).expanduser()
    )
    try:
        files.load_into(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
    except (OSError, ValueError) as error:
        raise SettingsError(
            f"the certificate {settings.tls_cert} with the key {settings.tls_key} cannot be used:"
            f" {error.strerror if isinstance(error, OSError) and error.strerror else error}"
        ) from None
    return files


async def run_server(
    installation: Installation, stop: asyncio.Event, on_bound: Callable[[int], None]
) -> None:
    """Serve an open installation until `stop`. Raises: SettingsError if the port is taken."""
    settings = installation.settings
    tls = load_tls(settings)
    async with running_loops(installation):
        try:
            await serve(
                make_server(installation),
                settings.host,
                settings.port,
                on_bound=on_bound,
                stop=stop,
                tls=tls,
            )
        except OSError as error:
            raise SettingsError(
                f"cannot listen on {settings.host}:{settings.port}: {error.strerror}"
            ) from None


async def run_serve(settings: Settings, on_bound: Callable[[int], None]) -> None:
    """The whole product in one process. Raises: SettingsError, StoreError."""
    if not settings.host.strip():
        raise SettingsError("host is empty; 0.0.0.0 stands for all addresses of this machine")
    load_tls(settings)  # before anything is made
    with hold_lock(settings) as is_first:
        if not is_first:
            raise SettingsError(f"another tindra already serves {settings.data_path}")
        stop = stop_on_signals()
        async with open_installation(settings) as installation:
            await run_server(installation, stop, on_bound)
