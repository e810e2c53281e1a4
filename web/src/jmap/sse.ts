/**
 * A parser for text/event-stream, fed with text as it arrives. Pure.
 * Written to the WHATWG HTML standard, "Interpreting an event stream".
 */

export interface ServerEvent {
  name: string;
  data: string;
  lastEventId: string;
}

/** A line or event longer than this is not from our server; 1 MiB is far above any StateChange. */
const BUFFER_CHARS_MAX = 1 << 20;

export class EventStreamParser {
  /** Reconnection delay the server asked for, if it did. */
  retryMs: number | null = null;
  #buffer = '';
  /** Up to here there is no line end. */
  #scanned = 0;
  #data: string[] = [];
  #name = '';
  #lastEventId = '';
  #isStart = true;

  /** Takes the next piece of the stream; returns the events it completed. Cost: linear. */
  feed(text: string): ServerEvent[] {
    if (this.#isStart && text.length > 0) {
      this.#isStart = false;
      if (text.startsWith('\uFEFF')) text = text.slice(1);
    }
    this.#buffer += text;
    const events: ServerEvent[] = [];
    let start = 0;
    for (let end = this.#lineEnd(); end !== null; end = this.#lineEnd()) {
      const event = this.#line(this.#buffer.slice(start, end.at));
      if (event) events.push(event);
      start = end.next;
      this.#scanned = start;
    }
    this.#buffer = this.#buffer.slice(start);
    this.#scanned -= start;
    if (this.#buffer.length > BUFFER_CHARS_MAX) throw new RangeError('event stream line too long');
    return events;
  }

  #lineEnd(): { at: number; next: number } | null {
    for (; this.#scanned < this.#buffer.length; this.#scanned++) {
      const at = this.#scanned;
      const char = this.#buffer[at];
      if (char === '\n') return { at, next: at + 1 };
      if (char !== '\r') continue;
      // A CR at the very end may be half of a CRLF; wait for the next piece.
      if (at + 1 === this.#buffer.length) return null;
      return { at, next: this.#buffer[at + 1] === '\n' ? at + 2 : at + 1 };
    }
    return null;
  }

  #line(line: string): ServerEvent | null {
    if (line === '') return this.#dispatch();
    const colon = line.indexOf(':');
    if (colon === 0) return null;
    const field = colon < 0 ? line : line.slice(0, colon);
    let value = colon < 0 ? '' : line.slice(colon + 1);
    if (value.startsWith(' ')) value = value.slice(1);
    if (field === 'data') this.#data.push(value);
    else if (field === 'event') this.#name = value;
    else if (field === 'id' && !value.includes('\0')) this.#lastEventId = value;
    else if (field === 'retry' && /^\d+$/.test(value)) this.retryMs = Number(value);
    return null;
  }

  #dispatch(): ServerEvent | null {
    const data = this.#data.join('\n');
    const isEmpty = this.#data.length === 0;
    const name = this.#name || 'message';
    this.#data = [];
    this.#name = '';
    return isEmpty ? null : { name, data, lastEventId: this.#lastEventId };
  }
}
