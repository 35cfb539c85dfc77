"""Another broker than the server of limits and wakes; the worker has all queues and beat inside."""

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
from kombu import Exchange, Message, Queue

from app.core.queue import celery_app, celery_at
from app.core.settings import get_settings
from app.local import commands, doctor
from app.local.servers import EmbeddedValkey
from tests.support.rabbitmq import rabbitmq
from tests.support.sentinels import Watched, watched
from tests.support.waiting import until
from tests.support.webhooks_receiver import Receiver

KINDS = ["another valkey", pytest.param("rabbitmq", marks=pytest.mark.needs_rabbitmq)]


@pytest.fixture(params=KINDS)
def broker(request, configured: Callable[..., None], database, tmp_path: Path) -> Iterator[tuple[Callable, Callable]]:
    """What ends it as a crash would, and what starts it again; settings lead to it."""
    if request.param == "rabbitmq":
        with rabbitmq(tmp_path) as server:
            configured(BROKER_URL=server.url)
            celery_app.cache_clear()
            yield server.kill, server.start
    else:
        with EmbeddedValkey(tmp_path, durable=False) as server:
            configured(BROKER_URL=server.url)
            celery_app.cache_clear()
            yield server.kill, server.start
    celery_app.cache_clear()


@pytest.fixture
def sentinel_broker(configured: Callable[..., None], database, tmp_path: Path) -> Iterator[Watched]:
    with watched(tmp_path) as servers:
        configured(BROKER_URL=servers.url)
        celery_app.cache_clear()
        yield servers
    celery_app.cache_clear()


@pytest.fixture
def worker(broker, configured: Callable[..., None], tmp_path: Path) -> Iterator[subprocess.Popen]:
    yield from working(configured, tmp_path)


@pytest.fixture
def watched_worker(sentinel_broker, configured: Callable[..., None], tmp_path: Path) -> Iterator[subprocess.Popen]:
    yield from working(configured, tmp_path)


def working(configured: Callable[..., None], tmp_path: Path) -> Iterator[subprocess.Popen]:
    configured(SIZE="small", WEBHOOK_ALLOWED_NETWORKS="127.0.0.0/8")
    command = commands.worker(commands.ALL_QUEUES, "all-1")
    env = {**os.environ, "PYTHONPATH": str(Path.cwd())}
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(command, env=env, stdout=log, stderr=log)
    yield process
    assert process.poll() is None, (tmp_path / "log").read_text()
    process.terminate()
    assert process.wait(60) == 0, (tmp_path / "log").read_text()


@pytest.mark.timeout(180)
def test_messages_and_webhooks_go_through_it_and_on_when_it_was_away(
    gateway, client, phone, broker, worker, status_of, sql
) -> None:
    kill, start = broker

    def ready() -> dict:
        return httpx.get(f"{gateway.url}/health/ready", timeout=20).json()

    def send(receiver: Receiver) -> dict:
        body = {"message": "Hello", "recipient_number": "+998901112233", "device_id": "active"}
        answer = client.post("/api/sms", json={**body, "callback_url": receiver.url()})
        assert answer.status_code == 201, answer.text
        return answer.json()["data"]

    def deliver() -> None:
        [pulled] = until(phone.pull)
        phone.send(pulled["id"])

    until(lambda: ready()["status"] == "ok")
    with Receiver() as receiver:
        first = send(receiver)
        deliver()
        until(lambda: status_of(first) in {"sent", "delivered"})
        until(lambda: receiver.received)

        kill()
        second = send(receiver)
        assert (ready()["status"], ready()["broker"]) == ("degraded", "down")
        assert not next(one for one in doctor.examine(get_settings(), None) if one.what == "broker").good
        start()
        until(lambda: ready()["status"] == "ok")
        deliver()
        until(lambda: status_of(second) in {"sent", "delivered"})
    findings = {one.what: one for one in doctor.examine(get_settings(), None)}
    assert findings["broker"].good
    assert "smsfleet_broker_up 1.0" in httpx.get(f"{gateway.url}/metrics").text
    assert 'smsfleet_broker_queue_length{queue="dispatch"}' in httpx.get(f"{gateway.url}/metrics").text


def test_a_connection_lost_with_a_task_not_acknowledged_is_closed_and_the_task_acknowledged_later(
    tmp_path: Path,
) -> None:
    """A worker has tasks and, in a queue of its own that ends with it, commands."""
    tasks = Queue("tasks", Exchange("tasks"), routing_key="tasks")
    orders = Queue("orders", Exchange("orders", type="fanout", durable=False), durable=False, auto_delete=True)
    taken: list[Message] = []
    with EmbeddedValkey(tmp_path, durable=False) as server:
        connection = celery_at(server.url).connection_for_read()
        for queue, no_ack in ((tasks, False), (orders, True)):
            connection.Consumer([queue], on_message=taken.append, no_ack=no_ack).consume()
        connection.Producer().publish({}, exchange=tasks.exchange, routing_key="tasks")
        until(lambda: taken or connection.drain_events(timeout=5))
        with suppress(TimeoutError):
            while True:  # until it waits for the server
                connection.drain_events(timeout=0.1)
        server.kill()
        # As Celery does it.
        connection.collect(socket_timeout=1)
        connection.close()
        with pytest.raises(connection.connection_errors):
            taken[0].ack()
        server.start()
        taken[0].ack()
        assert taken[0].acknowledged


@pytest.mark.timeout(180)
def test_it_goes_on_with_the_master_that_sentinels_chose(
    gateway, client, phone, sentinel_broker, watched_worker, status_of
) -> None:
    def ready() -> str:
        return httpx.get(f"{gateway.url}/health/ready", timeout=20).json()["status"]

    def send(receiver: Receiver) -> dict:
        body = {"message": "Hello", "recipient_number": "+998901112233", "callback_url": receiver.url()}
        sent = client.post("/api/sms", json=body).json()["data"]
        [pulled] = until(phone.pull)
        phone.send(pulled["id"])
        until(lambda: status_of(sent) in {"sent", "delivered"})
        return sent

    until(lambda: ready() == "ok")
    with Receiver() as receiver:
        send(receiver)
        until(lambda: len(receiver.received) == 1)
        sentinel_broker.master.kill()
        send(receiver)
        until(lambda: ready() == "ok")
        until(lambda: len(receiver.received) == 2)
        send(receiver)
        until(lambda: len(receiver.received) == 3)
    assert next(one for one in doctor.examine(get_settings(), None) if one.what == "broker").good
    assert "smsfleet_broker_up 1.0" in httpx.get(f"{gateway.url}/metrics").text
