"""A session of jmapc with a running server: jmapc_session.py HOST:PORT LOGIN PASSWORD [plain].

Run by tests/compat/test_clients.py in an environment of its own; what was seen goes to standard
output as one JSON object. jmapc knows https only: "plain" lets its requests go by http.
"""

import json
import sys
import tempfile
import threading
from pathlib import Path

import jmapc
import requests
from jmapc.client import EventSourceConfig
from jmapc.methods import (
    EmailGet,
    EmailQuery,
    EmailSet,
    EmailSubmissionSet,
    IdentityGet,
    MailboxGet,
    SearchSnippetGet,
    ThreadGet,
)
from jmapc.ref import Ref

host, login, password, *rest = sys.argv[1:]
if rest == ["plain"]:
    ask = requests.Session.request

    def ask_plainly(self, method, url, **more):
        return ask(self, method, url.replace("https://", "http://"), **more)

    requests.Session.request = ask_plainly

client = jmapc.Client.create_with_password(host, login, password)
seen = {"username": client.jmap_session.username}

boxes = client.request(MailboxGet(ids=None)).data
seen["roles"] = {box.name: box.role for box in boxes}
by_role = {box.role: box.id for box in boxes if box.role}

screen = client.request(
    [
        EmailQuery(
            filter=jmapc.EmailQueryFilterCondition(in_mailbox=by_role["inbox"]),
            sort=[jmapc.Comparator(property="receivedAt", is_ascending=False)],
            limit=5,
            collapse_threads=True,
        ),
        EmailGet(ids=Ref("/ids"), properties=["id", "threadId", "subject", "from", "receivedAt"]),
        ThreadGet(ids=Ref("/list/*/threadId")),
    ]
)
emails, threads = screen[1].response.data, screen[2].response.data
seen["subjects"] = [email.subject for email in emails]
seen["threads"] = [thread.id for thread in threads]

[email] = client.request(EmailGet(ids=[emails[0].id], fetch_all_body_values=True)).data
seen["values"] = len(email.body_values)
words = jmapc.EmailQueryFilterCondition(text=email.subject.split()[0])
seen["snippets"] = len(client.request(SearchSnippetGet(ids=[email.id], filter=words)).data)

file = Path(tempfile.mkdtemp()) / "note.txt"
file.write_text("an attachment")
blob = client.upload_blob(file)
seen["size"] = blob.size

identity = client.request(IdentityGet()).data[0]
me = jmapc.EmailAddress(name="Me", email=identity.email)
draft = jmapc.Email(
    mail_from=[me],
    to=[jmapc.EmailAddress(name="Zoë", email="zoe@example.net")],
    subject="from jmapc",
    keywords={"$draft": True},
    mailbox_ids={by_role["drafts"]: True},
    body_values={"body": jmapc.EmailBodyValue(value="hello")},
    text_body=[jmapc.EmailBodyPart(part_id="body", type="text/plain")],
    attachments=[
        jmapc.EmailBodyPart(
            blob_id=blob.id, type="text/plain", name="note.txt", disposition="attachment"
        )
    ],
)
envelope = jmapc.Envelope(
    mail_from=jmapc.Address(email=identity.email), rcpt_to=[jmapc.Address(email="zoe@example.net")]
)
sending = client.request(
    [
        EmailSet(create={"draft": draft}),
        EmailSubmissionSet(
            create={
                "send": jmapc.EmailSubmission(
                    email_id="#draft", identity_id=identity.id, envelope=envelope
                )
            },
            on_success_update_email={
                "#send": {
                    f"mailboxIds/{by_role['drafts']}": None,
                    f"mailboxIds/{by_role['sent']}": True,
                    "keywords/$draft": None,
                }
            },
        ),
    ]
)
seen["submission"] = sending[1].response.created["send"].undo_status.value
sent_id = sending[0].response.created["draft"].id
[sent] = client.request(EmailGet(ids=[sent_id])).data
seen["is_sent"] = set(sent.mailbox_ids) == {by_role["sent"]}

listening = jmapc.Client.create_with_password(
    host,
    login,
    password,
    event_source_config=EventSourceConfig(types="*", closeafter="state", ping=0),
)
heard = threading.Event()


def change_until_heard():
    """Its stream may open at any time after this began."""
    is_flagged = True
    while not heard.wait(0.5):
        client.request(EmailSet(update={email.id: {"keywords/$flagged": is_flagged or None}}))
        is_flagged = not is_flagged


changing = threading.Thread(target=change_until_heard)
changing.start()
for event in listening.events:
    states = [state.to_dict() for state in event.data.changed.values()]
    seen["changed"] = sorted({name for state in states for name, value in state.items() if value})
    break
heard.set()
changing.join()
sys.stdout.write(json.dumps(seen))
