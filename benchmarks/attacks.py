"""Attacks by load: what another account and an innocent phone feel of each, and what the attacked processes take.

One account attacks for some seconds, with connections, bodies, calls and rows of the kinds that were once found to stop
everybody. Meanwhile another account sends and its phone posts what it received, in processes of their own and at fixed
times, so that a stall is seen by every call that it delays. Attacker, phones and gateway share the machine.
"""

import hashlib
import hmac
import http.client
import itertools
import json
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import urlsplit

import psutil
import psycopg

from app.local.installation import Installation, Shape
from benchmarks.gateway import Account, Figure, finish_load, installation, percentile, start_load
from benchmarks.receiver import receivers

SEND_EVERY, POST_EVERY = 0.02, 0.05
MAX_MS, MAX_MB = "< 250 ms", "< 600 MB"
MB = 1024 * 1024
_PART = b"x" * 65536
RECEIVED = json.dumps(
    {"event": "sms:received", "id": "NUMBER", "payload": {"message": "Hello NUMBER", "sender": "+12025550123"}}
)


@dataclass(frozen=True)
class Phone:
    """What a phone posts with: the secret of its hooks' address, and the key that signs them."""

    secret: str
    key: str


class Attacker:
    """An account with a phone, and what it does until `over` is set. `size` is that of large things, from 0 to 1."""

    def __init__(self, running: Installation, size: float, receivers_at: list[str]) -> None:
        self.account = Account(running)
        self.phone = phone_of(self.account)
        self.size = size
        self.receivers = receivers_at
        self.over = threading.Event()
        place = urlsplit(running.url)
        self.host, self.port = place.hostname or "", place.port or 80
        self.numbers = itertools.count()

    def many(self, number: int) -> int:
        return max(2, int(number * self.size))

    def sql(self, statement: str, **values: object) -> None:
        with psycopg.connect(self.account.database_url, options="-c statement_timeout=0") as connection:
            connection.execute(statement, {"user": self.account.user_id, **values})  # type: ignore[arg-type]

    def call(self, method: str, path: str, body: bytes | None = None, **headers: str) -> None:
        """One call, whatever comes of it."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=60)
        with suppress(OSError, http.client.HTTPException):
            given = {"Authorization": f"Bearer {self.account.token}", "Content-Type": "application/json", **headers}
            connection.request(method, path, body, given)
            connection.getresponse().read()
        connection.close()

    def post(self, event: str, payload: dict[str, object]) -> None:
        """One event of the attacker's own phone."""
        raw = json.dumps({"event": event, "id": f"attack {next(self.numbers)}", "payload": payload}).encode()
        stamp = str(int(time.time()))
        signature = hmac.new(self.phone.key.encode(), raw + stamp.encode(), hashlib.sha256).hexdigest()
        self.call("POST", f"/hooks/{self.phone.secret}", raw, **{"X-Timestamp": stamp, "X-Signature": signature})


def phone_of(account: Account) -> Phone:
    account.enroll()
    with psycopg.connect(account.database_url) as connection:
        row = connection.execute(
            "SELECT hook_secret, signing_key FROM devices WHERE user_id = %s ORDER BY id DESC", [account.user_id]
        ).fetchone()
    assert row
    return Phone(*row)


# What one of an attack's threads does, over and over. Each begins anew when it was turned away.


def stall(attacker: Attacker) -> None:
    """All but the last of 32 MiB, to a hook that nobody has, and as a bulk send with a token."""
    turn = next(attacker.numbers) % 3
    size = attacker.many(32 * MB)
    path, token = ("/hooks/nobody", "") if turn else ("/api/sms/bulk", attacker.account.token)
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n"
    with suppress(OSError), socket.create_connection((attacker.host, attacker.port), 10) as connection:
        connection.sendall(f"{head}Content-Type: application/json\r\nContent-Length: {size}\r\n\r\n".encode())
        for _ in range((size - 1) // len(_PART)):
            connection.sendall(_PART)
        connection.settimeout(1)
        while not attacker.over.is_set():
            with suppress(TimeoutError):
                if not connection.recv(65536):
                    return


def post_huge_text(attacker: Attacker) -> None:
    attacker.post("sms:received", {"message": "ё" * attacker.many(15 * MB), "sender": "+12025550123"})


def list_attachments(attacker: Attacker) -> None:
    attacker.call("GET", "/api/sms?per_page=100")


def receive_attachments(attacker: Attacker) -> None:
    for _ in range(attacker.many(20)):
        part = {"partId": 1, "contentType": "image/jpeg", "data": "A" * attacker.many(24 * MB)}
        attacker.post("mms:downloaded", {"sender": "+12025550123", "attachments": [part]})


def half_sent_heads(attacker: Attacker) -> None:
    held: list[socket.socket] = []
    try:
        while not attacker.over.is_set():
            while len(held) < attacker.many(1000):
                with suppress(OSError):
                    place = (attacker.host, attacker.port)
                    held.append(socket.create_connection(place, 10, source_address=("127.0.0.2", 0)))
                    held[-1].sendall(b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: ")
            gone = [each for each in held if _is_gone(each)]
            held = [each for each in held if each not in gone]
            attacker.over.wait(0.2)
    finally:
        for each in held:
            each.close()


def _is_gone(connection: socket.socket) -> bool:
    connection.settimeout(0)
    try:
        return not connection.recv(1)
    except BlockingIOError:
        return False
    except OSError:
        return True


_DELIVERIES = """
    WITH made AS (
        INSERT INTO webhook_deliveries (webhook_id, user_id, hook, event, url, body)
        SELECT gen_random_uuid(), %(user)s, 'callback', 'status',
               (CAST(%(urls)s AS text[]))[1 + n %% CAST(%(hosts)s AS int)], repeat('x', CAST(%(size)s AS int))
        FROM generate_series(1, CAST(%(many)s AS int)) n RETURNING id, user_id, hook, url)
    INSERT INTO webhook_queue (delivery_id, user_id, hook, lane, origin, url)
    SELECT id, user_id, hook, 1, regexp_replace(url, '/hook$', ''), url FROM made
"""


def write_callbacks(attacker: Attacker) -> None:
    urls = attacker.receivers
    attacker.sql(_DELIVERIES, urls=urls, hosts=len(urls), size=600, many=attacker.many(100_000))


def write_large_callbacks(attacker: Attacker) -> None:
    urls = attacker.receivers
    attacker.sql(_DELIVERIES, urls=urls, hosts=len(urls), size=attacker.many(28 * MB), many=attacker.many(40))


def import_contacts(attacker: Attacker) -> None:
    attacker.call("POST", "/api/contacts/import", _contacts(attacker.many(100_000)))


@lru_cache
def _contacts(number: int) -> bytes:
    rows = [{"phone_number": f"+99890{n:07d}", "name": f"Name {n}"} for n in range(number)]
    return json.dumps({"contacts": rows}).encode()


def search(attacker: Attacker) -> None:
    attacker.call("GET", "/api/sms?search=nothing&from=2026-01-01&to=2026-01-31")


_PHONES = """
    WITH made AS (INSERT INTO devices (user_id, device_id, device_name, registered_name, sms_rate, hook_secret,
        signing_key) SELECT %(user)s, 'silent' || n, 'phone', 'phone', 100, 'silent' || n, 'key'
        FROM generate_series(1, CAST(%(phones)s AS int)) n RETURNING id)
    INSERT INTO device_state (device_id, seen_at, pulled_at, stream_opened_at, stream_seen_at)
    SELECT id, t, t, t, t FROM made, (SELECT clock_timestamp() - interval '10 minutes' AS t) AS times
"""
_WAITING = """
    WITH phones AS (SELECT array_agg(id) AS ids FROM devices WHERE user_id = %(user)s), made AS (
        INSERT INTO messages (message_id, user_id, device_id, direction, status, recipient_number, message)
        SELECT gen_random_uuid(), %(user)s, ids[1 + n %% CAST(%(phones)s AS int)], 'outbound', 'pending',
               '+15550100001', 'x'
        FROM generate_series(1, CAST(%(many)s AS int)) n, phones RETURNING id, device_id)
    INSERT INTO message_queue (message_id, user_id, device_id, lane, since)
    SELECT id, %(user)s, device_id, 1, clock_timestamp() - interval '11 minutes' FROM made
"""


def leave_silent_phones(attacker: Attacker) -> None:
    phones = attacker.many(5000)
    attacker.sql(_PHONES, phones=phones)
    attacker.sql(_WAITING, phones=phones, many=attacker.many(20_000))


def _nothing(_: Attacker) -> None:
    """What was prepared is the attack."""


@dataclass(frozen=True)
class Attack:
    """`act` is done by so many threads, over and over, after `prepare`."""

    name: str
    act: Callable[[Attacker], None] = _nothing
    threads: int = 0
    prepare: Callable[[Attacker], None] = _nothing
    # The process whose memory is told besides.
    worker: str | None = None


# The silent phones last: upkeep goes on with them.
ATTACKS = (
    Attack("no attack"),
    Attack("60 bodies that stall before their end", stall, 60),
    Attack("12 texts of 30 MiB at once from one phone", post_huge_text, 12),
    Attack("8 lists at once of 20 MMS of 24 MiB", list_attachments, 8, receive_attachments),
    Attack("1,000 half-sent heads", half_sent_heads, 1),
    Attack("44 imports of 100,000 at once", import_contacts, 44),
    Attack("40 searches at once", search, 40),
    Attack("100,000 callbacks", prepare=write_callbacks),
    Attack("40 webhook bodies of 28 MiB", prepare=write_large_callbacks, worker="worker-webhooks-1"),
    Attack("5,000 silent phones with 20,000 messages", prepare=leave_silent_phones),
)


def run(*, smoke: bool = False) -> list[Figure]:
    seconds, size = (1.0, 0.002) if smoke else (10.0, 1.0)
    with installation(Shape(api=1, flower=False)) as running, receivers() as to:
        other = Account(running)
        phone = phone_of(other)
        return [
            figure
            for attack in ATTACKS
            for figure in _measure(running, attack, other, phone, Attacker(running, size, to.urls), seconds)
        ]


def _measure(
    running: Installation, attack: Attack, other: Account, phone: Phone, attacker: Attacker, seconds: float
) -> Iterator[Figure]:
    with _peaks(running) as peaks:
        attack.prepare(attacker)
        threads = [threading.Thread(target=_repeat, args=(attack, attacker)) for _ in range(attack.threads)]
        for thread in threads:
            thread.start()
        posts = start_load(
            f"{running.url}/hooks/{phone.secret}", ["none"], int(seconds / POST_EVERY), every=POST_EVERY,
            body=RECEIVED.replace("NUMBER", f"{attack.name} NUMBER"), sign=phone.key,
        )  # fmt: skip
        sends = start_load(f"{running.url}/api/sms", other.tokens, int(seconds / SEND_EVERY), every=SEND_EVERY)
        found = {"another account's send": finish_load(sends), "another phone's post": finish_load(posts)}
        attacker.over.set()
        for thread in threads:
            thread.join()
    for what, load in found.items():
        taken = sorted(latency for _, latency in load.calls)
        refused = {status: n for status, n in load.statuses.items() if not status.startswith("2")}
        beside = f"median {percentile(taken, 50):.0f} ms, slowest {taken[-1]:.0f} ms of {len(taken)}"
        beside += "".join(f", {n} answered {status}" for status, n in refused.items())
        yield Figure(f"{attack.name}: {what}, p99", percentile(taken, 99), "ms", MAX_MS, beside)
    yield Figure(f"{attack.name}: API process, peak", peaks["api-1"], "MB", MAX_MB)
    if attack.worker:
        yield Figure(f"{attack.name}: webhook worker, peak", peaks[attack.worker], "MB", MAX_MB)


def _repeat(attack: Attack, attacker: Attacker) -> None:
    while not attacker.over.is_set():
        attack.act(attacker)


@contextmanager
def _peaks(running: Installation) -> Iterator[dict[str, float]]:
    """The most that each process of the gateway's own occupies meanwhile, in megabytes."""
    watched = {name: psutil.Process(child.pid) for name, child in running.processes.items()}
    found = dict.fromkeys(watched, 0.0)
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.05):
            for name, process in watched.items():
                with suppress(psutil.NoSuchProcess):
                    found[name] = max(found[name], process.memory_info().rss / 1e6)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield found
    finally:
        over.set()
        watcher.join()


if __name__ == "__main__":
    for figure in run(smoke="--smoke" in sys.argv):
        print(figure.row())
