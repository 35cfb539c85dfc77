"""What a transaction collects leaves the process, even one that ends at once."""

import subprocess
import sys

import redis

from app.core.task_names import PAGES_CHANNEL, PHONES_CHANNEL

PROGRAM = """
from app.core import outbound
from app.core.database import transaction

with transaction() as session:
    outbound.announce(session, [1], "messages")
with transaction() as session:
    outbound.announce(session, [1], "messages")
    outbound.signal(session, 7, "MessageEnqueued")
"""


def test_a_program_that_ends_has_sent_what_it_collected(database):
    with redis.Redis.from_url(database.valkey.url, decode_responses=True) as client, client.pubsub() as heard:
        heard.subscribe(f"{PAGES_CHANNEL}1", PHONES_CHANNEL)
        subprocess.run([sys.executable, "-c", PROGRAM], check=True, timeout=60)
        told = []
        while (message := heard.get_message(timeout=0)) is not None:
            told.append((message["type"], message["channel"], message["data"]))
    assert [data for kind, channel, data in told if (kind, channel) == ("message", PHONES_CHANNEL)] == [
        "7 MessageEnqueued {}"
    ]
    assert ("message", f"{PAGES_CHANNEL}1", "messages") in told
