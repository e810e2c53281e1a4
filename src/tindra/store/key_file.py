"""Files beside the database that hold one key each: whole and durable, or not there.

A key is made once, at the first start, and read ever after. Who copies the database alone has none.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from tindra.core.errors import StoreError

KEY_BYTES: Final = 32


class KeyMissing(StoreError):
    """A key file is missing, unreadable or not the one that belongs to the database."""


def read_key_file(path: Path, what: str) -> bytes | None:
    """The key in a file; None if there is no file. Raises: KeyMissing.

    Args:
        what: names the key in the text of an error.
    """
    try:
        key = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise KeyMissing(f"the {what} file {path} cannot be read: {error}") from error
    if len(key) != KEY_BYTES:
        raise KeyMissing(f"the {what} file {path} must hold exactly {KEY_BYTES} octets")
    return key


def create_key_file(path: Path, what: str, key: bytes) -> bytes:
    """Keep a new key, durable on return, readable by its owner only; the one that stands now.

    Written beside its place and linked into it: a crash never leaves half a key there.
    Raises: KeyMissing.
    """
    draft = path.with_name(f"{path.name}.{os.urandom(4).hex()}")
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            os.write(descriptor, key)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.link(draft, path)
    except FileExistsError:  # another process was first
        return read_key_file(path, what) or key
    except OSError as error:
        raise KeyMissing(f"the {what} file {path} cannot be made: {error}") from error
    finally:
        draft.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    return key
