"""The change to TLS on a connection of the demo's servers."""

from __future__ import annotations

import asyncio
import ssl
from typing import Final

HANDSHAKE_S_MAX: Final = 20.0
"""A client that never goes on with its handshake is cut off."""


async def start_tls(writer: asyncio.StreamWriter, context: ssl.SSLContext) -> None:
    """Go on encrypted, as the server. Raises: ConnectionError: the client left; ssl.SSLError."""
    plain = writer.transport
    try:
        await writer.start_tls(context, ssl_handshake_timeout=HANDSHAKE_S_MAX)
    except AttributeError:
        if writer.transport is not None:
            raise
    if writer.transport is None:
        # asyncio leaves a writer without a transport, and stumbles over that itself, when the
        # client left in the middle of the handshake; nobody could even close it.
        writer._transport = plain
        raise ConnectionResetError("the client left during the handshake")
