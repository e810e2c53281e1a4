// A session of jmap-jam with a running server: node jam.js <session URL> <bearer token>.
// Each step is what a mail app does; what was seen goes to standard output as one JSON object, and
// tests/compat/test_clients.py says what it must be.
import assert from "node:assert/strict";
import { EventSource } from "eventsource";
import JamClient from "jmap-jam";
import type { EmailBodyPart, Mailbox, StateChange } from "jmap-rfc-types";

const [sessionUrl, bearerToken] = process.argv.slice(2);
assert(sessionUrl && bearerToken);
const jam = new JamClient({ sessionUrl, bearerToken });

// An EventSource of a browser sends no headers, and jmap-jam gives it none: a program must add the
// token, as here.
globalThis.EventSource = class extends EventSource {
  constructor(url: string | URL) {
    super(url, {
      fetch: (input, init) =>
        fetch(input, {
          ...init,
          headers: { ...init.headers, Authorization: `Bearer ${bearerToken}` },
        }),
    });
  }
} as unknown as typeof globalThis.EventSource;

const accountId = await jam.getPrimaryAccount();

// The mailbox tree.
const [mailboxes] = await jam.api.Mailbox.get({ accountId });
const paths = new Map<string, string>();
const nameOf = (box: Mailbox): string => {
  const parent = mailboxes.list.find((other) => other.id === box.parentId);
  return parent ? `${nameOf(parent)}/${box.name}` : box.name;
};
for (const box of mailboxes.list) paths.set(nameOf(box), box.role ?? "");
const idOf = (role: string): string => {
  const found = mailboxes.list.find((box) => box.role === role);
  assert(found, `no mailbox is ${role}`);
  return found.id;
};

// A screen of mail in one request, by references to earlier answers.
const [screen] = await jam.requestMany((t) => {
  const query = t.Email.query({
    accountId,
    filter: { inMailbox: idOf("inbox") },
    sort: [{ property: "receivedAt", isAscending: false }],
    collapseThreads: true,
    limit: 5,
    calculateTotal: true,
  });
  const emails = t.Email.get({
    accountId,
    ids: query.$ref("/ids"),
    properties: ["threadId", "subject", "from", "receivedAt", "keywords"],
  });
  const threads = t.Thread.get({ accountId, ids: emails.$ref("/list/*/threadId") });
  return { query, emails, threads };
});

// Push, from before the first change to after the last.
const events = await jam.connectEventSource({ types: ["Email", "EmailSubmission"], ping: 30 });
const changed = new Set<string>();
const opened = new Promise<void>((resolve, reject) => {
  events.onopen = () => resolve();
  events.onerror = (event) => reject(new Error(`event source: ${JSON.stringify(event)}`));
});
const pushed = new Promise<void>((resolve) => {
  events.addEventListener("state", (event) => {
    const change = JSON.parse(event.data) as StateChange;
    assert.equal(change["@type"], "StateChange");
    for (const name of Object.keys(change.changed[accountId] ?? {})) changed.add(name);
    if (changed.has("Email") && changed.has("EmailSubmission")) resolve();
  });
});
await opened;

// An attachment up, and down again.
const note = "Žluťoučký kůň: an attachment\n";
const blob = await jam.uploadBlob(accountId, new Blob([note], { type: "text/plain" }));
const fetched = await jam.downloadBlob({
  accountId,
  blobId: blob.blobId,
  mimeType: "text/plain",
  fileName: "note.txt",
});
assert.equal(await fetched.text(), note);

// A draft, and out it goes.
const [identities] = await jam.api.Identity.get({ accountId });
const identity = identities.list[0];
assert(identity);
const [drafted] = await jam.api.Email.set({
  accountId,
  create: {
    draft: {
      mailboxIds: { [idOf("drafts")]: true },
      keywords: { $draft: true },
      from: [{ name: identity.name, email: identity.email }],
      to: [{ name: "Zoe", email: "zoe@example.net" }],
      subject: "From jmap-jam",
      bodyValues: { text: { value: "Hello", isEncodingProblem: false, isTruncated: false } },
      textBody: [{ partId: "text", type: "text/plain" } as EmailBodyPart],
      attachments: [
        {
          blobId: blob.blobId,
          size: blob.size,
          type: "text/plain",
          name: "note.txt",
          disposition: "attachment",
        },
      ],
    },
  },
});
const draft = drafted.created?.["draft"];
assert(draft, JSON.stringify(drafted.notCreated));
const [submitted] = await jam.api.EmailSubmission.set(
  {
    accountId,
    create: {
      send: {
        emailId: draft.id,
        identityId: identity.id,
        envelope: null,
      } as never, // the types ask for what only the server sets
    },
    onSuccessUpdateEmail: {
      "#send": {
        [`mailboxIds/${idOf("drafts")}`]: null,
        [`mailboxIds/${idOf("sent")}`]: true,
        "keywords/$draft": null,
      } as object, // the types know no patches
    },
  },
);
const submission = submitted.created?.["send"];
assert(submission, JSON.stringify(submitted.notCreated));
await pushed;
events.close();

const [sent] = await jam.api.Email.get({
  accountId,
  ids: [draft.id],
  properties: ["mailboxIds", "keywords", "attachments", "subject"],
});

// What is wrong is told as a problem.
const refused = await jam.api.Email.query({ accountId, filter: { nothing: 1 } as never }).then(
  () => "nothing",
  (problem: { type: string }) => problem.type,
);

console.log(
  JSON.stringify({
    session: await jam.session,
    paths: Object.fromEntries(paths),
    inbox: idOf("inbox"),
    sentId: idOf("sent"),
    total: screen.query.total,
    subjects: screen.emails.list.map((email) => email.subject),
    threads: screen.threads.list.map((thread) => thread.emailIds.length),
    blob,
    draft,
    submission,
    sent: sent.list[0],
    changed: [...changed],
    refused,
  }),
);
