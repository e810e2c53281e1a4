import { afterEach, describe, expect, it, vi } from 'vitest';
import { SignedOutError } from '../src/jmap/errors';
import { backoffMs, PushStream, type PushStatus } from '../src/jmap/push';
import { EventStreamParser, type ServerEvent } from '../src/jmap/sse';
import type { StateChange } from '../src/jmap/types';

function parse(...pieces: string[]): ServerEvent[] {
  const parser = new EventStreamParser();
  return pieces.flatMap((piece) => parser.feed(piece));
}

describe('the event stream parser', () => {
  it('reads an event with name, id and data', () => {
    expect(parse('event: state\nid: 7\ndata: {"a":1}\n\n')).toEqual([
      { name: 'state', data: '{"a":1}', lastEventId: '7' },
    ]);
  });

  it('gives the same events however the stream is cut', () => {
    const stream = ': hello\r\nevent: state\r\ndata: one\rdata: two\n\ndata: ✉️\r\n\r\ndata:x\n\n';
    const whole = parse(stream);
    expect(whole.map((event) => event.data)).toEqual(['one\ntwo', '✉️', 'x']);
    for (let at = 0; at <= stream.length; at++) {
      expect(parse(stream.slice(0, at), stream.slice(at))).toEqual(whole);
    }
    expect(parse(...stream)).toEqual(whole);
  });

  it('skips comments, a byte order mark and events without data', () => {
    expect(parse('\uFEFF: comment\n\nevent: ping\n\ndata: kept\n\n')).toHaveLength(1);
  });

  it('forgets the name of an event that came to nothing', () => {
    expect(parse('event: ping\n\ndata: a\n\n')[0]?.name).toBe('message');
  });

  it('takes one space after the colon and no more', () => {
    expect(parse('data:  two\n\ndata:none\n\n').map((event) => event.data)).toEqual([' two', 'none']);
  });

  it('remembers the delay the server asks for, if it is a number', () => {
    const parser = new EventStreamParser();
    parser.feed('retry: soon\n\n');
    expect(parser.retryMs).toBeNull();
    parser.feed('retry: 2500\n\n');
    expect(parser.retryMs).toBe(2500);
  });

  it('refuses a line that never ends', () => {
    const parser = new EventStreamParser();
    expect(() => {
      for (let i = 0; i < 20; i++) parser.feed('x'.repeat(100_000));
    }).toThrow(RangeError);
  });
});

describe('backoff', () => {
  it('doubles up to a minute and never comes to nothing', () => {
    expect([0, 1, 2, 10, 1000].map((attempt) => backoffMs(attempt, 1))).toEqual([
      1000, 2000, 4000, 60_000, 60_000,
    ]);
    expect(backoffMs(0, 0)).toBe(500);
  });
});

/** A line whose far end is in the test's hands. */
class Wire {
  readonly writers: WritableStreamDefaultWriter<Uint8Array>[] = [];
  dials = 0;
  refuse: Error | null = null;
  readonly waits: number[] = [];
  readonly statuses: PushStatus[] = [];
  readonly changes: StateChange[] = [];
  opened = 0;
  #wake: (() => void) | null = null;

  readonly stream = new PushStream({
    open: async (signal) => {
      this.dials++;
      if (this.refuse) throw this.refuse;
      const { readable, writable } = new TransformStream<Uint8Array, Uint8Array>();
      const writer = writable.getWriter();
      writer.closed.catch(() => undefined);
      this.writers.push(writer);
      signal.addEventListener('abort', () => void writer.abort().catch(() => undefined));
      return new Response(readable);
    },
    onOpen: () => this.opened++,
    onStateChange: (change) => this.changes.push(change),
    onStatus: (status) => this.statuses.push(status),
    pingSeconds: 30,
    random: () => 1,
    sleep: (ms, signal) => {
      this.waits.push(ms);
      return new Promise((resolve) => {
        this.#wake = resolve;
        signal.addEventListener('abort', () => resolve());
      });
    },
  });

  async say(text: string): Promise<void> {
    await this.writers.at(-1)?.write(new TextEncoder().encode(text));
  }

  endWait(): void {
    this.#wake?.();
  }
}

describe('the live line', () => {
  afterEach(() => vi.useRealTimers());

  it('tells its owner that it is open, and then what changed', async () => {
    const wire = new Wire();
    wire.stream.start();
    await vi.waitFor(() => expect(wire.opened).toBe(1));
    const change = { '@type': 'StateChange', changed: { a: { Email: '5' } } };
    await wire.say(`event: ping\ndata: {}\n\nevent: state\ndata: ${JSON.stringify(change)}\n\n`);
    await vi.waitFor(() => expect(wire.changes).toEqual([change]));
    wire.stream.stop();
    await vi.waitFor(() => expect(wire.stream.status).toBe('closed'));
  });

  it('dials again after the line ended, and says again that it is open', async () => {
    const wire = new Wire();
    wire.stream.start();
    await vi.waitFor(() => expect(wire.opened).toBe(1));
    await wire.writers[0]?.close();
    await vi.waitFor(() => expect(wire.waits).toEqual([1000]));
    wire.endWait();
    await vi.waitFor(() => expect(wire.opened).toBe(2));
    wire.stream.stop();
  });

  it('waits longer each time nobody answers, and from the start after a success', async () => {
    const wire = new Wire();
    wire.refuse = new Error('down');
    wire.stream.start();
    for (const expected of [1000, 2000, 4000]) {
      await vi.waitFor(() => expect(wire.waits.at(-1)).toBe(expected));
      if (expected === 4000) wire.refuse = null;
      wire.endWait();
    }
    await vi.waitFor(() => expect(wire.opened).toBe(1));
    await wire.writers[0]?.close();
    await vi.waitFor(() => expect(wire.waits.at(-1)).toBe(1000));
    wire.stream.stop();
  });

  it('does not wait when it is told that the network is back', async () => {
    const wire = new Wire();
    wire.refuse = new Error('down');
    wire.stream.start();
    await vi.waitFor(() => expect(wire.waits).toHaveLength(1));
    wire.refuse = null;
    wire.stream.poke();
    await vi.waitFor(() => expect(wire.opened).toBe(1));
    wire.stream.stop();
  });

  it('gives up a line that has gone silent without ending', async () => {
    vi.useFakeTimers();
    const wire = new Wire();
    wire.stream.start();
    await vi.advanceTimersByTimeAsync(1);
    expect(wire.opened).toBe(1);
    await vi.advanceTimersByTimeAsync(74_000);
    expect(wire.waits).toHaveLength(0);
    await vi.advanceTimersByTimeAsync(2_000);
    expect(wire.waits).toHaveLength(1);
    wire.stream.stop();
  });

  it('stops for good when the token has ended', async () => {
    const wire = new Wire();
    wire.refuse = new SignedOutError();
    wire.stream.start();
    await vi.waitFor(() => expect(wire.stream.status).toBe('closed'));
    expect(wire.dials).toBe(1);
  });

  it('survives an event it cannot read', async () => {
    const warn = vi.spyOn(console, 'warn').mockImplementation(() => undefined);
    const wire = new Wire();
    wire.stream.start();
    await vi.waitFor(() => expect(wire.opened).toBe(1));
    const change = { '@type': 'StateChange', changed: {} };
    await wire.say(`event: state\ndata: {oops\n\nevent: state\ndata: ${JSON.stringify(change)}\n\n`);
    await vi.waitFor(() => expect(wire.changes).toHaveLength(1));
    wire.stream.stop();
    warn.mockRestore();
  });
});
