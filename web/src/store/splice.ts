/** Folding of a /queryChanges answer into a partly known list of ids. Pure. RFC 8620 s5.6 */
import type { Id, QueryChangesResponse } from '../jmap/types';

/** A query result of known length; `undefined` where the id has not been loaded. */
export type SparseIds = readonly (Id | undefined)[];

/**
 * The list after the change. What the answer leaves uncertain becomes unknown (a hole), never
 * wrong: an id that was removed from somewhere we have not loaded shifts everything behind the
 * first hole by an unknown amount, so those positions are forgotten.
 *
 * Cost: linear in the list, plus one splice per added id.
 */
export function spliceQuery(
  ids: SparseIds,
  change: Pick<QueryChangesResponse, 'removed' | 'added' | 'total'>,
): SparseIds {
  const removed = new Set(change.removed);
  const known = new Set(ids);
  const removedUnseen = change.removed.filter((id) => !known.has(id)).length;

  let kept: (Id | undefined)[] = ids.filter((id) => id === undefined || !removed.has(id));
  if (removedUnseen > 0) {
    const hole = kept.indexOf(undefined);
    if (hole >= 0) kept = kept.slice(0, hole);
  }
  const added = [...change.added].sort((a, b) => a.index - b.index);
  for (const { id, index } of added) {
    // Behind the known part: it will be loaded when it is scrolled to.
    if (index <= kept.length) kept.splice(index, 0, id);
  }
  return resize(kept, change.total ?? kept.length);
}

/** The list with a freshly loaded page laid over it. */
export function placePage(
  ids: SparseIds,
  position: number,
  page: readonly Id[],
  total: number,
): SparseIds {
  const fresh = new Set(page);
  // The same id elsewhere is a leftover of an older order.
  const next = ids.map((id, at) =>
    id !== undefined && fresh.has(id) && page[at - position] !== id ? undefined : id,
  );
  const end = Math.max(position + page.length, 0);
  const grown = next.length < end ? [...resize(next, end)] : next;
  page.forEach((id, at) => (grown[position + at] = id));
  return resize(grown, Math.max(total, end));
}

function resize(ids: readonly (Id | undefined)[], length: number): SparseIds {
  if (ids.length === length) return ids;
  if (ids.length > length) return ids.slice(0, length);
  return [...ids, ...new Array<undefined>(length - ids.length).fill(undefined)];
}
