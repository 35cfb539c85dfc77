"""Counts what a gateway does from the outside: the webhooks that arrive, the tasks that Celery's workers take."""

import json
import socket
import threading
from collections import Counter
from types import TracebackType
from typing import Any, Self

import uvicorn

from app.core.queue import celery_at
from app.local.errors import LocalError


class WebhookReceiver:
    """A real HTTP server on a loopback port that answers every webhook with 200 and remembers it.

    `ids` counts each `webhook-id`; `statuses` holds, by a message's UUID, the statuses it was told, in order.
    """

    def __init__(self) -> None:
        self.ids: Counter[str] = Counter()
        self.statuses: dict[str, list[str]] = {}
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}/hook"
        config = uvicorn.Config(self._answer, interface="asgi3", lifespan="off", log_config=None, access_log=False)
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, args=([self._socket],), name="webhooks", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.should_exit = True
        self._thread.join()
        self._socket.close()

    @property
    def repeated(self) -> int:
        """How many arrived more than once."""
        return sum(count - 1 for count in self.ids.values())

    async def _answer(self, scope: Any, receive: Any, send: Any) -> None:
        body, more = b"", True
        while more:
            part = await receive()
            body += part.get("body", b"")
            more = part.get("more_body", False)
        told = json.loads(body)["data"]
        self.ids[dict(scope["headers"])[b"webhook-id"].decode()] += 1
        self.statuses.setdefault(told["message_id"], []).append(told["status"])
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})


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
            raise LocalError("the broker does not hand out Celery's events")
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
