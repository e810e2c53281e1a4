import { describe, expect, it } from 'vitest';
import { describeConnection } from '../src/text/connection';
import { daysBetween, longDate, shortDate } from '../src/text/dates';
import {
  displayName,
  firstName,
  formatAddress,
  hueOf,
  initials,
  parseRecipients,
} from '../src/text/names';
import { escapeHtml, linkify, parsePlain, quoteText, textToHtml } from '../src/text/plain';
import { parseQuery, type QueryContext } from '../src/text/query';
import { formatSize } from '../src/text/sizes';
import { decodeEntities, leadToMatch, parseSnippet } from '../src/text/snippet';
import type { Connection } from '../src/jmap/types';

const person = (name: string | null, email = 'x@example.org') => ({ name, email });

describe('names', () => {
  it('falls back from name to address', () => {
    expect(displayName(person('  "Anna Larsson" '))).toBe('Anna Larsson');
    expect(displayName(person(null))).toBe('x@example.org');
    expect(displayName(person('', ''))).toBe('Unknown sender');
  });

  it.each([
    ['Anna Larsson', 'Anna'],
    ['Larsson, Anna Maria', 'Anna'],
    ['Acme Inc., Billing', 'Acme'],
    [null, 'x'],
  ])('calls %s by the first name %s', (name, first) => {
    expect(firstName(person(name))).toBe(first);
  });

  it.each([
    ['Anna Larsson', 'AL'],
    ['anna', 'A'],
    ['田中 芽衣', '田芽'],
    ['"(Élodie) d’Arc"', 'ÉD'],
    ['🚀 Launch', 'L'],
    ['---', '?'],
    [null, 'X'],
  ])('shortens %s to %s', (name, letters) => {
    expect(initials(person(name))).toBe(letters);
  });

  it('gives an address one hue, whatever its case', () => {
    expect(hueOf(person(null, 'A@X.org'))).toBe(hueOf(person(null, 'a@x.ORG')));
    expect(hueOf(person(null, 'a@x.org'))).not.toBe(hueOf(person(null, 'b@x.org')));
  });

  it('reads what it writes', () => {
    const people = [
      person('Anna Larsson', 'anna@example.org'),
      person('Larsson, Anna', 'a2@example.org'),
      person('He said "hi" \\o/', 'a3@example.org'),
      person(null, 'bare@example.org'),
    ];
    const text = people.map(formatAddress).join(', ');
    expect(parseRecipients(text)).toEqual({ addresses: people, rest: '' });
  });

  it('leaves what is no address to be corrected', () => {
    expect(parseRecipients('anna@example.org; bob, mailto:eve@x.org\n')).toEqual({
      addresses: [person(null, 'anna@example.org'), person(null, 'eve@x.org')],
      rest: 'bob',
    });
  });
});

describe('dates', () => {
  const now = new Date(2024, 4, 15, 12, 0);
  const at = (...parts: [number, number, number, number?, number?]): string =>
    new Date(parts[0], parts[1], parts[2], parts[3] ?? 9, parts[4] ?? 30).toISOString();

  it('gets coarser with age', () => {
    expect(shortDate(at(2024, 4, 15), now)).toMatch(/9.30/);
    expect(shortDate(at(2024, 4, 14, 23, 59), now)).toBe('Yesterday');
    expect(shortDate(at(2024, 4, 10), now)).toMatch(/fri/i);
    expect(shortDate(at(2024, 2, 3), now)).toMatch(/3/);
    expect(shortDate(at(2023, 2, 3), now)).toMatch(/2023/);
  });

  it('always has a time in the head of a message', () => {
    expect(longDate(at(2024, 4, 15), now)).toMatch(/^Today .*9.30/);
    expect(longDate(at(2024, 4, 14), now)).toMatch(/^Yesterday .*9.30/);
    expect(longDate(at(2021, 4, 14), now)).toMatch(/2021.*9.30/);
  });

  it('counts days by the calendar, not by hours', () => {
    expect(daysBetween(new Date(2024, 4, 14, 23, 59), new Date(2024, 4, 15, 0, 1))).toBe(1);
    expect(daysBetween(new Date(2024, 2, 30), new Date(2024, 3, 1))).toBe(2);
  });

  it('says nothing about a date that is none', () => {
    expect(shortDate('yesterday-ish', now)).toBe('');
    expect(longDate('', now)).toBe('');
  });
});

describe('plain text', () => {
  const hrefs = (text: string) => linkify(text).flatMap((run) => (run.href ? [run.href] : []));

  it('finds links without the punctuation of the sentence', () => {
    expect(hrefs('See https://a.example/x?y=1. Or (http://b.example/(z)), <https://c.example>!')).toEqual(
      ['https://a.example/x?y=1', 'http://b.example/(z)', 'https://c.example'],
    );
  });

  it('links addresses, and never a script', () => {
    expect(hrefs('write to anna.larsson+x@mail.example.org.')).toEqual([
      'mailto:anna.larsson+x@mail.example.org',
    ]);
    expect(hrefs('javascript:alert(1) data:text/html,x')).toEqual([]);
  });

  it('loses no character of the text', () => {
    const text = 'a https://x.example/, b@c.example… end.\n> q\n';
    expect(linkify(text).map((run) => run.text).join('')).toBe(text);
  });

  it('sets the quotation at the end apart, with its introduction', () => {
    const parts = parsePlain('Yes!\n\nElin\n\nOn 3 May, Anna wrote:\n> Shall we?\n>\n> Anna\n');
    expect(parts.blocks.map((block) => block.runs[0]?.text)).toEqual(['Yes!\n\nElin']);
    expect(parts.trailing.map((block) => block.kind)).toEqual(['text', 'quote']);
  });

  it('leaves answers between quotations in sight', () => {
    const parts = parsePlain('> one?\nyes\n> two?\nno');
    expect(parts.trailing).toEqual([]);
    expect(parts.blocks.map((block) => block.kind)).toEqual(['quote', 'text', 'quote', 'text']);
  });

  it('shows a message that is only a quotation', () => {
    expect(parsePlain('> all of it').trailing).toEqual([]);
  });

  it('finds the quotation under a signature', () => {
    const parts = parsePlain('Yes\n-- \nElin\n\nOn 3 May, Anna wrote:\n> Shall we?\n> \n> -- \n> Anna');
    expect(parts.blocks.map((block) => block.kind)).toEqual(['text', 'signature']);
    expect(parts.blocks[1]?.runs[0]?.text).toBe('-- \nElin');
    expect(parts.trailing.map((block) => block.kind)).toEqual(['text', 'quote']);
  });

  it('tells the signature from the text', () => {
    expect(parsePlain('Hi\n-- \nElin').blocks.map((block) => block.kind)).toEqual([
      'text',
      'signature',
    ]);
  });

  it('quotes quotations one level deeper', () => {
    expect(quoteText('a\n> b\n')).toBe('> a\n>> b');
  });

  it('makes HTML out of text that cannot become markup', () => {
    expect(escapeHtml('<b a="1">&')).toBe('&lt;b a=&quot;1&quot;&gt;&amp;');
    expect(textToHtml('<script>\nhttps://x.example/?a="b')).toBe(
      '<div>&lt;script&gt;</div><div><a href="https://x.example/?a=">https://x.example/?a=</a>&quot;b</div>',
    );
  });

  it('is quick with a text made to be slow', () => {
    const started = performance.now();
    parsePlain('>'.repeat(100_000));
    parsePlain('a'.repeat(200_000));
    parsePlain(`https://x.example/${'.'.repeat(200_000)}`);
    parsePlain('a@'.repeat(50_000));
    parsePlain(`${'x:\n'.repeat(30_000)}> q`);
    linkify('('.repeat(50_000) + 'https://x.example/' + ')'.repeat(50_000));
    expect(performance.now() - started).toBeLessThan(2_000);
  });
});

describe('search', () => {
  const context: QueryContext = {
    now: new Date(2024, 4, 15, 12),
    mailboxId: (name) => (name === 'archive' ? 'm1' : null),
    hiddenMailboxIds: ['trash', 'junk'],
  };
  const parse = (text: string, hidden: string[] = []) =>
    parseQuery(text, { ...context, hiddenMailboxIds: hidden });

  it('keeps plain words together', () => {
    expect(parse('summer "the house"')).toEqual({ text: 'summer "the house"' });
  });

  it('combines operators with words', () => {
    expect(parse('from:anna plan is:unread has:attachment')).toEqual({
      operator: 'AND',
      conditions: [
        { text: 'plan' },
        { from: 'anna' },
        { notKeyword: '$seen' },
        { hasAttachment: true },
      ],
    });
  });

  it('takes quoted values and exclusions', () => {
    expect(parse('subject:"summer house" -from:bank')).toEqual({
      operator: 'AND',
      conditions: [
        { subject: 'summer house' },
        { operator: 'NOT', conditions: [{ from: 'bank' }] },
      ],
    });
  });

  it('leaves trash and spam out unless a mailbox is named', () => {
    expect(parseQuery('x', context)).toEqual({
      operator: 'AND',
      conditions: [{ text: 'x' }, { inMailboxOtherThan: ['trash', 'junk'] }],
    });
    expect(parseQuery('in:archive', context)).toEqual({ inMailbox: 'm1' });
  });

  it('reads days and ages as UTC instants', () => {
    const before = parse('before:2024-03-01') as { before: string };
    expect(new Date(before.before)).toEqual(new Date(2024, 2, 1));
    expect(before.before).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/);
    expect(parse('newer_than:2w')).toEqual({
      after: new Date(2024, 4, 1, 12).toISOString().replace('.000', ''),
    });
  });

  it('searches for the words of an operator it does not know', () => {
    expect(parse('colour:blue re:plan')).toEqual({ text: 'colour:blue re:plan' });
    expect(parse('is:purple')).toEqual({ text: 'is:purple' });
    expect(parse('before:soon')).toEqual({ text: 'before:soon' });
  });

  it('is never without a filter', () => {
    expect(parse('""')).toEqual({ operator: 'AND', conditions: [] });
  });
});

describe('snippets', () => {
  it('splits at the marks and shows every other tag as text', () => {
    expect(parseSnippet('a &lt;b&gt; <mark>hit</mark><script>x</script>')).toEqual([
      { text: 'a <b> ', isMatch: false },
      { text: 'hit', isMatch: true },
      { text: '<script>x</script>', isMatch: false },
    ]);
  });

  it('begins near the first match', () => {
    const segments = parseSnippet('One two three four five six seven eight <mark>hit</mark> end');
    expect(leadToMatch(segments).map((segment) => segment.text)).toEqual([
      '…five six seven eight ',
      'hit',
      ' end',
    ]);
    const near = parseSnippet('a <mark>hit</mark>');
    expect(leadToMatch(near)).toEqual(near);
    expect(leadToMatch([{ text: 'no match at all in this long text', isMatch: false }])).toHaveLength(1);
  });

  it('decodes entities once', () => {
    expect(decodeEntities('&amp;lt; &#39; &#x1F600; &unknown; &#99999999;')).toBe(
      "&lt; ' 😀 &unknown; &#99999999;",
    );
    expect(decodeEntities('&#1114112;')).toBe('&#1114112;');
  });
});

describe('sizes', () => {
  it.each([
    [0, '0 bytes'],
    [999, '999 bytes'],
    [1_500, '1.5 KB'],
    [15_300, '15 KB'],
    [2_411_002, '2.4 MB'],
  ])('writes %i as %s', (bytes, text) => expect(formatSize(bytes)).toBe(text));
});

describe('connections', () => {
  const now = new Date(2024, 4, 15, 12, 0);
  const connection = (change: Partial<Connection>): Connection => ({
    id: 'c',
    name: 'Work',
    address: 'elin@example.org',
    host: 'imap.example.org',
    phase: 'live',
    progress: null,
    messagesDone: 0,
    messagesTotal: null,
    lastError: null,
    nextTryAt: null,
    ...change,
  });

  it('says how far a sync has come, and never 100 before it is done', () => {
    const at = (progress: number | null, rest: Partial<Connection> = {}) =>
      describeConnection(connection({ phase: 'backfilling', progress, ...rest }), now).label;
    expect(at(43.7)).toBe('Syncing 43 %');
    expect(at(100)).toBe('Syncing 99 %');
    expect(at(null)).toBe('Syncing…');
    expect(at(null, { messagesDone: 50, messagesTotal: 200 })).toBe('Syncing 25 %');
  });

  it('says what the user has to do', () => {
    expect(describeConnection(connection({ phase: 'needsAuth' }), now)).toMatchObject({
      label: 'Needs password',
      tone: 'warn',
    });
  });

  it('says when it tries again', () => {
    const waiting = (nextTryAt: string | null) =>
      describeConnection(connection({ phase: 'waiting', nextTryAt }), now).label;
    expect(waiting(new Date(2024, 4, 15, 12, 30).toISOString())).toMatch(/at .*12.30/);
    expect(waiting(new Date(2024, 4, 15, 11, 30).toISOString())).toBe('Trying again soon');
    expect(waiting(null)).toBe('Trying again soon');
    expect(waiting('garbage')).toBe('Trying again soon');
  });
});
