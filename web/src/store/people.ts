/** Whom the user may mean, from the mail that has been seen. Pure. */
import type { Email, EmailAddress } from '../jmap/types';
import { sameAddress } from '../text/names';

const SUGGESTIONS_MAX = 6;

/** Someone the user writes to counts for more than someone who writes to them. */
const SENT_WEIGHT = 5;

/**
 * Addresses whose name or address has a word that begins with the text.
 * Cost: one pass over the cached emails; typing is slower than that by far.
 */
export function suggestAddresses(
  emails: Iterable<Email>,
  text: string,
  taken: readonly EmailAddress[],
): EmailAddress[] {
  const wanted = text.trim().toLocaleLowerCase();
  if (!wanted) return [];
  const found = new Map<string, { address: EmailAddress; weight: number }>();
  const note = (address: EmailAddress, weight: number): void => {
    if (!matches(address, wanted) || isMachine(address)) return;
    const key = address.email.toLowerCase();
    const known = found.get(key);
    if (!known) found.set(key, { address, weight });
    else {
      known.weight += weight;
      if (!known.address.name && address.name) known.address = address;
    }
  };
  for (const email of emails) {
    for (const address of email.from ?? []) note(address, 1);
    const weight = email.keywords['$draft'] ? 0 : SENT_WEIGHT;
    for (const address of [...(email.to ?? []), ...(email.cc ?? [])]) note(address, weight);
  }
  return [...found.values()]
    .filter(({ address }) => !taken.some((other) => sameAddress(address, other)))
    .sort((a, b) => b.weight - a.weight)
    .slice(0, SUGGESTIONS_MAX)
    .map(({ address }) => address);
}

function matches(address: EmailAddress, wanted: string): boolean {
  const words = `${address.name ?? ''} ${address.email}`.toLocaleLowerCase();
  return words.startsWith(wanted) || words.split(/[\s.@_+-]+/).some((word) => word.startsWith(wanted)) || words.includes(` ${wanted}`);
}

/** Nobody answers these. */
function isMachine(address: EmailAddress): boolean {
  return /^(no-?reply|do-?not-?reply|bounces?|mailer-daemon|notifications?)([+@._-]|$)/i.test(
    address.email,
  );
}
