/** Folding of /changes answers, page by page, into what a client has to do. Pure. RFC 8620 s5.2 */
import type { ChangesResponse, Id } from '../jmap/types';

export interface ChangeSet {
  created: Set<Id>;
  updated: Set<Id>;
  destroyed: Set<Id>;
}

export function emptyChangeSet(): ChangeSet {
  return { created: new Set(), updated: new Set(), destroyed: new Set() };
}

/**
 * Adds the next page to what is known so far. Pages come oldest first, so the last word about an
 * id wins: created then destroyed is nothing, created then updated is still only created.
 */
export function foldChanges(
  into: ChangeSet,
  page: Pick<ChangesResponse, 'created' | 'updated' | 'destroyed'>,
): ChangeSet {
  for (const id of page.created) {
    // Destroyed and made again under the same id: whoever cached it must read it again.
    if (into.destroyed.delete(id)) into.updated.add(id);
    else into.created.add(id);
  }
  for (const id of page.updated) {
    if (!into.created.has(id)) into.updated.add(id);
  }
  for (const id of page.destroyed) {
    into.updated.delete(id);
    if (!into.created.delete(id)) into.destroyed.add(id);
  }
  return into;
}
