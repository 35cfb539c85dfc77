"""Many phones in one process: what a phone and a message cost. The figures are printed (`pytest -s`)."""

import asyncio
import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import uvloop

from phones.behaviour import Behaviour
from phones.fleet import Fleet
from tests.support.phones_server import TOKEN


@pytest.fixture
def server_url() -> Iterator[str]:
    """The strict server as a process of its own, so that only the phones are measured."""
    root = Path(__file__).parents[3]
    with subprocess.Popen(
        [sys.executable, "-m", "tests.support.phones_server"], stdout=subprocess.PIPE, text=True, cwd=root
    ) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.kill()


def call(url: str, body: Any = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(url, data), timeout=60) as response:
        return json.load(response)


async def campaign(url: str, phones: int, messages: int, behaviour: Behaviour) -> dict[str, float]:
    process = psutil.Process()
    memory = process.memory_info().rss
    async with Fleet(url, TOKEN, count=phones, behaviour=behaviour) as fleet:
        connected = process.memory_info().rss
        began, cpu = time.monotonic(), time.process_time()
        await asyncio.to_thread(call, f"{url}/control/fill", {"messages": messages})
        await fleet.wait_until(lambda: fleet.stats.delivered == messages and fleet.idle, within=90)
        took, cpu = time.monotonic() - began, time.process_time() - cpu
        figures = await asyncio.to_thread(call, f"{url}/control/figures")
        assert figures["violations"] == []
        assert figures["first_reports"] == messages == len(fleet.ledger)
        assert figures["streams"] == phones
        assert not fleet.ledger.sent_twice()
        return {
            "kB per phone": (connected - memory) / phones / 1000,
            "MB in all": process.memory_info().rss / 1e6,
            "messages per second": messages / took,
            "CPU µs per message": cpu / messages * 1e6,
        }


@pytest.mark.parametrize(
    ("phones", "messages", "reports"), [(1000, 5000, "single"), (1000, 10000, "array"), (20, 10000, "array")]
)
def test_many_phones_in_one_process(server_url: str, phones: int, messages: int, reports: Any) -> None:
    behaviour = Behaviour(send_time=0.005, delivery_delay=0.5, reports=reports)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        figures = runner.run(campaign(server_url, phones, messages, behaviour))
    print(f"\n{phones} phones, {messages} messages, reports {reports}:")  # noqa: T201  (is to be read)
    print(", ".join(f"{name}: {value:.0f}" for name, value in figures.items()))  # noqa: T201  (is to be read)
    assert figures["kB per phone"] < 200
