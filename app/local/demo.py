"""`smsfleet demo`: a whole gateway for a few seconds, a campaign through it, and an account of what became of it."""

import signal
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from app.core.http_client import Client
from app.local.counting import TaskCounter, WebhookReceiver
from app.local.errors import LocalError
from app.local.installation import LOOPBACK, Installation, Interrupted
from phones.behaviour import Behaviour
from phones.fleet import FleetThread

TIMEOUT_SECONDS = 30  # without any progress the campaign is given up
FINAL = {"delivered", "failed"}
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
BRISK = Behaviour(send_time=0.01, delivery_delay=(0.1, 0.5))

# For so long it is watched that a paused campaign gives out nothing.
PAUSED_SECONDS = 1.0
NOTHING_WHILE_PAUSED = "given out while paused 0"

console = Console(highlight=False)


@dataclass
class Summary:
    """What became of a campaign, in the order in which it is printed."""

    accepted: int
    sent: int
    delivered: int
    failed: int
    webhooks: int
    duplicates: int
    lost: int
    celery_tasks: int
    messages_per_second: int
    paused: str

    def adds_up(self, messages: int) -> bool:
        """Every message was accepted, went on air once, came to an end, and the end was told by a webhook."""
        return (
            self.accepted == self.sent == self.delivered + self.failed == messages
            and self.webhooks >= messages
            and self.duplicates == self.lost == 0
            and self.paused == NOTHING_WHILE_PAUSED
        )


def run_demo(messages: int, phones: int, *, keep: bool) -> bool:
    """Run it and print the summary; whether everything adds up. Removes what it made."""
    tail: deque[str] = deque(maxlen=40)
    with tempfile.TemporaryDirectory(prefix="smsfleet-demo-") as folder, ExitStack() as stack:
        # Nothing of the operator's own installation is touched, whatever the environment says.
        installation = Installation(
            Path(folder) / "data",
            temporary=True,
            output=lambda name, line: tail.append(f"{name}| {line}"),
            database_url=None,
            redis_url=None,
            broker_url=None,
            host="127.0.0.1",
            port="0",
            flower_port="0",
            public_url="",
            registration="open",
            max_devices="1000",
            max_enrollments_per_minute="1000",
            free_features="api,webhooks,bulk",
            webhook_allowed_networks=LOOPBACK,
        )
        for number in SIGNALS:
            signal.signal(number, lambda *_: _interrupt(installation))
        try:
            console.print("Starting PostgreSQL, Valkey, the gateway, its workers, beat and Flower …")
            stack.enter_context(installation)
            summary = _campaign(installation, messages, phones, stack)
            _print(summary)
            complete = summary.adds_up(messages)
            if not complete:
                console.print(
                    "The results do not add up. Last lines of the log:", *tail, sep="\n", markup=False, soft_wrap=True
                )
            if keep:
                _keep_up(installation)
        except (Interrupted, KeyboardInterrupt):
            return False
        except LocalError as error:
            raise LocalError("\n".join([*tail, str(error)])) from None
        return complete


def _interrupt(installation: Installation) -> None:
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)  # what follows is tidying up, which a second Ctrl-C must not break
    installation.request_stop()
    raise KeyboardInterrupt


def _campaign(installation: Installation, messages: int, phones: int, stack: ExitStack) -> Summary:
    receiver = stack.enter_context(WebhookReceiver())
    client = stack.enter_context(Client(base_url=installation.url, timeout=60))
    password = "demo-password"  # noqa: S105 - of a gateway that lives for seconds
    person = {"name": "Demo", "email": "demo@example.com", "password": password, "password_confirmation": password}
    client.headers["Authorization"] = "Bearer " + _call(client, "POST", "/api/register", person)["token"]
    _call(client, "PUT", "/api/webhooks", {"webhook_url_status": receiver.url})
    key = _call(client, "POST", "/api/tokens", {"name": "Phones", "abilities": ["phone:enroll"]})
    console.print(f"Enrolling {phones} virtual phones …")
    fleet = stack.enter_context(FleetThread(installation.url, key["token"], count=phones, behaviour=BRISK))
    tasks = stack.enter_context(TaskCounter(installation.broker_url))

    console.print(f"Sending a campaign of {messages} messages:")
    draft = {"name": "Demonstration", "message": "Dear {name}, this is a demonstration.", "device_id": "active"}
    campaign = f"/api/campaigns/{_call(client, 'POST', '/api/campaigns', draft)['id']}"
    # No country has the code 999.
    recipients = [{"number": f"+99993{index:07d}", "name": f"Reader {index}"} for index in range(messages)]
    added = _call(client, "PUT", f"{campaign}/recipients", {"recipients": recipients})["added"]
    started = time.monotonic()
    _call(client, "POST", f"{campaign}/start")
    pause = _Pause(client, campaign, fleet, messages // 2)
    ended = _watch(added, lambda: _counts(client, fleet, receiver), pause.look)

    stats = _call(client, "GET", "/api/account")["stats"]
    accepted = {item["message_id"] for item in _messages(client)}
    told = {message_id for message_id, statuses in receiver.statuses.items() if FINAL & set(statuses)}
    return Summary(
        accepted=len(accepted),
        sent=stats["total_sent"],
        delivered=stats["total_delivered"],
        failed=stats["total_failed"],
        webhooks=len(receiver.ids),
        duplicates=len(fleet.ledger.sent_twice()) + receiver.repeated,
        lost=len(fleet.ledger.missing(accepted) | (accepted - told)),
        celery_tasks=tasks.nudged,
        messages_per_second=round(len(accepted) / (ended - started - pause.seconds)),
        paused=f"given out while paused {pause.given}",
    )


class _Pause:
    """Pauses the campaign once, in its middle, and sees what phones are given while it is paused."""

    def __init__(self, client: Client, campaign: str, fleet: FleetThread, middle: int) -> None:
        self._client = client
        self._campaign = campaign
        self._fleet = fleet
        self._middle = middle
        self.given: int | None = None
        self.seconds = 0.0

    def look(self, on_air: int) -> None:
        """To be called while the campaign runs."""
        if self.given is not None or on_air < self._middle:
            return
        began = time.monotonic()
        paused = _call(self._client, "POST", f"{self._campaign}/pause")
        given = _given(paused["counts"])
        time.sleep(PAUSED_SECONDS)
        # A report moves a message from one of these states to another, so that the sum grows by what is new alone.
        self.given = _given(_call(self._client, "GET", self._campaign)["counts"]) - given
        _call(self._client, "POST", f"{self._campaign}/resume")
        self.seconds = time.monotonic() - began


def _given(counts: dict[str, int]) -> int:
    """How many messages phones were given so far."""
    return sum(counts[state] for state in ("given", "sent", "delivered", "failed"))


def _messages(client: Client) -> Iterator[Any]:
    cursor: str | None = ""
    while cursor is not None:
        page = _call(client, "GET", f"/api/sms?per_page=200&cursor={cursor}")
        yield from page["data"]
        cursor = page["next_cursor"]


def _call(client: Client, method: str, path: str, body: object = None) -> Any:
    response = client.request(method, path, json=body)
    answer = response.json()
    if not response.is_success:
        raise LocalError(f"{method} {path} failed with status {response.status_code}: {answer.get('message')}")
    return answer.get("data")


def _counts(client: Client, fleet: FleetThread, receiver: WebhookReceiver) -> dict[str, int]:
    stats = _call(client, "GET", "/api/account")["stats"]
    return {
        "on air": len(fleet.ledger),
        "sent": stats["total_sent"],
        "delivered or failed": stats["total_delivered"] + stats["total_failed"],
        "reported by webhook": sum(1 for statuses in list(receiver.statuses.values()) if FINAL & set(statuses)),
    }


def _watch(total: int, counts: Callable[[], dict[str, int]], look: Callable[[int], None]) -> float:
    """Show the counts until all are complete, or nothing moved for a while; when the last one moved."""
    columns = (TextColumn("{task.description:>20}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=not console.is_terminal) as progress:
        bars = {name: progress.add_task(name, total=total) for name in counts()}
        before: dict[str, int] = {}
        moved = time.monotonic()
        while True:
            now = counts()
            if now != before:
                before, moved = now, time.monotonic()
            look(now["on air"])
            for name, count in now.items():
                progress.update(bars[name], completed=count)
            if all(count >= total for count in now.values()) or time.monotonic() - moved > TIMEOUT_SECONDS:
                return moved
            time.sleep(0.1)


def _print(summary: Summary) -> None:
    for field in fields(summary):
        console.print(f"{field.name.replace('_', ' ')}: {getattr(summary, field.name)}", markup=False)


def _keep_up(installation: Installation) -> None:
    console.print(f"The gateway runs at {installation.url} until Ctrl-C.")
    console.print("User: demo@example.com, password: demo-password")
    console.print(f"Flower: {installation.flower_url}, user smsfleet, password {installation.flower_password()}")
    installation.wait()
