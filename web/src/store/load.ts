/** Reading rows, pages and whole threads into the caches. RFC 8621 s4.10 describes the chain. */
import { Batch, type Call } from '../jmap/batch';
import { isMethodError } from '../jmap/errors';
import type { Email, GetResponse, Id, QueryResponse, ResultReference, Thread } from '../jmap/types';
import { PAGE_ROWS, type QueryList } from './list.svelte';
import { chunk, ROW_PROPERTIES, type Model } from './model';

type IdsArgument = { ids: Id[] } | { '#ids': ResultReference };

/** The arguments that name a list, for Email/query and Email/queryChanges alike. */
export function queryArguments(list: QueryList): Record<string, unknown> {
  return {
    filter: list.spec.filter,
    sort: [{ property: 'receivedAt', isAscending: false }],
    collapseThreads: list.spec.collapseThreads,
  };
}

/**
 * Adds the calls that read threads and all their emails; the returned function takes them in.
 *
 * An answer that was under way while a sync or an act of the user's landed may be older than what
 * is cached; it would undo for a moment what the user did, and no later /changes would repair it.
 * Such an answer is dropped, and its threads are read once more.
 */
function planThreads(
  model: Model,
  batch: Batch,
  ids: IdsArgument,
  isSecondTry = false,
): () => Promise<void> {
  const before = `${model.threads.state} ${model.emails.state}`;
  const threads = batch.call<GetResponse<Thread>>('Thread/get', { ...ids });
  const emails = batch.call<GetResponse<Email>>('Email/get', {
    '#ids': threads.ref('/list/*/emailIds'),
    properties: ROW_PROPERTIES,
  });
  return async () => {
    const answer = await threads.result;
    const isOvertaken =
      model.threads.state !== null && before !== `${model.threads.state} ${model.emails.state}`;
    if (isOvertaken && !isSecondTry) {
      await fetchThreads(model, answer.list.map((thread) => thread.id), true);
      return;
    }
    // Emails first: a thread must never point at an email the view cannot draw.
    await takeEmails(model, answer, emails);
    model.threads.put(answer.list);
    model.threads.remove(answer.notFound);
    model.threads.state ??= answer.state;
  };
}

async function takeEmails(
  model: Model,
  threads: GetResponse<Thread>,
  emails: Call<GetResponse<Email>>,
): Promise<void> {
  try {
    const answer = await emails.result;
    model.emails.put(answer.list);
    model.emails.state ??= answer.state;
  } catch (error) {
    // Long threads can add up to more emails than one get may name: read them in pieces.
    if (!isMethodError(error, 'requestTooLarge')) throw error;
    await fetchEmails(model, [...new Set(threads.list.flatMap((thread) => thread.emailIds))]);
  }
}

export async function fetchEmails(
  model: Model,
  ids: readonly Id[],
  properties = ROW_PROPERTIES,
): Promise<void> {
  const batch = new Batch(model.accountId);
  const calls = chunk(ids, model.client.limits.maxObjectsInGet).map((part) =>
    batch.call<GetResponse<Email>>('Email/get', { ids: part, properties }),
  );
  await model.client.send(batch);
  for (const call of calls) {
    const answer = await call.result;
    model.emails.put(answer.list.filter((email) => email.threadId || model.emails.has(email.id)));
    model.emails.remove(answer.notFound);
    model.emails.state ??= answer.state;
  }
}

export async function fetchThreads(
  model: Model,
  ids: readonly Id[],
  isSecondTry = false,
): Promise<void> {
  for (const part of chunk(ids, PAGE_ROWS)) {
    const batch = new Batch(model.accountId);
    const take = planThreads(model, batch, { ids: part }, isSecondTry);
    await model.client.send(batch);
    await take();
  }
}

/** Reads what the rows of these emails need: their threads, with all emails of each. */
export async function fetchRows(model: Model, ids: readonly Id[]): Promise<void> {
  for (const part of chunk(ids, PAGE_ROWS)) {
    const batch = new Batch(model.accountId);
    const heads = batch.call('Email/get', { ids: part, properties: ['threadId'] });
    const take = planThreads(model, batch, { '#ids': heads.ref('/list/*/threadId') });
    await model.client.send(batch);
    await take();
  }
}

/** Loads one page of a list with everything its rows show, in one round trip. */
export async function fetchPage(model: Model, list: QueryList, position: number): Promise<void> {
  list.pagesInFlight.add(position);
  try {
    const batch = new Batch(model.accountId);
    const query = batch.call<QueryResponse>('Email/query', {
      ...queryArguments(list),
      position,
      limit: PAGE_ROWS,
      calculateTotal: true,
    });
    const heads = batch.call('Email/get', {
      '#ids': query.ref('/ids'),
      properties: ['threadId'],
    });
    const take = planThreads(model, batch, { '#ids': heads.ref('/list/*/threadId') });
    await model.client.send(batch);
    const page = await query.result;
    await take();
    list.acceptPage(page);
  } finally {
    list.pagesInFlight.delete(position);
  }
}
