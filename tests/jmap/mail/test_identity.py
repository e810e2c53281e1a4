"""Identity. Source: RFC 8621 s6"""

from __future__ import annotations

from typing import Any

import pytest

from tests.jmap.mail_fixture import OWN, only_rights
from tests.world import World
from tindra.core.tx import transact
from tindra.features.mail.identity import apply_default_identity


async def add_identity(world: World, **properties: Any) -> str:
    """A new Identity; gives its id."""
    made = await world.call("Identity/set", create={"i": {"email": OWN} | properties})
    assert made["created"], made
    return str(made["created"]["i"]["id"])


async def add_default(world: World, email: str, name: str = "") -> str:
    """What connecting a mailbox leaves."""
    id, _ = await transact(
        world.services,
        world.account_id,
        "test",
        lambda tx: apply_default_identity(tx, email, name),
        "system",
    )
    return id


async def test_defaults_are_told_and_kept(world: World) -> None:
    made = await world.call("Identity/set", create={"i": {"email": OWN}})
    told = made["created"]["i"]
    assert {k: v for k, v in told.items() if k != "id"} == {
        "name": "",
        "replyTo": None,
        "bcc": None,
        "textSignature": "",
        "htmlSignature": "",
        "mayDelete": True,
    }
    got = await world.call("Identity/get", ids=None)
    assert got["list"] == [{"email": OWN} | told]


async def test_everything_but_the_email_can_be_changed(world: World) -> None:
    id = await add_identity(world)
    patch = {
        "name": "Alex A.",
        "replyTo": [{"name": None, "email": "reply@example.org"}],
        "bcc": [{"name": "Archive", "email": "a@example.org"}],
        "textSignature": "-- \nAlex",
        "htmlSignature": "<b>Alex</b>",
    }
    assert (await world.call("Identity/set", update={id: patch}))["updated"] == {id: None}
    got = (await world.call("Identity/get", ids=[id]))["list"][0]
    assert got == {"id": id, "email": OWN, "mayDelete": True} | patch
    made = await world.call("Identity/set", update={id: {"email": "other@example.org"}})
    assert made["notUpdated"][id]["properties"] == ["email"]


async def test_two_identities_may_share_an_address(world: World) -> None:
    assert await add_identity(world, name="Work") != await add_identity(world, name="Play")


async def test_a_whole_domain_can_be_an_identity(world: World) -> None:
    await add_identity(world, email="*@example.org")


@pytest.mark.parametrize(
    "wrong",
    [
        {"email": ""},
        {"email": "alex"},
        {"email": "a@b@c"},
        {"email": "*@"},
        {"email": "a*b@"},
        {"email": "a\r\nb@x.test"},
        {"email": "x" * 65 + "@x.test"},
        {"email": 3},
        {"email": None},
        {"name": None},
        {"replyTo": "x@y.test"},
        {"replyTo": [{"name": "x"}]},
        {"name": "a\r\nBcc: evil@x.test"},
        {"bcc": [{"name": "a\0", "email": "x@y.test"}]},
        {"replyTo": [{"email": "x@y.test\r\nBcc: z@y.test"}]},
        {"bcc": [{"email": "x@y.test", "extra": 1}]},
        {"mayDelete": False},
        {"id": "i1"},
        {"colour": "red"},
    ],
)
async def test_a_wrong_identity_is_refused(world: World, wrong: dict[str, Any]) -> None:
    made = await world.call("Identity/set", create={"i": {"email": OWN} | wrong})
    error = made["notCreated"]["i"]
    assert (error["type"], error["properties"]) == ("invalidProperties", list(wrong))


async def test_a_signature_of_a_megabyte_is_too_large(world: World) -> None:
    made = await world.call(
        "Identity/set", create={"i": {"email": OWN, "htmlSignature": "x" * 1_000_000}}
    )
    assert made["notCreated"]["i"]["type"] == "tooLarge"


@pytest.mark.parametrize(
    "html",
    ["", "-- <br>Alex", "<div><b>Alex</b></div><div>Master of <i>Email</i></div>",
     '<p style="color:red">Hi &amp; bye</p>', '<img src="https://logo.test/a.png" alt="Logo">'],
)  # fmt: skip
async def test_a_harmless_signature_stays_as_it_is(world: World, html: str) -> None:
    made = await world.call("Identity/set", create={"i": {"email": OWN, "htmlSignature": html}})
    assert "htmlSignature" not in made["created"]["i"] or not html
    got = await world.call("Identity/get", ids=[made["created"]["i"]["id"]])
    assert got["list"][0]["htmlSignature"] == html


@pytest.mark.parametrize(
    ("html", "kept"),
    [
        ("<b>Alex</b><script>steal()</script>", "<b>Alex</b>"),
        ('<img src="https://x.test/a.png" onerror="steal()">', '<img src="https://x.test/a.png">'),
        ("<form action=/x><p>Hi</p></form>", "<p>Hi</p>"),
        ("<style>*{display:none}</style><p>Hi</p>", "<p>Hi</p>"),
    ],
)
async def test_a_signature_that_does_something_is_cleaned_and_told(
    world: World, html: str, kept: str
) -> None:
    made = await world.call("Identity/set", create={"i": {"email": OWN, "htmlSignature": html}})
    assert made["created"]["i"]["htmlSignature"] == kept
    id = made["created"]["i"]["id"]
    made = await world.call("Identity/set", update={id: {"htmlSignature": html + html}})
    assert made["updated"][id] == {"htmlSignature": kept + kept}
    got = await world.call("Identity/get", ids=[id])
    assert got["list"][0]["htmlSignature"] == kept + kept


async def test_null_means_the_default(world: World) -> None:
    id = await add_identity(world, name="Al", replyTo=[{"name": None, "email": "x@y.test"}])
    patch = {"name": None, "replyTo": None, "textSignature": None, "htmlSignature": None}
    assert id in (await world.call("Identity/set", update={id: patch}))["updated"]
    [got] = (await world.call("Identity/get", ids=[id]))["list"]
    assert [got[name] for name in patch] == ["", None, "", ""]


async def test_all_are_got_at_once(world: World) -> None:
    ids = {await add_identity(world, email=f"u{n}@example.org") for n in range(3)}
    got = await world.call("Identity/get", ids=None)
    assert {one["id"] for one in got["list"]} == ids


async def test_an_identity_can_be_destroyed(world: World) -> None:
    id = await add_identity(world)
    assert (await world.call("Identity/set", destroy=[id]))["destroyed"] == [id]


async def test_the_address_of_the_account_cannot_be_destroyed(world: World) -> None:
    id = await add_default(world, OWN, "Alex")
    assert (await world.call("Identity/get", ids=[id]))["list"][0]["mayDelete"] is False
    made = await world.call("Identity/set", destroy=[id])
    assert made["notDestroyed"][id]["type"] == "forbidden"
    assert (await world.call("Identity/set", update={id: {"name": "Al"}}))["updated"]


async def test_connecting_twice_leaves_one_identity(world: World) -> None:
    assert await add_default(world, OWN) == await add_default(world, OWN.upper())


async def test_only_an_administrator_adds_addresses_of_others(world: World) -> None:
    await add_default(world, "*@team.test")
    async with only_rights(world, "read", "triage", "send"):
        create = {"a": {"email": "boss@bank.test"}, "b": {"email": "sales@team.test"}}
        made = await world.call("Identity/set", create=create)
    assert made["notCreated"]["a"]["type"] == "forbiddenFrom"
    assert made["created"].keys() == {"b"}


async def test_who_may_not_send_sets_no_identity(world: World) -> None:
    async with only_rights(world, "read", "triage"):
        error = await world.fail("Identity/set", create={})
    assert error["type"] == "forbidden"


async def test_changes_are_told(world: World) -> None:
    state = (await world.call("Identity/get", ids=[]))["state"]
    id = await add_identity(world)
    assert (await world.call("Identity/changes", sinceState=state))["created"] == [id]
