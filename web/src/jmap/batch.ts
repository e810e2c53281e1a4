/**
 * One JMAP request under construction: calls, references between them, and their answers.
 * Pure: nothing here touches the network. Source: RFC 8620 s3.3, s3.7
 */
import { MethodError } from './errors';
import type { Id, Invocation, ResultReference } from './types';

let nextCallId = 0;

/** A method call and the promise of its answer. */
export class Call<R> {
  readonly id = `c${nextCallId++}`;
  readonly result: Promise<R>;
  /** Answers the server added by itself under this call, such as the Email/set after a send. */
  readonly implicit: Invocation[] = [];
  #settled = false;
  #resolve!: (value: R) => void;
  #reject!: (error: unknown) => void;

  constructor(
    readonly name: string,
    readonly args: Record<string, unknown>,
  ) {
    this.result = new Promise<R>((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
    // A caller may only care for some answers of a batch; the others must not become unhandled.
    this.result.catch(() => undefined);
  }

  /** Refers to a value in this call's answer, for a later call of the same batch. */
  ref(path: string): ResultReference {
    return { resultOf: this.id, name: this.name, path };
  }

  accept(name: string, args: Record<string, unknown>): void {
    if (this.#settled) {
      this.implicit.push([name, args, this.id]);
    } else if (name === 'error') {
      const description = args['description'];
      this.fail(
        new MethodError(
          this.name,
          String(args['type']),
          typeof description === 'string' ? description : null,
        ),
      );
    } else {
      this.#settled = true;
      this.#resolve(args as R);
    }
  }

  fail(error: unknown): void {
    this.#settled = true;
    this.#reject(error);
  }
}

/** Calls that must travel in one request, in order. */
export class Batch {
  readonly calls: Call<unknown>[] = [];

  constructor(readonly accountId: Id) {}

  /** Adds a call; `accountId` is filled in unless the arguments name one. */
  call<R>(name: string, args: Record<string, unknown> = {}): Call<R> {
    const call = new Call<R>(name, { accountId: this.accountId, ...args });
    this.calls.push(call as Call<unknown>);
    return call;
  }

  invocations(): Invocation[] {
    return this.calls.map((call) => [call.name, call.args, call.id]);
  }
}

/**
 * Hands the responses of one request to the calls they belong to.
 * A call the server left unanswered fails by name instead of waiting for ever.
 */
export function settle(calls: readonly Call<unknown>[], responses: readonly Invocation[]): void {
  const byId = new Map(calls.map((call) => [call.id, call]));
  const open = new Set(calls);
  for (const [name, args, callId] of responses) {
    const call = byId.get(callId);
    if (!call) continue;
    call.accept(name, args);
    open.delete(call);
  }
  for (const call of open) call.fail(new MethodError(call.name, 'serverFail', 'No answer came.'));
}

/**
 * Packs batches into requests of at most `callsMax` calls, never splitting a batch,
 * because references cannot cross requests. Keeps order.
 */
export function packBatches<B extends { calls: readonly unknown[] }>(
  batches: readonly B[],
  callsMax: number,
): B[][] {
  const packed: B[][] = [];
  let room = 0;
  for (const batch of batches) {
    const last = packed.at(-1);
    if (last && batch.calls.length <= room) {
      last.push(batch);
      room -= batch.calls.length;
    } else {
      packed.push([batch]);
      room = callsMax - batch.calls.length;
    }
  }
  return packed;
}
