"""One https POST: a request, the head of its answer, and the line is closed.

Nothing is followed, nothing of the body is kept: whoever chose the URL learns no more than whether
it worked. All is bounded: head, body and time.
Source: RFC 9110 s9.3.3, RFC 9112 s6
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final, NamedTuple

import httptools

from tindra.outside.connector import Connector
from tindra.wire.http.url import HttpsUrl

ANSWER_BYTES_MAX: Final = 32 * 1024
"""Of an answer, before its head must have ended."""
EXCHANGE_S: Final = 15.0
"""From the look for the address to the head of the answer."""
_READ_BYTES: Final = 8 * 1024
Field = tuple[str, str]


class Unreached(OSError):
    """No octet of the request was sent."""


class Unanswered(OSError):
    """The request was sent, at least in part, and no answer came that is HTTP."""


class Answer(NamedTuple):
    """The head of an answer."""

    status: int
    fields: dict[str, str]
    """Names in lower case; the last of several holds."""


class _Head:
    """What the parser tells of the newest answer; interim ones may come before it."""

    def __init__(self) -> None:
        self.fields: dict[str, str] = {}
        self.is_whole = False

    def on_message_begin(self) -> None:
        self.fields, self.is_whole = {}, False

    def on_header(self, name: bytes, value: bytes) -> None:
        self.fields[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        self.is_whole = True


async def post(connector: Connector, url: HttpsUrl, fields: Sequence[Field], body: bytes) -> Answer:
    """POST `body`; the head of the final answer.

    Raises: Unreached, Unanswered.
    """
    is_sent = False
    try:
        async with asyncio.timeout(EXCHANGE_S):
            reader, writer = await connector.connect(url)
            try:
                is_sent = True
                writer.write(_encode_request(url, fields, body))
                return await _read_head(reader)
            finally:
                # What else it has to say is not waited for; closing TLS in form would be a wait.
                writer.transport.abort()
    except (OSError, httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
        kind = Unanswered if is_sent else Unreached
        raise kind(f"{url.host}: {type(error).__name__}: {error}") from error


def _encode_request(url: HttpsUrl, fields: Sequence[Field], body: bytes) -> bytes:
    head = [
        f"POST {url.target} HTTP/1.1",
        f"Host: {url.authority}",
        *(f"{name}: {value}" for name, value in fields),
        f"Content-Length: {len(body)}",
        "Connection: close",
    ]
    assert not any("\r" in line or "\n" in line for line in head), "a field has a line break"
    return "\r\n".join([*head, "", ""]).encode("ascii") + body


async def _read_head(reader: asyncio.StreamReader) -> Answer:
    """Raises: OSError, httptools.HttpParserError."""
    count = 0
    head = _Head()
    parser = httptools.HttpResponseParser(head)
    while True:
        data = await reader.read(_READ_BYTES)
        count += len(data)
        if not data or count > ANSWER_BYTES_MAX:
            raise ConnectionError("the answer has no end" if data else "the line was cut")
        parser.feed_data(data)
        if head.is_whole and parser.get_status_code() >= 200:
            return Answer(parser.get_status_code(), head.fields)
