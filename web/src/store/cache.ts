/**
 * The objects of one JMAP type: what the server last said, what the user did since, and the view
 * that results. The user interface reads only the view.
 *
 * Invariant: view = server objects with the pending patches applied in order. A sync that lands
 * between an act and its confirmation can therefore not make the act flicker.
 */
import { SvelteMap } from 'svelte/reactivity';
import type { Id } from '../jmap/types';

export type Change<T> = (object: T) => T | null;

interface Pending<T> {
  changes: Map<Id, Change<T>>;
}

/** A change that is shown but not yet the server's truth. */
export interface Optimistic {
  /** The server took it (for these ids, or all). */
  confirm(ids?: readonly Id[]): void;
  /** The server did not take it, or its result has arrived by another way. */
  rollback(ids?: readonly Id[]): void;
}

export class ObjectCache<T extends { id: Id }> {
  /** The state the server objects are at; null before the first load. */
  state: string | null = null;
  readonly view = new SvelteMap<Id, T>();
  #server = new Map<Id, T>();
  #pending: Pending<T>[] = [];

  get(id: Id): T | undefined {
    return this.view.get(id);
  }

  /** What the server last said, without the user's unconfirmed changes. */
  serverValue(id: Id): T | undefined {
    return this.#server.get(id);
  }

  has(id: Id): boolean {
    return this.#server.has(id);
  }

  ids(): Id[] {
    return [...this.#server.keys()];
  }

  /** Takes objects as the server sent them; properties it did not send keep their old value. */
  put(objects: Iterable<T>): void {
    for (const object of objects) {
      const old = this.#server.get(object.id);
      this.#server.set(object.id, old ? { ...old, ...object } : object);
      this.#refresh(object.id);
    }
  }

  remove(ids: Iterable<Id>): void {
    for (const id of ids) {
      this.#server.delete(id);
      this.#refresh(id);
    }
  }

  /** Replaces everything, after the server could not say what changed. */
  replaceAll(objects: readonly T[], state: string): void {
    const kept = new Set(objects.map((object) => object.id));
    this.remove(this.ids().filter((id) => !kept.has(id)));
    this.put(objects);
    this.state = state;
  }

  /** Shows changes at once; the caller confirms or rolls back when the server has spoken. */
  apply(changes: Map<Id, Change<T>>): Optimistic {
    const pending: Pending<T> = { changes: new Map(changes) };
    this.#pending.push(pending);
    for (const id of changes.keys()) this.#refresh(id);
    return {
      confirm: (ids) => this.#settle(pending, ids, true),
      rollback: (ids) => this.#settle(pending, ids, false),
    };
  }

  #settle(pending: Pending<T>, ids: readonly Id[] | undefined, isConfirmed: boolean): void {
    for (const id of ids ?? [...pending.changes.keys()]) {
      const change = pending.changes.get(id);
      if (!change) continue;
      pending.changes.delete(id);
      const object = this.#server.get(id);
      if (isConfirmed && object) {
        const next = change(object);
        if (next) this.#server.set(id, next);
        else this.#server.delete(id);
      }
      this.#refresh(id);
    }
    if (pending.changes.size === 0) this.#pending = this.#pending.filter((p) => p !== pending);
  }

  #refresh(id: Id): void {
    let object: T | null = this.#server.get(id) ?? null;
    for (const { changes } of this.#pending) {
      const change = changes.get(id);
      if (object && change) object = change(object);
    }
    if (object) this.view.set(id, object);
    else this.view.delete(id);
  }
}
