"""A hostile client: any JSON at any place of any call is answered by an error the RFC names.

Each call begins as one that would be fine. An unexpected error in a method fails the test at once
(tests/world.py, raise_report). Source: RFC 8620 s3.6.2
"""

from __future__ import annotations

import asyncio
import copy
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.jmap.json_strategies import ODD_VALUES, any_json, list_places, spoilt
from tests.jmap.templates import METHOD_ERRORS, SET_ERRORS, TYPES, Things
from tests.jmap.trial import Trial
from tests.world import World

_FUZZ = settings(
    max_examples=40,
    # Far above what any call takes: it catches what hangs.
    deadline=timedelta(seconds=15),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


async def _check_answer(world: World, calls: list[Any]) -> None:
    answer = await world.raw_request(calls)
    assert [id for _, _, id in calls] == list(
        dict.fromkeys(id for _, _, id in answer["methodResponses"])
    )
    for name, result, _ in answer["methodResponses"]:
        if name == "error":
            assert result["type"] in METHOD_ERRORS, result
            assert len(result.get("description", "")) < 1000
        for refused in ("notCreated", "notUpdated", "notDestroyed", "notSent", "notCopied"):
            for error in (result.get(refused) or {}).values():
                assert error["type"] in SET_ERRORS, error
    for account_id in world.caller.accounts:
        await world.services.store.check_invariants(account_id)


def test_the_calls_that_are_spoilt_cover_every_method_and_are_fine_before(
    runner: asyncio.Runner, world: World
) -> None:
    things = Things(world)
    runner.run(things.make())
    templates = things.make_all()
    assert {name for name, _ in templates} == set(world.registry.methods) - {"Core/echo"}
    for name, arguments in templates:
        [[answered, result], *_], _ = runner.run(Trial(world).run(name, arguments))
        # The filter has words and the sort is a tree, whose changes nobody follows.
        assert answered == name or result["type"] == "cannotCalculateChanges", result


@pytest.mark.parametrize("type_name", TYPES)
async def test_every_value_of_a_call_may_be_of_any_wrong_kind(world: World, type_name: str) -> None:
    """Each value at each place, however deep, replaced by one of each kind in turn."""
    things = Things(world)
    await things.make()
    for name, template in things.make_templates(type_name):
        for number in range(len(list(list_places(template)))):
            calls = []
            for odd in ODD_VALUES:
                spoiled = copy.deepcopy(template)
                holder, key = list(list_places(spoiled))[number]
                holder[key] = odd
                calls.append([name, spoiled, str(len(calls))])
            await _check_answer(world, calls)


@pytest.mark.parametrize("type_name", TYPES)
def test_any_json_at_any_place_of_a_call_is_answered_and_harms_nothing(
    runner: asyncio.Runner, world: World, type_name: str
) -> None:
    things = Things(world)
    runner.run(things.make())
    templates = things.make_templates(type_name)

    @_FUZZ
    @given(st.data())
    def run(data: st.DataObject) -> None:
        name, template = data.draw(st.sampled_from(templates))
        arguments = data.draw(spoilt(template, things.ids), label=name)
        runner.run(_check_answer(world, [[name, arguments, "0"]]))

    run()


def test_any_json_as_arguments_of_any_method_is_answered(
    runner: asyncio.Runner, world: World
) -> None:
    things = Things(world)
    runner.run(things.make())
    methods = sorted(set(world.registry.methods) - {"Core/echo"})
    names = sorted({name for _, arguments in things.make_all() for name in arguments})
    json = any_json(things.ids)

    @_FUZZ
    @given(st.sampled_from(methods), st.dictionaries(st.sampled_from(names), json, max_size=4))
    def run(name: str, arguments: dict[str, Any]) -> None:
        given = {"accountId": world.account_id} | arguments
        runner.run(_check_answer(world, [[name, given, "0"]]))

    run()


def test_any_references_between_any_calls_are_answered(
    runner: asyncio.Runner, world: World
) -> None:
    things = Things(world)
    runner.run(things.make())
    templates = things.make_all()
    names = sorted({name for _, arguments in templates for name in arguments})
    tokens = st.sampled_from(["list", "*", "ids", "0", "id", "created", "notFound", "k", "", "~1"])
    paths = st.lists(tokens, max_size=5).map(lambda found: "".join("/" + t for t in found))

    @st.composite
    def calls(draw: st.DrawFn) -> list[Any]:
        found: list[Any] = []
        for number in range(draw(st.integers(1, 5))):
            name, template = draw(st.sampled_from(templates))
            arguments = dict(template)
            for argument in draw(st.lists(st.sampled_from(names), max_size=2)):
                arguments.pop(argument, None)
                arguments["#" + argument] = {
                    "resultOf": str(draw(st.integers(0, number))),
                    "name": found[-1][0] if found else "Core/echo",
                    "path": draw(paths),
                }
            found.append([name, arguments, str(number)])
        return found

    @_FUZZ
    @given(calls())
    def run(calls: list[Any]) -> None:
        runner.run(_check_answer(world, calls))

    run()
