"""Values with parameters (Content-Type, Content-Disposition): reading them, however broken.

Structure is read from octets taken as Latin-1; only a value that is asked for is decoded.
Invariant: work is linear in the value's length; a decoded value holds no control characters.
Source: RFC 2045 s5.1, RFC 2183 s2, RFC 2231 s3 and s4
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import unquote_to_bytes

from tindra.wire.mime.charset import decode_charset, decode_octets, normalise_nfc
from tindra.wire.mime.words import decode_words

Params = Mapping[str, str]
"""Parameter name in lower case (with its `*` marks) -> value, octets as Latin-1; the first wins."""

SEGMENTS_MAX = 1_000
"""Pieces of one RFC 2231 value: with 70 octets each, more than any file system takes as name."""

_TYPE = re.compile(r"[ \t;]*+\"?([^\s;/\"=]++)[ \t]*+/[ \t]*+([^\s;\"]++)")
_DISPOSITION = re.compile(r"[ \t]*+\"?([^ \t;=\"]++)\"?[ \t]*+(?:;|\Z|[^=])")
_PARAM = re.compile(
    r"[ \t;]*+(?:([^ \t;=\"]++)[ \t]*+=[ \t]*+"
    r"(?:\"([^\"\\]*+(?:\\.[^\"\\]*+)*+)(?:\"|\\?\Z)|([^;]*+))"
    r"|[^ \t;]++)",
    re.DOTALL,
)
_QUOTED_PAIR = re.compile(r"\\([\"\\])")
_COMMENT_MARK = re.compile(r"\\.|[()\"]", re.DOTALL)
_LINE_ENDS = b"\r\n\0"
_CONTROLS = dict.fromkeys([*range(0x20), 0x7F])


def parse_content_type(value: bytes) -> tuple[str, Params]:
    """A Content-Type as (type in lower case, parameters); `text/plain` if it names none.

    Source: RFC 2045 s5.1 and s5.2
    """
    text = value.translate(None, _LINE_ENDS).decode("latin-1")
    match = _TYPE.match(strip_comments(text))
    if match is None:
        return "text/plain", _parse_params(text)
    return f"{match[1]}/{match[2]}".lower(), _parse_params(text)


def parse_disposition(value: bytes) -> tuple[str | None, Params]:
    """A Content-Disposition as (disposition in lower case or None, parameters)."""
    text = value.translate(None, _LINE_ENDS).decode("latin-1")
    match = _DISPOSITION.match(strip_comments(text))
    return match[1].lower() if match else None, _parse_params(text)


def decode_param(params: Params, name: str) -> str | None:
    """The text of a parameter in any of its spellings; None if absent or empty.

    Prefers `name*`, then `name*0` and on, then plain `name`, in which encoded words are decoded
    as well since much software writes them there.
    Source: RFC 2231 s3 and s4
    """
    text = _decode_starred(params, name) if "*" in "".join(params) else None
    if text is None:
        plain = params.get(name)
        if plain is None:
            return None
        text = decode_words(decode_octets(plain.encode("latin-1")), is_phrase=True)
    if not text.isprintable():
        text = text.translate(_CONTROLS)
    return normalise_nfc(text.strip()) or None


def strip_comments(text: str) -> str:
    """`text` without its parenthesised comments; those in quotes stay, as does an open one.

    Source: RFC 5322 s3.2.2
    """
    if "(" not in text:
        return text
    out: list[str] = []
    depth = end = 0
    is_quoted = False
    for match in _COMMENT_MARK.finditer(text):
        mark = match[0]
        if mark == '"' and depth == 0:
            is_quoted = not is_quoted
        elif mark == "(" and not is_quoted:
            if depth == 0:
                out.append(text[end : match.start()])
                end = match.start()
            depth += 1
        elif mark == ")" and depth:
            depth -= 1
            end = match.end() if depth == 0 else end
    out.append(text[end:])
    return " ".join(out) if len(out) > 1 else text


def _parse_params(text: str) -> Params:
    plain = strip_comments(text)
    params = _scan_params(plain)
    if plain is not text:
        # An unquoted file name with brackets is broken, frequent, and better kept whole.
        for name, value in _scan_params(text).items():
            if name in ("name", "filename"):
                params[name] = value
    return params


def _scan_params(text: str) -> dict[str, str]:
    params: dict[str, str] = {}
    # Without a blank tail, every attempt of the pattern consumes something: linear time.
    for name, quoted, plain in _PARAM.findall(text.rstrip(" \t;")):
        if name:
            value = _QUOTED_PAIR.sub(r"\1", quoted) if "\\" in quoted else quoted
            params.setdefault(name.lower(), plain.strip() if plain else value)
    return params


def first_token(value: str) -> str:
    """What an unquoted parameter value means when junk follows it without a semicolon."""
    parts = value.split(None, 1)
    return parts[0] if parts else ""


def _decode_starred(params: Params, name: str) -> str | None:
    """The value of a parameter in one of the spellings of RFC 2231; None if it has none."""
    if f"{name}*" in params:
        return _decode_extended(params[f"{name}*"])
    for first in (0, 1):
        if f"{name}*{first}" in params or f"{name}*{first}*" in params:
            return _decode_segments(params, name, first)
    return None


def _decode_extended(value: str) -> str:
    charset, mark, rest = value.partition("'")
    language_end = rest.find("'") if mark else -1
    if language_end < 0:
        return decode_octets(unquote_to_bytes(value.encode("latin-1")))
    octets = unquote_to_bytes(rest[language_end + 1 :].encode("latin-1"))
    return decode_charset(octets, charset or None)[0]


def _decode_segments(params: Params, name: str, first: int) -> str:
    octets: list[bytes] = []
    charset: str | None = None
    for number in range(first, first + SEGMENTS_MAX):
        extended = params.get(f"{name}*{number}*")
        if extended is None:
            plain = params.get(f"{name}*{number}")
            if plain is None:
                break
            octets.append(plain.encode("latin-1"))
            continue
        if number == first and extended.count("'") >= 2:
            charset, _, extended = extended.split("'", 2)
        octets.append(unquote_to_bytes(extended.encode("latin-1")))
    joined = b"".join(octets)
    if charset is None:
        # Encoded words cut over segments are no standard, but some senders write them.
        return decode_words(decode_octets(joined), is_phrase=True)
    return decode_charset(joined, charset or None)[0]
