"""Listening ports: a taken one is replaced, or named where the operator chose it; processes that share one."""

import contextlib
import errno
import os
import socket

from app.local.errors import LocalError

BACKLOG = 2048  # connections that wait to be accepted


def listen(host: str, port: int, *, chosen: bool, setting: str) -> socket.socket:
    """A listening socket on `port`; where that is taken and nobody chose it, on one of the next.

    Raises LocalError naming the port where the operator `chosen` it by `setting`, or it cannot be used at all.
    """
    try:
        return _listening(host, port)
    except socket.gaierror as error:
        raise LocalError(f"SMSFLEET_HOST: {host} is not an address of this machine ({error.strerror})") from None
    except OSError as error:
        if error.errno == errno.EADDRNOTAVAIL:
            raise LocalError(f"SMSFLEET_HOST: {host} is not an address of this machine") from None
        if error.errno == errno.EADDRINUSE and not chosen:
            return _next_free(host, port)
        reason = "is taken" if error.errno == errno.EADDRINUSE else f"cannot be used ({error.strerror})"
        raise LocalError(f"port {port} on {host} {reason}: set {setting} to another one, or to 0 for any") from None


def share(listener: socket.socket) -> socket.socket:
    """A socket on the same port for another process, which listens on it itself; the kernel deals out connections.

    Of one socket that many processes wait at, one that happens to be idle takes every connection that is waiting: of 32
    kept ones it was seen to take all, and 2,000 streams that come back at once would be its own.
    """
    # Set only once the port is ours, so that other programs, another smsfleet too, still find it taken.
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    another = _socket(listener.family)
    try:
        another.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        another.bind(listener.getsockname())
    except OSError:
        another.close()
        raise
    return another


def renew(listener: socket.socket, others: socket.socket) -> None:
    """Let `others` have the connections until the next process listens on `listener`, which keeps its number."""
    with share(others) as fresh:
        os.dup2(fresh.fileno(), listener.fileno())


def is_listening(listener: socket.socket) -> bool:
    """Whether connections are dealt out to it: a renewed one gets none before its process is ready."""
    return listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 1


def url_of(listener: socket.socket) -> str:
    """Where a browser on this machine finds what listens here."""
    host, port = listener.getsockname()[:2]
    if host in {"0.0.0.0", "::"}:  # noqa: S104 - compared, not bound
        host = "127.0.0.1"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _next_free(host: str, port: int) -> socket.socket:
    """One of the next few where that is possible: the kernel's choice may be anybody's at the next start."""
    for candidate in range(port + 1, min(port + 20, 65536)):
        with contextlib.suppress(OSError):
            return _listening(host, candidate)
    return _listening(host, 0)


def _listening(host: str, port: int) -> socket.socket:
    family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    listener = _socket(family)
    try:
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


def _socket(family: int) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    # Connections inherit it. The event loop sets it on sockets that it opened itself, not on those of a socket that was
    # handed over; without it an answer in two writes waits 40 ms for the client's acknowledgement.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener
