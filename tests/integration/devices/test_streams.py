"""Event streams: waking, several of one phone, slow ones, a broker that is away, a process that is restarted."""

import os
import queue
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress

import httpx
import pytest

from tests.support.strict_phone import StrictPhone
from tests.support.waiting import until


@contextmanager
def api_process(port: int = 0) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """One more process of the API, on the same database and broker."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        listener.listen(64)
        command = [sys.executable, "-m", "uvicorn", "app.main:create_app", "--factory", "--no-access-log"]
        descriptor = str(listener.fileno())
        process = subprocess.Popen(
            [*command, "--fd", descriptor, "--timeout-graceful-shutdown", "10"],
            pass_fds=[listener.fileno()],
            env=os.environ,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        try:
            assert httpx.get(f"{url}/health/live", timeout=60).status_code == 200
            yield url, process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
            assert process.wait(60) is not None


@pytest.fixture
def at() -> Iterator[Callable[[str, StrictPhone], StrictPhone]]:
    """The same phone, speaking to another process."""
    others = []

    def speaking_to(url: str, phone: StrictPhone) -> StrictPhone:
        other = StrictPhone(url)
        other.device_id, other.token = phone.device_id, phone.token
        others.append(other)
        return other

    yield speaking_to
    for other in others:
        other.close()


def test_a_send_wakes_the_phone_at_once(phone, send):
    with phone.stream() as stream:
        stream.rest()
        took = []
        for _ in range(5):
            began = time.monotonic()
            send()
            stream.until("MessageEnqueued")
            took.append(time.monotonic() - began)
            for message in phone.pull():
                phone.report(message["id"], "Sent")
            stream.rest(0.3)
        assert sorted(took)[2] < 0.5


def test_all_streams_of_a_phone_are_written_to(phone, send):
    with phone.stream() as first, phone.stream() as second, phone.stream() as third:
        for stream in (first, second, third):
            stream.until("SettingsUpdated")
        send()
        for stream in (first, second, third):
            stream.until("MessageEnqueued")


def test_a_phone_has_five_streams_and_the_oldest_gives_way(phone, send):
    with ExitStack() as stack:
        first, second = (stack.enter_context(phone.stream()) for _ in range(2))
        for stream in (first, second):
            stream.until("SettingsUpdated")
        others = [stack.enter_context(phone.stream()) for _ in range(4)]
        for stream in others:
            stream.until("SettingsUpdated")
        while first.next(5) is not None:
            pass
        send()
        for stream in (second, *others):
            stream.until("MessageEnqueued")


def test_a_phone_that_opens_streams_without_end_holds_five(gateway, phone):
    """Raw connections that never read, as an attacker has them."""
    ask = f"GET /api/mobile/v1/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {phone.token}\r\n\r\n".encode()
    with ExitStack() as stack:
        connections = []
        for _ in range(100):
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", gateway.port)))
            connection.sendall(ask)
            connection.settimeout(0)
            connections.append(connection)

        def still_open():
            return sum(not has_ended(connection) for connection in connections)

        until(lambda: still_open() == 5, 30)


def has_ended(connection):
    with suppress(BlockingIOError):
        while got := connection.recv(65536, socket.MSG_PEEK):
            if got.endswith(b"0\r\n\r\n"):
                return True
            connection.recv(65536)
        return True
    return False


def test_wakes_are_coalesced_until_the_pull_was_answered(phone, send):
    with phone.stream() as stream:
        stream.rest()
        for _ in range(20):
            send()
        woken = stream.rest(0.8).count("MessageEnqueued")
        assert 1 <= woken <= 2
        assert len(phone.pull()) == 20


def test_the_next_wake_waits_for_the_answer_as_long_as_its_way_to_this_phone_takes(phone, send):
    """One that pulls at once has the answer soon; to one that takes long the answer is on its way for longer."""
    with phone.stream() as stream:
        stream.rest()

        def pull(way):
            """When the phone was woken, and when it had its answer."""
            stream.until("MessageEnqueued")
            woken = time.monotonic()
            time.sleep(way)
            messages, answered = phone.pull(), time.monotonic()
            send()
            for message in messages:
                phone.report(message["id"], "Sent")
            return woken, answered

        def pause(way):
            """Seconds from the answer of one pull to the next wake."""
            _, answered = pull(way)
            woken, _ = pull(way)
            return woken - answered

        send()
        assert max(pause(way=0.1) for _ in range(3)) > 0.1
        until(lambda: pause(way=0) < 0.1)
        assert max(pause(way=0.1) for _ in range(3)) > 0.1


def test_a_phone_that_left_something_behind_is_woken_for_it_at_its_slot(phone, send, settings_of):
    settings_of(phone, send_delay_seconds=1)
    first, second = send("1"), send("2")
    with phone.stream() as stream:
        stream.rest()
        (pulled,) = phone.pull()
        assert pulled["id"] == first["message_id"]
        phone.report(pulled["id"], "Sent")
        began = time.monotonic()
        stream.until("MessageEnqueued", 5)
        messages = phone.pull()
        while not messages and time.monotonic() - began < 5:
            stream.until("MessageEnqueued", 5)
            messages = phone.pull()
        assert [message["id"] for message in messages] == [second["message_id"]]


def test_a_wake_reaches_the_process_that_holds_the_stream(phone, send, at):
    with api_process() as (url, _), at(url, phone).stream() as stream:
        stream.until("SettingsUpdated")
        stream.rest()
        send()
        stream.until("MessageEnqueued")
        (pulled,) = phone.pull()
        assert phone.report(pulled["id"], "Sent") == 204
        assert stream.rest(1.5) == [], "the pull was answered by the other process, and is known here"


def test_streams_end_at_once_when_their_process_is_told_to_stop(phone, send, at):
    with api_process() as (url, process):
        far = at(url, phone)
        with far.stream() as stream:
            stream.until("SettingsUpdated")
            began = time.monotonic()
            process.send_signal(signal.SIGTERM)
            while stream.next(10) is not None:
                pass
            assert process.wait(60) is not None
            assert time.monotonic() - began < 5
    send()
    with phone.stream() as stream:
        stream.until("SettingsUpdated")
        assert len(phone.pull()) == 1, "the app pulls whenever its stream opens"


def test_what_was_lost_while_the_broker_was_away_is_found_when_it_is_back(phone, send, database):
    valkey = database.valkey
    with phone.stream() as stream:
        stream.rest()
        woken = None
        os.kill(valkey._child.pid, signal.SIGSTOP)
        try:
            send()
            with suppress(queue.Empty):  # longer than the publisher tries; the look every 15 s may come just now
                woken = stream.next(2.5)
        finally:
            os.kill(valkey._child.pid, signal.SIGCONT)
        if woken is None:
            stream.until("MessageEnqueued", 25)
        assert len(phone.pull()) == 1


def test_a_lost_subscription_is_made_anew_and_finds_what_is_due(phone, send, database, sql):
    import redis

    with phone.stream() as stream, redis.Redis.from_url(database.valkey.url) as broker:
        stream.rest()
        send()
        stream.until("MessageEnqueued")
        phone.pull()
        sql.execute("UPDATE message_queue SET offered_at = clock_timestamp() - interval '1 minute'")
        stream.rest(1.5)
        for connection in broker.client_list(_type="pubsub"):
            broker.client_kill(connection["addr"])
        stream.until("MessageEnqueued", 5)
        assert len(phone.pull()) == 1


def test_a_stream_of_a_removed_phone_ends_though_the_word_of_it_was_lost(phone, database, sql):
    import redis

    with phone.stream() as stream, redis.Redis.from_url(database.valkey.url) as broker:
        stream.rest()
        sql.execute("UPDATE devices SET removed_at = clock_timestamp()")
        for connection in broker.client_list(_type="pubsub"):
            broker.client_kill(connection["addr"])
        while stream.next(10) is not None:
            pass


@pytest.fixture
def due(device_number, phone):
    """Whether the phone has something to pull now."""
    from app.core.database import transaction
    from app.messages.dispatch import waking

    number = device_number(phone)

    def ask():
        with transaction() as session:
            return waking.due(session, [number]) == [number]

    return ask


def test_a_phone_is_due_only_where_its_window_has_room(phone, client, later, due):
    assert not due()
    body = {"message": "x", "recipients": [f"+9989011{number:05d}" for number in range(30)]}
    client.post("/api/sms/bulk", json=body | {"device_id": phone.device_id})
    assert due()
    first, *others = phone.pull()
    assert len(others) == 19
    assert not due(), "ten wait, but twenty are there already"
    phone.report(first["id"], "Sent")
    assert due()
    assert len(phone.pull()) == 1
    later(31)
    assert due(), "what it did not report is offered again"


def test_a_phone_with_a_delay_is_due_only_when_its_last_one_was_reported_or_a_minute_ago(
    phone, send, settings_of, later, sql, due
):
    settings_of(phone, send_delay_seconds=1)
    send("1"), send("2"), send("3")
    (first,) = phone.pull()
    later(20)
    assert not due()
    phone.report(first["id"], "Sent")
    assert due()
    assert len(phone.pull()) == 1
    later(61)
    sql.execute("UPDATE message_queue SET offered_at = clock_timestamp()")
    assert due()


def test_a_removed_phone_is_not_due(phone, send, sql, due):
    send()
    assert due()
    sql.execute("UPDATE devices SET removed_at = clock_timestamp()")
    assert not due()


def test_presence_is_written_for_open_streams(phone, sql):
    with phone.stream() as stream:
        stream.until("SettingsUpdated")
        sql.execute("UPDATE device_state SET stream_seen_at = NULL")
        until(lambda: sql.execute("SELECT stream_seen_at FROM device_state").fetchone()[0], 15)


def test_a_stream_without_a_token_is_a_401(api):
    assert api.get("/api/mobile/v1/events").status_code == 401
    assert api.get("/api/mobile/v1/events", headers={"Authorization": "Bearer nobody"}).status_code == 401


def test_two_processes_keep_the_pace(phone, client, settings_of, sql, at):
    settings_of(phone, send_delay_seconds=1)
    body = {"message": "x", "recipients": [f"+9989011{number:05d}" for number in range(20)]}
    client.post("/api/sms/bulk", json=body | {"device_id": phone.device_id})
    with api_process() as (url, _), ThreadPoolExecutor(6) as pool:
        phones = [phone, at(url, phone)]

        def ask(number: int) -> list[str]:
            given = []
            for _ in range(40):
                for message in phones[number % 2].pull():
                    given.append(message["id"])
                    phones[(number + 1) % 2].report(message["id"], "Sent")
            return given

        given = [name for answer in pool.map(ask, range(6)) for name in answer]
    (shortest,) = sql.execute(
        "SELECT min(gap) FROM (SELECT released_at - lag(released_at) OVER (ORDER BY released_at) AS gap FROM messages"
        " WHERE released_at IS NOT NULL) g"
    ).fetchone()
    assert len(set(given)) >= 2
    assert shortest.total_seconds() >= 1
