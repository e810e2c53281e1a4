"""Runs the application on uvicorn: one socket, a graceful stop, nothing that asks the system for
signals (that is for `app`)."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import resource
import socket
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn

from tindra.base import limits
from tindra.server.app import Server
from tindra.server.connection import SWEEP_S, BoundedProtocol, sweep
from tindra.server.socket_connection import BoundedSocket

_logger = logging.getLogger("tindra.server")
KEEP_ALIVE_S = 75
"""Longer than the minute for which most proxies keep a connection, so that they close first."""
STOP_S = 10
"""How long running requests may take to end after a stop was asked for."""
FILES_MAX = 65_536
"""Open files that are asked for; some kernels reserve memory by this number."""
FILES_RESERVED = 200
"""Files kept back from connections: the store, providers, logs. Beyond it a connection gets 503."""
BACKLOG = 2048
"""Connections the kernel holds while the loop is busy: all devices of an office at nine."""


@dataclass(frozen=True, kw_only=True)
class TlsFiles:
    """A certificate chain and its key, both PEM."""

    certificate: Path
    key: Path

    def load_into(self, context: ssl.SSLContext) -> None:
        """Use them for handshakes to come. Raises: OSError (ssl.SSLError is one)."""
        context.load_cert_chain(self.certificate, self.key, password=_refuse_password)

    def load_stamp(self) -> tuple[int, int]:
        """Changes when a file was written anew. Raises: OSError."""
        return self.certificate.stat().st_mtime_ns, self.key.stat().st_mtime_ns


def _refuse_password() -> str:
    # Without this OpenSSL would ask on the terminal, and the server would stand still.
    raise ValueError("the key is encrypted; it must be readable without a password")


class _Uvicorn(uvicorn.Server):
    """uvicorn without signal handlers, telling when it listens and sweeping its connections."""

    def __init__(
        self, config: uvicorn.Config, on_bound: Callable[[], None], tls: TlsFiles | None
    ) -> None:
        super().__init__(config)
        self._on_bound = on_bound
        self._sweep_due_s = 0.0
        self._tls = tls
        self._tls_stamp = None if tls is None else tls.load_stamp()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_bound()

    async def on_tick(self, counter: int) -> bool:
        now = asyncio.get_running_loop().time()
        if now >= self._sweep_due_s:
            self._sweep_due_s = now + SWEEP_S
            sweep(self.server_state, now)
            self._renew_certificate()
        return await super().on_tick(counter)

    def _renew_certificate(self) -> None:
        """Take up a certificate that was renewed, as they are every few weeks. One that does not
        fit its key (yet) is tried again; the old one serves meanwhile."""
        context = self.config.ssl
        if self._tls is None or context is None:
            return
        try:
            stamp = self._tls.load_stamp()
            if stamp != self._tls_stamp:
                self._tls.load_into(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
                self._tls.load_into(context)
                self._tls_stamp = stamp
        except (OSError, ValueError) as error:
            _logger.warning("the renewed certificate cannot be used: %s", error)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def serve(
    app: Server,
    host: str,
    port: int,
    *,
    on_bound: Callable[[int], None] = lambda _: None,
    stop: asyncio.Event | None = None,
    tls: TlsFiles | None = None,
) -> None:
    """Serve `app` until `stop` is set or this task is cancelled, then end gracefully.

    Args:
        port: 0 for any free one.
        on_bound: told the port once connections are taken.
        stop: set it to stop; None to serve until cancelled.
    Raises: OSError when the address cannot be had.
    """
    connections_max = raise_file_limit() - FILES_RESERVED
    listener = bind(host, port)
    bound_port: int = listener.getsockname()[1]
    stopping = asyncio.Event() if stop is None else stop
    server = _Uvicorn(_make_config(app, tls, connections_max), lambda: on_bound(bound_port), tls)
    try:
        async with asyncio.TaskGroup() as group:
            serving = group.create_task(server.serve(sockets=[listener]))
            try:
                await stopping.wait()
            finally:
                # Streams first: uvicorn waits for every answer to end, and they never would.
                await app.close()
                server.should_exit = True
                await asyncio.shield(serving)
    finally:
        listener.close()


def bind(host: str, port: int) -> socket.socket:
    """A listening address; IPv6 ones take IPv4 too where they stand for all. Raises: OSError."""
    family, kind, proto, _, address = socket.getaddrinfo(
        host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    listener = socket.socket(family, kind, proto)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6 and host in ("", "::"):
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listener.bind(address)
        listener.setblocking(False)
    except OSError:
        listener.close()
        raise
    return listener


def make_loop() -> asyncio.AbstractEventLoop:
    """The event loop to run under (for asyncio.Runner): uvloop where there is one."""
    try:
        import uvloop  # noqa: PLC0415 - it does not exist on every system
    except ImportError:
        return asyncio.new_event_loop()
    loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    return loop


def raise_file_limit() -> int:
    """Let this process open as many files as the system allows it; gives how many.

    The usual default of 1,024 is less than a small team's event streams.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES_MAX if hard == resource.RLIM_INFINITY else min(hard, FILES_MAX)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        return wanted
    return FILES_MAX if soft == resource.RLIM_INFINITY else soft


def _make_config(app: Any, tls: TlsFiles | None, connections_max: int) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        loop="none",
        http=BoundedProtocol,
        ws=BoundedSocket,
        ws_max_size=limits.REQUEST_BYTES_MAX,
        ws_ping_interval=None,
        ws_per_message_deflate=False,
        lifespan="off",
        interface="asgi3",
        log_config=None,
        # A stranger's broken request is no warning of ours.
        log_level="error",
        limit_concurrency=connections_max,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=STOP_S,
        ssl_certfile=None if tls is None else str(tls.certificate),
        ssl_keyfile=None if tls is None else str(tls.key),
    )
