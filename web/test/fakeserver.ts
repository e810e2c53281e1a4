/**
 * A JMAP server in memory, just true enough to keep a client honest: states, change logs, sparse
 * queries, and ways to fail on purpose.
 */
import type { Fetch } from '../src/jmap/client';
import {
  CORE,
  MAIL,
  type Email,
  type Id,
  type Invocation,
  type Mailbox,
  type PatchObject,
  type Thread,
} from '../src/jmap/types';
import { applyPatch } from '../src/store/patch';

type TypeName = 'Mailbox' | 'Thread' | 'Email';
type Kind = 'created' | 'updated' | 'destroyed';
type Args = Record<string, unknown>;

class Refusal extends Error {
  constructor(readonly type: string) {
    super(type);
  }
}

export class FakeServer {
  readonly mailboxes = new Map<Id, Mailbox>();
  readonly threads = new Map<Id, Thread>();
  readonly emails = new Map<Id, Email>();
  readonly requests: Invocation[][] = [];
  /** Ids whose updates are refused as forbidden. */
  readonly forbidden = new Set<Id>();
  /** Makes the next request fail as the network does, after or before it was carried out. */
  failNext: 'before' | 'after' | null = null;
  canCalculateChanges = true;
  /** Held until the test lets it go; the answer is made before, as it is on a slow line. */
  gate: Promise<void> | null = null;
  maxChanges = 500;
  #modseq = 1;
  #floor = 0;
  #log: { modseq: number; type: TypeName; id: Id; kind: Kind }[] = [];
  #results = new Map<string, Id[]>();
  #stream: ReadableStreamDefaultController<Uint8Array> | null = null;

  constructor() {
    for (const role of ['inbox', 'archive', 'trash', 'drafts', 'sent'] as const) this.#addMailbox(role);
  }

  #addMailbox(role: 'inbox' | 'archive' | 'trash' | 'drafts' | 'sent'): void {
    const counts = { totalEmails: 0, unreadEmails: 0, totalThreads: 0, unreadThreads: 0 };
    const rest = { parentId: null, sortOrder: 0, isSubscribed: true };
    this.mailboxes.set(role, { id: role, name: role, role, ...counts, ...rest });
    this.#note('Mailbox', role, 'created');
  }

  /** Adds an email; ids sort by age, so `m02` is newer than `m01`. */
  addEmail(id: Id, mailboxId: Id, options: { threadId?: Id; isSeen?: boolean } = {}): void {
    const threadId = options.threadId ?? `t-${id}`;
    this.emails.set(id, {
      id,
      blobId: `b-${id}`,
      threadId,
      mailboxIds: { [mailboxId]: true },
      keywords: options.isSeen ? { $seen: true } : {},
      size: 1,
      receivedAt: '2024-05-01T10:00:00Z',
      from: [{ name: 'Anna', email: 'anna@example.org' }],
      to: null,
      cc: null,
      subject: `Subject of ${id}`,
      preview: '',
      hasAttachment: false,
    });
    const thread = this.threads.get(threadId);
    this.threads.set(threadId, { id: threadId, emailIds: [...(thread?.emailIds ?? []), id] });
    this.#note('Thread', threadId, thread ? 'updated' : 'created');
    this.#note('Email', id, 'created');
    this.#recount();
  }

  updateEmail(id: Id, patch: PatchObject): void {
    const email = this.emails.get(id);
    if (!email) throw new Refusal('notFound');
    this.emails.set(id, applyPatch(email, patch));
    this.#note('Email', id, 'updated');
    this.#recount();
  }

  destroyEmail(id: Id): void {
    const email = this.emails.get(id);
    if (!email) throw new Refusal('notFound');
    this.emails.delete(id);
    this.#note('Email', id, 'destroyed');
    const left = (this.threads.get(email.threadId)?.emailIds ?? []).filter((other) => other !== id);
    if (left.length > 0) this.threads.set(email.threadId, { id: email.threadId, emailIds: left });
    else this.threads.delete(email.threadId);
    this.#note('Thread', email.threadId, left.length > 0 ? 'updated' : 'destroyed');
    this.#recount();
  }

  /** Loses all history: every state given out so far is too old. */
  forget(): void {
    this.#floor = ++this.#modseq;
    this.#results.clear();
  }

  /** Tells the open line what the states are. */
  push(): void {
    const changed = { a: { Email: this.#state('Email'), Mailbox: this.#state('Mailbox'), Thread: this.#state('Thread') } };
    const event = `event: state\ndata: ${JSON.stringify({ '@type': 'StateChange', changed })}\n\n`;
    this.#stream?.enqueue(new TextEncoder().encode(event));
  }

  hangUp(): void {
    this.#stream?.close();
    this.#stream = null;
  }

  readonly fetch: Fetch = async (url, init) => {
    if (url === '/.well-known/jmap') return Response.json(this.#session());
    if (url.startsWith('/events')) {
      const body = new ReadableStream<Uint8Array>({ start: (stream) => void (this.#stream = stream) });
      return new Response(body);
    }
    const failure = this.failNext;
    this.failNext = null;
    if (failure === 'before') throw new TypeError('network');
    const { methodCalls } = JSON.parse(String(init?.body)) as { methodCalls: Invocation[] };
    this.requests.push(methodCalls);
    const answer = JSON.stringify({ methodResponses: this.#dispatch(methodCalls), sessionState: 's' });
    await this.gate;
    if (failure === 'after') throw new TypeError('network');
    return new Response(answer);
  };

  #session(): object {
    const capabilities = { [CORE]: { maxObjectsInGet: 500, maxCallsInRequest: 32 }, [MAIL]: {} };
    return {
      capabilities,
      accounts: { a: { name: 'a', isPersonal: true, isReadOnly: false, accountCapabilities: capabilities } },
      primaryAccounts: { [MAIL]: 'a' },
      username: 'elin@example.org',
      apiUrl: 'https://x.example/api',
      downloadUrl: 'https://x.example/d',
      uploadUrl: 'https://x.example/u',
      eventSourceUrl: 'https://x.example/events?types={types}',
      state: 's',
    };
  }

  #note(type: TypeName, id: Id, kind: Kind): void {
    this.#log.push({ modseq: ++this.#modseq, type, id, kind });
  }

  #state(type: TypeName): string {
    const last = this.#log.findLast((entry) => entry.type === type)?.modseq ?? 0;
    return String(Math.max(last, this.#floor));
  }

  #recount(): void {
    for (const [id, mailbox] of this.mailboxes) {
      const inside = [...this.emails.values()].filter((email) => id in email.mailboxIds);
      const unread = inside.filter((email) => !email.keywords['$seen']);
      const next = {
        ...mailbox,
        totalEmails: inside.length,
        unreadEmails: unread.length,
        totalThreads: new Set(inside.map((email) => email.threadId)).size,
        unreadThreads: new Set(unread.map((email) => email.threadId)).size,
      };
      if (JSON.stringify(next) === JSON.stringify(mailbox)) continue;
      this.mailboxes.set(id, next);
      this.#note('Mailbox', id, 'updated');
    }
  }

  #dispatch(calls: Invocation[]): Invocation[] {
    const done: Invocation[] = [];
    for (const [name, args, callId] of calls) {
      try {
        done.push([name, this.#method(name, resolve(args, done)), callId]);
      } catch (error) {
        if (!(error instanceof Refusal)) throw error;
        done.push(['error', { type: error.type }, callId]);
      }
    }
    return done;
  }

  #method(name: string, args: Args): Args {
    const [type, verb] = name.split('/') as [TypeName, string];
    if (name === 'Email/query') return this.#query(args);
    if (name === 'Email/queryChanges') return this.#queryChanges(args);
    if (name === 'Email/set') return this.#set(args);
    if (verb === 'get') return this.#get(type, args);
    if (verb === 'changes') return this.#changes(type, args);
    throw new Refusal('unknownMethod');
  }

  #map(type: TypeName): Map<Id, object> {
    return { Mailbox: this.mailboxes, Thread: this.threads, Email: this.emails }[type];
  }

  #get(type: TypeName, args: Args): Args {
    const map = this.#map(type);
    const ids = [...new Set((args['ids'] as Id[] | null) ?? map.keys())];
    const properties = args['properties'] as string[] | undefined;
    const list = ids.flatMap((id) => {
      const object = map.get(id) as Args | undefined;
      if (!object) return [];
      if (!properties) return [object];
      return [Object.fromEntries(['id', ...properties].map((key) => [key, object[key] ?? null]))];
    });
    return { accountId: 'a', state: this.#state(type), list, notFound: ids.filter((id) => !map.has(id)) };
  }

  #changes(type: TypeName, args: Args): Args {
    const since = Number(args['sinceState']);
    if (since < this.#floor) throw new Refusal('cannotCalculateChanges');
    const all = this.#log.filter((entry) => entry.type === type && entry.modseq > since);
    const page = all.slice(0, this.maxChanges);
    const sets = { created: new Set<Id>(), updated: new Set<Id>(), destroyed: new Set<Id>() };
    for (const { id, kind } of page) {
      if (kind === 'updated' && sets.created.has(id)) continue;
      if (kind === 'destroyed') {
        sets.updated.delete(id);
        if (sets.created.delete(id)) continue;
      }
      sets[kind].add(id);
    }
    return {
      accountId: 'a',
      oldState: args['sinceState'],
      newState: page.length < all.length ? String(page.at(-1)?.modseq) : this.#state(type),
      hasMoreChanges: page.length < all.length,
      created: [...sets.created],
      updated: [...sets.updated],
      destroyed: [...sets.destroyed],
    };
  }

  #ids(args: Args): Id[] {
    const { inMailbox } = args['filter'] as { inMailbox: Id };
    const seen = new Set<Id>();
    return [...this.emails.values()]
      .filter((email) => inMailbox in email.mailboxIds)
      .sort((a, b) => b.id.localeCompare(a.id))
      .filter((email) => !seen.has(email.threadId) && seen.add(email.threadId))
      .map((email) => email.id);
  }

  #remember(args: Args, ids: Id[]): string {
    const state = this.#state('Email');
    this.#results.set(JSON.stringify([args['filter'], state]), ids);
    return state;
  }

  #query(args: Args): Args {
    const ids = this.#ids(args);
    const position = Number(args['position']);
    return {
      accountId: 'a',
      queryState: this.#remember(args, ids),
      canCalculateChanges: this.canCalculateChanges,
      position,
      ids: ids.slice(position, position + Number(args['limit'])),
      total: ids.length,
    };
  }

  #queryChanges(args: Args): Args {
    const old = this.#results.get(JSON.stringify([args['filter'], args['sinceQueryState']]));
    if (!old) throw new Refusal('cannotCalculateChanges');
    const ids = this.#ids(args);
    return {
      accountId: 'a',
      oldQueryState: args['sinceQueryState'],
      newQueryState: this.#remember(args, ids),
      total: ids.length,
      removed: old.filter((id) => !ids.includes(id)),
      added: ids.map((id, index) => ({ id, index })).filter(({ id }) => !old.includes(id)),
    };
  }

  #set(args: Args): Args {
    const oldState = this.#state('Email');
    const updated: Record<Id, null> = {};
    const notUpdated: Record<Id, object> = {};
    for (const [id, patch] of Object.entries((args['update'] as Record<Id, PatchObject>) ?? {})) {
      if (this.forbidden.has(id)) notUpdated[id] = { type: 'forbidden' };
      else if (!this.emails.has(id)) notUpdated[id] = { type: 'notFound' };
      else {
        this.updateEmail(id, patch);
        updated[id] = null;
      }
    }
    const destroyed = (args['destroy'] as Id[] | undefined) ?? [];
    for (const id of destroyed) this.destroyEmail(id);
    return { accountId: 'a', oldState, newState: this.#state('Email'), updated, notUpdated, destroyed };
  }
}

/** Replaces `#name` arguments by what they refer to. Source: RFC 8620 s3.7 */
function resolve(args: Args, done: Invocation[]): Args {
  const resolved: Args = {};
  for (const [key, value] of Object.entries(args)) {
    if (!key.startsWith('#')) {
      resolved[key] = value;
      continue;
    }
    const reference = value as { resultOf: string; name: string; path: string };
    const source = done.find(([name, , id]) => id === reference.resultOf && name === reference.name);
    if (!source) throw new Refusal('invalidResultReference');
    resolved[key.slice(1)] = follow(source[1], reference.path.split('/').slice(1));
  }
  return resolved;
}

function follow(value: unknown, path: string[]): unknown {
  const [head, ...rest] = path;
  if (head === undefined) return value;
  if (head === '*') return (value as unknown[]).flatMap((item) => follow(item, rest));
  return follow((value as Args)[head], rest);
}
