"""A message as tests of a script see it. Read lazily, within limits. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Final

from tindra.wire.html.text import html_to_text
from tindra.wire.mime.date import Moment, parse_date
from tindra.wire.mime.decode import decode_body, decode_text
from tindra.wire.mime.header import as_addresses, as_raw, as_text
from tindra.wire.mime.parse import Message, Part, list_headers, parse_message

VALUE_CHARS_MAX: Final = 16 * 1024
"""Of one header field; the rest of a longer one is not looked at."""
VALUES_MAX: Final = 200
"""Fields of one name, or addresses, that one test looks at."""
BODY_CHARS_MAX: Final = 512 * 1024
"""Of all text of a body."""


class Letter:
    """One message.

    Args:
        envelope_from: the return path; "" for the null one, None where it is not known.
        envelope_to: who it was delivered to.
    """

    def __init__(
        self, raw: bytes, envelope_from: str | None = None, envelope_to: Sequence[str] = ()
    ) -> None:
        self.raw = raw
        self.envelope_from = envelope_from
        self.envelope_to = tuple(envelope_to)
        self._values: dict[str, list[str]] = {}
        self._addresses: dict[str, list[str]] = {}

    @cached_property
    def _message(self) -> Message:
        return parse_message(self.raw)

    @cached_property
    def _fields(self) -> dict[str, list[bytes]]:
        found: dict[str, list[bytes]] = {}
        for name, value in list_headers(self.raw, self._message.root):
            values = found.setdefault(name.lower(), [])
            if len(values) < VALUES_MAX:
                values.append(value[: 4 * VALUE_CHARS_MAX])
        return found

    @property
    def size(self) -> int:
        """Octets of the message."""
        return len(self.raw)

    def has_header(self, name: str) -> bool:
        """Whether there is such a field."""
        return name.lower() in self._fields

    def list_values(self, name: str) -> list[str]:
        """The values of all fields of a name, decoded, without blanks around them.

        Source: RFC 5228 s5.7
        """
        name = name.lower()
        if name not in self._values:
            fields = self._fields.get(name, ())
            self._values[name] = [as_text(value).strip()[:VALUE_CHARS_MAX] for value in fields]
        return self._values[name]

    def list_addresses(self, name: str) -> list[str]:
        """The addresses in all fields of a name. Source: RFC 5228 s5.1"""
        name = name.lower()
        if name not in self._addresses:
            found = [a.email for field in self._fields.get(name, ()) for a in as_addresses(field)]
            self._addresses[name] = found[:VALUES_MAX]
        return self._addresses[name]

    def find_date(self, name: str) -> Moment | None:
        """The date in the first field of a name; of a trace field, that behind its semicolon.

        Source: RFC 5260 s4
        """
        for value in self._fields.get(name.lower(), ())[:1]:
            text = as_raw(value).strip()[:VALUE_CHARS_MAX]
            return parse_date(text) or parse_date(text.rpartition(";")[2].strip())
        return None

    @cached_property
    def _leaves(self) -> list[Part]:
        found, pending = [], [self._message.root]
        while pending:
            part = pending.pop()
            pending.extend(reversed(part.children))
            if part.part_id is not None:
                found.append(part)
        return found

    @cached_property
    def text(self) -> list[str]:
        """The text of the body, as a reader sees it: `body :text`. Source: RFC 5173 s5.3"""
        return self.list_contents(["text"], is_html_read=True)

    @cached_property
    def raw_body(self) -> str:
        """Everything below the header, undecoded: `body :raw`. Source: RFC 5173 s5.1"""
        root = self._message.root
        body = self.raw[root.body_start : root.body_start + BODY_CHARS_MAX]
        return body.decode("utf-8", "replace")

    def list_contents(self, types: Sequence[str], is_html_read: bool = False) -> list[str]:
        """The decoded contents of parts of these types: "text", "text/html" or "" for all.

        Source: RFC 5173 s5.2
        """
        wanted = [type.lower() for type in types]
        room = BODY_CHARS_MAX
        found: list[str] = []
        for part in self._leaves:
            main = part.type.partition("/")[0]
            if room <= 0 or not any(type in ("", main, part.type) for type in wanted):
                continue
            if main == "text":
                content = self._message.contents.get(part.part_id or "")
                text = decode_text(self.raw, part, 4 * room, content).value
                if part.type == "text/html" and is_html_read:
                    text = html_to_text(text, room)
            else:
                text = decode_body(self.raw, part)[: 4 * room].decode("utf-8", "replace")
            found.append(text[:room])
            room -= len(found[-1])
        return found
