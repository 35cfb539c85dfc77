"""`smsfleet campaign send` in a terminal, against a gateway."""

import os
import pty
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest

from tests.support.waiting import until

FILE = "phone,name\n+998901112231,Ali\n+998901112232,Vali\nx,Nobody\n"


class Terminal:
    """A program in a terminal of its own: what it wrote, and what is typed."""

    def __init__(self, command, env):
        self.master, slave = pty.openpty()
        self.process = subprocess.Popen(
            command,
            env=env,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            # Who runs the tests in the background of a shell lets them ignore it, and what they start as well.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 - no threads here
        )
        os.close(slave)
        os.set_blocking(self.master, False)
        self.written = ""

    def read(self):
        with suppress(OSError):  # nothing there, or the program has ended
            self.written += os.read(self.master, 65536).decode("utf-8", "replace")
        return self.written

    def shows(self, text):
        until(lambda: text in self.read() or (self.process.poll() is not None and text in self.read()))

    def type(self, text):
        os.write(self.master, text.encode())

    def interrupt(self):
        self.process.send_signal(signal.SIGINT)

    def code(self):
        until(lambda: self.read() is not None and self.process.poll() is not None)
        return self.process.returncode


@pytest.fixture
def run(gateway, ali, tmp_path):
    file = tmp_path / "people.csv"
    file.write_text(FILE)
    terminals = []

    def start(*options, text="Hi {name}"):
        key = ali.token("campaigns")["Authorization"].removeprefix("Bearer ")
        env = {**os.environ, "SMSFLEET_URL": gateway.url, "SMSFLEET_API_KEY": key, "COLUMNS": "200"}
        command = [sys.executable, "-m", "app.cli", "campaign", "send", str(file), "--text", text, *options]
        terminals.append(Terminal(command, env))
        return terminals[-1]

    yield start
    for each in terminals:
        each.process.kill()
        each.process.wait()
        os.close(each.master)


def status(sql):
    return [row[0] for row in sql.execute("SELECT status FROM campaigns ORDER BY id").fetchall()]


@pytest.mark.parametrize(
    ("answer", "code", "becomes"), [("p", 4, "paused"), ("c", 5, "cancelled"), ("l", 6, "running")]
)
def test_it_uploads_shows_asks_starts_and_is_interrupted(run, sql, phone, answer, code, becomes):
    terminal = run()
    terminal.shows("Start?")
    for told in (
        "2 recipients, 1 left out",
        "line 4: x: The phone number contains characters that are not digits.",
        "messages: 2 of 2 segments, the longest has 1",
        "the first: Hi Ali",
    ):
        assert told in terminal.written
    assert status(sql) == ["draft"]
    terminal.type("y\n")
    terminal.shows("0/2")
    terminal.interrupt()
    terminal.shows("leave it running (l)?")
    terminal.type(f"{answer}\n")
    assert terminal.code() == code, terminal.written
    assert status(sql) == [becomes]


def test_what_a_files_cells_hold_does_nothing_to_the_terminal(run, sql, phone, tmp_path):
    mark = "\x1b]0;mine\x07"
    (tmp_path / "people.csv").write_text(f"phone,name\n+998901112231,Ali{mark}\nx{mark},Nobody\n")
    terminal = run()
    terminal.shows("Start?")
    assert mark not in terminal.written
    assert "Hi Ali\\x1b]0;mine\\x07" in terminal.written
    assert "line 3: x\\x1b]0;mine\\x07: " in terminal.written


def test_it_ends_with_the_campaign(run, sql, phone):
    terminal = run("--yes")
    terminal.shows("0/2")
    sql.execute("UPDATE campaigns SET status = 'finished'")
    assert terminal.code() == 0, terminal.written
    assert "finished" in terminal.written


def test_what_is_not_started_is_not_kept(run, sql, phone):
    terminal = run()
    terminal.shows("Start?")
    terminal.type("n\n")
    assert (terminal.code(), status(sql)) == (1, [])
    refused = run(text="Hi {town}")
    assert (refused.code(), status(sql)) == (1, [])
    assert "placeholders that the recipients have no field for: {town}" in refused.written


def test_an_address_where_nothing_is(run):
    terminal = run("--yes", "--url", "http://127.0.0.1:9")
    assert terminal.code() == 1
    assert "cannot be reached" in terminal.written


@pytest.fixture
def proxy(gateway):
    """A proxy before the gateway that loses the answers to the first start and to what is asked next."""
    lost = []

    class Handler(BaseHTTPRequestHandler):
        def answer(self):
            body = self.rfile.read(int(self.headers["Content-Length"] or 0))
            if "Transfer-Encoding" in self.headers:
                while size := int(self.rfile.readline(), 16):
                    body += self.rfile.read(size + 2)[:-2]
                self.rfile.readline()
            headers = {name: self.headers[name] for name in ("Authorization", "Content-Type") if self.headers[name]}
            answer = httpx.request(self.command, gateway.url + self.path, content=body, headers=headers)
            if (lost or self.path.endswith("/start")) and len(lost) < 3:
                lost.append(self.path)
                self.send_error(502)
                return
            self.send_response(answer.status_code)
            self.send_header("Content-Length", str(len(answer.content)))
            self.end_headers()
            self.wfile.write(answer.content)

        do_GET = do_POST = do_PUT = do_DELETE = answer  # noqa: N815 - the names are the base's

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_a_lost_answer_does_not_say_that_it_was_not_started(run, sql, phone, proxy):
    terminal = run("--yes", "--url", proxy)
    terminal.shows("0/2")
    assert status(sql) == ["running"]
    sql.execute("UPDATE campaigns SET status = 'finished'")
    assert terminal.code() == 0, terminal.written


def test_who_can_no_longer_watch_is_told_that_it_goes_on(run, sql, phone):
    terminal = run("--yes")
    terminal.shows("0/2")
    sql.execute("DELETE FROM tokens")
    assert terminal.code() == 6, terminal.written
    assert "may go on without you: Unauthenticated." in terminal.written
    assert status(sql) == ["running"]
