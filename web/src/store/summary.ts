/** What one row of the list says about its thread. Pure. */
import type { Email, EmailAddress, Id, Mailbox, Thread } from '../jmap/types';
import { displayName, firstName } from '../text/names';

export interface RowSummary {
  /** Who to show, in order of appearance; the avatar belongs to `face`. */
  people: { label: string; isUnread: boolean }[];
  face: EmailAddress;
  count: number;
  isUnread: boolean;
  isStarred: boolean;
  isAnswered: boolean;
  isDraft: boolean;
  hasAttachment: boolean;
  date: string;
  subject: string;
  preview: string;
}

export interface RowContext {
  /** Addresses of the user, in lower case. */
  own: ReadonlySet<string>;
  role: Mailbox['role'];
  trashId: Id | null;
}

const NOBODY: EmailAddress = { name: null, email: '' };

/**
 * @param head the email the list names; the row shows its date and preview
 * @param thread all emails of the thread, oldest first
 */
export function summarize(
  head: Email,
  thread: readonly Email[],
  context: RowContext,
): RowSummary {
  const isOutgoing = context.role === 'sent' || context.role === 'drafts';
  const emails = relevant(head, thread, context);
  const people = isOutgoing ? recipients(head) : senders(emails, context.own);
  return {
    people,
    face: (isOutgoing ? head.to?.[0] : lastSender(emails, context.own)) ?? NOBODY,
    count: emails.filter((email) => !email.keywords['$draft']).length,
    // What one has sent is not unread because an answer to it is.
    isUnread: (isOutgoing ? [head] : emails).some((email) => !email.keywords['$seen']),
    isStarred: emails.some((email) => email.keywords['$flagged']),
    isAnswered: Boolean(head.keywords['$answered']),
    isDraft: emails.some((email) => email.keywords['$draft']),
    hasAttachment: emails.some((email) => email.hasAttachment),
    date: head.receivedAt,
    subject: head.subject?.trim() || '(no subject)',
    preview: head.preview,
  };
}

/** Mail of the thread that was thrown away does not speak for it, unless the trash is shown. */
function relevant(head: Email, thread: readonly Email[], context: RowContext): readonly Email[] {
  if (context.role === 'trash' || context.trashId === null) return thread.length ? thread : [head];
  const trashId = context.trashId;
  const kept = thread.filter((email) => Object.keys(email.mailboxIds).some((id) => id !== trashId));
  return kept.length > 0 ? kept : [head];
}

function isOwn(address: EmailAddress | undefined, own: ReadonlySet<string>): boolean {
  return address !== undefined && own.has(address.email.toLowerCase());
}

function lastSender(emails: readonly Email[], own: ReadonlySet<string>): EmailAddress | undefined {
  const others = emails.filter((email) => !isOwn(email.from?.[0], own));
  return (others.at(-1) ?? emails.at(-1))?.from?.[0];
}

function senders(emails: readonly Email[], own: ReadonlySet<string>): RowSummary['people'] {
  const byAddress = new Map<string, { address: EmailAddress; isUnread: boolean }>();
  for (const email of emails) {
    const address = email.from?.[0] ?? NOBODY;
    const key = isOwn(address, own) ? '' : address.email.toLowerCase();
    const known = byAddress.get(key);
    const isUnread = !email.keywords['$seen'] || (known?.isUnread ?? false);
    byAddress.set(key, { address: known?.address ?? address, isUnread });
  }
  const isAlone = byAddress.size === 1;
  return [...byAddress].map(([key, { address, isUnread }]) => ({
    label: key === '' && address.email ? 'me' : isAlone ? displayName(address) : firstName(address),
    isUnread,
  }));
}

function recipients(head: Email): RowSummary['people'] {
  const to = [...(head.to ?? []), ...(head.cc ?? [])];
  if (to.length === 0) return [{ label: 'No recipients', isUnread: false }];
  return to.map((address) => ({
    label: to.length === 1 ? displayName(address) : firstName(address),
    isUnread: false,
  }));
}

/** The thread as a set of rows was read, or the head alone while it is not. */
export function threadEmails(
  head: Email,
  thread: Thread | undefined,
  get: (id: Id) => Email | undefined,
): Email[] {
  if (!thread) return [head];
  const emails = thread.emailIds.map(get).filter((email) => email !== undefined);
  return emails.length > 0 ? emails : [head];
}
