"""The SQLite schema as numbered, hand-written migrations, and the check of what a file holds.

Nothing here knows rows as values. Invariants: account_id is column one of every key and hot index
of every account table (docs/data.md rule 1); a released migration is never edited, only followed.

A file records two numbers. `user_version` is the migration it has reached. `compat_version` in
`meta` is the oldest program schema that may still open it: a migration that only adds (expand)
leaves it, one that removes (contract) raises it, so a rollback of the program after an upgrade is
either sound or refused, never silently wrong.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import apsw

from tindra.core.errors import StoreError

APPLICATION_ID: Final = 0x54494E44
"""PRAGMA application_id ("TIND"): tells our file from any other SQLite database."""


class Migration(NamedTuple):
    """One step of the schema; its number is its place in MIGRATIONS, from 1."""

    compat_version: int
    """The oldest program schema that may open a file which has this step."""
    sql: str


_FIRST: Final = """
CREATE TABLE meta (  -- directory: facts about the file itself
  key TEXT PRIMARY KEY,
  value ANY
) STRICT, WITHOUT ROWID;

CREATE TABLE account (
  account_id TEXT NOT NULL PRIMARY KEY,
  name TEXT NOT NULL,
  owner_id TEXT NOT NULL,
  created_ms INTEGER NOT NULL,
  modseq INTEGER NOT NULL DEFAULT 0,
  fence INTEGER NOT NULL DEFAULT 0,         -- epoch of the worker that may write (rule 3)
  floor_modseq INTEGER NOT NULL DEFAULT 0,  -- the change log answers from here on
  doc_counter INTEGER NOT NULL DEFAULT 0,
  data_key BLOB                             -- sealed by the master key (rule 12)
) STRICT, WITHOUT ROWID;

CREATE TABLE type_state (
  account_id TEXT NOT NULL,
  type_name TEXT NOT NULL,
  modseq INTEGER NOT NULL,
  PRIMARY KEY (account_id, type_name)
) STRICT, WITHOUT ROWID;

-- The change log of destroyed objects. An id may come back, so it may have several rows.
CREATE TABLE tombstone (
  account_id TEXT NOT NULL,
  type_name TEXT NOT NULL,
  modseq INTEGER NOT NULL,
  id TEXT NOT NULL,
  created_modseq INTEGER NOT NULL,
  PRIMARY KEY (account_id, type_name, modseq, id)
) STRICT, WITHOUT ROWID;

CREATE TABLE object (
  account_id TEXT NOT NULL,
  type_name TEXT NOT NULL,
  id TEXT NOT NULL,
  data BLOB NOT NULL,
  created_modseq INTEGER NOT NULL,
  changed_modseq INTEGER NOT NULL,
  PRIMARY KEY (account_id, type_name, id)
) STRICT;
CREATE INDEX object_by_created ON object (account_id, type_name, created_modseq, id);
CREATE INDEX object_by_changed ON object (account_id, type_name, changed_modseq, id);

CREATE TABLE mailbox (
  account_id TEXT NOT NULL,
  mailbox_id TEXT NOT NULL,
  name TEXT NOT NULL,
  parent_id TEXT,
  role TEXT,
  sort_order INTEGER NOT NULL,
  is_subscribed INTEGER NOT NULL,
  created_modseq INTEGER NOT NULL,
  info_modseq INTEGER NOT NULL,
  changed_modseq INTEGER NOT NULL,
  PRIMARY KEY (account_id, mailbox_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX mailbox_by_created ON mailbox (account_id, created_modseq, mailbox_id);
CREATE INDEX mailbox_by_changed ON mailbox (account_id, changed_modseq, mailbox_id);

-- Counters per viewer. Principal '' is the owner, whose marks are those on the Email rows; rows of
-- other principals come with shared accounts (rule 13) and nothing writes them yet.
CREATE TABLE mailbox_count (
  account_id TEXT NOT NULL,
  mailbox_id TEXT NOT NULL,
  principal_id TEXT NOT NULL DEFAULT '',
  total_emails INTEGER NOT NULL DEFAULT 0 CHECK (total_emails >= 0),
  unread_emails INTEGER NOT NULL DEFAULT 0 CHECK (unread_emails >= 0),
  total_threads INTEGER NOT NULL DEFAULT 0 CHECK (total_threads >= 0),
  unread_threads INTEGER NOT NULL DEFAULT 0 CHECK (unread_threads >= 0),
  PRIMARY KEY (account_id, mailbox_id, principal_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE email (
  account_id TEXT NOT NULL,
  doc_id INTEGER NOT NULL,
  blob_id TEXT NOT NULL,
  thread_id TEXT NOT NULL,
  mailbox_ids TEXT NOT NULL,  -- {"a":true,"b":true}, sorted, as JMAP answers it
  keywords TEXT NOT NULL,     -- the same
  received_ms INTEGER NOT NULL,
  size INTEGER NOT NULL,
  sent_ms INTEGER NOT NULL,
  subject_key TEXT NOT NULL,
  from_key TEXT NOT NULL,
  to_key TEXT NOT NULL,
  has_attachment INTEGER NOT NULL,
  created_modseq INTEGER NOT NULL,
  changed_modseq INTEGER NOT NULL,
  PRIMARY KEY (account_id, doc_id)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX email_by_blob ON email (account_id, blob_id);
CREATE INDEX email_by_thread ON email (account_id, thread_id, doc_id);
CREATE INDEX email_by_created ON email (account_id, created_modseq, doc_id);
CREATE INDEX email_by_changed ON email (account_id, changed_modseq, doc_id);

-- A rowid table on purpose: rows of some KiB would spill out of the leaves of a key-ordered one.
CREATE TABLE email_content (
  account_id TEXT NOT NULL,
  doc_id INTEGER NOT NULL,
  meta BLOB NOT NULL,
  structure BLOB NOT NULL,
  PRIMARY KEY (account_id, doc_id)
) STRICT;

-- Lists a Mailbox newest first without touching the Emails.
CREATE TABLE email_mailbox (
  account_id TEXT NOT NULL,
  mailbox_id TEXT NOT NULL,
  doc_id INTEGER NOT NULL,
  thread_id TEXT NOT NULL,
  PRIMARY KEY (account_id, mailbox_id, doc_id)
) STRICT, WITHOUT ROWID;

-- Lists the Emails with a keyword. Nearly all mail is $seen, so the Emails *without* $seen are
-- listed instead, under the name ' unseen' (no keyword has a space).
CREATE TABLE email_keyword (
  account_id TEXT NOT NULL,
  keyword TEXT NOT NULL,
  doc_id INTEGER NOT NULL,
  thread_id TEXT NOT NULL,
  PRIMARY KEY (account_id, keyword, doc_id)
) STRICT, WITHOUT ROWID;

-- Personal marks of principals other than the owner (rule 13). In the schema from the first
-- version so that sharing an account copies nothing; no code reads or writes it yet.
CREATE TABLE email_mark (
  account_id TEXT NOT NULL,
  principal_id TEXT NOT NULL,
  doc_id INTEGER NOT NULL,
  keywords TEXT NOT NULL,
  changed_modseq INTEGER NOT NULL,
  PRIMARY KEY (account_id, principal_id, doc_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX email_mark_by_changed
  ON email_mark (account_id, principal_id, changed_modseq, doc_id);

CREATE TABLE thread (
  account_id TEXT NOT NULL,
  thread_id TEXT NOT NULL,
  email_ids TEXT NOT NULL,     -- JSON array
  subject_key TEXT NOT NULL,
  participants TEXT NOT NULL,  -- JSON array
  latest_ms INTEGER NOT NULL,
  created_modseq INTEGER NOT NULL,
  changed_modseq INTEGER NOT NULL,
  PRIMARY KEY (account_id, thread_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX thread_by_created ON thread (account_id, created_modseq, thread_id);
CREATE INDEX thread_by_changed ON thread (account_id, changed_modseq, thread_id);
CREATE INDEX thread_by_subject ON thread (account_id, subject_key, latest_ms)
  WHERE subject_key <> '';

CREATE TABLE thread_ref (
  account_id TEXT NOT NULL,
  ref TEXT NOT NULL,
  thread_id TEXT NOT NULL,
  PRIMARY KEY (account_id, ref, thread_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX thread_ref_by_thread ON thread_ref (account_id, thread_id);

CREATE TABLE blob (
  account_id TEXT NOT NULL,
  blob_id TEXT NOT NULL,
  size INTEGER NOT NULL,
  created_ms INTEGER NOT NULL,
  data BLOB,                   -- NULL: in the blob store
  PRIMARY KEY (account_id, blob_id)
) STRICT;

CREATE TABLE outbox (
  account_id TEXT NOT NULL,
  topic TEXT NOT NULL,
  key TEXT NOT NULL,
  payload BLOB NOT NULL,
  modseq INTEGER NOT NULL,
  tries INTEGER NOT NULL,
  due_ms INTEGER NOT NULL,
  last_error TEXT NOT NULL,
  PRIMARY KEY (account_id, topic, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX outbox_by_modseq ON outbox (account_id, topic, modseq, key);
-- By time across accounts, for the one sweep that finds accounts with work (list_due).
CREATE INDEX outbox_by_due ON outbox (due_ms, account_id);

CREATE TABLE timer (
  account_id TEXT NOT NULL,
  kind TEXT NOT NULL,
  key TEXT NOT NULL,
  due_ms INTEGER NOT NULL,
  payload BLOB NOT NULL,
  PRIMARY KEY (account_id, kind, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX timer_by_account_due ON timer (account_id, due_ms);
-- By time across accounts, for list_due.
CREATE INDEX timer_by_due ON timer (due_ms, account_id);

CREATE TABLE dedup (
  account_id TEXT NOT NULL,
  key TEXT NOT NULL,
  answer BLOB NOT NULL,
  created_ms INTEGER NOT NULL,
  PRIMARY KEY (account_id, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX dedup_by_age ON dedup (account_id, created_ms);

CREATE TABLE secret (
  account_id TEXT NOT NULL,
  name TEXT NOT NULL,
  sealed BLOB NOT NULL,
  PRIMARY KEY (account_id, name)
) STRICT, WITHOUT ROWID;

-- The base of the sync plan: what both sides last agreed on.
CREATE TABLE remote_message (
  account_id TEXT NOT NULL,
  mailbox_id TEXT NOT NULL,
  uid INTEGER NOT NULL,
  doc_id INTEGER NOT NULL,
  keywords TEXT NOT NULL,
  modseq INTEGER NOT NULL,
  PRIMARY KEY (account_id, mailbox_id, uid)
) STRICT, WITHOUT ROWID;
CREATE INDEX remote_message_by_email ON remote_message (account_id, doc_id);

CREATE TABLE user (  -- directory: who signs in
  user_id TEXT NOT NULL PRIMARY KEY,
  login TEXT NOT NULL UNIQUE,
  password_hash TEXT NOT NULL,
  home_account_id TEXT NOT NULL,
  created_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE grant_row (  -- directory: read by user at sign-in
  user_id TEXT NOT NULL,
  account_id TEXT NOT NULL,
  rights TEXT NOT NULL,        -- JSON array, sorted
  from_ms INTEGER NOT NULL,
  until_ms INTEGER,
  PRIMARY KEY (user_id, account_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX grant_row_by_account ON grant_row (account_id, user_id);

CREATE TABLE token (  -- directory: read by hash at every request
  hash BLOB NOT NULL PRIMARY KEY,
  user_id TEXT NOT NULL,
  name TEXT NOT NULL,
  kind TEXT NOT NULL,
  created_ms INTEGER NOT NULL,
  expires_ms INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX token_by_user ON token (user_id, created_ms);

-- Accounts whose rows are being erased in small steps; a restart goes on with it.
CREATE TABLE erasing (account_id TEXT NOT NULL PRIMARY KEY) STRICT, WITHOUT ROWID;
"""

_SHARING: Final = """
-- What users may do in single Mailboxes (RFC 9670). In the account, so that a change of rights is a
-- transaction of it; read by user at sign-in. No rights: taken back, kept to remember when.
CREATE TABLE mailbox_share (
  account_id TEXT NOT NULL,
  mailbox_id TEXT NOT NULL,
  user_id TEXT NOT NULL,
  rights TEXT NOT NULL,        -- JSON array, sorted
  is_subscribed INTEGER NOT NULL,
  changed_modseq INTEGER NOT NULL,
  PRIMARY KEY (account_id, mailbox_id, user_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX mailbox_share_by_account_user ON mailbox_share (account_id, user_id);
-- directory: by user across accounts, for sign-in.
CREATE INDEX mailbox_share_by_user ON mailbox_share (user_id, account_id);

-- Emails that came into or left shared Mailboxes: the change log of who sees only those.
CREATE TABLE email_move (
  account_id TEXT NOT NULL,
  modseq INTEGER NOT NULL,
  doc_id INTEGER NOT NULL,
  mailbox_id TEXT NOT NULL,
  thread_id TEXT NOT NULL,
  is_in INTEGER NOT NULL,
  PRIMARY KEY (account_id, modseq, doc_id, mailbox_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX email_move_by_email ON email_move (account_id, doc_id, modseq);

-- What others read of a user: a Principal (RFC 9670 s2). Empty: not told.
ALTER TABLE user ADD COLUMN name TEXT NOT NULL DEFAULT '';
ALTER TABLE user ADD COLUMN description TEXT NOT NULL DEFAULT '';
ALTER TABLE user ADD COLUMN time_zone TEXT NOT NULL DEFAULT '';
"""

MIGRATIONS: Final[tuple[Migration, ...]] = (Migration(1, _FIRST), Migration(1, _SHARING))

SCHEMA_VERSION: Final = len(MIGRATIONS)
"""What this program makes of a file that it opens."""
SCHEMA_COMPAT_VERSION: Final = MIGRATIONS[-1].compat_version
"""The oldest program schema that may open a file made by this program."""

ACCOUNT_TABLES: Final[dict[str, tuple[str, ...]]] = {
    "type_state": ("type_name",),
    "tombstone": ("type_name", "modseq", "id"),
    "object": ("type_name", "id"),
    "mailbox": ("mailbox_id",),
    "mailbox_count": ("mailbox_id", "principal_id"),
    "email": ("doc_id",),
    "email_content": ("doc_id",),
    "email_mailbox": ("mailbox_id", "doc_id"),
    "email_keyword": ("keyword", "doc_id"),
    "email_mark": ("principal_id", "doc_id"),
    "thread": ("thread_id",),
    "thread_ref": ("ref", "thread_id"),
    "blob": ("blob_id",),
    "outbox": ("topic", "key"),
    "timer": ("kind", "key"),
    "dedup": ("key",),
    "secret": ("name",),
    "remote_message": ("mailbox_id", "uid"),
    "mailbox_share": ("mailbox_id", "user_id"),
    "email_move": ("modseq", "doc_id", "mailbox_id"),
}
"""Every account table but `account`, with what follows account_id in its key: erasing walks it."""


class ForeignFile(StoreError):
    """The file is no database of ours, or one that this program is too old for."""


def apply_migrations(conn: apsw.Connection) -> None:
    """Bring the file behind `conn` to SCHEMA_VERSION; all steps in one transaction.

    Raises: ForeignFile when the file is another program's, or too new.
    """
    conn.execute("BEGIN IMMEDIATE")
    try:
        found = _check_file(conn)
        if found < SCHEMA_VERSION:
            for migration in MIGRATIONS[found:]:
                conn.execute(migration.sql)
            conn.execute(
                "INSERT OR REPLACE INTO meta (key, value) VALUES ('compat_version', ?)",
                (SCHEMA_COMPAT_VERSION,),
            )
            conn.pragma("application_id", APPLICATION_ID)
            conn.pragma("user_version", SCHEMA_VERSION)
        conn.execute("COMMIT")
    finally:
        if conn.in_transaction:
            conn.execute("ROLLBACK")


def _check_file(conn: apsw.Connection) -> int:
    """The migration that the file has reached, 0 for an empty file."""
    application_id = conn.pragma("application_id")
    version = int(conn.pragma("user_version"))
    if application_id == 0 and version == 0:
        if conn.execute("SELECT count(*) FROM sqlite_schema").get:
            raise ForeignFile("the file is an SQLite database, but not one of Tindra")
        return 0
    if application_id != APPLICATION_ID:
        raise ForeignFile("the file is an SQLite database, but not one of Tindra")
    if version > SCHEMA_VERSION:
        compat = conn.execute("SELECT value FROM meta WHERE key = 'compat_version'").get
        if not isinstance(compat, int) or compat > SCHEMA_VERSION:
            raise ForeignFile(
                f"the database has schema {version}, which a newer Tindra made; this one knows"
                f" schema {SCHEMA_VERSION}. Start the newer version, or restore the backup that"
                " was made before the upgrade."
            )
    return version
