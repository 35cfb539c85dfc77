"""What a process does with a connection that takes nothing any more."""

import asyncio

from app.devices.streams import MAX_UNSENT, Streams


def test_a_connection_that_takes_nothing_is_let_go_and_holds_nobody_up():
    async def run():
        streams = Streams(lambda _session, _ids: [])
        stuck, written = asyncio.Event(), []

        async def receive():
            await asyncio.Event().wait()

        async def into_nothing(message):
            if message.get("body", b"").startswith(b":"):
                await stuck.wait()

        async def send(message):
            written.append(message.get("body", b""))

        lazy = asyncio.create_task(streams.serve(1, receive, into_nothing))
        quick = asyncio.create_task(streams.serve(1, receive, send))
        await asyncio.sleep(0)
        for _ in range(MAX_UNSENT + 1):
            await streams._keep_alive()
            await asyncio.sleep(0)
        await asyncio.wait_for(lazy, 5)
        assert not quick.done()
        assert written.count(b":keepalive\n\n") == MAX_UNSENT + 1
        streams.end_all()
        await asyncio.wait_for(quick, 5)
        assert streams._phones == {}
        late = asyncio.create_task(streams.serve(1, receive, send))
        await asyncio.wait_for(late, 5)

    asyncio.run(run())
