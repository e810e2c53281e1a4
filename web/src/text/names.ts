/** People as they are written in rows, headers and avatars. Pure. */
import type { EmailAddress } from '../jmap/types';

export function displayName(address: EmailAddress): string {
  const name = address.name?.trim().replace(/^["']+|["']+$/g, '');
  return name || address.email || 'Unknown sender';
}

/** "Anna" for "Anna Larsson" and for "Larsson, Anna"; the whole name where it is no person's. */
export function firstName(address: EmailAddress): string {
  const name = displayName(address);
  if (name.includes('@')) return name.split('@')[0] ?? name;
  const [family, given] = name.split(/,\s*/);
  if (given && family && !family.includes(' ')) return given.split(/\s/)[0] ?? given;
  return name.split(/\s+/)[0] ?? name;
}

/** One or two letters for the avatar; works by user-perceived characters, not code units. */
export function initials(address: EmailAddress): string {
  const words = (address.name?.trim() || address.email)
    .replace(/@.*$/, '')
    .split(/[\s._+-]+/)
    .map((word) => word.replace(/^[^\p{L}\p{N}]+/u, ''))
    .filter(Boolean);
  const first = firstCharacter(words[0] ?? '');
  const last = words.length > 1 ? firstCharacter(words.at(-1) ?? '') : '';
  return (first + last).toLocaleUpperCase() || '?';
}

function firstCharacter(word: string): string {
  return [...word][0] ?? '';
}

/** A hue of 0 to 359 that stays with the address. FNV-1a, because neighbours must differ. */
export function hueOf(address: EmailAddress): number {
  let hash = 0x811c9dc5;
  for (const char of address.email.toLowerCase() || (address.name ?? '')) {
    hash ^= char.codePointAt(0) ?? 0;
    hash = Math.imul(hash, 0x01000193) >>> 0;
  }
  return hash % 360;
}

/** "Anna Larsson <anna@example.org>", quoted where the name needs it. */
export function formatAddress(address: EmailAddress): string {
  if (!address.name) return address.email;
  const name = /[",;<>@()[\]\\]/.test(address.name)
    ? `"${address.name.replace(/(["\\])/g, '\\$1')}"`
    : address.name;
  return `${name} <${address.email}>`;
}

const ADDRESS = /^[^\s@<>"(),:;]+@[^\s@<>"(),:;]+\.[^\s@<>"(),:;]+$|^[^\s@<>"(),:;]+@localhost$/;

export function isAddress(text: string): boolean {
  return ADDRESS.test(text);
}

/**
 * Reads what people type or paste into a recipient field: addresses with or without names,
 * separated by comma, semicolon or line end. What is no address comes back in `rest`.
 */
export function parseRecipients(text: string): { addresses: EmailAddress[]; rest: string } {
  const addresses: EmailAddress[] = [];
  const rest: string[] = [];
  for (const piece of splitOutsideQuotes(text)) {
    const match = /^(.*)<([^<>]+)>$/.exec(piece);
    const email = (match?.[2] ?? piece).trim().replace(/^mailto:/i, '');
    const name = match?.[1]?.trim().replace(/^"(.*)"$/, '$1').replace(/\\(.)/g, '$1') || null;
    if (isAddress(email)) addresses.push({ name, email });
    else if (piece) rest.push(piece);
  }
  return { addresses, rest: rest.join(', ') };
}

function splitOutsideQuotes(text: string): string[] {
  const pieces: string[] = [];
  let piece = '';
  let isQuoted = false;
  for (let at = 0; at < text.length; at++) {
    const char = text[at] ?? '';
    if (char === '\\' && isQuoted) {
      piece += char + (text[++at] ?? '');
    } else if (!isQuoted && /[,;\n]/.test(char)) {
      pieces.push(piece.trim());
      piece = '';
    } else {
      if (char === '"') isQuoted = !isQuoted;
      piece += char;
    }
  }
  pieces.push(piece.trim());
  return pieces;
}

export function sameAddress(a: EmailAddress, b: EmailAddress): boolean {
  return a.email.toLowerCase() === b.email.toLowerCase();
}
