/**
 * The search box's language, turned into a JMAP filter. Pure. RFC 8621 s4.4.1
 * Unknown operators are searched for as plain words, so no query is ever an error.
 */
import type { Id } from '../jmap/types';

export type Filter = Record<string, unknown>;

export interface QueryContext {
  now: Date;
  /** Finds a mailbox by role or name, for `in:`. */
  mailboxId: (name: string) => Id | null;
  /** Left out unless named: trash and junk. */
  hiddenMailboxIds: readonly Id[];
}

const TERM = /(-?)(?:([a-z_]+):)?("[^"]*"|[^\s"]+)/gi;

/** A filter for the words, operators (from: to: subject: in: is: has: before: after: ...) given. */
export function parseQuery(text: string, context: QueryContext): Filter {
  const conditions: Filter[] = [];
  const words: string[] = [];
  let isMailboxNamed = false;
  for (const [, minus, operator, raw] of text.matchAll(TERM)) {
    const value = (raw ?? '').replaceAll('"', '');
    if (!value) continue;
    const condition = operator ? parseOperator(operator.toLowerCase(), value, context) : null;
    if (condition && 'inMailbox' in condition) isMailboxNamed = true;
    if (condition) conditions.push(minus ? not(condition) : condition);
    else if (minus) conditions.push(not({ text: value }));
    else words.push(operator ? `${operator}:${raw}` : (raw ?? ''));
  }
  if (words.length > 0) conditions.unshift({ text: words.join(' ') });
  if (!isMailboxNamed && context.hiddenMailboxIds.length > 0) {
    conditions.push({ inMailboxOtherThan: [...context.hiddenMailboxIds] });
  }
  const [first] = conditions;
  if (conditions.length === 1 && first) return first;
  return { operator: 'AND', conditions };
}

function not(condition: Filter): Filter {
  return { operator: 'NOT', conditions: [condition] };
}

const KEYWORDS: Record<string, Filter> = {
  unread: { notKeyword: '$seen' },
  read: { hasKeyword: '$seen' },
  starred: { hasKeyword: '$flagged' },
  pinned: { hasKeyword: '$flagged' },
  answered: { hasKeyword: '$answered' },
  unreplied: { notKeyword: '$answered' },
  draft: { hasKeyword: '$draft' },
};

function parseOperator(operator: string, value: string, context: QueryContext): Filter | null {
  switch (operator) {
    case 'from':
    case 'to':
    case 'cc':
    case 'bcc':
    case 'subject':
    case 'body':
      return { [operator]: value };
    case 'is':
      return KEYWORDS[value.toLowerCase()] ?? null;
    case 'has':
      return /^attachments?$/i.test(value) ? { hasAttachment: true } : null;
    case 'in': {
      const mailboxId = context.mailboxId(value);
      return mailboxId === null ? null : { inMailbox: mailboxId };
    }
    case 'before':
    case 'after':
      return dateCondition(operator, parseDay(value));
    case 'older_than':
      return dateCondition('before', parseAge(value, context.now));
    case 'newer_than':
      return dateCondition('after', parseAge(value, context.now));
    default:
      return null;
  }
}

function dateCondition(property: 'before' | 'after', date: Date | null): Filter | null {
  return date && { [property]: date.toISOString().replace(/\.\d+Z$/, 'Z') };
}

/** A local day written as 2024-03-01 or 2024/3/1. */
function parseDay(value: string): Date | null {
  const match = /^(\d{4})[-/](\d{1,2})(?:[-/](\d{1,2}))?$/.exec(value);
  if (!match) return null;
  const date = new Date(Number(match[1]), Number(match[2]) - 1, Number(match[3] ?? 1));
  return Number.isNaN(date.getTime()) ? null : date;
}

/** An age written as 3d, 2w, 6m or 1y. */
function parseAge(value: string, now: Date): Date | null {
  const match = /^(\d{1,4})([dwmy])$/i.exec(value);
  if (!match) return null;
  const count = Number(match[1]);
  const date = new Date(now);
  const unit = match[2]?.toLowerCase();
  if (unit === 'd') date.setDate(date.getDate() - count);
  else if (unit === 'w') date.setDate(date.getDate() - 7 * count);
  else if (unit === 'm') date.setMonth(date.getMonth() - count);
  else date.setFullYear(date.getFullYear() - count);
  return date;
}
