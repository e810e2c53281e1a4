"""State strings: opaque to devices, a place in the change log to us (RFC 8620 s5.1, s5.2)."""

from __future__ import annotations

from tindra.base.ids import ModSeq, is_id
from tindra.core.errors import MethodError
from tindra.core.ports import Cursor

_DIGITS_MAX = 15


def encode_state(cursor: Cursor) -> str:
    """The state string of a place in the change log."""
    return str(cursor.modseq) if cursor.id is None else f"{cursor.modseq}.{cursor.id}"


def parse_state(text: object, newest: ModSeq) -> Cursor:
    """The place that a state string names.

    Args:
        newest: the present state of the type; a state beyond it was never ours.
    Raises: MethodError invalidArguments for no string, cannotCalculateChanges for a string that
        this server cannot have made for this type.
    """
    if not isinstance(text, str):
        raise MethodError("invalidArguments", "the state must be given and be a string")
    number, dot, id = text.partition(".")
    is_number = number.isascii() and number.isdigit() and len(number) <= _DIGITS_MAX
    is_ours = is_number and str(int(number)) == number and int(number) <= newest
    if not is_ours or (dot and not is_id(id)):
        raise MethodError("cannotCalculateChanges", "this state is not known here")
    return Cursor(ModSeq(int(number)), id if dot else None)
