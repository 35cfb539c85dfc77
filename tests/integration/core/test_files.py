"""Files on their way in: they lie on the disk while they come, and are counted there."""

import socket

from app.core import reading
from tests.support.waiting import until

MB = 1024 * 1024
PATH = "/api/contacts/import"
NUMBERS = b"phone\n" + b"".join(b"+99890%07d\n" % number for number in range(50_000))


def begun(port: int, *, length: int | None, headers: dict[str, str], kind: str = "text/csv") -> socket.socket:
    """A connection on which a request with a file has begun."""
    connection = socket.create_connection(("127.0.0.1", port), 20)
    framing = "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
    lines = [f"{name}: {value}" for name, value in headers.items()]
    head = [f"POST {PATH} HTTP/1.1", "Host: x", f"Content-Type: {kind}", framing, *lines, "", ""]
    connection.sendall("\r\n".join(head).encode())
    return connection


def answer(connection: socket.socket) -> tuple[int, bytes]:
    received = b""
    while b"\r\n\r\n" not in received and (part := connection.recv(65536)):
        received += part
    return int(received.split(None, 2)[1]), received


def pour(connection: socket.socket, size: int, *, chunked: bool = False) -> None:
    part = b"x" * 65536
    try:
        for _ in range(size // len(part)):
            connection.sendall(b"10000\r\n" + part + b"\r\n" if chunked else part)
    except OSError:
        pass  # it need not be taken


def test_a_file_takes_no_memory(api_process, ali):
    """Several hundred megabytes, larger than any body that is read into memory, of which the last bytes are missing."""
    with api_process() as running:
        before = running.megabytes
        size = 200 * MB
        with begun(running.port, length=size + 1, headers=ali.headers) as held:
            pour(held, size)
            assert running.megabytes - before < 30
            held.sendall(b"x")
            status, text = answer(held)
            assert (status, b"422" in text) == (422, True)
        assert running.megabytes - before < 40


def test_of_a_stranger_no_file_is_read(gateway, database):
    for length in (None, 300 * MB):
        with begun(gateway.port, length=length, headers={}) as connection:
            pour(connection, MB, chunked=length is None)
            assert answer(connection)[0] == 401


def test_a_file_has_a_limit(gateway, ali):
    with begun(gateway.port, length=reading.FILE_LIMIT + 1, headers=ali.headers) as connection:
        assert answer(connection)[0] == 413


def test_a_file_without_a_length_has_it_too(gateway, ali, monkeypatch):
    monkeypatch.setattr(reading, "FILE_LIMIT", MB)
    with begun(gateway.port, length=None, headers=ali.headers) as connection:
        pour(connection, 2 * MB, chunked=True)
        assert answer(connection)[0] == 413


def test_a_file_that_does_not_come_is_given_up(gateway, ali, monkeypatch):
    monkeypatch.setattr(reading, "GRACE_SECONDS", 0.3)
    with begun(gateway.port, length=MB, headers=ali.headers) as connection:
        connection.sendall(b"phone\n")
        assert answer(connection)[0] == 408


def test_what_lies_on_the_disk_is_shared_and_given_back(api, gateway, ali, other):
    half = reading.MAX_SPOOLED_BYTES // 2 // reading.FILE_LIMIT
    held = [begun(gateway.port, length=reading.FILE_LIMIT, headers=ali.headers) for _ in range(half)]
    beyond = begun(gateway.port, length=reading.FILE_LIMIT, headers=ali.headers)
    assert answer(beyond)[0] == 503
    kind = {"Content-Type": "text/csv"}
    assert api.post(PATH, content=NUMBERS, headers=other.headers | kind).status_code == 201
    for each in (*held, beyond):
        each.close()
    until(lambda: api.post(PATH, content=NUMBERS, headers=ali.headers | kind).status_code == 201)


def test_a_full_disk_is_told(api, ali, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(reading, "SpooledTemporaryFile", lambda _: type("F", (), {"write": full, "close": full})())
    answer = api.post(PATH, content=b"phone\n", headers=ali.headers | {"Content-Type": "text/csv"})
    assert answer.status_code == 503


def test_a_form_without_a_file_is_read_as_one(api, ali):
    fields = {"contacts[0][phone_number]": (None, "+998901112233"), "contacts[0][name]": (None, "Ali")}
    answer = api.post(PATH, files=fields, headers=ali.headers)
    assert (answer.status_code, answer.json()["data"]["imported"]) == (201, 1)
