"""One call, or more, of every method of the registry, that is fine as it stands, with everything
that may be given: what tests spoil, and where they put ids of others.

Each call names its account, if its method has one. A method without a template fails the tests that
walk over them.
"""

from __future__ import annotations

import hashlib
from typing import Any, Final

import msgspec

from tests.jmap.mail_fixture import add_account, add_mailbox_in, make_raw, upload
from tests.jmap.sharing_fixture import add_home, add_person
from tests.world import World
from tindra.base.ids import AccountId, MailboxId, UserId
from tindra.core.access import load_caller
from tindra.core.tx import Tx, transact
from tindra.features.connect import Endpoint, apply_connection
from tindra.features.quota import ToldQuota, apply_quotas
from tindra.features.sharing.notification import run_notice
from tindra.model.sharing import ShareNotice

Template = tuple[str, dict[str, Any]]
"""(method, arguments)"""
TYPES: Final = (
    "Mailbox", "Thread", "Email", "SearchSnippet", "Identity", "EmailSubmission", "Connection",
    "VacationResponse", "SieveScript", "Blob", "Quota", "MDN", "PushSubscription", "Principal",
    "ShareNotification",
)  # fmt: skip
METHOD_ERRORS: Final = frozenset(
    "invalidArguments requestTooLarge accountNotFound cannotCalculateChanges stateMismatch"
    " unsupportedFilter unsupportedSort anchorNotFound invalidResultReference fromAccountNotFound"
    " forbidden tooManyChanges accountNotSupportedByMethod fromAccountNotSupportedByMethod"
    " blobNotFound unknownDataType".split()
)
"""Source: RFC 8620 s3.6.2, s5, s6.3, RFC 9404 s4.3, RFC 9661 s2.6"""
SET_ERRORS: Final = frozenset(
    "invalidProperties invalidPatch notFound willDestroy forbidden overQuota tooLarge singleton"
    " alreadyExists mailboxHasChild mailboxHasEmail blobNotFound tooManyKeywords tooManyMailboxes"
    " invalidEmail forbiddenFrom forbiddenMailFrom forbiddenToSend noRecipients invalidRecipients"
    " tooManyRecipients cannotUnsend rateLimit sieveIsActive invalidSieve mdnAlreadySent".split()
)
"""Source: RFC 8620 s5.3, s5.4, RFC 8621 s2.5, s4.6, s4.7, s7.5, RFC 9661 s2.4, RFC 9007 s2.1"""
PATH: Final = "https://push.example.com/device"
REPORT: Final = (
    "From: mira@fjord.test\r\nSubject: Read\r\nMIME-Version: 1.0\r\n"
    "Content-Type: multipart/report; report-type=disposition-notification; boundary=b\r\n\r\n"
    "--b\r\nContent-Type: text/plain\r\n\r\nIt was read by {name}.\r\n"
    "--b\r\nContent-Type: message/disposition-notification\r\n\r\n"
    "Final-Recipient: rfc822; mira@fjord.test\r\nOriginal-Message-ID: <m0@x>\r\n"
    "Disposition: manual-action/MDN-sent-manually; displayed\r\n\r\n--b--\r\n"
)
_PARTS: Final = {
    "Content-Type": "multipart/mixed; boundary=b",
    "MIME-Version": "1.0",
    "Disposition-Notification-To": "Mira <mira@fjord.test>",
}
_BODIES: Final = (
    "--b\r\n\r\nText.\r\n--b\r\nContent-Type: image/png\r\nContent-Disposition: attachment\r\n\r\n"
    "{name}\r\n--b--\r\n"
)


class Things:
    """Some of everything that an account, and a user, may have."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.name = world.caller.user.login
        self.account = str(world.account_id)
        self.home = str(world.caller.user.home_account_id)
        self.user = str(world.caller.user.id)
        self.other = self.friend = self.other_box = self.other_email = self.other_blob = ""
        self.inbox = self.trash = self.child = self.identity = self.submission = self.script = ""
        self.script_blob = self.active = self.note = self.push = self.quota = self.mdn = ""
        self.connection = self.text_blob = self.part = ""
        self.emails: list[str] = []
        self.threads: list[str] = []
        self.blobs: list[str] = []

    async def make(self) -> None:
        """Make them, by the calls that devices make where there are such."""
        await self._make_people()
        self.world.clock.advance(1000)  # or Emails of two accounts had one id
        await self._make_mail()
        await self._make_rest()

    async def _make_people(self) -> None:
        world = self.world
        self.friend = str((await add_person(world, f"friend-of-{self.name}")).user.id)
        if not await world.services.directory.load_accounts([AccountId(self.home)]):
            await add_home(world, world.caller.user)
        self.other = await add_account(world, f"team-of-{self.name}", "read", "triage")
        self.other_box = await add_mailbox_in(world, self.other, "Theirs")
        self.other_blob = await upload(world, self._raw("Of the team"), self.other)
        email = {"blobId": self.other_blob, "mailboxIds": {self.other_box: True}}
        arguments = {"accountId": self.other, "emails": {"e": email}}
        made = await self._call("Email/import", arguments)
        self.other_email = made["created"]["e"]["id"]

    def _raw(self, subject: str, number: int = 0, **fields: str) -> bytes:
        """A message that nobody else has."""
        return make_raw(subject, f"m{number}@x", f"Hi from {self.name}.\r\n", **fields)

    async def _make_mail(self) -> None:
        world = self.world
        self.inbox = await world.add_mailbox("Inbox", role="inbox")
        self.trash = await world.add_mailbox("Trash", role="trash")
        self.child = await world.add_mailbox("Child", parentId=self.trash)
        for number in range(2):
            raw = self._raw(f"Subject {number}", number, From="alex@example.org")
            self.emails.append(await world.add_email(self.inbox, raw))
        raw = make_raw("Parts", "m2@x", _BODIES.format(name=self.name), **_PARTS)
        self.emails.append(await world.add_email(self.inbox, raw))
        reply = self._raw("Re: Subject 0", 3, In_Reply_To="<m0@x>")
        self.emails.append(await world.add_email(self.child, reply, ("$seen",)))
        names = ["threadId", "blobId", "attachments"]
        got = (await world.call("Email/get", ids=self.emails, properties=names))["list"]
        self.threads = [email["threadId"] for email in got[:3]]
        self.blobs = [email["blobId"] for email in got]
        self.part = got[2]["attachments"][0]["blobId"]
        self.text_blob = await upload(world, f"Some text of {self.name}".encode())
        self.mdn = await upload(world, REPORT.format(name=self.name).encode())

    async def _make_rest(self) -> None:
        world = self.world
        made = await world.call("Identity/set", create={"i": {"email": "alex@example.org"}})
        self.identity = made["created"]["i"]["id"]
        obj: dict[str, Any] = {"identityId": self.identity, "emailId": self.emails[0]}
        made = await world.call("EmailSubmission/set", create={"s": obj})
        self.submission = made["created"]["s"]["id"]
        blobs = [await upload(world, f"keep; # {n} {self.name}".encode()) for n in range(3)]
        scripts = {f"s{n}": {"blobId": blobs[n], "name": f"s{n}"} for n in range(2)}
        made = await world.call("SieveScript/set", create=scripts, onSuccessActivateScript="#s1")
        self.script, self.active = (made["created"][key]["id"] for key in ("s0", "s1"))
        self.script_blob = blobs[2]
        obj = {"deviceClientId": "d", "url": PATH}
        made = await self._call("PushSubscription/set", {"create": {"p": obj}})
        self.push = made["created"]["p"]["id"]
        services, account_id = world.services, AccountId(self.account)

        async def write(tx: Tx) -> None:
            await apply_quotas(tx, [ToldQuota("", "octets", 1, 9), ToldQuota("", "count", 1, 9)])
            endpoint = Endpoint("imap.test", 993, "implicit", "alex")
            id = "c" + hashlib.sha256(self.name.encode()).hexdigest()[:16]
            await apply_connection(tx, id, "alex@example.org", endpoint, None)
            before = await tx.load("Connection", id) or {}
            held = {"messages": 3, "since": "2026-01-01T00:00:00Z", "until": "2026-01-02T00:00:00Z"}
            brake = {"clockMs": 5}
            await tx.update("Connection", id, before, before | {"heldBack": held, "brake": brake})

        await transact(services, account_id, "templates", write, "provider")
        self.quota = (await world.call("Quota/get", ids=None))["list"][0]["id"]
        self.connection = (await world.call("Connection/get", ids=None))["list"][0]["id"]
        box, me, friend = MailboxId(self.other_box), UserId(self.user), UserId(self.friend)
        notice = ShareNotice(me, friend, box, "Theirs", 5, (), ("mayReadItems",))
        payload = msgspec.to_builtins(notice)
        await run_notice(services, AccountId(self.other), f"n-{self.name}", payload)
        got = await self._call("ShareNotification/get", {"accountId": self.home, "ids": None})
        self.note = got["list"][0]["id"]
        await self._call("Principal/get", {"accountId": self.home, "ids": None})
        user, now_ms = world.caller.user, world.clock.now_ms()
        world.caller = await load_caller(services.directory, user, now_ms)

    async def _call(self, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
        [[answered, result, _]] = (await self.world.request([[name, arguments, "0"]]))[
            "methodResponses"
        ]
        assert answered == name, result
        return dict(result)

    @property
    def kinds(self) -> dict[str, list[str]]:
        """Kind of id -> those there are, in the same order for everybody."""
        return {
            "account": [self.account, self.home, self.other],
            "Mailbox": [self.inbox, self.trash, self.child, self.other_box],
            "Email": [*self.emails, self.other_email],
            "Thread": self.threads,
            "blob": [*self.blobs, self.part, self.text_blob, self.mdn, self.script_blob,
                     self.other_blob],
            "Identity": [self.identity],
            "EmailSubmission": [self.submission],
            "Connection": [self.connection],
            "SieveScript": [self.script, self.active],
            "Quota": [self.quota],
            "PushSubscription": [self.push],
            "Principal": [self.user, self.friend],
            "ShareNotification": [self.note],
        }  # fmt: skip

    @property
    def ids(self) -> list[str]:
        """All of them."""
        return [id for found in self.kinds.values() for id in found]

    def make_templates(self, type_name: str) -> list[Template]:
        """The calls of one type."""
        made = _MAKERS[type_name](self)
        account = self.home if type_name in ("Principal", "ShareNotification") else self.account
        place = {} if type_name == "PushSubscription" else {"accountId": account}
        registered = self.world.registry.methods
        found = []
        for verb, *several in made:
            for arguments in several:
                assert f"{type_name}/{verb}" in registered, f"there is no {type_name}/{verb}"
                found.append((f"{type_name}/{verb}", place | arguments))
        return found

    def make_all(self) -> list[Template]:
        """The calls of all types."""
        return [template for name in TYPES for template in self.make_templates(name)]


Made = list[tuple[Any, ...]]
"""(verb, arguments, more arguments ...) of one type."""


def _list_reads(ids: list[str], **more: Any) -> Made:
    get = {"ids": ids, "properties": ["id"]} | more
    return [("get", get), ("changes", {"sinceState": "1", "maxChanges": 5})]


def _list_queries(id: str, filter: dict[str, Any], sort: list[Any], **more: Any) -> Made:
    """With the filter and without: that one finds, whatever the filter means."""
    nested = [{"operator": "NOT", "conditions": [filter]}, filter]
    shared = {
        "filter": {"operator": "AND", "conditions": nested},
        "sort": sort,
        "calculateTotal": True,
    } | more
    window = {"position": 0, "limit": 5, "anchor": None, "anchorOffset": 1}
    follow = {"sinceQueryState": "1", "maxChanges": 50, "upToId": id}
    simple: dict[str, Any] = {"filter": None, "sort": sort[-1:]}
    return [
        ("query", shared | window, simple | {"anchor": id, "anchorOffset": 0, "limit": 5}),
        ("queryChanges", shared | follow, simple | follow),
    ]


def _set(**arguments: Any) -> tuple[Any, ...]:
    return ("set", {"ifInState": None, "destroy": ["nothing"]} | arguments)


def _mailbox(things: Things) -> Made:
    box = {"name": "A", "parentId": things.trash, "role": "archive", "sortOrder": 5}
    rights = {"mayReadItems": True, "mayAddItems": False}
    changed = {"name": "C", "sortOrder": 1, "parentId": None, "isSubscribed": False}
    shared = {"shareWith": {things.friend: rights}}
    patched = {f"shareWith/{things.friend}": rights, f"shareWith/{things.user}": None}
    conditions = {"name": "a", "role": None, "hasAnyRole": False, "isSubscribed": True}
    sort = [
        {"property": "parentId"},
        {"property": "name", "isAscending": False, "collation": "i;ascii-casemap"},
    ]
    return [
        *_list_reads([things.inbox, things.trash], properties=["name", "myRights", "shareWith"]),
        _set(
            create={"k": box | {"isSubscribed": True}, "l": {"name": "B", "parentId": "#k"}},
            update={things.child: changed, things.inbox: shared, things.trash: patched},
        ),
        _set(destroy=[things.child], onDestroyRemoveEmails=True),
        *_list_queries(
            things.inbox,
            conditions | {"parentId": things.trash},
            sort[1:],
            sortAsTree=True,
            filterAsTree=False,
        ),
    ]


_BODY: Final = {
    "bodyProperties": ["partId", "blobId", "header:X-A:asText"],
    "maxBodyValueBytes": 9,
    "fetchTextBodyValues": True,
    "fetchHTMLBodyValues": True,
    "fetchAllBodyValues": True,
}
_FIELDS: Final = ["header:From:asAddresses", "bodyValues", "textBody", "safeHtml", "snoozed"]


def _email(things: Things) -> Made:
    place: dict[str, Any] = {"mailboxIds": {things.inbox: True}, "keywords": {"$draft": True}}
    asleep = {
        "until": "2030-01-01T00:00:00Z",
        "setKeywords": {"$new": True, "$seen": False},
        "moveToMailboxId": things.child,
    }
    conditions = {
        "inMailbox": things.inbox, "inMailboxOtherThan": [things.trash], "minSize": 1,
        "before": "2030-01-01T00:00:00Z", "after": "2001-01-01T00:00:00Z", "maxSize": 10**6,
        "allInThreadHaveKeyword": "a", "someInThreadHaveKeyword": "b", "hasKeyword": "$seen",
        "noneInThreadHaveKeyword": "c", "notKeyword": "d", "hasAttachment": False, "text": "x",
        "from": "mira", "to": "alex", "cc": "x", "bcc": "x", "subject": "x", "body": "x",
        "header": ["X-A", "b"],
    }  # fmt: skip
    sort = [{"property": "hasKeyword", "keyword": "$seen"}, {"property": "receivedAt"}]
    copied = {"fromAccountId": things.other, "ifFromInState": None, "destroyFromIfInState": None}
    return [
        *_list_reads(things.emails, properties=_FIELDS, **_BODY),
        _set(create=_make_drafts(things, place)),
        _set(
            update={
                things.emails[0]: {"keywords/$seen": True, f"mailboxIds/{things.child}": None},
                things.emails[1]: place | {"id": things.emails[1]},
                things.emails[2]: {"snoozed": asleep},
                things.emails[3]: {f"mailboxIds/{things.trash}": True},
            },
        ),
        _set(destroy=things.emails[:2]),
        *_list_queries(things.emails[0], conditions, sort, collapseThreads=True),
        (
            "import",
            {
                "ifInState": None,
                "emails": {"k": place | {"blobId": things.mdn, "receivedAt": None}},
            },
        ),
        ("parse", {"blobIds": [*things.blobs[:2], things.part], "properties": ["subject"]} | _BODY),
        (
            "copy",
            copied
            | {
                "create": {"k": place | {"id": things.other_email}},
                "onSuccessDestroyOriginal": True,
            },
        ),
    ]


def _make_drafts(things: Things, place: dict[str, Any]) -> dict[str, Any]:
    attached = [
        {"blobId": things.blobs[0], "type": "message/rfc822", "name": "a.eml"},
        {"blobId": things.part, "type": "image/png", "cid": "p", "disposition": "inline"},
    ]
    parts = {
        "bodyValues": {"t": {"value": "Hi"}},
        "textBody": [{"partId": "t", "type": "text/plain"}],
        "attachments": attached,
        "from": [{"name": "Alex", "email": "alex@example.org"}],
        "subject": "S",
        "header:X-A:asDate:all": ["2026-01-01T00:00:00Z"],
        "receivedAt": "2026-01-01T00:00:00Z",
        "sentAt": "2026-01-01T00:00:00+01:00",
    }
    leaves = [{"partId": "t", "type": "text/html"}, {"blobId": things.text_blob, "type": "x/y"}]
    tree = {"type": "multipart/mixed", "subParts": leaves}
    return {
        "k": place | parts,
        "l": place | {"bodyStructure": tree, "bodyValues": {"t": {"value": "<p>"}}},
    }


def _identity(things: Things) -> Made:
    address = [{"name": None, "email": "a@b.example"}]
    obj = {"name": "N", "replyTo": address, "bcc": address, "textSignature": "t"}
    return [
        *_list_reads([things.identity], properties=["name", "replyTo"]),
        _set(
            create={"k": obj | {"email": "alex@example.org", "htmlSignature": "<p>"}},
            update={things.identity: {"name": "X", "bcc": None, "textSignature": "s"}},
        ),
        _set(destroy=[things.identity]),
    ]


def _submission(things: Things) -> Made:
    address = {"email": "alex@example.org", "parameters": {"HOLDFOR": "60"}}
    envelope = {"mailFrom": address, "rcptTo": [address | {"parameters": None}]}
    made = {"identityId": things.identity, "emailId": things.emails[0]}
    conditions = {
        "identityIds": [things.identity], "emailIds": things.emails[:1], "undoStatus": "final",
        "threadIds": things.threads[:1], "before": "2030-01-01T00:00:00Z",
        "after": "2001-01-01T00:00:00Z",
    }  # fmt: skip
    sort = [{"property": "emailId"}, {"property": "sentAt", "isAscending": False}]
    return [
        *_list_reads([things.submission], properties=["envelope", "deliveryStatus"]),
        _set(
            create={"k": made, "l": made | {"envelope": envelope}},
            update={"#k": {"undoStatus": "canceled"}},
            onSuccessUpdateEmail={
                "#k": {"keywords/$seen": True, f"mailboxIds/{things.trash}": True}
            },
            onSuccessDestroyEmail=["#k"],
        ),
        _set(
            update={things.submission: {"undoStatus": "canceled"}},
            destroy=[],
            onSuccessDestroyEmail=[things.submission],
        ),
        _set(destroy=[things.submission]),
        *_list_queries(things.submission, conditions, sort),
    ]


def _snippet(things: Things) -> Made:
    return [("get", {"filter": {"text": "subject hi*"}, "emailIds": things.emails})]


def _connection(things: Things) -> Made:
    return [
        *_list_reads([things.connection], properties=["phase", "imap"]),
        ("confirmRemoval", {"id": things.connection, "messages": 3}),
    ]


def _vacation(things: Things) -> Made:
    away = {
        "isEnabled": True, "fromDate": "2026-01-01T00:00:00Z", "toDate": None, "subject": "Away",
        "textBody": "Later.", "htmlBody": "<p>Later.",
    }  # fmt: skip
    reads = _list_reads(["singleton"], properties=["isEnabled", "subject"])
    return [*reads, _set(update={"singleton": away})]


def _sieve(things: Things) -> Made:
    return [
        *_list_reads([things.script], properties=["name", "blobId", "lastError"]),
        _set(
            create={"k": {"name": "N", "blobId": things.script_blob}},
            update={things.active: {"name": "M", "blobId": things.script_blob}},
            destroy=[things.script],
            onSuccessActivateScript="#k",
            onSuccessDeactivateScript=True,
        ),
        _set(destroy=[], onSuccessActivateScript=things.script),
        *_list_queries(things.script, {"name": "s", "isActive": True}, [{"property": "name"}]),
        ("validate", {"blobId": things.script_blob}),
    ]


def _blob(things: Things) -> Made:
    digests = ["digest:sha", "digest:sha-256"]
    names = ["data", "data:asText", "data:asBase64", "size", *digests]
    sources = [
        {"data:asText": "a"},
        {"data:asBase64": "AAAA"},
        {"blobId": things.text_blob, "offset": 1, "length": 2},
        {"blobId": things.part},
    ]
    asked = [things.text_blob, things.part, things.blobs[0]]
    return [
        ("get", {"ids": asked, "properties": names, "offset": 1, "length": 5}),
        (
            "upload",
            {
                "create": {
                    "k": {"data": sources, "type": "text/plain"},
                    "l": {"data": [{"blobId": "#k", "length": 2}], "type": None},
                }
            },
        ),
        ("lookup", {"typeNames": ["Mailbox", "Thread", "Email"], "ids": asked}),
        ("copy", {"fromAccountId": things.other, "blobIds": [things.other_blob]}),
    ]


def _quota(things: Things) -> Made:
    conditions = {"name": "m", "scope": "account", "resourceType": "octets", "type": "Email"}
    return [
        *_list_reads([things.quota], properties=["used", "hardLimit"]),
        *_list_queries(things.quota, conditions, [{"property": "used"}, {"property": "name"}]),
    ]


def _mdn(things: Things) -> Made:
    told = {
        "forEmailId": things.emails[2],
        "disposition": {
            "actionMode": "manual-action",
            "sendingMode": "mdn-sent-manually",
            "type": "displayed",
        },
        "subject": "Read",
        "textBody": "It was read.",
        "includeOriginalMessage": True,
        "reportingUA": "x; y",
        "finalRecipient": "rfc822; alex@example.org",
        "extensionFields": {"X-A": "b"},
        "mdnGateway": None,
    }
    patch = {"keywords/$mdnsent": True, f"mailboxIds/{things.trash}": True}
    send = {"identityId": things.identity, "send": {"k": told}}
    return [
        ("send", send | {"onSuccessUpdateEmail": {"#k": patch}}),
        ("parse", {"blobIds": [things.mdn, things.blobs[0], things.part]}),
    ]


def _push(things: Things) -> Made:
    keys = {
        "p256dh": "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpk"
        "NtoIAiw4",
        "auth": "BTBZMqHH6r4Tts7J_aSIgg",
    }
    types = {"types": ["Email", "Mailbox"], "expires": "2026-10-01T00:00:00Z"}
    obj = {"deviceClientId": "e", "url": PATH, "keys": keys, "verificationCode": None} | types
    return [
        ("get", {"ids": [things.push], "properties": ["deviceClientId", "types", "expires"]}),
        ("set", {"create": {"k": obj}, "update": {things.push: types}, "destroy": ["nothing"]}),
        ("set", {"destroy": [things.push]}),
    ]


def _principal(things: Things) -> Made:
    conditions = {
        "accountIds": [things.account, things.other], "email": "a", "name": "a", "text": "a",
        "type": "individual", "timeZone": "Europe/Berlin",
    }  # fmt: skip
    own = {"name": "A", "description": "b", "timeZone": "Europe/Berlin"}
    sort = [{"property": "name"}, {"property": "email", "isAscending": False}]
    return [
        *_list_reads([things.user, things.friend], properties=["name", "accounts"]),
        _set(
            create={"k": {"name": "N", "type": "individual"}},
            update={things.user: own, things.friend: {"name": "X"}},
            destroy=[things.friend],
        ),
        *_list_queries(things.user, conditions, sort),
    ]


def _notification(things: Things) -> Made:
    conditions = {
        "after": "1969-01-01T00:00:00Z", "before": "2030-01-01T00:00:00Z",
        "objectType": "Mailbox", "objectAccountId": things.other,
    }  # fmt: skip
    return [
        *_list_reads([things.note], properties=["changedBy", "newRights"]),
        _set(create={"k": {}}, update={things.note: {"name": "x"}}),
        _set(destroy=[things.note]),
        *_list_queries(things.note, conditions, [{"property": "created"}]),
    ]


def _thread(things: Things) -> Made:
    return _list_reads(things.threads)


_MAKERS: Final = {
    "Mailbox": _mailbox,
    "Thread": _thread,
    "Email": _email,
    "SearchSnippet": _snippet,
    "Identity": _identity,
    "EmailSubmission": _submission,
    "Connection": _connection,
    "VacationResponse": _vacation,
    "SieveScript": _sieve,
    "Blob": _blob,
    "Quota": _quota,
    "MDN": _mdn,
    "PushSubscription": _push,
    "Principal": _principal,
    "ShareNotification": _notification,
}
