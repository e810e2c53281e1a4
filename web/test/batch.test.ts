import { describe, expect, it } from 'vitest';
import { Batch, packBatches, settle } from '../src/jmap/batch';
import { MethodError } from '../src/jmap/errors';

describe('a batch', () => {
  it('fills in the account and writes references by call id', () => {
    const batch = new Batch('a1');
    const query = batch.call('Email/query', { limit: 2 });
    batch.call('Email/get', { '#ids': query.ref('/ids') });
    const [first, second] = batch.invocations();
    expect(first).toEqual(['Email/query', { accountId: 'a1', limit: 2 }, query.id]);
    expect(second?.[1]['#ids']).toEqual({ resultOf: query.id, name: 'Email/query', path: '/ids' });
  });

  it('lets a call name another account than its own', () => {
    const batch = new Batch('a1');
    batch.call('Connection/get', { accountId: 'home' });
    expect(batch.invocations()[0]?.[1]['accountId']).toBe('home');
  });

  it('gives each call its own answer, whatever order they come in', async () => {
    const batch = new Batch('a1');
    const one = batch.call<{ n: number }>('Core/echo');
    const two = batch.call<{ n: number }>('Core/echo');
    settle(batch.calls, [
      ['Core/echo', { n: 2 }, two.id],
      ['Core/echo', { n: 1 }, one.id],
    ]);
    expect(await one.result).toEqual({ n: 1 });
    expect(await two.result).toEqual({ n: 2 });
  });

  it('turns a method error into one of the name the server gave', async () => {
    const batch = new Batch('a1');
    const call = batch.call('Email/changes');
    settle(batch.calls, [['error', { type: 'cannotCalculateChanges' }, call.id]]);
    const error = await call.result.catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(MethodError);
    expect((error as MethodError).type).toBe('cannotCalculateChanges');
  });

  it('fails a call that was left unanswered instead of waiting for ever', async () => {
    const batch = new Batch('a1');
    const call = batch.call('Email/get');
    settle(batch.calls, []);
    await expect(call.result).rejects.toThrow('No answer came.');
  });

  it('keeps the Email/set that a submission caused apart from the answer itself', async () => {
    const batch = new Batch('a1');
    const call = batch.call<{ created: object }>('EmailSubmission/set');
    settle(batch.calls, [
      ['EmailSubmission/set', { created: {} }, call.id],
      ['Email/set', { updated: { e1: null } }, call.id],
    ]);
    expect(await call.result).toEqual({ created: {} });
    expect(call.implicit).toEqual([['Email/set', { updated: { e1: null } }, call.id]]);
  });
});

describe('packing batches into requests', () => {
  const sized = (size: number): { calls: number[] } => ({ calls: new Array<number>(size).fill(0) });

  it('shares a request while there is room and never splits a batch', () => {
    const packed = packBatches([sized(4), sized(4), sized(8), sized(1)], 10);
    expect(packed.map((group) => group.map((batch) => batch.calls.length))).toEqual([
      [4, 4],
      [8, 1],
    ]);
  });

  it('sends a batch larger than the limit alone, for the server to judge', () => {
    const packed = packBatches([sized(1), sized(20), sized(1)], 16);
    expect(packed.map((group) => group.length)).toEqual([1, 1, 1]);
  });
});
