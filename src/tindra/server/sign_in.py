"""A credential that was found right: who it makes the caller, and until when that is believed."""

from __future__ import annotations

from tindra.core.access import Caller

CALLER_FRESH_MS = 5_000
"""How long grants, tokens and password hashes are believed without another look."""


class SignIn:
    """One credential that was found right. Lives in memory only, shared by all its requests."""

    __slots__ = (
        "caller", "documents", "fresh_until_ms", "is_over", "key", "password_hash", "token_hash",
        "used_ms",
    )  # fmt: skip

    def __init__(self, key: bytes, caller: Caller, password_hash: str, token_hash: bytes) -> None:
        """
        Args:
            key: keyed hash of the credential.
            password_hash: the stored hash that the password fitted; "" for a token.
            token_hash: b"" for a password.
        """
        self.key = key
        self.caller = caller
        self.password_hash = password_hash
        self.token_hash = token_hash
        self.fresh_until_ms = 0
        self.used_ms = 0
        self.is_over = False
        """It was revoked, or is no longer right."""
        self.documents: dict[str, tuple[bytes, str]] = {}
        """Base URL -> Session object as JSON, and its state (routes/session.py)."""
