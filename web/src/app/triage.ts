/** What the acts of triage mean for each email of a thread, as patches. Pure. */
import type { Email, Id, Mailbox, MailboxRole, PatchObject } from '../jmap/types';
import { pointer } from '../store/patch';

export interface TriageContext {
  /** The mailbox whose list the user acts in; null in a search or among the starred. */
  mailboxId: Id | null;
  roleId: (role: MailboxRole) => Id | null;
}

export type PatchMap = Map<Id, PatchObject>;

/** The emails an act is about: those in this list, or in a search all that are still about. */
function concerned(emails: readonly Email[], context: TriageContext): Email[] {
  const { mailboxId } = context;
  if (mailboxId !== null) return emails.filter((email) => mailboxId in email.mailboxIds);
  const trashId = context.roleId('trash');
  return emails.filter((email) => trashId === null || !(trashId in email.mailboxIds));
}

/**
 * Takes mail out of the mailbox in view (in a search: out of the inbox) and files it.
 * @param archiveId where it goes; a mailbox of role `all` will do where there is no archive
 */
export function archivePatches(
  emails: readonly Email[],
  context: TriageContext,
  archiveId: Id,
): PatchMap {
  const fromId = context.mailboxId ?? context.roleId('inbox');
  const patches: PatchMap = new Map();
  if (fromId === null || fromId === archiveId) return patches;
  for (const email of emails) {
    if (!(fromId in email.mailboxIds)) continue;
    patches.set(email.id, {
      [pointer('mailboxIds', fromId)]: null,
      [pointer('mailboxIds', archiveId)]: true,
    });
  }
  return patches;
}

/** Leaves the mail in one mailbox only; its own copy in Sent is not touched from elsewhere. */
export function movePatches(
  emails: readonly Email[],
  context: TriageContext,
  targetId: Id,
): PatchMap {
  const patches: PatchMap = new Map();
  const kept = new Set([context.roleId('sent'), context.roleId('drafts')]);
  const isBin = targetId === context.roleId('trash') || targetId === context.roleId('junk');
  for (const email of concerned(emails, context)) {
    const from = Object.keys(email.mailboxIds).filter((id) => id !== targetId);
    const isOwn = from.some((id) => kept.has(id));
    if (isOwn && !isBin && context.mailboxId === null) continue;
    const left = context.mailboxId !== null && !isBin ? [context.mailboxId] : from;
    if (left.length === 0 || left.includes(targetId)) continue;
    const patch: PatchObject = { [pointer('mailboxIds', targetId)]: true };
    for (const id of left) patch[pointer('mailboxIds', id)] = null;
    patches.set(email.id, patch);
  }
  return patches;
}

export function junkPatches(
  emails: readonly Email[],
  context: TriageContext,
  targetId: Id,
  isJunk: boolean,
): PatchMap {
  const patches = movePatches(emails, context, targetId);
  for (const patch of patches.values()) {
    patch['keywords/$junk'] = isJunk || null;
    patch['keywords/$notjunk'] = isJunk ? null : true;
  }
  return patches;
}

export function readPatches(emails: readonly Email[]): PatchMap {
  const unread = emails.filter((email) => !email.keywords['$seen']);
  return new Map(unread.map((email) => [email.id, { 'keywords/$seen': true }]));
}

/** Only the last message becomes unread: that is the one a person wants to come back to. */
export function unreadPatches(emails: readonly Email[]): PatchMap {
  const last = emails.filter((email) => email.keywords['$seen']).at(-1);
  return new Map(last ? [[last.id, { 'keywords/$seen': null }]] : []);
}

/** Stars the last message, or takes every star of the thread away. */
export function starPatches(emails: readonly Email[], isStarred: boolean): PatchMap {
  if (!isStarred) {
    const starred = emails.filter((email) => email.keywords['$flagged']);
    return new Map(starred.map((email) => [email.id, { 'keywords/$flagged': null }]));
  }
  const last = emails.at(-1);
  return new Map(last ? [[last.id, { 'keywords/$flagged': true }]] : []);
}

/** Mailboxes in the order people expect: those with a role first, then a tree by name. */
export interface MailboxNode {
  mailbox: Mailbox;
  depth: number;
}

const ROLE_ORDER: readonly (MailboxRole | null)[] = [
  'inbox',
  'important',
  'snoozed',
  'drafts',
  'scheduled',
  'sent',
  'archive',
  'all',
  'junk',
  'trash',
];

export function orderMailboxes(mailboxes: Iterable<Mailbox>): {
  system: MailboxNode[];
  own: MailboxNode[];
} {
  const all = [...mailboxes];
  const rank = (mailbox: Mailbox): number => ROLE_ORDER.indexOf(mailbox.role);
  const system = all
    .filter((mailbox) => rank(mailbox) >= 0)
    .sort((a, b) => rank(a) - rank(b))
    .map((mailbox) => ({ mailbox, depth: 0 }));
  const known = new Set(all.map((mailbox) => mailbox.id));
  const children = new Map<Id | null, Mailbox[]>();
  for (const mailbox of all) {
    const isRoot = mailbox.parentId === null || !known.has(mailbox.parentId);
    const parentId = isRoot ? null : mailbox.parentId;
    children.set(parentId, [...(children.get(parentId) ?? []), mailbox]);
  }
  const own: MailboxNode[] = [];
  const seen = new Set<Id>();
  const walk = (parentId: Id | null, depth: number): void => {
    const here = (children.get(parentId) ?? []).sort(
      (a, b) => a.sortOrder - b.sortOrder || a.name.localeCompare(b.name),
    );
    for (const mailbox of here) {
      // A loop of parents is the server's mistake, but must not hang the page.
      if (seen.has(mailbox.id)) continue;
      seen.add(mailbox.id);
      const isSystem = rank(mailbox) >= 0;
      if (!isSystem) own.push({ mailbox, depth });
      walk(mailbox.id, isSystem ? depth : depth + 1);
    }
  };
  walk(null, 0);
  return { system, own };
}
