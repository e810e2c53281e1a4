/**
 * The live line: a text/event-stream read by fetch, because the browser's own EventSource cannot
 * send an Authorization header. Reconnects by itself. Source: RFC 8620 s7.3
 *
 * Invariant: `onOpen` is called after every successful connect, before any event of it, so that
 * the owner can read again whatever it missed while the line was down.
 */
import { SignedOutError } from './errors';
import { EventStreamParser } from './sse';
import type { StateChange } from './types';

export type PushStatus = 'connecting' | 'open' | 'waiting' | 'closed';

export interface PushOptions {
  open: (signal: AbortSignal) => Promise<Response>;
  onOpen: () => void;
  onStateChange: (change: StateChange) => void;
  onStatus?: (status: PushStatus) => void;
  pingSeconds: number;
  /** Waits; a test passes its own. Resolves early when the signal aborts. */
  sleep?: (ms: number, signal: AbortSignal) => Promise<void>;
  random?: () => number;
}

const BACKOFF_FIRST_MS = 1_000;
const BACKOFF_MAX_MS = 60_000;
/** How many missed pings mean that the line is dead although nobody said so. */
const MISSED_PINGS = 2.5;

/** Full-jitter-half backoff: between half and all of 1 s, 2 s, 4 s ... 60 s. */
export function backoffMs(attempt: number, random: number): number {
  const ceiling = Math.min(BACKOFF_MAX_MS, BACKOFF_FIRST_MS * 2 ** Math.min(attempt, 16));
  return Math.round(ceiling / 2 + (ceiling / 2) * random);
}

export class PushStream {
  status: PushStatus = 'closed';
  readonly #options: PushOptions;
  #stopping = new AbortController();
  #waiting = new AbortController();
  #connection = new AbortController();
  #attempt = 0;

  constructor(options: PushOptions) {
    this.#options = options;
  }

  start(): void {
    this.#stopping = new AbortController();
    void this.#run(this.#stopping.signal);
  }

  stop(): void {
    this.#stopping.abort();
    this.#waiting.abort();
    this.#connection.abort();
  }

  /** The network is said to be back, or the page was woken: do not wait any longer. */
  poke(): void {
    this.#attempt = 0;
    this.#waiting.abort();
  }

  /** Drops a line that may be dead without having said so, and dials again at once. */
  redial(): void {
    this.poke();
    this.#connection.abort();
  }

  async #run(stopping: AbortSignal): Promise<void> {
    const sleep = this.#options.sleep ?? sleepUntil;
    const random = this.#options.random ?? Math.random;
    while (!stopping.aborted) {
      this.#setStatus('connecting');
      let retryMs: number | null = null;
      try {
        retryMs = await this.#connect();
      } catch (error) {
        if (error instanceof SignedOutError) break;
      }
      if (stopping.aborted) break;
      this.#setStatus('waiting');
      this.#waiting = new AbortController();
      const delay = Math.max(backoffMs(this.#attempt++, random()), retryMs ?? 0);
      await sleep(delay, this.#waiting.signal);
    }
    this.#setStatus('closed');
  }

  /** Reads one connection to its end; returns the delay the server asked for. */
  async #connect(): Promise<number | null> {
    this.#connection = new AbortController();
    const { signal } = this.#connection;
    const watchdog = new Watchdog(this.#options.pingSeconds * MISSED_PINGS * 1_000, () =>
      this.#connection.abort(),
    );
    try {
      const response = await this.#options.open(signal);
      const reader = response.body?.getReader();
      if (!reader) throw new Error('the event stream has no body');
      this.#attempt = 0;
      this.#setStatus('open');
      this.#options.onOpen();
      const parser = new EventStreamParser();
      const decoder = new TextDecoder();
      for (;;) {
        watchdog.reset();
        const { done, value } = await reader.read();
        if (done) return parser.retryMs;
        for (const event of parser.feed(decoder.decode(value, { stream: true }))) {
          if (event.name === 'state') this.#deliver(event.data);
        }
      }
    } finally {
      watchdog.stop();
      this.#connection.abort();
    }
  }

  #deliver(data: string): void {
    try {
      this.#options.onStateChange(JSON.parse(data) as StateChange);
    } catch (error) {
      // One malformed event must not cost the line; the next sync reads the truth anyway.
      console.warn('unreadable state event', error);
    }
  }

  #setStatus(status: PushStatus): void {
    if (this.status === status) return;
    this.status = status;
    this.#options.onStatus?.(status);
  }
}

/** Calls back when it has not been reset for a while. */
class Watchdog {
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(
    readonly afterMs: number,
    readonly onQuiet: () => void,
  ) {
    this.reset();
  }

  reset(): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(this.onQuiet, this.afterMs);
  }

  stop(): void {
    clearTimeout(this.#timer);
  }
}

function sleepUntil(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    signal.addEventListener('abort', () => {
      clearTimeout(timer);
      resolve();
    });
  });
}
