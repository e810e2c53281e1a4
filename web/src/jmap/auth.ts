/** Signing in, and where the token is kept between page loads. */
import { OfflineError } from './errors';
import type { Fetch } from './client';

const TOKEN_KEY = 'tindra.token';

export class SignInError extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'SignInError';
  }
}

interface TokenAnswer {
  accessToken: string;
  expiresAt: string | null;
}

/**
 * Exchanges a name and password for an access token.
 * @throws SignInError with a sentence for the user, OfflineError
 */
export async function signIn(
  username: string,
  password: string,
  deviceName: string,
  fetchImpl: Fetch = (input, init) => fetch(input, init),
): Promise<string> {
  let response: Response;
  try {
    response = await fetchImpl('/auth/token', {
      method: 'POST',
      headers: { 'Content-Type': 'application/json', Accept: 'application/json' },
      body: JSON.stringify({ username, password, deviceName }),
    });
  } catch (error) {
    throw new OfflineError(error);
  }
  if (response.ok) return ((await response.json()) as TokenAnswer).accessToken;
  const problem = (await response.json().catch(() => ({}))) as Record<string, unknown>;
  throw new SignInError(refusal(response.status, problem['detail'] ?? problem['title']));
}

function refusal(status: number, said: unknown): string {
  if (typeof said === 'string' && said) return said;
  if (status === 401) return 'That name and password do not match.';
  if (status === 429) return 'Too many attempts. Wait a minute and try again.';
  return `The server could not sign you in (${status}).`;
}

/** "Chrome on Linux": what the list of devices will show. */
export function describeDevice(userAgent: string): string {
  const browser =
    /Firefox/.test(userAgent) ? 'Firefox'
    : /Edg\//.test(userAgent) ? 'Edge'
    : /Chrome|Chromium/.test(userAgent) ? 'Chrome'
    : /Safari/.test(userAgent) ? 'Safari'
    : 'Browser';
  const system =
    /iPhone|iPad/.test(userAgent) ? 'iOS'
    : /Android/.test(userAgent) ? 'Android'
    : /Mac OS X/.test(userAgent) ? 'macOS'
    : /Windows/.test(userAgent) ? 'Windows'
    : /Linux/.test(userAgent) ? 'Linux'
    : '';
  return system ? `${browser} on ${system}` : browser;
}

export interface TokenStores {
  session: Storage;
  local: Storage;
}

export function loadToken(stores: TokenStores): string | null {
  return stores.session.getItem(TOKEN_KEY) ?? stores.local.getItem(TOKEN_KEY);
}

/** Keeps the token for this tab, or on this device when the user asked to stay signed in. */
export function keepToken(stores: TokenStores, token: string, isLasting: boolean): void {
  forgetToken(stores);
  (isLasting ? stores.local : stores.session).setItem(TOKEN_KEY, token);
}

export function forgetToken(stores: TokenStores): void {
  stores.session.removeItem(TOKEN_KEY);
  stores.local.removeItem(TOKEN_KEY);
}
