"""The one logger. It is given names, numbers and ids; never mail text, addresses or secrets.

Exceptions are reported by type and place only: their messages may quote what a user wrote.
"""

from __future__ import annotations

import logging
import secrets
import sys
import traceback
from typing import Any, Literal

import structlog

LogFormat = Literal["text", "json"]


def set_up_log(format: LogFormat, level: str) -> None:
    """Configure structlog for this process, writing to standard error."""
    renderer: Any = (
        structlog.processors.JSONRenderer()
        if format == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level.upper())),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )


def log(event: str, **fields: Any) -> None:
    """One line at level info. `event` is a fixed name such as "serving"."""
    structlog.get_logger().info(event, **fields)


def report(where: str, error: BaseException) -> str:
    """Log an unexpected error; gives a short id that can be quoted to the operator."""
    id = secrets.token_hex(4)
    frames = traceback.extract_tb(error.__traceback__)[-6:]
    structlog.get_logger().error(
        "unexpected error",
        id=id,
        where=where,
        type=type(error).__name__,
        at=[f"{_short(frame.filename)}:{frame.lineno} {frame.name}" for frame in frames],
    )
    return id


def _short(path: str) -> str:
    return path.rpartition("/tindra/")[2] or path
