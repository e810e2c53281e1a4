"""Writes one header field from a typed value: the only code of the product that does.

A field that would not read back as what was put in is refused with a ValueError that names it, so
nothing can add a line, a field or a body. Lines end in CRLF, are folded near 76 characters and
never pass 998 octets. Output is ASCII, except for addresses and ids that are not ASCII themselves,
which are written as UTF-8 for want of any other form.
Source: RFC 5322 s2.2.3 and s3, RFC 2047, RFC 2231, RFC 6532 s3, RFC 8621 s4.1.2
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from urllib.parse import quote

import msgspec

from tindra.wire.mime.address import Address, Group
from tindra.wire.mime.date import parse_rfc3339
from tindra.wire.mime.words import encode_words

LINE_CHARS = 76
"""Where lines are folded if they can be; encoded words require it. Source: RFC 2047 s2"""
LINE_OCTETS_MAX = 998
"""Source: RFC 5322 s2.1.1"""
NAME_CHARS_MAX = 128
"""Longest field name; real ones stay below 50, and the name shares its line with a value."""
_WORD_CHARS_MAX = 256
"""A longer word is cut into encoded words, since it cannot be folded."""


class RawValue(msgspec.Struct, frozen=True):
    """A value as it goes on the wire, ASCII; may be folded already."""

    value: str


class TextValue(msgspec.Struct, frozen=True):
    """Unstructured text of any language."""

    value: str


class AddressesValue(msgspec.Struct, frozen=True):
    """An address-list without groups."""

    value: list[Address]


class GroupsValue(msgspec.Struct, frozen=True):
    """An address-list; groups without name are written as plain addresses."""

    value: list[Group]


class MessageIdsValue(msgspec.Struct, frozen=True):
    """Message ids without angle brackets."""

    value: list[str]


class DateValue(msgspec.Struct, frozen=True):
    """A date-time of RFC 3339."""

    value: str


class UrlsValue(msgspec.Struct, frozen=True):
    """URLs without angle brackets."""

    value: list[str]


HeaderValue = (
    RawValue | TextValue | AddressesValue | GroupsValue | MessageIdsValue | DateValue | UrlsValue
)

_NAME = re.compile(r"[!-9;-~]+")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f\ud800-\udfff]")
_BLANK_RUN = re.compile(r"[ \t]*[^ \t]+")
_RAW_FOLD = re.compile(r"\r\n(?=[ \t]+[^ \t\r\n])")
_ATOMS = re.compile(r"[A-Za-z0-9!#$%&'*+\-/=?^_`{|}~]+(?: [A-Za-z0-9!#$%&'*+\-/=?^_`{|}~]+)*")
_ADDR_CHAR = r"[^\s<>()\[\]\\,;:@\"\x00-\x1f\x7f\ud800-\udfff]"
_ADDR_SPEC = re.compile(
    rf"(?:{_ADDR_CHAR}+|\"(?:[^\"\\\r\n\x00]|\\[^\r\n\x00])*\")@(?:{_ADDR_CHAR}+|\[[!-Z^-~]*\])"
)
_LONE_WORD = re.compile(rf"{_ADDR_CHAR}+")
_BAD_IN_ANGLES = re.compile(r"[\s<>\x00-\x1f\x7f\ud800-\udfff]")
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`{|}~-]+")
_MIME_TYPE = re.compile(rf"{_TOKEN.pattern}/{_TOKEN.pattern}")


def encode_header(name: str, value: HeaderValue) -> bytes:
    """The field as it stands in a message, folded, with its CRLF.

    Raises:
        ValueError: the name is none, or the value cannot be written without changing its meaning
            (a line end, NUL or another control character, a word beyond the longest line).
    """
    if not _NAME.fullmatch(name) or len(name) > NAME_CHARS_MAX:
        raise ValueError(f"{name!r} is not a header field name")
    if isinstance(value, RawValue):
        return _encode_raw(name, value.value)
    return fold(name, _pieces(name, value))


def fold(name: str, pieces: Iterable[str]) -> bytes:
    """`name: pieces`, folded before pieces that begin with a blank, so that lines are short.

    Raises:
        ValueError: a piece alone is longer than a line may be.
    """
    lines: list[str] = []
    line = name + ":"
    for piece in pieces:
        is_free = len(line) + len(piece) <= LINE_CHARS or not piece.startswith((" ", "\t"))
        # The first piece stays beside the name, which old software expects, unless nothing fits.
        is_first = not lines and len(line) == len(name) + 1
        if is_free or (is_first and len(line) + len(piece) <= LINE_OCTETS_MAX // 2):
            line += piece
        else:
            lines.append(line)
            line = piece
    lines.append(line)
    encoded = [line.encode("utf-8") for line in lines]
    if max(map(len, encoded)) > LINE_OCTETS_MAX:
        raise ValueError(f"{name}: holds a word too long for a line")
    return b"\r\n".join(encoded) + b"\r\n"


def encode_params(name: str, value: str, params: list[tuple[str, str]]) -> bytes:
    """A field such as Content-Type: a token and parameters, whose values may be any text.

    Raises:
        ValueError: a control character, or a value that is no token.
    Source: RFC 2045 s5.1, RFC 2231 s3 and s4
    """
    pieces = [f" {value}"]
    for key, text in params:
        _check_text(name, text)
        for piece in _encode_param(key, text):
            pieces[-1] += ";"
            pieces.append(f" {piece}")
    return fold(name, pieces)


def check_token(name: str, value: str, is_type: bool = False) -> str:
    """`value` in lower case if it is a token (or a media type), for the field `name`.

    Raises:
        ValueError: it is not.
    """
    if not (_MIME_TYPE if is_type else _TOKEN).fullmatch(value):
        raise ValueError(f"{name}: {value!r} is not valid")
    return value.lower()


def encode_id(name: str, value: str) -> str:
    """`value` in angle brackets.

    Raises:
        ValueError: it holds a blank, a control character or an angle bracket.
    """
    if not value or _BAD_IN_ANGLES.search(value):
        raise ValueError(f"{name}: {value!r} is not an identifier")
    return f"<{value}>"


def _pieces(name: str, value: HeaderValue) -> list[str]:
    match value:
        case TextValue(text):
            return list(_text_pieces(name, text))
        case AddressesValue(addresses):
            return list(_address_pieces(name, addresses))
        case GroupsValue(groups):
            return list(_group_pieces(name, groups))
        case MessageIdsValue(ids):
            return [f" {encode_id(name, item)}" for item in ids]
        case UrlsValue(urls):
            return _separate([[f" {encode_id(name, _ascii_url(name, url))}"] for url in urls])
        case DateValue(text):
            moment = parse_rfc3339(text)
            if moment is None:
                raise ValueError(f"{name}: {text!r} is not a date")
            return [f" {moment.rfc5322()}"]
        case _:
            raise ValueError(f"{name}: not a header value")


def _encode_raw(name: str, value: str) -> bytes:
    if not value.isascii() or _CONTROL.search(_RAW_FOLD.sub("", value)):
        raise ValueError(f"{name}: a raw value must be ASCII without control characters")
    field = f"{name}:{value}"
    if max(map(len, field.split("\r\n"))) > LINE_OCTETS_MAX:
        return fold(name, _BLANK_RUN.findall(_RAW_FOLD.sub("", value).rstrip()))
    return field.encode("ascii") + b"\r\n"


def _check_text(name: str, text: str) -> None:
    if _CONTROL.search(text):
        raise ValueError(f"{name}: holds a control character")


def _ascii_url(name: str, url: str) -> str:
    _check_text(name, url)
    return url if url.isascii() else "".join(c if c.isascii() else quote(c) for c in url)


def _is_plain(word: str) -> bool:
    """Whether a word of text can stand as it is, and is read back as it is."""
    return word.isascii() and "=?" not in word and len(word) < _WORD_CHARS_MAX


def _text_pieces(name: str, text: str) -> Iterator[str]:
    """Plain words, and one run of encoded words from the first to the last that needs it.

    White space at the ends would be lost, so there it is encoded too. A tab becomes a space, since
    readers drop it from encoded words.
    """
    _check_text(name, text)
    if not text:
        return
    words = text.replace("\t", " ").split(" ")
    odd = [at for at, word in enumerate(words) if not _is_plain(word)]
    if not words[0]:
        odd.insert(0, 0)
    if not words[-1]:
        odd.append(len(words) - 1)
    start, stop = (odd[0], odd[-1] + 1) if odd else (len(words), len(words))
    while start and not words[start - 1]:
        start -= 1  # blanks before an encoded word might end up alone on a line
    yield from _blank_pieces(words[:start])
    if odd:
        room = LINE_CHARS - len(name) - 2 if start == 0 else LINE_CHARS - 1
        yield from (f" {word}" for word in encode_words(" ".join(words[start:stop]), room))
    yield from _blank_pieces(words[stop:])


def _blank_pieces(words: list[str]) -> Iterator[str]:
    """Each word with the blanks before it; an empty word stands for one blank more."""
    blanks = " "
    for word in words:
        if word:
            yield blanks + word
            blanks = " "
        else:
            blanks += " "


def _separate(items: list[list[str]]) -> list[str]:
    """The pieces of a comma-separated list."""
    for item in items[:-1]:
        item[-1] += ","
    return [piece for item in items for piece in item]


def _address_pieces(name: str, addresses: Iterable[Address]) -> list[str]:
    return _separate([_one_address(name, address) for address in addresses])


def _group_pieces(name: str, groups: Iterable[Group]) -> list[str]:
    items: list[list[str]] = []
    for group in groups:
        if group.name is None:
            items.extend(_one_address(name, address) for address in group.addresses)
            continue
        pieces = _phrase_pieces(name, group.name) or [' ""']
        pieces[-1] += ":"
        pieces.extend(_address_pieces(name, group.addresses))
        pieces[-1] += ";"
        items.append(pieces)
    return _separate(items)


def _one_address(name: str, address: Address) -> list[str]:
    email = address.email
    pieces = _phrase_pieces(name, address.name or "")
    _check_text(name, email)
    if _ADDR_SPEC.fullmatch(email):
        return [*pieces, f" <{email}>"] if pieces else [f" {email}"]
    if "@" in email or (pieces and email and not _LONE_WORD.fullmatch(email)):
        raise ValueError(f"{name}: {email!r} is not an address")
    if pieces:
        return [*pieces, f" <{email}>"]
    # Half an address, as in a draft: a phrase of its own reads back as it was.
    return _phrase_pieces(name, email) or [" <>"]


def _phrase_pieces(name: str, text: str) -> list[str]:
    """A display name as atoms, a quoted string or encoded words, whichever is plainest."""
    _check_text(name, text)
    text = text.replace("\t", " ").strip()
    if not text:
        return []
    if not all(map(_is_plain, text.split(" "))):
        return [f" {word}" for word in encode_words(text, LINE_CHARS - len(name) - 2)]
    if _ATOMS.fullmatch(text):
        return list(_blank_pieces(text.split(" ")))
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return list(_blank_pieces(f'"{escaped}"'.split(" ")))


def _encode_param(key: str, text: str) -> Iterator[str]:
    is_short = len(key) + len(text) < LINE_CHARS - 8
    if is_short and _TOKEN.fullmatch(text):
        yield f"{key}={text}"
    elif is_short and text.isascii() and "=?" not in text:
        escaped = text.replace("\\", "\\\\").replace('"', '\\"')
        yield f'{key}="{escaped}"'
    else:
        yield from _encode_segments(key, text)


def _encode_segments(key: str, text: str) -> Iterator[str]:
    """Source: RFC 2231 s4.1"""
    encoded = ["utf-8''"] + [quote(char, safe="!#$&+.^_`{}~-") for char in text]
    room = LINE_CHARS - len(key) - len(" *000*=;")
    segments = [""]
    for char in encoded:
        if len(segments[-1]) + len(char) > room:
            segments.append("")
        segments[-1] += char
    if len(segments) == 1:
        yield f"{key}*={segments[0]}"
        return
    for number, segment in enumerate(segments):
        yield f"{key}*{number}*={segment}"
