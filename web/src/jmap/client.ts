/**
 * The wire to one JMAP server: session, batched requests, upload and download.
 * Knows nothing about mail. Source: RFC 8620 s2, s3, s6
 */
import { type Batch, packBatches, settle } from './batch';
import { OfflineError, RequestError, SignedOutError } from './errors';
import {
  CORE,
  KNOWN_CAPABILITIES,
  type CoreLimits,
  type Id,
  type Invocation,
  type Session,
  type UploadResponse,
} from './types';

/** What RFC 8620 s2 asks every server to allow at least; used where the session is silent. */
const FALLBACK_LIMITS: CoreLimits = {
  maxSizeUpload: 50_000_000,
  maxConcurrentUpload: 4,
  maxSizeRequest: 10_000_000,
  maxConcurrentRequests: 4,
  maxCallsInRequest: 16,
  maxObjectsInGet: 500,
  maxObjectsInSet: 500,
};

export type Fetch = (input: string, init?: RequestInit) => Promise<Response>;

export interface ClientOptions {
  token: string;
  fetch?: Fetch;
  /** Called once when the server no longer accepts the token. */
  onSignedOut?: () => void;
}

interface Waiting {
  batch: Batch;
  calls: Batch['calls'];
  resolve: () => void;
  reject: (error: unknown) => void;
}

export class Client {
  session!: Session;
  limits: CoreLimits = FALLBACK_LIMITS;
  readonly #token: string;
  readonly #fetch: Fetch;
  readonly #onSignedOut: () => void;
  #waiting: Waiting[] = [];
  #isSignedOut = false;

  constructor(options: ClientOptions) {
    this.#token = options.token;
    this.#fetch = options.fetch ?? ((input, init) => fetch(input, init));
    this.#onSignedOut = options.onSignedOut ?? (() => undefined);
  }

  async loadSession(): Promise<Session> {
    const response = await this.fetchAuthorized('/.well-known/jmap', {
      headers: { Accept: 'application/json' },
    });
    this.session = (await response.json()) as Session;
    const core = this.session.capabilities[CORE] as Partial<CoreLimits> | undefined;
    this.limits = { ...FALLBACK_LIMITS, ...core };
    return this.session;
  }

  has(capability: string): boolean {
    return capability in this.session.capabilities;
  }

  /**
   * Sends a batch. Batches sent in the same turn share a request where the server's limit allows.
   * Resolves when the answers are in (each call settles by itself); rejects if the request failed.
   */
  send(batch: Batch): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ batch, calls: batch.calls, resolve, reject });
      if (this.#waiting.length === 1) queueMicrotask(() => void this.#flush());
    });
  }

  async #flush(): Promise<void> {
    const waiting = this.#waiting;
    this.#waiting = [];
    const packed = packBatches(waiting, this.limits.maxCallsInRequest);
    await Promise.all(packed.map((group) => this.#sendGroup(group)));
  }

  async #sendGroup(group: Waiting[]): Promise<void> {
    const calls = group.flatMap((entry) => entry.calls);
    try {
      const invocations = group.flatMap((entry) => entry.batch.invocations());
      settle(calls, await this.#post(invocations));
      for (const entry of group) entry.resolve();
    } catch (error) {
      for (const call of calls) call.fail(error);
      for (const entry of group) entry.reject(error);
    }
  }

  async #post(methodCalls: Invocation[]): Promise<Invocation[]> {
    const using = KNOWN_CAPABILITIES.filter((capability) => this.has(capability));
    const response = await this.fetchAuthorized(samePath(this.session.apiUrl), {
      method: 'POST',
      headers: { 'Content-Type': 'application/json', Accept: 'application/json' },
      body: JSON.stringify({ using, methodCalls }),
    });
    const body = (await response.json()) as {
      methodResponses: Invocation[];
      sessionState: string;
    };
    if (body.sessionState !== this.session.state) {
      // Limits or accounts changed; remember the new state first, so this happens once per change.
      this.session.state = body.sessionState;
      void this.loadSession().catch(() => undefined);
    }
    return body.methodResponses;
  }

  /** Stores bytes on the server so that a message can refer to them. Source: RFC 8620 s6.1 */
  async upload(accountId: Id, file: Blob): Promise<UploadResponse> {
    const url = fillTemplate(this.session.uploadUrl, { accountId });
    const response = await this.fetchAuthorized(samePath(url), {
      method: 'POST',
      headers: { 'Content-Type': file.type || 'application/octet-stream' },
      body: file,
    });
    return (await response.json()) as UploadResponse;
  }

  /** Source: RFC 8620 s6.2 */
  async download(accountId: Id, blobId: Id, name: string, type: string): Promise<Blob> {
    const url = fillTemplate(this.session.downloadUrl, { accountId, blobId, name, type });
    return await (await this.fetchAuthorized(samePath(url), {})).blob();
  }

  eventSourceUrl(types: readonly string[], pingSeconds: number): string {
    const values = { types: types.join(','), closeafter: 'no', ping: String(pingSeconds) };
    return samePath(fillTemplate(this.session.eventSourceUrl, values));
  }

  /** Ends the token on the server; a failure to reach it is not the user's problem. */
  async signOut(): Promise<void> {
    this.#isSignedOut = true;
    await this.#fetch('/auth/token', { method: 'DELETE', headers: this.#headers({}) }).catch(
      () => undefined,
    );
  }

  /**
   * fetch with the bearer token and one way to fail.
   * @throws OfflineError, SignedOutError, RequestError
   */
  async fetchAuthorized(url: string, init: RequestInit): Promise<Response> {
    let response: Response;
    try {
      response = await this.#fetch(url, { ...init, headers: this.#headers(init.headers ?? {}) });
    } catch (error) {
      if (error instanceof DOMException && error.name === 'AbortError') throw error;
      throw new OfflineError(error);
    }
    if (response.ok) return response;
    if (response.status === 401) {
      if (!this.#isSignedOut) {
        this.#isSignedOut = true;
        this.#onSignedOut();
      }
      throw new SignedOutError();
    }
    throw await requestError(response);
  }

  #headers(extra: HeadersInit): HeadersInit {
    return { ...(extra as Record<string, string>), Authorization: `Bearer ${this.#token}` };
  }
}

async function requestError(response: Response): Promise<Error> {
  if (response.status === 502 || response.status === 503 || response.status === 504) {
    return new OfflineError();
  }
  const problem = (await response.json().catch(() => ({}))) as Record<string, unknown>;
  const detail = problem['detail'] ?? problem['title'] ?? `The server answered ${response.status}.`;
  return new RequestError(response.status, String(problem['type'] ?? ''), String(detail));
}

/**
 * The path of an absolute URL. The client is served by the server it talks to, so the origin is
 * known; a server that is wrong about its public name stays usable.
 */
export function samePath(url: string): string {
  return url.replace(/^[a-z][a-z0-9+.-]*:\/\/[^/?#]*/i, '') || '/';
}

/** Level 1 URI template expansion. Source: RFC 6570 s3.2.2 */
export function fillTemplate(template: string, values: Record<string, string>): string {
  return template.replace(/\{(\w+)\}/g, (_, name: string) =>
    encodeURIComponent(values[name] ?? ''),
  );
}
