"""The phones' HTTP client, against sockets that answer well and badly."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import anyio
import pytest

from phones.http import Answer, Headers, HttpClient, HttpError, Url

pytestmark = pytest.mark.anyio
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@pytest.fixture(params=[True, False], ids=["uvloop", "asyncio"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": request.param}


@pytest.fixture
async def client() -> AsyncIterator[HttpClient]:
    client = HttpClient()
    yield client
    await client.close()
    assert not client._open


class Server:
    """A socket whose every connection is served by a handler."""

    def __init__(self, handler: Handler) -> None:
        self.connections = 0
        self._handler = handler

    async def __aenter__(self) -> Url:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return Url.parse(f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/a?b=c")

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            await self._handler(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            writer.close()

    async def __aexit__(self, *error: object) -> None:
        self._server.close()


def answering(*answers: bytes, then_close: bool = False) -> Server:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for answer in answers:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer)
        if not then_close:
            await reader.read()

    return Server(handler)


async def get(client: HttpClient, url: Url, within: float = 5) -> Answer:
    return await client.call("GET", url, Headers({"A": "b"}), None, within)


async def test_a_request_is_written_whole_and_connections_are_kept(client: HttpClient) -> None:
    seen = []

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            seen.append(head + await reader.readexactly(4 if b"Content-Length" in head else 0))
            writer.write(OK)

    server = Server(handler)
    async with server as url:
        assert await client.call("PATCH", url, Headers({"A": "b"}), b"body", 5) == (200, b"ok")
        assert await get(client, url) == (200, b"ok")
        host = f"Host: {url.host}\r\nA: b\r\n".encode()
        assert seen == [
            b"PATCH /a?b=c HTTP/1.1\r\n" + host + b"Content-Length: 4\r\n\r\nbody",
            b"GET /a?b=c HTTP/1.1\r\n" + host + b"\r\n",
        ]
        assert server.connections == 1


async def test_chunks_empty_answers_and_answers_until_the_end(client: HttpClient) -> None:
    chunked = b"HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
    async with answering(chunked, b"HTTP/1.1 204 No Content\r\n\r\n", OK) as url:
        assert await get(client, url) == (201, b"abcde")
        assert await get(client, url) == (204, b"")
        assert await get(client, url) == (200, b"ok")


async def test_a_kept_connection_that_was_closed_is_replaced(client: HttpClient) -> None:
    server = answering(OK, then_close=True)
    async with server as url:
        for _ in range(3):
            assert await get(client, url) == (200, b"ok")
        assert server.connections == 3


async def test_an_answer_cut_off_is_no_answer_and_not_asked_for_again(client: HttpClient) -> None:
    server = answering(OK, OK[:-1], then_close=True)
    async with server as url:
        await get(client, url)
        with pytest.raises(HttpError, match="closed"):
            await get(client, url)
        assert server.connections == 1


async def test_what_is_no_http_is_an_error(client: HttpClient) -> None:
    async with answering(b"220 mail.example ESMTP\r\n") as url:
        with pytest.raises(HttpError, match="not HTTP"):
            await get(client, url)


async def test_silence_is_an_error(client: HttpClient) -> None:
    async with answering(b"") as url:
        with pytest.raises(HttpError, match=r"no answer within 0\.1 s"):
            await get(client, url, within=0.1)


async def test_a_closed_port_is_an_error(client: HttpClient) -> None:
    async with answering() as url:
        pass
    with pytest.raises(HttpError, match="cannot connect"):
        await get(client, url)


async def test_a_call_given_up_leaves_no_connection_behind(client: HttpClient) -> None:
    async with answering(b"") as url:
        for pause in (0, 0.0005, 0.001, 0.005, 0.02):
            with anyio.move_on_after(pause):
                await get(client, url)
        assert not any(client._pools.values())


async def test_a_stream_gives_lines_as_they_come(client: HttpClient) -> None:
    go_on = asyncio.Event()

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n")
        writer.write(b"Transfer-Encoding: chunked\r\n\r\n8\r\none\ntwo \r\n")
        await go_on.wait()
        writer.write(b"6\r\nhalf\n\n\r\n0\r\n\r\n")

    async with Server(handler) as url, client.stream(url, Headers({}), 5) as (status, kind, lines):
        assert (status, kind) == (200, "text/event-stream")
        assert await anext(lines) == b"one"
        go_on.set()
        assert [line async for line in lines] == [b"two half", b""]


async def test_a_silent_stream_is_given_up(client: HttpClient) -> None:
    async with answering(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n") as url:
        with pytest.raises(HttpError, match="silent"):
            async with client.stream(url, Headers({}), 0.1) as (_, _, lines):
                await anext(lines)


def test_addresses() -> None:
    assert Url.parse("https://gw.example/x") == (True, "gw.example", 443, "gw.example", "/x")
    assert Url.parse("http://[::1]:8000") == (False, "::1", 8000, "[::1]:8000", "/")
    for wrong in ("ftp://x", "gw.example", "", "http://"):
        with pytest.raises(ValueError, match="not an http address"):
            Url.parse(wrong)


def test_headers_with_line_breaks_are_refused() -> None:
    for wrong in ("a\r\nX: y", "a\nb", "a\rb"):
        with pytest.raises(ValueError, match="line break"):
            Headers({"Authorization": wrong})
