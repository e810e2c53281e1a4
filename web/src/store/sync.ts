/**
 * Catching up with the server: /changes for every cached type and /queryChanges for the list on
 * screen, in one request, then one more for what has to be read again. RFC 8620 s5.2, s5.6
 *
 * Invariant: an answer is folded only into the exact state it starts from. Two syncs that overlap
 * can therefore do the same work twice, but never harm.
 */
import { Batch, type Call } from '../jmap/batch';
import { isMethodError, MethodError } from '../jmap/errors';
import type { ChangesResponse, GetResponse, Id, QueryChangesResponse } from '../jmap/types';
import type { ObjectCache } from './cache';
import { emptyChangeSet, foldChanges, type ChangeSet } from './changes';
import { fetchEmails, fetchPage, fetchRows, fetchThreads, queryArguments } from './load';
import { PAGE_ROWS, type QueryList } from './list.svelte';
import { MUTABLE_PROPERTIES, SYNCED_TYPES, type Model, type SyncedType } from './model';

/** One page of changes; also the most a list is patched by before it is simply read again. */
const CHANGES_MAX = 500;
/** Further behind than this, reading what is on screen costs less than hearing what happened. */
const PAGES_MAX = 10;

/** What a fold found out: things to read again, and whether someone else was quicker. */
interface Findings {
  emails: Set<Id>;
  threads: Set<Id>;
  isOvertaken: boolean;
}

type Fold = (findings: Findings) => Promise<void>;

export class Syncer {
  readonly #model: Model;
  #wanted = new Set<SyncedType>();
  #running: Promise<void> | null = null;

  constructor(model: Model) {
    this.#model = model;
  }

  /** Brings these types up to date. Calls made while one runs share the next round. */
  request(types: Iterable<SyncedType> = SYNCED_TYPES): Promise<void> {
    for (const type of types) this.#wanted.add(type);
    this.#running ??= this.#run().finally(() => (this.#running = null));
    return this.#running;
  }

  async #run(): Promise<void> {
    while (this.#wanted.size > 0) {
      const types = new Set(this.#wanted);
      this.#wanted.clear();
      const batch = new Batch(this.#model.accountId);
      const finish = this.plan(batch, types);
      if (batch.calls.length === 0) continue;
      await this.#model.client.send(batch);
      await finish();
    }
  }

  /**
   * Adds the calls of a sync to a batch that may begin with a change of the user's.
   * The returned function folds the answers; false when another sync was quicker, so that this
   * one's answers may not all be in the caches yet.
   */
  plan(batch: Batch, types: ReadonlySet<SyncedType>): () => Promise<boolean> {
    const model = this.#model;
    const folds: Fold[] = [];
    if (types.has('Mailbox')) folds.push(this.#planWhole(batch, 'Mailbox', model.mailboxes));
    if (types.has('Identity')) folds.push(this.#planWhole(batch, 'Identity', model.identities));
    if (types.has('Connection')) {
      folds.push(
        this.#planWhole(batch, 'Connection', model.connections, model.connectAccountId),
      );
    }
    if (types.has('Thread')) folds.push(this.#planThreads(batch));
    if (types.has('Email')) {
      folds.push(this.#planEmails(batch));
      if (model.activeList) folds.push(this.#planList(batch, model.activeList));
    }
    return async () => {
      const findings: Findings = { emails: new Set(), threads: new Set(), isOvertaken: false };
      for (const fold of folds) await fold(findings);
      await this.#readAgain(findings);
      return !findings.isOvertaken;
    };
  }

  /** A small type that is always cached whole. */
  #planWhole<T extends { id: Id }>(
    batch: Batch,
    type: SyncedType,
    cache: ObjectCache<T>,
    accountId = this.#model.accountId,
  ): Fold {
    if (cache.state === null) return async () => undefined;
    const call = batch.call<ChangesResponse>(`${type}/changes`, {
      accountId,
      sinceState: cache.state,
    });
    const gets = (['/created', '/updated'] as const).map((path) =>
      batch.call<GetResponse<T>>(`${type}/get`, { accountId, '#ids': call.ref(path) }),
    );
    return async (findings) => {
      try {
        const changes = await call.result;
        if (changes.oldState !== cache.state) {
          findings.isOvertaken = true;
          return;
        }
        for (const get of gets) cache.put((await get.result).list);
        cache.remove(changes.destroyed);
        cache.state = changes.newState;
        if (changes.hasMoreChanges) void this.request([type]).catch(() => undefined);
      } catch (error) {
        if (!isMethodError(error, 'cannotCalculateChanges')) throw error;
        await this.#reloadWhole(type, cache, accountId);
      }
    };
  }

  async #reloadWhole<T extends { id: Id }>(
    type: SyncedType,
    cache: ObjectCache<T>,
    accountId: Id,
  ): Promise<void> {
    const batch = new Batch(accountId);
    const get = batch.call<GetResponse<T>>(`${type}/get`, { ids: null });
    await this.#model.client.send(batch);
    const answer = await get.result;
    cache.replaceAll(answer.list, answer.state);
  }

  #planThreads(batch: Batch): Fold {
    const { threads } = this.#model;
    return this.#planPaged(batch, 'Thread', threads, async (changes, findings) => {
      if (changes === null) {
        for (const id of threads.ids()) findings.threads.add(id);
        threads.state = null;
        return;
      }
      threads.remove(changes.destroyed);
      for (const id of changes.updated) if (threads.has(id)) findings.threads.add(id);
    });
  }

  #planEmails(batch: Batch): Fold {
    const { emails } = this.#model;
    return this.#planPaged(batch, 'Email', emails, async (changes, findings) => {
      if (changes === null) {
        for (const id of emails.ids()) findings.emails.add(id);
        emails.state = null;
        return;
      }
      emails.remove(changes.destroyed);
      for (const id of changes.updated) if (emails.has(id)) findings.emails.add(id);
    });
  }

  /** A large type of which only a part is cached; `take` gets null when history was lost. */
  #planPaged<T extends { id: Id }>(
    batch: Batch,
    type: 'Email' | 'Thread',
    cache: ObjectCache<T>,
    take: (changes: ChangeSet | null, findings: Findings) => Promise<void>,
  ): Fold {
    if (cache.state === null) return async () => undefined;
    const sinceState = cache.state;
    const first = batch.call<ChangesResponse>(`${type}/changes`, {
      sinceState,
      maxChanges: CHANGES_MAX,
    });
    return async (findings) => {
      const read = await this.#readPages(type, first);
      if (cache.state !== sinceState) {
        findings.isOvertaken = true;
        return;
      }
      if (read) cache.state = read.state;
      await take(read?.changes ?? null, findings);
    };
  }

  /** All pages of changes folded into one; null when reading everything again is the way. */
  async #readPages(
    type: 'Email' | 'Thread',
    first: Call<ChangesResponse>,
  ): Promise<{ changes: ChangeSet; state: string } | null> {
    const changes = emptyChangeSet();
    let call = first;
    for (let page = 0; page < PAGES_MAX; page++) {
      try {
        const answer = await call.result;
        foldChanges(changes, answer);
        if (!answer.hasMoreChanges) return { changes, state: answer.newState };
        const batch = new Batch(this.#model.accountId);
        call = batch.call<ChangesResponse>(`${type}/changes`, {
          sinceState: answer.newState,
          maxChanges: CHANGES_MAX,
        });
        await this.#model.client.send(batch);
      } catch (error) {
        if (isMethodError(error, 'cannotCalculateChanges')) return null;
        throw error;
      }
    }
    return null;
  }

  #planList(batch: Batch, list: QueryList): Fold {
    if (list.queryState === null) return async () => undefined;
    if (list.isStale || !list.canCalculateChanges) return async () => this.reloadList(list);
    const call = batch.call<QueryChangesResponse>('Email/queryChanges', {
      ...queryArguments(list),
      sinceQueryState: list.queryState,
      maxChanges: CHANGES_MAX,
      calculateTotal: true,
    });
    return async (findings) => {
      try {
        const answer = await call.result;
        // Rows first, list second: a new mail must not flash up empty.
        const unknown = answer.added
          .map((item) => item.id)
          .filter((id) => !this.#model.emails.has(id));
        // What was added far below the part that is loaded is read when it is scrolled to.
        await fetchRows(this.#model, unknown.slice(0, PAGE_ROWS));
        if (!list.acceptChanges(answer)) findings.isOvertaken = true;
      } catch (error) {
        if (!(error instanceof MethodError)) throw error;
        // cannotCalculateChanges, tooManyChanges, or anything else: the query itself still works.
        await this.reloadList(list);
      }
    };
  }

  /** Asks for the list again, beginning with the part that was looked at last. */
  async reloadList(list: QueryList): Promise<void> {
    list.isStale = true;
    const last = Math.max(0, list.ids.length - 1);
    const start = Math.min(list.firstVisible, last);
    await fetchPage(this.#model, list, start - (start % PAGE_ROWS));
  }

  async #readAgain(findings: Findings): Promise<void> {
    const model = this.#model;
    if (findings.threads.size > 0) {
      await fetchThreads(model, [...findings.threads]);
    }
    const unread = [...findings.emails].filter((id) => model.emails.has(id));
    if (unread.length > 0) await fetchEmails(model, unread, MUTABLE_PROPERTIES);
  }
}
