"""The rules for keywords and mailboxIds that set, import and copy share (RFC 8621 s4.1.1)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tindra.base import limits
from tindra.base.ids import MailboxId
from tindra.core.errors import SetError
from tindra.model.keyword import is_keyword
from tindra.model.mail import MailboxRow


def check_keywords(value: Any) -> tuple[str, ...]:
    """Lower-cased and sorted, from a String[Boolean] in which every value is true.

    Raises: SetError invalidProperties, tooManyKeywords.
    Source: RFC 8621 s4.1.1, s4.6
    """
    if not isinstance(value, dict):
        raise SetError("invalidProperties", "keywords must be an object", ["keywords"])
    for keyword, is_set in value.items():
        if is_set is not True:
            raise SetError("invalidProperties", "keyword values must be true", ["keywords"])
        if not is_keyword(keyword):
            raise SetError("invalidProperties", f"{keyword[:60]!r} is no keyword", ["keywords"])
    if len(value) > limits.KEYWORDS_PER_EMAIL_MAX:
        raise SetError("tooManyKeywords", f"at most {limits.KEYWORDS_PER_EMAIL_MAX} keywords")
    return tuple(sorted({keyword.lower() for keyword in value}))


def check_mailbox_ids(
    value: Any, known: Mapping[str, MailboxRow], resolve: Callable[[str], str] = str
) -> tuple[MailboxId, ...]:
    """Sorted ids, from an Id[Boolean] in which every value is true and every id is known.

    Args:
        resolve: turns "#" and a creation id into an id.
    Raises: SetError invalidProperties, tooManyMailboxes.
    Source: RFC 8621 s4.1.1, s4.6
    """
    if not isinstance(value, dict) or not value:
        raise SetError("invalidProperties", "an Email is in at least one Mailbox", ["mailboxIds"])
    found = set()
    for key, is_set in value.items():
        id = resolve(key)
        if is_set is not True or id not in known:
            raise SetError("invalidProperties", f"no Mailbox {key[:60]!r}", ["mailboxIds"])
        found.add(MailboxId(id))
    if len(found) > limits.MAILBOXES_PER_EMAIL_MAX:
        raise SetError("tooManyMailboxes", f"at most {limits.MAILBOXES_PER_EMAIL_MAX} Mailboxes")
    return tuple(sorted(found))
