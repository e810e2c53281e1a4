/** One message being written: its fields, its files, and the draft kept of it on the server. */
import { explain } from '../jmap/errors';
import type { BodyPart, Email, EmailAddress, Id, Identity } from '../jmap/types';
import type { AccountStore } from '../store/account.svelte';
import {
  chooseIdentity,
  forwardedAttachments,
  ownAddresses,
  quoteIntroduction,
  replyRecipients,
  replyReferences,
  replySubject,
  splitQuote,
  type DraftContent,
  type Quote,
  type ReplyKind,
} from '../store/draft';
import { Outbox, UNDO_SEND_SECONDS, type SentMessage } from '../store/outbox';
import { htmlToText, rebuildHtml } from '../text/editorhtml';
import { escapeHtml, textToHtml } from '../text/plain';

/** Typing pauses this long before a version goes to the server. */
const SAVE_AFTER_MS = 1_500;

export interface AttachmentItem {
  key: number;
  name: string;
  type: string;
  size: number;
  blobId: Id | null;
  error: string | null;
}

export type SaveStatus = 'new' | 'dirty' | 'saving' | 'saved' | 'failed';

export interface ComposerStart {
  to?: EmailAddress[];
  cc?: EmailAddress[];
  bcc?: EmailAddress[];
  subject?: string;
  html?: string;
  quote?: Quote | null;
  attachments?: BodyPart[];
  inReplyTo?: string[];
  references?: string[];
  identity?: Identity | undefined;
  savedId?: Id | null;
  /** What is being written: "Reply", "Forward", "Draft". */
  heading?: string;
  /** The mail this answers; it is marked as answered once this is sent. */
  answers?: { emailId: Id; keyword: '$answered' | '$forwarded' } | null;
}

let nextKey = 1;

export class Composer {
  to = $state.raw<EmailAddress[]>([]);
  cc = $state.raw<EmailAddress[]>([]);
  bcc = $state.raw<EmailAddress[]>([]);
  subject = $state('');
  identityId = $state<Id | null>(null);
  quote = $state.raw<Quote | null>(null);
  attachments = $state<AttachmentItem[]>([]);
  status = $state<SaveStatus>('new');
  isSending = $state(false);
  problem = $state<string | null>(null);
  hasCc = $state(false);
  /** The server's copy of this draft, so that it is not shown twice. */
  savedId = $state<Id | null>(null);
  readonly heading: string;
  readonly answers: ComposerStart['answers'];
  readonly #store: AccountStore;
  readonly #outbox: Outbox;
  readonly #threading: { inReplyTo: string[]; references: string[] };
  #html: string;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #version = 0;
  #isClosed = false;

  constructor(store: AccountStore, start: ComposerStart) {
    this.#store = store;
    this.#outbox = new Outbox(store, start.savedId ?? null);
    this.to = start.to ?? [];
    this.cc = start.cc ?? [];
    this.bcc = start.bcc ?? [];
    this.hasCc = this.cc.length > 0 || this.bcc.length > 0;
    this.subject = start.subject ?? '';
    this.quote = start.quote ?? null;
    const identity = start.identity ?? this.identities[0];
    this.identityId = identity?.id ?? null;
    this.#html = start.html ?? signatureHtml(identity);
    this.answers = start.answers ?? null;
    this.savedId = start.savedId ?? null;
    this.heading = start.heading ?? 'New message';
    this.#threading = { inReplyTo: start.inReplyTo ?? [], references: start.references ?? [] };
    this.attachments = forwardedAttachments(start.attachments).map((file) => ({
      ...file,
      key: nextKey++,
      error: null,
    }));
    if (start.savedId) this.status = 'saved';
  }

  get identities(): Identity[] {
    return [...this.#store.identities.view.values()];
  }

  get identity(): Identity | undefined {
    return this.identities.find(({ id }) => id === this.identityId) ?? this.identities[0];
  }

  get isUploading(): boolean {
    return this.attachments.some((item) => item.blobId === null && item.error === null);
  }

  /** Whether leaving now would lose something. */
  get isUnsaved(): boolean {
    return this.status === 'dirty' || this.status === 'saving' || this.status === 'failed';
  }

  /** What the editor begins with; it may be opened again after an undo. */
  get html(): string {
    return this.#html;
  }

  setHtml(html: string): void {
    this.#html = html;
    this.touch();
  }

  /** Something was changed; a version is saved once the writer pauses. */
  touch(): void {
    if (this.#isClosed) return;
    this.#version++;
    this.status = 'dirty';
    this.problem = null;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => void this.save(), SAVE_AFTER_MS);
  }

  async save(): Promise<void> {
    clearTimeout(this.#timer);
    const { identity } = this;
    if (!identity || this.status === 'saved' || this.status === 'new') return;
    const version = this.#version;
    this.status = 'saving';
    try {
      this.savedId = await this.#outbox.save(this.#content(), identity);
      this.status = version === this.#version ? 'saved' : 'dirty';
    } catch (error) {
      this.status = 'failed';
      this.problem = `This draft could not be saved. ${explain(error)}`;
    }
  }

  /** Sends now. Throws with a sentence; the composer is then as it was. */
  async send(): Promise<SentMessage> {
    clearTimeout(this.#timer);
    const { identity } = this;
    if (!identity) throw new Error('No address to send from has been set up.');
    this.isSending = true;
    try {
      const sent = await this.#outbox.send(this.#content(), identity);
      this.savedId = sent.emailId;
      this.status = 'saved';
      return sent;
    } finally {
      this.isSending = false;
    }
  }

  /** Whether the server can hold a message back for the time of an undo. */
  get canServerHold(): boolean {
    return this.#outbox.maxHoldSeconds >= UNDO_SEND_SECONDS;
  }

  /** After a message was called back: it is a draft again. */
  reopen(): void {
    this.#isClosed = false;
    this.status = 'saved';
  }

  /** Why this cannot be sent yet, or null. */
  obstacle(): string | null {
    if (!this.identity) return 'No address to send from has been set up.';
    if (this.to.length + this.cc.length + this.bcc.length === 0) return 'Add a recipient first.';
    if (this.isUploading) return 'A file is still being uploaded.';
    return null;
  }

  /** Ends editing; what was not saved yet is saved. */
  async close(): Promise<void> {
    if (this.status === 'dirty' || this.status === 'failed') await this.save();
    this.#isClosed = this.status !== 'failed';
    clearTimeout(this.#timer);
  }

  async discard(): Promise<void> {
    this.#isClosed = true;
    clearTimeout(this.#timer);
    await this.#outbox.discard();
  }

  /** Whether anything was written since it was opened. */
  get hasChanged(): boolean {
    return this.#version > 0;
  }

  attach(files: Iterable<File>): void {
    for (const file of files) void this.#upload(file);
  }

  async #upload(file: File): Promise<void> {
    const key = nextKey++;
    const limit = this.#store.client.limits.maxSizeUpload;
    this.attachments.push({
      key,
      name: file.name,
      type: file.type || 'application/octet-stream',
      size: file.size,
      blobId: null,
      error: file.size > limit ? 'This file is too large.' : null,
    });
    if (file.size > limit) return;
    try {
      const { blobId } = await this.#store.client.upload(this.#store.accountId, file);
      this.#update(key, { blobId });
      this.touch();
    } catch (error) {
      this.#update(key, { error: explain(error) });
    }
  }

  #update(key: number, change: Partial<AttachmentItem>): void {
    const item = this.attachments.find((candidate) => candidate.key === key);
    if (item) Object.assign(item, change);
  }

  detach(key: number): void {
    this.attachments = this.attachments.filter((item) => item.key !== key);
    this.touch();
  }

  removeQuote(): void {
    this.quote = null;
    this.touch();
  }

  #content(): DraftContent {
    return {
      identityId: this.identityId,
      to: this.to,
      cc: this.cc,
      bcc: this.bcc,
      subject: this.subject,
      html: this.#html,
      text: htmlToText(rebuildHtml(this.#html)),
      quote: this.quote,
      attachments: this.attachments.flatMap(({ blobId, name, type, size }) =>
        blobId === null ? [] : [{ blobId, name, type, size }],
      ),
      ...this.#threading,
    };
  }
}

function signatureHtml(identity: Identity | undefined): string {
  if (!identity) return '';
  const signature =
    identity.htmlSignature ||
    (identity.textSignature && escapeHtml(identity.textSignature).replaceAll('\n', '<br>'));
  return signature ? `<div><br></div><div><br></div><div>${signature}</div>` : '';
}

/** A composer that answers or passes on a message. */
export async function startReply(
  store: AccountStore,
  email: Email,
  kind: ReplyKind,
): Promise<Composer> {
  await store.bodies.ensure([email.id]);
  const full = store.emails.get(email.id) ?? email;
  const identities = [...store.identities.view.values()];
  return new Composer(store, {
    ...replyRecipients(full, kind, ownAddresses(identities)),
    subject: replySubject(full.subject, kind),
    heading: { reply: 'Reply', replyAll: 'Reply to all', forward: 'Forward' }[kind],
    quote: await quoteOf(store, full, kind),
    identity: chooseIdentity(identities, full),
    answers: { emailId: full.id, keyword: kind === 'forward' ? '$forwarded' : '$answered' },
    ...(kind === 'forward' ?
      { attachments: full.attachments ?? [] }
    : replyReferences(full)),
  });
}

async function quoteOf(store: AccountStore, email: Email, kind: ReplyKind): Promise<Quote> {
  const text = plainTextOf(email);
  const remote = await store.bodies.withRemoteImages(email.id).catch(() => null);
  const html = remote?.html ?? email.safeHtml?.html;
  return {
    isForward: kind === 'forward',
    introduction: quoteIntroduction(email, kind),
    html: html ? withoutInlineImages(html) : textToHtml(text),
    text,
  };
}

/** Pictures that came inside the message stay there: as data they would swell every answer. */
function withoutInlineImages(html: string): string {
  const document = new DOMParser().parseFromString(html, 'text/html');
  for (const image of document.querySelectorAll('img[src^="data:"]')) {
    image.replaceWith(document.createTextNode(image.getAttribute('alt') ?? ''));
  }
  return document.body.innerHTML;
}

/** The text of a message, taken from its HTML where it has no other. */
export function plainTextOf(email: Email): string {
  const values = email.bodyValues ?? {};
  const parts = (email.textBody ?? []).filter(
    (part) => part.partId !== null && part.type.startsWith('text/'),
  );
  return parts
    .map((part) => {
      const value = values[part.partId ?? '']?.value ?? '';
      return part.type === 'text/html' ? htmlToText(rebuildHtml(value)) : value;
    })
    .join('\n');
}

/** A composer that takes up a stored draft. */
export async function resumeDraft(store: AccountStore, email: Email): Promise<Composer> {
  await store.bodies.ensure([email.id]);
  const full = store.emails.get(email.id) ?? email;
  const raw = await store.bodies.rawHtml(email.id);
  const { own, quote } = raw ? splitQuote(raw) : { own: textToHtml(plainTextOf(full)), quote: null };
  return new Composer(store, {
    to: full.to ?? [],
    cc: full.cc ?? [],
    bcc: full.bcc ?? [],
    subject: full.subject ?? '',
    html: own,
    quote,
    attachments: full.attachments ?? [],
    inReplyTo: full.inReplyTo ?? [],
    references: full.references ?? [],
    identity: chooseIdentity([...store.identities.view.values()], full),
    savedId: full.id,
    heading: 'Draft',
  });
}
