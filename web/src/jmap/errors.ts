/** What can go wrong between this client and its server, by who has to act on it. */

/** The network did not carry the request, or the server is not answering: try again later. */
export class OfflineError extends Error {
  constructor(cause?: unknown) {
    super('The server cannot be reached.', { cause });
    this.name = 'OfflineError';
  }
}

/** The access token is missing, revoked or expired: sign in again. */
export class SignedOutError extends Error {
  constructor(message = 'You have been signed out.') {
    super(message);
    this.name = 'SignedOutError';
  }
}

/** The server refused a whole request. Source: RFC 8620 s3.6.1 */
export class RequestError extends Error {
  constructor(
    readonly status: number,
    readonly type: string,
    detail: string,
  ) {
    super(detail);
    this.name = 'RequestError';
  }
}

/** One method call failed. Source: RFC 8620 s3.6.2 */
export class MethodError extends Error {
  constructor(
    readonly method: string,
    readonly type: string,
    description?: string | null,
  ) {
    super(description || `${method}: ${type}`);
    this.name = 'MethodError';
  }
}

export function isMethodError(error: unknown, type: string): boolean {
  return error instanceof MethodError && error.type === type;
}

/** A sentence a person can read, whatever was thrown. */
export function explain(error: unknown): string {
  if (error instanceof Error && error.message) return error.message;
  return 'Something went wrong.';
}
