import { describe, expect, it } from 'vitest';
import { ObjectCache, type Change } from '../src/store/cache';
import { emptyChangeSet, foldChanges } from '../src/store/changes';
import { countDeltas } from '../src/store/counts';
import { applyPatch, invertPatch, pointer } from '../src/store/patch';
import { placePage, spliceQuery, type SparseIds } from '../src/store/splice';

const page = (created: string[], updated: string[], destroyed: string[]) => ({
  created,
  updated,
  destroyed,
});

describe('folding pages of changes', () => {
  it('lets the last word about an id win', () => {
    const set = emptyChangeSet();
    foldChanges(set, page(['new', 'brief'], ['old', 'gone'], []));
    foldChanges(set, page([], ['new', 'old'], ['brief', 'gone']));
    expect([...set.created]).toEqual(['new']);
    expect([...set.updated]).toEqual(['old']);
    expect([...set.destroyed]).toEqual(['gone']);
  });

  it('reads an id again that came back after it was destroyed', () => {
    const set = emptyChangeSet();
    foldChanges(set, page([], [], ['a']));
    foldChanges(set, page(['a'], [], []));
    expect([...set.updated]).toEqual(['a']);
    expect(set.destroyed.size + set.created.size).toBe(0);
  });
});

describe('splicing a query', () => {
  it('takes out and puts in at the places the server names', () => {
    const after = spliceQuery(['a', 'b', 'c', 'd'], {
      removed: ['b', 'd'],
      added: [
        { id: 'y', index: 3 },
        { id: 'x', index: 0 },
      ],
      total: 4,
    });
    expect(after).toEqual(['x', 'a', 'c', 'y']);
  });

  it('moves an id that is both removed and added', () => {
    const change = { removed: ['c'], added: [{ id: 'c', index: 0 }], total: 3 };
    expect(spliceQuery(['a', 'b', 'c'], change)).toEqual(['c', 'a', 'b']);
  });

  it('shifts what is known behind a hole when nothing unseen was removed', () => {
    const ids: SparseIds = ['a', undefined, undefined, 'd'];
    const change = { removed: [], added: [{ id: 'n', index: 0 }], total: 5 };
    expect(spliceQuery(ids, change)).toEqual(['n', 'a', undefined, undefined, 'd']);
  });

  it('forgets everything behind the first hole when something unseen was removed', () => {
    const ids: SparseIds = ['a', 'b', undefined, undefined, 'e', 'f'];
    const change = { removed: ['zz'], added: [], total: 5 };
    expect(spliceQuery(ids, change)).toEqual(['a', 'b', undefined, undefined, undefined]);
  });

  it('ignores removals it cannot have seen in a list it knows whole', () => {
    const change = { removed: ['zz'], added: [], total: 2 };
    expect(spliceQuery(['a', 'b'], change)).toEqual(['a', 'b']);
  });

  it('leaves what was added far below for later', () => {
    const change = { removed: [], added: [{ id: 'z', index: 40 }], total: 41 };
    const after = spliceQuery(['a', ...new Array<undefined>(39).fill(undefined)], change);
    expect(after).toHaveLength(41);
    expect(after[0]).toBe('a');
  });

  it('agrees with the server after any change of a list it knows whole', () => {
    // A small deterministic generator: the same lists on every run.
    let seed = 42;
    const random = (below: number): number => {
      seed = (seed * 1_103_515_245 + 12_345) & 0x7fffffff;
      return seed % below;
    };
    for (let round = 0; round < 300; round++) {
      const before = Array.from({ length: random(12) }, (_, i) => `o${i}`);
      const kept = before.filter(() => random(3) > 0);
      const after = [...kept];
      for (let i = random(4); i > 0; i--) after.splice(random(after.length + 1), 0, `n${round}-${i}`);
      const change = {
        removed: before.filter((id) => !after.includes(id)),
        added: after
          .map((id, index) => ({ id, index }))
          .filter(({ id }) => !before.includes(id)),
        total: after.length,
      };
      expect(spliceQuery(before, change)).toEqual(after);
    }
  });
});

describe('laying a page over a list', () => {
  it('makes a list of the right length out of the first page', () => {
    expect(placePage([], 0, ['a', 'b'], 4)).toEqual(['a', 'b', undefined, undefined]);
  });

  it('forgets the old place of an id that the page has elsewhere', () => {
    expect(placePage(['a', 'b', 'c'], 1, ['c', 'b'], 3)).toEqual(['a', 'c', 'b']);
  });

  it('shortens the list when the result did', () => {
    expect(placePage(['a', 'b', 'c', 'd'], 0, ['a', 'b'], 2)).toEqual(['a', 'b']);
  });

  it('fills a hole far down and leaves the ones between', () => {
    expect(placePage([], 3, ['d'], 4)).toEqual([undefined, undefined, undefined, 'd']);
  });
});

describe('patches', () => {
  const email = { id: 'e', keywords: { $seen: true }, mailboxIds: { in: true }, subject: 'x' };

  it('sets and removes single keys and leaves the original alone', () => {
    const patch = { 'keywords/$flagged': true, 'mailboxIds/in': null, 'mailboxIds/out': true };
    expect(applyPatch(email, patch)).toEqual({
      ...email,
      keywords: { $seen: true, $flagged: true },
      mailboxIds: { out: true },
    });
    expect(email.mailboxIds).toEqual({ in: true });
  });

  it('is undone by its inverse', () => {
    const patch = { 'keywords/$seen': null, 'mailboxIds/in': null, 'mailboxIds/x~1y': true };
    const after = applyPatch(email, patch);
    expect(applyPatch(after, invertPatch(email, patch))).toEqual(email);
  });

  it('escapes what a pointer gives a meaning to', () => {
    expect(pointer('keywords', 'a/b~c')).toBe('keywords/a~1b~0c');
    expect(applyPatch({ keywords: {} }, { [pointer('keywords', 'a/b~c')]: true })).toEqual({
      keywords: { 'a/b~c': true },
    });
  });
});

interface Thing {
  id: string;
  n: number;
  tag?: string;
}

function cacheWith(...things: Thing[]): ObjectCache<Thing> {
  const cache = new ObjectCache<Thing>();
  cache.put(things);
  return cache;
}

const plus =
  (by: number): Change<Thing> =>
  (thing) => ({ ...thing, n: thing.n + by });

describe('the cache', () => {
  it('merges properties that were not sent', () => {
    const cache = cacheWith({ id: 'a', n: 1, tag: 'kept' });
    cache.put([{ id: 'a', n: 2 }]);
    expect(cache.get('a')).toEqual({ id: 'a', n: 2, tag: 'kept' });
  });

  it('shows a change at once and goes back when it is refused', () => {
    const cache = cacheWith({ id: 'a', n: 1 });
    const change = cache.apply(new Map([['a', plus(1)]]));
    expect(cache.get('a')?.n).toBe(2);
    change.rollback();
    expect(cache.get('a')?.n).toBe(1);
  });

  it('keeps a change in sight when a sync lands before its confirmation', () => {
    const cache = cacheWith({ id: 'a', n: 1 });
    const change = cache.apply(new Map([['a', plus(10)]]));
    cache.put([{ id: 'a', n: 5 }]);
    expect(cache.get('a')?.n).toBe(15);
    change.confirm();
    expect(cache.get('a')?.n).toBe(15);
    expect(cache.serverValue('a')?.n).toBe(15);
  });

  it('takes changes back out of the middle', () => {
    const cache = cacheWith({ id: 'a', n: 1 });
    const first = cache.apply(new Map([['a', plus(1)]]));
    cache.apply(new Map([['a', plus(100)]]));
    first.rollback();
    expect(cache.get('a')?.n).toBe(101);
  });

  it('settles some ids of a change one way and some the other', () => {
    const cache = cacheWith({ id: 'a', n: 1 }, { id: 'b', n: 1 });
    const change = cache.apply(
      new Map([
        ['a', plus(1)],
        ['b', plus(1)],
      ]),
    );
    change.rollback(['a']);
    change.confirm(['b']);
    expect([cache.get('a')?.n, cache.get('b')?.n]).toEqual([1, 2]);
    change.rollback();
    expect(cache.get('b')?.n).toBe(2);
  });

  it('hides a destroyed object and shows it again when that is refused', () => {
    const cache = cacheWith({ id: 'a', n: 1 });
    const change = cache.apply(new Map([['a', () => null]]));
    expect(cache.get('a')).toBeUndefined();
    change.rollback();
    expect(cache.get('a')).toBeDefined();
  });

  it('drops what a full reload no longer has', () => {
    const cache = cacheWith({ id: 'a', n: 1 }, { id: 'b', n: 1 });
    cache.replaceAll([{ id: 'b', n: 2 }], 's9');
    expect([...cache.view.keys()]).toEqual(['b']);
    expect(cache.state).toBe('s9');
  });
});

describe('mailbox counters', () => {
  const mail = (mailbox: string, isSeen: boolean) => ({
    mailboxIds: { [mailbox]: true as const },
    keywords: (isSeen ? { $seen: true } : {}) as Record<string, true>,
  });

  it('moves a thread from one mailbox to the other', () => {
    const deltas = countDeltas([mail('inbox', false)], [mail('archive', false)], 'trash');
    expect(deltas.get('inbox')).toEqual({
      totalEmails: -1,
      unreadEmails: -1,
      totalThreads: -1,
      unreadThreads: -1,
    });
    expect(deltas.get('archive')?.unreadThreads).toBe(1);
  });

  it('counts a thread as read only when its last unread email is', () => {
    const before = [mail('inbox', false), mail('inbox', false)];
    const half = [mail('inbox', true), mail('inbox', false)];
    expect(countDeltas(before, half, null).get('inbox')).toMatchObject({
      unreadEmails: -1,
      unreadThreads: 0,
    });
  });

  it('does not let unread mail in the trash make a thread unread elsewhere', () => {
    const before = [mail('inbox', true), mail('inbox', false)];
    const after = [mail('inbox', true), mail('trash', false)];
    const deltas = countDeltas(before, after, 'trash');
    expect(deltas.get('inbox')?.unreadThreads).toBe(-1);
    expect(deltas.get('trash')?.unreadThreads).toBe(1);
  });

  it('says nothing about mailboxes that stay as they are', () => {
    expect(countDeltas([mail('inbox', true)], [mail('inbox', true)], null).size).toBe(0);
  });
});
