/** The application: who is signed in, where they are, and what is open. */
import { SvelteSet } from 'svelte/reactivity';
import {
  describeDevice,
  forgetToken,
  keepToken,
  loadToken,
  signIn,
  type TokenStores,
} from '../jmap/auth';
import { Client } from '../jmap/client';
import { explain, SignedOutError } from '../jmap/errors';
import { MAIL, type Email, type Id, type Mailbox, type MailboxRole } from '../jmap/types';
import { AccountStore } from '../store/account.svelte';
import type { QuerySpec } from '../store/list.svelte';
import { parseQuery } from '../text/query';
import { formatRoute, parseRoute, samePlace, type Place, type Route } from './route';
import { Toasts } from './toasts.svelte';
import type { TriageContext } from './triage';

/** How soon to try again by itself when the mail could not be opened. */
const RETRY_MS = 10_000;

export type Phase = 'booting' | 'signedOut' | 'failed' | 'ready';

export class App {
  phase = $state<Phase>('booting');
  problem = $state<string | null>(null);
  store = $state.raw<AccountStore | null>(null);
  route = $state.raw<Route>(parseRoute(location.hash));
  /** Threads ticked in the list. */
  readonly selection = new SvelteSet<Id>();
  #cursorRow = $state(0);
  #cursorThread = $state<Id | null>(null);
  /** The cursor is only marked for those who use it. */
  isCursorShown = $state(false);
  isSidebarOpen = $state(false);
  now = $state.raw(new Date());
  readonly toasts = new Toasts();
  #client: Client | null = null;
  readonly #stores: TokenStores = { session: sessionStorage, local: localStorage };

  readonly place: Place = $derived(this.route.place);
  /** The mailbox in view: the inbox where the address names none, null in a search. */
  readonly mailbox: Mailbox | null = $derived.by(() => {
    if (!this.store || this.place.kind !== 'mailbox') return null;
    const { mailboxId } = this.place;
    const named = mailboxId === null ? undefined : this.store.mailboxes.get(mailboxId);
    return named ?? this.store.mailboxFor('inbox') ?? null;
  });
  readonly spec: QuerySpec | null = $derived.by(() => this.#spec());
  readonly own: ReadonlySet<string> = $derived(
    new Set([...(this.store?.identities.view.values() ?? [])].map((i) => i.email.toLowerCase())),
  );

  /**
   * The row the keyboard is at. It stays with its thread, not with its number: otherwise mail that
   * comes in while a key is pressed would be archived in place of the one that was meant.
   */
  readonly cursor: number = $derived.by(() => {
    const row = this.#cursorThread === null ? -1 : this.rowOf(this.#cursorThread);
    const last = Math.max(0, (this.store?.activeList?.visible.length ?? 0) - 1);
    return row >= 0 ? row : Math.min(this.#cursorRow, last);
  });

  moveCursor(row: number): void {
    this.#cursorRow = row;
    this.#cursorThread = this.threadAt(row);
  }

  /** Puts the cursor on a thread that may only be about to come back. */
  moveCursorTo(threadId: Id): void {
    this.#cursorThread = threadId;
  }

  async boot(): Promise<void> {
    addEventListener('hashchange', () => this.#take(parseRoute(location.hash)));
    addEventListener('online', () => {
      if (this.phase === 'failed') void this.retry(true);
      else this.store?.wake(true);
    });
    document.addEventListener('visibilitychange', () => {
      if (document.visibilityState === 'visible') this.store?.wake(false);
    });
    // Relative dates grow old; once a minute is as fine as they are.
    setInterval(() => (this.now = new Date()), 60_000);
    const token = loadToken(this.#stores);
    if (token === null) this.phase = 'signedOut';
    else await this.#open(token);
  }

  /** Throws with a sentence for the form when the name or password is refused. */
  async signIn(username: string, password: string, isLasting: boolean): Promise<void> {
    const token = await signIn(username, password, describeDevice(navigator.userAgent));
    keepToken(this.#stores, token, isLasting);
    await this.#open(token);
  }

  /** Tries to open the mail again; `isQuiet` leaves what is on screen until that has worked. */
  async retry(isQuiet = false): Promise<void> {
    const token = loadToken(this.#stores);
    if (!isQuiet) this.phase = 'booting';
    if (token === null) this.phase = 'signedOut';
    else await this.#open(token);
  }

  async signOut(): Promise<void> {
    const client = this.#client;
    this.#leave(null);
    await client?.signOut();
  }

  async #open(token: string): Promise<void> {
    const client = new Client({
      token,
      onSignedOut: () => this.#leave('You have been signed out. Please sign in again.'),
    });
    try {
      await client.loadSession();
      this.#client = client;
      const accountId =
        client.session.primaryAccounts[MAIL] ?? Object.keys(client.session.accounts)[0];
      if (accountId === undefined) throw new Error('There is no mail account for this user.');
      await this.openAccount(accountId);
      this.problem = null;
      this.phase = 'ready';
    } catch (error) {
      if (error instanceof SignedOutError) return;
      this.problem = explain(error);
      this.phase = 'failed';
      setTimeout(() => {
        if (this.phase === 'failed') void this.retry(true);
      }, RETRY_MS);
    }
  }

  async openAccount(accountId: Id): Promise<void> {
    if (!this.#client) return;
    const store = new AccountStore(this.#client, accountId);
    await store.start();
    this.store?.stop();
    this.selection.clear();
    this.store = store;
  }

  /**
   * Accounts of this user that hold mail, the primary one first. Of two that carry one name only
   * the first is offered: a choice between equals is no choice.
   */
  get accounts(): { id: Id; name: string }[] {
    const session = this.#client?.session;
    const primary = session?.primaryAccounts[MAIL];
    const named = new Map<string, Id>();
    const all = Object.entries(session?.accounts ?? {}).filter(
      ([, account]) => MAIL in account.accountCapabilities,
    );
    all.sort(([a], [b]) => Number(b === primary) - Number(a === primary));
    for (const [id, account] of all) if (!named.has(account.name)) named.set(account.name, id);
    return [...named].map(([name, id]) => ({ id, name }));
  }

  get username(): string {
    return this.#client?.session.username ?? '';
  }

  #leave(problem: string | null): void {
    forgetToken(this.#stores);
    this.store?.stop();
    this.store = null;
    this.#client = null;
    this.selection.clear();
    this.toasts.clear();
    this.problem = problem;
    this.phase = 'signedOut';
  }

  #take(route: Route): void {
    if (!samePlace(route.place, this.route.place)) {
      this.selection.clear();
      this.moveCursor(0);
      this.#cursorThread = null;
    }
    this.route = route;
  }

  /** Goes somewhere; `replace` keeps the way back as it was. */
  go(route: Route, replace = false): void {
    const hash = formatRoute(route);
    if (replace) history.replaceState(history.state, '', hash);
    else history.pushState(null, '', hash);
    this.#take(route);
    this.isSidebarOpen = false;
  }

  goTo(place: Place): void {
    this.go({ place, threadId: null });
  }

  openThread(threadId: Id, replace = this.route.threadId !== null): void {
    this.go({ place: this.place, threadId }, replace);
  }

  closeThread(): void {
    if (this.route.threadId !== null) this.go({ place: this.place, threadId: null }, true);
  }

  goToRole(role: MailboxRole): void {
    const mailbox = this.store?.mailboxFor(role);
    if (mailbox) this.goTo({ kind: 'mailbox', mailboxId: mailbox.id });
  }

  search(query: string): void {
    const trimmed = query.trim();
    if (trimmed) {
      const isRefined = this.place.kind === 'search';
      this.go({ place: { kind: 'search', query: trimmed }, threadId: null }, isRefined);
    } else if (this.place.kind === 'search') {
      this.goTo({ kind: 'mailbox', mailboxId: null });
    }
  }

  get title(): string {
    if (this.place.kind === 'search') return 'Search';
    if (this.place.kind === 'starred') return 'Starred';
    return this.mailbox ? mailboxLabel(this.mailbox) : 'Mail';
  }

  /** What is not in the way needs no archive. */
  get canArchive(): boolean {
    const role = this.mailbox?.role ?? null;
    return role === null || !['archive', 'all', 'sent', 'drafts'].includes(role);
  }

  get triage(): TriageContext {
    const store = this.store;
    return {
      mailboxId: this.mailbox?.id ?? null,
      roleId: (role) => store?.mailboxFor(role)?.id ?? null,
    };
  }

  #hiddenIds(): Id[] {
    const ids = (['trash', 'junk'] as const).map((role) => this.store?.mailboxFor(role)?.id);
    return ids.filter((id) => id !== undefined);
  }

  #spec(): QuerySpec | null {
    const { place, store } = this;
    if (!store) return null;
    const base = { mailboxId: null, collapseThreads: true, isSearch: false };
    if (place.kind === 'starred') {
      const hidden = this.#hiddenIds();
      const starred = { hasKeyword: '$flagged' };
      const filter =
        hidden.length > 0 ?
          { operator: 'AND', conditions: [starred, { inMailboxOtherThan: hidden }] }
        : starred;
      return { ...base, key: 'starred', filter };
    }
    if (place.kind === 'search') {
      const filter = parseQuery(place.query, {
        now: this.#searchedAt(place.query),
        mailboxId: (name) => this.#mailboxNamed(name),
        hiddenMailboxIds: this.#hiddenIds(),
      });
      return { ...base, key: `search ${JSON.stringify(filter)}`, filter, isSearch: true };
    }
    const { mailbox } = this;
    if (!mailbox) return null;
    return {
      ...base,
      key: `box ${mailbox.id}`,
      filter: { inMailbox: mailbox.id },
      mailboxId: mailbox.id,
      // Two drafts of one thread are two things to do.
      collapseThreads: mailbox.role !== 'drafts',
    };
  }

  #searchTime = { query: '', at: new Date() };

  /** The moment a search began, so that its filter does not change while it is looked at. */
  #searchedAt(query: string): Date {
    if (this.#searchTime.query !== query) this.#searchTime = { query, at: new Date() };
    return this.#searchTime.at;
  }

  #mailboxNamed(name: string): Id | null {
    const wanted = name.toLowerCase();
    for (const mailbox of this.store?.mailboxes.view.values() ?? []) {
      if (mailbox.role === wanted || mailbox.name.toLowerCase() === wanted) return mailbox.id;
    }
    return null;
  }

  /** The thread of each row, as far as rows are loaded. */
  threadAt(row: number): Id | null {
    const id = this.store?.activeList?.visible[row];
    return (id !== undefined && this.store?.emails.get(id)?.threadId) || null;
  }

  rowOf(threadId: Id): number {
    const { store } = this;
    if (!store) return -1;
    return (store.activeList?.visible ?? []).findIndex(
      (id) => id !== undefined && store.emails.get(id)?.threadId === threadId,
    );
  }

  /** What an act is about: the ticked threads, else the open one, else the one at the cursor. */
  get target(): Id[] {
    if (this.selection.size > 0) return [...this.selection];
    const threadId = this.route.threadId ?? this.threadAt(this.cursor);
    return threadId === null ? [] : [threadId];
  }

  emailsOf(threadIds: readonly Id[]): Email[] {
    return threadIds.flatMap((id) => this.store?.emailsOf(id) ?? []);
  }
}

const ROLE_LABELS: Partial<Record<MailboxRole, string>> = {
  inbox: 'Inbox',
  drafts: 'Drafts',
  sent: 'Sent',
  archive: 'Archive',
  junk: 'Spam',
  trash: 'Trash',
  all: 'All mail',
};

/** Providers call their mailboxes many things; a role has one name here. */
export function mailboxLabel(mailbox: Mailbox): string {
  return (mailbox.role && ROLE_LABELS[mailbox.role]) || mailbox.name;
}
