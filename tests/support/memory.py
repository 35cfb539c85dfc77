"""What a call takes of the memory."""

import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def memory_below(megabytes: int) -> Iterator[None]:
    """What is done within takes less at any time, in all threads of the process."""
    tracemalloc.start()
    try:
        yield
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < megabytes * 1024 * 1024
