"""What went on air: the phones' own record, for comparing with what the gateway says.

An entry is made at the moment the network took the SMS. It is never changed or removed.
"""

import io
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple, TypeVar

import msgspec

_encode = msgspec.json.Encoder().encode

K = TypeVar("K", bound=Hashable)


class OnAir(NamedTuple):
    """One SMS on its way to one number. `monotonic` and `wall` are seconds: of this process, and since the epoch."""

    phone: str
    message_id: str
    number: str
    text: str
    monotonic: float
    wall: float


class Gap(NamedTuple):
    """Two sends of one phone, one after the other, and the seconds between them."""

    phone: str
    earlier: OnAir
    later: OnAir
    seconds: float


class Ledger:
    """An append-only list of what went on air, in the order in which it did.

    With a file, each entry is also written to it at once as a line of JSON, so that it outlives the process.
    """

    def __init__(self, file: Path | None = None) -> None:
        self._entries: list[OnAir] = []
        self._file: io.FileIO | None = None
        if file is not None:
            self._file = io.FileIO(os.fspath(file), "a")

    @classmethod
    def read(cls, file: Path) -> "Ledger":
        """Load what an earlier process wrote. A last line cut off by its end is left out: that SMS has no entry."""
        ledger = cls()
        decoder = msgspec.json.Decoder(OnAir)
        with file.open("rb") as lines:
            ledger._entries = [decoder.decode(line) for line in lines if line.endswith(b"\n")]
        return ledger

    def append(self, entry: OnAir) -> None:
        """Record one SMS."""
        self._entries.append(entry)
        if self._file is not None:
            self._file.write(_encode(entry) + b"\n")

    def close(self) -> None:
        """Close the file, if any. The entries stay readable."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[OnAir]:
        return iter(self._entries[:])

    def message_ids(self) -> set[str]:
        """The ids of all messages that went on air at least once."""
        return {entry.message_id for entry in self}

    def counts(self) -> Counter[str]:
        """How many SMS each phone sent."""
        return Counter(entry.phone for entry in self)

    def sent_twice(self) -> dict[str, list[OnAir]]:
        """Messages that went on air more than once to the same number, by message id."""
        groups = self._grouped(lambda entry: (entry.message_id, entry.number))
        return {message_id: entries for (message_id, _), entries in groups.items() if len(entries) > 1}

    def same_text_twice(self) -> dict[tuple[str, str], list[OnAir]]:
        """SMS that a person received more than once, by number and text, whatever id they were sent under."""
        groups = self._grouped(lambda entry: (entry.number, entry.text))
        return {key: entries for key, entries in groups.items() if len(entries) > 1}

    def missing(self, message_ids: set[str]) -> set[str]:
        """Which of these messages never went on air."""
        return message_ids - self.message_ids()

    def gaps(self) -> list[Gap]:
        """Every pause between two sends of one phone."""
        found = []
        for phone, entries in self._grouped(lambda entry: entry.phone).items():
            for earlier, later in pairwise(entries):
                found.append(Gap(phone, earlier, later, later.monotonic - earlier.monotonic))
        return found

    def faster_than(self, pace_seconds: float, tolerance_seconds: float = 0.005) -> list[Gap]:
        """The pauses shorter than a pace."""
        return [gap for gap in self.gaps() if gap.seconds < pace_seconds - tolerance_seconds]

    def before(self, not_before: dict[str, float]) -> list[OnAir]:
        """SMS that went on air before their slot, given the earliest wall time of each message id."""
        return [entry for entry in self if entry.wall < not_before.get(entry.message_id, 0.0)]

    def rate(self) -> float:
        """SMS per second between the first and the last entry; 0 where there is no time between."""
        if not self._entries:
            return 0.0
        took = self._entries[-1].monotonic - self._entries[0].monotonic
        return (len(self._entries) - 1) / took if took else 0.0

    def _grouped(self, key: Callable[[OnAir], K]) -> dict[K, list[OnAir]]:
        groups: dict[K, list[OnAir]] = defaultdict(list)
        for entry in self:
            groups[key(entry)].append(entry)
        return groups
