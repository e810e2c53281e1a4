from tests.world import World
async def test_smoke(world: World) -> None:
    inbox = await world.add_mailbox("Inbox", role="inbox")
    made = await world.call("Email/set", create={"k": {"mailboxIds": {inbox: True}, "from":[{"email":"alex@example.org"}], "subject":"Hi", "bodyValues":{"1":{"value":"hello\nthere"}}, "textBody":[{"partId":"1","type":"text/plain"}]}})
    print(made)
    assert made["created"]
