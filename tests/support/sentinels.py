"""A Valkey with a replica, and the sentinels that choose another master when it dies."""

import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import redis

from app.local.process import Child, Program
from app.local.servers import EmbeddedValkey
from tests.support.waiting import until

COUNT = 3
MASTER = "smsfleet"


class Watched:
    """`url` is the broker's, by its sentinels."""

    def __init__(self, url: str, master: EmbeddedValkey) -> None:
        self.url = url
        self.master = master


@contextmanager
def watched(folder: Path) -> Iterator[Watched]:
    with ExitStack() as stack:
        servers = [stack.enter_context(EmbeddedValkey(folder / name, durable=False)) for name in ("one", "two")]
        master, replica = servers
        password = urlsplit(master.url).password
        with redis.Redis.from_url(master.url) as client:
            client.config_set("masterauth", password)
        with redis.Redis.from_url(replica.url) as client:
            client.config_set("masterauth", password)
            client.config_set("requirepass", password)
            client.auth(password)
            client.replicaof("127.0.0.1", master.port)
            until(lambda: client.info("replication").get("master_link_status") == "up")
        ports = []
        for number in range(COUNT):
            with socket.create_server(("127.0.0.1", 0)) as probe:
                ports.append(probe.getsockname()[1])
            file = folder / f"sentinel-{number}.conf"
            file.write_text(
                f"bind 127.0.0.1\nport {ports[-1]}\ndir {folder}\nloglevel warning\n"
                f"sentinel monitor {MASTER} 127.0.0.1 {master.port} {COUNT // 2 + 1}\n"
                f"sentinel auth-pass {MASTER} {password}\n"
                f"sentinel down-after-milliseconds {MASTER} 1000\n"
                f"sentinel failover-timeout {MASTER} 5000\n"
            )
            command = (master.home.program("valkey-server"), str(file), "--sentinel")
            child = Child(Program("sentinel", command, {"PATH": os.defpath}, folder), lambda *_: None)
            stack.callback(child.stop)
        for port in ports:
            with redis.Redis(port=port, decode_responses=True) as client:
                until(lambda: _knows_all(client))
        hosts = ";".join(f"sentinel://:{password}@127.0.0.1:{port}" for port in ports)
        yield Watched(f"{hosts}/0?master_name={MASTER}", master)


def _knows_all(sentinel: redis.Redis) -> bool:
    try:
        [known] = sentinel.sentinel_masters().values()
    except (redis.RedisError, ValueError):
        return False
    return known["num-other-sentinels"] == COUNT - 1 and known["num-slaves"] == 1
