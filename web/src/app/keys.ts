/** The keyboard: one table from keys to acts, shown as it is in the help. */
import type { Actions } from './actions.svelte';
import type { App } from './app.svelte';
import type { MailboxRole } from '../jmap/types';

export interface Shortcut {
  keys: string[];
  label: string;
  group: 'Move' | 'Act' | 'Write' | 'Go to';
  run: (app: App, actions: Actions) => unknown;
}

/** One row down or up: opens it where a thread is open already, else moves the cursor. */
function step(app: App, by: 1 | -1): void {
  const open = app.route.threadId;
  const at = open === null ? app.cursor : app.rowOf(open);
  const count = app.store?.activeList?.visible.length ?? 0;
  const row = Math.max(0, Math.min(count - 1, at + by));
  app.moveCursor(row);
  app.isCursorShown = true;
  const threadId = app.threadAt(row);
  if (open !== null && threadId !== null) app.openThread(threadId, true);
}

function tick(app: App): void {
  const threadId = app.route.threadId ?? app.threadAt(app.cursor);
  if (threadId === null) return;
  if (!app.selection.delete(threadId)) app.selection.add(threadId);
}

function back(app: App): void {
  if (app.selection.size > 0) app.selection.clear();
  else if (app.route.threadId !== null) app.closeThread();
  else if (app.place.kind === 'search') app.search('');
}

const go =
  (role: MailboxRole) =>
  (app: App): void =>
    app.goToRole(role);

export const SHORTCUTS: readonly Shortcut[] = [
  { keys: ['j', 'ArrowDown'], label: 'Next conversation', group: 'Move', run: (a) => step(a, 1) },
  { keys: ['k', 'ArrowUp'], label: 'Previous conversation', group: 'Move', run: (a) => step(a, -1) },
  {
    keys: ['Enter', 'o'],
    label: 'Open conversation',
    group: 'Move',
    run: (app) => {
      const threadId = app.threadAt(app.cursor);
      if (threadId !== null) app.openThread(threadId);
    },
  },
  { keys: ['Escape'], label: 'Back', group: 'Move', run: back },
  { keys: ['/'], label: 'Search', group: 'Move', run: () => focusSearch() },
  { keys: ['e'], label: 'Archive', group: 'Act', run: (app, act) => act.archive(app.target) },
  {
    keys: ['#', 'Delete'],
    label: 'Delete',
    group: 'Act',
    run: (app, act) => act.trash(app.target),
  },
  { keys: ['s'], label: 'Star', group: 'Act', run: (app, act) => act.toggleStar(app.target) },
  {
    keys: ['u'],
    label: 'Mark as unread or read',
    group: 'Act',
    run: (app, act) => act.toggleRead(app.target),
  },
  {
    keys: ['v'],
    label: 'Move to …',
    group: 'Act',
    run: (app, act) => {
      if (app.target.length > 0) act.moving = app.target;
    },
  },
  { keys: ['x'], label: 'Select', group: 'Act', run: tick },
  { keys: ['!'], label: 'Spam', group: 'Act', run: (app, act) => act.setJunk(app.target, true) },
  { keys: ['z'], label: 'Undo', group: 'Act', run: (app) => app.toasts.runLast() },
  { keys: ['c'], label: 'New message', group: 'Write', run: (_, act) => act.compose() },
  { keys: ['r'], label: 'Reply', group: 'Write', run: (_, act) => act.replyToOpen('reply') },
  { keys: ['a'], label: 'Reply to all', group: 'Write', run: (_, act) => act.replyToOpen('replyAll') },
  { keys: ['f'], label: 'Forward', group: 'Write', run: (_, act) => act.replyToOpen('forward') },
  { keys: ['g i'], label: 'Inbox', group: 'Go to', run: go('inbox') },
  { keys: ['g s'], label: 'Starred', group: 'Go to', run: (app) => app.goTo({ kind: 'starred' }) },
  { keys: ['g t'], label: 'Sent', group: 'Go to', run: go('sent') },
  { keys: ['g d'], label: 'Drafts', group: 'Go to', run: go('drafts') },
  { keys: ['g a'], label: 'Archive', group: 'Go to', run: go('archive') },
  {
    keys: ['?'],
    label: 'Keyboard shortcuts',
    group: 'Go to',
    run: (_, act) => (act.isHelpOpen = true),
  },
];

/** The old words are selected, so that a new search is typed over them. */
export function focusSearch(): void {
  const field = document.querySelector<HTMLInputElement>('#search');
  field?.focus();
  field?.select();
}

/** After `g`, this long for the second key. */
const CHORD_MS = 1_200;

/** Listens on the window; returns the function that stops it. */
export function listenForKeys(app: App, actions: Actions): () => void {
  let chordUntil = 0;
  const onKey = (event: KeyboardEvent): void => {
    if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.isComposing || isTyping(event.target) || document.querySelector('dialog[open]')) return;
    // A focused control keeps its own meaning of Enter and of the arrows.
    if (event.key === 'Enter' && event.target instanceof HTMLButtonElement) return;
    const isChord = event.timeStamp < chordUntil;
    chordUntil = 0;
    if (event.key === 'g' && !isChord) {
      chordUntil = event.timeStamp + CHORD_MS;
      return;
    }
    const key = isChord ? `g ${event.key}` : event.key;
    const shortcut = SHORTCUTS.find((candidate) => candidate.keys.includes(key));
    if (!shortcut) return;
    event.preventDefault();
    void shortcut.run(app, actions);
  };
  addEventListener('keydown', onKey);
  return () => removeEventListener('keydown', onKey);
}

function isTyping(target: EventTarget | null): boolean {
  return (
    target instanceof HTMLElement &&
    (target.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(target.tagName))
  );
}
