/** Search snippets as segments, so that no markup of theirs ever reaches the page. RFC 8621 s5 */

export interface Segment {
  text: string;
  isMatch: boolean;
}

const ENTITIES: Record<string, string> = {
  amp: '&',
  lt: '<',
  gt: '>',
  quot: '"',
  apos: "'",
  nbsp: '\u00A0',
};

/** Splits at `<mark>`; anything else that looks like a tag stays visible text. */
export function parseSnippet(html: string): Segment[] {
  const segments: Segment[] = [];
  let isMatch = false;
  for (const piece of html.split(/(<\/?mark>)/i)) {
    const tag = piece.toLowerCase();
    if (tag === '<mark>') isMatch = true;
    else if (tag === '</mark>') isMatch = false;
    else if (piece) segments.push({ text: decodeEntities(piece), isMatch });
  }
  return segments;
}

/** A row is short: at most this much of the text before the first match is shown. */
const LEAD_CHARS_MAX = 24;

/** The same segments, cut at the front so that the first match is in sight. */
export function leadToMatch(segments: readonly Segment[]): Segment[] {
  const first = segments.findIndex((segment) => segment.isMatch);
  const lead = segments.slice(0, Math.max(0, first)).map((segment) => segment.text).join('');
  if (lead.length <= LEAD_CHARS_MAX) return [...segments];
  const tail = lead.slice(-LEAD_CHARS_MAX).replace(/^\S*\s/, '');
  return [{ text: `…${tail}`, isMatch: false }, ...segments.slice(first)];
}

export function decodeEntities(text: string): string {
  return text.replace(/&(?:#(\d{1,7})|#x([0-9a-f]{1,6})|(\w{2,6}));/gi, (all, dec, hex, name) => {
    if (name) return ENTITIES[String(name).toLowerCase()] ?? all;
    const code = dec ? Number(dec) : parseInt(String(hex), 16);
    return code > 0 && code <= 0x10ffff ? String.fromCodePoint(code) : all;
  });
}
