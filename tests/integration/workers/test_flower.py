"""What Flower shows: work, in sentences, and the same after a restart."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from app.core.queue import celery_at
from app.core.task_names import TaskName
from app.local import commands
from tests.support.waiting import until

USER = ("smsfleet", "secret")


@contextmanager
def running(command: tuple[str, ...], **env: str) -> Iterator[subprocess.Popen]:
    kept = {**os.environ, "PYTHONPATH": str(Path.cwd()), **env}
    process = subprocess.Popen(command, env=kept, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(60)


def tasks(url: str) -> list[tuple[str, str, str]]:
    """Name, state and result of each that Flower knows; of one whose first events it missed it has no name."""
    try:
        answer = httpx.get(f"{url}/api/tasks", auth=USER, timeout=20)
    except httpx.TransportError:
        return []
    known = [one for one in answer.json().values() if one["name"]]
    return sorted((one["name"], one["state"], one["result"] or one["exception"] or "") for one in known)


@pytest.mark.timeout(180)
def test_it_shows_what_tasks_did_and_of_ticks_only_those_that_did_something(database, sql, free_port, tmp_path) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}/flower"
    flower = commands.flower("127.0.0.1", port, str(tmp_path / "flower.state"))
    app = celery_at(database.valkey.url)

    def send(name: TaskName, *ids: int) -> None:
        app.send_task(name.value, args=ids, queue=name.queue.value)

    with running(commands.worker("dispatch", "dispatch-1")), running(commands.worker("upkeep", "upkeep-1")):
        with running(flower, FLOWER_BASIC_AUTH=":".join(USER)):
            # Events from before it listens are lost.
            until(lambda: (send(TaskName.ROUTE, 7), tasks(url))[1])
            before = len(tasks(url))
            sql.execute(
                "INSERT INTO inbound_seen (device_id, event_id, fingerprint, received_at, created_at)"
                " VALUES (1, 'x', '', now(), now() - interval '1 year')"
            )
            for name in (TaskName.SWEEP, TaskName.CLEAN, TaskName.EXPIRE):
                send(name)
            sql.execute("ALTER TABLE dispatch_cursors RENAME TO away")
            try:
                until(lambda: (send(TaskName.ROUTE, 7), [one for one in tasks(url) if one[1] == "FAILURE"])[1])
            finally:
                sql.execute("ALTER TABLE away RENAME TO dispatch_cursors")
            shown = until(lambda: [one for one in tasks(url) if one[:2] == ("upkeep.clean", "SUCCESS")])
            assert shown == [("upkeep.clean", "SUCCESS", "deleted 1 rows that are out of date")]
            assert ("dispatch.route", "SUCCESS", "'routed 0 messages of account 7'") in tasks(url)
            assert {one[0] for one in tasks(url)} == {"dispatch.route", "upkeep.clean"}
            assert len(tasks(url)) > before
        with running(flower, FLOWER_BASIC_AUTH=":".join(USER)):
            assert until(lambda: [one for one in tasks(url) if one[0] == "upkeep.clean"]) == shown
