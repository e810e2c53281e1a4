"""Every bound of the product, with unit and reason. The Session object publishes the JMAP ones.

A loop, a queue, a buffer or a request that has no line here is a bug. Names end in their unit.
"""

from __future__ import annotations

from typing import Final

KIB: Final = 1024
MIB: Final = 1024 * KIB

# --- RFC 8620 s2, published in the Session object -------------------------------------------------
UPLOAD_BYTES_MAX: Final = 50 * MIB
"""maxSizeUpload: what large providers accept as one message, with room for base64."""
UPLOADS_CONCURRENT_MAX: Final = 8
"""maxConcurrentUpload per user: enough to fill a line, few enough to bound memory."""
REQUEST_BYTES_MAX: Final = 10 * MIB
"""maxSizeRequest: a request is JSON only; bodies travel as uploads."""
REQUESTS_CONCURRENT_MAX: Final = 16
"""maxConcurrentRequests per user: several devices at once; the next one waits, then is refused."""
CALLS_IN_REQUEST_MAX: Final = 64
"""maxCallsInRequest: the RFC asks for at least 16; clients batch a whole screen."""
OBJECTS_IN_GET_MAX: Final = 1000
"""maxObjectsInGet: the RFC asks for at least 500; bounds the size of one answer."""
OBJECTS_IN_SET_MAX: Final = 1000
"""maxObjectsInSet: bounds how long one transaction holds the account."""

# --- JSON (RFC 7493) ------------------------------------------------------------------------------
JSON_DEPTH_MAX: Final = 64
"""Nested arrays and objects: far above any JMAP request, far below the stack."""
JSON_VALUES_MAX: Final = 500_000
"""Arrays and objects in one request, and strings: eight times what a request full of /set holds.
Ten megabytes of "[]" would keep the server busy for many seconds."""

# --- mail (RFC 8621 s1.3.1) -----------------------------------------------------------------------
MAILBOXES_PER_EMAIL_MAX: Final = 100
"""maxMailboxesPerEmail: a row lists them all."""
MAILBOX_DEPTH_MAX: Final = 20
"""maxMailboxDepth: what IMAP servers allow in practice."""
MAILBOX_NAME_BYTES_MAX: Final = 490
"""maxSizeMailboxName in UTF-8 octets: fits an IMAP name with its parents."""
MAILBOXES_PER_ACCOUNT_MAX: Final = 5000
"""Mailbox/get with ids null must answer all of them."""
ATTACHMENTS_PER_EMAIL_BYTES_MAX: Final = 50 * MIB
"""maxSizeAttachmentsPerEmail: the same as one upload."""
KEYWORDS_PER_EMAIL_MAX: Final = 100
"""A row lists them all; IMAP servers stop between 26 and 64 for a mailbox."""
KEYWORD_CHARS_MAX: Final = 255
"""RFC 8621 s4.1.1."""
EMAILS_PER_THREAD_MAX: Final = 500
"""A longer conversation starts a second thread: a row lists all its Emails."""
REFERENCES_PER_EMAIL_MAX: Final = 50
"""First and last ones are indexed: a reply finds its thread by either end."""
PREVIEW_CHARS_MAX: Final = 256
"""RFC 8621 s4.1.4."""
BODY_VALUE_BYTES_MAX: Final = 2 * MIB
"""One decoded body value in an answer; more is cut and marked isTruncated."""
QUERY_IDS_MAX: Final = 1000
"""Ids in one /query answer when the client gives no limit, or a larger one."""
QUERY_SCAN_ROWS_MAX: Final = 1_000_000
"""Rows one query may look at before it is refused as too much."""
FILTER_CONDITIONS_MAX: Final = 100
"""Conditions and operators in one filter: bounds the SQL made from it."""
CHANGES_COUNT_MAX: Final = 1000
"""Ids in one /changes answer; hasMoreChanges says that there are more."""
OBJECTS_PER_TYPE_MAX: Final = 10_000
"""Small objects of one type in one account (identities, submissions ...)."""
OBJECT_BYTES_MAX: Final = 256 * KIB
"""One small object as JSON."""
MESSAGES_PER_CALL_BYTES_MAX: Final = 200 * MIB
"""Octets of messages and blobs that one method call reads to parse, write or copy them: two of the
largest messages, or a thousand of 200 KB. A thousand times one upload would keep the server busy
for minutes."""
SNIPPET_CHARS_MAX: Final = 255
"""RFC 8621 s5."""

# --- sharing (RFC 9670) ---------------------------------------------------------------------------
SHARED_ACCOUNTS_MAX: Final = 1000
"""Accounts of others of which one user sees some Mailboxes: each stands in the Session object."""
SHARES_PER_MAILBOX_MAX: Final = 200
"""Users that one Mailbox is shared with: shareWith lists them all."""
SHARES_PER_ACCOUNT_MAX: Final = 10_000
"""Shares of all Mailboxes of an account: who changes one reads them."""
SHARES_PER_USER_MAX: Final = 10_000
"""Shares of one user that are summed up at sign-in, over all accounts."""
SHARED_MAILBOXES_PER_USER_MAX: Final = 200
"""Mailboxes of one account that one user sees by shares: a query names them all. Who is to see more
gets a grant of the account."""
SHARE_NOTIFICATIONS_MAX: Final = 500
"""ShareNotifications kept for one user; the oldest go first (RFC 9670 s3.1)."""
PRINCIPALS_MAX: Final = 5000
"""Users that one user is shown as Principals, by login."""

# --- storage --------------------------------------------------------------------------------------
BLOB_INLINE_BYTES_MAX: Final = 64 * KIB
"""Smaller blobs live in the database: a file with its own fsync costs eleven times a commit."""
CHANGE_LOG_KEPT_MS: Final = 30 * 24 * 3600 * 1000
"""The change log reaches back so far at least; older tombstones are forgotten once a day."""
GROUP_COMMIT_TXS_MAX: Final = 64
"""Transactions that share one fsync."""
WRITE_QUEUE_TXS_MAX: Final = 1024
"""Waiting transactions before new ones are refused as unavailable."""
INDEX_BATCH_EMAILS_MAX: Final = 200
"""Emails in one commit of the search index."""
INDEX_TEXT_CHARS_MAX: Final = 200_000
"""Text of one Email that is indexed; the rest of a giant adds little."""

# --- push -----------------------------------------------------------------------------------------
STREAMS_PER_USER_MAX: Final = 64
"""Open event streams and WebSockets of one user: devices times tabs."""
STREAM_PING_MS_MIN: Final = 5_000
"""A client may not ask for more frequent pings."""
STREAM_PING_MS_MAX: Final = 900_000
"""RFC 8620 s7.3 lets the server cap the interval; idle proxies close earlier than this."""
PUSH_SUBSCRIPTIONS_PER_USER_MAX: Final = 20
"""RFC 8620 s8.6: each is a place that one user makes us write to."""
PUSH_SUBSCRIPTIONS_NEW_MAX: Final = 40
"""PushSubscriptions that one user may make in PUSH_SUBSCRIPTIONS_NEW_MS: each sends one request to
an address that nobody has confirmed."""
PUSH_SUBSCRIPTIONS_NEW_MS: Final = 3_600_000
"""How long a PushSubscription that was made counts for the rate."""
PUSH_SUBSCRIPTION_MS_MAX: Final = 30 * 24 * 3600 * 1000
"""How far ahead `expires` may lie, and where it is set if a device says nothing: RFC 8620 s7.2 asks
for 7 days at least. A device renews it whenever it is in use."""
PUSH_INTERVAL_MS: Final = 1_000
"""At most one push to a PushSubscription in so long, with what came meanwhile merged."""
PUSH_INTERVAL_BUSY_MS: Final = 15_000
"""The interval doubles up to this while changes do not stop (a first sync, somebody at work on
another device): the radio of a phone must sleep between."""

# --- sign-in --------------------------------------------------------------------------------------
TOKENS_PER_USER_MAX: Final = 200
"""Devices and app passwords of one user."""
SIGN_IN_FAILURES_MAX: Final = 10
"""Wrong passwords from one login name in SIGN_IN_WINDOW_MS before it must wait."""
SIGN_IN_WINDOW_MS: Final = 60_000
"""How long failures are remembered."""

# --- sync -----------------------------------------------------------------------------------------
SYNC_BATCH_MESSAGES_MAX: Final = 200
"""Messages in one commit of the mirror: bounds what a crash repeats."""
SYNC_BATCH_BYTES_MAX: Final = 16 * MIB
"""Bytes of one batch held in memory."""
LARGE_MESSAGE_BYTES_MIN: Final = 4 * MIB
"""A message from here on is counted in LARGE_MESSAGES_HELD_BYTES_MAX, and stored by itself."""
LARGE_MESSAGES_HELD_BYTES_MAX: Final = 256 * MIB
"""Octets of large messages that all mirrors of a process hold together, from the announcement until
they are stored: two of the largest, or sixty of 4 MiB. Others wait for room."""
MESSAGE_BYTES_MAX: Final = 100 * MIB
"""A larger message is parked and shown as such."""
OUTBOX_TRIES_MAX: Final = 12
"""Then the intent is given up and shown to the user."""
