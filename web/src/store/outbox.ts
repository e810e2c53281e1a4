/**
 * Saving drafts and sending them. One draft is one Email on the server: a new version is created
 * and the old one destroyed in the same request, and only one save is ever under way, so that a
 * draft cannot multiply. RFC 8621 s7.5
 */
import { Batch } from '../jmap/batch';
import { SUBMISSION, type Email, type Id, type Identity, type SetResponse } from '../jmap/types';
import type { AccountStore } from './account.svelte';
import { buildEmail, buildSubmission, type DraftContent } from './draft';
import { Lane, type SyncedType } from './model';
import { explainSetError } from './mutate';

/** How long a message can be called back. */
export const UNDO_SEND_SECONDS = 8;

const AFTER_SAVE: readonly SyncedType[] = ['Email', 'Thread', 'Mailbox'];

export interface SentMessage {
  emailId: Id;
  /** Calls the message back; throws with a sentence when it has already gone. */
  undo: (() => Promise<void>) | null;
}

export class Outbox {
  readonly #store: AccountStore;
  /** The server's copy of this draft, if it has one. */
  savedId: Id | null;
  readonly #lane = new Lane();

  constructor(store: AccountStore, savedId: Id | null = null) {
    this.#store = store;
    this.savedId = savedId;
  }

  get maxHoldSeconds(): number {
    const session = this.#store.client.session;
    const own = session.accounts[this.#store.accountId]?.accountCapabilities[SUBMISSION];
    const value = own?.['maxDelayedSend'];
    return typeof value === 'number' ? value : 0;
  }

  save(content: DraftContent, identity: Identity): Promise<Id> {
    return this.#lane.run(async () => {
      const draftsId = await this.#draftsId();
      const batch = new Batch(this.#store.accountId);
      const set = this.#addSave(batch, content, identity, draftsId);
      await this.#store.client.send(batch);
      this.savedId = createdId(await set.result, 'draft');
      this.#store.sync(AFTER_SAVE);
      return this.savedId;
    });
  }

  /** Saves the final version and hands it in, in one request. */
  send(content: DraftContent, identity: Identity): Promise<SentMessage> {
    return this.#lane.run(async () => {
      const draftsId = await this.#draftsId();
      const sentId = this.#store.mailboxFor('sent')?.id ?? null;
      const hold = this.maxHoldSeconds >= UNDO_SEND_SECONDS ? UNDO_SEND_SECONDS : 0;
      const batch = new Batch(this.#store.accountId);
      const set = this.#addSave(batch, content, identity, draftsId);
      const submission = batch.call<SetResponse<{ id: Id; undoStatus: string }>>(
        'EmailSubmission/set',
        buildSubmission('#draft', content, identity, { draftsId, sentId }, hold),
      );
      await this.#store.client.send(batch);
      const emailId = createdId(await set.result, 'draft');
      this.savedId = emailId;
      try {
        const submissionId = createdId(await submission.result, 'send');
        const undo = (): Promise<void> => this.#cancel(submissionId, emailId, draftsId, sentId);
        return { emailId, undo: hold > 0 ? undo : null };
      } finally {
        this.#store.sync(AFTER_SAVE);
      }
    });
  }

  async discard(): Promise<void> {
    await this.#lane.run(async () => {
      if (this.savedId === null) return;
      const id = this.savedId;
      this.savedId = null;
      await this.#store.destroy([id]);
    });
  }

  #addSave(
    batch: Batch,
    content: DraftContent,
    identity: Identity,
    draftsId: Id,
  ): { result: Promise<SetResponse<Email>> } {
    return batch.call<SetResponse<Email>>('Email/set', {
      create: { draft: buildEmail(content, identity, draftsId) },
      ...(this.savedId !== null && { destroy: [this.savedId] }),
    });
  }

  async #cancel(
    submissionId: Id,
    emailId: Id,
    draftsId: Id,
    sentId: Id | null,
  ): Promise<void> {
    const back: Record<string, unknown> = { 'keywords/$draft': true };
    if (sentId !== null && sentId !== draftsId) {
      back[`mailboxIds/${sentId}`] = null;
      back[`mailboxIds/${draftsId}`] = true;
    }
    const batch = new Batch(this.#store.accountId);
    const cancel = batch.call<SetResponse<{ id: Id }>>('EmailSubmission/set', {
      update: { [submissionId]: { undoStatus: 'canceled' } },
      onSuccessUpdateEmail: { [submissionId]: back },
    });
    await this.#store.client.send(batch);
    const error = (await cancel.result).notUpdated?.[submissionId];
    if (error) throw new Error('Too late: the message is on its way.');
    this.savedId = emailId;
    this.#store.sync(AFTER_SAVE);
  }

  async #draftsId(): Promise<Id> {
    return this.#store.mailboxFor('drafts')?.id ?? this.#store.createMailbox('Drafts', 'drafts');
  }
}

function createdId(answer: SetResponse<{ id: Id }>, creationId: string): Id {
  const created = answer.created?.[creationId];
  if (created) return created.id;
  throw new Error(explainSetError(answer.notCreated?.[creationId] ?? { type: 'serverFail' }));
}
