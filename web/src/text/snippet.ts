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

export function decodeEntities(text: string): string {
  return text.replace(/&(?:#(\d{1,7})|#x([0-9a-f]{1,6})|(\w{2,6}));/gi, (all, dec, hex, name) => {
    if (name) return ENTITIES[String(name).toLowerCase()] ?? all;
    const code = dec ? Number(dec) : parseInt(String(hex), 16);
    return code > 0 && code <= 0x10ffff ? String.fromCodePoint(code) : all;
  });
}
