"""Media types and file names that came from outside, made safe to put in a header.

Source: RFC 6266 s4, RFC 8187 s3.2, RFC 6838 s4.2
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from urllib.parse import quote

OCTETS = "application/octet-stream"
FILE_NAME_CHARS_MAX = 200
"""Below what file systems take, in characters of up to four octets cut to their 255."""
_FILE_NAME_BYTES_MAX = 240
_TYPE = re.compile(
    r"(?P<type>[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}/[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126})"
    r"(?:\s*;\s*charset=\"?(?P<charset>[A-Za-z0-9][A-Za-z0-9_.:+-]{0,39})\"?)?\s*"
)
_INLINE = frozenset(
    [
        "image/png", "image/jpeg", "image/gif", "image/webp", "image/avif", "image/bmp",
        "text/plain",
    ]
)  # fmt: skip
"""What a browser may show in place: nothing here can hold a script or a link to elsewhere."""
_NOT_IN_NAMES = re.compile(r'[\x00-\x1f\x7f"\\/:*?<>|]')
_ATTR_CHARS = "!#$&+-.^_`|~"


def parse_media_type(text: str) -> str:
    """A media type fit for Content-Type: lower case, with at most a charset; anything else becomes
    application/octet-stream."""
    match = _TYPE.fullmatch(text.strip())
    if match is None:
        return OCTETS
    charset = f"; charset={match['charset']}" if match["charset"] else ""
    return match["type"].lower() + charset


@lru_cache(maxsize=256)
def parse_upload_type(text: str) -> str:
    """The media type of an upload, without parameters. Source: RFC 8620 s6.1"""
    return parse_media_type(text.partition(";")[0]).partition(";")[0]


def encode_disposition(name: str, media_type: str) -> bytes:
    """Content-Disposition for a file: shown in place only where that is harmless.

    Source: RFC 6266 s4.1
    """
    kind = "inline" if media_type.partition(";")[0] in _INLINE else "attachment"
    clean = clean_file_name(name)
    plain = clean.encode("ascii", "replace").decode().replace("?", "_").replace("%", "_")
    value = f'{kind}; filename="{plain}"'
    if plain != clean:
        value += f"; filename*=UTF-8''{quote(clean, safe=_ATTR_CHARS)}"
    return value.encode("ascii")


def clean_file_name(name: str) -> str:
    """A name that every system can store and that reads as what it is.

    Only the last part of a path is kept; control characters and marks that turn the reading
    direction (an old way to dress up "exe") go; it is never empty, "." or "..".
    """
    last = re.split(r"[/\\]", name)[-1]
    visible = "".join(
        c for c in last if unicodedata.category(c) not in ("Cc", "Cf", "Cs", "Zl", "Zp")
    )
    safe = _NOT_IN_NAMES.sub("_", visible).strip(" .")
    return _shorten(safe) or "download"


def _shorten(name: str) -> str:
    """At most FILE_NAME_CHARS_MAX characters and 240 octets, keeping a short ending (".pdf")."""
    if len(name) <= FILE_NAME_CHARS_MAX and len(name.encode()) <= _FILE_NAME_BYTES_MAX:
        return name
    stem, dot, ending = name.rpartition(".")
    if not dot or not stem or len(ending) > 10:
        stem, dot, ending = name, "", ""
    room = _FILE_NAME_BYTES_MAX - len((dot + ending).encode())
    stem = stem[: FILE_NAME_CHARS_MAX - len(dot + ending)]
    return stem.encode()[:room].decode("utf-8", "ignore") + dot + ending
