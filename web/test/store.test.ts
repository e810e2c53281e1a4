import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { Client } from '../src/jmap/client';
import { OfflineError } from '../src/jmap/errors';
import { AccountStore } from '../src/store/account.svelte';
import type { QueryList, QuerySpec } from '../src/store/list.svelte';
import { FakeServer } from './fakeserver';

const INBOX: QuerySpec = {
  key: 'box inbox',
  filter: { inMailbox: 'inbox' },
  mailboxId: 'inbox',
  collapseThreads: true,
  isSearch: false,
};

let server: FakeServer;
let store: AccountStore;

async function connect(): Promise<AccountStore> {
  const client = new Client({ token: 't', fetch: server.fetch });
  await client.loadSession();
  const opened = new AccountStore(client, 'a');
  await opened.start();
  return opened;
}

async function openInbox(): Promise<QueryList> {
  const list = store.openList(INBOX);
  await vi.waitFor(() => expect(list.phase).toBe('ready'));
  return list;
}

const archive = (id: string): [string, Record<string, unknown>] => [
  id,
  { 'mailboxIds/inbox': null, 'mailboxIds/archive': true },
];

/** What the client shows must be what a client that has just started would show. */
async function expectTruth(): Promise<void> {
  await store.syncer.request();
  const fresh = await connect();
  const list = fresh.openList(store.activeList?.spec ?? INBOX);
  await vi.waitFor(() => expect(list.phase).toBe('ready'));
  fresh.stop();
  expect(store.activeList?.visible).toEqual(list.ids);
  expect(Object.fromEntries(store.mailboxes.view)).toEqual(Object.fromEntries(server.mailboxes));
  for (const [id, email] of store.emails.view) {
    expect(email.keywords).toEqual(server.emails.get(id)?.keywords);
    expect(email.mailboxIds).toEqual(server.emails.get(id)?.mailboxIds);
  }
  for (const [id, thread] of store.threads.view) expect(thread).toEqual(server.threads.get(id));
}

beforeEach(async () => {
  server = new FakeServer();
  for (let i = 1; i <= 5; i++) server.addEmail(`m0${i}`, 'inbox', { isSeen: i < 4 });
  store = await connect();
});

afterEach(() => store.stop());

describe('loading', () => {
  it('reads a page of rows with threads and emails in one request', async () => {
    const before = server.requests.length;
    const list = await openInbox();
    expect(list.ids).toEqual(['m05', 'm04', 'm03', 'm02', 'm01']);
    expect(store.emailsOf('t-m03').map((email) => email.id)).toEqual(['m03']);
    const pages = server.requests.slice(before).filter((calls) => calls[0]?.[0] === 'Email/query');
    expect(pages).toHaveLength(1);
    expect(pages[0]?.map(([name]) => name)).toEqual([
      'Email/query',
      'Email/get',
      'Thread/get',
      'Email/get',
    ]);
  });

  it('loads the part of a long list that is looked at, and leaves the rest open', async () => {
    for (let i = 10; i < 300; i++) server.addEmail(`m${i}`, 'inbox');
    const list = await openInbox();
    expect(list.ids).toHaveLength(295);
    store.wantRows(list, 200, 210);
    await vi.waitFor(() => expect(list.ids[205]).toBeDefined());
    expect(list.ids[100]).toBeUndefined();
    expect(list.missingPages(200, 210)).toEqual([]);
  });

  it('says why a list could not be loaded, and loads it when asked again', async () => {
    server.failNext = 'before';
    const list = store.openList(INBOX);
    await vi.waitFor(() => expect(list.phase).toBe('failed'));
    expect(list.error).toBe('The server cannot be reached.');
    await store.loadPage(list, 0);
    expect(list.phase).toBe('ready');
  });
});

describe('catching up', () => {
  it('takes in new mail, marks, moves and deletions made elsewhere', async () => {
    const list = await openInbox();
    server.addEmail('m06', 'inbox');
    server.updateEmail('m05', { 'keywords/$flagged': true });
    server.updateEmail('m04', { mailboxIds: { archive: true } });
    server.destroyEmail('m01');
    await store.syncer.request();
    expect(list.visible).toEqual(['m06', 'm05', 'm03', 'm02']);
    expect(store.emails.get('m05')?.keywords).toEqual({ $flagged: true });
    expect(store.emails.get('m01')).toBeUndefined();
    await expectTruth();
  });

  it('is told by the live line', async () => {
    const list = await openInbox();
    server.addEmail('m06', 'inbox');
    server.push();
    await vi.waitFor(() => expect(list.visible[0]).toBe('m06'));
    expect(store.emails.get('m06')?.subject).toBe('Subject of m06');
  });

  it('reads again what it missed while the line was down', async () => {
    const list = await openInbox();
    await vi.waitFor(() => expect(store.pushStatus).toBe('open'));
    server.hangUp();
    await vi.waitFor(() => expect(store.pushStatus).toBe('waiting'));
    server.addEmail('m06', 'inbox');
    store.wake(true);
    await vi.waitFor(() => expect(list.visible[0]).toBe('m06'));
  });

  it('brings a new answer into a thread that is already here', async () => {
    await openInbox();
    server.addEmail('m06', 'inbox', { threadId: 't-m02' });
    await store.syncer.request();
    expect(store.emailsOf('t-m02').map((email) => email.id)).toEqual(['m02', 'm06']);
    await expectTruth();
  });

  it('follows changes over several pages', async () => {
    const list = await openInbox();
    server.maxChanges = 3;
    for (let i = 10; i < 20; i++) server.addEmail(`m${i}`, 'inbox');
    for (let i = 1; i <= 5; i++) server.updateEmail(`m0${i}`, { 'keywords/$seen': true });
    await store.syncer.request();
    expect(list.visible).toHaveLength(15);
    await expectTruth();
  });

  it('reads everything again when the server has lost its history', async () => {
    await openInbox();
    server.addEmail('m06', 'inbox');
    server.updateEmail('m02', { 'keywords/$flagged': true });
    server.destroyEmail('m03');
    server.forget();
    await expectTruth();
    expect(store.emails.get('m02')?.keywords['$flagged']).toBe(true);
    expect(store.emails.get('m03')).toBeUndefined();
  });

  it('asks for the list again where the server cannot calculate query changes', async () => {
    server.canCalculateChanges = false;
    const list = await openInbox();
    server.addEmail('m06', 'inbox');
    await store.syncer.request();
    expect(list.visible[0]).toBe('m06');
  });

  it('does not ask when the states it is told of are the ones it has', async () => {
    await openInbox();
    await vi.waitFor(() => expect(store.pushStatus).toBe('open'));
    await store.syncer.request();
    const before = server.requests.length;
    server.push();
    await new Promise((resolve) => setTimeout(resolve, 30));
    expect(server.requests).toHaveLength(before);
  });

  it('shows mailboxes that appear while the first sync runs', async () => {
    const added = { ...server.mailboxes.get('inbox')!, id: 'new', name: 'New', role: null };
    server.mailboxes.set('new', added);
    server.forget();
    await store.syncer.request();
    expect(store.mailboxes.get('new')?.name).toBe('New');
  });
});

describe('changing', () => {
  it('shows an archived thread as gone before the server has answered', async () => {
    const list = await openInbox();
    await store.syncer.request();
    let open = (): void => undefined;
    server.gate = new Promise((resolve) => (open = resolve));
    const done = store.mutate(new Map([archive('m05')]));
    expect(list.visible).toEqual(['m04', 'm03', 'm02', 'm01']);
    expect(store.mailboxes.get('inbox')?.unreadThreads).toBe(1);
    expect(store.mailboxes.get('archive')?.totalThreads).toBe(1);
    server.gate = null;
    open();
    expect((await done).size).toBe(0);
    expect(list.visible).toEqual(['m04', 'm03', 'm02', 'm01']);
    await expectTruth();
  });

  it('sends the change and the catching up in one request', async () => {
    await openInbox();
    await store.syncer.request();
    const before = server.requests.length;
    await store.mutate(new Map([archive('m05')]));
    const names = server.requests[before]?.map(([name]) => name);
    expect(names?.[0]).toBe('Email/set');
    expect(names).toContain('Email/queryChanges');
    expect(names).toContain('Mailbox/changes');
  });

  it('takes back exactly what the server refused, and says why', async () => {
    const list = await openInbox();
    server.forbidden.add('m04');
    const refused = await store.mutate(new Map([archive('m05'), archive('m04')]));
    expect([...refused]).toEqual([['m04', 'You may not change this.']]);
    expect(list.visible).toEqual(['m04', 'm03', 'm02', 'm01']);
    expect(store.emails.get('m04')?.mailboxIds).toEqual({ inbox: true });
    await expectTruth();
  });

  it('takes everything back when the request never arrived', async () => {
    const list = await openInbox();
    await store.syncer.request();
    server.failNext = 'before';
    await expect(store.mutate(new Map([archive('m05')]))).rejects.toBeInstanceOf(OfflineError);
    expect(list.visible).toEqual(['m05', 'm04', 'm03', 'm02', 'm01']);
    expect(store.mailboxes.get('inbox')?.unreadThreads).toBe(2);
    await expectTruth();
  });

  it('finds out when only the answer was lost', async () => {
    const list = await openInbox();
    await store.syncer.request();
    server.failNext = 'after';
    await expect(store.mutate(new Map([archive('m05')]))).rejects.toBeInstanceOf(OfflineError);
    await vi.waitFor(() => expect(list.visible[0]).toBe('m04'));
    await expectTruth();
  });

  it('undoes a change by its inverse, in order even when both are under way', async () => {
    const list = await openInbox();
    const first = store.mutate(new Map([archive('m05')]));
    const back = { 'mailboxIds/inbox': true, 'mailboxIds/archive': null };
    const second = store.mutate(new Map([['m05', back]]));
    await Promise.all([first, second]);
    expect(list.visible[0]).toBe('m05');
    expect(server.emails.get('m05')?.mailboxIds).toEqual({ inbox: true });
    await expectTruth();
  });

  it('does not flicker when a page that is older than the change comes in late', async () => {
    const list = await openInbox();
    await store.syncer.request();
    let open = (): void => undefined;
    server.gate = new Promise((resolve) => (open = resolve));
    const late = store.loadPage(list, 0);
    await vi.waitFor(() => expect(server.requests.at(-1)?.[0]?.[0]).toBe('Email/query'));
    server.gate = null;
    await store.mutate(new Map([['m05', { 'keywords/$seen': true }]]));
    open();
    let isOver = false;
    void late.then(() => (isOver = true));
    while (!isOver) {
      expect(store.emails.get('m05')?.keywords).toEqual({ $seen: true });
      await Promise.resolve();
      await new Promise((resolve) => setTimeout(resolve, 0));
    }
    await expectTruth();
  });

  it('destroys for good', async () => {
    const list = await openInbox();
    await store.destroy(['m05']);
    expect(list.visible[0]).toBe('m04');
    expect(server.emails.has('m05')).toBe(false);
    await expectTruth();
  });

  it('cuts a large change into pieces the server takes', async () => {
    await openInbox();
    store.client.limits = { ...store.client.limits, maxObjectsInSet: 2 };
    const before = server.requests.length;
    await store.mutate(new Map(['m01', 'm02', 'm03', 'm04', 'm05'].map(archive)));
    const sets = server.requests.slice(before).flat().filter(([name]) => name === 'Email/set');
    expect(sets.map(([, args]) => Object.keys(args['update'] as object).length)).toEqual([2, 2, 1]);
    expect(server.mailboxes.get('inbox')?.totalEmails).toBe(0);
    await expectTruth();
  });
});

describe('any mix of acts on both sides', () => {
  it('ends with what a client that starts afresh would see', async () => {
    // Deterministic, so that a failure can be looked at again.
    let seed = 7;
    const random = (below: number): number => {
      seed = (seed * 1_103_515_245 + 12_345) & 0x7fffffff;
      return (seed >> 8) % below;
    };
    const pick = (): string => [...server.emails.keys()][random(server.emails.size)] ?? 'm01';
    await openInbox();
    const pending: Promise<unknown>[] = [];
    for (let step = 0; step < 120; step++) {
      const id = pick();
      const choice = random(9);
      if (choice === 0) server.addEmail(`m1${String(step).padStart(3, '0')}`, 'inbox');
      else if (choice === 1) server.addEmail(`m2${step}`, 'inbox', { threadId: server.emails.get(id)?.threadId ?? 't' });
      else if (choice === 2) server.updateEmail(id, { mailboxIds: { inbox: true } });
      else if (choice === 3 && server.emails.size > 4) server.destroyEmail(id);
      else if (choice === 4) server.push();
      else if (choice === 5) server.failNext = random(2) ? 'before' : 'after';
      else if (choice === 6 && random(4) === 0) server.forget();
      else if (store.emails.has(id)) {
        const patch = random(2) ? archive(id)[1] : { 'keywords/$seen': random(2) ? true : null };
        pending.push(store.mutate(new Map([[id, patch]])).catch(() => undefined));
      }
      if (random(3) === 0) await new Promise((resolve) => setTimeout(resolve, 1));
    }
    await Promise.all(pending);
    server.failNext = null;
    await store.syncer.request().catch(() => undefined);
    await expectTruth();
  });
});
