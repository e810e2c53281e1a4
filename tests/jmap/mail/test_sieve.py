"""SieveScript, and scripts that act on new mail. Source: RFC 9661, RFC 5228"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.arrival_fixture import DAY_MS, Post
from tests.jmap.mail_fixture import OWN, add_foreign_account, make_raw, only_rights, upload
from tests.world import World
from tindra.features import sieve as feature
from tindra.features.sieve import SCRIPTS_MAX
from tindra.sync.arrival.rules import MARK, RECEIVED_MAX, make_steps
from tindra.wire.sieve.errors import SieveError
from tindra.wire.sieve.grammar import EXTENSIONS
from tindra.wire.sieve.lexer import SCRIPT_BYTES_MAX

ALL = "require [" + ", ".join(f'"{name}"' for name in EXTENSIONS) + "];\n"


@pytest.fixture
def post(world: World, runner: asyncio.Runner) -> Post:
    async def open_post() -> Post:
        post = await Post(world).open()
        post.steps = make_steps(world.services)
        post.restart()
        return post

    return runner.run(open_post())


async def make(world: World, content: str = "keep;", **more: Any) -> dict[str, Any]:
    """SieveScript/set create; gives the whole answer."""
    blob_id = await upload(world, content.encode())
    extra = {k: v for k, v in more.items() if k.startswith("on")}
    obj = {k: v for k, v in more.items() if k not in extra}
    return await world.call("SieveScript/set", create={"k": {"blobId": blob_id} | obj}, **extra)


async def use(post: Post, body: str) -> str:
    """Activate a script; gives its id."""
    made = await make(post.world, ALL + body, onSuccessActivateScript="#k")
    assert made["created"], made
    assert made["created"]["k"]["isActive"] is True
    return str(made["created"]["k"]["id"])


async def get(post: Post, id: str) -> dict[str, Any]:
    """Where an Email is, by role or name, and its keywords."""
    names = {m["id"]: m["role"] or m["name"] for m in await list_mailboxes(post)}
    got = await post.world.call("Email/get", ids=[id], properties=["mailboxIds", "keywords"])
    [email] = got["list"]
    return {"in": {names[id] for id in email["mailboxIds"]}, "keywords": set(email["keywords"])}


async def list_mailboxes(post: Post) -> list[dict[str, Any]]:
    return list((await post.world.call("Mailbox/get", ids=None))["list"])


async def receive(post: Post, raw: bytes | None = None) -> tuple[dict[str, Any], list[Any]]:
    """One message comes; gives where it went, and what left."""
    id = await post.arrive(raw)
    left = await post.turn()
    assert post.reports == []
    return await get(post, id), left


async def last_error(post: Post, id: str) -> str | None:
    got = await post.world.call("SieveScript/get", ids=[id], properties=["lastError"])
    error: str | None = got["list"][0]["lastError"]
    return error


# -- the objects --------------------------------------------------------------------------------


async def test_the_account_says_what_its_scripts_may_do(world: World) -> None:
    capability = world.registry.capabilities["urn:ietf:params:jmap:sieve"]
    assert capability.session == {"implementation": "Tindra"}
    assert set(capability.account) == {
        "maxSizeScriptName", "maxSizeScript", "maxNumberScripts", "maxNumberRedirects",
        "sieveExtensions", "notificationMethods", "externalLists",
    }  # fmt: skip
    assert capability.account["maxSizeScriptName"] >= 512
    assert "fileinto" in capability.account["sieveExtensions"]


async def test_a_script_is_made_and_read(world: World) -> None:
    made = await make(world, name="Rules")
    told = made["created"]["k"]
    assert told == {"id": told["id"], "isActive": False}
    [found] = (await world.call("SieveScript/get", ids=None))["list"]
    assert found == told | {"name": "Rules", "blobId": await upload(world, b"keep;")}
    unnamed = await make(world)
    assert unnamed["created"]["k"]["name"] == "Script 1"


async def test_what_cannot_be_run_is_refused_with_its_line(world: World) -> None:
    made = await make(world, 'keep;\nfileinto "x";')
    assert made["notCreated"]["k"] == {
        "type": "invalidSieve",
        "description": "line 2: 'fileinto' needs: require 'fileinto'",
    }
    made = await make(world, "#" * (SCRIPT_BYTES_MAX + 1))
    assert made["notCreated"]["k"]["type"] == "tooLarge"
    made = await world.call("SieveScript/set", create={"k": {"blobId": "Bnone"}})
    assert made["notCreated"]["k"]["type"] == "blobNotFound"
    made = await world.call("SieveScript/set", create={"k": {"blobId": 5}, "j": {"name": "x"}})
    assert made["notCreated"]["k"]["properties"] == ["blobId"]
    assert made["notCreated"]["j"]["properties"] == ["blobId"]


@pytest.mark.parametrize("name", ["", "a" * 513, "ä" * 257, "a\nb", "a\u2028b", 5])
async def test_a_name_that_cannot_be_is_refused(world: World, name: Any) -> None:
    made = await make(world, name=name)
    assert made["notCreated"]["k"]["properties"] == ["name"]


async def test_names_are_unique(world: World) -> None:
    id = (await make(world, name="a"))["created"]["k"]["id"]
    made = await make(world, name="a")
    assert made["notCreated"]["k"]["type"] == "alreadyExists"
    assert made["notCreated"]["k"]["existingId"] == id
    other = (await make(world, name="b"))["created"]["k"]["id"]
    made = await world.call("SieveScript/set", update={other: {"name": "a"}, id: {"name": "a"}})
    assert made["notUpdated"][other]["type"] == "alreadyExists"
    assert made["updated"] == {id: None}


async def test_a_blob_of_somebody_else_is_no_blob(world: World) -> None:
    foreign = await upload(world, b"keep; # theirs", await add_foreign_account(world, "eve"))
    made = await world.call("SieveScript/set", create={"k": {"blobId": foreign}})
    assert made["notCreated"]["k"]["type"] == "blobNotFound"
    failed = await world.fail("SieveScript/validate", blobId=foreign)
    assert failed["type"] == "blobNotFound"


async def test_there_are_not_too_many(world: World) -> None:
    blob_id = await upload(world, b"keep;")
    many = {f"k{n}": {"blobId": blob_id} for n in range(SCRIPTS_MAX + 1)}
    made = await world.call("SieveScript/set", create=many)
    assert len(made["created"]) == SCRIPTS_MAX
    [refused] = made["notCreated"].values()
    assert refused["type"] == "overQuota"


async def test_at_most_one_script_is_active(world: World) -> None:
    one = (await make(world, onSuccessActivateScript="#k"))["created"]["k"]
    assert one["isActive"] is True
    made = await make(world, onSuccessActivateScript="#k")
    two = made["created"]["k"]
    assert two["isActive"] is True
    assert made["updated"] == {one["id"]: {"isActive": False}}
    made = await world.call("SieveScript/set", onSuccessActivateScript=one["id"])
    assert made["updated"] == {one["id"]: {"isActive": True}, two["id"]: {"isActive": False}}
    got = await world.call("SieveScript/query", filter={"isActive": True})
    assert got["ids"] == [one["id"]]
    made = await world.call("SieveScript/set", onSuccessDeactivateScript=True)
    assert made["updated"] == {one["id"]: {"isActive": False}}
    made = await world.call("SieveScript/set", onSuccessDeactivateScript=True)
    assert (made["updated"], made["newState"]) == (None, made["oldState"])


async def test_an_unknown_script_activates_nothing(world: World) -> None:
    one = (await make(world, onSuccessActivateScript="#k"))["created"]["k"]["id"]
    for wanted in ("nope", "#nope", None):
        made = await world.call("SieveScript/set", onSuccessActivateScript=wanted)
        assert made["updated"] is None
    failed = await world.fail("SieveScript/set", onSuccessActivateScript=5)
    assert failed["type"] == "invalidArguments"
    assert (await world.call("SieveScript/query", filter={"isActive": True}))["ids"] == [one]


async def test_where_anything_is_refused_nothing_is_activated(world: World) -> None:
    one = (await make(world, onSuccessActivateScript="#k"))["created"]["k"]["id"]
    made = await make(world, onSuccessActivateScript="#k")
    two = made["created"]["k"]["id"]
    made = await world.call(
        "SieveScript/set",
        destroy=["nope"],
        onSuccessActivateScript=one,
        onSuccessDeactivateScript=True,
    )
    assert made["updated"] is None
    assert (await world.call("SieveScript/query", filter={"isActive": True}))["ids"] == [two]


async def test_the_active_script_is_not_destroyed(world: World) -> None:
    one = (await make(world, onSuccessActivateScript="#k"))["created"]["k"]["id"]
    made = await world.call("SieveScript/set", destroy=[one])
    assert made["notDestroyed"][one]["type"] == "sieveIsActive"
    await world.call("SieveScript/set", onSuccessDeactivateScript=True)
    made = await world.call("SieveScript/set", destroy=[one])
    assert made["destroyed"] == [one]


async def test_what_the_server_sets_is_not_set(world: World) -> None:
    one = (await make(world))["created"]["k"]["id"]
    for patch in ({"isActive": True}, {"activeMs": 5}, {"lastError": "x"}):
        made = await world.call("SieveScript/set", update={one: patch})
        assert made["notUpdated"][one]["type"] == "invalidProperties"
    made = await make(world, isActive=True)
    assert made["notCreated"]["k"]["properties"] == ["isActive"]


async def test_scripts_are_searched_and_sorted(world: World) -> None:
    ids = {name: (await make(world, name=name))["created"]["k"]["id"] for name in ("b", "a", "ab")}
    await world.call("SieveScript/set", onSuccessActivateScript=ids["b"])
    got = await world.call("SieveScript/query", sort=[{"property": "name"}])
    assert got["ids"] == [ids["a"], ids["ab"], ids["b"]]
    sort = [{"property": "isActive", "isAscending": False}, {"property": "name"}]
    got = await world.call("SieveScript/query", filter={"name": "b"}, sort=sort)
    assert got["ids"] == [ids["b"], ids["ab"]]
    for filter in (
        {"name": 5},
        {"isActive": "x"},
        {"operator": "NOT", "conditions": [{"name": 1}]},
    ):
        failed = await world.fail("SieveScript/query", filter=filter)
        assert failed["type"] == "invalidArguments"
    assert (await world.fail("SieveScript/query", filter={"x": 1}))["type"] == "unsupportedFilter"


async def test_a_script_is_validated_without_being_stored(world: World) -> None:
    blob_id = await upload(world, b"keep;")
    assert await world.call("SieveScript/validate", blobId=blob_id) == {
        "accountId": world.account_id,
        "error": None,
    }
    blob_id = await upload(world, b"keep;\nfrob;")
    error = (await world.call("SieveScript/validate", blobId=blob_id))["error"]
    assert error == {"type": "invalidSieve", "description": "line 2: there is no command 'frob'"}
    assert (await world.fail("SieveScript/validate"))["type"] == "invalidArguments"
    assert (await world.call("SieveScript/get", ids=None))["list"] == []


async def test_changing_the_rules_needs_the_right_to_administer(world: World) -> None:
    async with only_rights(world, "read", "triage", "send"):
        failed = await world.fail("SieveScript/set", onSuccessDeactivateScript=True)
        assert failed["type"] == "forbidden"


# -- what they do -------------------------------------------------------------------------------


async def test_mail_is_moved_and_the_provider_will_be_told(post: Post) -> None:
    await use(post, 'if header :contains "subject" "hello" { fileinto "Archive"; }')
    found, left = await receive(post)
    assert (found["in"], left) == ({"archive"}, [])
    found, _ = await receive(post, make_raw("Other", "2@x.test"))
    assert found["in"] == {"inbox"}


async def test_mail_is_in_several_mailboxes_and_marked(post: Post) -> None:
    await post.world.add_mailbox("Work")
    await use(post, 'fileinto :flags ["\\\\Flagged", "Q3"] "work"; keep :flags "\\\\Seen";')
    found, _ = await receive(post)
    assert found == {"in": {"inbox", "Work"}, "keywords": {"$flagged", "q3", "$seen"}}


async def test_flags_that_are_no_keywords_are_left_out(post: Post) -> None:
    await use(post, 'addflag ["ok", "a{b", "\\\\Deleted", "ä", "\\\\Frob"];')
    found, _ = await receive(post)
    assert found["keywords"] == {"ok"}


async def test_a_missing_mailbox_leaves_mail_in_the_inbox_unless_it_may_be_made(post: Post) -> None:
    await use(post, 'fileinto "Lists/Sieve";')
    assert (await receive(post))[0]["in"] == {"inbox"}
    await use(post, 'fileinto :create "Lists/Sieve";')
    assert (await receive(post, make_raw(message_id="2@x.test")))[0]["in"] == {"Sieve"}
    assert (await receive(post, make_raw(message_id="3@x.test")))[0]["in"] == {"Sieve"}
    tree = {m["name"]: m["parentId"] for m in await list_mailboxes(post)}
    ids = {m["name"]: m["id"] for m in await list_mailboxes(post)}
    assert (tree["Lists"], tree["Sieve"]) == (None, ids["Lists"])
    for bad in ("a//b", "/".join("x" * 40), "a\tb", " "):
        await use(post, f'fileinto :create "{bad}";')
        found, _ = await receive(post, make_raw(message_id=f"{len(bad)}@y.test"))
        assert found["in"] == {"inbox"}


async def test_a_mailbox_is_found_by_its_use(post: Post) -> None:
    await use(
        post,
        'if specialuse_exists "\\\\Junk" { fileinto :specialuse "\\\\Junk" "Nope"; }',
    )
    assert (await receive(post))[0]["in"] == {"junk"}


async def test_what_is_discarded_lies_in_the_trash(post: Post) -> None:
    await use(post, "discard;")
    await post.set_vacation(isEnabled=True)
    found, left = await receive(post)
    assert (found["in"], left) == ({"trash"}, [])


async def test_what_a_script_puts_into_the_junk_is_not_answered(post: Post) -> None:
    await use(post, 'if header :contains "subject" "offer" { fileinto "Junk"; }')
    await post.set_vacation(isEnabled=True)
    found, left = await receive(post, make_raw("An offer"))
    assert (found["in"], left) == ({"junk"}, [])
    assert len((await receive(post, make_raw("A letter", "2@x.test")))[1]) == 1


async def test_without_a_trash_nothing_is_thrown_away(post: Post) -> None:
    await post.world.call("Mailbox/set", destroy=[post.mailboxes["trash"]])
    await use(post, "discard;")
    assert (await receive(post))[0]["in"] == {"inbox"}


async def test_mail_is_passed_on_with_a_mark_and_the_own_sender(post: Post) -> None:
    await use(post, 'redirect :copy "zoe@example.net";')
    delivered = b"Return-Path: <mira@fjord.test>\r\n" + make_raw()
    found, [(envelope, raw)] = await receive(post, delivered)
    assert found["in"] == {"inbox"}
    assert (envelope.mail_from, envelope.recipients[0].email) == (OWN, "zoe@example.net")
    assert raw.startswith(MARK.encode())
    assert b"return-path" not in raw.lower()
    assert b"From: Mira <mira@fjord.test>" in raw
    await use(post, 'redirect "zoe@example.net";')
    found, left = await receive(post, make_raw(message_id="2@x.test"))
    assert (found["in"], len(left)) == ({"trash"}, 1)


async def test_a_report_of_a_failure_is_passed_on_without_a_sender(post: Post) -> None:
    await use(post, 'redirect "zoe@example.net";')
    raw = b"Return-Path: <>\r\n" + make_raw(From="mailer-daemon@fjord.test")
    [(envelope, sent)] = await post.receive(raw)
    assert envelope.mail_from == ""
    assert b"Return-Path" not in sent


async def test_mail_does_not_go_round(post: Post) -> None:
    id = await use(post, 'redirect "zoe@example.net";')
    _, [(_, sent)] = await receive(post)
    found, left = await receive(post, b"Received: from zoe\r\n" + sent)
    assert (found["in"], left) == ({"inbox"}, [])
    assert "came back" in str(await last_error(post, id))
    ring = b"Received: a\r\n" * (RECEIVED_MAX + 1) + make_raw(message_id="2@x.test")
    found, left = await receive(post, ring)
    assert (found["in"], left) == ({"inbox"}, [])
    await use(post, f'redirect "{OWN}";')
    found, left = await receive(post, make_raw(message_id="3@x.test"))
    assert (found["in"], left) == ({"inbox"}, [])


async def test_a_run_that_goes_wrong_is_told_and_keeps_the_mail(post: Post) -> None:
    id = await use(post, 'fileinto "Archive"; redirect "${1}";')
    found, left = await receive(post)
    assert (found["in"], left) == ({"inbox"}, [])
    assert await last_error(post, id) == "line 2: '' is not an address"
    blob_id = await upload(post.world, b"keep;")
    await post.world.call("SieveScript/set", update={id: {"blobId": blob_id}})
    assert await last_error(post, id) is None


async def test_a_script_answers_as_the_vacation_response_does(post: Post) -> None:
    await use(post, 'vacation :days 3 :subject "Weg" "Bin weg";')
    await post.set_vacation(isEnabled=True, textBody="also away")
    found, [(envelope, raw)] = await receive(post)
    assert (found["in"], envelope.mail_from) == ({"inbox"}, "")
    assert b"Subject: Weg\r\n" in raw
    assert b"Auto-Submitted: auto-replied\r\n" in raw
    assert (await receive(post, make_raw(message_id="2@x.test")))[1] == []
    post.world.clock.advance(3 * DAY_MS)
    assert len((await receive(post, make_raw(message_id="3@x.test")))[1]) == 1
    assert (await receive(post, make_raw(Precedence="list", message_id="4@x.test")))[1] == []


async def test_an_answer_may_be_a_whole_entity(post: Post) -> None:
    entity = "Content-Type: text/html\\r\\n\\r\\n<p>Weg</p>".replace("\\r\\n", "\r\n")
    id = await use(post, f'vacation :mime "{entity}";')
    _, [(_, raw)] = await receive(post)
    assert raw.endswith(b"Content-Type: text/html\r\n\r\n<p>Weg</p>")
    await use(post, 'vacation :mime "Bcc: x@y.test\r\n\r\nhi";')
    assert (await receive(post, make_raw(From="o@x.test", message_id="2@x.test")))[1] == []
    assert await last_error(post, id) is None


async def test_duplicates_are_found_for_a_while(post: Post) -> None:
    await use(post, "if duplicate { discard; }")
    first, again = make_raw(), make_raw(body="Hi again\r\n")
    assert (await receive(post, first))[0]["in"] == {"inbox"}
    assert (await receive(post, again))[0]["in"] == {"trash"}
    post.world.clock.advance(8 * DAY_MS)
    assert (await receive(post, make_raw(body="Once more\r\n")))[0]["in"] == {"inbox"}


async def test_a_device_that_was_faster_is_not_overruled(post: Post) -> None:
    await use(post, 'addflag "seen-by-script"; fileinto "Archive";')
    id = await post.arrive()
    step = post.steps[0]
    decide = step.decide

    async def meddle(arrived: Any) -> Any:
        found = await decide(arrived)
        wanted = {post.mailboxes["junk"]: True}
        await post.world.call("Email/set", update={id: {"mailboxIds": wanted}})
        return found

    post.steps = [type("Meddling", (), {"decide": staticmethod(meddle)})()]
    post.restart()
    await post.turn()
    assert await get(post, id) == {"in": {"junk"}, "keywords": {"seen-by-script"}}


async def test_a_script_leaves_mail_from_before_alone(post: Post) -> None:
    await use(post, "discard;")
    id = await post.arrive(ago_ms=60_000)
    await post.turn()
    assert (await get(post, id))["in"] == {"inbox"}


async def test_a_script_that_is_not_active_does_nothing(post: Post) -> None:
    await use(post, "discard;")
    await post.world.call("SieveScript/set", onSuccessDeactivateScript=True)
    id = await post.arrive()
    assert await post.list_intents() == []
    await post.turn()
    assert (await get(post, id))["in"] == {"inbox"}


async def test_a_script_that_an_older_version_took_is_told_of(
    post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    id = await use(post, "discard;")

    def refuse(raw: bytes) -> None:
        raise SieveError(1, "the extension 'old' is not known here")

    monkeypatch.setattr(feature, "read_script", refuse)
    found, left = await receive(post)
    assert (found["in"], left) == ({"inbox"}, [])
    assert await last_error(post, id) == "line 1: the extension 'old' is not known here"


async def test_a_mailbox_is_found_however_its_name_is_composed(post: Post) -> None:
    """Source: RFC 5198 s3"""
    await post.world.add_mailbox("Caf\u00e9")
    await use(post, 'fileinto :create "Cafe\u0301"; fileinto :create "Cafe\u0301/The\u0301";')
    found, _ = await receive(post)
    assert found["in"] == {"Caf\u00e9", "Th\u00e9"}
    names = [one["name"] for one in await list_mailboxes(post)]
    assert names.count("Caf\u00e9") == 1
