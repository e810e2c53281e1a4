"""What the tests of sharing share: people with home accounts, and a device of who sees a part.

The PartDevice keeps a cache by /changes and /get like every device; when it is told
cannotCalculateChanges it reads all of the type anew, as RFC 8620 s5.2 has it.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import msgspec

from tests.world import Asking, World
from tindra.base.ids import AccountId, UserId
from tindra.core.access import Caller, load_caller
from tindra.core.ports import StoreTx
from tindra.model.account import ALL_RIGHTS, Account, Grant, User

READ = {"mayReadItems": True}
EVERYTHING = dict.fromkeys(
    (
        "mayReadItems", "mayAddItems", "mayRemoveItems", "maySetSeen", "maySetKeywords",
        "mayCreateChild", "mayRename", "mayDelete", "mayShare",
    ),
    True,
)  # fmt: skip
_PROPERTIES: dict[str, list[str]] = {
    "Email": ["id", "threadId", "mailboxIds", "keywords", "subject"],
}
PART_TYPES = ("Mailbox", "Email", "Thread")


async def add_home(world: World, user: User) -> None:
    """The home account that every user has."""
    home = Account(user.home_account_id, user.login, user.id, 0)
    await world.services.directory.put_account(home)
    await world.services.directory.put_grant(Grant(user.id, home.id, ALL_RIGHTS))


async def add_person(world: World, login: str) -> Person:
    """A user with a home account and nothing else; and one for the owner of the world."""
    name = login.partition("@")[0]
    user = User(UserId(f"u-{name}"), login, "", AccountId(f"home-{name}"), 0)
    await world.services.directory.put_user(user)
    await add_home(world, user)
    if not await world.services.directory.load_accounts([world.caller.user.home_account_id]):
        await add_home(world, world.caller.user)
        world.caller = await load_caller(
            world.services.directory, world.caller.user, world.clock.now_ms()
        )
    return Person(world, user)


async def run_timers(world: World) -> None:
    """Do what is due, as the loop of the server does."""
    now_ms = world.clock.now_ms()
    for account_id in await world.services.store.list_due(now_ms, 100):
        due = await world.services.store.read(account_id, lambda r: r.list_timers(now_ms, 100))
        for row in due:
            handler = world.registry.timers[row.kind]
            payload = msgspec.json.decode(row.payload)
            await handler(world.services, account_id, row.key, payload)
            drop = partial(_drop_timer, kind=row.kind, key=row.key)
            await world.services.store.write(account_id, "timer-done", drop)


async def _drop_timer(tx: StoreTx, kind: str, key: str) -> None:
    await tx.delete_timer(kind, key)


class Person(Asking):
    """Somebody else, who asks as themselves; their grants are read anew for every request."""

    def __init__(self, world: World, user: User) -> None:
        self.world = world
        self.user = user
        self.account_id: str = world.account_id
        """Where calls go that name no account: the owner's."""

    async def load_caller(self) -> Caller:
        services = self.world.services
        return await load_caller(services.directory, self.user, services.clock.now_ms())

    async def calls(self, calls: list[Any], caller: Caller | None = None) -> list[Any]:
        """Method calls; gives the responses."""
        filled = [[n, {"accountId": self.account_id} | a, i] for n, a, i in calls]
        caller = await self.load_caller() if caller is None else caller
        answer = await self.world.raw_request(filled, caller=caller)
        return list(answer["methodResponses"])

    async def get(self, name: str, ids: list[str] | None = None) -> dict[str, dict[str, Any]]:
        """Objects of a type by id."""
        result = await self.call(f"{name}/get", ids=ids, **_wanted(name))
        return {obj["id"]: obj for obj in result["list"]}


async def share(
    world: World, mailbox_id: str, person: Person, rights: dict[str, bool] | None
) -> None:
    """The owner gives, changes or takes rights."""
    patch = {f"shareWith/{person.user.id}": rights}
    done = await world.call("Mailbox/set", update={mailbox_id: patch})
    assert done["notUpdated"] is None, done


class PartDevice:
    """A device of somebody who sees a part."""

    def __init__(self, person: Person, page: int = 50) -> None:
        self._person = person
        self._page = page
        self.objects: dict[str, dict[str, Any]] = {name: {} for name in PART_TYPES}
        self._states: dict[str, str | None] = dict.fromkeys(PART_TYPES)
        self.reads_anew = 0

    async def sync(self) -> None:
        """Catch up with every type."""
        for name in PART_TYPES:
            while await self._sync_page(name):
                pass

    async def _sync_page(self, name: str) -> bool:
        state = self._states[name]
        get: dict[str, Any] = {"ids": None} | _wanted(name)
        changes: dict[str, Any] = {}
        if state is not None:
            call = {"sinceState": state, "maxChanges": self._page}
            [[_, changes, _]] = await self._person.calls([[f"{name}/changes", call, "0"]])
        if state is None or changes.get("type") == "cannotCalculateChanges":
            [[_, result, _]] = await self._person.calls([[f"{name}/get", get, "0"]])
            if result.get("type") == "accountNotFound":
                self.objects[name], self._states[name] = {}, None
                return False
            self.reads_anew += 1
            self.objects[name] = {obj["id"]: obj for obj in result["list"]}
            self._states[name] = result["state"]
            return False
        if changes.get("type") == "accountNotFound":
            self.objects[name], self._states[name] = {}, None
            return False
        is_paging = "." in state
        for id in changes["destroyed"]:
            is_known = self.objects[name].pop(id, None) is not None
            assert is_known or is_paging, f"{name} {id} destroyed, but never told of"
        for id in changes["created"]:
            assert id not in self.objects[name] or is_paging, f"{name} {id} created twice"
        for id in changes["updated"]:
            assert id in self.objects[name] or is_paging, f"{name} {id} updated before created"
        get["ids"] = [*changes["created"], *changes["updated"]]
        [[_, result, _]] = await self._person.calls([[f"{name}/get", get, "0"]])
        self.objects[name].update({obj["id"]: obj for obj in result["list"]})
        for id in result["notFound"]:
            self.objects[name].pop(id, None)
        self._states[name] = changes["newState"]
        return bool(changes["hasMoreChanges"])

    async def check(self) -> None:
        """All it has is all there is."""
        await self.sync()
        for name in PART_TYPES:
            get = {"ids": None} | _wanted(name)
            [[answered, result, _]] = await self._person.calls([[f"{name}/get", get, "0"]])
            there = {o["id"]: o for o in result["list"]} if answered != "error" else {}
            assert self.objects[name] == there, f"{name} of a part did not converge"


def _wanted(name: str) -> dict[str, Any]:
    return {"properties": _PROPERTIES[name]} if name in _PROPERTIES else {}
