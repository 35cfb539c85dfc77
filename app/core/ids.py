"""Message ids: UUIDs of version 7 (RFC 9562), which keep an index of millions of rows dense at its end."""

import random
import time
from uuid import UUID


def uuid7() -> UUID:
    """Milliseconds since the epoch in the first 48 bits, random bits behind them.

    An id is no secret, since rows are reached through their owner, so the bits need not come from the system.
    """
    moment = time.time_ns() // 1_000_000
    return UUID(int=moment << 80 | 0x7 << 76 | random.getrandbits(12) << 64 | 0x2 << 62 | random.getrandbits(62))
