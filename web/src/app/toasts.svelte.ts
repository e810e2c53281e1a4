/** Short messages at the foot of the window, with at most one thing to do about each. */

export interface ToastAction {
  label: string;
  run: () => void | Promise<void>;
}

export interface Toast {
  id: number;
  text: string;
  action: ToastAction | null;
  isError: boolean;
}

/** Long enough to read and to reach the button; undoing must not be a race. */
const SHOWN_MS = 8_000;
const PLAIN_SHOWN_MS = 4_000;

export class Toasts {
  list = $state.raw<readonly Toast[]>([]);
  #nextId = 1;
  #timers = new Map<number, ReturnType<typeof setTimeout>>();

  /** Shows a message; a newer one replaces it, so that undo always means the last act. */
  show(text: string, action: ToastAction | null = null, isError = false): number {
    this.clear();
    const id = this.#nextId++;
    this.list = [{ id, text, action, isError }];
    this.#arm(id, action ? SHOWN_MS : PLAIN_SHOWN_MS);
    return id;
  }

  error(text: string, action: ToastAction | null = null): number {
    return this.show(text, action, true);
  }

  dismiss(id: number): void {
    clearTimeout(this.#timers.get(id));
    this.#timers.delete(id);
    this.list = this.list.filter((toast) => toast.id !== id);
  }

  clear(): void {
    for (const toast of this.list) this.dismiss(toast.id);
  }

  /** A pointer or the focus is on it: it stays until that has left. */
  hold(id: number): void {
    clearTimeout(this.#timers.get(id));
  }

  release(id: number): void {
    if (this.list.some((toast) => toast.id === id)) this.#arm(id, PLAIN_SHOWN_MS);
  }

  /** Runs the action of the last message, as the key for undo does. False if there is none. */
  runLast(): boolean {
    const toast = this.list.at(-1);
    if (!toast?.action) return false;
    this.dismiss(toast.id);
    void toast.action.run();
    return true;
  }

  #arm(id: number, ms: number): void {
    clearTimeout(this.#timers.get(id));
    this.#timers.set(
      id,
      setTimeout(() => this.dismiss(id), ms),
    );
  }
}
