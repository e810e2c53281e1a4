/** Where the user is, as the part of the address behind the hash. Pure. */
import type { Id } from '../jmap/types';

export type Place =
  | { kind: 'mailbox'; mailboxId: Id | null }
  | { kind: 'starred' }
  | { kind: 'search'; query: string };

export interface Route {
  place: Place;
  threadId: Id | null;
}

/** `#/box/<id>/<thread>`, `#/starred/<thread>`, `#/search/<words>/<thread>`; anything else: inbox. */
export function parseRoute(hash: string): Route {
  const [head, ...rest] = hash
    .replace(/^#?\/?/, '')
    .split('/')
    .map(decode);
  if (head === 'starred') return { place: { kind: 'starred' }, threadId: rest[0] || null };
  if (head === 'search' && rest[0]) {
    return { place: { kind: 'search', query: rest[0] }, threadId: rest[1] || null };
  }
  if (head === 'box') {
    return { place: { kind: 'mailbox', mailboxId: rest[0] || null }, threadId: rest[1] || null };
  }
  return { place: { kind: 'mailbox', mailboxId: null }, threadId: null };
}

export function formatRoute({ place, threadId }: Route): string {
  const parts =
    place.kind === 'starred' ? ['starred']
    : place.kind === 'search' ? ['search', place.query]
    : ['box', place.mailboxId ?? ''];
  if (threadId !== null) parts.push(threadId);
  return `#/${parts.map(encodeURIComponent).join('/')}`;
}

export function samePlace(a: Place, b: Place): boolean {
  return formatRoute({ place: a, threadId: null }) === formatRoute({ place: b, threadId: null });
}

function decode(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    // A hand-made address with a stray percent sign is still an address.
    return part;
  }
}
