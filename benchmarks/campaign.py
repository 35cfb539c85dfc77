"""Many messages end to end: accepted, routed, handed out, on air, reported, and each message's callback called.

With phones that report each state in a request of its own, as the stock app does, and with phones that report in
arrays. A message is delivered a second after it was sent. The phones are a process of their own; what they sent is read
from their ledger.
"""

import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from app.local.counting import TaskCounter, WebhookReceiver
from app.local.installation import Shape
from benchmarks.footprint import figures, footprint
from benchmarks.gateway import Account, CheckFailedError, Figure, Running, check, installation
from phones.ledger import Ledger

PHONES = 20


def run(*, smoke: bool = False) -> list[Figure]:
    with installation(Shape(api=1)) as running:
        fewer, messages = (200, 200) if smoke else (30_000, 100_000)
        begun = footprint(running, smoke=smoke)
        single, _ = campaign(running, fewer, "single")
        between = footprint(running, smoke=smoke)
        arrays, tasks = campaign(running, messages, "array")
        ended = footprint(running, smoke=smoke)
    told = ", ".join(f"{name} {count}" for name, count in tasks.most_common(3))
    return [
        Figure(f"campaign of {fewer:,} end to end, a request per report", single, "messages/s", "500/s"),
        Figure(f"campaign of {messages:,} end to end, reports in arrays", arrays, "messages/s", "2,000/s"),
        Figure(f"Celery tasks for these {messages:,}, including scheduled ticks", tasks.total(), "", "< 3,000", told),
        *figures(begun, between, fewer, "a request per report"),
        *figures(between, ended, messages, "reports in arrays"),
    ]


# Sends to the numbers, with a URL to call back; gives what tells in the end which messages were made of them.
Send = Callable[[Account, list[str], str], AbstractContextManager[Callable[[], set[str]]]]


@contextmanager
def _by_bulk(account: Account, numbers: list[str], callback: str) -> Iterator[Callable[[], set[str]]]:
    body = {"message": "A campaign", "recipients": numbers, "device_id": "active", "callback_url": callback}
    accepted = {item["message_id"] for item in account.call("POST", "/api/sms/bulk", body)}
    yield lambda: accepted


def campaign(running: Running, messages: int, reports: str, send: Send = _by_bulk) -> tuple[float, Counter[str]]:
    """Messages a second from the first request to the last webhook, and all Celery tasks meanwhile by name."""
    account = Account(running)
    numbers = [f"+99890{number:07d}" for number in range(messages)]
    with WebhookReceiver() as receiver, TaskCounter(running.broker_url) as tasks, phones(account, reports) as ledger:
        began = time.perf_counter()
        with send(account, numbers, receiver.url) as made:
            wait(lambda: len(receiver.statuses) >= messages, lambda: len(receiver.statuses))
            seconds = time.perf_counter() - began
        count = Counter(tasks.tasks)
        accepted = made()
        on_air = Counter(entry.message_id for entry in ledger())
        check("accepted", len(accepted), messages)
        check("stored", account.count(), messages)
        check("on air", set(on_air), accepted)
        check("on air twice", [name for name, times in on_air.items() if times > 1], [])
        check("delivered", account.count("status = 'delivered'"), messages)
        check("called back", {name for name, told in receiver.statuses.items() if told == ["delivered"]}, accepted)
        check("called back twice", receiver.repeated, 0)
    return messages / seconds, count


@contextmanager
def phones(account: Account, reports: str) -> Iterator[Callable[[], Ledger]]:
    """Twenty phones in a process of their own; gives what reads their ledger."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "ledger.jsonl"
        command = [sys.executable, "-m", "phones.simulate", "simulate", "--server", account.url]
        command += ["--token", account.phone_token, "--phones", str(PHONES), "--send-time", "0.005"]
        command += ["--delivery-delay", "1", "--reports", reports, "--ledger", str(file)]
        command += ["--state", str(Path(folder) / "phones")]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
            try:
                wait(lambda: _online(account) == PHONES, lambda: _online(account))
                yield lambda: Ledger.read(file)
            finally:
                process.send_signal(signal.SIGTERM)


def _online(account: Account) -> int:
    return sum(device["online"] for device in account.call("GET", "/api/devices"))


def wait(condition: Callable[[], bool], progress: Callable[[], Any], patience: float = 60) -> None:
    """Return when the condition holds; raise where nothing has moved for `patience` seconds."""
    last, since = progress(), time.monotonic()
    while not condition():
        time.sleep(0.05)
        if (now := progress()) != last:
            last, since = now, time.monotonic()
        elif time.monotonic() - since > patience:
            raise CheckFailedError(f"nothing moved for {patience:.0f} s, at {last}")


if __name__ == "__main__":
    for figure in run(smoke="--smoke" in sys.argv):
        print(figure.row())
