/**
 * A message being written, as plain values, and the JMAP objects made of it. Pure.
 * RFC 8621 s4.6 (creating), s7 (submitting)
 */
import type { BodyPart, Email, EmailAddress, Id, Identity } from '../jmap/types';
import { fullDate } from '../text/dates';
import { displayName, formatAddress, sameAddress } from '../text/names';
import { htmlToText } from '../text/editorhtml';
import { escapeHtml, quoteText } from '../text/plain';

export type ReplyKind = 'reply' | 'replyAll' | 'forward';

export interface Attachment {
  blobId: Id;
  name: string;
  type: string;
  size: number;
}

/** The message below the writer's text: kept apart from the editor, shown only in a frame. */
export interface Quote {
  /** A forwarded message is shown as it is; a quotation is set back and may be folded away. */
  isForward: boolean;
  introduction: string;
  html: string;
  text: string;
}

export interface DraftContent {
  identityId: Id | null;
  to: EmailAddress[];
  cc: EmailAddress[];
  bcc: EmailAddress[];
  subject: string;
  html: string;
  text: string;
  quote: Quote | null;
  attachments: Attachment[];
  inReplyTo: string[];
  references: string[];
}

export const QUOTE_CLASS = 'tindra_quote';

/** Servers and programs alike give up on longer chains; what is in the middle helps nobody. */
const REFERENCES_MAX = 50;

export function buildEmail(
  content: DraftContent,
  identity: Identity,
  mailboxId: Id,
): Record<string, unknown> {
  const html = content.quote ? content.html + quoteHtml(content.quote) : content.html;
  const text = content.quote ? `${content.text}\n\n${quotePlain(content.quote)}` : content.text;
  return {
    mailboxIds: { [mailboxId]: true },
    keywords: { $draft: true, $seen: true },
    from: [{ name: identity.name || null, email: identity.email }],
    to: content.to,
    ...(content.cc.length > 0 && { cc: content.cc }),
    ...(content.bcc.length > 0 && { bcc: content.bcc }),
    ...(identity.replyTo?.length && { replyTo: identity.replyTo }),
    subject: content.subject,
    ...(content.inReplyTo.length > 0 && { inReplyTo: content.inReplyTo }),
    ...(content.references.length > 0 && { references: content.references }),
    textBody: [{ partId: 'text', type: 'text/plain' }],
    htmlBody: [{ partId: 'html', type: 'text/html' }],
    bodyValues: {
      text: { value: text },
      html: { value: `<!doctype html><html><body>${html}</body></html>` },
    },
    ...(content.attachments.length > 0 && {
      attachments: content.attachments.map(({ blobId, name, type }) => ({
        blobId,
        name,
        type,
        disposition: 'attachment',
      })),
    }),
  };
}

function quoteHtml(quote: Quote): string {
  const introduction = escapeHtml(quote.introduction).replaceAll('\n', '<br>');
  if (quote.isForward) {
    return `<br><div class="${QUOTE_CLASS}"><div>${introduction}</div><br><div>${quote.html}</div></div>`;
  }
  // The first class is the one that other programs know to fold.
  return `<br><div class="gmail_quote ${QUOTE_CLASS}"><div class="gmail_attr">${introduction}</div><blockquote type="cite">${quote.html}</blockquote></div>`;
}

function quotePlain(quote: Quote): string {
  if (quote.isForward) return `${quote.introduction}\n\n${quote.text.trimEnd()}`;
  return `${quote.introduction}\n${quoteText(quote.text)}`;
}

/** Takes a stored draft apart again: what the editor shows, and the quotation below. */
export function splitQuote(html: string): { own: string; quote: Quote | null } {
  const document = new DOMParser().parseFromString(html, 'text/html');
  const element = document.querySelector(`.${QUOTE_CLASS}`);
  if (!element) return { own: document.body.innerHTML, quote: null };
  const introduction = element.firstElementChild;
  const content = element.lastElementChild;
  const quote: Quote = {
    isForward: content?.tagName !== 'BLOCKQUOTE',
    introduction: introduction ? lines(introduction) : '',
    html: content?.innerHTML ?? '',
    text: content ? htmlToText(content) : '',
  };
  const gap = element.previousElementSibling;
  if (gap?.tagName === 'BR') gap.remove();
  element.remove();
  return { own: document.body.innerHTML, quote };
}

function lines(element: Element): string {
  for (const br of element.querySelectorAll('br')) br.replaceWith('\n');
  return element.textContent ?? '';
}

/** The EmailSubmission/set arguments that send an email and file it when it is gone. */
export function buildSubmission(
  emailId: Id,
  content: DraftContent,
  identity: Identity,
  mailboxes: { draftsId: Id; sentId: Id | null },
  holdSeconds: number,
): Record<string, unknown> {
  const filed: Record<string, unknown> = { 'keywords/$draft': null, 'keywords/$seen': true };
  if (mailboxes.sentId !== null && mailboxes.sentId !== mailboxes.draftsId) {
    filed[`mailboxIds/${mailboxes.draftsId}`] = null;
    filed[`mailboxIds/${mailboxes.sentId}`] = true;
  }
  const recipients = [...content.to, ...content.cc, ...content.bcc];
  const envelope = {
    mailFrom: { email: identity.email, parameters: { HOLDFOR: String(holdSeconds) } },
    rcptTo: uniqueAddresses(recipients).map(({ email }) => ({ email, parameters: null })),
  };
  return {
    create: {
      send: { identityId: identity.id, emailId, ...(holdSeconds > 0 && { envelope }) },
    },
    onSuccessUpdateEmail: { '#send': filed },
  };
}

export function uniqueAddresses(addresses: readonly EmailAddress[]): EmailAddress[] {
  return addresses.filter(
    (address, at) => addresses.findIndex((other) => sameAddress(other, address)) === at,
  );
}

const without = (
  addresses: readonly EmailAddress[],
  unwanted: readonly EmailAddress[],
): EmailAddress[] =>
  addresses.filter((address) => !unwanted.some((other) => sameAddress(other, address)));

/** Who an answer goes to. An answer to one's own mail goes to whom that went. RFC 5322 s3.6.2 */
export function replyRecipients(
  email: Email,
  kind: ReplyKind,
  own: readonly EmailAddress[],
): { to: EmailAddress[]; cc: EmailAddress[] } {
  if (kind === 'forward') return { to: [], cc: [] };
  const from = email.from ?? [];
  const isOwn = from.length > 0 && without(from, own).length === 0;
  const replyTo = email.replyTo?.length ? email.replyTo : from;
  const to = uniqueAddresses(isOwn ? (email.to ?? []) : replyTo);
  if (kind === 'reply') return { to, cc: [] };
  const allTo = uniqueAddresses([...to, ...without(email.to ?? [], own)]);
  const cc = without(uniqueAddresses(without(email.cc ?? [], own)), allTo);
  return { to: allTo.length > 0 ? allTo : to, cc };
}

const PREFIX = /^\s*((re|aw|sv|vs|antw|fwd?|wg|vb)(\[\d+\])?\s*:\s*)+/i;

export function replySubject(subject: string | null, kind: ReplyKind): string {
  const bare = (subject ?? '').replace(PREFIX, '').trim();
  return `${kind === 'forward' ? 'Fwd' : 'Re'}: ${bare}`.trim();
}

/** The threading headers of an answer. Source: RFC 5322 s3.6.4 */
export function replyReferences(email: Email): { inReplyTo: string[]; references: string[] } {
  const own = email.messageId ?? [];
  const earlier = email.references?.length ? email.references : (email.inReplyTo ?? []);
  const references = [...new Set([...earlier, ...own])];
  // The first message starts the thread; the middle of a long chain can go.
  if (references.length > REFERENCES_MAX) references.splice(1, references.length - REFERENCES_MAX);
  return { inReplyTo: own, references };
}

export function quoteIntroduction(email: Email, kind: ReplyKind): string {
  const from = email.from?.[0];
  if (kind !== 'forward') {
    const who = from ? displayName(from) : 'someone';
    return `On ${fullDate(email.sentAt ?? email.receivedAt)}, ${who} wrote:`;
  }
  const list = (addresses: EmailAddress[] | null): string =>
    (addresses ?? []).map(formatAddress).join(', ');
  return [
    '---------- Forwarded message ----------',
    `From: ${list(email.from)}`,
    `Date: ${fullDate(email.sentAt ?? email.receivedAt)}`,
    `Subject: ${email.subject ?? ''}`,
    `To: ${list(email.to)}`,
    ...(email.cc?.length ? [`Cc: ${list(email.cc)}`] : []),
  ].join('\n');
}

/** What a forwarded message carries along: its files, and pictures that only its HTML showed. */
export function forwardedAttachments(parts: readonly BodyPart[] | undefined): Attachment[] {
  return (parts ?? [])
    .filter((part) => part.blobId !== null)
    .map((part) => ({
      blobId: part.blobId ?? '',
      name: part.name || 'attachment',
      type: part.type,
      size: part.size,
    }));
}

/** The identity that was written to, or the first. */
export function chooseIdentity(
  identities: readonly Identity[],
  email: Email | null,
): Identity | undefined {
  const addressed = [...(email?.to ?? []), ...(email?.cc ?? []), ...(email?.from ?? [])];
  return (
    identities.find((identity) => addressed.some((address) => sameAddress(address, { name: null, email: identity.email }))) ??
    identities[0]
  );
}

export function ownAddresses(identities: readonly Identity[]): EmailAddress[] {
  return identities.map(({ name, email }) => ({ name, email }));
}
