/** What the sidebar says about a connection. Pure. */
import type { Connection } from '../jmap/types';
import { timeOfDay } from './dates';

export interface ConnectionLine {
  label: string;
  tone: 'ok' | 'busy' | 'warn';
  /** 0 to 100, or null when there is nothing to measure. */
  percent: number | null;
  detail: string;
}

export function describeConnection(connection: Connection, now: Date): ConnectionLine {
  const detail = connection.lastError ?? '';
  switch (connection.phase) {
    case 'connecting':
      return { label: 'Connecting…', tone: 'busy', percent: null, detail };
    case 'backfilling':
      return backfilling(connection);
    case 'live':
      return { label: 'Up to date', tone: 'ok', percent: null, detail: connection.host };
    case 'waiting':
      return { label: waiting(connection, now), tone: 'warn', percent: null, detail };
    case 'needsAuth':
      return { label: 'Needs password', tone: 'warn', percent: null, detail };
    case 'refused':
      return { label: 'Refused by the provider', tone: 'warn', percent: null, detail };
    case 'stopped':
      return { label: 'Paused', tone: 'warn', percent: null, detail };
  }
}

function backfilling(connection: Connection): ConnectionLine {
  const { messagesDone: done, messagesTotal: total } = connection;
  const percent =
    connection.progress ?? (total !== null && total > 0 ? (100 * done) / total : null);
  // A hundred per cent is only said when it is done.
  const shown = percent === null ? null : Math.max(0, Math.min(99, Math.floor(percent)));
  return {
    label: shown === null ? 'Syncing…' : `Syncing ${shown} %`,
    tone: 'busy',
    percent: shown,
    detail:
      total === null ?
        `${done.toLocaleString()} messages`
      : `${done.toLocaleString()} of ${total.toLocaleString()} messages`,
  };
}

function waiting(connection: Connection, now: Date): string {
  const at = connection.nextTryAt === null ? null : new Date(connection.nextTryAt);
  if (!at || Number.isNaN(at.getTime())) return 'Trying again soon';
  return at.getTime() - now.getTime() < 60_000 ?
      'Trying again soon'
    : `Trying again at ${timeOfDay(at)}`;
}
