"""What the one who runs the server may choose; made by `app` from the configuration."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from tindra.server.metrics import LoadReadings
from tindra.server.password import PASSWORD_COST, PasswordCost

_logger = logging.getLogger("tindra.server")

Report = Callable[[str, BaseException], str]
FindTrouble = Callable[[], Awaitable[str | None]]


def log_report(where: str, error: BaseException) -> str:
    """Log an unexpected error with its traceback; gives the id that the client is told."""
    id = secrets.token_hex(6)
    _logger.error("unexpected error %s in %s", id, where, exc_info=error)
    return id


@dataclass(frozen=True, kw_only=True)
class ServerOptions:
    """Settings of the HTTP server."""

    base_url: str | None = None
    """Absolute URL of this server as clients see it, without a final slash; None to take it from
    each request."""
    trust_proxy: bool = False
    """Believe X-Forwarded-For, -Proto and -Host. Only right behind a proxy that sets all three."""
    static_dir: Path | None = None
    """The built web client; None serves none."""
    cors_origins: tuple[str, ...] = ("*",)
    """Web origins that may use the API. Any may by default: access goes by a header that a foreign
    page does not have, and there are no cookies."""
    metrics_token: str | None = None
    """Bearer token that opens /metrics; without one only this machine may look."""
    password_cost: PasswordCost = PASSWORD_COST
    """What the passwords of this server were hashed with: an unknown user must cost the same."""
    find_trouble: FindTrouble | None = None
    """Looks why nothing new can be taken (a full disk), in words for the operator; None: it can."""
    load_readings: LoadReadings | None = None
    """Reads the gauges of the rooms behind the server when somebody looks at /metrics."""
    report: Report = log_report
    """Tells the operator of an unexpected error: (where, error) -> id for the client to quote."""
