"""A RabbitMQ of one's own: on free loopback ports, in a folder of its own, ended with its starter."""

import os
import shutil
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from amqp import Connection
from amqp.exceptions import AMQPError

from app.local.process import Child, Program

# Debian's own puts a change of user before it.
PROGRAM = shutil.which("rabbitmq-server", path="/usr/lib/rabbitmq/bin") or shutil.which("rabbitmq-server")


def _free_ports(count: int) -> list[int]:
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


class RabbitMQ:
    def __init__(self, folder: Path) -> None:
        self.port, epmd, distribution = _free_ports(3)
        self.lines: list[str] = []
        self._folder = folder
        (folder / "enabled_plugins").write_text("[].")
        self._env = {
            "PATH": "/usr/lib/rabbitmq/bin:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
            "HOME": str(folder),
            "ERL_EPMD_PORT": str(epmd),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": f"test{self.port}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(distribution),
            "RABBITMQ_MNESIA_BASE": str(folder / "data"),
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_CONFIG_FILE": str(folder / "none"),
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "enabled_plugins"),
            "RABBITMQ_PID_FILE": str(folder / "pid"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 1:1 +sbwt none",
        }
        self.url = f"amqp://guest:guest@127.0.0.1:{self.port}//"
        self._names = self._run("epmd", "epmd", "-address", "127.0.0.1", "-port", str(epmd))
        self._server = self._run("rabbitmq", str(PROGRAM))

    def _run(self, name: str, *command: str) -> Child:
        return Child(Program(name, command, self._env, Path("/"), grace=30), lambda _, line: self.lines.append(line))

    def answers(self) -> bool:
        with suppress(OSError, AMQPError), Connection(f"127.0.0.1:{self.port}", "guest", "guest", connect_timeout=2):
            return True
        return False

    def wait_ready(self) -> None:
        deadline = time.monotonic() + 60
        while not self.answers():
            assert time.monotonic() < deadline, self.lines
            assert self._server.status is None, self.lines
            time.sleep(0.05)

    def kill(self) -> None:
        """End it as a crash would."""
        os.kill(int((self._folder / "pid").read_text()), signal.SIGKILL)
        self._server.wait()
        self._server.release()

    def start(self) -> None:
        self._server = self._run("rabbitmq", str(PROGRAM))
        self.wait_ready()

    def stop(self) -> None:
        for child in (self._server, self._names):
            child.stop()


@contextmanager
def rabbitmq(folder: Path) -> Iterator[RabbitMQ]:
    """It answers meanwhile."""
    server = RabbitMQ(folder)
    try:
        server.wait_ready()
        yield server
    finally:
        server.stop()
