"""The servers of the demo stop at once, whatever a client is in the middle of."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from tests.compat.test_smtp import make_certificate
from tindra.app.demo.provider import DemoProvider
from tindra.app.system import SystemClock

STOP_S_MAX = 10.0
"""A TLS handshake that nobody goes on with lasts 60 s."""
STARTTLS = {"imap": b"a STARTTLS\r\n", "smtp": b"EHLO me\r\nSTARTTLS\r\n"}


async def _ask(
    provider: DemoProvider, which: str
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    port = provider.imap_port if which == "imap" else provider.smtp_port
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    await reader.readline()
    writer.write(STARTTLS[which])
    while b"Begin TLS" not in await reader.readline():
        pass
    return reader, writer


@pytest.mark.parametrize("which", STARTTLS)
@pytest.mark.parametrize("ending", ["silent", "closed", "aborted", "garbage", "half closed"])
async def test_a_client_lost_in_starttls_does_not_keep_the_server_up(
    tmp_path: Path, which: str, ending: str
) -> None:
    provider = DemoProvider(SystemClock(), message_count=0, tls=make_certificate(tmp_path)[0])
    await provider.start()
    _, writer = await _ask(provider, which)
    if ending == "closed":
        writer.close()
    elif ending == "aborted":
        writer.transport.abort()
    elif ending == "garbage":
        writer.write(b"This is no handshake\r\n")
    elif ending == "half closed":
        writer.write_eof()
    begun = time.monotonic()
    await provider.stop()
    assert time.monotonic() - begun < STOP_S_MAX
    writer.close()


@pytest.mark.parametrize("which", STARTTLS)
async def test_a_client_that_left_before_its_handshake_is_forgotten(
    tmp_path: Path, which: str
) -> None:
    provider = DemoProvider(SystemClock(), message_count=0, tls=make_certificate(tmp_path)[0])
    await provider.start()
    port = provider.imap_port if which == "imap" else provider.smtp_port
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(STARTTLS[which])
    writer.close()
    await asyncio.sleep(0)
    begun = time.monotonic()
    await provider.stop()
    assert time.monotonic() - begun < STOP_S_MAX
