"""Runs a program that must not outlive the supervisor.

Started as a script: `guard.py PIPE SIGNAL GRACE UID:GID COMMAND…`. PIPE is the read end of a pipe whose write end only
the supervisor holds; its end of file means that the supervisor is gone, however it died. A watcher is left behind for
that moment and the process becomes the program, so the supervisor knows the program's own process id and sees its
exit status. Uses the standard library alone and is run with `-I -S`: it starts a dozen times, and quickly.
"""

import contextlib
import os
import select
import signal
import sys


def main(pipe: int, stop_signal: int, grace: float, account: str, command: list[str]) -> None:
    os.set_inheritable(pipe, False)  # noqa: FBT003 - takes no keyword
    _leave_watcher(pipe, stop_signal, grace)
    if account != "-":
        uid, gid = (int(part) for part in account.split(":"))
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
    os.execvp(command[0], command)  # noqa: S606 - no shell is wanted


def _leave_watcher(pipe: int, stop_signal: int, grace: float) -> None:
    program = os.pidfd_open(os.getpid())
    middle = os.fork()
    if middle:
        os.waitpid(middle, 0)
        os.close(program)
        return
    # An orphan: the program (a database server, say) must not find a child that it never started.
    if os.fork():
        os._exit(0)
    os.setsid()
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(null, stream)
    keep = sorted((pipe, program))
    for first, last in ((3, keep[0]), (keep[0] + 1, keep[1]), (keep[1] + 1, os.sysconf("SC_OPEN_MAX"))):
        os.closerange(first, last)
    with contextlib.suppress(ProcessLookupError):
        _watch(pipe, program, stop_signal, grace)
    os._exit(0)


def _watch(pipe: int, program: int, stop_signal: int, grace: float) -> None:
    ready, _, _ = select.select([pipe, program], [], [])
    if program in ready:
        return
    signal.pidfd_send_signal(program, stop_signal)
    ready, _, _ = select.select([program], [], [], grace)
    if not ready:
        signal.pidfd_send_signal(program, signal.SIGKILL)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), sys.argv[4], sys.argv[5:])
