"""What can be wrong with a script, and what can go wrong when it runs."""

from __future__ import annotations


class SieveError(Exception):
    """The text is no script that this interpreter can run.

    Args:
        line: where, counted from 1.
    """

    def __init__(self, line: int, what: str) -> None:
        super().__init__(f"line {line}: {what}")
        self.line = line
        self.what = what


class SieveRuntimeError(Exception):
    """A running script did what it may not, or too much; the message is kept. RFC 5228 s2.10.6"""

    def __init__(self, line: int, what: str) -> None:
        super().__init__(f"line {line}: {what}")
        self.line = line
        self.what = what
