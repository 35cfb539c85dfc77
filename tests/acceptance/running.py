"""`smsfleet up` as people run it: a process of its own, in a data folder of its own."""

import contextlib
import hashlib
import os
import queue
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

READY = re.compile(r"^smsfleet is ready at (http://\S+)$")


def processes_of(data_dir: Path) -> dict[int, str]:
    """Name and command line, by process id, of everything alive that was started for a data folder."""
    digest = hashlib.sha256(os.fsencode(data_dir.resolve())).hexdigest()[:16]
    marks = [os.fsencode(data_dir.resolve()), digest.encode()]
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it ended meanwhile, or is another user's
            command = (entry / "cmdline").read_bytes()
            if command and any(mark in command + (entry / "environ").read_bytes() for mark in marks):
                name = (
                    (entry / "comm").read_text().strip()
                )  # of those that are forked the only thing that tells them apart
                found[int(entry.name)] = f"{name}: {command.replace(bytes(1), b' ').decode()}"
    return found


class Up:
    """A running `smsfleet up`."""

    def __init__(self, data_dir: Path, *prefix: str, command: str = "up", cwd: str | Path = "/", **env: str) -> None:
        self.data_dir = data_dir
        self.lines: list[str] = []
        self._new: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        free = {"SMSFLEET_PORT": "0", "SMSFLEET_FLOWER_PORT": "0"} if command == "up" else {}
        settings = {**free, "SMSFLEET_DATA_DIR": str(data_dir), **env}
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("SMSFLEET_")}
        self.popen = subprocess.Popen(
            [*(prefix or (sys.executable,)), "-m", "app.cli", *command.split()],
            env={"PYTHONPATH": str(Path.cwd()), **inherited, **settings},
            cwd=cwd,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        threading.Thread(target=self._read, daemon=True).start()

    @property
    def output(self) -> str:
        return "\n".join(self.lines)

    def ready(self, seconds: float = 120) -> str:
        """The address in the line that says it is ready."""
        deadline = time.monotonic() + seconds
        while (line := self._new.get(timeout=max(0.01, deadline - time.monotonic()))) is not None:
            if match := READY.match(line):
                return match[1]
        raise AssertionError(f"it ended before it was ready:\n{self.output}")

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Ask it to stop; its exit status."""
        self.popen.send_signal(number)
        return self.popen.wait(60)

    def crash(self) -> None:
        self.popen.kill()
        self.popen.wait()

    def _read(self) -> None:
        with self.popen.stdout as lines:
            for line in lines:
                self.lines.append(line.rstrip("\n"))
                self._new.put(line.rstrip("\n"))
        self._new.put(None)
