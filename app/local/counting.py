"""Counts what a gateway does from the outside: the webhooks that arrive, the tasks that Celery's workers take."""

import asyncio
import json
import socket
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from types import TracebackType
from typing import Any, Self, cast

import httptools
import uvloop

from app.core.queue import celery_at
from app.local.errors import LocalError


class WebhookReceiver:
    """A real HTTP server on a loopback port that answers every webhook with 200 and remembers it.

    `ids` counts each `webhook-id`; `statuses` holds, by a message's UUID, the statuses it was told, in order. It parses
    what it needs and no more: what it takes of the processor, a gateway that is measured beside it lacks.
    """

    def __init__(self) -> None:
        self.ids: Counter[str] = Counter()
        self.statuses: dict[str, list[str]] = {}
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}/hook"
        self._loop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self._serve, name="webhooks", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._socket.close()

    @property
    def repeated(self) -> int:
        """How many arrived more than once."""
        return sum(count - 1 for count in self.ids.values())

    def _serve(self) -> None:
        with closing(self._loop):
            self._loop.run_until_complete(self._loop.create_server(lambda: _Requests(self._take), sock=self._socket))
            self._loop.run_forever()

    def _take(self, webhook_id: str, body: bytes) -> None:
        told = json.loads(body)["data"]
        self.ids[webhook_id] += 1
        if "message_id" in told:  # or it tells of a campaign
            self.statuses.setdefault(told["message_id"], []).append(told["status"])


class _Requests(asyncio.Protocol):
    """One connection: calls `take` with the `webhook-id` and body of each request, then answers."""

    def __init__(self, take: Callable[[str, bytes], None]) -> None:
        self._take = take
        self._parser = httptools.HttpRequestParser(self)
        self._webhook_id, self._body = "", b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"webhook-id":
            self._webhook_id = value.decode()

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        self._take(self._webhook_id, self._body)
        self._body = b""
        self._transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")


class TaskCounter:
    """Counts, by name, the tasks that workers take, from Celery's own events; workers must run with `-E`."""

    def __init__(self, broker: str) -> None:
        self.tasks: Counter[str] = Counter()
        self._app = celery_at(broker)
        self._listening = threading.Event()
        self._receiver: Any = None
        self._thread = threading.Thread(target=self._listen, name="task counter", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        if not self._listening.wait(10):
            raise LocalError("the broker does not deliver Celery's events")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._receiver.should_stop = True
        self._thread.join()
        self._app.close()

    @property
    def nudged(self) -> int:
        """Tasks that messages caused. Those of upkeep come by the clock, messages or none, and are left out."""
        return sum(count for name, count in self.tasks.items() if not name.startswith("upkeep."))

    def _listen(self) -> None:
        with self._app.connection_for_read() as connection:
            self._receiver = self._app.events.Receiver(connection, handlers={"task-received": self._count})
            self._receiver.on_consume_ready = lambda *_args, **_kwargs: self._listening.set()
            self._receiver.capture(wakeup=False)

    def _count(self, event: dict[str, Any]) -> None:
        self.tasks[event["name"]] += 1
