"""The two ways an IMAP conversation goes wrong, told apart by whose fault it is.

`RemoteProtocolError`: the peer sent bytes that no rule allows or that pass a limit; the connection
is of no more use. `LocalProtocolError`: our own caller asked for something the protocol or its
present state does not allow; nothing was sent, the connection is still good.
"""

from __future__ import annotations


class ImapProtocolError(Exception):
    """Root of both; never raised itself."""


class RemoteProtocolError(ImapProtocolError):
    """The peer broke the protocol or one of our limits. Close the connection."""


class LocalProtocolError(ImapProtocolError):
    """Our caller broke the protocol. Nothing was written."""
