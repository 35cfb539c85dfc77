"""The data folder of an installation: who holds it, what runs from it, and what a killed supervisor left running."""

import contextlib
import fcntl
import json
import os
import signal
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Self

from app.local.errors import LocalError
from app.local.home import write_private

_RECORD = "runtime.json"
_PORTS = "ports.json"
_BOOT = Path("/proc/sys/kernel/random/boot_id")
_LEFT_OVER_SECONDS = 40


def process_state(pid: int) -> str | None:
    """The letter of the process's state, "T" for one that is stopped; None where there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return None


def process_start(pid: int) -> str | None:
    """When the process began, as a text that no other process with this id can have; None where there is none."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    state, *fields = stat.rpartition(")")[2].split()
    return None if state in "ZX" else f"{_BOOT.read_text().strip()}/{fields[18]}"


@dataclass(frozen=True)
class Recorded:
    """A process as it stands in the record."""

    name: str
    pid: int
    started: str | None
    stop_signal: int

    @property
    def runs(self) -> bool:
        return self.started is not None and process_start(self.pid) == self.started


@dataclass
class Runtime:
    """What other commands need to know of a running installation. Holds passwords: the file is the owner's only."""

    supervisor: Recorded
    url: str = ""
    flower_url: str = ""
    database_url: str = ""
    redis_url: str = ""
    settings: dict[str, str] = field(default_factory=dict)  # of its processes, by the names of the environment
    processes: list[Recorded] = field(default_factory=list)

    @classmethod
    def read(cls, data_dir: Path) -> Self | None:
        """The record in a data folder, of a supervisor that may be long gone; None where there is none to make out."""
        path = data_dir / _RECORD
        try:
            raw = json.loads(path.read_text())
            raw["supervisor"] = Recorded(**raw["supervisor"])
            raw["processes"] = [Recorded(**process) for process in raw["processes"]]
            return cls(**raw)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise LocalError(
                f"{path} cannot be read ({error.strerror}): run this as the user that runs smsfleet"
            ) from None
        except (ValueError, TypeError, KeyError):  # cut off when the machine died, or of another version
            return None

    def write(self, data_dir: Path) -> None:
        write_private(data_dir / _RECORD, json.dumps(asdict(self), indent=1))


def find_running(data_dir: Path) -> Runtime | None:
    """The installation that runs from this data folder, if one does."""
    runtime = Runtime.read(data_dir)
    return runtime if runtime and runtime.supervisor.runs and runtime.url else None


class DataFolder:
    """A data folder held by this process: at most one supervisor has it."""

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise LocalError(
                f"SMSFLEET_DATA_DIR: {self.path} cannot be used as the data folder ({error.strerror})"
            ) from None
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._lock)
            raise LocalError(
                f"smsfleet already runs from {self.path}; SMSFLEET_DATA_DIR names another folder"
            ) from None

    def end_left_overs(self) -> list[str]:
        """End what a killed supervisor left running, in its stopping order; the names of what was found.

        Its guards do the same at that moment. Waiting here for both means that the servers' files are free.
        """
        runtime = Runtime.read(self.path)
        found = [process for process in runtime.processes if process.runs] if runtime else []
        for process in found:
            _end(process)
        return [process.name for process in found]

    def kept_ports(self) -> dict[str, int]:
        """Ports that were taken in place of default ones, by the name of their setting."""
        try:
            found = json.loads((self.path / _PORTS).read_text())
            return {name: port for name, port in found.items() if isinstance(port, int)}
        except (FileNotFoundError, ValueError, AttributeError):
            return {}

    def keep_port(self, setting: str, port: int) -> None:
        write_private(self.path / _PORTS, json.dumps({**self.kept_ports(), setting: port}))

    def close(self) -> None:
        """Nothing runs any more: forget it and let go of the folder."""
        (self.path / _RECORD).unlink(missing_ok=True)
        os.close(self._lock)


def _end(process: Recorded) -> None:
    asked = time.monotonic()
    number = process.stop_signal
    while process.runs:
        if time.monotonic() > asked + _LEFT_OVER_SECONDS:
            number = signal.SIGKILL
        if number:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, number)
            number = 0
        time.sleep(0.05)
