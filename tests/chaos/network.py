"""The network between the parts, in our hands: each link can be cut, slowed, or left half open."""

import asyncio
import contextlib
import struct
import threading
from collections.abc import Coroutine
from socket import SO_LINGER, SOL_SOCKET
from typing import Any, Literal, Self

import uvloop

Mode = Literal["open", "cut", "slow", "silent"]
Target = tuple[str, int] | str  # a host and a port, or the path of a socket

_CHUNK = 65_536


class Link:
    """A port that leads to `target`.

    `cut`: every connection is reset, and so is each new one. `slow`: what passes waits for `delay` seconds. `silent`:
    connections stay and nothing passes, as when a cable is pulled; they are reset when the link opens again.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.target: Target = ""
        self.port = 0
        self.delay = 0.0
        self._mode: Mode = "open"
        self._changed = asyncio.Event()
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, backlog=1024)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def switch(self, mode: Mode, delay: float = 0.0) -> None:
        if "silent" in {mode, self._mode} or mode == "cut":
            self.drop()
        self._mode, self.delay = mode, delay
        self._changed.set()
        self._changed = asyncio.Event()

    def drop(self) -> None:
        """Reset the connections there are."""
        for writer in self._writers:
            _reset(writer)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self._tasks.add(task)
        try:
            await self._connected(reader, writer)
        except asyncio.CancelledError:
            return
        finally:
            self._tasks.discard(task)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        other: asyncio.StreamWriter | None = None
        ways: list[asyncio.Task[None]] = []
        try:
            if self._mode == "cut":
                _reset(writer)
                return
            await self._pass()
            where = self.target
            if isinstance(where, str):
                other_reader, other = await asyncio.open_unix_connection(where)
            else:
                other_reader, other = await asyncio.open_connection(*where)
            self._writers.add(other)
            ways = [asyncio.create_task(self._pump(*ends)) for ends in ((reader, other), (other_reader, writer))]
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        except OSError:
            pass
        finally:
            for way in ways:
                way.cancel()
            for end in filter(None, (writer, other)):
                self._writers.discard(end)
                end.close()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while chunk := await reader.read(_CHUNK):
                await self._pass()
                writer.write(chunk)
                await writer.drain()
            await asyncio.sleep(0.05)  # what the other side still has to say of it

    async def _pass(self) -> None:
        while self._mode == "silent":
            await self._changed.wait()
        if self._mode == "slow":
            await asyncio.sleep(self.delay)


def _reset(writer: asyncio.StreamWriter) -> None:
    writer.get_extra_info("socket").setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


class Network:
    """All links, on an event loop in a thread of its own."""

    def __init__(self, *names: str) -> None:
        self._loop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="network", daemon=True)
        self.names = names
        self.links: dict[str, Link] = {}

    def __enter__(self) -> Self:
        self._thread.start()
        self._run(self._open())
        return self

    def __exit__(self, *_: object) -> None:
        self._run(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _open(self) -> None:
        for name in self.names:
            self.links[name] = Link(name)
            await self.links[name].open()

    async def _close(self) -> None:
        for link in self.links.values():
            await link.close()

    def __getitem__(self, name: str) -> Link:
        return self.links[name]

    def switch(self, name: str, mode: Mode, delay: float = 0.0) -> None:
        self._loop.call_soon_threadsafe(self.links[name].switch, mode, delay)

    def drop(self, name: str) -> None:
        self._loop.call_soon_threadsafe(self.links[name].drop)

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result()
