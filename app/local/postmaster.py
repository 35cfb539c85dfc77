"""PostgreSQL's lock files after a kill: whether the process they name is a server that still runs.

PostgreSQL asks `kill(pid, 0)`, and for it a dead server that nobody has reaped, or another program that has its number
now, runs for ever. Who calls this holds the data folder's lock and has ended what an earlier run left.
"""

import contextlib
import os
import stat
import time
from pathlib import Path

from app.local.errors import LocalError

_DETACH_SECONDS = 30
_SHARED_MEMORY = Path("/proc/sysvipc/shm")
_NO_PROCESS = b"2147483647"  # more than any kernel gives


def repair_lock(path: Path) -> None:
    """Where the server that a lock file names is dead, put a number in its place that no process has.

    The rest of the file stays: by it PostgreSQL sees whether processes of the old server still use its memory, which
    they do for a moment after it was killed.
    """
    try:
        opened = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return
    except OSError as error:
        raise LocalError(f"{path} cannot be read ({error.strerror}): remove it") from None
    with os.fdopen(opened, "r+b") as file:
        found = os.fstat(opened)
        if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:  # as root: nothing that others put there
            raise LocalError(f"{path} was not written by PostgreSQL: remove it")
        lines = file.read().split(b"\n")
        if not lines[0].isdigit() or runs_postgres(int(lines[0])):
            return  # PostgreSQL says what is wrong with it
        file.seek(0)
        file.write(b"\n".join([_NO_PROCESS, *lines[1:]]))
        file.truncate()
    _wait_for_detached(lines)


def runs_postgres(pid: int) -> bool:
    """Whether the process lives and is a PostgreSQL, or cannot be looked at."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        if state in "ZX":
            return False
        return Path(f"/proc/{pid}/exe").readlink().name.removesuffix(" (deleted)") == "postgres"
    except (FileNotFoundError, ProcessLookupError):
        return False
    except PermissionError:
        return True


def _wait_for_detached(lines: list[bytes]) -> None:
    """Return when no process has the shared memory named in a lock file, or after a while; PostgreSQL looks again."""
    words = lines[6].split() if len(lines) > 6 else []  # noqa: PLR2004 - its seventh line: key and id
    deadline = time.monotonic() + _DETACH_SECONDS
    with contextlib.suppress(OSError):
        while len(words) > 1 and _attached(int(words[1])) and time.monotonic() < deadline:
            time.sleep(0.05)


def _attached(shm_id: int) -> int:
    for line in _SHARED_MEMORY.read_text().splitlines()[1:]:
        fields = line.split()
        if int(fields[1]) == shm_id:
            return int(fields[6])
    return 0
