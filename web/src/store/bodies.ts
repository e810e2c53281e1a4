/** Reading the text of messages: on opening a thread, and ahead of the next one. RFC 8621 s4.2 */
import { SvelteMap } from 'svelte/reactivity';
import { Batch } from '../jmap/batch';
import { explain } from '../jmap/errors';
import { VIEW, type Email, type GetResponse, type Id, type SafeHtml } from '../jmap/types';
import { BODY_PROPERTIES, chunk, type Model } from './model';

/** Longer texts are cut by the server and offered as a download; no screen needs more. */
const BODY_BYTES_MAX = 512 * 1024;
/** Bodies a request asks for; keeps one huge thread from holding up the first message. */
const BODIES_PER_GET = 10;

export class Bodies {
  readonly errors = new SvelteMap<Id, string>();
  readonly #model: Model;
  readonly #inFlight = new Set<Id>();

  constructor(model: Model) {
    this.#model = model;
  }

  isLoaded(email: Email): boolean {
    return email.bodyValues !== undefined;
  }

  /** Reads the bodies that are not here yet; failures are kept per email for the reader to show. */
  async ensure(ids: readonly Id[]): Promise<void> {
    const wanted = ids.filter((id) => {
      const email = this.#model.emails.serverValue(id);
      return email && !this.isLoaded(email) && !this.#inFlight.has(id);
    });
    await Promise.all(chunk(wanted, BODIES_PER_GET).map((part) => this.#fetch(part)));
  }

  async #fetch(ids: Id[]): Promise<void> {
    for (const id of ids) {
      this.#inFlight.add(id);
      this.errors.delete(id);
    }
    try {
      const hasView = this.#model.client.has(VIEW);
      await this.#get(ids, {
        properties: hasView ? [...BODY_PROPERTIES, 'safeHtml'] : BODY_PROPERTIES,
        fetchTextBodyValues: true,
        // Without the server's sanitised HTML, the text of an HTML-only mail must do.
        fetchHTMLBodyValues: !hasView,
        maxBodyValueBytes: BODY_BYTES_MAX,
      });
    } catch (error) {
      for (const id of ids) this.errors.set(id, explain(error));
    } finally {
      for (const id of ids) this.#inFlight.delete(id);
    }
  }

  /** The HTML of a message with its remote images allowed; null where there is no HTML. */
  async withRemoteImages(id: Id): Promise<SafeHtml | null> {
    const cached = this.#model.emails.get(id)?.safeHtmlRemote;
    if (cached !== undefined) return cached;
    if (!this.#model.client.has(VIEW)) return null;
    await this.#get([id], { properties: ['id', 'safeHtmlRemote'] });
    return this.#model.emails.get(id)?.safeHtmlRemote ?? null;
  }

  /** The raw HTML part of a draft, as this or another client wrote it. Not sanitised. */
  async rawHtml(id: Id): Promise<string | null> {
    const batch = new Batch(this.#model.accountId);
    const get = batch.call<GetResponse<Email>>('Email/get', {
      ids: [id],
      properties: ['id', 'htmlBody', 'bodyValues'],
      fetchHTMLBodyValues: true,
    });
    await this.#model.client.send(batch);
    const email = (await get.result).list[0];
    const part = email?.htmlBody?.find((candidate) => candidate.type === 'text/html');
    return part?.partId ? (email?.bodyValues?.[part.partId]?.value ?? null) : null;
  }

  async #get(ids: Id[], args: Record<string, unknown>): Promise<void> {
    const batch = new Batch(this.#model.accountId);
    const get = batch.call<GetResponse<Email>>('Email/get', { ids, ...args });
    await this.#model.client.send(batch);
    const answer = await get.result;
    // Only parts that cannot change were asked for, so they never overwrite newer marks.
    this.#model.emails.put(answer.list.filter((email) => this.#model.emails.has(email.id)));
    this.#model.emails.remove(answer.notFound);
  }
}
