"""Single sends per second, durable before the answer, on 32 kept connections, with every check in place.

Each connection has an API key of its own, all of one user. With one API process and with two; beside the same route
without the write; and with an `Idempotency-Key` for each send.
"""

import os
import socket
import subprocess
import sys
import time

import psutil

from app.local.installation import Installation, Shape, answers
from benchmarks.gateway import Account, Figure, check, installation, load

CONNECTIONS = 32


def run(*, smoke: bool = False) -> list[Figure]:
    requests = 500 if smoke else 30_000
    with installation(Shape(api=1, flower=False)) as running:
        one = _rate(running, requests)
        keyed = _rate(running, requests, keyed=True)
        unwritten = _rate_unwritten(running, requests)
    with installation(Shape(api=2, flower=False)) as running:
        before = _spent(running)
        two = _rate(running, requests)
        shares = [after - spent for after, spent in zip(_spent(running), before, strict=True)]
        check("both API processes served", min(shares) > max(shares) / 10, expected=True)
    return [
        Figure("single sends, one API process", one, "/s", "3,000/s", f"{unwritten:,.0f}/s without the write"),
        Figure("share of the no-write baseline", one / unwritten, "times", "0.3"),
        Figure("single sends, one API process, each with an idempotency key", keyed, "/s"),
        Figure("single sends, two API processes", two, "/s", "5,000/s", f"{unwritten:,.0f}/s without the write, one"),
    ]


def _spent(running: Installation) -> list[float]:
    """Seconds of processor time that each API process has taken."""
    processes = [psutil.Process(child.pid) for name, child in running.processes.items() if name.startswith("api")]
    return [sum(process.cpu_times()[:2]) for process in processes]


def _rate(running: Installation, requests: int, *, keyed: bool = False) -> float:
    account = Account(running)
    account.enroll()
    url = f"{running.url}/api/sms"
    load(url, account.tokens, min(requests, 2000), connections=CONNECTIONS, keyed=keyed)
    before = account.count()
    measured = load(url, account.tokens, requests, connections=CONNECTIONS, keyed=keyed)
    check("answers", set(measured.statuses), {"201"})
    check("stored", account.count() - before, sum(measured.statuses.values()))
    return measured.rate


def _rate_unwritten(running: Installation, requests: int) -> float:
    account = Account(running)
    account.enroll()
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "uvicorn", "benchmarks.unwritten:create_app", "--factory", "--port", str(port)]
    command += ["--no-access-log", "--log-level", "warning"]
    url = f"http://127.0.0.1:{port}"
    with subprocess.Popen(command, env={**os.environ, **running.environment}) as server:
        try:
            while not answers(f"{url}/health/live"):
                time.sleep(0.05)
            load(f"{url}/api/sms", account.tokens, min(requests, 2000), connections=CONNECTIONS)
            measured = load(f"{url}/api/sms", account.tokens, requests, connections=CONNECTIONS)
            check("answers", set(measured.statuses), {"201"})
            check("stored", account.count(), 0)
            return measured.rate
        finally:
            server.terminate()


if __name__ == "__main__":
    for figure in run(smoke="--smoke" in sys.argv):
        print(figure.row())
