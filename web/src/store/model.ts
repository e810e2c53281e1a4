/** What one account's store consists of; shared by the parts that fill, sync and change it. */
import type { Client } from '../jmap/client';
import type { Connection, Email, Id, Identity, Mailbox, Thread } from '../jmap/types';
import type { ObjectCache } from './cache';
import type { QueryList } from './list.svelte';

export interface Model {
  readonly client: Client;
  readonly accountId: Id;
  /** Connections may live in another account than the mail, such as a person's home account. */
  readonly connectAccountId: Id;
  readonly mailboxes: ObjectCache<Mailbox>;
  readonly emails: ObjectCache<Email>;
  readonly threads: ObjectCache<Thread>;
  readonly identities: ObjectCache<Identity>;
  readonly connections: ObjectCache<Connection>;
  readonly activeList: QueryList | null;
  readonly lane: Lane;
}

export const SYNCED_TYPES = ['Mailbox', 'Thread', 'Email', 'Identity', 'Connection'] as const;
export type SyncedType = (typeof SYNCED_TYPES)[number];

/** Enough of an Email to draw its row and its collapsed line in a thread. */
export const ROW_PROPERTIES = [
  'id',
  'blobId',
  'threadId',
  'mailboxIds',
  'keywords',
  'size',
  'receivedAt',
  'from',
  'to',
  'cc',
  'subject',
  'preview',
  'hasAttachment',
];

/** What else it takes to read it. */
export const BODY_PROPERTIES = [
  'id',
  'bcc',
  'replyTo',
  'sentAt',
  'messageId',
  'inReplyTo',
  'references',
  'textBody',
  'htmlBody',
  'attachments',
  'bodyValues',
];

/** The only standard properties of an Email that can ever change. Source: RFC 8621 s4.1.1 */
export const MUTABLE_PROPERTIES = ['id', 'mailboxIds', 'keywords'];

/** Cuts a list into pieces the server accepts. */
export function chunk<T>(items: readonly T[], size: number): T[][] {
  const chunks: T[][] = [];
  for (let at = 0; at < items.length; at += size) chunks.push(items.slice(at, at + size));
  return chunks;
}

/** Runs tasks one after the other, so that an undo can never overtake what it undoes. */
export class Lane {
  #last: Promise<unknown> = Promise.resolve();

  run<R>(task: () => Promise<R>): Promise<R> {
    const next = this.#last.then(task, task);
    this.#last = next.catch(() => undefined);
    return next;
  }
}
