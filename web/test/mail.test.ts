import { describe, expect, it } from 'vitest';
import { formatRoute, parseRoute, type Route } from '../src/app/route';
import {
  archivePatches,
  junkPatches,
  movePatches,
  orderMailboxes,
  readPatches,
  starPatches,
  unreadPatches,
  type TriageContext,
} from '../src/app/triage';
import type { Email, Identity, Mailbox, MailboxRole } from '../src/jmap/types';
import {
  buildEmail,
  buildSubmission,
  chooseIdentity,
  quoteIntroduction,
  replyRecipients,
  replyReferences,
  replySubject,
  type DraftContent,
} from '../src/store/draft';
import { suggestAddresses } from '../src/store/people';
import { summarize } from '../src/store/summary';

const elin = { name: 'Elin', email: 'elin@example.org' };
const anna = { name: 'Anna Larsson', email: 'anna@example.org' };
const tomas = { name: 'Tomás Ribeiro', email: 'tomas@example.org' };

function email(id: string, change: Partial<Email> = {}): Email {
  return {
    id,
    blobId: `b${id}`,
    threadId: 't',
    mailboxIds: { inbox: true },
    keywords: { $seen: true },
    size: 1,
    receivedAt: '2024-05-01T10:00:00Z',
    from: [anna],
    to: [elin],
    cc: null,
    subject: 'Plan',
    preview: 'preview',
    hasAttachment: false,
    ...change,
  };
}

const context = (mailboxId: string | null): TriageContext => ({
  mailboxId,
  roleId: (role: MailboxRole) => (role === 'important' ? null : role),
});

describe('triage', () => {
  it('archives what is in the inbox and leaves the sent answer where it is', () => {
    const thread = [email('1'), email('2', { mailboxIds: { sent: true } })];
    expect(Object.fromEntries(archivePatches(thread, context('inbox'), 'archive'))).toEqual({
      '1': { 'mailboxIds/inbox': null, 'mailboxIds/archive': true },
    });
  });

  it('archives from a search what is in the inbox', () => {
    const thread = [email('1'), email('2', { mailboxIds: { work: true } })];
    expect([...archivePatches(thread, context(null), 'archive').keys()]).toEqual(['1']);
  });

  it('has nothing to archive in the archive', () => {
    const thread = [email('1', { mailboxIds: { archive: true } })];
    expect(archivePatches(thread, context('archive'), 'archive').size).toBe(0);
  });

  it('takes a message out of every mailbox when it goes to the trash', () => {
    const thread = [email('1', { mailboxIds: { inbox: true, work: true } })];
    expect(movePatches(thread, context('inbox'), 'trash').get('1')).toEqual({
      'mailboxIds/trash': true,
      'mailboxIds/inbox': null,
      'mailboxIds/work': null,
    });
  });

  it('moves out of the mailbox in view only', () => {
    const thread = [email('1', { mailboxIds: { inbox: true, work: true } })];
    expect(movePatches(thread, context('inbox'), 'travel').get('1')).toEqual({
      'mailboxIds/travel': true,
      'mailboxIds/inbox': null,
    });
  });

  it('does not move a message to where it is', () => {
    expect(movePatches([email('1')], context('inbox'), 'inbox').size).toBe(0);
  });

  it('leaves sent mail in place when a thread is moved from a search', () => {
    const thread = [email('1'), email('2', { mailboxIds: { sent: true } })];
    expect([...movePatches(thread, context(null), 'travel').keys()]).toEqual(['1']);
    expect([...movePatches(thread, context(null), 'trash').keys()]).toEqual(['1', '2']);
  });

  it('teaches the spam filter both ways', () => {
    expect(junkPatches([email('1')], context('inbox'), 'junk', true).get('1')).toMatchObject({
      'keywords/$junk': true,
      'keywords/$notjunk': null,
    });
    const spam = [email('1', { mailboxIds: { junk: true } })];
    expect(junkPatches(spam, context('junk'), 'inbox', false).get('1')).toMatchObject({
      'keywords/$junk': null,
      'keywords/$notjunk': true,
      'mailboxIds/inbox': true,
      'mailboxIds/junk': null,
    });
  });

  it('reads all, makes only the last unread, stars the last and unstars all', () => {
    const thread = [
      email('1', { keywords: {} }),
      email('2', { keywords: { $seen: true, $flagged: true } }),
      email('3', { keywords: { $seen: true } }),
    ];
    expect([...readPatches(thread).keys()]).toEqual(['1']);
    expect([...unreadPatches(thread).keys()]).toEqual(['3']);
    expect([...starPatches(thread, true).keys()]).toEqual(['3']);
    expect([...starPatches(thread, false).keys()]).toEqual(['2']);
  });
});

describe('the order of mailboxes', () => {
  const mailbox = (id: string, change: Partial<Mailbox> = {}): Mailbox => ({
    id,
    name: id,
    parentId: null,
    role: null,
    sortOrder: 0,
    totalEmails: 0,
    unreadEmails: 0,
    totalThreads: 0,
    unreadThreads: 0,
    isSubscribed: true,
    ...change,
  });

  it('puts roles first and the others as a tree', () => {
    const { system, own } = orderMailboxes([
      mailbox('b'),
      mailbox('trash', { role: 'trash' }),
      mailbox('a2', { parentId: 'a' }),
      mailbox('a'),
      mailbox('inbox', { role: 'inbox' }),
      mailbox('under', { parentId: 'inbox' }),
    ]);
    expect(system.map(({ mailbox: { id } }) => id)).toEqual(['inbox', 'trash']);
    expect(own.map(({ mailbox: { id }, depth }) => `${id} ${depth}`)).toEqual([
      'a 0',
      'a2 1',
      'b 0',
      'under 0',
    ]);
  });

  it('survives orphans and loops', () => {
    const { own } = orderMailboxes([
      mailbox('orphan', { parentId: 'gone' }),
      mailbox('x', { parentId: 'y' }),
      mailbox('y', { parentId: 'x' }),
    ]);
    expect(own.map(({ mailbox: { id } }) => id)).toEqual(['orphan']);
  });
});

describe('rows', () => {
  const own = new Set(['elin@example.org']);
  const row = { own, role: 'inbox' as const, trashId: 'trash' };

  it('names everyone once, in order, and the user as me', () => {
    const thread = [
      email('1'),
      email('2', { from: [elin] }),
      email('3', { from: [tomas], keywords: {} }),
      email('4'),
    ];
    const line = summarize(email('4'), thread, row);
    expect(line.people).toEqual([
      { label: 'Anna', isUnread: false },
      { label: 'me', isUnread: false },
      { label: 'Tomás', isUnread: true },
    ]);
    expect(line).toMatchObject({ count: 4, isUnread: true, face: anna });
  });

  it('gives someone who is alone the whole name', () => {
    expect(summarize(email('1'), [email('1')], row).people).toEqual([
      { label: 'Anna Larsson', isUnread: false },
    ]);
  });

  it('shows the recipients of what was sent', () => {
    const sent = email('1', { from: [elin], to: [anna, tomas] });
    const line = summarize(sent, [sent], { ...row, role: 'sent' });
    expect(line.people.map(({ label }) => label)).toEqual(['Anna', 'Tomás']);
    expect(line.face).toEqual(anna);
  });

  it('lets thrown-away mail speak for nothing but the trash', () => {
    const thread = [email('1'), email('2', { mailboxIds: { trash: true }, keywords: {} })];
    expect(summarize(email('1'), thread, row)).toMatchObject({ count: 1, isUnread: false });
    expect(summarize(email('1'), thread, { ...row, role: 'trash' }).isUnread).toBe(true);
  });

  it('has something to show for a message without anything', () => {
    const bare = email('1', { from: null, to: null, subject: null, preview: '' });
    const line = summarize(bare, [], row);
    expect(line.subject).toBe('(no subject)');
    expect(line.people[0]?.label).toBe('Unknown sender');
  });
});

describe('answering', () => {
  const received = email('1', {
    to: [elin, tomas],
    cc: [{ name: null, email: 'ELIN@example.org' }, { name: null, email: 'list@example.org' }],
    messageId: ['m3@x'],
    references: ['m1@x', 'm2@x'],
  });

  it('goes to the sender, or to all but oneself', () => {
    expect(replyRecipients(received, 'reply', [elin])).toEqual({ to: [anna], cc: [] });
    expect(replyRecipients(received, 'replyAll', [elin])).toEqual({
      to: [anna, tomas],
      cc: [{ name: null, email: 'list@example.org' }],
    });
    expect(replyRecipients(received, 'forward', [elin])).toEqual({ to: [], cc: [] });
  });

  it('respects where the sender wants answers', () => {
    const redirected = { ...received, replyTo: [tomas] };
    expect(replyRecipients(redirected, 'reply', [elin]).to).toEqual([tomas]);
    expect(replyRecipients(redirected, 'replyAll', [elin]).to).toEqual([tomas]);
  });

  it('continues with the same people when one answers oneself', () => {
    const sent = email('2', { from: [elin], to: [anna] });
    expect(replyRecipients(sent, 'reply', [elin]).to).toEqual([anna]);
  });

  it('keeps one prefix, whatever the language of the others', () => {
    expect(replySubject('Re: AW: SV: Plan', 'reply')).toBe('Re: Plan');
    expect(replySubject('Re[2]: Fwd: Plan', 'forward')).toBe('Fwd: Plan');
    expect(replySubject('Reading list', 'reply')).toBe('Re: Reading list');
    expect(replySubject(null, 'reply')).toBe('Re:');
  });

  it('threads by the ids of all messages before it', () => {
    expect(replyReferences(received)).toEqual({
      inReplyTo: ['m3@x'],
      references: ['m1@x', 'm2@x', 'm3@x'],
    });
    const noReferences = email('1', { messageId: ['b@x'], inReplyTo: ['a@x'] });
    expect(replyReferences(noReferences).references).toEqual(['a@x', 'b@x']);
  });

  it('keeps the ends of a very long chain', () => {
    const many = Array.from({ length: 200 }, (_, i) => `m${i}@x`);
    const { references } = replyReferences(email('1', { messageId: ['last@x'], references: many }));
    expect(references).toHaveLength(50);
    expect([references[0], references.at(-1)]).toEqual(['m0@x', 'last@x']);
  });

  it('writes from the address that was written to', () => {
    const identity = (id: string, address: string): Identity => ({
      id,
      name: id,
      email: address,
      replyTo: null,
      bcc: null,
      textSignature: '',
      htmlSignature: '',
      mayDelete: false,
    });
    const both = [identity('i1', 'other@example.org'), identity('i2', 'elin@example.org')];
    expect(chooseIdentity(both, received)?.id).toBe('i2');
    expect(chooseIdentity(both, null)?.id).toBe('i1');
    expect(chooseIdentity([], received)).toBeUndefined();
  });

  it('introduces what it quotes', () => {
    expect(quoteIntroduction(received, 'reply')).toMatch(/^On .*2024.*, Anna Larsson wrote:$/);
    expect(quoteIntroduction(received, 'forward')).toContain('To: Elin <elin@example.org>, Tomás');
  });
});

describe('what is sent', () => {
  const identity: Identity = {
    id: 'i1',
    name: 'Elin',
    email: 'elin@example.org',
    replyTo: null,
    bcc: null,
    textSignature: '',
    htmlSignature: '',
    mayDelete: false,
  };
  const content: DraftContent = {
    identityId: 'i1',
    to: [anna],
    cc: [],
    bcc: [tomas],
    subject: 'Plan',
    html: '<div>Yes</div>',
    text: 'Yes',
    quote: { isForward: false, introduction: 'On Monday, <Anna> wrote:', html: '<p>Shall we?</p>', text: 'Shall we?' },
    attachments: [{ blobId: 'b1', name: 'a.pdf', type: 'application/pdf', size: 3 }],
    inReplyTo: ['m@x'],
    references: ['m@x'],
  };

  it('has a text and an HTML part with the quotation in both', () => {
    const built = buildEmail(content, identity, 'drafts');
    expect(built).toMatchObject({
      mailboxIds: { drafts: true },
      keywords: { $draft: true, $seen: true },
      from: [{ name: 'Elin', email: 'elin@example.org' }],
      bcc: [tomas],
      inReplyTo: ['m@x'],
    });
    const values = built['bodyValues'] as Record<string, { value: string }>;
    expect(values['text']?.value).toBe('Yes\n\nOn Monday, <Anna> wrote:\n> Shall we?');
    expect(values['html']?.value).toContain('<blockquote type="cite"><p>Shall we?</p></blockquote>');
    expect(values['html']?.value).toContain('On Monday, &lt;Anna&gt; wrote:');
    expect(built).not.toHaveProperty('cc');
  });

  it('passes a message on as it is', () => {
    const quote = { isForward: true, introduction: 'From: Anna', html: '<p>a</p>', text: 'a\n' };
    const values = buildEmail({ ...content, quote }, identity, 'drafts')['bodyValues'] as Record<
      string,
      { value: string }
    >;
    expect(values['text']?.value).toBe('Yes\n\nFrom: Anna\n\na');
    expect(values['html']?.value).not.toContain('blockquote');
  });

  it('is filed as sent when it is gone', () => {
    const boxes = { draftsId: 'drafts', sentId: 'sent' };
    expect(buildSubmission('#draft', content, identity, boxes, 0)).toEqual({
      create: { send: { identityId: 'i1', emailId: '#draft' } },
      onSuccessUpdateEmail: {
        '#send': {
          'keywords/$draft': null,
          'keywords/$seen': true,
          'mailboxIds/drafts': null,
          'mailboxIds/sent': true,
        },
      },
    });
  });

  it('can be held back, and then names its recipients once each', () => {
    const boxes = { draftsId: 'drafts', sentId: null };
    const twice = { ...content, cc: [{ name: null, email: 'ANNA@example.org' }] };
    const built = buildSubmission('e1', twice, identity, boxes, 8);
    expect(built['create']).toMatchObject({
      send: {
        envelope: {
          mailFrom: { email: 'elin@example.org', parameters: { HOLDFOR: '8' } },
          rcptTo: [{ email: 'anna@example.org' }, { email: 'tomas@example.org' }],
        },
      },
    });
  });
});

describe('suggestions', () => {
  const mail = [
    email('1', { from: [{ name: 'Anna Larsson', email: 'noreply@shop.example' }] }),
    email('2', { from: [{ name: 'Annika Berg', email: 'annika@example.org' }] }),
    email('3', { from: [elin], to: [{ name: null, email: 'anna@example.org' }] }),
    email('4', { from: [anna], to: [elin] }),
  ];

  it('prefers those one writes to, and knows their names', () => {
    expect(suggestAddresses(mail, 'ann', [])).toEqual([
      anna,
      { name: 'Annika Berg', email: 'annika@example.org' },
    ]);
  });

  it('finds a surname and leaves out who is there already', () => {
    expect(suggestAddresses(mail, 'lars', [])).toEqual([anna]);
    expect(suggestAddresses(mail, 'lars', [anna])).toEqual([]);
    expect(suggestAddresses(mail, '  ', [])).toEqual([]);
  });
});

describe('the address bar', () => {
  it.each<Route>([
    { place: { kind: 'mailbox', mailboxId: null }, threadId: null },
    { place: { kind: 'mailbox', mailboxId: 'a/b %' }, threadId: 't 1' },
    { place: { kind: 'starred' }, threadId: 't' },
    { place: { kind: 'search', query: 'from:anna "x/y"' }, threadId: null },
    { place: { kind: 'search', query: 'q' }, threadId: 't' },
  ])('comes back as it went: $place', (route) => {
    expect(parseRoute(formatRoute(route))).toEqual(route);
  });

  it.each(['', '#', '#/nonsense/1', '#/search', '#/box/%E0%A4%A'])('makes sense of %j', (hash) => {
    expect(parseRoute(hash).place.kind).toBe('mailbox');
  });
});
