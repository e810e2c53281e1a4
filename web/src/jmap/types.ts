/**
 * The JMAP shapes this client uses; no behaviour lives here.
 * RFC 8620 (core), RFC 8621 (mail), and Tindra's own `connect` and `view` capabilities.
 */

export type Id = string;

export const CORE = 'urn:ietf:params:jmap:core';
export const MAIL = 'urn:ietf:params:jmap:mail';
export const SUBMISSION = 'urn:ietf:params:jmap:submission';
export const CONNECT = 'urn:tindra:params:jmap:connect';
export const VIEW = 'urn:tindra:params:jmap:view';

/** Every capability this client can make use of; a request names those the server also has. */
export const KNOWN_CAPABILITIES = [CORE, MAIL, SUBMISSION, CONNECT, VIEW] as const;

export interface CoreLimits {
  maxSizeUpload: number;
  maxConcurrentUpload: number;
  maxSizeRequest: number;
  maxConcurrentRequests: number;
  maxCallsInRequest: number;
  maxObjectsInGet: number;
  maxObjectsInSet: number;
}

export interface SessionAccount {
  name: string;
  isPersonal: boolean;
  isReadOnly: boolean;
  accountCapabilities: Record<string, Record<string, unknown>>;
}

export interface Session {
  capabilities: Record<string, Record<string, unknown>>;
  accounts: Record<Id, SessionAccount>;
  primaryAccounts: Record<string, Id>;
  username: string;
  apiUrl: string;
  downloadUrl: string;
  uploadUrl: string;
  eventSourceUrl: string;
  state: string;
}

export interface ResultReference {
  resultOf: string;
  name: string;
  path: string;
}

export type Invocation = [name: string, args: Record<string, unknown>, callId: string];

export interface EmailAddress {
  name: string | null;
  email: string;
}

export type MailboxRole =
  | 'all'
  | 'archive'
  | 'drafts'
  | 'flagged'
  | 'important'
  | 'inbox'
  | 'junk'
  | 'sent'
  | 'subscribed'
  | 'trash'
  | 'snoozed'
  | 'scheduled';

export interface Mailbox {
  id: Id;
  name: string;
  parentId: Id | null;
  role: MailboxRole | null;
  sortOrder: number;
  totalEmails: number;
  unreadEmails: number;
  totalThreads: number;
  unreadThreads: number;
  isSubscribed: boolean;
  myRights?: Record<string, boolean>;
}

export interface Thread {
  id: Id;
  emailIds: Id[];
}

export interface BodyPart {
  partId: string | null;
  blobId: Id | null;
  size: number;
  name: string | null;
  type: string;
  charset?: string | null;
  disposition: string | null;
  cid: string | null;
}

export interface BodyValue {
  value: string;
  isEncodingProblem?: boolean;
  isTruncated?: boolean;
}

/** Sanitised HTML as the server hands it out; null means the message has no HTML of its own. */
export interface SafeHtml {
  html: string;
  blockedRemote: number;
}

export interface EmailBody {
  bcc: EmailAddress[] | null;
  replyTo: EmailAddress[] | null;
  sentAt: string | null;
  messageId: string[] | null;
  inReplyTo: string[] | null;
  references: string[] | null;
  textBody: BodyPart[];
  htmlBody: BodyPart[];
  attachments: BodyPart[];
  bodyValues: Record<string, BodyValue>;
  safeHtml?: SafeHtml | null;
  safeHtmlRemote?: SafeHtml | null;
}

export interface Email extends Partial<EmailBody> {
  id: Id;
  blobId: Id;
  threadId: Id;
  mailboxIds: Record<Id, true>;
  keywords: Record<string, true>;
  size: number;
  receivedAt: string;
  from: EmailAddress[] | null;
  to: EmailAddress[] | null;
  cc: EmailAddress[] | null;
  subject: string | null;
  preview: string;
  hasAttachment: boolean;
}

export interface Identity {
  id: Id;
  name: string;
  email: string;
  replyTo: EmailAddress[] | null;
  bcc: EmailAddress[] | null;
  textSignature: string;
  htmlSignature: string;
  mayDelete: boolean;
}

export interface SearchSnippet {
  emailId: Id;
  subject: string | null;
  preview: string | null;
}

export type ConnectionPhase =
  | 'connecting'
  | 'backfilling'
  | 'live'
  | 'waiting'
  | 'needsAuth'
  | 'refused'
  | 'stopped';

/** A provider account the server mirrors, and how far it has come. */
export interface Connection {
  id: Id;
  name: string;
  address: string;
  host: string;
  phase: ConnectionPhase;
  progress: number | null;
  messagesDone: number;
  messagesTotal: number | null;
  lastError: string | null;
  nextTryAt: string | null;
}

export type PatchObject = Record<string, unknown>;

export interface GetResponse<T> {
  accountId: Id;
  state: string;
  list: T[];
  notFound: Id[];
}

export interface ChangesResponse {
  accountId: Id;
  oldState: string;
  newState: string;
  hasMoreChanges: boolean;
  created: Id[];
  updated: Id[];
  destroyed: Id[];
}

export interface QueryResponse {
  accountId: Id;
  queryState: string;
  canCalculateChanges: boolean;
  position: number;
  ids: Id[];
  total?: number;
}

export interface QueryChangesResponse {
  accountId: Id;
  oldQueryState: string;
  newQueryState: string;
  total?: number;
  removed: Id[];
  added: { id: Id; index: number }[];
}

export interface SetErrorObject {
  type: string;
  description?: string | null;
  properties?: string[];
}

export interface SetResponse<T> {
  accountId: Id;
  oldState: string | null;
  newState: string;
  created: Record<string, Partial<T> & { id: Id }> | null;
  updated: Record<Id, Partial<T> | null> | null;
  destroyed: Id[] | null;
  notCreated: Record<string, SetErrorObject> | null;
  notUpdated: Record<Id, SetErrorObject> | null;
  notDestroyed: Record<Id, SetErrorObject> | null;
}

export interface StateChange {
  '@type': 'StateChange';
  changed: Record<Id, Record<string, string>>;
}

export interface UploadResponse {
  accountId: Id;
  blobId: Id;
  type: string;
  size: number;
}
