"""The mail feature: the types and methods of RFC 8621, joined."""

from __future__ import annotations

from typing import Any, Final

from tindra.base import limits
from tindra.core.access import Access, Caller
from tindra.core.datatype import Capability, Datatype, Feature, Method
from tindra.features.mail.answering.memory import TIMER, run_forgetting
from tindra.features.mail.answering.vacation import (
    VACATION_CAPABILITY,
    VACATION_CHANGES,
    VACATION_RESPONSE,
)
from tindra.features.mail.body import BODY_ARGUMENTS
from tindra.features.mail.counters import apply_counters, apply_trash
from tindra.features.mail.email_get import EMAIL_PROPERTIES, EmailSource
from tindra.features.mail.email_import import run_import
from tindra.features.mail.email_parse import run_parse
from tindra.features.mail.email_query import SORT_OPTIONS, EmailQuerier
from tindra.features.mail.email_set import EmailWriter
from tindra.features.mail.header_property import is_header_property
from tindra.features.mail.identity import IDENTITY
from tindra.features.mail.mailbox import (
    MAILBOX_PROPERTIES,
    MailboxQuerier,
    MailboxSource,
    list_updated_properties,
)
from tindra.features.mail.snippet import run_snippet_get
from tindra.features.mail.submission import (
    EMAIL_SUBMISSION,
    SEND_STATE,
    SUBMISSION_CAPABILITY,
)
from tindra.features.mail.thread import THREAD_PROPERTIES, ThreadSource
from tindra.features.mail.writing.mailbox_set import MailboxWriter

MAIL: Final = "urn:ietf:params:jmap:mail"
COMPOSE: Final = "urn:tindra:params:jmap:compose"


def _load_account(_: Caller, access: Access) -> dict[str, Any]:
    """Source: RFC 8621 s1.3.1"""
    by_thread = [name for name in SORT_OPTIONS if "Thread" in name]
    return {
        "maxMailboxesPerEmail": limits.MAILBOXES_PER_EMAIL_MAX,
        "maxMailboxDepth": limits.MAILBOX_DEPTH_MAX,
        "maxSizeMailboxName": limits.MAILBOX_NAME_BYTES_MAX,
        "maxSizeAttachmentsPerEmail": limits.ATTACHMENTS_PER_EMAIL_BYTES_MAX,
        "emailQuerySortOptions": [
            name for name in SORT_OPTIONS if not access.is_partial or name not in by_thread
        ],
        "mayCreateTopLevelMailbox": not access.is_read_only and not access.is_partial,
    }


_CAPABILITY = Capability(
    MAIL,
    is_of_mailbox=True,
    supports_parts=True,
    load_account=_load_account,
)

_MAILBOX = Datatype(
    name="Mailbox",
    capability=MAIL,
    properties=MAILBOX_PROPERTIES,
    source=MailboxSource(),
    writer=MailboxWriter(),
    querier=MailboxQuerier(),
    set_arguments=frozenset({"onDestroyRemoveEmails"}),
    query_arguments=frozenset({"sortAsTree", "filterAsTree"}),
    list_updated_properties=list_updated_properties,
    supports_parts=True,
)
_THREAD = Datatype(
    name="Thread",
    capability=MAIL,
    properties=THREAD_PROPERTIES,
    source=ThreadSource(),
    supports_parts=True,
)
_EMAIL = Datatype(
    name="Email",
    capability=MAIL,
    properties=EMAIL_PROPERTIES,
    source=EmailSource(),
    writer=EmailWriter(),
    querier=EmailQuerier(),
    is_property=is_header_property,
    get_arguments=BODY_ARGUMENTS,
    query_arguments=frozenset({"collapseThreads"}),
    supports_parts=True,
)

MAIL_FEATURE = Feature(
    name="mail",
    capabilities=(
        _CAPABILITY,
        SUBMISSION_CAPABILITY,
        VACATION_CAPABILITY,
        Capability(COMPOSE, is_of_mailbox=True),
    ),
    datatypes=(_MAILBOX, _THREAD, _EMAIL, IDENTITY, EMAIL_SUBMISSION, VACATION_RESPONSE),
    methods=(
        VACATION_CHANGES,
        Method("Email/import", MAIL, run_import, supports_parts=True),
        Method("Email/parse", MAIL, run_parse, supports_parts=True),
        Method("SearchSnippet/get", MAIL, run_snippet_get, supports_parts=True),
    ),
    properties=(SEND_STATE,),
    reactions={"Email": apply_counters, "Mailbox": apply_trash},
    timers={TIMER: run_forgetting},
)
