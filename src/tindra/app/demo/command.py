"""`tindra demo`: a provider full of mail, and a server that mirrors it, in one process."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable
from contextlib import ExitStack

import msgspec

from tindra.app.config import Settings
from tindra.app.demo.provider import DemoProvider
from tindra.app.people import NewMailbox, add_mail_account, add_user
from tindra.app.serve import hold_lock, run_server, stop_on_signals
from tindra.app.system import SystemClock
from tindra.app.wiring import Installation, open_installation
from tindra.features.connect import Endpoint, load_connections, update_endpoints

OWNER_NAME = "Alex Lindqvist"


async def run_demo(
    settings: Settings, data: str | None, count: int | None, on_ready: Callable[[int], None]
) -> None:
    """Run until a signal comes.

    Args:
        data: where to keep the mirror; None: a temporary folder, gone at the end.
        count: messages at the provider; None: the generator's own number.
    Raises: SettingsError, StoreError.
    """
    stop = stop_on_signals()
    with ExitStack() as stack:
        folder = data or stack.enter_context(tempfile.TemporaryDirectory(prefix="tindra-demo-"))
        settings = msgspec.structs.replace(settings, data=folder)
        if not stack.enter_context(hold_lock(settings)):
            raise SystemExit(f"another tindra already serves {folder}")
        clock = SystemClock()
        provider = (
            DemoProvider(clock) if count is None else DemoProvider(clock, message_count=count)
        )
        await provider.start()
        try:
            async with open_installation(settings) as installation, asyncio.TaskGroup() as group:
                await _connect(installation, provider)
                life = group.create_task(provider.run())
                try:
                    await run_server(installation, stop, on_ready)
                finally:
                    life.cancel()
        finally:
            await provider.stop()


async def _connect(installation: Installation, provider: DemoProvider) -> None:
    """The fixed user with the provider's mailbox; at a second start only the ports are new."""
    services = installation.services
    imap = Endpoint("127.0.0.1", provider.imap_port, "none", provider.username)
    smtp = Endpoint("127.0.0.1", provider.smtp_port, "none", provider.username)
    user = await services.directory.find_user(provider.username)
    if user is None:
        user = await add_user(installation, provider.username, provider.password)
    is_connected = False
    for grant in await services.directory.list_grants(user.id):
        for id in await load_connections(services, grant.account_id):
            await update_endpoints(services, grant.account_id, id, imap, smtp)
            is_connected = True
    if not is_connected:
        mailbox = NewMailbox(provider.username, OWNER_NAME, imap, smtp, provider.password)
        await add_mail_account(installation, user, mailbox)
