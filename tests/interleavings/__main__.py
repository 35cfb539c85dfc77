"""`make interleavings`: every pair at every boundary; `ONLY="cancel"` those that have the word in their name."""

import os
import sys
import tempfile
import time
from pathlib import Path

import psycopg

from app.core.settings import get_settings
from app.local.servers import EmbeddedPostgres, EmbeddedValkey
from app.migrations.config import migrate
from tests.conftest import Servers, empty
from tests.interleavings.operations import pairs
from tests.interleavings.trying import Finding, try_pair
from tests.interleavings.world import World


def main(word: str) -> int:
    """How many findings."""
    tried, findings, began = 0, list[Finding](), time.monotonic()
    with (
        tempfile.TemporaryDirectory(prefix="smsfleet-interleavings-") as folder,
        EmbeddedPostgres(Path(folder), durable=False) as postgres,
        EmbeddedValkey(Path(folder), durable=False) as valkey,
    ):
        os.environ["SMSFLEET_DATABASE_URL"], os.environ["SMSFLEET_REDIS_URL"] = postgres.url, valkey.url
        get_settings.cache_clear()
        migrate()
        chosen = [pair for pair in pairs() if word in str(pair)]
        with psycopg.connect(postgres.url, autocommit=True) as observer:
            for pair in chosen:
                empty(Servers(postgres, valkey))  # the phones of others would take the turns in which marks are made
                world = World()
                for finding in try_pair(world, pair, observer):
                    tried += 1
                    if finding:
                        findings.append(finding)
                        print(finding, flush=True)
    seconds = time.monotonic() - began
    print(f"{len(chosen)} pairs, {tried} interleavings in {seconds:.0f} s, findings: {len(findings)}")
    return len(findings)


if __name__ == "__main__":
    sys.exit(3 if main(" ".join(sys.argv[1:])) else 0)
