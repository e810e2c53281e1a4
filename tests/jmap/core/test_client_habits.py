"""What real clients send that a stricter reading would refuse (docs/protocol/clients.md)."""

from __future__ import annotations

from typing import Any

import pytest

from tests.jmap.mail_fixture import OWN, TEXT, VALUES, create_email, get_email
from tests.world import World

CORE = "urn:ietf:params:jmap:core"
SUBMISSION = "urn:ietf:params:jmap:submission"


@pytest.mark.parametrize("name", ["Mailbox", "Email", "EmailSubmission"])
async def test_arguments_of_the_query_inside_a_comparator_mean_nothing(
    world: World, name: str
) -> None:
    """jmapc repeats them in each Comparator."""
    for n in range(3):
        await world.add_mailbox(f"box {n}")
    sort = {"Mailbox": "name", "Email": "receivedAt", "EmailSubmission": "sentAt"}[name]
    plain = {"property": sort, "isAscending": False}
    repeated = {"anchorOffset": 0, "calculateTotal": False, "position": 2, "limit": 1}
    expected = await world.call(f"{name}/query", sort=[plain])
    found = await world.call(f"{name}/query", sort=[plain | repeated])
    assert found["ids"] == expected["ids"]
    refused = await world.fail(f"{name}/query", sort=[plain | {"nonsense": 1}])
    assert refused["type"] == "invalidArguments"


async def test_an_implicit_call_needs_no_capability_of_its_own(world: World) -> None:
    """jmap-jam names the capability of the method it calls, and no other."""
    made = await world.call("Identity/set", create={"k": {"name": "Alex", "email": OWN}})
    drafts = await world.add_mailbox("Drafts", role="drafts")
    email_id = await create_email(
        world, drafts, textBody=[TEXT], bodyValues=VALUES, keywords={"$draft": True},
        **{"from": [{"email": OWN}], "to": [{"email": "zoe@example.net"}]},
    )  # fmt: skip
    arguments: dict[str, Any] = {
        "accountId": world.account_id,
        "create": {"k": {"emailId": email_id, "identityId": made["created"]["k"]["id"]}},
        "onSuccessUpdateEmail": {"#k": {"keywords/$draft": None}},
    }
    own = ["Email/get", {"accountId": world.account_id, "ids": []}, "1"]
    calls = [["EmailSubmission/set", arguments, "0"], own]
    answer = await world.request(calls, [CORE, SUBMISSION])
    names = [name for name, _, _ in answer["methodResponses"]]
    assert names == ["EmailSubmission/set", "Email/set", "error"]
    assert (await get_email(world, email_id, "keywords"))["keywords"] == {}
