/**
 * One query result as the user sees it: a list of known length whose parts are loaded as they
 * are scrolled to, minus what the user has just moved away. RFC 8620 s5.5, s5.6
 */
import type { Id, QueryChangesResponse, QueryResponse } from '../jmap/types';
import { placePage, spliceQuery, type SparseIds } from './splice';

export interface QuerySpec {
  /** Two specs with one key are the same list. */
  key: string;
  filter: Record<string, unknown>;
  /** The mailbox this is a list of, or null for a search. */
  mailboxId: Id | null;
  collapseThreads: boolean;
  /** The words searched for; snippets are shown when there are any. */
  isSearch: boolean;
}

/** Rows asked for at once: about three screens, so that scrolling rarely meets a hole. */
export const PAGE_ROWS = 50;

export class QueryList {
  phase = $state<'loading' | 'ready' | 'failed'>('loading');
  error = $state<string | null>(null);
  ids = $state.raw<SparseIds>([]);
  #hidden = $state.raw<ReadonlyMap<Id, number>>(new Map());
  /** What to show: the list without the rows the user has just moved away. */
  readonly visible: SparseIds = $derived(
    this.#hidden.size === 0
      ? this.ids
      : this.ids.filter((id) => id === undefined || !this.#hidden.has(id)),
  );
  queryState: string | null = null;
  canCalculateChanges = false;
  /** The first row on screen, so that a reload begins where the user looks. */
  firstVisible = 0;
  scrollTop = 0;
  /** The list must be asked for again, not patched. */
  isStale = false;
  readonly pagesInFlight = new Set<number>();

  constructor(readonly spec: QuerySpec) {}

  /** First positions of the pages that rows `from` to `to` (exclusive) still need. */
  missingPages(from: number, to: number): number[] {
    const starts = new Set<number>();
    const until = Math.min(to + this.#hidden.size, this.ids.length);
    for (let at = Math.max(0, from); at < until; at++) {
      if (this.ids[at] !== undefined) continue;
      const start = at - (at % PAGE_ROWS);
      if (!this.pagesInFlight.has(start)) starts.add(start);
    }
    return [...starts];
  }

  /**
   * Takes a page. False when the result has moved on since the other pages were read: then the
   * page replaces everything it does not agree with.
   */
  acceptPage(response: QueryResponse): boolean {
    const isSame = this.queryState === null || this.queryState === response.queryState;
    const total = response.total ?? response.position + response.ids.length;
    const base = isSame ? this.ids : [];
    this.ids = placePage(base, response.position, response.ids, total);
    this.queryState = response.queryState;
    this.canCalculateChanges = response.canCalculateChanges;
    this.phase = 'ready';
    this.error = null;
    this.isStale = false;
    return isSame;
  }

  /** Ignores an answer that does not start where this list is; another sync has been quicker. */
  acceptChanges(response: QueryChangesResponse): boolean {
    if (response.oldQueryState !== this.queryState) return false;
    this.ids = spliceQuery(this.ids, response);
    this.queryState = response.newQueryState;
    return true;
  }

  fail(message: string): void {
    this.error = message;
    if (this.queryState === null) this.phase = 'failed';
  }

  /** Takes rows out of sight until the returned function is called. */
  hide(ids: readonly Id[]): () => void {
    this.#count(ids, 1);
    let isHidden = true;
    return () => {
      if (isHidden) this.#count(ids, -1);
      isHidden = false;
    };
  }

  #count(ids: readonly Id[], by: number): void {
    const hidden = new Map(this.#hidden);
    for (const id of ids) {
      const count = (hidden.get(id) ?? 0) + by;
      if (count > 0) hidden.set(id, count);
      else hidden.delete(id);
    }
    this.#hidden = hidden;
  }
}
