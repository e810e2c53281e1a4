"""The walk-through of docs/core.md, run as it stands on the page."""

from __future__ import annotations

import re
from typing import Any

from tests.conftest import ROOT
from tests.world import World, raise_report
from tindra.core.datatype import Datatype, Feature, Registry
from tindra.core.dispatch import run_request
from tindra.core.methods.standard import add_standard_methods
from tindra.server.session_object import CORE_CAPABILITY
from tindra.wire.jmap.request import Call, Request

NOTE = "urn:tindra:params:jmap:note"


def load_feature() -> Feature:
    """The Feature that the page's Python block defines."""
    page = (ROOT / "docs" / "core.md").read_text("utf-8")
    [block] = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    names: dict[str, Any] = {}
    exec(compile(block, "docs/core.md", "exec"), names)
    feature = names["NOTE_FEATURE"]
    assert isinstance(feature, Feature)
    return feature


async def test_the_note_of_the_walkthrough_is_a_whole_type(world: World) -> None:
    core = Feature(name="core", capabilities=(CORE_CAPABILITY,))
    registry = Registry((core, load_feature()))
    add_standard_methods(registry)
    assert isinstance(registry.datatypes["Note"], Datatype)

    async def call(name: str, **arguments: Any) -> dict[str, Any]:
        filled = {"accountId": world.account_id} | arguments
        request = Request([NOTE], [Call(name, filled, "0")], None)
        answer = await run_request(registry, world.services, world.caller, request, raise_report)
        [[answered, result, _]] = answer["methodResponses"]
        assert answered == name, result
        return dict(result)

    made = await call(
        "Note/set", create={"a": {"text": "milk"}, "b": {"text": "bread", "isPinned": True}}
    )
    ids = {key: made["created"][key]["id"] for key in ("a", "b")}
    assert made["created"]["a"]["isPinned"] is False
    got = await call("Note/get", ids=[ids["a"]])
    assert got["list"] == [{"id": ids["a"], "text": "milk", "isPinned": False}]
    by_text = await call("Note/query", sort=[{"property": "text"}])
    assert by_text["ids"] == [ids["b"], ids["a"]]
    pinned = await call("Note/query", filter={"isPinned": True})
    assert pinned["ids"] == [ids["b"]]
    await call("Note/set", update={ids["a"]: {"text": "oat milk"}}, destroy=[ids["b"]])
    changes = await call("Note/changes", sinceState=made["newState"])
    assert changes["updated"] == [ids["a"]]
    assert changes["destroyed"] == [ids["b"]]
    moved = await call(
        "Note/queryChanges", sinceQueryState=by_text["queryState"], sort=[{"property": "text"}]
    )
    assert set(moved["removed"]) == {ids["a"], ids["b"]}
    assert moved["added"] == [{"id": ids["a"], "index": 0}]
