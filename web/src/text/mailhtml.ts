/**
 * The document a message's HTML is shown in. The HTML comes sanitised from the server, and nothing
 * here relies on its own rewriting being as careful: the result is only ever shown in a frame
 * without scripts and without our origin, under a Content-Security-Policy of its own.
 *
 * Invariant: no markup made here is ever set into our own document.
 */

export interface MailHtml {
  /** Markup without the trailing quotation. */
  html: string;
  /** The trailing quotation, or the empty string. */
  quoted: string;
  /** It brings colours or a layout of its own, made for white paper. */
  isDesigned: boolean;
}

/** Where mail programs begin to quote the mail that is answered. */
const QUOTE_SELECTOR = '.gmail_quote, .yahoo_quoted, #divRplyFwdMsg, blockquote';

/** Candidates looked at; a quotation that ends the message is among the outermost, so the first. */
const QUOTES_MAX = 20;

const DESIGN =
  /\bbgcolor\s*=|\bbackground(-color|-image)?\s*[:=]|<table[\s>]|[;"'\s{]color\s*[:=]|<font\s[^>]*color|<style[\s>]/i;

export function prepareMailHtml(source: string, areImagesAllowed: boolean): MailHtml {
  const document = new DOMParser().parseFromString(source, 'text/html');
  secureLinks(document);
  if (!areImagesAllowed) holdImagePlaces(document);
  const quote = findTrailingQuote(document);
  let quoted = '';
  if (quote) {
    quoted = quote.map((node) => outerHtml(node)).join('');
    for (const node of quote) node.remove();
  }
  trimEnd(document.body);
  const head = [...document.head.querySelectorAll('style')].map((style) => style.outerHTML).join('');
  const html = head + document.body.innerHTML;
  return { html, quoted: quoted && head + quoted, isDesigned: DESIGN.test(html) };
}

function outerHtml(node: ChildNode): string {
  return node instanceof Element ? node.outerHTML : (node.textContent ?? '');
}

/** Links open outside the frame and tell nobody where they were clicked. */
function secureLinks(document: Document): void {
  for (const link of document.querySelectorAll('a[href], area[href]')) {
    const href = link.getAttribute('href') ?? '';
    if (!/^\s*(https?:|mailto:|tel:)/i.test(href)) {
      link.removeAttribute('href');
      continue;
    }
    link.setAttribute('target', '_blank');
    link.setAttribute('rel', 'noopener noreferrer');
    if (!link.getAttribute('title') && /^\s*https?:/i.test(href)) link.setAttribute('title', href);
  }
}

const BLANK_IMAGE = 'data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7';

/** Narrower or lower than this, a picture is a spacer or a counter, and no box is drawn for it. */
const BOX_PX_MIN = 24;

/** Pictures that may not load keep their place, so that nothing jumps when they are let in. */
function holdImagePlaces(document: Document): void {
  for (const image of document.querySelectorAll('img')) {
    if (/^data:/i.test(image.getAttribute('src') ?? '')) continue;
    image.removeAttribute('srcset');
    const [width, height] = ['width', 'height'].map((side) => Number(image.getAttribute(side)));
    const isBox = (width ?? 0) >= BOX_PX_MIN && (height ?? 0) >= BOX_PX_MIN;
    const alt = image.getAttribute('alt')?.trim();
    if (isBox) image.style.backgroundColor = 'rgba(127, 127, 127, 0.16)';
    else if (alt) {
      image.replaceWith(document.createTextNode(alt));
      continue;
    }
    image.setAttribute('src', BLANK_IMAGE);
  }
}

/** The quotation with its introduction, if there is text of the writer's own before it. */
function findTrailingQuote(document: Document): ChildNode[] | null {
  const candidates = [...document.querySelectorAll(QUOTE_SELECTOR)].slice(0, QUOTES_MAX);
  for (const quote of candidates) {
    // What is passed on is the message itself, not a reminder of one.
    if (/^\s*-{5,}/.test(quote.textContent ?? '')) return null;
    const isHeaderBlock = quote.id === 'divRplyFwdMsg';
    // An answer written between or under the quotation must stay in sight.
    if (!isHeaderBlock && textBetween(document, quote, 'after')) continue;
    const nodes: ChildNode[] = [quote];
    const before = quote.previousElementSibling;
    if (before && isAttribution(before)) nodes.unshift(before);
    for (let next = quote.nextSibling; next; next = next.nextSibling) nodes.push(next);
    const first = nodes[0] ?? quote;
    return textBetween(document, first, 'before') ? nodes : null;
  }
  return null;
}

function textBetween(document: Document, node: Node, side: 'before' | 'after'): string {
  const range = document.createRange();
  range.selectNodeContents(document.body);
  if (side === 'before') range.setEndBefore(node);
  else range.setStartAfter(node);
  return range.toString().trim();
}

/** "On Monday, Anna wrote:" */
function isAttribution(element: Element): boolean {
  const text = element.textContent?.trim() ?? '';
  return text.length < 300 && /:$/.test(text) && /\d|@/.test(text);
}

function trimEnd(body: HTMLElement): void {
  for (;;) {
    const last = body.lastChild;
    if (!last) return;
    const isBlank =
      last.nodeType === Node.TEXT_NODE ?
        (last.textContent ?? '').trim() === ''
      : last instanceof Element && (last.tagName === 'BR' || isEmptyBlock(last));
    if (!isBlank) return;
    last.remove();
  }
}

function isEmptyBlock(element: Element): boolean {
  if (!/^(DIV|P)$/.test(element.tagName)) return false;
  return !element.textContent?.trim() && !element.querySelector('img, hr, table');
}

export interface FrameTheme {
  isDark: boolean;
  text: string;
  link: string;
  muted: string;
}

/** A whole document around sanitised HTML. `remote` lets images of other hosts in. */
export function frameDocument(html: string, theme: FrameTheme, remote: boolean): string {
  const images = remote ? 'data: https: http:' : 'data:';
  const policy = `default-src 'none'; img-src ${images}; style-src 'unsafe-inline'; font-src data:; base-uri 'none'; form-action 'none'`;
  return `<!doctype html><html><head><meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="${policy}"><meta name="referrer" content="no-referrer"><meta name="viewport" content="width=device-width"><style>${frameStyle(theme)}</style></head><body>${html}</body></html>`;
}

function frameStyle(theme: FrameTheme): string {
  return `
:root { color-scheme: ${theme.isDark ? 'dark' : 'light'}; background: transparent; }
html, body { margin: 0; padding: 0; }
html { overflow: auto hidden; }
body {
  font: 15px/1.6 -apple-system, BlinkMacSystemFont, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
  color: ${theme.text}; overflow-wrap: break-word; display: flow-root;
}
a { color: ${theme.link}; text-underline-offset: 2px; }
img { max-width: 100%; }
img:not([height]) { height: auto; }
pre { white-space: pre-wrap; font: 13px/1.55 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
blockquote { margin: 8px 0 8px 0; padding: 0 0 0 14px; border-left: 2px solid ${theme.muted}; }
p { margin: 0 0 1em; } p:last-child { margin-bottom: 0; }
table { max-width: 100%; }
`;
}
