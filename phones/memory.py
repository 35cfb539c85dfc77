"""What simulated phones keep on disk: their registrations and messages, so that they are the same after a restart.

One file of JSON lines in a private folder; each adds to what earlier ones said. A line is handed to the system at once,
so it outlives the process however that ends. What is finished is left out at each start, when the file is written anew.
"""

import contextlib
import fcntl
import io
import os
import time
from pathlib import Path
from typing import TypeAlias

import msgspec
from msgspec import Struct

from phones.wire import PulledMessage, State

_FILE = "phones.jsonl"
_KEPT_SECONDS = 30 * 86400
_POLL = 0.05

History: TypeAlias = tuple[tuple[State, float], ...]


class FolderError(Exception):
    """The folder cannot be used."""


class Server(Struct, tag="server"):
    """The gateway of the phones."""

    url: str


class Enrolled(Struct, tag="phone"):
    """A phone's registration."""

    name: str
    device_id: str
    token: str


class Kept(Struct, tag="message"):
    """A message that a phone has taken; of its `history` the gateway knows the first `told` steps."""

    phone: str
    pulled: PulledMessage
    history: History
    error: str | None = None
    told: int = 0

    @property
    def finished(self) -> bool:
        """Nothing more will become of it, and the gateway knows."""
        state, at = self.history[-1]
        awaits = state is State.PENDING or (state is State.SENT and self.pulled.with_delivery_report)
        return (self.told >= len(self.history) and not awaits and state is not State.PROCESSED) or (
            at < time.time() - _KEPT_SECONDS
        )


class Step(Struct, tag="step"):
    """What has become of a message."""

    phone: str
    id: str
    history: History
    error: str | None


class Reported(Struct, tag="told"):
    """A report that the gateway took."""

    phone: str
    id: str
    steps: int


Entry: TypeAlias = Server | Enrolled | Kept | Step | Reported

_encode = msgspec.json.Encoder().encode
_entry: "msgspec.json.Decoder[Entry]" = msgspec.json.Decoder(Entry)


class Memory:
    """The memory of one fleet. One process at a time holds a folder; without a folder nothing is kept.

    Raises FolderError where the folder cannot be used, or another process still holds it after `wait` seconds.
    """

    def __init__(self, folder: Path | None = None, *, wait: float = 0.0) -> None:
        self.server = ""
        self.phones: dict[str, Enrolled] = {}
        self._messages: dict[tuple[str, str], Kept] = {}
        self._file: io.FileIO | None = None
        self._lock = -1
        if folder is None:
            return
        self._path = folder / _FILE
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
            self._hold(time.monotonic() + wait)
            self._read()
            self._write_anew()
        except OSError as error:
            self.close()
            raise FolderError(f"{folder} cannot be used: {error.strerror}") from None
        except FolderError:
            self.close()
            raise

    def _hold(self, deadline: float) -> None:
        while True:
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise FolderError(
                        f"phones are already simulated from {self._path.parent}; --state names another folder"
                    ) from None
                time.sleep(_POLL)
            else:
                return

    def _read(self) -> None:
        with contextlib.suppress(FileNotFoundError), self._path.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                if not line.endswith(b"\n"):  # cut off when the machine died
                    break
                try:
                    self._replay(_entry.decode(line))
                except msgspec.DecodeError:
                    raise FolderError(f"line {number} of {self._path} cannot be read; remove the file") from None

    def _replay(self, entry: Entry) -> None:
        match entry:
            case Server():
                self.server = entry.url
            case Enrolled():
                self.phones[entry.name] = entry
            case Kept():
                self._messages[entry.phone, entry.pulled.id] = entry
            case Step() if kept := self._messages.get((entry.phone, entry.id)):
                kept.history, kept.error = entry.history, entry.error
            case Reported() if kept := self._messages.get((entry.phone, entry.id)):
                kept.told = max(kept.told, entry.steps)

    def _write_anew(self) -> None:
        self._messages = {key: kept for key, kept in self._messages.items() if not kept.finished}
        entries: list[Entry] = [Server(self.server), *self.phones.values(), *self._messages.values()]
        new = self._path.with_suffix(".new")
        self._file = io.FileIO(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600), "a")
        self._file.write(b"".join(_encode(entry) + b"\n" for entry in entries))
        new.replace(self._path)

    def _write(self, entry: Entry) -> None:
        if self._file is not None:
            self._file.write(_encode(entry) + b"\n")

    def belong_to(self, server: str) -> None:
        """Keep the gateway's address."""
        self.server = server
        self._write(Server(server))

    def enroll(self, name: str, device_id: str, token: str) -> None:
        """Keep a phone's registration."""
        if self._file is not None:
            self.phones[name] = Enrolled(name, device_id, token)
            self._write(self.phones[name])

    def accept(self, phone: str, pulled: PulledMessage, history: History) -> None:
        """Keep a message that a phone has taken."""
        if self._file is not None:
            self._write(Kept(phone, pulled, history))

    def step(self, phone: str, message_id: str, history: History, error: str | None) -> None:
        """Keep what has become of a message."""
        if self._file is not None:
            self._write(Step(phone, message_id, history, error))

    def mark_reported(self, phone: str, message_id: str, steps: int) -> None:
        """Keep that the gateway took a report."""
        if self._file is not None:
            self._write(Reported(phone, message_id, steps))

    def recall(self, phone: str) -> list[Kept]:
        """Give the unfinished messages of a phone, once."""
        found = [key for key in self._messages if key[0] == phone]
        return [self._messages.pop(key) for key in found]

    def forget(self) -> None:
        """Delete everything that is kept."""
        self.phones.clear()
        self._path.unlink(missing_ok=True)

    def close(self) -> None:
        """Let go of the folder."""
        if self._file is not None:
            self._file.close()
            self._file = None
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1
