import { describe, expect, it, vi } from 'vitest';
import { describeDevice, forgetToken, keepToken, loadToken, signIn } from '../src/jmap/auth';
import { Batch } from '../src/jmap/batch';
import { Client, fillTemplate, samePath, type Fetch } from '../src/jmap/client';
import { OfflineError, RequestError, SignedOutError } from '../src/jmap/errors';
import { CORE, MAIL, type Invocation } from '../src/jmap/types';

const SESSION = {
  capabilities: { [CORE]: { maxCallsInRequest: 3 }, [MAIL]: {}, 'urn:example:other': {} },
  accounts: {},
  primaryAccounts: {},
  username: 'elin@example.org',
  apiUrl: 'https://mail.example.org/jmap/api',
  downloadUrl: 'https://mail.example.org/d/{accountId}/{blobId}/{name}?type={type}',
  uploadUrl: 'https://mail.example.org/u/{accountId}',
  eventSourceUrl: 'https://mail.example.org/e?types={types}&closeafter={closeafter}&ping={ping}',
  state: 's1',
};

interface Sent {
  url: string;
  init: RequestInit | undefined;
}

function answering(handler: (sent: Sent) => Response | Promise<Response>): {
  fetch: Fetch;
  sent: Sent[];
} {
  const sent: Sent[] = [];
  const fetch: Fetch = async (url, init) => {
    sent.push({ url, init });
    return url === '/.well-known/jmap' ? Response.json(SESSION) : handler({ url, init });
  };
  return { fetch, sent };
}

function echo({ init }: Sent): Response {
  const { methodCalls } = JSON.parse(String(init?.body)) as { methodCalls: Invocation[] };
  return Response.json({ methodResponses: methodCalls, sessionState: 's1' });
}

async function connect(fetch: Fetch, onSignedOut = vi.fn()): Promise<Client> {
  const client = new Client({ token: 'secret', fetch, onSignedOut });
  await client.loadSession();
  return client;
}

describe('the client', () => {
  it('sends the token with everything, to the origin it was served from', async () => {
    const { fetch, sent } = answering(echo);
    const client = await connect(fetch);
    const batch = new Batch('a');
    batch.call('Core/echo');
    await client.send(batch);
    expect(sent.map(({ url }) => url)).toEqual(['/.well-known/jmap', '/jmap/api']);
    for (const { init } of sent) {
      expect(init?.headers).toMatchObject({ Authorization: 'Bearer secret' });
    }
  });

  it('names only the capabilities that both sides know', async () => {
    const { fetch, sent } = answering(echo);
    const client = await connect(fetch);
    const batch = new Batch('a');
    batch.call('Core/echo');
    await client.send(batch);
    const body = JSON.parse(String(sent[1]?.init?.body)) as { using: string[] };
    expect(body.using).toEqual([CORE, MAIL]);
  });

  it('puts batches of the same turn into as few requests as the limit allows', async () => {
    const { fetch, sent } = answering(echo);
    const client = await connect(fetch);
    const batches = [1, 2, 2].map((count) => {
      const batch = new Batch('a');
      for (let i = 0; i < count; i++) batch.call('Core/echo', { i });
      return batch;
    });
    await Promise.all(batches.map((batch) => client.send(batch)));
    const requests = sent.slice(1).map(
      ({ init }) => (JSON.parse(String(init?.body)) as { methodCalls: unknown[] }).methodCalls,
    );
    expect(requests.map((calls) => calls.length)).toEqual([3, 2]);
  });

  it('calls a dead network by its name and fails every call with it', async () => {
    const { fetch } = answering(() => Promise.reject(new TypeError('fetch failed')));
    const client = await connect(fetch);
    const batch = new Batch('a');
    const call = batch.call('Core/echo');
    await expect(client.send(batch)).rejects.toBeInstanceOf(OfflineError);
    await expect(call.result).rejects.toBeInstanceOf(OfflineError);
  });

  it.each([502, 503, 504])('takes a %i of a proxy for a dead network', async (status) => {
    const { fetch } = answering(() => new Response('', { status }));
    const client = await connect(fetch);
    await expect(client.send(new Batch('a'))).rejects.toBeInstanceOf(OfflineError);
  });

  it('says once that the token has ended', async () => {
    const onSignedOut = vi.fn();
    const { fetch } = answering(() => new Response('', { status: 401 }));
    const client = await connect(fetch, onSignedOut);
    await expect(client.send(new Batch('a'))).rejects.toBeInstanceOf(SignedOutError);
    await expect(client.send(new Batch('a'))).rejects.toBeInstanceOf(SignedOutError);
    expect(onSignedOut).toHaveBeenCalledTimes(1);
  });

  it('passes on what the server says about a refused request', async () => {
    const { fetch } = answering(() =>
      Response.json({ type: 'urn:x:limit', detail: 'Too many calls.' }, { status: 400 }),
    );
    const client = await connect(fetch);
    const error = await client.send(new Batch('a')).catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(RequestError);
    expect(error).toMatchObject({ status: 400, type: 'urn:x:limit', message: 'Too many calls.' });
  });

  it('reads the session again, once, when the server says that it changed', async () => {
    const { fetch, sent } = answering(() =>
      Response.json({ methodResponses: [], sessionState: 's2' }),
    );
    const client = await connect(fetch);
    await client.send(new Batch('a'));
    await vi.waitFor(() => expect(sent.filter(({ url }) => url.startsWith('/.well'))).toHaveLength(2));
  });

  it('fills the URL templates of the session', async () => {
    const { fetch, sent } = answering(() => new Response('bytes'));
    const client = await connect(fetch);
    await client.download('a/1', 'b', 'Ångström & co.pdf', 'application/pdf');
    expect(sent[1]?.url).toBe(
      '/d/a%2F1/b/%C3%85ngstr%C3%B6m%20%26%20co.pdf?type=application%2Fpdf',
    );
    expect(client.eventSourceUrl(['Email', 'Mailbox'], 30)).toBe(
      '/e?types=Email%2CMailbox&closeafter=no&ping=30',
    );
  });
});

describe('addresses', () => {
  it('keeps the path of an absolute URL, templates included', () => {
    expect(samePath('https://x.example:8443/a/{id}?q=1')).toBe('/a/{id}?q=1');
    expect(samePath('/already/relative')).toBe('/already/relative');
    expect(samePath('https://x.example')).toBe('/');
  });

  it('leaves nothing of an unknown template variable', () => {
    expect(fillTemplate('/x/{a}/{b}', { a: '1' })).toBe('/x/1/');
  });
});

describe('signing in', () => {
  it('returns the token', async () => {
    const fetch: Fetch = async () => Response.json({ accessToken: 't', expiresAt: null });
    expect(await signIn('elin', 'pw', 'test', fetch)).toBe('t');
  });

  it('repeats what the server says about a refusal', async () => {
    const fetch: Fetch = async () => Response.json({ detail: 'Wrong password.' }, { status: 401 });
    await expect(signIn('elin', 'pw', 'test', fetch)).rejects.toThrow('Wrong password.');
  });

  it('has words of its own where the server has none', async () => {
    const fetch: Fetch = async () => new Response('', { status: 401 });
    await expect(signIn('elin', 'pw', 'test', fetch)).rejects.toThrow('do not match');
  });

  it('keeps the token in one place only', () => {
    const stores = { session: new MemoryStorage(), local: new MemoryStorage() };
    keepToken(stores, 'one', true);
    keepToken(stores, 'two', false);
    expect([stores.session.length, stores.local.length]).toEqual([1, 0]);
    expect(loadToken(stores)).toBe('two');
    forgetToken(stores);
    expect(loadToken(stores)).toBeNull();
  });

  it('describes the device by browser and system', () => {
    expect(
      describeDevice('Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/130.0 Safari/537.36'),
    ).toBe('Chrome on Linux');
    expect(
      describeDevice('Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) Version/18.0 Safari/604.1'),
    ).toBe('Safari on iOS');
  });
});

class MemoryStorage implements Storage {
  #map = new Map<string, string>();
  get length(): number {
    return this.#map.size;
  }
  clear(): void {
    this.#map.clear();
  }
  getItem(key: string): string | null {
    return this.#map.get(key) ?? null;
  }
  key(index: number): string | null {
    return [...this.#map.keys()][index] ?? null;
  }
  removeItem(key: string): void {
    this.#map.delete(key);
  }
  setItem(key: string, value: string): void {
    this.#map.set(key, value);
  }
}
