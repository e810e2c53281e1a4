/**
 * HTML in and out of the compose editor. What comes in is rebuilt from an allow list in an inert
 * document; what goes out is turned into the plain-text alternative as well.
 */

const KEPT = new Set([
  'A', 'B', 'BLOCKQUOTE', 'BR', 'CODE', 'DIV', 'EM', 'H1', 'H2', 'H3', 'I', 'LI', 'OL', 'P', 'PRE',
  'S', 'SPAN', 'STRONG', 'U', 'UL',
]);
const DROPPED = new Set(['SCRIPT', 'STYLE', 'TITLE', 'HEAD', 'TEMPLATE', 'IFRAME', 'OBJECT', 'SVG']);
const BLOCKS = new Set(['DIV', 'P', 'UL', 'OL', 'LI', 'BLOCKQUOTE', 'PRE', 'H1', 'H2', 'H3']);

/** Elements nest no deeper than this when rebuilt; no person writes so, and recursion is bounded. */
const DEPTH_MAX = 100;

/** A fragment that holds only the allowed elements of `html`, none with attributes but links. */
export function rebuildHtml(html: string): DocumentFragment {
  const source = new DOMParser().parseFromString(html, 'text/html');
  const target = document.createDocumentFragment();
  copyChildren(source.body, target, 0);
  return target;
}

function copyChildren(from: Node, to: Node, depth: number): void {
  if (depth > DEPTH_MAX) {
    to.appendChild(document.createTextNode(from.textContent ?? ''));
    return;
  }
  for (const node of from.childNodes) {
    if (node.nodeType === Node.TEXT_NODE) {
      to.appendChild(document.createTextNode(node.textContent ?? ''));
    } else if (node instanceof Element && !DROPPED.has(node.tagName.toUpperCase())) {
      copyElement(node, to, depth);
    }
  }
}

function copyElement(element: Element, to: Node, depth: number): void {
  const tag = element.tagName.toUpperCase();
  if (!KEPT.has(tag)) {
    copyChildren(element, to, depth + 1);
    if (tag === 'TR') to.appendChild(document.createElement('br'));
    return;
  }
  const copy = document.createElement(tag);
  const href = element.getAttribute('href') ?? '';
  if (tag === 'A' && /^\s*(https?:|mailto:)/i.test(href)) copy.setAttribute('href', href.trim());
  copyChildren(element, copy, depth + 1);
  to.appendChild(copy);
}

/** The text a mail program without HTML should show. */
export function htmlToText(root: Node): string {
  const writer = new TextWriter();
  writer.write(root);
  return writer.finish();
}

class TextWriter {
  #lines: string[] = [''];
  #prefix = '';
  #isFresh = true;

  write(node: Node): void {
    for (const child of node.childNodes) {
      if (child.nodeType === Node.TEXT_NODE) this.#text(child.textContent ?? '');
      else if (child instanceof Element) this.#element(child);
    }
  }

  finish(): string {
    return this.#lines
      .map((line) => line.replace(/[ \u00A0]+$/, ''))
      .join('\n')
      .replace(/\n{3,}/g, '\n\n')
      .trim();
  }

  #text(text: string): void {
    const shown = text.replace(/[ \t\n\r]+/g, ' ');
    if (this.#isFresh && shown.trim() === '' && !shown.includes('\u00A0')) return;
    this.#append(this.#isFresh ? shown.trimStart() : shown);
  }

  #append(text: string): void {
    this.#lines[this.#lines.length - 1] += text.replaceAll('\u00A0', ' ');
    if (text) this.#isFresh = false;
  }

  #newLine(): void {
    this.#lines.push(this.#prefix);
    this.#isFresh = true;
  }

  #element(element: Element): void {
    const tag = element.tagName;
    if (tag === 'BR') {
      this.#newLine();
      return;
    }
    if (DROPPED.has(tag)) return;
    const isBlock = BLOCKS.has(tag) || tag === 'TR' || tag === 'TABLE';
    if (isBlock && !this.#isFresh) this.#newLine();
    const outer = this.#prefix;
    if (tag === 'BLOCKQUOTE') this.#enter(`${outer}> `);
    if (tag === 'LI') this.#append(bullet(element));
    this.write(element);
    if (tag === 'A') this.#linkTarget(element);
    this.#prefix = outer;
    if (isBlock && !this.#isFresh) this.#newLine();
    else if (tag === 'BLOCKQUOTE') this.#lines[this.#lines.length - 1] = outer;
    if (tag === 'P') this.#newLine();
  }

  #enter(prefix: string): void {
    this.#prefix = prefix;
    this.#lines[this.#lines.length - 1] = prefix;
  }

  #linkTarget(link: Element): void {
    const href = link.getAttribute('href') ?? '';
    const shown = link.textContent?.trim() ?? '';
    if (/^https?:/i.test(href) && href !== shown) this.#append(` <${href}>`);
  }
}

function bullet(item: Element): string {
  if (item.parentElement?.tagName !== 'OL') return '- ';
  return `${[...item.parentElement.children].indexOf(item) + 1}. `;
}
