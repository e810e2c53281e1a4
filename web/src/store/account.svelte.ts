/**
 * One account as the user interface sees it: caches, the list on screen, and the live line.
 * The parts that do the work are in load, sync, bodies and mutate.
 */
import { Batch } from '../jmap/batch';
import type { Client } from '../jmap/client';
import { explain, OfflineError, SignedOutError } from '../jmap/errors';
import { PushStream, type PushStatus } from '../jmap/push';
import {
  CONNECT,
  SUBMISSION,
  type Connection,
  type Email,
  type GetResponse,
  type Id,
  type Identity,
  type Mailbox,
  type MailboxRole,
  type SearchSnippet,
  type SetResponse,
  type StateChange,
  type Thread,
} from '../jmap/types';
import { Bodies } from './bodies';
import { ObjectCache } from './cache';
import { fetchPage, fetchThreads } from './load';
import { QueryList, type QuerySpec } from './list.svelte';
import { Lane, SYNCED_TYPES, type Model, type SyncedType } from './model';
import {
  destroyEmails,
  explainSetError,
  mailboxWithRole,
  mutateEmails,
  type Patches,
  type Refusals,
} from './mutate';
import { Syncer } from './sync';
import { SvelteMap } from 'svelte/reactivity';

const PING_SECONDS = 30;
/** How often to ask while the live line is down. */
const POLL_MS = 30_000;
/** Lists kept as they were left, so that going back is instant. */
const LISTS_KEPT = 8;

export class AccountStore implements Model {
  readonly mailboxes = new ObjectCache<Mailbox>();
  readonly emails = new ObjectCache<Email>();
  readonly threads = new ObjectCache<Thread>();
  readonly identities = new ObjectCache<Identity>();
  readonly connections = new ObjectCache<Connection>();
  readonly snippets = new SvelteMap<Id, SearchSnippet>();
  readonly lane = new Lane();
  readonly bodies: Bodies;
  readonly syncer: Syncer;
  readonly connectAccountId: Id;
  activeList = $state.raw<QueryList | null>(null);
  isLoaded = $state(false);
  pushStatus = $state<PushStatus>('closed');
  #lists = new Map<string, QueryList>();
  #push: PushStream;
  #poll: ReturnType<typeof setInterval> | undefined;

  constructor(
    readonly client: Client,
    readonly accountId: Id,
  ) {
    this.connectAccountId = client.session.primaryAccounts[CONNECT] ?? accountId;
    this.bodies = new Bodies(this);
    this.syncer = new Syncer(this);
    this.#push = new PushStream({
      open: (signal) =>
        client.fetchAuthorized(client.eventSourceUrl(SYNCED_TYPES, PING_SECONDS), {
          signal,
          headers: { Accept: 'text/event-stream' },
        }),
      onOpen: () => this.sync(),
      onStateChange: (change) => this.#onStateChange(change),
      onStatus: (status) => (this.pushStatus = status),
      pingSeconds: PING_SECONDS,
    });
  }

  /** Loads what is always shown, then goes live. Throws when the server cannot be read. */
  async start(): Promise<void> {
    const batch = new Batch(this.accountId);
    const mailboxes = batch.call<GetResponse<Mailbox>>('Mailbox/get', { ids: null });
    const identities =
      this.client.has(SUBMISSION) ?
        batch.call<GetResponse<Identity>>('Identity/get', { ids: null })
      : null;
    const connections =
      this.client.has(CONNECT) ?
        batch.call<GetResponse<Connection>>('Connection/get', {
          accountId: this.connectAccountId,
          ids: null,
        })
      : null;
    await this.client.send(batch);
    const answer = await mailboxes.result;
    this.mailboxes.replaceAll(answer.list, answer.state);
    await this.#takeOptional(identities?.result, this.identities);
    await this.#takeOptional(connections?.result, this.connections);
    this.isLoaded = true;
    this.#push.start();
    this.#poll = setInterval(() => {
      if (this.#push.status !== 'open') this.sync();
    }, POLL_MS);
  }

  /** Mail can be read without these; a server that refuses them is no reason to show nothing. */
  async #takeOptional<T extends { id: Id }>(
    result: Promise<GetResponse<T>> | undefined,
    cache: ObjectCache<T>,
  ): Promise<void> {
    if (!result) return;
    try {
      const answer = await result;
      cache.replaceAll(answer.list, answer.state);
    } catch (error) {
      console.warn('not available on this server', error);
    }
  }

  stop(): void {
    clearInterval(this.#poll);
    this.#push.stop();
  }

  /** Asks the server for news; failures are left to the live line and the poll. */
  sync(types: Iterable<SyncedType> = SYNCED_TYPES): void {
    this.syncer.request(types).catch((error: unknown) => {
      if (error instanceof OfflineError || error instanceof SignedOutError) return;
      console.warn('sync failed', error);
    });
  }

  /** The page woke up or the network came back: trust nothing, dial again. */
  wake(isNetworkChanged: boolean): void {
    if (isNetworkChanged) this.#push.redial();
    else this.#push.poke();
    if (this.#push.status === 'open') this.sync();
  }

  #onStateChange(change: StateChange): void {
    const behind: SyncedType[] = [];
    for (const type of SYNCED_TYPES) {
      const accountId = type === 'Connection' ? this.connectAccountId : this.accountId;
      const state = change.changed[accountId]?.[type];
      if (state !== undefined && state !== this.#cacheOf(type).state) behind.push(type);
    }
    if (behind.length > 0) this.sync(behind);
  }

  #cacheOf(type: SyncedType): ObjectCache<{ id: Id }> {
    const caches = {
      Mailbox: this.mailboxes,
      Thread: this.threads,
      Email: this.emails,
      Identity: this.identities,
      Connection: this.connections,
    };
    return caches[type] as unknown as ObjectCache<{ id: Id }>;
  }

  mailboxFor(role: MailboxRole): Mailbox | undefined {
    return mailboxWithRole(this, role);
  }

  /** Makes a list the one on screen; what was loaded of it before is shown at once. */
  openList(spec: QuerySpec): QueryList {
    const known = this.#lists.get(spec.key);
    const list = known ?? new QueryList(spec);
    this.#lists.delete(spec.key);
    this.#lists.set(spec.key, list);
    const [oldest] = this.#lists.keys();
    if (this.#lists.size > LISTS_KEPT && oldest !== undefined) this.#lists.delete(oldest);
    this.activeList = list;
    if (known?.phase === 'ready') this.sync(['Email']);
    else void this.loadPage(list, 0);
    return list;
  }

  /** Loads what the rows on screen still need. */
  wantRows(list: QueryList, from: number, to: number): void {
    list.firstVisible = from;
    for (const position of list.missingPages(from, to)) void this.loadPage(list, position);
  }

  async loadPage(list: QueryList, position: number): Promise<void> {
    if (list.phase === 'failed') list.phase = 'loading';
    try {
      await fetchPage(this, list, position);
      if (list.spec.isSearch) await this.#loadSnippets(list, position);
    } catch (error) {
      list.fail(explain(error));
    }
  }

  async #loadSnippets(list: QueryList, position: number): Promise<void> {
    const ids = list.ids.slice(position, position + 50).filter((id) => id !== undefined);
    if (ids.length === 0) return;
    const batch = new Batch(this.accountId);
    const call = batch.call<{ list: SearchSnippet[] }>('SearchSnippet/get', {
      filter: list.spec.filter,
      emailIds: ids,
    });
    try {
      await this.client.send(batch);
      for (const snippet of (await call.result).list) this.snippets.set(snippet.emailId, snippet);
    } catch (error) {
      console.warn('no search snippets', error);
    }
  }

  /** Makes sure a thread is here, for a link that was opened directly. */
  async openThread(threadId: Id): Promise<void> {
    if (this.threads.has(threadId)) return;
    await fetchThreads(this, [threadId]);
  }

  emailsOf(threadId: Id): Email[] {
    const ids = this.threads.get(threadId)?.emailIds ?? [];
    return ids.map((id) => this.emails.get(id)).filter((email) => email !== undefined);
  }

  mutate(patches: Patches): Promise<Refusals> {
    return mutateEmails(this, this.syncer, patches);
  }

  destroy(ids: readonly Id[]): Promise<Refusals> {
    return destroyEmails(this, this.syncer, ids);
  }

  /** Creates a mailbox; throws with a sentence when the server refuses. */
  async createMailbox(name: string, role: MailboxRole | null): Promise<Id> {
    const batch = new Batch(this.accountId);
    const set = batch.call<SetResponse<Mailbox>>('Mailbox/set', {
      create: { new: { name, role, parentId: null } },
    });
    await this.client.send(batch);
    const answer = await set.result;
    const created = answer.created?.['new'];
    if (!created) {
      const error = answer.notCreated?.['new'] ?? { type: 'serverFail' };
      throw new Error(explainSetError(error));
    }
    await this.syncer.request(['Mailbox']);
    return created.id;
  }
}
