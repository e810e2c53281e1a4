"""The web client: its built files, read once at start and served from memory.

A request never reaches the file system, so no path can lead out of the folder. Files under assets/
carry a hash in their name and may be kept for ever; index.html, which names them, is asked for
every time. A page address that is no file gets index.html: the client routes by itself.

The Content-Security-Policy is strict where it matters and wide where mail needs it. A message is
shown in an iframe made by `srcdoc`; such a document inherits this policy, and the stricter policy
in its own meta element comes on top. So whatever a message may ever be allowed has to be allowed
here: inline styles (nearly every HTML mail), fonts from data:, pictures from data: and blob:, and,
once a reader asks for remote pictures, from https: and http:. Until then the frame's own policy
holds them back.
Scripts come from our own files only, which is what keeps a hole in the sanitiser from becoming
more: no inline script, no eval, no foreign connection, no plugin, no form, nobody may frame us.
"""

from __future__ import annotations

import gzip
import hashlib
from pathlib import Path
from typing import NamedTuple

from tindra.server.http.exchange import Exchange, Headers, HttpError, Response

FILE_BYTES_MAX = 8 * 1024 * 1024
"""A larger file does not belong into a web client."""
FILES_MAX = 2000
"""A build has about twenty; a folder with more was not meant."""
_GZIP_BYTES_MIN = 1024
"""Below this a compressed file saves no packet."""
CONTENT_SECURITY_POLICY = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data: blob: https: http:",
        "font-src 'self' data:",
        "connect-src 'self'",
        "media-src 'self' blob:",
        "frame-src 'self' blob:",
        "worker-src 'self'",
        "manifest-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    ]
)
PAGE_HEADERS: Headers = [
    (b"content-security-policy", CONTENT_SECURITY_POLICY.encode()),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=(), payment=(), usb=()"),
]
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".json": "application/json",
    ".map": "application/json",
    ".webmanifest": "application/manifest+json",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".webp": "image/webp",
    ".avif": "image/avif",
    ".ico": "image/x-icon",
    ".woff2": "font/woff2",
    ".woff": "font/woff",
    ".txt": "text/plain; charset=utf-8",
    ".wasm": "application/wasm",
}
_COMPRESSED = frozenset([".html", ".js", ".mjs", ".css", ".json", ".map", ".svg", ".webmanifest"])
_IMMUTABLE = (b"cache-control", b"public, max-age=31536000, immutable")
_REVALIDATED = (b"cache-control", b"no-cache")


class StaticFile(NamedTuple):
    """One file, ready to send."""

    headers: Headers
    etag: str
    body: bytes
    packed: bytes | None
    """The same in gzip, where that is smaller."""


class StaticRoute:
    """Serves the web client."""

    def __init__(self, directory: Path | None) -> None:
        self._files = {} if directory is None else load_files(directory)

    async def get(self, exchange: Exchange) -> Response:
        """A file, or index.html for the address of a page. Raises: HttpError 404."""
        path = exchange.path
        found = self._files.get("/index.html" if path == "/" else path)
        if found is None and _wants_page(exchange):
            found = self._files.get("/index.html")
        if found is None:
            raise HttpError(404, "there is nothing at this address")
        if found.etag in exchange.header(b"if-none-match"):
            return Response(304, found.headers)
        if found.packed is not None and "gzip" in exchange.header(b"accept-encoding"):
            return Response(200, [*found.headers, (b"content-encoding", b"gzip")], found.packed)
        return Response(200, found.headers, found.body)


def load_files(directory: Path) -> dict[str, StaticFile]:
    """Path ("/assets/index-Bx3.js") -> file, for all files in `directory`. Links out are left out.

    Raises: OSError; ValueError for a directory that cannot be a web client.
    Cost: reads and compresses everything; tens of milliseconds for a megabyte.
    """
    root = directory.resolve()
    found: dict[str, StaticFile] = {}
    for file in sorted(root.rglob("*")):
        if not file.is_file() or not file.resolve().is_relative_to(root):
            continue
        if len(found) >= FILES_MAX or file.stat().st_size > FILE_BYTES_MAX:
            raise ValueError(f"{directory} holds too much to be a web client")
        path = "/" + file.relative_to(root).as_posix()
        found[path] = _make_file(path, file.read_bytes())
    return found


def _make_file(path: str, body: bytes) -> StaticFile:
    ending = path[path.rfind(".") :] if "." in path else ""
    etag = f'"{hashlib.sha256(body).hexdigest()[:24]}"'
    is_immutable = path.startswith("/assets/")
    headers: Headers = [
        (b"content-type", _TYPES.get(ending, "application/octet-stream").encode()),
        (b"etag", etag.encode()),
        (b"vary", b"Accept-Encoding"),
        _IMMUTABLE if is_immutable else _REVALIDATED,
        *PAGE_HEADERS,
    ]
    packed = None
    if ending in _COMPRESSED and len(body) >= _GZIP_BYTES_MIN:
        packed = gzip.compress(body, 6, mtime=0)
    is_smaller = packed is not None and len(packed) < len(body)
    return StaticFile(headers, etag, body, packed if is_smaller else None)


def _wants_page(exchange: Exchange) -> bool:
    """A browser that navigates, not a script that looks for a file that is gone."""
    return "text/html" in exchange.header(b"accept") and not exchange.path.startswith("/assets/")
