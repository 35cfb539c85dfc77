"""Commands to running simulated phones: through a socket in their folder, one line of JSON each way."""

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TypeAlias

import msgspec
from msgspec import Struct

_SOCKET = "control"
_MAX_LINE = 1 << 20
_ANSWER_WITHIN = 40.0


class NotRunningError(Exception):
    """No phones are simulated from the folder."""


class RefusedCommandError(Exception):
    """The phones could not do it."""


class Receive(Struct, tag="receive"):
    """Let a phone receive an SMS."""

    sender: str
    text: str
    phone: int
    sim: int


class End(Struct, tag="end"):
    """End all phones and the process."""


class Answer(Struct, omit_defaults=True):
    """What was done, or why it was not."""

    done: str = ""
    error: str = ""


Command: TypeAlias = Receive | End

_encode = msgspec.json.Encoder().encode
_command: "msgspec.json.Decoder[Command]" = msgspec.json.Decoder(Command)
_answer = msgspec.json.Decoder(Answer)


@contextmanager
def _address(folder: Path) -> Iterator[str]:
    """The socket's path by way of its open folder, since that of a socket may have 107 bytes at most."""
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{opened}/{_SOCKET}"
    finally:
        os.close(opened)


@asynccontextmanager
async def listening(folder: Path, carry_out: Callable[[Command], Awaitable[str]]) -> AsyncIterator[None]:
    """Take commands while inside; `carry_out` gives a sentence on each, or raises RefusedCommandError.

    Only one process does this in a folder, so a socket that is there was left by one that was killed.
    """

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, ValueError, asyncio.IncompleteReadError):
            try:
                answer = Answer(done=await carry_out(_command.decode(await reader.readuntil())))
            except (RefusedCommandError, msgspec.DecodeError) as error:
                answer = Answer(error=str(error))
            writer.write(_encode(answer) + b"\n")
            await writer.drain()
        writer.close()

    (folder / _SOCKET).unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX) as listener:
        with _address(folder) as address:
            listener.bind(address)
        server = await asyncio.start_unix_server(serve, sock=listener, limit=_MAX_LINE)
        try:
            yield
        finally:
            (folder / _SOCKET).unlink(missing_ok=True)
            server.close()


def command(folder: Path, order: Command) -> str:
    """Give a command to the phones that run from the folder, and what they say of it.

    Raises NotRunningError, or RefusedCommandError with their reason.
    """
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(_ANSWER_WITHIN)
        try:
            with _address(folder) as address:
                connection.connect(address)
            connection.sendall(_encode(order) + b"\n")
            answer = _answer.decode(connection.makefile("rb").readline())
        except (FileNotFoundError, ConnectionError, NotADirectoryError):
            raise NotRunningError(f"no phones are simulated from {folder}") from None
        except (OSError, msgspec.DecodeError) as error:
            raise RefusedCommandError(f"the simulated phones gave no answer: {error}") from None
    if answer.error:
        raise RefusedCommandError(answer.error)
    return answer.done
