/** Plain-text messages: links, quotations and signatures found in them. Pure. */

export interface TextRun {
  text: string;
  href: string | null;
}

export interface TextBlock {
  kind: 'text' | 'quote' | 'signature';
  runs: TextRun[];
}

export interface PlainParts {
  blocks: TextBlock[];
  /** The quotation the message ends with, which a reader has usually seen before. */
  trailing: TextBlock[];
}

/** Bounded on the left, so that a long word is not tried from each of its letters. */
const LINK =
  /\bhttps?:\/\/[^\s<>"'`{}|\\^]+|\bmailto:[^\s<>"']+|(?<![\w.+-])[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63})+/gi;

/** Cuts a line into text and links; a link never takes the full stop that ends a sentence. */
export function linkify(text: string): TextRun[] {
  const runs: TextRun[] = [];
  let at = 0;
  for (const match of text.matchAll(LINK)) {
    const link = trimLink(match[0]);
    if (match.index > at) runs.push({ text: text.slice(at, match.index), href: null });
    const href = /^(https?|mailto):/i.test(link) ? link : `mailto:${link}`;
    runs.push({ text: link, href });
    at = match.index + link.length;
  }
  if (at < text.length) runs.push({ text: text.slice(at), href: null });
  return runs;
}

/** Leaves off what ends the sentence: punctuation, and brackets that were opened outside. */
function trimLink(link: string): string {
  let unopened = count(link, ')') - count(link, '(');
  let end = link.length;
  for (; end > 0; end--) {
    const char = link[end - 1] ?? '';
    if (char === ')' && unopened > 0) unopened--;
    else if (!/[.,;:!?'"]/.test(char)) break;
  }
  return link.slice(0, end);
}

function count(text: string, char: string): number {
  return text.split(char).length - 1;
}

/** Splits a text into blocks and sets the trailing quotation apart. Cost: linear. */
export function parsePlain(text: string): PlainParts {
  const blocks = toBlocks(text.replace(/\r\n?/g, '\n').trimEnd());
  let cut = blocks.length;
  while (cut > 0 && isQuoteOrBlank(blocks[cut - 1])) cut--;
  const hasQuote = blocks.slice(cut).some((block) => block.kind === 'quote');
  // A message that is nothing but a quotation is shown whole.
  if (!hasQuote || cut === 0) return { blocks, trailing: [] };
  const kept = blocks.slice(0, cut);
  const trailing = blocks.slice(cut);
  const attribution = takeAttribution(kept);
  return { blocks: kept, trailing: attribution ? [attribution, ...trailing] : trailing };
}

function isQuoteOrBlank(block: TextBlock | undefined): boolean {
  if (!block) return false;
  return block.kind === 'quote' || block.runs.every((run) => run.text.trim() === '');
}

/** An introduction is one line or two. */
const ATTRIBUTION_CHARS_MAX = 500;

/** "On Monday, Anna wrote:" belongs to the quotation under it. */
function takeAttribution(blocks: TextBlock[]): TextBlock | null {
  const last = blocks.at(-1);
  if (!last || last.kind === 'quote') return null;
  const text = last.runs.map((run) => run.text).join('');
  const tail = text.slice(-ATTRIBUTION_CHARS_MAX);
  const match = /(?:^|\n)([^\n]{1,200}(?:\n[^\n]{1,200})?:)\s*$/.exec(tail);
  if (!match || !/\d|@/.test(match[1] ?? '')) return null;
  const rest = text.slice(0, text.length - tail.length + match.index).trimEnd();
  if (!rest) return null;
  blocks[blocks.length - 1] = { kind: last.kind, runs: linkify(rest) };
  return { kind: 'text', runs: linkify((match[1] ?? '').trim()) };
}

function toBlocks(text: string): TextBlock[] {
  const groups: { kind: TextBlock['kind']; lines: string[] }[] = [];
  let isSignature = false;
  for (const line of text.split('\n')) {
    const isQuote = /^\s?>/.test(line);
    // Many write above the quotation and sign there, so a signature can end before the message.
    isSignature = !isQuote && (isSignature || /^-- ?$/.test(line));
    const kind = isQuote ? 'quote' : isSignature ? 'signature' : 'text';
    const last = groups.at(-1);
    if (last?.kind === kind) last.lines.push(line);
    else groups.push({ kind, lines: [line] });
  }
  return groups.map(({ kind, lines }) => ({
    kind,
    runs: linkify(
      kind === 'quote' ? lines.map((line) => line.replace(/^\s?> ?/, '')).join('\n')
      : lines.join('\n'),
    ),
  }));
}

export function quoteText(text: string): string {
  return text
    .trimEnd()
    .split('\n')
    .map((line) => (line.startsWith('>') ? `>${line}` : `> ${line}`))
    .join('\n');
}

const ESCAPES: Record<string, string> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' };

export function escapeHtml(text: string): string {
  return text.replace(/[&<>"]/g, (char) => ESCAPES[char] ?? char);
}

/** Plain text as HTML that looks the same. */
export function textToHtml(text: string): string {
  return text
    .split('\n')
    .map((line) => {
      const html = linkify(line)
        .map((run) => {
          const shown = escapeHtml(run.text);
          return run.href ? `<a href="${escapeHtml(run.href)}">${shown}</a>` : shown;
        })
        .join('')
        .replace(/^ | (?= )/g, '&nbsp;');
      return `<div>${html || '<br>'}</div>`;
    })
    .join('');
}
