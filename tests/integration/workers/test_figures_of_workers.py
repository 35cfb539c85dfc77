"""What Prometheus is shown of processes that serve no HTTP otherwise."""

import os
import subprocess
from pathlib import Path

import httpx
import pytest

from app.local import commands
from tests.support.waiting import until


@pytest.mark.parametrize(
    ("command", "figure"),
    [
        (commands.worker("upkeep", "upkeep-1"), "smsfleet_statement_duration_seconds_count"),
        (commands.BEAT, 'smsfleet_ticks_total{task="upkeep.sweep"}'),
    ],
    ids=["worker", "beat"],
)
def test_they_are_shown_at_a_port_of_their_own(database, free_port, command: tuple[str, ...], figure: str) -> None:
    port = free_port()
    env = {**os.environ, "PYTHONPATH": str(Path.cwd()), "SMSFLEET_METRICS_PORT": str(port)}
    process = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def shown() -> str:
        try:
            return httpx.get(f"http://127.0.0.1:{port}/metrics").text
        except httpx.TransportError:
            return ""

    try:
        if command is commands.BEAT:
            until(lambda: figure in shown())
        else:
            from app.core.queue import celery_at

            app = celery_at(database.valkey.url)
            until(lambda: (app.send_task("upkeep.sweep", queue="upkeep"), figure in shown())[1])
            assert 'smsfleet_task_duration_seconds_count{outcome="done",task="upkeep.sweep"}' in shown()
    finally:
        process.terminate()
        process.wait(60)
