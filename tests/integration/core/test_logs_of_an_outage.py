"""What processes log while the database or the broker is away."""

import json
import os
import subprocess
from collections import Counter
from collections.abc import Callable, Collection
from contextlib import ExitStack, suppress
from pathlib import Path

import httpx
import pytest
import redis

from app.local import commands
from tests.support.waiting import until


@pytest.mark.parametrize(("part", "how"), [("database", "ended"), ("broker", "ended"), ("broker", "full")])
def test_an_outage_is_said_once_and_without_a_trace(database, api_process, tmp_path: Path, part: str, how: str) -> None:
    server = database.postgres if part == "database" else database.valkey

    def break_it() -> None:
        _limit_memory(server.url, "1") if how == "full" else server.stop()

    def mend_it() -> None:
        _limit_memory(server.url, "0") if how == "full" else server.start()

    started = {"worker": commands.worker("upkeep", "upkeep-1"), "beat": commands.BEAT}
    if how == "full":  # a worker that is just taking a task ends, and says why
        del started["worker"]
    output = {name: tmp_path / f"{name}.log" for name in (*started, "api")}

    def events(name: str) -> list[dict]:
        text = output[name].read_text()
        assert "Traceback" not in text
        # As root Celery warns of that in its own form.
        return [json.loads(line) for line in text.splitlines() if line.startswith("{")]

    def told(key: str) -> Counter[str]:
        return Counter(name for name in output for event in events(name) if event.get(key) == part)

    with ExitStack() as stack:
        api = stack.enter_context(api_process())
        for name, command in started.items():
            stack.callback(_start(command, output[name]))
        until(lambda: _is_ready(api.url, started))
        break_it()
        # Beat needs no database.
        affected = set(output) - ({"beat"} if part == "database" else set())
        try:
            until(lambda: _called(api.url) and set(told("away")) == affected)
            for _ in range(20):
                _called(api.url)
        finally:
            mend_it()
        until(lambda: _called(api.url) and set(told("back")) == affected and told("back") == told("away"))
    # Who connects while the server is ending meets the outage a second time.
    assert max(told("away").values()) <= 2
    assert [event for name in output for event in events(name) if "exception" in event] == []


def _is_ready(url: str, started: Collection[str]) -> bool:
    ready = httpx.get(f"{url}/health/ready").json()
    return ready["beat"] == "up" and ("worker" not in started or ready["workers"]["upkeep"] == "up")


def _limit_memory(url: str, most: str) -> None:
    with redis.Redis.from_url(url) as client:
        client.config_set("maxmemory", most)


def _called(url: str) -> bool:
    with suppress(httpx.TransportError):
        httpx.post(f"{url}/api/login", json={"email": "nobody@example.com", "password": "wrong-1"}, timeout=20)
    return True


def _start(command: tuple[str, ...], output: Path) -> Callable[[], None]:
    with output.open("w") as log:
        env = {**os.environ, "PYTHONPATH": str(Path.cwd())}
        process = subprocess.Popen(command, env=env, stdout=log, stderr=log)

    def end() -> None:
        process.terminate()
        process.wait(60)

    return end
