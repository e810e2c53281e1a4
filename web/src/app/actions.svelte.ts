/** The acts of the user: what they change, what is said about it, and how they are taken back. */
import { explain } from '../jmap/errors';
import type { Email, Id } from '../jmap/types';
import type { ReplyKind } from '../store/draft';
import { UNDO_SEND_SECONDS } from '../store/outbox';
import { invertPatch } from '../store/patch';
import type { App } from './app.svelte';
import { mailboxLabel } from './app.svelte';
import { Composer, resumeDraft, startReply } from './compose.svelte';
import {
  archivePatches,
  junkPatches,
  movePatches,
  readPatches,
  starPatches,
  unreadPatches,
  type PatchMap,
} from './triage';

type PatchesFor = (emails: Email[]) => PatchMap;

export class Actions {
  composer = $state.raw<Composer | null>(null);
  /** Threads a mailbox is being picked for. */
  moving = $state.raw<Id[] | null>(null);
  /** Threads waiting for a yes before they are destroyed. */
  destroying = $state.raw<Id[] | null>(null);
  isHelpOpen = $state(false);
  /** A message that leaves when its time for undo is over, where the server cannot hold it. */
  #held: { composer: Composer; timer: ReturnType<typeof setTimeout> } | null = null;

  constructor(readonly app: App) {
    addEventListener('beforeunload', (event) => {
      if (this.#held || this.composer?.isUnsaved) event.preventDefault();
    });
  }

  // --- triage ------------------------------------------------------------------------------

  async archive(threadIds: readonly Id[]): Promise<void> {
    const { app } = this;
    if (!app.canArchive) return;
    const roleId = app.triage.roleId;
    const archiveId = roleId('archive') ?? roleId('all') ?? (await this.#createArchive());
    if (archiveId === null) return;
    await this.#move('Archived', threadIds, (emails) =>
      archivePatches(emails, app.triage, archiveId),
    );
  }

  async #createArchive(): Promise<Id | null> {
    try {
      return (await this.app.store?.createMailbox('Archive', 'archive')) ?? null;
    } catch (error) {
      this.app.toasts.error(`There is no archive to move this to. ${explain(error)}`);
      return null;
    }
  }

  async trash(threadIds: readonly Id[]): Promise<void> {
    const { triage, mailbox, toasts } = this.app;
    const trashId = triage.roleId('trash');
    if (mailbox?.role === 'trash' || trashId === null) {
      if (threadIds.length > 0) this.destroying = [...threadIds];
      else toasts.error('There is nothing to delete.');
      return;
    }
    await this.#move('Moved to Trash', threadIds, (emails) => movePatches(emails, triage, trashId));
  }

  async setJunk(threadIds: readonly Id[], isJunk: boolean): Promise<void> {
    const { triage, toasts } = this.app;
    const targetId = triage.roleId(isJunk ? 'junk' : 'inbox');
    if (targetId === null) {
      toasts.error('This account has no spam mailbox.');
      return;
    }
    const text = isJunk ? 'Marked as spam' : 'Moved to Inbox';
    await this.#move(text, threadIds, (emails) => junkPatches(emails, triage, targetId, isJunk));
  }

  async moveTo(threadIds: readonly Id[], mailboxId: Id): Promise<void> {
    const { store, triage } = this.app;
    const target = store?.mailboxes.get(mailboxId);
    if (!target) return;
    await this.#move(`Moved to ${mailboxLabel(target)}`, threadIds, (emails) =>
      movePatches(emails, triage, mailboxId),
    );
  }

  async setRead(threadIds: readonly Id[], isRead: boolean): Promise<void> {
    await this.#perform(threadIds, isRead ? readPatches : unreadPatches);
  }

  /** Reads the thread if anything in it is unread, else makes it unread and leaves it. */
  async toggleRead(threadIds: readonly Id[]): Promise<void> {
    const { app } = this;
    const isUnread = app.emailsOf(threadIds).some((email) => !email.keywords['$seen']);
    if (!isUnread && app.route.threadId !== null && threadIds.includes(app.route.threadId)) {
      app.closeThread();
    }
    await this.setRead(threadIds, isUnread);
  }

  async toggleStar(threadIds: readonly Id[]): Promise<void> {
    const isStarred = this.app.emailsOf(threadIds).some((email) => email.keywords['$flagged']);
    await this.#perform(threadIds, (emails) => starPatches(emails, !isStarred));
  }

  async destroy(threadIds: readonly Id[]): Promise<void> {
    const { app } = this;
    const { mailboxId } = app.triage;
    const ids = app
      .emailsOf(threadIds)
      .filter((email) => mailboxId === null || mailboxId in email.mailboxIds)
      .map((email) => email.id);
    if (ids.length === 0) return;
    this.#advancePast(threadIds);
    app.toasts.show('Deleted for good');
    try {
      const refused = await app.store?.destroy(ids);
      this.#tellRefused(refused);
    } catch (error) {
      app.toasts.error(`Not deleted. ${explain(error)}`);
    }
  }

  /** A move with its toast, its undo, and the next thread opened in place of the one that left. */
  async #move(text: string, threadIds: readonly Id[], patchesFor: PatchesFor): Promise<void> {
    const { app } = this;
    const patches = this.#patches(threadIds, patchesFor);
    if (patches.size === 0) return;
    const { store } = app;
    if (!store) return;
    const inverse = new Map(
      [...patches].map(([id, patch]) => [id, invertPatch(store.emails.get(id) ?? {}, patch)]),
    );
    const { route } = app;
    this.#advancePast(threadIds);
    const many = threadIds.length > 1 ? ` · ${threadIds.length} conversations` : '';
    app.toasts.show(`${text}${many}`, {
      label: 'Undo',
      run: () => {
        if (route.threadId !== null) app.go(route, true);
        if (threadIds[0] !== undefined) app.moveCursorTo(threadIds[0]);
        return this.#apply(inverse, 'Could not be undone.');
      },
    });
    await this.#apply(patches, 'Nothing was moved.');
  }

  async #perform(threadIds: readonly Id[], patchesFor: PatchesFor): Promise<void> {
    const patches = this.#patches(threadIds, patchesFor);
    if (patches.size > 0) await this.#apply(patches, 'That was not saved.');
  }

  #patches(threadIds: readonly Id[], patchesFor: PatchesFor): PatchMap {
    const patches: PatchMap = new Map();
    for (const threadId of threadIds) {
      for (const [id, patch] of patchesFor(this.app.emailsOf([threadId]))) patches.set(id, patch);
    }
    return patches;
  }

  async #apply(patches: PatchMap, failure: string): Promise<void> {
    const { app } = this;
    try {
      this.#tellRefused(await app.store?.mutate(patches));
    } catch (error) {
      app.toasts.error(`${failure} ${explain(error)}`, {
        label: 'Try again',
        run: () => this.#apply(patches, failure),
      });
    }
  }

  #tellRefused(refused: Map<Id, string> | undefined): void {
    const [reason] = refused?.values() ?? [];
    if (reason !== undefined) this.app.toasts.error(reason);
  }

  /** Before threads leave the list: opens the next one, or steps back to the list. */
  #advancePast(threadIds: readonly Id[]): void {
    const { app } = this;
    app.selection.clear();
    this.#moveCursorPast(threadIds);
    const open = app.route.threadId;
    if (open === null || !threadIds.includes(open)) return;
    const row = app.rowOf(open);
    const next = app.threadAt(row + 1) ?? app.threadAt(row - 1);
    const isWide = matchMedia('(min-width: 900px)').matches;
    if (row >= 0 && next !== null && next !== open && isWide) app.openThread(next, true);
    else app.closeThread();
  }

  /** The cursor goes to the next row that stays, or at the end of the list to the one before. */
  #moveCursorPast(threadIds: readonly Id[]): void {
    const { app } = this;
    const count = app.store?.activeList?.visible.length ?? 0;
    const isStaying = (row: number): boolean => {
      const threadId = app.threadAt(row);
      return threadId !== null && !threadIds.includes(threadId);
    };
    let row = app.cursor;
    if (isStaying(row)) return;
    while (row < count && !isStaying(row)) row++;
    if (row === count) {
      row = app.cursor;
      while (row > 0 && !isStaying(row)) row--;
    }
    app.moveCursor(row);
  }

  // --- writing -----------------------------------------------------------------------------

  async compose(start: ConstructorParameters<typeof Composer>[1] = {}): Promise<void> {
    const { store } = this.app;
    if (!store) return;
    await this.#show(async () => new Composer(store, start));
  }

  async reply(email: Email, kind: ReplyKind): Promise<void> {
    const { store } = this.app;
    if (store) await this.#show(() => startReply(store, email, kind));
  }

  /** Answers the last message of the open thread that is not a draft. */
  async replyToOpen(kind: ReplyKind): Promise<void> {
    const { route } = this.app;
    if (route.threadId === null) return;
    const email = this.app
      .emailsOf([route.threadId])
      .filter((candidate) => !candidate.keywords['$draft'])
      .at(-1);
    if (email) await this.reply(email, kind);
  }

  async resume(email: Email): Promise<void> {
    const { store } = this.app;
    if (store) await this.#show(() => resumeDraft(store, email));
  }

  async #show(start: () => Promise<Composer>): Promise<void> {
    await this.composer?.close();
    try {
      this.composer = await start();
    } catch (error) {
      this.app.toasts.error(explain(error));
    }
  }

  async closeComposer(): Promise<void> {
    const { composer } = this;
    if (!composer) return;
    this.composer = null;
    await composer.close();
    if (composer.status === 'failed') {
      this.composer = composer;
      return;
    }
    if (composer.hasChanged) this.app.toasts.show('Draft saved');
  }

  async discardComposer(): Promise<void> {
    const { composer } = this;
    if (!composer) return;
    this.composer = null;
    const hadCopy = composer.savedId !== null;
    try {
      await composer.discard();
      if (hadCopy) this.app.toasts.show('Draft deleted');
    } catch (error) {
      this.app.toasts.error(`The draft was not deleted. ${explain(error)}`);
    }
  }

  async send(): Promise<void> {
    const { composer, app } = this;
    if (!composer || !app.store) return;
    const obstacle = composer.obstacle();
    if (obstacle !== null) {
      composer.problem = obstacle;
      return;
    }
    this.composer = null;
    if (composer.canServerHold) await this.#sendNow(composer);
    else await this.#sendLater(composer);
  }

  /** The server holds the message for a moment; undo asks it to give it back. */
  async #sendNow(composer: Composer): Promise<void> {
    const { toasts } = this.app;
    toasts.show('Sending…');
    try {
      const sent = await composer.send();
      this.#markAnswered(composer);
      const { undo } = sent;
      if (!undo) {
        toasts.show('Message sent');
        return;
      }
      toasts.show('Message sent', {
        label: 'Undo',
        run: async () => {
          try {
            await undo();
            composer.reopen();
            this.composer = composer;
          } catch (error) {
            toasts.error(explain(error));
          }
        },
      });
    } catch (error) {
      this.#returnToWriter(composer, error);
    }
  }

  /** The server sends at once, so the moment for undo is spent here, with the draft saved. */
  async #sendLater(composer: Composer): Promise<void> {
    const { toasts } = this.app;
    this.#held = {
      composer,
      timer: setTimeout(() => void this.#releaseHeld(), UNDO_SEND_SECONDS * 1_000),
    };
    toasts.show('Sending…', {
      label: 'Undo',
      run: () => {
        if (!this.#held) return;
        clearTimeout(this.#held.timer);
        this.#held = null;
        this.composer = composer;
      },
    });
    await composer.save();
  }

  async #releaseHeld(): Promise<void> {
    const held = this.#held;
    if (!held) return;
    this.#held = null;
    try {
      await held.composer.send();
      this.#markAnswered(held.composer);
      this.app.toasts.show('Message sent');
    } catch (error) {
      this.#returnToWriter(held.composer, error);
    }
  }

  #returnToWriter(composer: Composer, error: unknown): void {
    composer.problem = `Not sent. ${explain(error)}`;
    if (this.composer === null) this.composer = composer;
    else this.app.toasts.error(`${composer.problem} It is in Drafts.`);
  }

  #markAnswered(composer: Composer): void {
    const { answers } = composer;
    if (!answers) return;
    const patch = { [`keywords/${answers.keyword}`]: true };
    this.app.store?.mutate(new Map([[answers.emailId, patch]])).catch((error: unknown) => {
      console.warn('could not mark as answered', error);
    });
  }
}
