"""How much of a machine an installation takes: one setting, `SMSFLEET_SIZE`."""

from dataclasses import dataclass
from typing import Literal

SizeName = Literal["default", "small"]


@dataclass(frozen=True)
class Size:
    """What one process has. Its connections to the database are more than its threads, so that none waits for one.

    Each costs the database a process of 5 to 15 MB, so few are kept open while nobody needs them.
    """

    threads: int  # that answer plain routes
    kept_connections: int
    max_connections: int


SIZES: dict[SizeName, Size] = {
    "default": Size(threads=40, kept_connections=20, max_connections=50),
    "small": Size(threads=10, kept_connections=5, max_connections=20),
}
