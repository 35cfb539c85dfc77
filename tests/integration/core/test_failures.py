"""What no client should see: errors of ours, answers before a failed commit, connections cut while a body comes."""

import json
import socket
import threading
import time
from contextlib import contextmanager

import httpx
import pytest
import uvicorn
from fastapi import APIRouter
from fastapi.responses import StreamingResponse
from sqlalchemy import text

from app.core.dependencies import SessionDep
from app.core.edge import Edge
from app.core.envelope import Done

router = APIRouter(prefix="/api")
NUMBER = "+998901234567"


@router.get("/boom")
def boom() -> Done:
    raise RuntimeError("the secret reason")


@router.get("/database-says-no")
def database_says_no(session: SessionDep) -> Done:
    session.execute(text("SELECT nothing FROM nowhere WHERE secret = :secret"), {"secret": NUMBER})
    return Done(message="done")


@router.get("/commit-fails")
def commit_fails(session: SessionDep) -> Done:
    """A deferred constraint is only checked when the transaction commits."""
    session.execute(text("CREATE TEMP TABLE twice (n int UNIQUE DEFERRABLE INITIALLY DEFERRED) ON COMMIT DROP"))
    session.execute(text("INSERT INTO twice VALUES (1), (1)"))
    return Done(message="done")


@router.get("/connection-is-lost")
def connection_is_lost(session: SessionDep) -> Done:
    session.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))
    return Done(message="done")


@router.get("/stream-breaks")
def stream_breaks() -> StreamingResponse:
    def parts():
        yield b"begun"
        raise RuntimeError("the secret reason")

    return StreamingResponse(parts())


@contextmanager
def running(application):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(application, log_config=None, timeout_graceful_shutdown=2))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        server.should_exit = True
        thread.join(10)


@pytest.fixture(scope="module")
def failing(servers):
    from app.core.database import close_engines
    from app.core.logs import configure_logging
    from app.main import create_api

    configure_logging()
    api = create_api()
    api.include_router(router)
    with running(Edge(api)) as url, httpx.Client(base_url=url) as client:
        yield client
    close_engines()


@pytest.mark.parametrize("path", ["/api/boom", "/api/database-says-no", "/api/commit-fails"])
def test_errors_of_ours_say_nothing(failing, path, caplog):
    answer = failing.get(path)
    assert (answer.status_code, answer.json()) == (500, {"success": False, "message": "Server Error"})
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    deadline = time.monotonic() + 10
    while not any(record.name == "app.core.edge" and record.levelname == "ERROR" for record in caplog.records):
        assert time.monotonic() < deadline  # written when the answer is out
        time.sleep(0.01)
    assert NUMBER not in caplog.text


def test_lost_connection_to_the_database_says_to_come_back(failing):
    answer = failing.get("/api/connection-is-lost")
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")


def test_stream_that_breaks_is_cut_off(failing):
    with pytest.raises(httpx.RemoteProtocolError):
        failing.get("/api/stream-breaks")


def test_client_that_leaves_in_the_middle_of_its_body(failing):
    with socket.create_connection((failing.base_url.host, failing.base_url.port), 5) as connection:
        connection.sendall(b"POST /api/login HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
    assert failing.get("/health/live").status_code == 200


def test_error_texts_are_utf8(failing):
    answer = failing.get("/api/köln")
    assert answer.json()["message"] == "The route api/köln could not be found."
    assert json.loads(answer.content.decode())["success"] is False
