"""What one API process decides holds in the other."""

import socket
import subprocess
import sys
import time

import httpx
import pytest


@pytest.fixture
def second(api, servers):
    """A client of another process of the API, on the same servers."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        command = [sys.executable, "-m", "uvicorn", "app.main:create_app", "--factory", "--fd", str(listener.fileno())]
        process = subprocess.Popen(command, pass_fds=[listener.fileno()], stderr=subprocess.DEVNULL)
    with httpx.Client(base_url=url, timeout=60) as client:
        try:
            deadline = time.monotonic() + 60
            while True:
                try:
                    if client.get("/health/live").status_code == 200:
                        break
                except httpx.TransportError:
                    assert process.poll() is None
                assert time.monotonic() < deadline
            yield client
        finally:
            process.terminate()
            process.wait(60)


def test_revoked_here_is_revoked_there(api, second, ali):
    key = ali.token()
    number = key["Authorization"].removeprefix("Bearer ").partition("|")[0]
    assert [client.get("/api/user", headers=key).status_code for client in (api, second)] == [200, 200]
    assert api.delete(f"/api/tokens/{number}", headers=ali.headers).status_code == 200
    assert [client.get("/api/user", headers=key).status_code for client in (second, api)] == [401, 401]


def test_tries_are_counted_over_both(api, second):
    wrong = {"email": "ali@example.com", "password": "wrong"}
    codes = [client.post("/api/login", json=wrong).status_code for _ in range(6) for client in (api, second)]
    assert codes == [401] * 10 + [429] * 2
