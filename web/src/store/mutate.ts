/**
 * Changing emails: shown at once, sent together with a sync, rolled back by name where the server
 * refuses. RFC 8620 s5.3
 */
import { Batch, type Call } from '../jmap/batch';
import { OfflineError } from '../jmap/errors';
import type { Email, Id, Mailbox, PatchObject, SetErrorObject, SetResponse } from '../jmap/types';
import type { Change } from './cache';
import { addDelta, countDeltas, sumDelta, type CountDelta } from './counts';
import { type Model } from './model';
import { applyPatch } from './patch';
import type { Syncer } from './sync';

export type Patches = ReadonlyMap<Id, PatchObject>;

/** What the server would not do: why, per email. Empty when all went well. */
export type Refusals = Map<Id, string>;

const SYNC_WITH_SET = new Set(['Mailbox', 'Thread', 'Email'] as const);

/**
 * Applies patches to emails.
 * @returns what was refused; those emails are back as they were
 * @throws when the request failed as a whole; everything is back as it was
 */
export async function mutateEmails(
  model: Model,
  syncer: Syncer,
  patches: Patches,
): Promise<Refusals> {
  const changes = new Map<Id, Change<Email>>();
  for (const [id, patch] of patches) changes.set(id, (email) => applyPatch(email, patch));
  const args = [...patches].map(([id, patch]) => [id, patch] as const);
  return await change(model, syncer, changes, (at, size) => ({
    update: Object.fromEntries(args.slice(at, at + size)),
  }));
}

/** Destroys emails for good; the same promises as `mutateEmails`. */
export async function destroyEmails(
  model: Model,
  syncer: Syncer,
  ids: readonly Id[],
): Promise<Refusals> {
  const changes = new Map<Id, Change<Email>>(ids.map((id) => [id, () => null]));
  return await change(model, syncer, changes, (at, size) => ({
    destroy: ids.slice(at, at + size),
  }));
}

async function change(
  model: Model,
  syncer: Syncer,
  changes: Map<Id, Change<Email>>,
  argumentsFor: (at: number, size: number) => Record<string, unknown>,
): Promise<Refusals> {
  const ids = [...changes.keys()];
  const before = snapshotThreads(model, ids);
  const marks = model.emails.apply(changes);
  const after = snapshotThreads(model, ids, before);
  const counts = model.mailboxes.apply(counterChanges(model, before, after));
  const list = model.activeList;
  const unhide = list?.hide(vanishedRows(model, before, after)) ?? (() => undefined);
  const send = async (): Promise<Refusals> => {
    const size = model.client.limits.maxObjectsInSet;
    const refused: Refusals = new Map();
    for (let at = 0; at < ids.length; at += size) {
      const batch = new Batch(model.accountId);
      const set = batch.call<SetResponse<Email>>('Email/set', argumentsFor(at, size));
      const isLast = at + size >= ids.length;
      const finish = isLast ? syncer.plan(batch, SYNC_WITH_SET) : null;
      await model.client.send(batch);
      await settleSet(set, ids.slice(at, at + size), marks, refused);
      if (finish) await catchUp(syncer, finish);
    }
    return refused;
  };
  try {
    return await model.lane.run(send);
  } catch (error) {
    marks.rollback();
    // The request may have been carried out although its answer was lost.
    void syncer.request(SYNC_WITH_SET).catch(() => undefined);
    throw error;
  } finally {
    counts.rollback();
    unhide();
  }
}

async function settleSet(
  set: Call<SetResponse<Email>>,
  ids: readonly Id[],
  marks: { confirm(ids: readonly Id[]): void; rollback(ids: readonly Id[]): void },
  refused: Refusals,
): Promise<void> {
  const answer = await set.result;
  const errors = { ...answer.notUpdated, ...answer.notDestroyed };
  for (const id of ids) {
    const error = errors[id];
    if (error) refused.set(id, explainSetError(error));
  }
  marks.rollback(ids.filter((id) => refused.has(id)));
  marks.confirm(ids.filter((id) => !refused.has(id)));
}

/** The change is done; a sync that fails now is repeated later and is no reason to roll back. */
async function catchUp(syncer: Syncer, finish: () => Promise<boolean>): Promise<void> {
  try {
    if (!(await finish())) await syncer.request(SYNC_WITH_SET);
  } catch (error) {
    if (!(error instanceof OfflineError)) console.warn('sync after a change failed', error);
  }
}

export function explainSetError(error: SetErrorObject): string {
  if (error.description) return error.description;
  switch (error.type) {
    case 'forbidden':
      return 'You may not change this.';
    case 'notFound':
      return 'It is no longer there.';
    case 'overQuota':
      return 'The mailbox is full.';
    case 'rateLimit':
      return 'That was too fast; try again in a moment.';
    case 'tooLarge':
      return 'It is too large.';
    default:
      return `The server refused (${error.type}).`;
  }
}

type Snapshot = Map<Id, Email[]>;

/** The emails of every thread the ids belong to, as the user sees them now. */
function snapshotThreads(model: Model, ids: readonly Id[], like?: Snapshot): Snapshot {
  const threadIds = like
    ? like.keys()
    : new Set(ids.map((id) => model.emails.get(id)?.threadId).filter((id) => id !== undefined));
  const snapshot: Snapshot = new Map();
  for (const threadId of threadIds) {
    const emailIds = model.threads.get(threadId)?.emailIds ?? ids;
    const emails = emailIds.map((id) => model.emails.get(id)).filter((email) => email !== undefined);
    snapshot.set(
      threadId,
      emails.filter((email) => email.threadId === threadId),
    );
  }
  return snapshot;
}

export function mailboxWithRole(model: Model, role: string): Mailbox | undefined {
  for (const mailbox of model.mailboxes.view.values()) if (mailbox.role === role) return mailbox;
  return undefined;
}

function counterChanges(
  model: Model,
  before: Snapshot,
  after: Snapshot,
): Map<Id, Change<Mailbox>> {
  const trashId = mailboxWithRole(model, 'trash')?.id ?? null;
  const sums = new Map<Id, CountDelta>();
  for (const [threadId, old] of before) {
    for (const [id, delta] of countDeltas(old, after.get(threadId) ?? [], trashId)) {
      sums.set(id, sumDelta(sums.get(id), delta));
    }
  }
  const changes = new Map<Id, Change<Mailbox>>();
  for (const [id, delta] of sums) changes.set(id, (mailbox) => addDelta(mailbox, delta));
  return changes;
}

/** Rows of the list on screen whose thread has just left it. */
function vanishedRows(model: Model, before: Snapshot, after: Snapshot): Id[] {
  const list = model.activeList;
  if (!list) return [];
  const hiddenRoles = ['trash', 'junk'].map((role) => mailboxWithRole(model, role)?.id);
  const isListed = (email: Email): boolean =>
    list.spec.mailboxId === null
      ? Object.keys(email.mailboxIds).some((id) => !hiddenRoles.includes(id))
      : list.spec.mailboxId in email.mailboxIds;
  const vanished: Id[] = [];
  for (const [threadId, old] of before) {
    const now = after.get(threadId) ?? [];
    if (now.some(isListed)) continue;
    vanished.push(...old.map((email) => email.id));
  }
  return vanished;
}
