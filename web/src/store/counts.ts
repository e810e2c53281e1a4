/** How mailbox counters move when the emails of one thread change. Pure. RFC 8621 s2 */
import type { Email, Id, Mailbox } from '../jmap/types';

export type CountDelta = Pick<
  Mailbox,
  'totalEmails' | 'unreadEmails' | 'totalThreads' | 'unreadThreads'
>;

type EmailMarks = Pick<Email, 'mailboxIds' | 'keywords'>;

/**
 * The difference per mailbox between two versions of one thread's emails.
 * @param trashId unread mail in the trash does not make a thread unread elsewhere
 */
export function countDeltas(
  before: readonly EmailMarks[],
  after: readonly EmailMarks[],
  trashId: Id | null,
): Map<Id, CountDelta> {
  const ids = new Set([...before, ...after].flatMap((email) => Object.keys(email.mailboxIds)));
  const deltas = new Map<Id, CountDelta>();
  for (const id of ids) {
    const old = countThread(before, id, trashId);
    const now = countThread(after, id, trashId);
    const delta = {
      totalEmails: now.totalEmails - old.totalEmails,
      unreadEmails: now.unreadEmails - old.unreadEmails,
      totalThreads: now.totalThreads - old.totalThreads,
      unreadThreads: now.unreadThreads - old.unreadThreads,
    };
    if (Object.values(delta).some((change) => change !== 0)) deltas.set(id, delta);
  }
  return deltas;
}

function countThread(emails: readonly EmailMarks[], mailboxId: Id, trashId: Id | null): CountDelta {
  const inside = emails.filter((email) => mailboxId in email.mailboxIds);
  const counted =
    mailboxId === trashId
      ? inside
      : emails.filter((email) => Object.keys(email.mailboxIds).some((id) => id !== trashId));
  const isUnread = (email: EmailMarks): boolean => !email.keywords['$seen'];
  return {
    totalEmails: inside.length,
    unreadEmails: inside.filter(isUnread).length,
    totalThreads: inside.length > 0 ? 1 : 0,
    unreadThreads: inside.length > 0 && counted.some(isUnread) ? 1 : 0,
  };
}

export function addDelta(mailbox: Mailbox, delta: CountDelta): Mailbox {
  const plus = (count: number, by: number): number => Math.max(0, count + by);
  return {
    ...mailbox,
    totalEmails: plus(mailbox.totalEmails, delta.totalEmails),
    unreadEmails: plus(mailbox.unreadEmails, delta.unreadEmails),
    totalThreads: plus(mailbox.totalThreads, delta.totalThreads),
    unreadThreads: plus(mailbox.unreadThreads, delta.unreadThreads),
  };
}

export function sumDelta(a: CountDelta | undefined, b: CountDelta): CountDelta {
  if (!a) return b;
  return {
    totalEmails: a.totalEmails + b.totalEmails,
    unreadEmails: a.unreadEmails + b.unreadEmails,
    totalThreads: a.totalThreads + b.totalThreads,
    unreadThreads: a.unreadThreads + b.unreadThreads,
  };
}
